//! What the turn loop tells while it runs, for pages, progress bars and logs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::message::{Message, Step, TurnEnd};

/// Something that happened in an episode. Turns and steps count from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EpisodeEvent {
    /// The user has spoken.
    TurnStarted {
        /// Which turn.
        turn: usize,
        /// What the user said.
        messages: Vec<Message>,
        /// Tools that became available.
        added_tools: Vec<String>,
    },
    /// The agent has replied, and its calls have been answered.
    StepTaken {
        /// Which turn.
        turn: usize,
        /// Which step of it.
        step: usize,
        /// The step, complete.
        content: Box<Step>,
    },
    /// The turn is over.
    TurnEnded {
        /// Which turn.
        turn: usize,
        /// Why.
        end: TurnEnd,
    },
    /// No turn is left, or the last one was force-quit.
    EpisodeEnded {
        /// How many turns ran.
        turns: usize,
    },
}
