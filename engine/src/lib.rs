//! The engine of parl-mt: one library behind the native program `parl` and the page.
//!
//! Plain data types come first ([`message`], [`tool`], [`task`], [`trace`], [`event`]), then what runs them:
//! environments ([`env`](mod@env)), the turn loop ([`episode`]) and agents ([`agent`]). Nothing in these modules touches
//! files, clocks, threads or tensors, so that all of it also runs in a browser; `cli` is native only.

pub mod agent;
pub mod diff;
pub mod env;
pub mod episode;
pub mod event;
pub mod message;
pub mod playback;
pub mod python;
pub mod schema;
pub mod score;
pub mod task;
pub mod tool;
pub mod trace;
