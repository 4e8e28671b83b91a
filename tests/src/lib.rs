//! Test suites of parl-mt.
