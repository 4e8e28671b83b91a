//! Scoring files of trajectories, line by line: a line that is malformed gets an error and the rest go on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::agent::Trajectory;
use crate::env::bfcl::{BfclContext, BfclData, score_trajectory};
use crate::python::decode::decode_step;
use crate::trace::ErrorType;

/// A trajectory to score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrajectoryLine {
    /// The task's id, such as `multi_turn_base_0`.
    pub id: String,
    /// Any text that tells several trajectories of one task apart; repeated in the score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<Json>,
    /// Call strings: a list per turn of a list per step.
    pub turns: Trajectory,
}

/// What a trajectory scored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScoreLine {
    /// The task's id.
    pub id: Json,
    /// The trajectory's own text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<Json>,
    /// The verdict; absent when the line could not be scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<bool>,
    /// BFCL's name of the first error, or null.
    pub error_type: Option<ErrorName>,
    /// The turn (from 0) that failed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<usize>,
    /// Result texts, a list per turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<Vec<Vec<String>>>,
    /// Why the line could not be scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A checker's error, or the one that only official result files can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ErrorName {
    /// Found by the checker.
    Checker(ErrorType),
    /// The result is not a list of turns: inference failed.
    Inference(InferenceError),
}

/// The error of an official result file without turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InferenceError {
    /// The model did not give a list of responses.
    #[serde(rename = "multi_turn:inference_error")]
    InferenceError,
}

/// How trajectories are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrajectoryFormat {
    /// [`TrajectoryLine`]s.
    #[default]
    Trajectories,
    /// BFCL's result files: `{"id", "result": [[step, …] per turn]}` with steps as prompting-style strings or as lists of
    /// `{name: json-arguments}`. Steps that do not decode are dropped, as in the official scorer.
    BfclResult,
}

/// Scores one line of a trajectory file. Never fails: what is wrong stands in the answer's `error`.
pub fn score_line(line: &str, format: TrajectoryFormat, data: &BfclData, context: &BfclContext) -> ScoreLine {
    let json: Json = match serde_json::from_str(line) {
        Ok(json) => json,
        Err(error) => return ScoreLine { error: Some(format!("not JSON: {error}")), ..ScoreLine::default() },
    };
    let named = ScoreLine {
        id: json.get("id").cloned().unwrap_or_default(),
        case: json.get("case").cloned(),
        ..ScoreLine::default()
    };
    match score_json(json, format, data, context) {
        Ok(scored) => ScoreLine { id: named.id, case: named.case, ..scored },
        Err(error) => ScoreLine { error: Some(error), ..named },
    }
}

fn score_json(
    json: Json,
    format: TrajectoryFormat,
    data: &BfclData,
    context: &BfclContext,
) -> Result<ScoreLine, String> {
    let id = json.get("id").and_then(Json::as_str).ok_or("`id` is missing or is not a string")?;
    let task = data.task(id).ok_or_else(|| format!("there is no task `{id}`: `parl bfcl list` shows all"))?;
    let turns = match format {
        TrajectoryFormat::Trajectories => {
            let turns =
                json.get("turns").ok_or("`turns` is missing: a list per turn of a list per step of call strings")?;
            Trajectory::deserialize(turns).map_err(|error| {
                format!("`turns` is not a list per turn of a list per step of call strings: {error}")
            })?
        }
        TrajectoryFormat::BfclResult => match json.get("result").ok_or("`result` is missing")? {
            Json::Array(turns) => turns.iter().map(decode_turn).collect::<Result<_, _>>()?,
            _ => {
                return Ok(ScoreLine {
                    valid: Some(false),
                    error_type: Some(ErrorName::Inference(InferenceError::InferenceError)),
                    ..ScoreLine::default()
                });
            }
        },
    };
    let score = score_trajectory(task, &turns, context).map_err(|error| error.to_string())?;
    Ok(ScoreLine {
        valid: Some(score.verdict.valid),
        error_type: score.verdict.error_type.map(ErrorName::Checker),
        turn: score.verdict.turn,
        execution: Some(score.execution),
        ..ScoreLine::default()
    })
}

fn decode_turn(turn: &Json) -> Result<Vec<Vec<String>>, String> {
    let steps = turn.as_array().ok_or("each turn of `result` is a list of steps")?;
    Ok(steps.iter().filter_map(|step| decode_step(step).ok()).filter(|calls| !calls.is_empty()).collect())
}
