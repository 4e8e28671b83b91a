//! Training: losses, optimizer, trainers, and the run folder that they write.

pub mod grpo;
