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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{Reply, Scripted};
    use crate::task::TaskTurn;
    use crate::tool::{ToolCall, ToolResult, ToolSpec};
    use serde_json::json;

    /// A world that counts calls.
    #[derive(Default)]
    struct Counter(u64);

    impl Environment for Counter {
        fn reset(&mut self) {
            self.0 = 0;
        }

        fn call(&mut self, _: &ToolCall) -> ToolResult {
            self.0 += 1;
            ToolResult { content: self.0.to_string(), ..ToolResult::default() }
        }

        fn snapshot(&self) -> Json {
            json!({ "count": self.0 })
        }

        fn same_state(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }

    fn tool(name: &str) -> ToolSpec {
        ToolSpec { name: name.into(), description: String::new(), parameters: json!({}), response: None }
    }

    fn task(turns: usize) -> TaskSpec {
        let turn =
            |index: usize| TaskTurn { messages: vec![Message::user(format!("turn {index}"))], ..TaskTurn::default() };
        TaskSpec {
            turns: (0..turns).map(turn).collect(),
            tools: vec![tool("now"), tool("later")],
            ..TaskSpec::default()
        }
    }

    fn calling(count: usize) -> Reply {
        Reply { calls: vec![ToolCall::new("now", serde_json::Map::new()); count], ..Reply::default() }
    }

    fn finish<E: Environment>(mut episode: Episode<'_, E>, agent: &mut Scripted) -> (Vec<EpisodeEvent>, Conversation) {
        let events = crate::agent::now(episode.run(agent));
        (events.expect("a scripted agent always replies"), episode.into_parts().0)
    }

    #[test]
    fn a_reply_without_calls_ends_the_turn() {
        let task = task(2);
        let mut agent = Scripted::new([calling(2), calling(1), Reply::default(), Reply::default()]);
        let episode = Episode::new(&task, Counter(7), EpisodeOptions { record_changes: true, ..Default::default() });
        let (events, conversation) = finish(episode, &mut agent);
        let steps: Vec<_> = conversation.turns.iter().map(|turn| turn.steps.len()).collect();
        assert_eq!(steps, [3, 1]);
        let results: Vec<_> = conversation.turns[0].results().map(|result| result.content.as_str()).collect();
        assert_eq!(results, ["1", "2", "3"], "the world starts from its initial state");
        assert_eq!(conversation.turns[0].steps[0].changes[1][0].after, Some(json!(2)));
        assert_eq!(events.last(), Some(&EpisodeEvent::EpisodeEnded { turns: 2 }));
    }

    #[test]
    fn the_step_past_the_limit_is_executed_and_then_the_episode_ends() {
        let task = task(2);
        let mut agent = Scripted::new(std::iter::repeat_n(calling(1), 50));
        let (events, conversation) = finish(Episode::new(&task, Counter(0), EpisodeOptions::default()), &mut agent);
        assert_eq!(conversation.turns.len(), 1, "later turns do not run");
        assert_eq!(conversation.turns[0].steps.len(), STEP_LIMIT + 1);
        assert_eq!(conversation.turns[0].end, Some(TurnEnd::ForceQuit));
        assert_eq!(events.last(), Some(&EpisodeEvent::EpisodeEnded { turns: 1 }));
    }

    #[test]
    fn held_out_tools_join_at_their_turn_with_the_prompt_for_it() {
        let mut task = task(2);
        task.turns[1] = TaskTurn { added_tools: vec!["later".into()], ..TaskTurn::default() };
        let episode = Episode::new(&task, Counter(0), EpisodeOptions::default());
        assert_eq!(episode.conversation().tools.len(), 1);
        let (_, conversation) = finish(episode, &mut Scripted::default());
        assert_eq!(conversation.tools.len(), 2);
        assert_eq!(conversation.turns[1].messages, [Message::user(ADDED_TOOLS_PROMPT)]);
    }
}
