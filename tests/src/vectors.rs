//! Frozen vectors (`data/vectors.jsonl`): what the official package and CPython answered, so that parity is tested
//! without Python. Made by `cargo run -p parl-tests --bin freeze_vectors`.

use std::collections::BTreeMap;

use parl_mt::agent::Trajectory;
use serde::{Deserialize, Serialize};

/// The file's name in the data folder.
pub const FILE: &str = "vectors.jsonl";

/// One line of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Vector {
    /// The first line: who answered.
    Header {
        /// CPython's version.
        python: String,
        /// The day on which it answered.
        today: (i32, u32, u32),
    },
    /// A trajectory on one of our own scenarios.
    Trajectory {
        /// The scenario.
        id: String,
        /// How the trajectory was made.
        case: String,
        /// The calls.
        turns: Trajectory,
        /// The verdict.
        valid: bool,
        /// BFCL's name of the failure.
        error_type: Option<String>,
        /// Result strings, a list per turn.
        execution: Vec<Vec<String>>,
        /// The `repr` of each attribute of the state after all turns, by class and name.
        state: BTreeMap<String, BTreeMap<String, String>>,
    },
    /// Random numbers.
    Random {
        /// The seed.
        seed: String,
        /// Method, arguments and the `repr` of the result, in order.
        draws: Vec<(String, Vec<f64>, String)>,
    },
}
