//! The one stream of what happens in a run, and the sinks that it goes to.
//!
//! What a trainer and the driver ([`run`](super::run)) tell are [`TrainEvent`]s; in `events.jsonl` each is a [`LoggedEvent`]: with the
//! time, one JSON object a line, tagged by `type`. The format's version stands in [`TrainEvent::RunStarted`]; a
//! reader accepts fields that it does not know. Metrics are those of [`metrics`](super::metrics), where each
//! has its definition and unit.

use serde::{Deserialize, Serialize};

use super::config::Method;
use super::metrics::Metrics;

/// Version of the events' format: raised when a reader of the version before would misread it.
pub const EVENTS_VERSION: u32 = 1;

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TrainEvent {
    /// A run began, before its first step. The first line of every `events.jsonl`.
    RunStarted {
        /// [`EVENTS_VERSION`].
        version: u32,
        /// How the model learns.
        method: Method,
        /// The run's seed.
        seed: u64,
        /// The device's own name.
        device: String,
        /// Number of parameters that are trained.
        parameters: u64,
        /// Updates to make.
        max_steps: u64,
    },
    /// An update was made.
    Step {
        /// The update's number, from 1.
        step: u64,
        /// What was measured.
        metrics: Metrics,
    },
    /// The model was evaluated after an update.
    Evaluated {
        /// Updates made so far.
        step: u64,
        /// What was measured; names begin with `eval_`.
        metrics: Metrics,
    },
    /// A sample of what the model wrote. Kept in `traces/`, not in `events.jsonl`.
    Rollouts {
        /// The update that they were used for.
        step: u64,
        /// A few groups.
        groups: Vec<RolloutGroup>,
    },
    /// A checkpoint is on disk, complete.
    CheckpointSaved {
        /// Updates made so far.
        step: u64,
        /// Size of its files together, in bytes.
        bytes: u64,
    },
    /// The user paused the run.
    Paused {
        /// Updates made so far.
        step: u64,
    },
    /// The run goes on: after a pause, or from a checkpoint.
    Resumed {
        /// Updates made so far.
        step: u64,
    },
    /// The run ended before its last update; it can be resumed.
    Stopped {
        /// Updates made so far.
        step: u64,
        /// Why, in words.
        reason: String,
    },
    /// The run is done.
    Finished {
        /// Updates made in all.
        step: u64,
        /// Why there are no more.
        reason: FinishReason,
    },
    /// Something that the user should know, and that does not end the run.
    Warning {
        /// The update in which it came up.
        step: u64,
        /// What it is, in words.
        message: String,
    },
}

impl TrainEvent {
    /// The update that the event belongs to; 0 before the first.
    pub fn step(&self) -> u64 {
        match self {
            Self::RunStarted { .. } => 0,
            Self::Step { step, .. }
            | Self::Evaluated { step, .. }
            | Self::Rollouts { step, .. }
            | Self::CheckpointSaved { step, .. }
            | Self::Paused { step }
            | Self::Resumed { step }
            | Self::Stopped { step, .. }
            | Self::Finished { step, .. }
            | Self::Warning { step, .. } => *step,
        }
    }
}

/// Why a run has no more updates to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// `max_steps` updates were made.
    MaxSteps,
    /// The evaluation did not get better for `early_stopping_patience` evaluations.
    EarlyStopping,
}

/// Completions of one prompt, with what they earned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutGroup {
    /// The prompt as text, special tokens included.
    pub prompt: String,
    /// One for each generation.
    pub rollouts: Vec<Rollout>,
}

/// One completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The completion as text, special tokens included.
    pub completion: String,
    /// Number of tokens.
    pub tokens: u64,
    /// Whether it was cut at the length limit.
    pub truncated: bool,
    /// Its reward.
    pub reward: f64,
    /// The terms that the reward is made of, by name, before weighting.
    #[serde(default, skip_serializing_if = "Metrics::is_empty")]
    pub rewards: Metrics,
    /// Its advantage; with turn-level advantages the mean over its tokens.
    pub advantage: f64,
}

/// An event with its time, as it stands in `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoggedEvent {
    /// Seconds since 1970-01-01 UTC.
    pub time: f64,
    /// What happened.
    #[serde(flatten)]
    pub event: TrainEvent,
}

impl LoggedEvent {
    /// One line of JSON, with its end.
    pub fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("events have string keys and writable numbers");
        line.push('\n');
        line
    }
}

/// Where events go.
pub trait EventSink {
    /// Takes an event. A sink that cannot write keeps its error for itself until it is asked: training goes on.
    fn emit(&mut self, event: &TrainEvent);
}

/// Keeps all events.
impl EventSink for Vec<TrainEvent> {
    fn emit(&mut self, event: &TrainEvent) {
        self.push(event.clone());
    }
}

