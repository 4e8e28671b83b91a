//! Tasks: what a conversation asks for, in which world, and what would be right.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::message::Message;
use crate::python::Value;
use crate::tool::ToolSpec;

/// What a turn of a task brings, and its ground truth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskTurn {
    /// What the user says.
    pub messages: Vec<Message>,
    /// The right calls, as call strings. Empty: the right thing is to call nothing (ask back, or wait for a tool).
    #[serde(default)]
    pub ground_truth: Vec<String>,
    /// Names of tools that are held back until this turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added_tools: Vec<String>,
}

/// A multi-turn task: tools, a world's initial state, and the turns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskSpec {
    /// Unique name, such as `multi_turn_base_0`.
    pub id: String,
    /// A few words for lists.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// The group it belongs to, such as `base` or `miss_func`.
    pub category: String,
    /// API classes whose functions the world offers, in order.
    pub classes: Vec<String>,
    /// Initial state of each class; a class may be missing and then starts from its defaults. Kept as the values that the
    /// worlds work on, so that making a world shares them instead of reading them anew.
    pub initial_config: IndexMap<String, Value>,
    /// All tools of the task, held-out ones too.
    #[serde(default)]
    pub tools: Vec<ToolSpec>,
    /// The turns, in order.
    pub turns: Vec<TaskTurn>,
}

impl TaskSpec {
    /// Whether the long_context category's extra data belongs to the world.
    pub fn is_long_context(&self) -> bool {
        self.category.contains("long_context") || self.category.contains("composite")
    }

    /// Whether the tool is held back at the start.
    pub fn is_held_out(&self, tool: &str) -> bool {
        self.turns.iter().any(|turn| turn.added_tools.iter().any(|name| name == tool))
    }

    /// The right calls, turn by turn.
    pub fn ground_truth(&self) -> impl ExactSizeIterator<Item = &[String]> {
        self.turns.iter().map(|turn| turn.ground_truth.as_slice())
    }
}

/// What a list shows of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskSummary {
    /// The task's id.
    pub id: String,
    /// A few words, or nothing.
    #[serde(default)]
    pub title: String,
    /// The group it belongs to.
    pub category: String,
    /// Its API classes.
    pub classes: Vec<String>,
    /// How many turns it has.
    pub turns: usize,
}

impl From<&TaskSpec> for TaskSummary {
    fn from(task: &TaskSpec) -> Self {
        Self {
            id: task.id.clone(),
            title: task.title.clone(),
            category: task.category.clone(),
            classes: task.classes.clone(),
            turns: task.turns.len(),
        }
    }
}
