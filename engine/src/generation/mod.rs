//! Tokens from a model: sampling on the host, constraints, batched decoding.

mod generate;
pub mod grammar;
pub mod sampler;
pub mod token_mask;

pub use generate::{
    Cancel, Completion, FinishReason, Generation, GenerationError, GenerationOptions, Group, NewToken, generate,
};
pub use grammar::{
    CallOptions, CallStyle, Grammar, GrammarConstraint, GrammarError, GrammarState, TokenMasks, TokenVocabulary,
};
pub use sampler::{SampleError, Sampled, Sampler, SamplingOptions, SequenceRng};
pub use token_mask::TokenMask;

/// What a sequence may go on with: followed token by token.
pub trait Constraint {
    /// Tokens that may come next.
    fn allowed(&mut self) -> &TokenMask;

    /// A token was sampled; it was allowed.
    fn accept(&mut self, token: u32);
}

#[cfg(test)]
mod tests;
