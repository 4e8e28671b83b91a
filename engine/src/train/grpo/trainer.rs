//! The GRPO loop: sample groups, compare, update.

use burn::tensor::{Tensor, TensorData};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::advantage::{
    CompletionStatistics, RewardTable, RewardTerm, ScaleRewards, group_advantages, turn_advantages,
};
use super::loss::{LossNormalizer, LossOptions, PolicyLossInput, PolicyMetrics, policy_loss};
use crate::generation::GenerationError;
use crate::model::Transformer;
use crate::platform;
use crate::train::TrainError;
use crate::train::batch::{Batch, Sequence};
use crate::train::optimizer::AdamWOptions;
use crate::train::policy::{Policy, token_logps};
use crate::train::schedule::Schedule;
use crate::train::sft::read_all;

/// What one call of the model read and wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Context and completion, as token ids that were really read and sampled.
    pub sequence: Sequence,
    /// The turn that it belongs to, from 0, for turn-level advantages.
    pub turn: usize,
}

/// One trajectory: every call of the model from the task's beginning to its end, with what it earned.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// The model's calls, in order.
    pub samples: Vec<Sample>,
    /// A value for each of the source's [reward terms](RolloutSource::reward_terms); `None` where a term does not apply.
    pub rewards: Vec<Option<f64>>,
    /// What each turn earned, for turn-level advantages; may be empty where they are not used.
    pub turn_rewards: Vec<f64>,
    /// Whether the length limit ended it.
    pub truncated: bool,
    /// Sum of the entropies of the distributions that its tokens were drawn from, in nats.
    pub entropy_sum: f64,
}

impl Rollout {
    /// Tokens that it sampled.
    pub fn sampled_tokens(&self) -> usize {
        self.samples.iter().map(|sample| sample.sequence.loss_tokens()).sum()
    }
}

/// Rollouts of one task.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutGroup {
    /// The task's name, for traces.
    pub task: String,
    /// As many as were asked for.
    pub rollouts: Vec<Rollout>,
}

/// What a trainer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutRequest {
    /// The generation, from 0: one for each time that the trainer samples.
    pub generation: u64,
    /// 0 for the generation's first request, then 1, 2, … where groups are resampled.
    pub round: u64,
    /// Tasks.
    pub groups: usize,
    /// Rollouts of each.
    pub num_generations: usize,
}

/// Plays tasks with the policy and scores what came of it: single answers, or conversations with tools.
///
/// What it returns must depend on the request, the policy and its own seed alone, so that a run can be resumed.
pub trait RolloutSource {
    /// The named parts of the reward, with their weights.
    fn reward_terms(&self) -> Vec<RewardTerm>;

    /// Groups of rollouts under the policy, which is without autodiff.
    fn rollouts(
        &mut self,
        policy: &Transformer,
        request: RolloutRequest,
    ) -> impl Future<Output = Result<Vec<RolloutGroup>, GenerationError>>;
}

/// From whose rewards a token's advantage is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum AdvantageLevel {
    /// Every token of a rollout has the rollout's advantage.
    #[default]
    Trajectory,
    /// A token has its turn's: see [`turn_advantages`].
    Turn {
        /// By how much later turns count: 0 not at all, 1 fully.
        gamma: f64,
    },
}

