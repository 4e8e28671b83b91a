//! The loop around a trainer: log, save, pause, stop.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use super::TrainError;
use super::event::{EVENTS_VERSION, EventSink, FinishReason, TrainEvent};
use super::metrics::{self, Metrics};
use super::run_folder::{CheckpointFiles, RunFolder, RunFolderError};
use crate::platform::storage::Storage;
use crate::platform::yield_now;

/// Makes updates of a model, one at a time.
///
/// Its state after `n` updates depends on the configuration and `n` only: a trainer that is built from the checkpoint of update `n`
/// goes on as the one that saved it.
#[allow(async_fn_in_trait, reason = "used by generic code on one thread; the futures need not be Send")]
pub trait Trainer {
    /// Makes one update. Emits [`TrainEvent::Step`], and, where they are due, `Evaluated`, `Rollouts` and `Warning`.
    async fn step(&mut self, sink: &mut dyn EventSink) -> Result<StepOutcome, TrainError>;

    /// Everything that is needed to go on from here, as files: weights, optimizer, random state, step.
    async fn checkpoint(&self) -> Result<CheckpointFiles, TrainError>;

    /// Updates made so far.
    fn step_number(&self) -> u64;

    /// Why there are no more updates to make; none while there are.
    fn finished(&self) -> Option<FinishReason>;

    /// Whether there are no more updates to make.
    fn is_finished(&self) -> bool {
        self.finished().is_some()
    }
}

/// What came of [`Trainer::step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// There are more updates to make.
    Continue,
    /// That was the last one.
    Finished(FinishReason),
}

/// Why [`run`] gave up.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An update could not be made.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The run folder could not be written.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
}

/// How [`run`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// All updates are made.
    Finished(FinishReason),
    /// It was stopped, with a checkpoint; the reason as given to [`RunControl::stop`].
    Stopped(String),
}

/// Pauses, resumes and stops a run from outside, after the update that is being made. Clones act on the same run.
#[derive(Clone, Debug, Default)]
pub struct RunControl(Arc<Mutex<Control>>);

#[derive(Debug, Default)]
struct Control {
    command: Command,
    waiting: Vec<Waker>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Command {
    #[default]
    Run,
    Pause,
    Stop(String),
}

impl RunControl {
    /// Lets the run go.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Control> {
        self.0.lock().expect("nothing panics while it holds the control")
    }

