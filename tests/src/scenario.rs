//! Small tasks of our own (`data/scenarios.jsonl`), in BFCL's shape without words.

use std::path::{Path, PathBuf};

use parl_mt::task::{TaskSpec, TaskTurn};
use serde::Deserialize;

#[derive(Deserialize)]
struct Entry {
    id: String,
    involved_classes: Vec<String>,
    initial_config: indexmap::IndexMap<String, parl_mt::python::Value>,
    ground_truth: Vec<Vec<String>>,
}

/// Folder of the suites' data.
pub fn data_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

/// Our own tasks. They are part of the repository, so a mistake in them panics.
pub fn scenarios() -> Vec<TaskSpec> {
    let text = std::fs::read_to_string(data_folder().join("scenarios.jsonl")).expect("the scenarios are there");
    let entry = |line| serde_json::from_str::<Entry>(line).expect("the scenarios read");
    text.lines().map(entry).map(task).collect()
}

fn task(entry: Entry) -> TaskSpec {
    let turn = |ground_truth| TaskTurn { ground_truth, ..TaskTurn::default() };
    TaskSpec {
        id: entry.id,
        category: "scenario".to_owned(),
        classes: entry.involved_classes,
        initial_config: entry.initial_config,
        turns: entry.ground_truth.into_iter().map(turn).collect(),
        ..TaskSpec::default()
    }
}
