//! Test suites of parl-mt.

mod skipping;

pub use skipping::skip;
