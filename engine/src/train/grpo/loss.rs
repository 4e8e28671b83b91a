//! The policy loss on flat vectors of completion tokens, on any backend.
//!
//! The formulas are in [`reference`](super::reference). What the host knows (advantages, lengths, masks) becomes one weight
//! per token, so that the variants differ in their weights and in what a ratio spans, and parts of a batch add up to the
//! loss and the gradient of the whole.

use burn::tensor::{Bool, Device, ExecutionError, FloatDType, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// How token losses become one number, and what an importance ratio spans (TRL's `loss_type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// Mean over completions of the mean over a completion's tokens:
    /// `1/G Σ_i 1/|o_i| Σ_j l_ij`. A token of a long completion counts less than one of a short completion.
    ///
    /// TRL: `loss_type="grpo"`.
    Grpo,
    /// Sum over tokens, divided by a constant: `1/(G max_completion_length) Σ_ij l_ij`. No bias by length; goes together with
    /// [`ScaleRewards::None`](super::ScaleRewards::None).
    ///
    /// TRL: `loss_type="dr_grpo"`.
    DrGrpo,
    /// Mean over all tokens of the batch: `1/Σ|o_i| Σ_ij l_ij`; the paper also sets `epsilon_high` to 0.28.
    ///
    /// TRL: `loss_type="dapo"`, its default, with `steps_per_generation` equal to the accumulation steps.
    #[default]
    Dapo,
    /// Like `grpo`, but with one ratio per completion, the geometric mean of its tokens' ratios:
    /// `r_i = exp(1/|o_i| Σ_j log(π(o_ij) / π_old(o_ij)))`. The paper's `epsilon` is 3e-4 and its `epsilon_high` 4e-4.
    ///
    /// TRL: `loss_type="grpo"` with `importance_sampling_level="sequence"`.
    Gspo,
}

impl LossType {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Grpo, Self::DrGrpo, Self::Dapo, Self::Gspo];

    /// The factor of each token loss of a completion with `length` tokens that carry loss.
    pub fn weight(self, length: usize, normalizer: &LossNormalizer) -> f64 {
        let sequences = normalizer.num_sequences.max(1) as f64;
        match self {
            Self::Grpo | Self::Gspo => 1.0 / (sequences * length.max(1) as f64),
            Self::DrGrpo => 1.0 / (sequences * normalizer.max_completion_length.max(1) as f64),
            Self::Dapo => 1.0 / normalizer.num_tokens.max(1) as f64,
        }
    }
}

/// Sizes of the *whole* batch of an optimizer step, which the loss is a mean over.
///
/// With the same normalizer, the losses (and gradients) of the parts of a batch add up to those of the batch, however it is
/// split. TRL divides a part's mean by the number of parts, which is the same for parts of equal numbers of completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossNormalizer {
    /// Completions (`grpo`, `dr_grpo`, `gspo`). One whose tokens are all masked counts too.
    pub num_sequences: usize,
    /// Tokens that carry loss (`dapo`; TRL's `num_items_in_batch`).
    pub num_tokens: usize,
    /// The length limit of completions (`dr_grpo`): a constant of the run, not the longest that occurs.
    pub max_completion_length: usize,
}

/// Options of the policy loss, with TRL's names and defaults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossOptions {
    /// Which loss.
    pub loss_type: LossType,
    /// How far a ratio may fall, when the advantage is negative, before the token stops to move: at `1 - epsilon`.
    pub epsilon: f64,
    /// How far it may rise, when the advantage is positive: to `1 + epsilon_high`. `epsilon` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon_high: Option<f64>,
    /// Weight of the KL divergence from the reference policy; 0 needs no reference.
    pub beta: f64,
    /// Whether the KL estimate is multiplied by the importance ratio, which makes its gradient that of the reverse KL
    /// divergence, without bias (DeepSeek-V3.2; TRL's default). It changes the gradient even where the ratio is 1. Without
    /// it the KL term is the one of the GRPO paper.
    pub use_bias_correction_kl: bool,
}

impl Default for LossOptions {
    fn default() -> Self {
        Self {
            loss_type: LossType::default(),
            epsilon: 0.2,
            epsilon_high: None,
            beta: 0.0,
            use_bias_correction_kl: true,
        }
    }
}