/// Drops all events.
impl EventSink for () {
    fn emit(&mut self, _event: &TrainEvent) {}
}

/// Gives each event to several sinks, in order.
pub struct FanOut<'a>(pub Vec<&'a mut dyn EventSink>);

impl EventSink for FanOut<'_> {
    fn emit(&mut self, event: &TrainEvent) {
        for sink in &mut self.0 {
            sink.emit(event);
        }
    }
}

/// Writes each event as a line of JSON, flushed at once: `parl train --json`, or a worker's port.
pub struct JsonLines<W> {
    writer: W,
    clock: fn() -> f64,
    error: Option<std::io::Error>,
}

impl<W: std::io::Write> JsonLines<W> {
    /// Lines with the time of day.
    pub fn new(writer: W) -> Self {
        Self::with_clock(writer, crate::platform::unix_time)
    }

    /// Lines with the time of a given clock.
    pub fn with_clock(writer: W, clock: fn() -> f64) -> Self {
        Self { writer, clock, error: None }
    }

    /// What was written to, or the first error; after an error nothing more was written.
    pub fn finish(self) -> std::io::Result<W> {
        self.error.map_or(Ok(self.writer), Err)
    }
}

impl<W: std::io::Write> EventSink for JsonLines<W> {
    fn emit(&mut self, event: &TrainEvent) {
        if self.error.is_none() {
            let line = LoggedEvent { time: (self.clock)(), event: event.clone() }.to_line();
            self.error = self.writer.write_all(line.as_bytes()).and_then(|()| self.writer.flush()).err();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::metrics;

    fn examples() -> Vec<TrainEvent> {
        let rollout = Rollout {
            completion: "4".to_owned(),
            tokens: 2,
            truncated: false,
            reward: 1.0,
            rewards: [("correct", 1.0)].into_iter().collect(),
            advantage: 0.5,
        };
        vec![
            TrainEvent::RunStarted {
                version: EVENTS_VERSION,
                method: Method::Grpo,
                seed: 7,
                device: "CPU, 2 cores".to_owned(),
                parameters: 300_000,
                max_steps: 10,
            },
            TrainEvent::Step {
                step: 1,
                metrics: [(metrics::LOSS, f64::NAN), (metrics::REWARD, 0.25)].into_iter().collect(),
            },
            TrainEvent::Evaluated { step: 1, metrics: [(metrics::EVAL_LOSS, 2.5)].into_iter().collect() },
            TrainEvent::Rollouts {
                step: 1,
                groups: vec![RolloutGroup { prompt: "2+2=".to_owned(), rollouts: vec![rollout] }],
            },
            TrainEvent::CheckpointSaved { step: 1, bytes: 1_200_000 },
            TrainEvent::Paused { step: 1 },
            TrainEvent::Resumed { step: 1 },
            TrainEvent::Stopped { step: 1, reason: "stopped by the user".to_owned() },
            TrainEvent::Warning { step: 2, message: "the loss is not a number".to_owned() },
            TrainEvent::Finished { step: 2, reason: FinishReason::MaxSteps },
        ]
    }

    #[test]
    fn events_are_written_as_recorded_and_read_back() {
        let (mut memory, mut lines) = (Vec::new(), JsonLines::with_clock(Vec::new(), || 1_700_000_000.5));
        let mut nothing = ();
        let mut all = FanOut(vec![&mut memory, &mut lines, &mut nothing]);
        for event in examples() {
            all.emit(&event);
        }
        let text = String::from_utf8(lines.finish().unwrap()).unwrap();
        insta::assert_snapshot!(text);
        let read: Vec<LoggedEvent> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        // NaN differs from itself, so the text is compared.
        let again: String = read.iter().map(LoggedEvent::to_line).collect();
        assert_eq!(again, text);
        assert_eq!(memory.len(), examples().len());
        assert_eq!(memory[2], examples()[2]);
    }

    #[test]
    fn a_reader_skips_fields_of_later_versions() {
        let line = r#"{"time": 1, "type": "paused", "step": 3, "by": "someone"}"#;
        let read: LoggedEvent = serde_json::from_str(line).unwrap();
        assert_eq!(read.event, TrainEvent::Paused { step: 3 });
    }

    #[test]
    fn the_first_write_error_is_kept() {
        struct Full(usize);
        impl std::io::Write for Full {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0 += 1;
                if self.0 > 1 { Err(std::io::Error::other("full")) } else { Ok(bytes.len()) }
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut lines = JsonLines::new(Full(0));
        for event in examples() {
            lines.emit(&event);
        }
        assert_eq!(lines.finish().err().unwrap().to_string(), "full");
    }
}
