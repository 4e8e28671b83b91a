//! Traces: a conversation as it was played, with everything that a reader or a trainer wants to know about it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::message::{Conversation, TokenUsage};

/// Version of the trace format. Raised when a reader of the previous version would misread a trace.
pub const TRACE_VERSION: u32 = 1;

/// A played conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trace {
    /// [`TRACE_VERSION`] of the writer.
    pub version: u32,
    /// The task that was played.
    pub task_id: String,
    /// Who played it, such as `ground-truth`, `human` or a checkpoint's name.
    pub agent: String,
    /// The seed of everything random in the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What was said and done.
    pub conversation: Conversation,
    /// The world's state before the first turn and after each one; empty when states were not recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<Json>,
    /// What the checker said, turn by turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turn_verdicts: Vec<TurnVerdict>,
    /// What the checker said of the whole task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Reward terms, in the order of the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewards: Vec<RewardTerm>,
    /// Tokens read and written in all steps, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<TokenUsage>,
}

/// One named part of a composite reward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RewardTerm {
    /// Its name, such as `format`, `call`, `success` or `efficiency`.
    pub name: String,
    /// Its weight in the sum.
    pub weight: f64,
    /// Its value, in [0, 1].
    pub value: f64,
}

/// Why a trajectory failed, by BFCL's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ErrorType {
    /// The conversation has fewer (or more) turns than the task: it was force-quit.
    #[serde(rename = "multi_turn:force_terminated")]
    ForceTerminated,
    /// The ground truth has calls in this turn and the model made none.
    #[serde(rename = "multi_turn:empty_turn_model_response")]
    EmptyTurnModelResponse,
    /// After the turn, the world's state differs from the ground truth's.
    #[serde(rename = "multi_turn:instance_state_mismatch")]
    InstanceStateMismatch,
    /// A result of the ground truth's calls is not among the model's results so far.
    #[serde(rename = "multi_turn:execution_response_mismatch")]
    ExecutionResponseMismatch,
}

impl ErrorType {
    /// BFCL's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ForceTerminated => "multi_turn:force_terminated",
            Self::EmptyTurnModelResponse => "multi_turn:empty_turn_model_response",
            Self::InstanceStateMismatch => "multi_turn:instance_state_mismatch",
            Self::ExecutionResponseMismatch => "multi_turn:execution_response_mismatch",
        }
    }
}

/// An attribute of a class that is not as the ground truth left it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StateDifference {
    /// The API class.
    pub class: String,
    /// The attribute.
    pub attribute: String,
    /// Its value in the model's world.
    pub model: Json,
    /// Its value in the ground truth's world.
    pub ground_truth: Json,
}

/// What the checker says of one turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TurnVerdict {
    /// Whether the turn passed. A turn without ground truth passes whatever the model does.
    pub valid: bool,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<ErrorType>,
    /// Whether there was nothing to check: the ground truth makes no call in this turn.
    #[serde(default)]
    pub unchecked: bool,
    /// Results of the ground truth's calls.
    #[serde(default)]
    pub ground_truth_results: Vec<String>,
    /// Those of them that the model has not obtained.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_results: Vec<String>,
    /// Attributes that differ, of the first class that differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<StateDifference>,
}

/// What the checker says of a whole trajectory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Whether every turn passed.
    pub valid: bool,
    /// Why it failed first.
    pub error_type: Option<ErrorType>,
    /// The turn (from 0) that failed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<usize>,
}
