//! Training: losses, optimizer, trainers, and the run folder that they write.
//!
//! A [`Trainer`] makes one update at a time; [`run`] is the loop around it, which logs to a [`RunFolder`], saves checkpoints, and
//! heeds a [`RunControl`]. Neither knows files, threads or a terminal, so that the page runs the same loop.

pub mod batch;
pub mod build;
pub mod config;
mod driver;
mod error;
pub mod event;
pub mod export;
pub mod grpo;
pub mod metrics;
pub mod optimizer;
pub mod policy;
pub mod run_folder;
pub mod schedule;
pub mod sft;
pub mod toy;

pub use config::RunConfig;
pub use driver::{RunControl, RunEnd, RunError, StepOutcome, Trainer, run};
pub use error::TrainError;
pub use event::{EventSink, FinishReason, TrainEvent};
pub use run_folder::RunFolder;

#[cfg(test)]
mod tests;
