//! The folder of a run: its configuration, what it ran on, what happened, samples, and checkpoints.
//!
//! ```text
//! runs/NAME/
//!   config.toml              the configuration, resolved: every option with its value
//!   run.json                 RunInfo: program, device and why, seed, hashes of data and tokenizer, time, parameters
//!   events.jsonl             one LoggedEvent a line, in the order of steps
//!   traces/step-000010.jsonl samples of rollouts: one RolloutGroup a line
//!   checkpoints/step-000100/ files of the trainer, and manifest.json, which is written last
//! ```
//!
//! A process may be killed at any moment. A checkpoint without a whole manifest does not count and is removed when the run goes on; events and
//! traces of steps after the checkpoint that a run is resumed from are cut off, so that the folder always tells of one
//! run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::config::{ConfigError, RunConfig};
use super::event::{LoggedEvent, RolloutGroup, TrainEvent};
use crate::device::{DeviceChoice, SelectedDevice};
use crate::platform::storage::{Storage, StorageError};

const CONFIG: &str = "config.toml";
const INFO: &str = "run.json";
const EVENTS: &str = "events.jsonl";
const TRACES: &str = "traces";
const CHECKPOINTS: &str = "checkpoints";
const MANIFEST: &str = "manifest.json";

/// Version of the folder's layout.
pub const FOLDER_VERSION: u32 = 1;

/// Files of a checkpoint by name, as the trainer gives and takes them.
pub type CheckpointFiles = Vec<(String, Vec<u8>)>;

/// What a run ran on: `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// [`FOLDER_VERSION`].
    pub version: u32,
    /// Version of this program.
    pub program: String,
    /// The commit that this program was built from, where its build told it (`PARL_GIT_COMMIT`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_commit: Option<String>,
    /// The device.
    pub device: DeviceInfo,
    /// The run's seed.
    pub seed: u64,
    /// SHA-256 of each data file, or of a toy task's examples, by name.
    pub data_sha256: BTreeMap<String, String>,
    /// SHA-256 of `tokenizer.json`.
    pub tokenizer_sha256: String,
    /// When the run began: seconds since 1970-01-01 UTC.
    pub started: f64,
    /// Number of parameters that are trained.
    pub parameters: u64,
}

/// The device of a run, in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// By which choice it is reached.
    pub choice: DeviceChoice,
    /// Its own name.
    pub name: String,
    /// Why it was taken.
    pub reason: String,
}

impl From<&SelectedDevice> for DeviceInfo {
    fn from(device: &SelectedDevice) -> Self {
        Self { choice: device.choice, name: device.name.clone(), reason: device.reason.clone() }
    }
}

impl RunInfo {
    /// What is known without the data: hashes are added by whoever reads it.
    pub fn new(config: &RunConfig, device: &SelectedDevice, parameters: u64) -> Self {
        Self {
            version: FOLDER_VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            git_commit: option_env!("PARL_GIT_COMMIT").map(str::to_owned),
            device: device.into(),
            seed: config.run.seed,
            data_sha256: BTreeMap::new(),
            tokenizer_sha256: String::new(),
            started: crate::platform::unix_time(),
            parameters,
        }
    }
}

/// SHA-256 of bytes, as 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `manifest.json`: what a complete checkpoint has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FOLDER_VERSION`].
    pub version: u32,
    /// Updates made.
    pub step: u64,
    /// How well the model evaluated here (more is better); none where it was not evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Size and hash of each file, by name.
    pub files: BTreeMap<String, FileEntry>,
}

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Bytes.
    pub size: u64,
    /// As 64 hexadecimal digits.
    pub sha256: String,
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }
}

