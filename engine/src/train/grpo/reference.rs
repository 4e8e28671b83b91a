//! The policy loss in plain loops, with its gradient: the formulas as they are written, in f64.
//!
//! For a token `j` of completion `i`, with `logp`, `old` and `reference` its log-probabilities under the policy that is
//! trained, the one that sampled it and the frozen one:
//!
//! ```text
//! log_ratio_ij = logp_ij - old_ij                      grpo, dr_grpo, dapo
//!              = mean over j of (logp_ij - old_ij)     gspo: one for all tokens of a completion
//! r_ij         = exp(log_ratio_ij)
//! objective_ij = min(r_ij A_ij, clip(r_ij, 1 - epsilon, 1 + epsilon_high) A_ij)
//! d            = reference_ij - logp_ij
//! kl_ij        = exp(d) - d - 1
//!              = r_ij (exp(d) - d - 1)            with use_bias_correction_kl
//! loss         = Σ_ij weight_ij (beta kl_ij - objective_ij)
//! ```
//!
//! with `weight_ij` from [`LossType::weight`]. Its derivative with respect to a log-probability is, where the minimum is
//! `r A`, `-weight r A`: a token with a positive advantage becomes likelier. Where the minimum is the clipped one it is 0.
//! The KL term adds `weight beta (1 - exp(d))`; corrected, `weight beta r (1 - exp(d))` and, as the ratio moves too,
//! `weight beta kl`. In gspo every token of a completion moves the ratio of all of them, by `1 / completion length` each.

use super::loss::{LossNormalizer, LossOptions, LossType};

/// What [`policy_loss`] needs: see [`PolicyLossInput`](super::loss::PolicyLossInput), with the same names.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceInput<'a> {
    /// `[tokens]`
    pub per_token_logps: &'a [f64],
    /// `[tokens]`; without it the ratio is 1.
    pub old_per_token_logps: Option<&'a [f64]>,
    /// `[tokens]`; needed when `beta` is not 0.
    pub ref_per_token_logps: Option<&'a [f64]>,
    /// `[tokens]`
    pub advantages: &'a [f64],
    /// How many of the tokens each completion has, in order.
    pub sequence_lengths: &'a [usize],
    /// `[tokens]`, false for tokens that carry no loss.
    pub loss_mask: Option<&'a [bool]>,
    /// What the sums are divided by.
    pub normalizer: LossNormalizer,
}

/// The loss, its gradient, and what is logged with it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceLoss {
    /// The scalar loss.
    pub loss: f64,
    /// Its derivative with respect to each of `per_token_logps`, `[tokens]`.
    pub gradient: Vec<f64>,
    /// Mean KL estimate over the tokens that carry loss, if there is a reference.
    pub kl: Option<f64>,
    /// Share of ratios clipped from below (negative advantage), by token; by completion for gspo.
    pub clip_ratio_low_mean: f64,
    /// Share of ratios clipped from above (positive advantage).
    pub clip_ratio_high_mean: f64,
}

