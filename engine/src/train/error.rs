//! Why a run cannot go on.

use crate::generation::GenerationError;

/// Why a step of training failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Nothing to learn from.
    #[error("there is no sequence with a token that carries loss: check the data file and the loss masks.")]
    NoData,
    /// A sequence that the model cannot read.
    #[error(
        "the longest sequence has {longest} tokens, more than the model's {limit} positions. Lower `sft.max_length`, or raise `max_position_embeddings`."
    )]
    SequenceTooLong {
        /// Tokens of the longest.
        longest: usize,
        /// `max_position_embeddings`.
        limit: usize,
    },
    /// The loss is no number any more.
    #[error(
        "the loss of step {step} is {loss}: training has diverged. Lower the learning rate, or go on from an earlier checkpoint with `--resume`."
    )]
    Diverged {
        /// The update, from 1.
        step: u64,
        /// Its loss.
        loss: f64,
    },
    /// Options that make no sense together.
    #[error("{0}")]
    Options(String),
    /// Sampling failed.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// The device failed.
    #[error("the device could not be read: {0}. Try `--device flex`.")]
    Device(String),
    /// Anything else, such as data that does not read.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}