/// What can go wrong with a run folder.
#[derive(Debug, thiserror::Error)]
pub enum RunFolderError {
    /// Something is there already.
    #[error(
        "{folder} is there already. Go on with that run by --resume {folder}, or take another folder by --dir or run.name"
    )]
    Exists {
        /// The folder.
        folder: String,
    },
    /// The folder holds no run.
    #[error("{folder} is not the folder of a run: there is no {missing} in it")]
    NotARun {
        /// The folder.
        folder: String,
        /// The file that is missing.
        missing: &'static str,
    },
    /// Written by a later version of this program.
    #[error("{folder} was written by a later version of parl (layout {found}, this one knows {FOLDER_VERSION})")]
    Version {
        /// The folder.
        folder: String,
        /// Its version.
        found: u32,
    },
    /// A file that does not read.
    #[error("{file} does not read: {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// A checkpoint whose files are not those of its manifest.
    #[error("{file} has changed since it was written. Remove {folder} to resume from the checkpoint before it")]
    CheckpointDamaged {
        /// The file.
        file: String,
        /// The checkpoint's folder.
        folder: String,
    },
    /// The configuration does not read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file operation failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The folder of a run.
#[derive(Debug)]
pub struct RunFolder<S> {
    storage: S,
    config: RunConfig,
    info: RunInfo,
    /// Complete checkpoints by step.
    checkpoints: BTreeMap<u64, Manifest>,
    clock: fn() -> f64,
}

impl<S: Storage> RunFolder<S> {
    /// Makes the folder of a new run; refuses where something is there.
    pub async fn create(storage: S, config: RunConfig, info: RunInfo) -> Result<Self, RunFolderError> {
        let text = config.to_toml();
        let present = storage.list("").await?;
        // A configuration alone is what a process leaves that was killed right here.
        let only_ours = present == [CONFIG] && storage.read(CONFIG).await?.is_some_and(|old| old == text.as_bytes());
        if !present.is_empty() && !only_ours {
            return Err(RunFolderError::Exists { folder: storage.describe("") });
        }
        storage.write(CONFIG, text.as_bytes()).await?;
        // Last: with it the folder is a run.
        storage.write(INFO, &to_json(&info)).await?;
        Ok(Self { storage, config, info, checkpoints: BTreeMap::new(), clock: crate::platform::unix_time })
    }

    /// Opens the folder of a run, with overrides of its configuration. Changes nothing: another process may be training
    /// in it. Checkpoints without a whole manifest do not count.
    pub async fn open(storage: S, overrides: &[String]) -> Result<Self, RunFolderError> {
        let missing = |missing| RunFolderError::NotARun { folder: storage.describe(""), missing };
        let info = storage.read(INFO).await?.ok_or_else(|| missing(INFO))?;
        let config = storage.read(CONFIG).await?.ok_or_else(|| missing(CONFIG))?;
        let info: RunInfo = from_json(&storage, INFO, &info)?;
        if info.version > FOLDER_VERSION {
            return Err(RunFolderError::Version { folder: storage.describe(""), found: info.version });
        }
        let config = RunConfig::parse(&String::from_utf8_lossy(&config), &storage.describe(CONFIG), overrides)?;
        let mut checkpoints = BTreeMap::new();
        for name in storage.list(CHECKPOINTS).await? {
            let path = format!("{CHECKPOINTS}/{name}");
            if let Some(manifest) = complete_manifest(&storage, &path).await? {
                checkpoints.insert(manifest.step, manifest);
            }
        }
        Ok(Self { storage, config, info, checkpoints, clock: crate::platform::unix_time })
    }

    /// Takes another clock for the times in `events.jsonl`.
    pub fn with_clock(mut self, clock: fn() -> f64) -> Self {
        self.clock = clock;
        self
    }

    /// The configuration, resolved.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// What the run runs on.
    pub fn info(&self) -> &RunInfo {
        &self.info
    }

    /// The storage below.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// How a user finds the folder.
    pub fn describe(&self) -> String {
        self.storage.describe("")
    }

    /// Complete checkpoints by step.
    pub fn checkpoints(&self) -> &BTreeMap<u64, Manifest> {
        &self.checkpoints
    }

    /// The latest complete checkpoint.
    pub fn latest_checkpoint(&self) -> Option<&Manifest> {
        self.checkpoints.values().next_back()
    }

