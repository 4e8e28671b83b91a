//! The decoder-only transformer: configuration, layers, low-rank adapters, key-value cache, weights on disk.
//!
//! Knows tokens as numbers only: text is [`crate::text`]'s, sampling [`crate::generation`]'s, losses [`crate::train`]'s.

mod cache;
mod config;
mod lora;
mod transformer;
mod weights;

pub use cache::KvCache;
pub use config::{ConfigError, ModelConfig, ModelType, Preset};
pub use lora::{LORA_TARGETS, LoraError, LoraOptions};
pub use transformer::{Attention, Embedding, Layer, Mlp, Norm, Transformer, token_tensor};
pub use weights::{HostTensor, HostTensors, Precision, WeightsError, from_safetensors, to_safetensors};

#[cfg(test)]
mod tests;
