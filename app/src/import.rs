//! Files that a visitor drops onto the page: BFCL's wheel, tasks, or trajectories. Told apart by content, not by name.

use parl_mt::agent::Trajectory;
use parl_mt::env::bfcl::data::{BfclData, DataError, MAX_WHEEL_BYTES, PACKAGE, VERSION, read_tasks};
use parl_mt::task::TaskSpec;
use serde::Deserialize;
use serde_json::Value as Json;

/// What a file held.
#[derive(Debug)]
pub enum Imported {
    /// The 800 BFCL tasks and their extra data.
    Wheel(Box<BfclData>),
    /// Tasks.
    Tasks(Vec<TaskSpec>),
    /// Trajectories of tasks that the page knows.
    Trajectories(Vec<NamedTrajectory>),
}

/// A line of a trajectory file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct NamedTrajectory {
    /// The task's id.
    pub id: String,
    /// Any text that tells trajectories of one task apart.
    #[serde(default)]
    pub case: Option<String>,
    /// The calls.
    pub turns: Trajectory,
}

/// Why a file could not be used. Each says what would do.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is empty.
    #[error("the file is empty")]
    Empty,
    /// It is too large to be any of the kinds.
    #[error("the file has {0} bytes; the page reads files of up to {MAX_WHEEL_BYTES}")]
    TooLarge(usize),
    /// A zip archive that is not the wheel.
    #[error(transparent)]
    Wheel(#[from] DataError),
    /// Not text.
    #[error("the file is neither text nor a wheel. {KINDS}")]
    NotText,
    /// The first line is not JSON.
    #[error("line {line} is not JSON ({reason}). {KINDS}")]
    NotJson {
        /// Which line, from 1.
        line: usize,
        /// What the parser said.
        reason: String,
    },
    /// JSON of another kind.
    #[error("line {line} is JSON, but neither a task nor a trajectory. {KINDS}")]
    OtherJson {
        /// Which line, from 1.
        line: usize,
    },
    /// No line could be used.
    #[error("no line of the file could be used: {0}")]
    NoLine(String),
}

const KINDS: &str = "The page reads the wheel of bfcl-eval 2026.3.23, tasks (a JSON object with id, question, \
    involved_classes and ground_truth per line) and trajectories (a JSON object with id and turns per line)";

/// Reads a file. `tools` is the JSON text of all tool specs by class. Lines that do not read are told in the second part.
pub fn import(bytes: &[u8], tools: &str) -> Result<(Imported, Vec<String>), ImportError> {
    if bytes.len() > MAX_WHEEL_BYTES {
        return Err(ImportError::TooLarge(bytes.len()));
    }
    if bytes.starts_with(b"PK") {
        return Ok((Imported::Wheel(Box::new(BfclData::from_wheel(bytes)?)), Vec::new()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ImportError::NotText)?;
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (index, first) = lines.next().ok_or(ImportError::Empty)?;
    let line = index + 1;
    let json: Json =
        serde_json::from_str(first).map_err(|error| ImportError::NotJson { line, reason: error.to_string() })?;
    if json.get("question").is_some() {
        let (tasks, errors) = read_tasks(text, tools, "file");
        let warnings: Vec<_> = errors.iter().map(ToString::to_string).collect();
        return keep(tasks, warnings, Imported::Tasks);
    }
    match json.get("turns").and_then(Json::as_array).map(|turns| turns.first()) {
        Some(Some(Json::Object(_))) => {
            let (tasks, warnings) = read_lines::<TaskSpec>(text);
            keep(tasks, warnings, Imported::Tasks)
        }
        Some(_) if json.get("id").is_some() => {
            let (trajectories, warnings) = read_lines::<NamedTrajectory>(text);
            keep(trajectories, warnings, Imported::Trajectories)
        }
        _ => Err(ImportError::OtherJson { line }),
    }
}

fn keep<T>(
    items: Vec<T>,
    warnings: Vec<String>,
    wrap: impl FnOnce(Vec<T>) -> Imported,
) -> Result<(Imported, Vec<String>), ImportError> {
    if items.is_empty() {
        return Err(ImportError::NoLine(warnings.into_iter().next().unwrap_or_default()));
    }
    Ok((wrap(items), warnings))
}

fn read_lines<T: for<'de> Deserialize<'de>>(text: &str) -> (Vec<T>, Vec<String>) {
    let mut read = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(item) => read.0.push(item),
            Err(error) => read.1.push(format!("line {}: {error}", index + 1)),
        }
    }
    read
}

/// What a dropped wheel is called in messages.
pub fn wheel_name() -> String {
    format!("{PACKAGE} {VERSION}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> String {
        import(bytes, "{}").unwrap_err().to_string()
    }

    #[test]
    fn each_wrong_file_gets_its_message() {
        assert_eq!(error(b" \n"), "the file is empty");
        assert!(error(b"PK\x03\x04nonsense").contains("not a wheel"));
        assert!(error(&[0xff, 0xfe, 0x00]).starts_with("the file is neither text nor a wheel"));
        assert!(error(b"hello").starts_with("line 1 is not JSON"));
        assert!(error(b"\n[1]").starts_with("line 2 is JSON, but neither"));
        assert!(error(b"{\"id\": \"x\", \"turns\": [[5]]}").starts_with("no line of the file could be used: line 1"));
        assert!(error(b"{\"id\": \"x\", \"question\": 5}").starts_with("no line"));
    }

    #[test]
    fn trajectories_and_tasks_are_told_apart() {
        let lines = "{\"id\": \"a\", \"turns\": [[[\"ls()\"]], []]}\nnonsense\n";
        let (imported, warnings) = import(lines.as_bytes(), "{}").unwrap();
        assert!(matches!(imported, Imported::Trajectories(all) if all[0].turns.len() == 2));
        assert_eq!(warnings.len(), 1);
        let task = r#"{"id": "t", "question": [[{"role": "user", "content": "Hi"}]], "involved_classes": ["MathAPI"], "ground_truth": [["mean(numbers=[1])"]]}"#;
        let (imported, warnings) = import(task.as_bytes(), "{}").unwrap();
        assert!(matches!(imported, Imported::Tasks(tasks) if tasks[0].turns.len() == 1));
        assert!(warnings.is_empty());
    }
}