/// An option of the policy loss that makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LossOptionsError {
    /// A ratio cannot fall below 0.
    #[error("epsilon is {0}; give a number above 0 and below 1 (0.2 is usual)")]
    Epsilon(f64),
    /// The upper bound must lie above 1.
    #[error("epsilon_high is {0}; give a number above 0 (0.28 in DAPO), or leave it out to take epsilon")]
    EpsilonHigh(f64),
    /// A negative weight would drive the policy away from the reference.
    #[error("beta is {0}; give 0 for no KL term, or a positive number (0.04 in the GRPO paper)")]
    Beta(f64),
}

impl LossOptions {
    /// The upper clipping distance: `epsilon_high`, or `epsilon`.
    pub fn epsilon_high(&self) -> f64 {
        self.epsilon_high.unwrap_or(self.epsilon)
    }

    /// Whether the options make sense.
    ///
    /// # Errors
    /// The first that does not.
    pub fn validate(&self) -> Result<(), LossOptionsError> {
        if !(self.epsilon > 0.0 && self.epsilon < 1.0) {
            return Err(LossOptionsError::Epsilon(self.epsilon));
        }
        if !(self.epsilon_high() > 0.0 && self.epsilon_high().is_finite()) {
            return Err(LossOptionsError::EpsilonHigh(self.epsilon_high()));
        }
        if !(self.beta >= 0.0 && self.beta.is_finite()) {
            return Err(LossOptionsError::Beta(self.beta));
        }
        Ok(())
    }
}

/// What the policy loss is computed from: the completion tokens of some rollouts, one completion after the other.
#[derive(Clone, Debug)]
pub struct PolicyLossInput<'a> {
    /// Log-probabilities under the policy that is trained, `[tokens]`, at least one. Carries gradients.
    pub per_token_logps: Tensor<1>,
    /// Under the policy that sampled them, `[tokens]`. `None` says that it is the policy that is trained (the first
    /// update after sampling): all ratios are 1, and the gradient is the plain policy gradient.
    pub old_per_token_logps: Option<Tensor<1>>,
    /// Under the reference policy, `[tokens]`. Needed when `beta` is not 0; KL is logged whenever it is there.
    pub ref_per_token_logps: Option<Tensor<1>>,
    /// Entropy of the distributions that the tokens were drawn from, `[tokens]`, for logging.
    pub entropy: Option<Tensor<1>>,
    /// `[tokens]`: see [`expand_over_sequences`](super::expand_over_sequences) and
    /// [`expand_over_turns`](super::expand_over_turns).
    pub advantages: &'a [f32],
    /// How many of the tokens each completion has, in order; they sum up to `tokens`.
    pub sequence_lengths: &'a [usize],
    /// `[tokens]`, false for tokens inside a completion that the policy did not sample (answers of tools and of the user):
    /// they carry no loss and no gradient, whatever their log-probabilities are.
    pub loss_mask: Option<&'a [bool]>,
    /// What the sums are divided by.
    pub normalizer: LossNormalizer,
}

/// The loss of a batch or of a part of one.
#[derive(Clone, Debug)]
pub struct PolicyLoss {
    /// Scalar, `[1]`. Carries gradients.
    pub loss: Tensor<1>,
    /// What is logged with it. Carries none.
    pub metrics: PolicyMetrics,
}

/// Sums for logging, still on the device: [merge](Self::merge) those of a batch's parts, then [read](Self::read) once.
#[derive(Clone, Debug)]
pub struct PolicyMetrics {
    /// Loss, entropy, KL, ratios clipped from below and from above, `[5]`.
    sums: Tensor<1>,
    tokens: usize,
    ratios: usize,
    has_entropy: bool,
    has_kl: bool,
}

/// What a training step logs about its loss, under TRL's names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicyMetricValues {
    /// Loss of the merged parts.
    pub loss: f32,
    /// `entropy`: mean over tokens that carry loss, in nats, if it was given.
    pub entropy: Option<f32>,
    /// `kl`: mean of the estimate over tokens that carry loss, if a reference was given.
    pub kl: Option<f32>,
    /// `clip_ratio/low_mean`: share of ratios clipped from below. Ratios are counted by token; in gspo by completion,
    /// each as the share of its tokens (which have one ratio, but may have advantages by turn).
    pub clip_ratio_low_mean: f32,
    /// `clip_ratio/high_mean`: share of ratios clipped from above.
    pub clip_ratio_high_mean: f32,
}

impl PolicyMetrics {
    /// The metrics of both parts of a batch together.
    pub fn merge(self, other: Self) -> Self {
        Self {
            sums: self.sums + other.sums,
            tokens: self.tokens + other.tokens,
            ratios: self.ratios + other.ratios,
            has_entropy: self.has_entropy && other.has_entropy,
            has_kl: self.has_kl && other.has_kl,
        }
    }

