//! Plays a trajectory in call strings and keeps everything that a reader wants to look at: each call's result, the
//! state before and after it, what it changed, and the checker's verdict of each turn.
//!
//! The page recomputes a playback whenever a visitor edits a call, so that a change in one place shows everywhere. The
//! turns are played by [`Episode`], the one turn loop.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::agent::{Replay, Trajectory, now};
use crate::diff::{StateChange, diff};
use crate::env::Environment;
use crate::env::bfcl::checker::{Checker, overall};
use crate::env::bfcl::{BfclContext, BfclWorld, WorldError};
use crate::episode::{Episode, EpisodeOptions, Phase, STEP_LIMIT};
use crate::event::EpisodeEvent;
use crate::message::{Conversation, Turn};
use crate::task::TaskSpec;
use crate::tool::{ToolCall, ToolResult};
use crate::trace::{TurnVerdict, Verdict};

/// How far a trajectory has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// It is complete: every turn has ended, however many steps it took.
    #[default]
    Complete,
    /// Its last turn is still being played (a person decides what comes next), and the step limit holds.
    LastTurnOpen,
}

/// One executed call.
#[derive(Clone, Debug, PartialEq)]
pub struct PlayedCall {
    /// The turn it belongs to, from 0.
    pub turn: usize,
    /// The step of the turn.
    pub step: usize,
    /// Its place in the step.
    pub index: usize,
    /// The call string, as executed.
    pub text: String,
    /// What the world answered.
    pub result: ToolResult,
    /// The state before the call, by class.
    pub before: Arc<Json>,
    /// The state after it; the same allocation as `before` when nothing changed.
    pub after: Arc<Json>,
    /// What it changed.
    pub changes: Vec<StateChange>,
}

/// A played trajectory.
#[derive(Clone, Debug, PartialEq)]
pub struct Playback {
    /// What was said and done.
    pub conversation: Conversation,
    /// All calls in the order executed.
    pub calls: Vec<PlayedCall>,
    /// The state before the first call.
    pub initial_state: Arc<Json>,
    /// What the checker says of each turn that has ended.
    pub turn_verdicts: Vec<TurnVerdict>,
    /// What it says of the whole; `None` while a turn is open.
    pub verdict: Option<Verdict>,
}

impl Playback {
    /// Plays `trajectory` on a fresh world of `task`. Steps without calls are dropped. A step whose only call is the empty
    /// text stays, as somebody may be typing it; the scorer drops that too (`is_empty_step`).
    pub fn new(
        task: &TaskSpec,
        trajectory: &Trajectory,
        progress: Progress,
        context: &BfclContext,
    ) -> Result<Self, WorldError> {
        let trajectory: Trajectory =
            trajectory.iter().map(|steps| steps.iter().filter(|calls| !calls.is_empty()).cloned().collect()).collect();
        let world = BfclWorld::new(task, context)?;
        let mut checker = Checker::with_world(task, world.clone());
        let step_limit = match progress {
            Progress::Complete => usize::MAX,
            Progress::LastTurnOpen => STEP_LIMIT,
        };
        let options = EpisodeOptions { step_limit, ..EpisodeOptions::default() };
        let mut episode = Episode::new(task, Recording { world, states: Vec::new() }, options);
        let mut turn_verdicts = Vec::new();
        let mut agent = Replay::new("playback", trajectory.clone());
        while !is_played(episode.phase(), &trajectory, progress) {
            let events = now(episode.advance(&mut agent)).expect("a replay always replies");
            if events.iter().any(|event| matches!(event, EpisodeEvent::TurnEnded { .. })) {
                let turn = episode.conversation().turns.last().expect("a turn that ended was opened");
                let results: Vec<_> = turn.results().map(|result| result.content.clone()).collect();
                turn_verdicts.push(checker.check_turn(&episode.environment().world, results));
            }
        }
        let verdict = match progress {
            Progress::Complete => Some(overall(task, trajectory.len(), &turn_verdicts)),
            Progress::LastTurnOpen => episode.is_ended().then(|| overall(task, turn_verdicts.len(), &turn_verdicts)),
        };
        let (conversation, recording) = episode.into_parts();
        let calls = played_calls(&conversation.turns, &recording.states);
        let initial_state = recording.states[0].clone();
        Ok(Self { conversation, calls, initial_state, turn_verdicts, verdict })
    }

    /// The call at this place.
    pub fn call(&self, turn: usize, step: usize, index: usize) -> Option<&PlayedCall> {
        self.calls.iter().find(|call| (call.turn, call.step, call.index) == (turn, step, index))
    }

    /// The states before the first and after the last call of a turn.
    pub fn turn_states(&self, turn: usize) -> (&Arc<Json>, &Arc<Json>) {
        let before = self.calls.iter().rfind(|call| call.turn < turn).map_or(&self.initial_state, |call| &call.after);
        let after = self.calls.iter().rfind(|call| call.turn <= turn).map_or(&self.initial_state, |call| &call.after);
        (before, after)
    }
}

fn is_played(phase: Phase, trajectory: &Trajectory, progress: Progress) -> bool {
    match phase {
        Phase::Ended => true,
        Phase::BetweenTurns(turn) => turn >= trajectory.len(),
        Phase::InTurn { turn, step } => {
            progress == Progress::LastTurnOpen && turn + 1 >= trajectory.len() && step >= trajectory[turn].len()
        }
    }
}

