//! Group relative policy optimisation: advantages and losses, under the names of TRL's documentation.
//!
//! For each task a group of `G` rollouts is sampled. [`advantage`] compares their rewards within the group, [`loss`]
//! turns the comparison into a loss on the sampled tokens, on any backend, and [`mod@reference`] is the same loss in plain
//! loops, with its gradient: the one to read first, and the one that the tensor version is tested against.

pub mod advantage;
pub mod loss;
pub mod prompts;
pub mod reference;
pub mod trainer;

pub use advantage::{
    Advantages, CompletionStatistics, RewardTable, RewardTerm, ScaleRewards, expand_over_sequences, expand_over_turns,
    group_advantages, turn_advantages,
};
pub use loss::{
    LossNormalizer, LossOptions, LossOptionsError, LossType, PolicyLoss, PolicyLossInput, PolicyMetricValues,
    PolicyMetrics, policy_loss,
};
