//! Grammars that hold a model to well-formed function calls, byte by byte.
//!
//! [`Grammar::calls`] compiles the schemas of tools into an automaton over bytes; [`GrammarState`] is a place in it, and
//! [`TokenMasks`] tells which tokens of a vocabulary may come next. Around the calls there may be literal text and free
//! text ([`Grammar::literal`], [`Grammar::until`], [`Grammar::seq`]), for example what a model writes about its progress:
//!
//! ```
//! use parl_mt::generation::grammar::{CallOptions, CallStyle, Grammar, GrammarState};
//! use parl_mt::tool::ToolSpec;
//!
//! let tool: ToolSpec = serde_json::from_value(serde_json::json!({
//!     "name": "cd",
//!     "description": "Go into a directory.",
//!     "parameters": {"type": "object", "properties": {"folder": {"type": "string"}}, "required": ["folder"]}
//! }))?;
//! let calls = Grammar::calls(&[tool], &CallOptions::new(CallStyle::Python))?;
//! let grammar = Grammar::seq([Grammar::literal("<plan>"), Grammar::until("</plan>\n"), calls]);
//! let mut state = GrammarState::new(&grammar);
//! assert!(state.advance_all(b"<plan>Look into the logs.</plan>\n[cd(folder='logs')]"));
//! assert!(state.is_complete());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The canonical form
//! Of all ways to write a call, one is accepted, that of Python's `repr` and `json.dumps`: `, ` between things, no other
//! white space, `=` without spaces, `: ` after keys. Arguments come by name, in any order, each at most once, required
//! ones always.
//!
//! - Strings: in single or double quotes (Python) or double quotes (JSON), UTF-8, without raw control characters.
//!   Escapes: `\\ \' \" \n \r \t \xHH \uHHHH` (Python), `\\ \" \/ \b \f \n \r \t \uHHHH` (JSON), no surrogates.
//! - Integers of up to 18 digits, without leading zeros and not `-0`. A `number` may be written as an integer; its fraction has up
//!   to 22 digits, its exponent up to 2.
//! - `enum` and `const`: their `repr` or JSON text.
//! - Objects with `properties` have these keys and no others. Without, keys are strings free of quotes and backslashes.
//!   In Python style no object is empty, because the official decoder refuses it.
//!   That decoder also takes an object whose values are all objects for a nested call, and does not escape quotes in
//!   keys: better have no such parameters.
//! - A value without a type may be anything, nested up to [`MAX_DEPTH`].
//!
//! Of the schema, these count: `type` (also a list), `nullable`, `enum`, `const`, `anyOf`, `oneOf`, `properties`,
//! `required`, `additionalProperties` (as a schema), `items`, `minItems`, `maxItems`. What else restricts values
//! (`minimum`, `pattern`, …) is left to the tool to refuse.

mod compile;
mod machine;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub use machine::MAX_DEPTH;
use machine::{Frame, Part};
use serde::{Deserialize, Serialize};
pub use vocabulary::{GrammarConstraint, TokenMasks, TokenVocabulary};

use crate::tool::ToolSpec;

/// How calls are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallStyle {
    /// `[cd(folder='logs'), ls(a=True)]`: BFCL's prompting models.
    Python,
    /// `[{"name": "cd", "arguments": {"folder": "logs"}}, …]`
    Json,
    /// `<tool_call>\n{"name": "cd", "arguments": {"folder": "logs"}}\n</tool_call>`, for several calls several such
    /// blocks with a line break between: Hermes and Qwen.
    ToolCallTags,
}

/// How calls are written, and how many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallOptions {
    /// How calls are written.
    pub style: CallStyle,
    /// Whether there may be no call at all: `[]`, or with tags nothing. So a model ends its turn.
    pub may_be_empty: bool,
    /// At most so many calls; `None`: any number.
    pub max_calls: Option<u32>,
}

impl CallOptions {
    /// One call or more, in this style.
    pub fn new(style: CallStyle) -> Self {
        Self { style, may_be_empty: false, max_calls: None }
    }
}

