//! Environments: worlds with hidden state that answer tool calls.

pub mod bfcl;

use serde_json::Value as Json;

use crate::tool::{ToolCall, ToolResult};

/// A world with hidden state.
///
/// Calls never fail: what a model does wrong is answered with a result that says so. Two environments of one task that
/// get the same calls give the same results and the same states.
pub trait Environment {
    /// Back to the initial state.
    fn reset(&mut self);

    /// Executes one call.
    fn call(&mut self, call: &ToolCall) -> ToolResult;

    /// The whole state, for showing and for diffs: an object by API class.
    fn snapshot(&self) -> Json;

    /// Whether the checker would call both states equal.
    fn same_state(&self, other: &Self) -> bool
    where
        Self: Sized;
}
