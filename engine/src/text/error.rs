//! What can go wrong between text and tokens.

use thiserror::Error;

/// A mistake in a tokenizer, a chat template or how they were put together, with what to do about it.
#[derive(Debug, Error)]
pub enum TextError {
    /// The bytes are no tokenizer.
    #[error(
        "this is not a tokenizer that Hugging Face's `tokenizers` can read: {message}; give the model's tokenizer.json"
    )]
    Tokenizer {
        /// The library's words.
        message: String,
    },
    /// The bytes are no tokenizer configuration.
    #[error("tokenizer_config.json cannot be read: {message}")]
    TokenizerConfig {
        /// What is wrong with it.
        message: String,
    },
    /// A token that a configuration names is not in the vocabulary.
    #[error("the tokenizer has no token {token:?}, which {purpose}; add it to the tokenizer or name another one")]
    MissingToken {
        /// The token's text.
        token: String,
        /// What it is needed for.
        purpose: &'static str,
    },
    /// The vocabulary asked for cannot hold what it must hold.
    #[error("a vocabulary of {asked} tokens is too small: special tokens and single bytes alone are {least}")]
    VocabularyTooSmall {
        /// The size asked for.
        asked: usize,
        /// The least size possible.
        least: usize,
    },
    /// The library refused a text.
    #[error("the tokenizer failed: {message}")]
    Encode {
        /// The library's words.
        message: String,
    },
    /// The template is no Jinja that we know.
    #[error("the chat template cannot be read (line {line}): {message}")]
    TemplateSyntax {
        /// Line in the template, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The template called `raise_exception`: it does not take such conversations.
    #[error("the chat template refuses this conversation: {message}")]
    TemplateRefused {
        /// The template's words.
        message: String,
    },
    /// Rendering failed for another reason.
    #[error("the chat template failed (line {line}): {message}")]
    TemplateFailed {
        /// Line in the template, from 1.
        line: usize,
        /// What went wrong there.
        message: String,
    },
    /// The template rewrites what came before.
    #[error(
        "the chat template is not prefix-preserving: with message {message} added, the text changes at byte {position} \
         from {before:?} to {after:?}; use a template that only appends, or token ids cannot be kept"
    )]
    NotPrefixPreserving {
        /// Index of the message whose addition changed earlier text.
        message: usize,
        /// Byte offset of the first difference in the rendered text.
        position: usize,
        /// What stood there before (at most some 40 characters).
        before: String,
        /// What stands there now.
        after: String,
    },
    /// The template ends an assistant's message with ordinary text only.
    #[error(
        "the chat template ends an assistant's message with {found:?}, which does not start with one special token of \
         this tokenizer; a model could not learn where to stop: use the template that belongs to the tokenizer"
    )]
    NoEndToken {
        /// What follows the assistant's text.
        found: String,
    },
    /// Messages were pushed in an order that the token sequence cannot follow.
    #[error("{message}")]
    Order {
        /// What was out of order, and what to do instead.
        message: &'static str,
    },
}
