//! Conversations: messages, turns and steps.
//!
//! A *turn* opens with the user's messages and holds the *steps* that answer them; a step is one reply of the model
//! with the calls in it and their results. The progress awareness that a model writes before it acts belongs to its step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diff::StateChange;
use crate::tool::{ToolCall, ToolResult, ToolSpec};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions from the operator.
    System,
    /// The person asking.
    User,
    /// The model.
    Assistant,
    /// The environment, answering a call.
    Tool,
}

/// One message, in the shape of OpenAI's chat messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text.
    pub content: String,
    /// Calls in an assistant message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The call that a tool message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message without calls.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), tool_calls: Vec::new(), tool_call_id: None }
    }

    /// A user's message.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }
}

/// Progress awareness `p = (summary, plan)`: what of the history matters from here on, and what is still to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Awareness {
    /// Facts that later steps need (ids, amounts, names), and which sub-goals are done, open or blocked.
    pub summary: String,
    /// What is still to do, next step first.
    pub plan: String,
}

/// Tokens that a step cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenUsage {
    /// Tokens of context read.
    pub read: u64,
    /// Tokens written.
    pub written: u64,
}

impl std::ops::AddAssign for TokenUsage {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.written += other.written;
    }
}

/// One reply of the model, with its calls and what the environment answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// What the model wrote before it acted, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awareness: Option<Awareness>,
    /// The reply's text besides awareness and calls; the message to the user when there are no calls.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub content: String,
    /// Calls in the order executed. Empty: the step ended the turn.
    #[serde(default)]
    pub calls: Vec<ToolCall>,
    /// One result per call.
    #[serde(default)]
    pub results: Vec<ToolResult>,
    /// What each call changed in the environment's state, one list per call; empty when states were not recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Vec<StateChange>>,
    /// Tokens read and written, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<TokenUsage>,
}

/// Why a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TurnEnd {
    /// The model's reply held no call: it handed the turn back to the user.
    Answered,
    /// The step limit was passed; later turns do not run.
    ForceQuit,
}

/// One turn: the user's messages and the steps that answer them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Turn {
    /// What the user says.
    pub messages: Vec<Message>,
    /// Names of tools that became available with this turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added_tools: Vec<String>,
    /// The model's steps so far.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// How the turn ended; `None` while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<TurnEnd>,
}

impl Turn {
    /// All results of the turn, in order.
    pub fn results(&self) -> impl Iterator<Item = &ToolResult> {
        self.steps.iter().flat_map(|step| &step.results)
    }

    /// All calls of the turn, in order.
    pub fn calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.steps.iter().flat_map(|step| &step.calls)
    }
}

/// A conversation so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Conversation {
    /// Tools available now (held-out ones join when their turn comes).
    pub tools: Vec<ToolSpec>,
    /// Turns that have begun.
    pub turns: Vec<Turn>,
}

impl Conversation {
    /// The conversation as a flat list of chat messages, as a model with full history reads it.
    pub fn messages(&self) -> Vec<Message> {
        let mut messages = Vec::new();
        for turn in &self.turns {
            messages.extend(turn.messages.iter().cloned());
            for step in &turn.steps {
                messages.push(Message {
                    tool_calls: step.calls.clone(),
                    ..Message::new(Role::Assistant, step.content.clone())
                });
                messages.extend(step.results.iter().map(|result| Message {
                    tool_call_id: result.call_id.clone(),
                    ..Message::new(Role::Tool, result.content.clone())
                }));
            }
        }
        messages
    }
}
