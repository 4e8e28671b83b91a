//! Text to token ids and back: tokenizers and chat templates. Knows nothing of tensors.
//!
//! - [`tokenizer`]: Hugging Face's tokenizers; training a byte-level BPE, loading any `tokenizer.json`.
//! - [`template`]: chat templates in the Hugging Face dialect of Jinja, and our own.
//! - [`sequence`]: conversations as token ids that only ever grow, with the mask of the tokens that carry loss.
//!
//! Architecture invariant: token ids are kept end to end. What a model sampled is never decoded and tokenised again,
//! because the ids that come back may be others than those it sampled, and their probabilities with them.

mod error;
pub mod sequence;
pub mod template;
pub mod tokenizer;
mod train_bpe;

pub use error::TextError;
pub use sequence::{ChatEncoder, ChatTokens, TokenSequence};
pub use template::{ChatTemplate, Rendered, awareness_text, chat_messages};
pub use tokenizer::{TokenDecoder, Tokenizer, TokenizerConfig, TokenizerTrainer};
