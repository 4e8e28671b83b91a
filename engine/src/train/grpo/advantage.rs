//! From rewards to advantages: how much better a rollout was than the others of its group.
//!
//! Host code in f64. Formulas and names are those of TRL 1.16 (`GRPOTrainer._generate_and_score_completions` with
//! `multi_objective_aggregation="sum_then_normalize"`). Turn-level advantages ([`turn_advantages`]) are this project's
//! own design.

use serde::{Deserialize, Serialize};

/// Added to a standard deviation before it divides, as in TRL.
const STD_EPSILON: f64 = 1e-4;

/// Below this a standard deviation counts as zero (`torch.isclose` with its default absolute tolerance).
const ZERO_STD: f64 = 1e-8;

/// What divides the centred rewards (TRL's `scale_rewards`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleRewards {
    /// The standard deviation of the rollout's own group: `A = (R - mean) / (std_group + 1e-4)`.
    #[default]
    Group,
    /// The standard deviation of all rewards of the batch: `A = (R - mean_group) / (std_batch + 1e-4)`.
    Batch,
    /// Nothing: `A = R - mean_group`. Dr. GRPO: dividing favours tasks on which rewards hardly differ.
    None,
}

/// A named part of the reward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewardTerm {
    /// What it is logged under: `rewards/{name}/mean`.
    pub name: String,
    /// Its factor in the reward (TRL's `reward_weights`).
    pub weight: f64,
}

/// Rewards of a batch, by rollout and by term. Rollouts of one group stand next to each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RewardTable {
    terms: Vec<RewardTerm>,
    rows: Vec<Vec<Option<f64>>>,
}

impl RewardTable {
    /// A table without rollouts.
    pub fn new(terms: Vec<RewardTerm>) -> Self {
        Self { terms, rows: Vec::new() }
    }

    /// Adds a rollout: one value per term, `None` where a term does not apply to it.
    ///
    /// Panics if the number of values is not the number of terms.
    pub fn push(&mut self, values: Vec<Option<f64>>) {
        assert_eq!(values.len(), self.terms.len(), "one value per reward term");
        self.rows.push(values);
    }

    /// The weighted sum of each rollout's terms; terms that do not apply are left out of it. `None` for a rollout that no
    /// term applies to: it is part of no mean, and its advantage is 0.
    pub fn totals(&self) -> Vec<Option<f64>> {
        let total = |row: &Vec<Option<f64>>| {
            let parts = row.iter().zip(&self.terms).filter_map(|(value, term)| value.map(|value| value * term.weight));
            row.iter().any(Option::is_some).then(|| parts.sum())
        };
        self.rows.iter().map(total).collect()
    }

    /// `rewards/{name}/mean` and `rewards/{name}/std` of each term, then `reward` and `reward_std` of the weighted sum,
    /// over the whole batch. What has no value (a term that never applies, the deviation of one rollout) is left out.
    pub fn metrics(&self) -> Vec<(String, f64)> {
        let mut metrics = Vec::new();
        let mut add = |mean_name: String, std_name: String, values: &[f64]| {
            metrics.extend(mean(values).map(|mean| (mean_name, mean)));
            metrics.extend(standard_deviation(values).map(|std| (std_name, std)));
        };
        for (index, RewardTerm { name, .. }) in self.terms.iter().enumerate() {
            let values: Vec<f64> = self.rows.iter().filter_map(|row| row[index]).collect();
            add(format!("rewards/{name}/mean"), format!("rewards/{name}/std"), &values);
        }
        let totals: Vec<f64> = self.totals().into_iter().flatten().collect();
        add("reward".to_owned(), "reward_std".to_owned(), &totals);
        metrics
    }
}

/// Advantages of a batch of rollouts.
#[derive(Clone, Debug, PartialEq)]
pub struct Advantages {
    /// One per rollout.
    pub advantages: Vec<f32>,
    /// One per group: whether two of its rewards differ. A group where they are all equal has advantages of 0 and so no
    /// policy gradient; DAPO's dynamic sampling drops it and samples another task in its place.
    pub informative_groups: Vec<bool>,
    /// Share of rollouts whose rewards do not vary, as TRL logs it: within their group, or within the batch under
    /// [`ScaleRewards::Batch`].
    pub frac_reward_zero_std: f64,
}