    /// The checkpoint that evaluated best; the earliest of equal ones.
    pub fn best_checkpoint(&self) -> Option<&Manifest> {
        let scored = self.checkpoints.values().filter_map(|manifest| Some((manifest.score?, manifest)));
        scored.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, manifest)| manifest)
    }

    /// How a user finds a checkpoint: a folder that `model.path` takes.
    pub fn describe_checkpoint(&self, step: u64) -> String {
        self.storage.describe(&checkpoint_path(step))
    }

    /// Stores a checkpoint, and removes those that are no longer to be kept.
    ///
    /// `score` says how well the model evaluated (more is better).
    pub async fn save_checkpoint(
        &mut self,
        step: u64,
        score: Option<f64>,
        files: &[(String, Vec<u8>)],
    ) -> Result<&Manifest, RunFolderError> {
        let folder = checkpoint_path(step);
        // The same step may have been saved before, without a score.
        self.storage.remove(&folder).await?;
        let mut entries = BTreeMap::new();
        for (name, content) in files {
            self.storage.write(&format!("{folder}/{name}"), content).await?;
            entries.insert(name.clone(), FileEntry { size: content.len() as u64, sha256: sha256(content) });
        }
        // A checkpoint is not to outlive the events before it.
        self.storage.sync(EVENTS).await?;
        let score = score.filter(|score| score.is_finite());
        let manifest = Manifest { version: FOLDER_VERSION, step, score, files: entries };
        self.storage.write(&format!("{folder}/{MANIFEST}"), &to_json(&manifest)).await?;
        self.checkpoints.insert(step, manifest);
        self.remove_old_checkpoints().await?;
        Ok(&self.checkpoints[&step])
    }

    async fn remove_old_checkpoints(&mut self) -> Result<(), RunFolderError> {
        let keep = self.config.checkpoint.keep.max(1);
        let best = self.best_checkpoint().map(|manifest| manifest.step);
        let old: Vec<u64> = self.checkpoints.keys().rev().skip(keep).copied().collect();
        for step in old.into_iter().filter(|&step| Some(step) != best) {
            self.storage.remove(&checkpoint_path(step)).await?;
            self.checkpoints.remove(&step);
        }
        Ok(())
    }

    /// Reads a checkpoint's files, each checked against its hash.
    pub async fn load_checkpoint(&self, step: u64) -> Result<CheckpointFiles, RunFolderError> {
        let folder = checkpoint_path(step);
        let manifest = self.checkpoints.get(&step).ok_or_else(|| RunFolderError::Damaged {
            file: self.storage.describe(&folder),
            reason: "there is no complete checkpoint of that step".to_owned(),
        })?;
        let mut files = Vec::new();
        for (name, entry) in &manifest.files {
            let path = format!("{folder}/{name}");
            let content = self.storage.read(&path).await?.filter(|content| sha256(content) == entry.sha256);
            let content = content.ok_or_else(|| RunFolderError::CheckpointDamaged {
                file: self.storage.describe(&path),
                folder: self.storage.describe(&folder),
            })?;
            files.push((name.clone(), content));
        }
        Ok(files)
    }

    /// Adds events to `events.jsonl`, and rollouts to `traces/`. They are on disk when this returns.
    pub async fn log(&self, events: &[TrainEvent]) -> Result<(), RunFolderError> {
        let mut lines = String::new();
        for event in events {
            match event {
                TrainEvent::Rollouts { step, groups } => {
                    let lines: String = groups.iter().map(to_line).collect();
                    self.storage.append(&trace_path(*step), lines.as_bytes()).await?;
                }
                _ => lines.push_str(&LoggedEvent { time: (self.clock)(), event: event.clone() }.to_line()),
            }
        }
        if !lines.is_empty() {
            self.storage.append(EVENTS, lines.as_bytes()).await?;
        }
        Ok(())
    }

    /// All events. A last line that was cut short by a crash is left out.
    pub async fn events(&self) -> Result<Vec<LoggedEvent>, RunFolderError> {
        let content = self.storage.read(EVENTS).await?.unwrap_or_default();
        let text = String::from_utf8_lossy(&content);
        let mut events = Vec::new();
        let mut lines = text.lines().enumerate().peekable();
        while let Some((index, line)) = lines.next() {
            match serde_json::from_str(line) {
                Ok(event) => events.push(event),
                Err(_) if lines.peek().is_none() => {}
                Err(error) => {
                    let file = format!("{}:{}", self.storage.describe(EVENTS), index + 1);
                    return Err(RunFolderError::Damaged { file, reason: error.to_string() });
                }
            }
        }
        Ok(events)
    }

    /// The samples of rollouts of an update; empty where there are none.
    pub async fn rollouts(&self, step: u64) -> Result<Vec<RolloutGroup>, RunFolderError> {
        let path = trace_path(step);
        let content = self.storage.read(&path).await?.unwrap_or_default();
        String::from_utf8_lossy(&content).lines().map(|line| from_json(&self.storage, &path, line.as_bytes())).collect()
    }

    /// The updates that have samples of rollouts.
    pub async fn traced_steps(&self) -> Result<Vec<u64>, RunFolderError> {
        let names = self.storage.list(TRACES).await?;
        Ok(names.iter().filter_map(|name| step_of(name.strip_suffix(".jsonl")?)).collect())
    }

    /// Makes the folder tell of the run up to a step only, so that it can go on from there: cuts off events and traces of
    /// later steps, removes later and incomplete checkpoints, and writes the configuration with its overrides.
    pub async fn rewind(&mut self, step: u64) -> Result<(), RunFolderError> {
        let config = self.config.to_toml();
        if self.storage.read(CONFIG).await?.is_none_or(|old| old != config.as_bytes()) {
            self.storage.write(CONFIG, config.as_bytes()).await?;
        }
        self.checkpoints.retain(|&at, _| at <= step);
        for name in self.storage.list(CHECKPOINTS).await? {
            // Only folders that we name so: a stranger's file is not ours to remove.
            if step_of(&name).is_some_and(|at| !self.checkpoints.contains_key(&at)) {
                self.storage.remove(&format!("{CHECKPOINTS}/{name}")).await?;
            }
        }
        for later in self.traced_steps().await?.into_iter().filter(|&traced| traced > step) {
            self.storage.remove(&trace_path(later)).await?;
        }
        let mut kept = self.events().await?;
        kept.retain(|logged| logged.event.step() <= step);
        // The process may have been killed after the checkpoint and before the line about it.
        let saved =
            |logged: &LoggedEvent| matches!(logged.event, TrainEvent::CheckpointSaved { step: at, .. } if at == step);
        if let Some(manifest) = self.checkpoints.get(&step)
            && !kept.iter().any(saved)
        {
            let event = TrainEvent::CheckpointSaved { step, bytes: manifest.bytes() };
            kept.push(LoggedEvent { time: (self.clock)(), event });
        }
        let lines: String = kept.iter().map(LoggedEvent::to_line).collect();
        self.storage.write(EVENTS, lines.as_bytes()).await?;
        self.remove_old_checkpoints().await
    }
}

