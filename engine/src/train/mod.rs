//! Training: losses, optimizer, trainers, and the run folder that they write.

pub mod batch;
mod error;
pub mod grpo;
pub mod optimizer;
pub mod policy;
pub mod schedule;
pub mod sft;

pub use error::TrainError;

#[cfg(test)]
mod tests;