/// Advantages of rollouts from their rewards, `num_generations` rollouts a group, groups one after the other.
///
/// `A_i = (R_i - mean_group) / (std + 1e-4)`, with `std` by `scale` (sample standard deviations: Bessel's correction).
/// Rewards of `None` ([`RewardTable::totals`]) take no part in means and deviations, and their advantage is 0.
///
/// Panics if the rewards do not divide into groups.
pub fn group_advantages(rewards: &[Option<f64>], num_generations: usize, scale: ScaleRewards) -> Advantages {
    assert!(num_generations > 0 && rewards.len().is_multiple_of(num_generations), "whole groups");
    let present = |rewards: &[Option<f64>]| rewards.iter().flatten().copied().collect::<Vec<f64>>();
    let is_zero = |std: Option<f64>| std.is_some_and(|std| std <= ZERO_STD);
    // A group of one varies with nothing. Among several, of which all but one have no reward, nobody knows.
    let std_of = |rewards: &[Option<f64>]| {
        if rewards.len() == 1 { Some(0.0) } else { standard_deviation(&present(rewards)) }
    };
    let std_batch = std_of(rewards);
    let mut advantages = Vec::with_capacity(rewards.len());
    let mut informative_groups = Vec::with_capacity(rewards.len() / num_generations);
    let mut zero_std = 0;
    for group in rewards.chunks_exact(num_generations) {
        let (mean_group, std_group) = (mean(&present(group)), std_of(group));
        let std = if scale == ScaleRewards::Batch { std_batch } else { std_group };
        zero_std += if is_zero(std) { group.len() } else { 0 };
        informative_groups.push(std_group.is_some_and(|std| std > ZERO_STD));
        advantages.extend(group.iter().map(|reward| {
            let centred = reward.zip(mean_group).map(|(reward, mean)| reward - mean);
            let scaled = match scale {
                ScaleRewards::None => centred,
                ScaleRewards::Group | ScaleRewards::Batch => {
                    centred.zip(std).map(|(centred, std)| centred / (std + STD_EPSILON))
                }
            };
            scaled.unwrap_or(0.0) as f32
        }));
    }
    let frac_reward_zero_std = zero_std as f64 / rewards.len().max(1) as f64;
    Advantages { advantages, informative_groups, frac_reward_zero_std }
}

/// Advantages of turns from rewards of turns: credit for what came after an action, instead of one number for all of it.
///
/// `rewards[i][t]` is what rollout `i` earned in its turn `t`; rollouts may have different numbers of turns. With
/// the return `G_{i,t} = Σ_{u ≥ t} gamma^(u - t) rewards[i][u]`, the advantage is
/// `A_{i,t} = (G_{i,t} - mean_t) / (std_t + 1e-4)`, where mean and sample standard deviation are over the rollouts of the
/// group that have a turn `t`. Under [`ScaleRewards::Batch`] the deviation is that of all returns of the batch; under
/// [`ScaleRewards::None`] nothing divides. A turn that only one rollout of the group has reached has nothing to be compared
/// with: its advantage is 0.
///
/// `gamma` is 0 for the turn's own reward alone, 1 for all that follows it (return-to-go). A reward of the whole
/// trajectory belongs to its last turn; with `gamma` 1, no other rewards and equal numbers of turns, the result is that of
/// [`group_advantages`] in every turn.
///
/// This is this project's own design; TRL has one advantage per completion.
///
/// Panics if the rollouts do not divide into groups of `num_generations`.
pub fn turn_advantages(rewards: &[Vec<f64>], num_generations: usize, scale: ScaleRewards, gamma: f64) -> Vec<Vec<f32>> {
    assert!(num_generations > 0 && rewards.len().is_multiple_of(num_generations), "whole groups");
    let returns: Vec<Vec<f64>> = rewards.iter().map(|turns| discounted_returns(turns, gamma)).collect();
    let std_batch = standard_deviation(&returns.concat());
    let mut advantages: Vec<Vec<f32>> = Vec::with_capacity(rewards.len());
    for group in returns.chunks_exact(num_generations) {
        let turns = group.iter().map(Vec::len).max().unwrap_or(0);
        let baselines: Vec<Option<(f64, f64)>> = (0..turns)
            .map(|turn| {
                let at_turn: Vec<f64> = group.iter().filter_map(|returns| returns.get(turn)).copied().collect();
                let divisor = match scale {
                    ScaleRewards::Group => standard_deviation(&at_turn)? + STD_EPSILON,
                    ScaleRewards::Batch => std_batch? + STD_EPSILON,
                    ScaleRewards::None => 1.0,
                };
                Some((mean(&at_turn)?, divisor))
            })
            .collect();
        advantages.extend(group.iter().map(|returns| {
            let scaled = |(value, baseline): (&f64, &Option<(f64, f64)>)| {
                baseline.map_or(0.0, |(mean, divisor)| ((value - mean) / divisor) as f32)
            };
            returns.iter().zip(&baselines).map(scaled).collect()
        }));
    }
    advantages
}