fn checkpoint_path(step: u64) -> String {
    format!("{CHECKPOINTS}/step-{step:06}")
}

fn trace_path(step: u64) -> String {
    format!("{TRACES}/step-{step:06}.jsonl")
}

/// The step in `step-000100`.
fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix("step-")?.parse().ok()
}

/// The manifest of a checkpoint whose files are all there with the right size; hashes are checked when they are read.
async fn complete_manifest(storage: &impl Storage, folder: &str) -> Result<Option<Manifest>, StorageError> {
    let Some(content) = storage.read(&format!("{folder}/{MANIFEST}")).await? else { return Ok(None) };
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&content) else { return Ok(None) };
    if checkpoint_path(manifest.step) != folder {
        return Ok(None);
    }
    for (name, entry) in &manifest.files {
        if storage.size(&format!("{folder}/{name}")).await? != Some(entry.size) {
            return Ok(None);
        }
    }
    Ok(Some(manifest))
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("the run folder's types have string keys");
    text.push(b'\n');
    text
}

fn to_line(value: &impl Serialize) -> String {
    let mut line = serde_json::to_string(value).expect("the run folder's types have string keys");
    line.push('\n');
    line
}

fn from_json<T: for<'de> Deserialize<'de>>(
    storage: &impl Storage,
    path: &str,
    content: &[u8],
) -> Result<T, RunFolderError> {
    serde_json::from_slice(content)
        .map_err(|error| RunFolderError::Damaged { file: storage.describe(path), reason: error.to_string() })
}

#[cfg(test)]
pub(in crate::train) mod tests;
