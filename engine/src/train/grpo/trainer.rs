//! The GRPO loop: sample groups, compare, update.

use burn::tensor::Tensor;
use indexmap::IndexMap;

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

/// What a step asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutRequest {
    /// The training step, from 0.
    pub step: u64,
    /// 0 for the step's first request, then 1, 2, … where groups are resampled.
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
    /// Tasks of a step.
    pub groups_per_step: usize,
    /// Rollouts of a task, the group that rewards are compared in.
    pub num_generations: usize,
    /// Which loss, its clipping and its KL term.
    pub loss: LossOptions,
    /// What divides the centred rewards.
    pub scale_rewards: ScaleRewards,
    /// Advantages of trajectories or of turns.
    pub advantage_level: AdvantageLevel,
    /// How often each batch of rollouts is learnt from (`μ` in the paper).
    pub num_iterations: usize,
    /// Into how many updates an iteration splits the rollouts.
    pub steps_per_generation: usize,
    /// Sampling temperature, which also divides the logits in the loss.
    pub temperature: f32,
    /// Length limit of a completion, in tokens: the constant of `dr_grpo`.
    pub max_completion_length: usize,
    /// Rollouts that the length limit ended carry no loss.
    pub mask_truncated_completions: bool,
    /// How often groups whose rewards are all equal are replaced by others (DAPO's dynamic sampling); 0: never.
    pub max_resample_rounds: u64,
    /// Most tokens that the model reads at once in an update; 0: no limit.
    pub micro_batch_tokens: usize,
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
    step: u64,
    num_tokens: u64,
}

/// What a step gives.
#[derive(Clone, Debug)]
pub struct GrpoStep {
    /// Metrics under TRL's names.
    pub metrics: IndexMap<String, f64>,
    /// The rollouts that it learnt from.
    pub groups: Vec<RolloutGroup>,
    /// One for each rollout, groups one after the other (the first turn's for turn-level advantages).
    pub advantages: Vec<f32>,
}

/// What a rollout is learnt from.
struct Learnt {
    sequences: Vec<Sequence>,
    /// `[n]`, one for each token that carries loss.
    advantages: Vec<f32>,
}

impl<S: RolloutSource> GrpoTrainer<S> {
    /// Starts at step 0, from a model that may be on a device without autodiff. The model is also the reference policy.
    pub fn new(model: &Transformer, source: S, options: GrpoOptions) -> Result<Self, TrainError> {
        let policy = Policy::new(model, options.optimizer, options.gradient_checkpointing);
        let reference = policy.inference();
        Self::resume(policy, Some(reference), source, options, 0, 0)
    }