/// Options of GRPO, under TRL's names where TRL has them.
#[derive(Clone, Debug, PartialEq)]
pub struct GrpoOptions {
    /// Rollouts of a task, the group that rewards are compared in.
    pub num_generations: usize,
    /// Rollouts that the model reads at once.
    pub batch_size: usize,
    /// Passes whose gradients are added up before an update.
    pub gradient_accumulation_steps: usize,
    /// Passes that one generation lasts for: `batch_size * steps_per_generation` rollouts are sampled at once. Where that
    /// is more than an update reads, later updates are off-policy.
    pub steps_per_generation: usize,
    /// Which loss, its clipping and its KL term.
    pub loss: LossOptions,
    /// What divides the centred rewards.
    pub scale_rewards: ScaleRewards,
    /// Advantages of trajectories or of turns.
    pub advantage_level: AdvantageLevel,
    /// How often each generation is learnt from (`μ` in the paper).
    pub num_iterations: usize,
    /// Sampling temperature, which also divides the logits in the loss.
    pub temperature: f32,
    /// Length limit of a completion, in tokens: the constant of `dr_grpo`.
    pub max_completion_length: usize,
    /// Rollouts that the length limit ended carry no loss.
    pub mask_truncated_completions: bool,
    /// How often groups whose rewards are all equal are replaced by others (DAPO's dynamic sampling); 0: never.
    pub max_resample_rounds: u64,
    /// Learning rate by step.
    pub schedule: Schedule,
    /// Constants of AdamW.
    pub optimizer: AdamWOptions,
    /// Compute cheap operators again instead of keeping their results.
    pub gradient_checkpointing: bool,
}

/// Trains a policy from the rewards of its own rollouts.
pub struct GrpoTrainer<S> {
    policy: Policy,
    /// The frozen policy of the KL term, where there is one.
    reference: Option<Transformer>,
    source: S,
    options: GrpoOptions,
    progress: Progress,
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Updates made.
    pub step: u64,
    /// Tokens read and sampled in rollouts so far.
    pub num_tokens: u64,
    /// Rollouts that are still to be learnt from.
    pub buffer: Option<Buffer>,
}

/// What a step gives.
#[derive(Clone, Debug)]
pub struct GrpoStep {
    /// Metrics under TRL's names. Those of rollouts are there in the steps that sampled.
    pub metrics: IndexMap<String, f64>,
    /// What was sampled; none in a step that learns from an earlier step's rollouts.
    pub sampled: Option<Sampled>,
}

/// Rollouts of a generation with their advantages.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// All groups.
    pub groups: Vec<RolloutGroup>,
    /// One for each rollout, groups one after the other: the mean over its tokens.
    pub advantages: Vec<f32>,
}

/// Rollouts of a generation that are still to be learnt from. Part of a checkpoint: the policy that sampled them is gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Buffer {
    learnt: Vec<Learnt>,
    /// Updates made from them.
    updates: usize,
}

/// What a rollout is learnt from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Learnt {
    sequences: Vec<Sequence>,
    /// `[n]`, one for each token that carries loss.
    advantages: Vec<f32>,
    /// Log-probabilities under the policy that sampled, `[n]`, where the policy will have moved before the last update.
    old_per_token_logps: Option<Vec<f32>>,
}

impl<S: RolloutSource> GrpoTrainer<S> {
    /// Starts at step 0, from a model that may be on a device without autodiff. The model is also the reference policy.
    pub fn new(model: &Transformer, source: S, options: GrpoOptions) -> Result<Self, TrainError> {
        let policy = Policy::new(model, options.optimizer, options.gradient_checkpointing);
        let reference = policy.inference();
        Self::resume(policy, Some(reference), source, options, Progress::default())
    }

    /// Goes on from a checkpoint. A KL term needs the reference policy.
    pub fn resume(
        policy: Policy,
        reference: Option<Transformer>,
        source: S,
        options: GrpoOptions,
        progress: Progress,
    ) -> Result<Self, TrainError> {
        options.loss.validate().map_err(|error| TrainError::Options(error.to_string()))?;
        let refuse = |text: &str| Err(TrainError::Options(text.to_owned()));
        if options.num_generations < 2 {
            return refuse(
                "num_generations is below 2: an advantage compares rollouts of one task, so give at least 2.",
            );
        }
        let generated = options.batch_size * options.steps_per_generation;
        if generated == 0 || !generated.is_multiple_of(options.num_generations) {
            return refuse(
                "batch_size * steps_per_generation must be a multiple of num_generations: groups are sampled whole.",
            );
        }
        if !options.steps_per_generation.is_multiple_of(options.gradient_accumulation_steps.max(1)) {
            return refuse(
                "steps_per_generation must be a multiple of gradient_accumulation_steps: updates are made of whole passes.",
            );
        }
        let reference = reference.filter(|_| options.loss.beta != 0.0);
        if options.loss.beta != 0.0 && reference.is_none() {
            return refuse("beta is not 0, but there is no reference policy.");
        }
        Ok(Self { policy, reference, source, options, progress })
    }

