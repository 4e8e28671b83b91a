//! The turn loop, one function for every agent and environment, that can be advanced one unit at a time.
//!
//! It is BFCL's loop: in each turn the agent is asked until a reply holds no call; each call is executed in order and
//! its result appended; past [`STEP_LIMIT`] steps the turn is force-quit and later turns do not run. Tools that a task
//! holds back join at their turn.

use serde_json::Value as Json;

use crate::agent::{Agent, AgentError, Observation};
use crate::diff::diff;
use crate::env::Environment;
use crate::event::EpisodeEvent;
use crate::message::{Conversation, Message, Step, Turn, TurnEnd};
use crate::task::TaskSpec;

/// Steps that a turn may take; the step after it is the last (BFCL's `MAXIMUM_STEP_LIMIT`).
pub const STEP_LIMIT: usize = 20;

/// What the user says when held-out tools arrive in a turn without words of its own (BFCL's text).
pub const ADDED_TOOLS_PROMPT: &str = "I have updated some more functions you can choose from. What about now?";

/// How an episode is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpisodeOptions {
    /// Steps that a turn may take before it is force-quit.
    pub step_limit: usize,
    /// Whether to record what each call changes (costs a snapshot per call).
    pub record_changes: bool,
}

impl Default for EpisodeOptions {
    fn default() -> Self {
        Self { step_limit: STEP_LIMIT, record_changes: false }
    }
}

/// Where an episode stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The next advance opens this turn.
    BetweenTurns(usize),
    /// The next advance asks the agent for this step.
    InTurn {
        /// The turn being played.
        turn: usize,
        /// The step that comes next.
        step: usize,
    },
    /// Nothing is left to do.
    Ended,
}

/// One conversation being played.
pub struct Episode<'a, E> {
    task: &'a TaskSpec,
    environment: E,
    options: EpisodeOptions,
    conversation: Conversation,
    phase: Phase,
}

impl<'a, E: Environment> Episode<'a, E> {
    /// An episode before its first turn, in `environment`'s initial state.
    pub fn new(task: &'a TaskSpec, mut environment: E, options: EpisodeOptions) -> Self {
        environment.reset();
        let tools = task.tools.iter().filter(|tool| !task.is_held_out(&tool.name)).cloned().collect();
        let phase = if task.turns.is_empty() { Phase::Ended } else { Phase::BetweenTurns(0) };
        Self { task, environment, options, conversation: Conversation { tools, turns: Vec::new() }, phase }
    }

    /// Where the episode stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether nothing is left to do.
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// The conversation so far.
    pub fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// The world as it is now.
    pub fn environment(&self) -> &E {
        &self.environment
    }

    /// The conversation and the world, at whatever point.
    pub fn into_parts(self) -> (Conversation, E) {
        (self.conversation, self.environment)
    }

    /// Does the next unit of work (open a turn, or take one step and perhaps end the turn) and tells what happened.
    /// Does nothing and tells nothing once ended. After an [`AgentError`] the episode is as before: try again.
    pub async fn advance(&mut self, agent: &mut impl Agent) -> Result<Vec<EpisodeEvent>, AgentError> {
        match self.phase {
            Phase::Ended => Ok(Vec::new()),
            Phase::BetweenTurns(turn) => Ok(vec![self.open_turn(turn)]),
            Phase::InTurn { turn, step } => {
                let reply = agent.reply(Observation { conversation: &self.conversation, turn, step }).await?;
                let taken = Step {
                    awareness: reply.awareness,
                    content: reply.content,
                    calls: reply.calls,
                    usage: reply.usage,
                    ..Step::default()
                };
                Ok(self.take_step(turn, step, taken))
            }
        }
    }

    /// Advances until the episode has ended.
    pub async fn run(&mut self, agent: &mut impl Agent) -> Result<Vec<EpisodeEvent>, AgentError> {
        let mut events = Vec::new();
        while !self.is_ended() {
            events.extend(self.advance(agent).await?);
        }
        Ok(events)
    }

    fn open_turn(&mut self, turn: usize) -> EpisodeEvent {
        let spec = &self.task.turns[turn];
        let mut messages = spec.messages.clone();
        let added: Vec<_> =
            self.task.tools.iter().filter(|tool| spec.added_tools.contains(&tool.name)).cloned().collect();
        self.conversation.tools.extend(added);
        if messages.is_empty() && !spec.added_tools.is_empty() {
            messages.push(Message::user(ADDED_TOOLS_PROMPT));
        }
        self.conversation.turns.push(Turn {
            messages: messages.clone(),
            added_tools: spec.added_tools.clone(),
            ..Turn::default()
        });
        self.phase = Phase::InTurn { turn, step: 0 };
        EpisodeEvent::TurnStarted { turn, messages, added_tools: spec.added_tools.clone() }
    }

    fn take_step(&mut self, turn: usize, step: usize, mut taken: Step) -> Vec<EpisodeEvent> {
        let mut state = self.options.record_changes.then(|| self.environment.snapshot());
        for call in &taken.calls {
            taken.results.push(self.environment.call(call));
            if let Some(before) = &mut state {
                let after: Json = self.environment.snapshot();
                taken.changes.push(diff(before, &after));
                *before = after;
            }
        }
        let end = if taken.calls.is_empty() {
            Some(TurnEnd::Answered)
        } else if step + 1 > self.options.step_limit {
            Some(TurnEnd::ForceQuit)
        } else {
            None
        };
        let mut events = vec![EpisodeEvent::StepTaken { turn, step, content: Box::new(taken.clone()) }];
        let record = self.conversation.turns.last_mut().expect("a step is taken only in an open turn");
        record.steps.push(taken);
        record.end = end;
        self.phase = match end {
            None => Phase::InTurn { turn, step: step + 1 },
            Some(TurnEnd::Answered) if turn + 1 < self.task.turns.len() => Phase::BetweenTurns(turn + 1),
            Some(_) => Phase::Ended,
        };
        if let Some(end) = end {
            events.push(EpisodeEvent::TurnEnded { turn, end });
        }
        if self.is_ended() {
            events.push(EpisodeEvent::EpisodeEnded { turns: turn + 1 });
        }
        events
    }
}
