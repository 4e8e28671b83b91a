//! Tokens from a model: sampling on the host, constraints, batched decoding.

pub mod sampler;
pub mod token_mask;

pub use sampler::{SampleError, Sampled, Sampler, SamplingOptions, SequenceRng};
pub use token_mask::TokenMask;