    /// The policy and its optimizer.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The frozen policy of the KL term.
    pub fn reference(&self) -> Option<&Transformer> {
        self.reference.as_ref()
    }

    /// What rollouts come from.
    pub fn source(&mut self) -> &mut S {
        &mut self.source
    }

    /// How far it is: part of a checkpoint.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Updates that a generation lasts for.
    fn updates_per_generation(&self) -> usize {
        self.updates_per_iteration() * self.options.num_iterations.max(1)
    }

    fn updates_per_iteration(&self) -> usize {
        self.options.steps_per_generation / self.options.gradient_accumulation_steps.max(1)
    }

    /// One update; samples first where nothing is left to learn from.
    pub async fn step(&mut self) -> Result<GrpoStep, TrainError> {
        let begun = platform::now();
        let mut metrics = IndexMap::new();
        let mut sampled = None;
        let mut tokens = 0;
        if self.progress.buffer.is_none() {
            let groups = self.sample(&mut metrics).await?;
            let rollouts: Vec<&Rollout> = groups.iter().flat_map(|group| &group.rollouts).collect();
            let mut learnt = self.compare(&rollouts, &mut metrics);
            describe(&rollouts, &mut metrics);
            tokens = rollouts.iter().flat_map(|r| &r.samples).map(|sample| sample.sequence.len()).sum();
            if self.updates_per_generation() > 1 {
                self.remember(&mut learnt).await?;
            }
            let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len().max(1) as f32;
            let advantages = learnt.iter().map(|learnt| mean(&learnt.advantages)).collect();
            self.progress.buffer = Some(Buffer { learnt, updates: 0 });
            metrics.insert("rollout_time".to_owned(), platform::now() - begun);
            sampled = Some(Sampled { groups, advantages });
        }
        let learning_rate = self.options.schedule.learning_rate(self.progress.step);
        let mut buffer = self.progress.buffer.take().expect("filled above");
        let per_update = self.options.batch_size * self.options.gradient_accumulation_steps.max(1);
        let first = buffer.updates % self.updates_per_iteration() * per_update;
        let last = (first + per_update).min(buffer.learnt.len());
        metrics.extend(self.learn(&buffer.learnt[first..last], learning_rate).await?);
        buffer.updates += 1;
        if buffer.updates < self.updates_per_generation() {
            self.progress.buffer = Some(buffer);
        }
        self.progress.step += 1;
        self.progress.num_tokens += tokens as u64;
        let seconds = platform::now() - begun;
        metrics.insert("learning_rate".to_owned(), learning_rate);
        metrics.insert("num_tokens".to_owned(), self.progress.num_tokens as f64);
        metrics.insert("step_time".to_owned(), seconds);
        metrics.insert("tokens_per_second".to_owned(), tokens as f64 / seconds.max(1e-9));
        Ok(GrpoStep { metrics, sampled })
    }

    /// Rollouts of a generation, resampled where nothing can be learnt from a group.
    async fn sample(&mut self, metrics: &mut IndexMap<String, f64>) -> Result<Vec<RolloutGroup>, TrainError> {
        let policy = self.policy.inference();
        let num_generations = self.options.num_generations;
        let wanted = self.options.batch_size * self.options.steps_per_generation / num_generations;
        let generation = self.progress.step / self.updates_per_generation() as u64;
        let mut kept: Vec<RolloutGroup> = Vec::new();
        let mut spare: Vec<RolloutGroup> = Vec::new();
        for round in 0..=self.options.max_resample_rounds {
            let request = RolloutRequest { generation, round, groups: wanted - kept.len(), num_generations };
            for group in self.source.rollouts(&policy, request).await? {
                assert_eq!(group.rollouts.len(), num_generations, "the source gives what was asked for");
                let informative = self.options.max_resample_rounds == 0 || {
                    let totals = self.table(&group.rollouts.iter().collect::<Vec<_>>()).totals();
                    group_advantages(&totals, num_generations, ScaleRewards::Group).informative_groups[0]
                };
                if informative { kept.push(group) } else { spare.push(group) }
            }
            if kept.len() == wanted {
                break;
            }
        }
        if self.options.max_resample_rounds > 0 {
            metrics.insert("dynamic_sampling/dropped_groups".to_owned(), spare.len() as f64);
        }
        // Rather a batch of the promised size that teaches less than none: tasks may all be solved by now.
        kept.extend(spare.into_iter().take(wanted - kept.len()));
        Ok(kept)
    }