    /// Reads the sums from the device and makes means of them.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn read(self) -> Result<PolicyMetricValues, ExecutionError> {
        let sums = self.sums.into_data_async().await?;
        let sums: Vec<f32> = sums.iter::<f32>().collect();
        let [loss, entropy, kl, low, high] = sums[..] else { unreachable!("there are five sums") };
        let (tokens, ratios) = (self.tokens.max(1) as f32, self.ratios.max(1) as f32);
        Ok(PolicyMetricValues {
            loss,
            entropy: self.has_entropy.then_some(entropy / tokens),
            kl: self.has_kl.then_some(kl / tokens),
            clip_ratio_low_mean: low / ratios,
            clip_ratio_high_mean: high / ratios,
        })
    }
}

impl PolicyMetricValues {
    /// `clip_ratio/region_mean`: share of ratios clipped from either side.
    pub fn clip_ratio_region_mean(&self) -> f32 {
        self.clip_ratio_low_mean + self.clip_ratio_high_mean
    }

    /// All values under TRL's names.
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        let mut metrics = vec![("loss", f64::from(self.loss))];
        metrics.extend(self.entropy.map(|entropy| ("entropy", f64::from(entropy))));
        metrics.extend(self.kl.map(|kl| ("kl", f64::from(kl))));
        metrics.push(("clip_ratio/low_mean", f64::from(self.clip_ratio_low_mean)));
        metrics.push(("clip_ratio/high_mean", f64::from(self.clip_ratio_high_mean)));
        metrics.push(("clip_ratio/region_mean", f64::from(self.clip_ratio_region_mean())));
        metrics
    }
}

/// The loss of a batch or of a part of one: see [`reference`](super::reference) for the formulas.
///
/// Panics if lengths do not agree, or if `beta` is not 0 and there is no reference.
pub fn policy_loss(input: PolicyLossInput, options: &LossOptions) -> PolicyLoss {
    let tokens = Tokens::new(&input, options.loss_type);
    let device = input.per_token_logps.device();
    let floats = |values: &[f32]| Tensor::<1>::from_data(TensorData::new(values.to_vec(), [values.len()]), &device);

    // Masked tokens are replaced before anything is computed: whatever stands there, even an infinity, they then have
    // ratio 1, no divergence and no gradient.
    let masked = tokens.masked.then(|| {
        let mask = tokens.carries_loss.iter().map(|carries| !carries).collect();
        Tensor::<1, Bool>::from_data(TensorData::new::<bool, _>(mask, [tokens.carries_loss.len()]), &device)
    });
    let prepared = |values: Tensor<1>| {
        assert_eq!(values.dims(), [tokens.carries_loss.len()], "one value per token");
        let values = values.cast(FloatDType::F32);
        match &masked {
            Some(masked) => values.mask_fill(masked.clone(), 0.0),
            None => values,
        }
    };
    let logps = prepared(input.per_token_logps);
    let old_logps = input.old_per_token_logps.map_or_else(|| logps.clone().detach(), prepared);
    let weights = floats(&tokens.weights);

    let mut log_ratio = logps.clone() - old_logps;
    if options.loss_type == LossType::Gspo {
        log_ratio = tokens.sequence_mean(log_ratio, input.sequence_lengths, &device);
    }
    // min(r A, clip(r) A) is r A, except where the ratio has left the clipping region on the side that the advantage drives
    // it to: there it is constant. Clipping the logarithm keeps a ratio that overflows out of the gradient.
    let values = log_ratio.clone().detach();
    let (low, high) = ((1.0 - options.epsilon).ln() as f32, options.epsilon_high().ln_1p() as f32);
    let advantages = floats(input.advantages);
    let clipped_low = values.clone().lower_elem(low).bool_and(advantages.clone().lower_elem(0.0));
    let clipped_high = values.greater_elem(high).bool_and(advantages.clone().greater_elem(0.0));
    let clipped = log_ratio.clone().mask_fill(clipped_low.clone(), low).mask_fill(clipped_high.clone(), high);
    let objective = clipped.exp() * advantages;
    let mut loss = (objective * weights.clone()).sum().neg();

    let zero = || Tensor::<1>::zeros([1], &device);
    let mut kl_sum = zero();
    assert!(options.beta == 0.0 || input.ref_per_token_logps.is_some(), "a KL term needs a reference");
    let has_kl = input.ref_per_token_logps.is_some();
    if let Some(reference) = input.ref_per_token_logps {
        let d = prepared(reference) - logps;
        let mut kl = d.clone().exp() - d - 1.0;
        if options.use_bias_correction_kl {
            kl = kl * log_ratio.exp();
        }
        kl_sum = kl.clone().detach().sum();
        if options.beta != 0.0 {
            loss = loss + (kl * weights).sum().mul_scalar(options.beta);
        }
    }
    let has_entropy = input.entropy.is_some();
    let entropy_sum = input.entropy.map_or_else(zero, |entropy| prepared(entropy.detach()).sum());
    let ratio_shares = floats(&tokens.ratio_shares);
    let clip_sums = [clipped_low, clipped_high].map(|clipped| (clipped.float() * ratio_shares.clone()).sum());
    let [low_sum, high_sum] = clip_sums;
    let sums = Tensor::cat(vec![loss.clone().detach(), entropy_sum, kl_sum, low_sum, high_sum], 0);
    let metrics = PolicyMetrics { sums, tokens: tokens.count, ratios: tokens.ratios, has_entropy, has_kl };
    PolicyLoss { loss, metrics }
}