    /// Goes on behind `step` steps. A KL term needs the reference policy.
    pub fn resume(
        policy: Policy,
        reference: Option<Transformer>,
        source: S,
        options: GrpoOptions,
        step: u64,
        num_tokens: u64,
    ) -> Result<Self, TrainError> {
        options.loss.validate().map_err(|error| TrainError::Options(error.to_string()))?;
        if options.num_generations < 2 {
            return Err(TrainError::Options(
                "num_generations is below 2: an advantage compares rollouts of one task, so give at least 2."
                    .to_owned(),
            ));
        }
        let reference = reference.filter(|_| options.loss.beta != 0.0);
        if options.loss.beta != 0.0 && reference.is_none() {
            return Err(TrainError::Options("beta is not 0, but there is no reference policy.".to_owned()));
        }
        Ok(Self { policy, reference, source, options, step, num_tokens })
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

    /// Steps made.
    pub fn step_number(&self) -> u64 {
        self.step
    }

    /// Tokens read and sampled so far.
    pub fn num_tokens(&self) -> u64 {
        self.num_tokens
    }

    /// One batch of rollouts and all updates from it. (TRL counts the updates as steps.)
    pub async fn step(&mut self) -> Result<GrpoStep, TrainError> {
        let begun = platform::now();
        let (groups, mut metrics) = self.sample().await?;
        let sampled = platform::now();
        let rollouts: Vec<&Rollout> = groups.iter().flat_map(|group| &group.rollouts).collect();
        let (learnt, advantages) = self.compare(&rollouts, &mut metrics);

        let statistics = CompletionStatistics::new(rollouts.iter().map(|r| (r.sampled_tokens(), r.truncated)));
        metrics.extend(statistics.metrics().map(|(name, value)| (name.to_owned(), value)));
        let all_sampled: usize = rollouts.iter().map(|rollout| rollout.sampled_tokens()).sum();
        let entropy: f64 = rollouts.iter().map(|rollout| rollout.entropy_sum).sum();
        metrics.insert("entropy".to_owned(), entropy / all_sampled.max(1) as f64);

        let learning_rate = self.options.schedule.learning_rate(self.step);
        let updates = self.learn(&learnt, learning_rate).await?;
        metrics.extend(updates);
        metrics.insert("learning_rate".to_owned(), learning_rate);
        let read: usize = rollouts.iter().flat_map(|r| &r.samples).map(|sample| sample.sequence.len()).sum();
        self.num_tokens += read as u64;
        self.step += 1;
        let seconds = platform::now() - begun;
        metrics.insert("num_tokens".to_owned(), self.num_tokens as f64);
        metrics.insert("step_time".to_owned(), seconds);
        metrics.insert("rollout_time".to_owned(), sampled - begun);
        metrics.insert("tokens_per_second".to_owned(), read as f64 / seconds.max(1e-9));
        Ok(GrpoStep { metrics, groups, advantages })
    }

    /// Rollouts of a step, resampled where nothing can be learnt from a group.
    async fn sample(&mut self) -> Result<(Vec<RolloutGroup>, IndexMap<String, f64>), TrainError> {
        let policy = self.policy.inference();
        let (wanted, num_generations) = (self.options.groups_per_step, self.options.num_generations);
        let mut kept: Vec<RolloutGroup> = Vec::new();
        let mut spare: Vec<RolloutGroup> = Vec::new();
        let mut metrics = IndexMap::new();
        for round in 0..=self.options.max_resample_rounds {
            let request = RolloutRequest { step: self.step, round, groups: wanted - kept.len(), num_generations };
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
        Ok((kept, metrics))
    }

    fn table(&self, rollouts: &[&Rollout]) -> RewardTable {
        let mut table = RewardTable::new(self.source.reward_terms());
        for rollout in rollouts {
            table.push(rollout.rewards.clone());
        }
        table
    }

    /// Advantages, and what carries loss with which advantage.
    fn compare(&self, rollouts: &[&Rollout], metrics: &mut IndexMap<String, f64>) -> (Vec<Learnt>, Vec<f32>) {
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
            Learnt { advantages: advantages.collect(), sequences }
        });
        (learnt.collect(), (0..rollouts.len()).map(|index| advantage_of(index, 0)).collect())
    }