/// The loss of a batch or of a part of one. See the [module](self).
pub fn policy_loss(input: &ReferenceInput, options: &LossOptions) -> ReferenceLoss {
    let (low, high) = (1.0 - options.epsilon, 1.0 + options.epsilon_high());
    let mut loss = 0.0;
    let mut gradient = vec![0.0; input.per_token_logps.len()];
    let (mut kl_sum, mut low_sum, mut high_sum) = (0.0, 0.0, 0.0);
    let (mut tokens, mut ratios) = (0, 0);

    let mut start = 0;
    for &length in input.sequence_lengths {
        let carries_loss = |token: &usize| input.loss_mask.is_none_or(|mask| mask[*token]);
        let completion: Vec<usize> = (start..start + length).filter(carries_loss).collect();
        start += length;
        let count = completion.len() as f64;
        let weight = options.loss_type.weight(completion.len(), &input.normalizer);
        let by_sequence = options.loss_type == LossType::Gspo;

        let token_log_ratio = |token: usize| match input.old_per_token_logps {
            Some(old) => input.per_token_logps[token] - old[token],
            None => 0.0,
        };
        let mean_log_ratio = completion.iter().map(|&token| token_log_ratio(token)).sum::<f64>() / count;

        let (mut clipped_low, mut clipped_high) = (0.0, 0.0);
        for &token in &completion {
            let ratio = if by_sequence { mean_log_ratio } else { token_log_ratio(token) }.exp();
            let advantage = input.advantages[token];
            let objective = (ratio * advantage).min(ratio.clamp(low, high) * advantage);
            loss -= weight * objective;
            // Derivative of this token's loss with respect to its log ratio.
            let mut slope = 0.0;
            if ratio < low && advantage < 0.0 {
                clipped_low += 1.0;
            } else if ratio > high && advantage > 0.0 {
                clipped_high += 1.0;
            } else {
                slope -= weight * ratio * advantage;
            }
            if let Some(reference) = input.ref_per_token_logps {
                let d = reference[token] - input.per_token_logps[token];
                let correction = if options.use_bias_correction_kl { ratio } else { 1.0 };
                let kl = correction * (d.exp() - d - 1.0);
                kl_sum += kl;
                loss += weight * options.beta * kl;
                gradient[token] += weight * options.beta * correction * (1.0 - d.exp());
                slope += if options.use_bias_correction_kl { weight * options.beta * kl } else { 0.0 };
            }
            if by_sequence {
                completion.iter().for_each(|&other| gradient[other] += slope / count);
            } else {
                gradient[token] += slope;
            }
        }
        tokens += completion.len();
        ratios += if by_sequence { 1 } else { completion.len() };
        let share = if by_sequence { count.max(1.0) } else { 1.0 };
        low_sum += clipped_low / share;
        high_sum += clipped_high / share;
    }
    ReferenceLoss {
        loss,
        gradient,
        kl: input.ref_per_token_logps.map(|_| kl_sum / tokens.max(1) as f64),
        clip_ratio_low_mean: low_sum / ratios.max(1) as f64,
        clip_ratio_high_mean: high_sum / ratios.max(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A completion of two tokens and one of one, worked out by hand.
    #[test]
    fn a_hand_worked_example() {
        let (logps, old) = ([-1.0, -2.0, -0.5], [-1.0, -2.5, -1.5]);
        let input = ReferenceInput {
            per_token_logps: &logps,
            old_per_token_logps: Some(&old),
            ref_per_token_logps: Some(&[-1.0, -1.0, -0.5]),
            advantages: &[2.0, -1.0, 1.0],
            sequence_lengths: &[2, 1],
            loss_mask: None,
            normalizer: LossNormalizer { num_sequences: 2, num_tokens: 3, max_completion_length: 4 },
        };
        let options = LossOptions {
            loss_type: LossType::Grpo,
            epsilon: 0.2,
            epsilon_high: Some(0.3),
            beta: 0.1,
            use_bias_correction_kl: false,
        };
        let found = policy_loss(&input, &options);
        let e = std::f64::consts::E;
        // Ratios 1, √e and e. The negative advantage is not clipped from above, the last token is (at 1.3).
        let kl = e - 2.0;
        let by_hand = (-2.0 + e.sqrt() + 0.1 * kl) / 4.0 - 1.3 / 2.0;
        assert!((found.loss - by_hand).abs() < 1e-12, "{} and {by_hand}", found.loss);
        let gradient = [-2.0 / 4.0, (e.sqrt() + 0.1 * (1.0 - e)) / 4.0, 0.0];
        assert!(found.gradient.iter().zip(gradient).all(|(found, by_hand)| (found - by_hand).abs() < 1e-12));
        assert!((found.kl.unwrap() - kl / 3.0).abs() < 1e-12);
        assert_eq!((found.clip_ratio_low_mean, found.clip_ratio_high_mean), (0.0, 1.0 / 3.0));
        let corrected = policy_loss(&input, &LossOptions { use_bias_correction_kl: true, ..options });
        assert!((corrected.loss - found.loss - 0.1 * kl * (e.sqrt() - 1.0) / 4.0).abs() < 1e-12);
        let change = 0.1 * (e.sqrt() * (1.0 - e + kl) - (1.0 - e)) / 4.0;
        assert!((corrected.gradient[1] - found.gradient[1] - change).abs() < 1e-12);
        let dapo = policy_loss(&input, &LossOptions { loss_type: LossType::Dapo, ..options });
        assert!((dapo.loss - (-2.0 + e.sqrt() + 0.1 * kl - 1.3) / 3.0).abs() < 1e-12);
        let dr_grpo = policy_loss(&input, &LossOptions { loss_type: LossType::DrGrpo, ..options });
        assert!((dr_grpo.loss - dapo.loss * 3.0 / 8.0).abs() < 1e-12);
    }

    /// The gradient is the slope of the loss.
    #[test]
    fn the_gradient_is_the_slope() {
        let old = [-1.0, -2.5, -1.5, -0.7, -3.0, -0.1];
        let logps = [-1.1, -2.2, -1.9, -0.4, -3.1, -0.9];
        let reference = [-1.3, -2.0, -1.5, -0.2, -3.0, -0.5];
        let advantages = [1.5, 1.5, 1.5, -0.5, -0.5, 0.7];
        let mask = [true, false, true, true, true, true];
        let both = LossType::ALL.into_iter().flat_map(|loss_type| [(loss_type, false), (loss_type, true)]);
        for (loss_type, use_bias_correction_kl) in both {
            let options = LossOptions { loss_type, beta: 0.04, use_bias_correction_kl, ..LossOptions::default() };
            let of = |logps: &[f64]| {
                let input = ReferenceInput {
                    per_token_logps: logps,
                    old_per_token_logps: Some(&old),
                    ref_per_token_logps: Some(&reference),
                    advantages: &advantages,
                    sequence_lengths: &[3, 0, 2, 1],
                    loss_mask: Some(&mask),
                    normalizer: LossNormalizer { num_sequences: 4, num_tokens: 5, max_completion_length: 3 },
                };
                policy_loss(&input, &options)
            };
            let gradient = of(&logps).gradient;
            for token in 0..logps.len() {
                let moved = |by: f64| {
                    let mut logps = logps;
                    logps[token] += by;
                    of(&logps).loss
                };
                let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!((slope - gradient[token]).abs() < 1e-8, "{loss_type:?}, {token}: {slope}, {}", gradient[token]);
            }
        }
    }
}