fn played_calls(turns: &[Turn], states: &[Arc<Json>]) -> Vec<PlayedCall> {
    let places = turns.iter().enumerate().flat_map(|(turn, record)| {
        record.steps.iter().enumerate().flat_map(move |(step, taken)| {
            taken.calls.iter().zip(&taken.results).enumerate().map(move |(index, pair)| ((turn, step, index), pair))
        })
    });
    places
        .zip(states.windows(2))
        .map(|(((turn, step, index), (call, result)), states)| {
            let (before, after) = (states[0].clone(), states[1].clone());
            let changes = if Arc::ptr_eq(&before, &after) { Vec::new() } else { diff(&before, &after) };
            PlayedCall { turn, step, index, text: call.call_string(), result: result.clone(), before, after, changes }
        })
        .collect()
}

/// A world that remembers its state after every call. Unchanged states share their memory.
struct Recording {
    world: BfclWorld,
    states: Vec<Arc<Json>>,
}

impl Environment for Recording {
    fn reset(&mut self) {
        self.world.reset();
        self.states = vec![Arc::new(self.world.snapshot())];
    }

    fn call(&mut self, call: &ToolCall) -> ToolResult {
        let result = self.world.call(call);
        let state = self.world.snapshot();
        let last = self.states.last().expect("an episode resets its world first");
        let state = if **last == state { last.clone() } else { Arc::new(state) };
        self.states.push(state);
        result
    }

    fn snapshot(&self) -> Json {
        self.world.snapshot()
    }

    fn same_state(&self, other: &Self) -> bool {
        self.world.same_state(&other.world)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::message::Message;
    use crate::task::TaskTurn;
    use crate::trace::ErrorType;

    fn task() -> TaskSpec {
        let turn = |ground_truth: &[&str]| TaskTurn {
            messages: vec![Message::user("Please.")],
            ground_truth: ground_truth.iter().map(|call| (*call).to_owned()).collect(),
            ..TaskTurn::default()
        };
        let config = json!({"GorillaFileSystem": {"root": {"home": {"type": "directory", "contents": {}}}}});
        TaskSpec {
            id: "example".into(),
            category: "base".into(),
            classes: vec!["GorillaFileSystem".into()],
            initial_config: serde_json::from_value(config).expect("a config is an object"),
            turns: vec![turn(&["touch(file_name='a')", "ls()"]), turn(&[]), turn(&["touch(file_name='b')"])],
            ..TaskSpec::default()
        }
    }

    fn trajectory(turns: &[&[&[&str]]]) -> Trajectory {
        let texts = |calls: &&[&str]| calls.iter().map(|call| (*call).to_owned()).collect();
        turns.iter().map(|steps| steps.iter().map(texts).collect()).collect()
    }

    fn play(turns: &[&[&[&str]]], progress: Progress) -> Playback {
        Playback::new(&task(), &trajectory(turns), progress, &BfclContext::default()).expect("the task has a world")
    }

    #[test]
    fn each_call_has_its_result_states_and_changes() {
        let played = play(&[&[&["touch(file_name='a')"], &[], &["ls()"]], &[], &[&["touch('b')"]]], Progress::Complete);
        assert_eq!(played.verdict, Some(Verdict { valid: true, error_type: None, turn: None }));
        let places: Vec<_> = played.calls.iter().map(|call| (call.turn, call.step, call.index)).collect();
        assert_eq!(places, [(0, 0, 0), (0, 1, 0), (2, 0, 0)]);
        let [touch, list, other] = &played.calls[..] else { panic!("three calls") };
        assert_eq!((touch.result.content.as_str(), touch.changes.len()), ("None", 1));
        assert!(Arc::ptr_eq(&touch.after, &list.before) && Arc::ptr_eq(&list.before, &list.after));
        assert!(list.changes.is_empty() && list.result.content.contains("\"a\""));
        assert_eq!(played.turn_states(0), (&played.initial_state, &touch.after));
        assert_eq!(played.turn_states(1), (&touch.after, &touch.after));
        assert_eq!(played.turn_states(2), (&list.after, &other.after));
        assert!(played.turn_verdicts[1].unchecked);
        assert_eq!(played.call(2, 0, 0), Some(other));
        assert_eq!(played.call(1, 0, 0), None);
    }

    #[test]
    fn verdicts_are_those_of_scoring() {
        for turns in [
            &[&[&["touch('a')", "ls()"][..]][..], &[], &[]][..],
            &[&[&["touch('a')"]], &[], &[&["touch('b')"]]],
            &[&[&["touch('x')", "ls()"]], &[], &[&["touch('b')"]]],
            &[&[&["nonsense("]], &[&["ls()"]], &[&["touch('b')"]]],
            &[&[&["touch('a')", "ls()"]]],
        ] {
            let played = play(turns, Progress::Complete);
            let score = crate::env::bfcl::score_trajectory(&task(), &trajectory(turns), &BfclContext::default());
            let score = score.expect("the task has a world");
            assert_eq!(played.verdict, Some(score.verdict));
            assert_eq!(played.turn_verdicts, score.turn_verdicts);
        }
    }

    #[test]
    fn an_open_turn_has_no_verdict() {
        let played = play(&[&[&["touch('a')"]]], Progress::LastTurnOpen);
        assert_eq!((played.turn_verdicts.len(), played.verdict), (0, None));
        let played = play(&[&[&["touch('a')", "ls()"]], &[]], Progress::LastTurnOpen);
        assert_eq!((played.turn_verdicts.len(), played.conversation.turns.len()), (1, 2));
        // Past the step limit the turn is cut off, and later turns do not run.
        let steps = vec![&["ls()"][..]; STEP_LIMIT + 1];
        let played = play(&[&steps], Progress::LastTurnOpen);
        let verdict = played.verdict.expect("the conversation is over");
        assert_eq!(verdict.error_type, Some(ErrorType::ForceTerminated));
    }
}