/// Why tools cannot be made a grammar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// Nothing to call.
    #[error("there are no tools to call: give at least one, or leave the calls out of the grammar")]
    NoTools,
    /// No call may be made.
    #[error("max_calls is 0: leave the calls out of the grammar instead")]
    NoCalls,
    /// Two tools of one name.
    #[error("there are two tools named {0}: rename one")]
    DuplicateTool(String),
    /// A name that cannot be written in this style.
    #[error("{tool}: {name:?} is not a Python name; rename it, or write calls as JSON")]
    Name {
        /// The tool.
        tool: String,
        /// The tool's or a parameter's name.
        name: String,
    },
    /// More than 64 properties.
    #[error("{tool}: {place} has {count} properties; at most 64 are supported")]
    TooManyProperties {
        /// The tool.
        tool: String,
        /// Where in the schema.
        place: String,
        /// How many.
        count: usize,
    },
    /// Something in a schema that the grammar does not know, or that contradicts itself.
    #[error("{tool}: {place}: {reason}")]
    Schema {
        /// The tool.
        tool: String,
        /// Where in the schema.
        place: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// A language of byte strings, compiled. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Grammar {
    parts: Arc<[Part]>,
}

impl Grammar {
    /// Calls of these tools.
    pub fn calls(tools: &[ToolSpec], options: &CallOptions) -> Result<Self, GrammarError> {
        Ok(Self { parts: [Part::Calls(Arc::new(compile::compile(tools, options)?))].into() })
    }

    /// Exactly this text.
    pub fn literal(text: &str) -> Self {
        Self { parts: [Part::Literal(text.as_bytes().into())].into() }
    }

    /// Any text up to and with the first occurrence of `tag`. Panics if `tag` is empty.
    pub fn until(tag: &str) -> Self {
        assert!(!tag.is_empty(), "free text has to end with something");
        Self { parts: [Part::until(tag.as_bytes())].into() }
    }

    /// Any text (UTF-8). Nothing may follow it in [`Grammar::seq`] but text that starts where the sampling is stopped.
    pub fn text() -> Self {
        Self { parts: [Part::Text].into() }
    }

    /// One after the other.
    pub fn seq(grammars: impl IntoIterator<Item = Grammar>) -> Self {
        Self { parts: grammars.into_iter().flat_map(|grammar| grammar.parts.to_vec()).collect() }
    }

    /// Whether this is the very same compiled grammar.
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.parts, &other.parts)
    }
}

/// A place in a grammar: what was written so far, as far as it matters for what may come next.
#[derive(Clone, Debug)]
pub struct GrammarState {
    grammar: Grammar,
    stack: Vec<Frame>,
}

impl GrammarState {
    /// The beginning.
    pub fn new(grammar: &Grammar) -> Self {
        let stack = if grammar.parts.is_empty() { Vec::new() } else { vec![Frame::Sequence { part: 0 }] };
        Self { grammar: grammar.clone(), stack }
    }

    /// Goes on by a byte. False, and nothing changes, where it may not come.
    pub fn advance(&mut self, byte: u8) -> bool {
        self.advance_all(&[byte])
    }

    /// Goes on by all these bytes. False, and nothing changes, where they may not come.
    pub fn advance_all(&mut self, bytes: &[u8]) -> bool {
        let mut stack = self.stack.clone();
        let accepted = bytes.iter().all(|&byte| machine::advance(&self.grammar.parts, &mut stack, byte));
        if accepted {
            self.stack = stack;
        }
        accepted
    }

    /// Whether the text may end here.
    pub fn can_end(&self) -> bool {
        machine::can_end(&self.grammar.parts, &self.stack)
    }

    /// Whether the text must end here: no byte may follow.
    pub fn is_complete(&self) -> bool {
        self.stack.is_empty()
    }
}

/// States of one grammar are equal when the same texts may follow.
impl PartialEq for GrammarState {
    fn eq(&self, other: &Self) -> bool {
        self.grammar.is_same(&other.grammar) && self.stack == other.stack
    }
}

impl Eq for GrammarState {}

impl Hash for GrammarState {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.stack.hash(state);
    }
}