/// What the host knows about each token.
struct Tokens {
    /// Whether any token is masked.
    masked: bool,
    carries_loss: Vec<bool>,
    /// Factor of the token's loss; 0 if it carries none.
    weights: Vec<f32>,
    /// By how much a token's ratio counts among all ratios.
    ratio_shares: Vec<f32>,
    /// Tokens that carry loss.
    count: usize,
    /// Importance ratios: one per token that carries loss, or one per completion.
    ratios: usize,
    /// Tokens that carry loss, by completion.
    lengths: Vec<usize>,
}

impl Tokens {
    fn new(input: &PolicyLossInput, loss_type: LossType) -> Self {
        let len = input.sequence_lengths.iter().sum();
        assert!(len > 0, "at least one token");
        assert_eq!(input.advantages.len(), len, "one advantage per token");
        let carries_loss = input.loss_mask.map_or_else(|| vec![true; len], <[bool]>::to_vec);
        assert_eq!(carries_loss.len(), len, "one mask per token");
        let (mut weights, mut ratio_shares) = (Vec::with_capacity(len), Vec::with_capacity(len));
        let mut lengths = Vec::with_capacity(input.sequence_lengths.len());
        let mut rest = carries_loss.as_slice();
        for &len in input.sequence_lengths {
            let (own, others) = rest.split_at(len);
            rest = others;
            let length = own.iter().filter(|carries| **carries).count();
            lengths.push(length);
            let weight = loss_type.weight(length, &input.normalizer) as f32;
            let share = if loss_type == LossType::Gspo { 1.0 / length.max(1) as f32 } else { 1.0 };
            weights.extend(own.iter().map(|&carries| if carries { weight } else { 0.0 }));
            ratio_shares.extend(own.iter().map(|&carries| if carries { share } else { 0.0 }));
        }
        let count = lengths.iter().sum();
        let ratios = if loss_type == LossType::Gspo { lengths.len() } else { count };
        Self { masked: count < len, carries_loss, weights, ratio_shares, count, ratios, lengths }
    }

    /// Gives each token the mean of its completion, over tokens that carry loss, `[tokens]`. Masked values must be 0.
    fn sequence_mean(&self, values: Tensor<1>, sequence_lengths: &[usize], device: &Device) -> Tensor<1> {
        // Rows padded to the longest: sums along a row are the same on every backend and in every run.
        let rows = sequence_lengths.len();
        let width = sequence_lengths.iter().max().copied().unwrap_or(0);
        let mut index = vec![0i64; rows * width];
        let mut scale = vec![0f32; rows * width];
        let mut owner = Vec::with_capacity(self.carries_loss.len());
        let mut token = 0;
        for (row, &len) in sequence_lengths.iter().enumerate() {
            for column in row * width..row * width + len {
                index[column] = token;
                scale[column] = 1.0 / self.lengths[row].max(1) as f32;
                owner.push(row as i64);
                token += 1;
            }
        }
        let ints = |values: Vec<i64>| {
            let len = values.len();
            Tensor::<1, Int>::from_data(TensorData::new(values, [len]), device)
        };
        let scale: Tensor<2> = Tensor::from_data(TensorData::new(scale, [rows, width]), device);
        let padded: Tensor<2> = values.select(0, ints(index)).reshape([rows, width]);
        let means: Tensor<1> = (padded * scale).sum_dim(1).reshape([rows]);
        means.select(0, ints(owner))
    }
}

#[cfg(test)]
mod tests;
