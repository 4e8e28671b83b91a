//! The engine of parl-mt: one library behind the native program `parl` and the page.
//!
//! Plain data types come first (`message`, `tool`, `task`, `trace`, `event`), then what runs them: environments
//! ([`env`]), the turn loop and agents. Nothing in these modules touches files, clocks, threads or tensors, so
//! that all of it also runs in a browser; [`platform`] is the only place that knows the target.

pub mod env;
pub mod python;