/// Gives every token its trajectory's advantage, `[tokens]`: `advantages[i]` repeated `sequence_lengths[i]` times.
///
/// Panics if there is not one advantage per sequence.
pub fn expand_over_sequences(advantages: &[f32], sequence_lengths: &[usize]) -> Vec<f32> {
    assert_eq!(advantages.len(), sequence_lengths.len(), "one advantage per sequence");
    advantages.iter().zip(sequence_lengths).flat_map(|(&advantage, &len)| std::iter::repeat_n(advantage, len)).collect()
}

/// Gives every token its turn's advantage, `[tokens]`: `turn_of_token[i][j]` is the turn that token `j` of sequence `i`
/// belongs to, an index into `turn_advantages[i]`.
///
/// Panics if there is not one list of each kind per sequence, or if a token names a turn that is not there.
pub fn expand_over_turns(turn_advantages: &[Vec<f32>], turn_of_token: &[Vec<usize>]) -> Vec<f32> {
    assert_eq!(turn_advantages.len(), turn_of_token.len(), "turns of tokens for every sequence");
    let sequences = turn_advantages.iter().zip(turn_of_token);
    sequences.flat_map(|(advantages, turns)| turns.iter().map(|&turn| advantages[turn])).collect()
}

/// How long completions were and how they ended. Lengths are in sampled tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CompletionStatistics {
    /// Mean length.
    pub mean_length: f64,
    /// Shortest.
    pub min_length: usize,
    /// Longest.
    pub max_length: usize,
    /// Share of completions that the length limit ended.
    pub clipped_ratio: f64,
    /// Mean length of those that ended by themselves; 0 if none did, as are the next two.
    pub mean_terminated_length: f64,
    /// Shortest of those.
    pub min_terminated_length: usize,
    /// Longest of those.
    pub max_terminated_length: usize,
}

impl CompletionStatistics {
    /// Statistics of completions: length in sampled tokens, and whether the length limit ended it.
    pub fn new(completions: impl IntoIterator<Item = (usize, bool)>) -> Self {
        let completions: Vec<(usize, bool)> = completions.into_iter().collect();
        let all: Vec<usize> = completions.iter().map(|&(length, _)| length).collect();
        let terminated: Vec<usize> =
            completions.iter().filter(|(_, clipped)| !clipped).map(|&(length, _)| length).collect();
        let mean = |lengths: &[usize]| lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64;
        let least = |lengths: &[usize]| lengths.iter().min().copied().unwrap_or(0);
        let most = |lengths: &[usize]| lengths.iter().max().copied().unwrap_or(0);
        Self {
            mean_length: mean(&all),
            min_length: least(&all),
            max_length: most(&all),
            clipped_ratio: (all.len() - terminated.len()) as f64 / all.len().max(1) as f64,
            mean_terminated_length: mean(&terminated),
            min_terminated_length: least(&terminated),
            max_terminated_length: most(&terminated),
        }
    }