    /// All updates from a batch of rollouts.
    async fn learn(&mut self, learnt: &[Learnt], learning_rate: f64) -> Result<IndexMap<String, f64>, TrainError> {
        let temperature = self.options.temperature;
        let per_update = learnt.len().div_ceil(self.options.steps_per_generation.max(1));
        let mut sums: IndexMap<String, f64> = IndexMap::new();
        let mut updates = 0;
        // Log-probabilities under the policy that sampled, from the first time that a rollout is learnt from. They are
        // needed where the policy has moved since: in later iterations, and in later updates of the first.
        let mut old: Vec<Option<Tensor<1>>> = Vec::new();
        let once = self.options.num_iterations <= 1 && self.options.steps_per_generation <= 1;
        let plan: Vec<(Vec<&Learnt>, LossNormalizer)> = learnt
            .chunks(per_update.max(1))
            .map(|part| {
                let normalizer = LossNormalizer {
                    num_sequences: part.len(),
                    num_tokens: part.iter().map(|learnt| learnt.advantages.len()).sum(),
                    max_completion_length: self.options.max_completion_length,
                };
                // Without a KL term, nothing is learnt where all advantages are 0; such rollouts count in the means alone.
                let moves = |learnt: &&Learnt| {
                    let idle = self.options.loss.beta == 0.0 && learnt.advantages.iter().all(|a| *a == 0.0);
                    !idle && !learnt.advantages.is_empty()
                };
                (part.iter().filter(moves).collect(), normalizer)
            })
            .collect();
        let runs: Vec<(usize, Vec<&Learnt>, Batch)> = plan
            .iter()
            .enumerate()
            .flat_map(|(update, (part, _))| {
                let units: Vec<&[Sequence]> = part.iter().map(|learnt| &learnt.sequences[..]).collect();
                let runs = Batch::split(&units, self.options.micro_batch_tokens);
                runs.into_iter().map(move |run| {
                    let sequences: Vec<&Sequence> = part[run.clone()].iter().flat_map(|l| &l.sequences).collect();
                    (update, part[run].to_vec(), Batch::new(&sequences))
                })
            })
            .collect();
        if !once {
            let model = self.policy.inference();
            for (_, _, batch) in &runs {
                old.push(Some(token_logps(&model, batch, temperature).logps));
                platform::yield_now().await;
            }
        } else {
            old.resize(runs.len(), None);
        }
        for _ in 0..self.options.num_iterations.max(1) {
            for (update, (_, normalizer)) in plan.iter().enumerate() {
                let mut merged: Option<PolicyMetrics> = None;
                let mut kept = 0;
                for (index, (_, part, batch)) in runs.iter().enumerate().filter(|(_, run)| run.0 == update) {
                    let logps = self.policy.token_logps(batch, temperature);
                    let reference = self.reference.as_ref();
                    let advantages: Vec<f32> = part.iter().flat_map(|l| l.advantages.iter().copied()).collect();
                    let lengths: Vec<usize> = part.iter().map(|learnt| learnt.advantages.len()).collect();
                    let device = self.policy.model().device();
                    let lift = |tensor: Tensor<1>| Tensor::from_inner(tensor).to_device(&device);
                    let loss = policy_loss(
                        PolicyLossInput {
                            per_token_logps: logps.logps,
                            old_per_token_logps: old[index].clone().map(lift),
                            ref_per_token_logps: reference
                                .map(|model| lift(token_logps(model, batch, temperature).logps)),
                            entropy: None,
                            advantages: &advantages,
                            sequence_lengths: &lengths,
                            loss_mask: None,
                            normalizer: *normalizer,
                        },
                        &self.options.loss,
                    );
                    self.policy.backward(&loss.loss);
                    kept += advantages.len();
                    merged = Some(match merged {
                        None => loss.metrics,
                        Some(so_far) => so_far.merge(loss.metrics),
                    });
                    platform::yield_now().await;
                }
                updates += 1;
                let Some(merged) = merged else { continue };
                let values = merged.read().await.map_err(|error| TrainError::Device(format!("{error:?}")))?;
                let loss = f64::from(values.loss);
                if !loss.is_finite() {
                    self.policy.discard_gradients();
                    return Err(TrainError::NotFinite { what: "the loss", step: self.step + 1 });
                }
                let grad_norm = self.policy.update(learning_rate).await;
                // Rollouts that were left out have no ratio that is clipped: shares are of all tokens, as TRL's are.
                let share = kept as f64 / normalizer.num_tokens.max(1) as f64;
                for (name, value) in values.metrics() {
                    let value = if name.starts_with("clip_ratio") { value * share } else { value };
                    *sums.entry(name.to_owned()).or_default() += value;
                }
                *sums.entry("grad_norm".to_owned()).or_default() += grad_norm;
            }
        }
        for name in ["loss", "grad_norm", "clip_ratio/region_mean"] {
            sums.entry(name.to_owned()).or_default();
        }
        sums.values_mut().for_each(|sum| *sum /= f64::from(updates.max(1)));
        Ok(sums)
    }
}
