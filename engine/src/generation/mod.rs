//! Tokens from a model: sampling on the host, constraints, batched decoding.

pub mod sampler;
