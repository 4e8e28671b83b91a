//! The engine of parl-mt: one library behind the native program `parl` and the page.
//!
//! Plain data types come first ([`message`], [`tool`], [`task`], [`trace`], [`event`]), then what runs them:
//! environments ([`env`](mod@env)), the turn loop ([`episode`]) and agents ([`agent`]). Nothing in these modules touches
//! files, clocks, threads or tensors, so that all of it also runs in a browser; `cli` is native only.
//!
//! Behind feature `tensor` is the numeric half: text to tokens (`text`), operators (`ops`), the transformer (`model`),
//! sampling from it (`generation`) and training it (`train`), on a `device` chosen at run time. `platform` is the only
//! module that knows which target it was compiled for.

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

pub mod platform;

#[cfg(feature = "tensor")]
pub mod device;
#[cfg(feature = "tensor")]
pub mod generation;
#[cfg(feature = "tensor")]
pub mod model;
#[cfg(feature = "tensor")]
pub mod ops;
#[cfg(feature = "tensor")]
pub mod text;
#[cfg(feature = "tensor")]
pub mod train;