    /// A run that has been told to stop stays so.
    fn set(&self, command: Command) {
        let waiting = {
            let mut control = self.lock();
            if !matches!(control.command, Command::Stop(_)) {
                control.command = command;
            }
            std::mem::take(&mut control.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Makes the run wait after this update.
    pub fn pause(&self) {
        self.set(Command::Pause);
    }

    /// Lets a paused run go on.
    pub fn resume(&self) {
        self.set(Command::Run);
    }

    /// Ends the run after this update, with a checkpoint. The reason goes to the events.
    pub fn stop(&self, reason: impl Into<String>) {
        self.set(Command::Stop(reason.into()));
    }

    /// Whether the run is to stop: long work inside an update may look here.
    pub fn is_stopping(&self) -> bool {
        matches!(self.lock().command, Command::Stop(_))
    }

    /// Whether the run is to wait.
    pub fn is_paused(&self) -> bool {
        self.lock().command == Command::Pause
    }

    fn command(&self) -> Command {
        self.lock().command.clone()
    }

    /// Waits while the run is paused.
    async fn until_not_paused(&self) {
        std::future::poll_fn(|context| {
            let mut control = self.lock();
            if control.command != Command::Pause {
                return Poll::Ready(());
            }
            control.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Tells the user's sink at once, and keeps the events for the run folder.
struct Tee<'a> {
    live: &'a mut dyn EventSink,
    kept: Vec<TrainEvent>,
}

impl EventSink for Tee<'_> {
    fn emit(&mut self, event: &TrainEvent) {
        self.live.emit(event);
        self.kept.push(event.clone());
    }
}

impl Tee<'_> {
    async fn flush<S: Storage>(&mut self, folder: &RunFolder<S>) -> Result<(), RunFolderError> {
        folder.log(&std::mem::take(&mut self.kept)).await
    }
}

/// Trains until the trainer is finished or the control says stop.
///
/// After each update its events are written to the folder. A checkpoint is saved every `checkpoint.every` updates, after an evaluation
/// better than that of every checkpoint, at the end, and when stopped. A trainer that has made updates already is taken to
/// be built from the folder's checkpoint of that step: what the folder knows of later steps is cut off first.
pub async fn run<T: Trainer, S: Storage>(
    trainer: &mut T,
    folder: &mut RunFolder<S>,
    sink: &mut dyn EventSink,
    control: &RunControl,
) -> Result<RunEnd, RunError> {
    let mut sink = Tee { live: sink, kept: Vec::new() };
    let step = trainer.step_number();
    folder.rewind(step).await?;
    let before = folder.events().await?;
    if before.is_empty() {
        let (config, info) = (folder.config(), folder.info());
        sink.emit(&TrainEvent::RunStarted {
            version: EVENTS_VERSION,
            method: config.method,
            seed: config.run.seed,
            device: info.device.name.clone(),
            parameters: info.parameters,
            max_steps: config.max_steps(),
        });
    } else if let Some(reason) = trainer.finished() {
        let told =
            before.iter().any(|logged| matches!(logged.event, TrainEvent::Finished { step: at, .. } if at == step));
        if !told {
            sink.emit(&TrainEvent::Finished { step, reason });
            sink.flush(folder).await?;
        }
        return Ok(RunEnd::Finished(reason));
    } else {
        sink.emit(&TrainEvent::Resumed { step });
    }
    sink.flush(folder).await?;
    loop {
        let step = trainer.step_number();
        match control.command() {
            Command::Run => {}
            Command::Pause => {
                sink.emit(&TrainEvent::Paused { step });
                sink.flush(folder).await?;
                control.until_not_paused().await;
                if !control.is_stopping() {
                    sink.emit(&TrainEvent::Resumed { step });
                }
                continue;
            }
            Command::Stop(reason) => {
                if !folder.checkpoints().contains_key(&step) && step > 0 {
                    save(trainer, folder, &mut sink, None).await?;
                }
                sink.emit(&TrainEvent::Stopped { step, reason: reason.clone() });
                sink.flush(folder).await?;
                return Ok(RunEnd::Stopped(reason));
            }
        }
        let outcome = match trainer.step(&mut sink).await {
            Ok(outcome) => outcome,
            Err(error) => {
                sink.emit(&TrainEvent::Stopped { step, reason: error.to_string() });
                sink.flush(folder).await?;
                return Err(error.into());
            }
        };
        let step = trainer.step_number();
        let score = sink.kept.iter().rev().find_map(|event| match event {
            TrainEvent::Evaluated { step: at, metrics } if *at == step => score(metrics),
            _ => None,
        });
        let best = folder.best_checkpoint().and_then(|manifest| manifest.score);
        let is_best = score.is_some_and(|score| best.is_none_or(|best| score > best));
        sink.flush(folder).await?;
        let every = folder.config().checkpoint.every;
        let is_due = every > 0 && step.is_multiple_of(every);
        let is_last = matches!(outcome, StepOutcome::Finished(_));
        if is_due || is_best || is_last {
            save(trainer, folder, &mut sink, score).await?;
        }
        if let StepOutcome::Finished(reason) = outcome {
            sink.emit(&TrainEvent::Finished { step, reason });
            sink.flush(folder).await?;
            return Ok(RunEnd::Finished(reason));
        }
        yield_now().await;
    }
}

async fn save<T: Trainer, S: Storage>(
    trainer: &T,
    folder: &mut RunFolder<S>,
    sink: &mut Tee<'_>,
    score: Option<f64>,
) -> Result<(), RunError> {
    let step = trainer.step_number();
    let files = trainer.checkpoint().await?;
    let bytes = folder.save_checkpoint(step, score, &files).await?.bytes();
    sink.emit(&TrainEvent::CheckpointSaved { step, bytes });
    sink.flush(folder).await?;
    Ok(())
}

/// How well a model evaluated, more is better: its reward, or else its negative loss.
fn score(metrics: &Metrics) -> Option<f64> {
    let reward = metrics.get(metrics::EVAL_REWARD);
    reward.or_else(|| metrics.get(metrics::EVAL_LOSS).map(|loss| -loss)).filter(|score| score.is_finite())
}

#[cfg(test)]
mod tests;
