//! Agents: whatever plays the model's part. Policies and remote models come later; replaying and scripted agents
//! are here because tests, ground truth and the page need them.

use std::collections::VecDeque;

use crate::message::{Awareness, Conversation, TokenUsage};
use crate::tool::ToolCall;

/// What an agent sees when it is asked.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// The conversation so far, with the tools available now.
    pub conversation: &'a Conversation,
    /// The turn being played, from 0.
    pub turn: usize,
    /// The step being asked for, from 0 in each turn.
    pub step: usize,
}

/// An agent's reply.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// Progress awareness, if it wrote one.
    pub awareness: Option<Awareness>,
    /// Text besides awareness and calls.
    pub content: String,
    /// Calls to execute, in order. None: the turn ends.
    pub calls: Vec<ToolCall>,
    /// Tokens it cost, where known.
    pub usage: Option<TokenUsage>,
}

/// An agent could not answer at all (a remote model is unreachable, say). A bad answer is not an error: it is a reply.
#[derive(Debug, thiserror::Error)]
#[error("the agent gave no reply: {reason}")]
pub struct AgentError {
    /// What went wrong and what to do about it.
    pub reason: String,
}

/// Whoever answers the user.
pub trait Agent {
    /// The name that goes into traces.
    fn name(&self) -> &str;

    /// One reply. Called once per step; an async function so that models can wait for a device or a network.
    fn reply(&mut self, observation: Observation<'_>) -> impl Future<Output = Result<Reply, AgentError>>;
}

/// The output of a future that never waits, such as the replies of [`Replay`] and [`Scripted`].
///
/// Panics when it does wait: that agent needs a runtime.
pub fn now<F: Future>(future: F) -> F::Output {
    match std::pin::pin!(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("this agent waits for something: run it in a runtime"),
    }
}

/// A trajectory in call strings: turns of steps of calls.
pub type Trajectory = Vec<Vec<Vec<String>>>;

/// Replays a given trajectory; answers without calls where a turn has no more steps.
#[derive(Clone, Debug)]
pub struct Replay {
    name: String,
    trajectory: Trajectory,
}

impl Replay {
    /// Replays `trajectory` under the given name.
    pub fn new(name: impl Into<String>, trajectory: Trajectory) -> Self {
        Self { name: name.into(), trajectory }
    }

    /// Replays a task's ground truth, one step a turn.
    pub fn ground_truth(task: &crate::task::TaskSpec) -> Self {
        let one_step = |calls: &[String]| if calls.is_empty() { Vec::new() } else { vec![calls.to_vec()] };
        Self::new("ground-truth", task.ground_truth().map(one_step).collect())
    }
}

impl Agent for Replay {
    fn name(&self) -> &str {
        &self.name
    }

    async fn reply(&mut self, observation: Observation<'_>) -> Result<Reply, AgentError> {
        let step = self.trajectory.get(observation.turn).and_then(|steps| steps.get(observation.step));
        let calls = step.into_iter().flatten().map(ToolCall::from_text).collect();
        Ok(Reply { calls, ..Reply::default() })
    }
}

/// Gives prepared replies in order, whatever it sees; replies without calls when they run out.
#[derive(Clone, Debug, Default)]
pub struct Scripted {
    replies: VecDeque<Reply>,
}

impl Scripted {
    /// An agent with these replies.
    pub fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self { replies: replies.into_iter().collect() }
    }

    /// Adds a reply at the end (a person plays the agent through this).
    pub fn push(&mut self, reply: Reply) {
        self.replies.push_back(reply);
    }
}

impl Agent for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    async fn reply(&mut self, _: Observation<'_>) -> Result<Reply, AgentError> {
        Ok(self.replies.pop_front().unwrap_or_default())
    }
}
