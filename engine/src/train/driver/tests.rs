use std::cell::Cell;
use std::future::Future as _;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use pollster::block_on;

use super::*;
use crate::platform::storage::{MemoryStorage, StorageError};
use crate::train::event::{Rollout, RolloutGroup};
use crate::train::run_folder::tests::{config, info};

/// A trainer whose whole state is two numbers. Its loss falls, and it evaluates best at step 8.
#[derive(Clone, Debug, PartialEq)]
struct Counter {
    step: u64,
    state: u64,
    last: u64,
    fails_at: Option<u64>,
    calls: Vec<(u64, Call)>,
    control: RunControl,
}

/// What the counter's user does while a step is made.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Pause,
    Stop,
}

impl PartialEq for RunControl {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Counter {
    fn new(last: u64) -> Self {
        Self { step: 0, state: 1, last, fails_at: None, calls: Vec::new(), control: RunControl::new() }
    }

    async fn from_folder<S: Storage>(folder: &RunFolder<S>) -> Result<Self, RunFolderError> {
        let mut counter = Self::new(folder.config().max_steps());
        if let Some(manifest) = folder.latest_checkpoint() {
            let files = folder.load_checkpoint(manifest.step).await?;
            let number = |index: usize| u64::from_le_bytes(files[index].1.as_slice().try_into().unwrap());
            (counter.state, counter.step) = (number(0), number(1));
        }
        Ok(counter)
    }
}

impl Trainer for Counter {
    async fn step(&mut self, sink: &mut dyn EventSink) -> Result<StepOutcome, TrainError> {
        let step = self.step + 1;
        if self.fails_at == Some(step) {
            return Err(TrainError::Diverged { step, loss: f64::NAN });
        }
        yield_now().await;
        self.step = step;
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let loss = (self.state >> 11) as f64 / (1_u64 << 53) as f64;
        sink.emit(&TrainEvent::Step { step, metrics: [(metrics::LOSS, loss)].into_iter().collect() });
        if step.is_multiple_of(3) {
            let rollout = Rollout {
                completion: step.to_string(),
                tokens: 1,
                truncated: false,
                reward: loss,
                rewards: Metrics::new(),
                advantage: 0.0,
            };
            let groups = vec![RolloutGroup { prompt: "count".to_owned(), rollouts: vec![rollout] }];
            sink.emit(&TrainEvent::Rollouts { step, groups });
        }
        if step.is_multiple_of(4) {
            let loss = (step as f64 - 8.0).abs();
            sink.emit(&TrainEvent::Evaluated { step, metrics: [(metrics::EVAL_LOSS, loss)].into_iter().collect() });
        }
        for (at, call) in &self.calls {
            match call {
                Call::Pause if *at == step => self.control.pause(),
                Call::Stop if *at == step => self.control.stop("stopped by the user"),
                _ => {}
            }
        }
        Ok(self.finished().map_or(StepOutcome::Continue, StepOutcome::Finished))
    }

    async fn checkpoint(&self) -> Result<CheckpointFiles, TrainError> {
        Ok(vec![
            ("a-state.bin".to_owned(), self.state.to_le_bytes().to_vec()),
            ("b-step.bin".to_owned(), self.step.to_le_bytes().to_vec()),
        ])
    }

    fn step_number(&self) -> u64 {
        self.step
    }

    fn finished(&self) -> Option<FinishReason> {
        (self.step >= self.last).then_some(FinishReason::MaxSteps)
    }
}

/// A process that can be killed: after some changes of the disk, nothing is written any more.
#[derive(Clone)]
struct Mortal {
    disk: Rc<MemoryStorage>,
    changes_left: Rc<Cell<Option<usize>>>,
}

impl Mortal {
    /// Whether this change still happens whole; if not, the process is dead from here on.
    fn lives(&self) -> bool {
        match self.changes_left.get() {
            None => true,
            Some(0) => false,
            Some(left) => {
                self.changes_left.set(Some(left - 1));
                left > 1
            }
        }
    }
}

fn killed() -> StorageError {
    StorageError { path: String::new(), action: "written", reason: "killed".to_owned() }
}

impl Storage for Mortal {
    async fn read(&self, path: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.disk.read(path).await
    }
    async fn write(&self, path: &str, content: &[u8]) -> Result<(), StorageError> {
        // Atomic: all or nothing.
        if self.lives() { self.disk.write(path, content).await } else { Err(killed()) }
    }
    async fn append(&self, path: &str, content: &[u8]) -> Result<(), StorageError> {
        let was_alive = self.changes_left.get() != Some(0);
        if self.lives() {
            return self.disk.append(path, content).await;
        }
        if was_alive {
            // The last breath: half of it is on disk.
            self.disk.append(path, &content[..content.len() / 2]).await?;
        }
        Err(killed())
    }
    async fn sync(&self, path: &str) -> Result<(), StorageError> {
        self.disk.sync(path).await
    }
    async fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        self.disk.list(folder).await
    }
    async fn size(&self, path: &str) -> Result<Option<u64>, StorageError> {
        self.disk.size(path).await
    }
    async fn remove(&self, path: &str) -> Result<(), StorageError> {
        let was_alive = self.changes_left.get() != Some(0);
        if self.lives() {
            return self.disk.remove(path).await;
        }
        if was_alive {
            // A folder goes file by file.
            let first = self.disk.list(path).await?.into_iter().next();
            if let Some(name) = first {
                self.disk.remove(&format!("{path}/{name}")).await?;
            }
        }
        Err(killed())
    }
    fn describe(&self, path: &str) -> String {
        self.disk.describe(path)
    }
}

