//! Rollouts of one answer each: a prompt, a completion, a reward.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::advantage::RewardTerm;
use super::trainer::{Rollout, RolloutGroup, RolloutRequest, RolloutSource, Sample};
use crate::generation::{Cancel, Completion, FinishReason, GenerationError, GenerationOptions, Group, generate};
use crate::model::Transformer;
use crate::train::batch::Sequence;
use crate::train::sft::permutation;

/// Tasks that one completion answers.
pub trait PromptTasks {
    /// How many tasks there are; at least one.
    fn count(&self) -> usize;

    /// A task's name and prompt.
    fn prompt(&self, task: usize) -> (String, Vec<u32>);

    /// The named parts of the reward.
    fn reward_terms(&self) -> Vec<RewardTerm>;

    /// What a completion of a task earns, a value for each term.
    fn rewards(&self, task: usize, completion: &Completion) -> Vec<Option<f64>>;
}

/// Samples completions of prompts.
pub struct PromptSource<T> {
    tasks: T,
    options: GenerationOptions,
    cancel: Cancel,
}

impl<T: PromptTasks> PromptSource<T> {
    /// Samples with these options; their seed also decides the order of the tasks.
    pub fn new(tasks: T, options: GenerationOptions, cancel: Cancel) -> Self {
        Self { tasks, options, cancel }
    }

    /// The tasks.
    pub fn tasks(&self) -> &T {
        &self.tasks
    }

    /// Tasks of a request. The first round goes through all tasks in an order of its own for each epoch; later rounds
    /// draw at random.
    fn choose(&self, request: RolloutRequest) -> Vec<usize> {
        let count = self.tasks.count() as u64;
        if request.round > 0 {
            let mut random = ChaCha8Rng::seed_from_u64(self.options.seed ^ request.round);
            random.set_stream(request.generation);
            return (0..request.groups).map(|_| (random.next_u64() % count) as usize).collect();
        }
        let mut order = (u64::MAX, Vec::new());
        let first = request.generation * request.groups as u64;
        (first..first + request.groups as u64)
            .map(|index| {
                if order.0 != index / count {
                    order = (index / count, permutation(count as usize, self.options.seed, index / count));
                }
                order.1[(index % count) as usize]
            })
            .collect()
    }
}

impl<T: PromptTasks> RolloutSource for PromptSource<T> {
    fn reward_terms(&self) -> Vec<RewardTerm> {
        self.tasks.reward_terms()
    }

    async fn rollouts(
        &mut self,
        policy: &Transformer,
        request: RolloutRequest,
    ) -> Result<Vec<RolloutGroup>, GenerationError> {
        let tasks = self.choose(request);
        let named: Vec<(String, Vec<u32>)> = tasks.iter().map(|&task| self.tasks.prompt(task)).collect();
        // No two sequences of a run have the same number: a step has fewer than 2³² in all its rounds.
        let number = |group: usize, generation: usize| {
            let in_round = (group * request.num_generations + generation) as u64;
            (request.generation << 32) | (request.round << 24) | in_round
        };
        let groups: Vec<Group> = named
            .iter()
            .enumerate()
            .map(|(group, (_, prompt))| Group {
                prompt: prompt.clone(),
                sequences: (0..request.num_generations).map(|generation| number(group, generation)).collect(),
            })
            .collect();
        let completions = generate(policy, &groups, &self.options, &self.cancel, |_| ()).await?;
        let rollout = |task: usize, prompt: &[u32], completion: Completion| Rollout {
            rewards: self.tasks.rewards(task, &completion),
            turn_rewards: Vec::new(),
            truncated: completion.finish_reason != FinishReason::Stop,
            entropy_sum: completion.entropy.iter().map(|&entropy| f64::from(entropy)).sum(),
            samples: vec![Sample { sequence: Sequence::new(prompt.to_vec(), completion.tokens), turn: 0 }],
        };
        Ok(tasks
            .into_iter()
            .zip(named)
            .zip(completions)
            .map(|((task, (name, prompt)), completions)| RolloutGroup {
                task: name,
                rollouts: completions.into_iter().map(|completion| rollout(task, &prompt, completion)).collect(),
            })
            .collect())
    }
}