    /// Notes each rollout's log-probabilities under the policy as it is.
    async fn remember(&self, learnt: &mut [Learnt]) -> Result<(), TrainError> {
        let model = self.policy.inference();
        for pass in learnt.chunks_mut(self.options.batch_size) {
            let sequences: Vec<&Sequence> = pass.iter().flat_map(|learnt| &learnt.sequences).collect();
            let batch = Batch::new(&sequences);
            if batch.targets.is_empty() {
                continue;
            }
            let logps = read_all(vec![token_logps(&model, &batch, self.options.temperature).logps]).await?;
            let mut logps = logps.into_iter().map(|logp| logp as f32);
            for learnt in pass {
                learnt.old_per_token_logps = Some(logps.by_ref().take(learnt.advantages.len()).collect());
            }
            platform::yield_now().await;
        }
        Ok(())
    }

    fn table(&self, rollouts: &[&Rollout]) -> RewardTable {
        let mut table = RewardTable::new(self.source.reward_terms());
        for rollout in rollouts {
            table.push(rollout.rewards.clone());
        }
        table
    }

    /// Advantages, and what carries loss with which advantage.
    fn compare(&self, rollouts: &[&Rollout], metrics: &mut IndexMap<String, f64>) -> Vec<Learnt> {
        let (num_generations, scale) = (self.options.num_generations, self.options.scale_rewards);
        let table = self.table(rollouts);
        metrics.extend(table.metrics());
        let whole = group_advantages(&table.totals(), num_generations, scale);
        metrics.insert("frac_reward_zero_std".to_owned(), whole.frac_reward_zero_std);
        let by_turn = match self.options.advantage_level {
            AdvantageLevel::Trajectory => None,
            AdvantageLevel::Turn { gamma } => {
                let rewards: Vec<Vec<f64>> = rollouts.iter().map(|rollout| rollout.turn_rewards.clone()).collect();
                Some(turn_advantages(&rewards, num_generations, scale, gamma))
            }
        };
        let advantage_of = |index: usize, turn: usize| match &by_turn {
            None => whole.advantages[index],
            Some(turns) => turns[index].get(turn).copied().unwrap_or(0.0),
        };
        let learnt = rollouts.iter().enumerate().map(|(index, rollout)| {
            let mut sequences: Vec<Sequence> = rollout.samples.iter().map(|sample| sample.sequence.clone()).collect();
            if rollout.truncated && self.options.mask_truncated_completions {
                sequences.iter_mut().for_each(|sequence| sequence.loss_mask.fill(false));
            }
            let advantages = rollout.samples.iter().zip(&sequences).flat_map(|(sample, sequence)| {
                std::iter::repeat_n(advantage_of(index, sample.turn), sequence.loss_tokens())
            });
            Learnt { advantages: advantages.collect(), sequences, old_per_token_logps: None }
        });
        learnt.collect()
    }