    /// The statistics under TRL's names: `completions/mean_length` and so on.
    pub fn metrics(&self) -> [(&'static str, f64); 7] {
        [
            ("completions/mean_length", self.mean_length),
            ("completions/min_length", self.min_length as f64),
            ("completions/max_length", self.max_length as f64),
            ("completions/clipped_ratio", self.clipped_ratio),
            ("completions/mean_terminated_length", self.mean_terminated_length),
            ("completions/min_terminated_length", self.min_terminated_length as f64),
            ("completions/max_terminated_length", self.max_terminated_length as f64),
        ]
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// With Bessel's correction; `None` for fewer than two values.
fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

fn discounted_returns(rewards: &[f64], gamma: f64) -> Vec<f64> {
    let mut returns = rewards.to_vec();
    for turn in (1..returns.len()).rev() {
        returns[turn - 1] += gamma * returns[turn];
    }
    returns
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some(rewards: &[f64]) -> Vec<Option<f64>> {
        rewards.iter().copied().map(Some).collect()
    }

    fn assert_close(ours: &[f32], expected: &[f64]) {
        assert_eq!(ours.len(), expected.len());
        for (ours, expected) in ours.iter().zip(expected) {
            assert!((f64::from(*ours) - expected).abs() < 1e-6, "{ours} and {expected}");
        }
    }

    #[test]
    fn scales_by_group_batch_or_nothing() {
        // Two groups of two: means 1 and 4; sample deviations √2 and √8; of the batch (0 2 2 6, mean 2.5) √(19/3).
        let rewards = some(&[0.0, 2.0, 2.0, 6.0]);
        let of = |scale| group_advantages(&rewards, 2, scale).advantages;
        assert_close(&of(ScaleRewards::None), &[-1.0, 1.0, -2.0, 2.0]);
        let (first, second) = (1.0 / (2f64.sqrt() + 1e-4), 2.0 / (8f64.sqrt() + 1e-4));
        assert_close(&of(ScaleRewards::Group), &[-first, first, -second, second]);
        let batch = (19f64 / 3.0).sqrt() + 1e-4;
        assert_close(&of(ScaleRewards::Batch), &[-1.0 / batch, 1.0 / batch, -2.0 / batch, 2.0 / batch]);
    }

    #[test]
    fn groups_with_equal_rewards_are_named() {
        let found = group_advantages(&some(&[0.1, 0.1, 0.1, 0.0, 1.0, 0.0]), 3, ScaleRewards::Group);
        assert_eq!(found.informative_groups, [false, true]);
        assert_eq!(found.frac_reward_zero_std, 0.5);
        assert!(found.advantages[..3].iter().all(|advantage| advantage.abs() < 1e-6));
        let batch = group_advantages(&some(&[0.1, 0.1, 0.1, 0.0, 1.0, 0.0]), 3, ScaleRewards::Batch);
        assert_eq!(batch.informative_groups, [false, true]);
        assert_eq!(batch.frac_reward_zero_std, 0.0, "TRL looks at the deviation that divides");
        let lonely = group_advantages(&some(&[3.0, 4.0]), 1, ScaleRewards::Group);
        assert_eq!((lonely.advantages, lonely.frac_reward_zero_std), (vec![0.0, 0.0], 1.0));
    }

    #[test]
    fn rollouts_without_reward_take_no_part() {
        let rewards = [Some(1.0), None, Some(3.0), None, Some(2.0), None];
        let found = group_advantages(&rewards, 3, ScaleRewards::None);
        assert_close(&found.advantages, &[-1.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(found.informative_groups, [true, false]);
        assert_eq!(found.frac_reward_zero_std, 0.0, "one reward has no deviation");
    }

    #[test]
    fn terms_are_weighted_and_logged() {
        let term = |name: &str, weight| RewardTerm { name: name.to_owned(), weight };
        let mut table = RewardTable::new(vec![term("format", 0.5), term("success", 2.0)]);
        table.push(vec![Some(1.0), Some(1.0)]);
        table.push(vec![Some(0.0), None]);
        table.push(vec![None, None]);
        assert_eq!(table.totals(), [Some(2.5), Some(0.0), None]);
        let metrics = table.metrics();
        let named: Vec<(&str, f64)> = metrics.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let half = 0.5f64.sqrt();
        let expected = [
            ("rewards/format/mean", 0.5),
            ("rewards/format/std", half),
            ("rewards/success/mean", 1.0),
            ("reward", 1.25),
            ("reward_std", 2.5 * half),
        ];
        assert_eq!(named.len(), expected.len(), "{named:?}");
        for (found, expected) in named.iter().zip(expected) {
            assert!(found.0 == expected.0 && (found.1 - expected.1).abs() < 1e-12, "{found:?} and {expected:?}");
        }
    }

    #[test]
    fn completions_that_hit_the_limit_are_counted() {
        let found = CompletionStatistics::new([(10, true), (4, false), (6, false), (10, true)]);
        assert_eq!((found.mean_length, found.min_length, found.max_length), (7.5, 4, 10));
        assert_eq!(found.clipped_ratio, 0.5);
        assert_eq!((found.mean_terminated_length, found.min_terminated_length), (5.0, 4));
        assert_eq!(found.max_terminated_length, 6);
        assert_eq!(CompletionStatistics::new([(10, true)]).mean_terminated_length, 0.0);
        assert_eq!(CompletionStatistics::new([]), CompletionStatistics::default());
    }

    #[test]
    fn turns_are_compared_with_the_same_turn_of_the_group() {
        // The third turn is reached by one rollout only: nothing to compare it with.
        let rewards = vec![vec![1.0, 0.0], vec![0.0, 1.0, 5.0]];
        let own = turn_advantages(&rewards, 2, ScaleRewards::None, 0.0);
        assert_eq!(own, [vec![0.5, -0.5], vec![-0.5, 0.5, 0.0]]);
        let to_go = turn_advantages(&rewards, 2, ScaleRewards::None, 1.0);
        assert_eq!(to_go, [vec![-2.5, -3.0], vec![2.5, 3.0, 0.0]]);
        let half = turn_advantages(&rewards, 2, ScaleRewards::None, 0.5);
        assert_eq!(half, [vec![-0.375, -1.75], vec![0.375, 1.75, 0.0]]);
        // Two values have the deviation distance / √2: of 1 and 6, and of 0 and 6.
        let scaled = turn_advantages(&rewards, 2, ScaleRewards::Group, 1.0);
        assert_close(&scaled[1], &[2.5 / (12.5f64.sqrt() + 1e-4), 3.0 / (18f64.sqrt() + 1e-4), 0.0]);
    }

    #[test]
    fn tokens_get_the_advantage_of_their_sequence_or_turn() {
        assert_eq!(expand_over_sequences(&[1.0, -2.0, 3.0], &[2, 0, 1]), [1.0, 1.0, 3.0]);
        let turns = [vec![0.5, -0.5], vec![2.0]];
        assert_eq!(expand_over_turns(&turns, &[vec![0, 1, 1], vec![0]]), [0.5, -0.5, -0.5, 2.0]);
    }

    proptest! {
        #[test]
        fn a_last_turn_reward_gives_every_turn_the_trajectorys_advantage(
            rewards in prop::collection::vec(-5.0f64..5.0, 8),
            turns in 1usize..5,
            scale in prop::sample::select(vec![ScaleRewards::Group, ScaleRewards::None]),
        ) {
            let whole = group_advantages(&some(&rewards), 4, scale).advantages;
            let by_turn: Vec<Vec<f64>> =
                rewards.iter().map(|&reward| (0..turns).map(|turn| if turn + 1 == turns { reward } else { 0.0 }).collect()).collect();
            for (turns, whole) in turn_advantages(&by_turn, 4, scale, 1.0).iter().zip(&whole) {
                prop_assert!(turns.iter().all(|turn| turn == whole));
            }
        }

        #[test]
        fn advantages_sum_to_zero_and_keep_the_order(
            rewards in prop::collection::vec(-5.0f64..5.0, 12),
            scale in prop::sample::select(vec![ScaleRewards::Group, ScaleRewards::Batch, ScaleRewards::None]),
        ) {
            let found = group_advantages(&some(&rewards), 6, scale).advantages;
            for (advantages, rewards) in found.chunks(6).zip(rewards.chunks(6)) {
                prop_assert!(advantages.iter().sum::<f32>().abs() < 1e-4);
                for i in 0..6 {
                    for j in 0..6 {
                        prop_assert!(rewards[i] >= rewards[j] || advantages[i] <= advantages[j]);
                    }
                }
            }
        }
    }
}