const LAST: &str = "sft.max_steps=14";

/// What `parl train` does: open or create, build the trainer, run.
async fn process(disk: &Rc<MemoryStorage>, changes: Option<usize>) -> Result<RunEnd, RunError> {
    let storage = Mortal { disk: disk.clone(), changes_left: Rc::new(Cell::new(changes)) };
    let mut folder = match RunFolder::open(storage.clone(), &[]).await {
        Err(RunFolderError::NotARun { .. }) => {
            let config = config(&[LAST]);
            let info = info(&config);
            RunFolder::create(storage, config, info).await?
        }
        opened => opened?,
    }
    .with_clock(|| 1.0);
    let mut trainer = Counter::from_folder(&folder).await?;
    run(&mut trainer, &mut folder, &mut (), &RunControl::new()).await
}

/// Everything that is on disk, but for the lines that say that a run was resumed.
fn content(disk: &MemoryStorage) -> Vec<(String, String)> {
    let text = |path: &String| {
        let bytes = block_on(disk.read(path)).unwrap().unwrap();
        let text = if path.ends_with(".bin") { format!("{bytes:?}") } else { String::from_utf8(bytes).unwrap() };
        let kept = text.lines().filter(|line| !line.contains(r#""type":"resumed""#));
        kept.collect::<Vec<_>>().join("\n")
    };
    disk.paths().iter().map(|path| (path.clone(), text(path))).collect()
}

#[test]
fn a_run_writes_what_it_did() {
    let disk = Rc::new(MemoryStorage::default());
    assert_eq!(block_on(process(&disk, None)).unwrap(), RunEnd::Finished(FinishReason::MaxSteps));
    insta::assert_snapshot!(disk.paths().join("\n"));
    let events = block_on(disk.read("events.jsonl")).unwrap().unwrap();
    insta::assert_snapshot!(String::from_utf8(events).unwrap());
}

#[test]
fn a_run_killed_at_any_change_of_the_disk_and_resumed_leaves_the_same_folder() {
    let whole = Rc::new(MemoryStorage::default());
    block_on(process(&whole, None)).unwrap();
    let expected = content(&whole);
    let mut kills = 0;
    loop {
        let disk = Rc::new(MemoryStorage::default());
        let first = block_on(process(&disk, Some(kills + 1)));
        if first.is_ok() {
            break;
        }
        block_on(process(&disk, None)).unwrap_or_else(|error| panic!("after change {kills}: {error}"));
        assert_eq!(content(&disk), expected, "killed at change {kills}");
        kills += 1;
    }
    assert!(kills > 40, "{kills} places to be killed at");
}

#[test]
fn a_run_killed_again_and_again_ends_the_same() {
    let whole = Rc::new(MemoryStorage::default());
    block_on(process(&whole, None)).unwrap();
    let disk = Rc::new(MemoryStorage::default());
    // Enough changes to reach the next checkpoint, at another place each time.
    let deaths = (0..20).filter(|kill| block_on(process(&disk, Some(22 + kill % 7))).is_err()).count();
    block_on(process(&disk, None)).unwrap();
    assert!(deaths >= 2, "{deaths}");
    assert_eq!(content(&disk), content(&whole));
}

fn counter_in_memory(last: u64, calls: &[(u64, Call)]) -> (Counter, RunFolder<MemoryStorage>) {
    let config = config(&[&format!("sft.max_steps={last}")]);
    let info = info(&config);
    let folder = block_on(RunFolder::create(MemoryStorage::default(), config, info)).unwrap().with_clock(|| 1.0);
    (Counter { calls: calls.to_vec(), ..Counter::new(last) }, folder)
}

#[test]
fn stopping_saves_and_the_run_goes_on_from_there() {
    let (mut trainer, mut folder) = counter_in_memory(14, &[(7, Call::Stop)]);
    let control = trainer.control.clone();
    let mut told = Vec::new();
    let end = block_on(run(&mut trainer, &mut folder, &mut told, &control)).unwrap();
    assert_eq!(end, RunEnd::Stopped("stopped by the user".to_owned()));
    assert_eq!(folder.latest_checkpoint().unwrap().step, 7);
    let reason = "stopped by the user".to_owned();
    assert_eq!(told.last(), Some(&TrainEvent::Stopped { step: 7, reason }));

    let mut again = block_on(Counter::from_folder(&folder)).unwrap();
    let end = block_on(run(&mut again, &mut folder, &mut (), &RunControl::new())).unwrap();
    assert_eq!(end, RunEnd::Finished(FinishReason::MaxSteps));
    let (mut whole, mut other) = counter_in_memory(14, &[]);
    block_on(run(&mut whole, &mut other, &mut (), &RunControl::new())).unwrap();
    assert_eq!(again, whole);
    let steps = |folder: &RunFolder<MemoryStorage>| {
        let events = block_on(folder.events()).unwrap();
        events.into_iter().filter(|logged| matches!(logged.event, TrainEvent::Step { .. })).collect::<Vec<_>>()
    };
    assert_eq!(steps(&folder), steps(&other));
}

#[test]
fn a_paused_run_waits_until_it_is_resumed_or_stopped() {
    for stop in [false, true] {
        let (mut trainer, mut folder) = counter_in_memory(6, &[(2, Call::Pause)]);
        let control = trainer.control.clone();
        let mut told = Vec::new();
        {
            let mut running = pin!(run(&mut trainer, &mut folder, &mut told, &control));
            let mut context = Context::from_waker(Waker::noop());
            let waits = (0..100).filter(|_| running.as_mut().poll(&mut context).is_pending()).count();
            assert_eq!(waits, 100);
            assert!(control.is_paused());
            if stop {
                control.stop("enough")
            } else {
                control.resume()
            }
            block_on(running).unwrap();
        }
        assert!(told.contains(&TrainEvent::Paused { step: 2 }));
        assert_eq!(told.contains(&TrainEvent::Resumed { step: 2 }), !stop);
        assert_eq!(trainer.step, if stop { 2 } else { 6 });
    }
}

#[test]
fn a_stopped_run_cannot_be_resumed_by_its_control() {
    let control = RunControl::new();
    control.stop("first");
    control.resume();
    control.pause();
    assert!(control.is_stopping() && !control.is_paused());
}

#[test]
fn a_failing_update_ends_the_run_with_a_word_in_the_events() {
    let (mut trainer, mut folder) = counter_in_memory(10, &[]);
    trainer.fails_at = Some(7);
    let error = block_on(run(&mut trainer, &mut folder, &mut (), &RunControl::new())).unwrap_err();
    assert!(matches!(error, RunError::Train(TrainError::Diverged { step: 7, .. })));
    let last = block_on(folder.events()).unwrap().pop().unwrap().event;
    assert!(matches!(last, TrainEvent::Stopped { step: 6, reason } if reason.contains("training has diverged")));
    assert_eq!(folder.latest_checkpoint().unwrap().step, 5, "what was good is there");
}

#[test]
fn a_finished_run_stays_as_it_is_and_more_steps_go_on() {
    let (mut trainer, mut folder) = counter_in_memory(6, &[]);
    block_on(run(&mut trainer, &mut folder, &mut (), &RunControl::new())).unwrap();
    let before = block_on(folder.storage().read("events.jsonl")).unwrap();
    let mut again = block_on(Counter::from_folder(&folder)).unwrap();
    block_on(run(&mut again, &mut folder, &mut (), &RunControl::new())).unwrap();
    assert_eq!(block_on(folder.storage().read("events.jsonl")).unwrap(), before);

    let more = ["sft.max_steps=9".to_owned()];
    let mut folder = block_on(RunFolder::open(folder.storage().clone(), &more)).unwrap();
    let mut longer = block_on(Counter::from_folder(&folder)).unwrap();
    block_on(run(&mut longer, &mut folder, &mut (), &RunControl::new())).unwrap();
    assert_eq!(longer.step, 9);
}