    /// One update from some rollouts.
    async fn learn(&mut self, learnt: &[Learnt], learning_rate: f64) -> Result<Vec<(String, f64)>, TrainError> {
        let normalizer = LossNormalizer {
            num_sequences: learnt.len(),
            num_tokens: learnt.iter().map(|learnt| learnt.advantages.len()).sum(),
            max_completion_length: self.options.max_completion_length,
        };
        // Without a KL term nothing is learnt where all advantages are 0: such rollouts count in the means, and are not read.
        let has_kl = self.options.loss.beta != 0.0;
        let moves = |learnt: &&Learnt| {
            !learnt.advantages.is_empty() && (has_kl || learnt.advantages.iter().any(|advantage| *advantage != 0.0))
        };
        let moving: Vec<&Learnt> = learnt.iter().filter(moves).collect();
        let mut merged: Option<PolicyMetrics> = None;
        for pass in moving.chunks(self.options.batch_size) {
            let metrics = self.pass(pass, normalizer);
            merged = Some(match merged {
                None => metrics,
                Some(so_far) => so_far.merge(metrics),
            });
            platform::yield_now().await;
        }
        let mut metrics: Vec<(String, f64)> = Vec::new();
        let mut grad_norm = 0.0;
        match merged {
            None => metrics.extend(["loss", "clip_ratio/region_mean"].map(|name| (name.to_owned(), 0.0))),
            Some(merged) => {
                let values = merged.read().await.map_err(|error| TrainError::Device(format!("{error:?}")))?;
                if !values.loss.is_finite() {
                    self.policy.discard_gradients();
                    return Err(TrainError::Diverged { step: self.progress.step + 1, loss: f64::from(values.loss) });
                }
                grad_norm = self.policy.update(learning_rate).await;
                // No ratio of a rollout that was left out is clipped, but it counts: shares are of all tokens.
                let read: usize = moving.iter().map(|learnt| learnt.advantages.len()).sum();
                let share = read as f64 / normalizer.num_tokens.max(1) as f64;
                metrics.extend(values.metrics().into_iter().map(|(name, value)| {
                    let value = if name.starts_with("clip_ratio") { value * share } else { value };
                    (name.to_owned(), value)
                }));
            }
        }
        metrics.push(("grad_norm".to_owned(), grad_norm));
        Ok(metrics)
    }

    /// Adds the gradient of some rollouts.
    fn pass(&mut self, learnt: &[&Learnt], normalizer: LossNormalizer) -> PolicyMetrics {
        let temperature = self.options.temperature;
        let sequences: Vec<&Sequence> = learnt.iter().flat_map(|learnt| &learnt.sequences).collect();
        let batch = Batch::new(&sequences);
        let advantages: Vec<f32> = learnt.iter().flat_map(|learnt| learnt.advantages.iter().copied()).collect();
        let lengths: Vec<usize> = learnt.iter().map(|learnt| learnt.advantages.len()).collect();
        let old: Option<Vec<f32>> = learnt
            .iter()
            .map(|learnt| learnt.old_per_token_logps.as_deref())
            .collect::<Option<Vec<_>>>()
            .map(|all| all.concat());
        let logps = self.policy.token_logps(&batch, temperature);
        // Like the log-probabilities that they are compared with: on a device with autodiff, without gradients.
        let like = logps.logps.clone().detach();
        let old = old.map(|old| Tensor::from_data(TensorData::from(&old[..]), &like.device()));
        let reference = self
            .reference
            .as_ref()
            .map(|model| Tensor::from_inner(token_logps(model, &batch, temperature).logps).to_device(&like.device()));
        let loss = policy_loss(
            PolicyLossInput {
                per_token_logps: logps.logps,
                old_per_token_logps: old,
                ref_per_token_logps: reference,
                entropy: None,
                advantages: &advantages,
                sequence_lengths: &lengths,
                loss_mask: None,
                normalizer,
            },
            &self.options.loss,
        );
        self.policy.backward(&loss.loss);
        loss.metrics
    }
}

/// Lengths and entropy of rollouts.
fn describe(rollouts: &[&Rollout], metrics: &mut IndexMap<String, f64>) {
    let statistics = CompletionStatistics::new(rollouts.iter().map(|r| (r.sampled_tokens(), r.truncated)));
    metrics.extend(statistics.metrics().map(|(name, value)| (name.to_owned(), value)));
    let sampled: usize = rollouts.iter().map(|rollout| rollout.sampled_tokens()).sum();
    let entropy: f64 = rollouts.iter().map(|rollout| rollout.entropy_sum).sum();
    metrics.insert("entropy".to_owned(), entropy / sampled.max(1) as f64);
}
