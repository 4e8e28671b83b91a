use std::ops::Range;

use super::*;
use crate::train::grpo::reference::{self, ReferenceInput, ReferenceLoss};
use proptest::prelude::*;

/// A batch of completions, of which any run of whole completions is a part.
#[derive(Clone, Debug)]
struct Batch {
    logps: Vec<f64>,
    old: Option<Vec<f64>>,
    reference: Option<Vec<f64>>,
    advantages: Vec<f64>,
    mask: Option<Vec<bool>>,
    lengths: Vec<usize>,
    max_completion_length: usize,
}

/// The loss with its gradient and what it logs.
#[derive(Debug)]
struct Found {
    loss: f64,
    gradient: Vec<f64>,
    metrics: PolicyMetricValues,
}

impl Batch {
    /// A batch whose values are what a run may show: ratios on both sides of the clipping region.
    fn strategy() -> impl Strategy<Value = Self> {
        let lengths = prop::collection::vec(0usize..9, 1..7).prop_filter("tokens", |all| all.iter().sum::<usize>() > 0);
        let tokens = lengths.prop_flat_map(|lengths| {
            let values = (-6.0f64..-0.01, -0.7f64..0.7, -1.0f64..1.0, prop::num::u8::ANY);
            (Just(lengths.clone()), prop::collection::vec(values, lengths.iter().sum::<usize>()))
        });
        (tokens, -2.0f64..2.0, any::<[bool; 4]>()).prop_map(|((lengths, tokens), shift, [old, kl, by_turn, masked])| {
            let advantages = tokens.iter().zip(owners(&lengths)).map(|((.., byte), owner)| {
                let part = if by_turn { f64::from(byte % 3) } else { 0.0 };
                ((owner * 7 % 5) as f64 - 2.0 + shift + part) / 2.0
            });
            Self {
                logps: tokens.iter().map(|token| token.0).collect(),
                old: old.then(|| tokens.iter().map(|token| token.0 - token.1).collect()),
                reference: kl.then(|| tokens.iter().map(|token| token.0 + token.2).collect()),
                advantages: advantages.collect(),
                mask: masked.then(|| tokens.iter().map(|token| token.3 < 200).collect()),
                max_completion_length: 9,
                lengths,
            }
        })
    }

    fn carries_loss(&self) -> Vec<bool> {
        self.mask.clone().unwrap_or_else(|| vec![true; self.logps.len()])
    }

    fn normalizer(&self) -> LossNormalizer {
        LossNormalizer {
            num_sequences: self.lengths.len(),
            num_tokens: self.carries_loss().iter().filter(|carries| **carries).count(),
            max_completion_length: self.max_completion_length,
        }
    }

    /// Some of its completions, alone.
    fn part(&self, sequences: Range<usize>) -> Self {
        let start = self.lengths[..sequences.start].iter().sum::<usize>();
        let end = start + self.lengths[sequences.clone()].iter().sum::<usize>();
        let cut = |values: &Option<Vec<f64>>| values.as_ref().map(|values| values[start..end].to_vec());
        Self {
            logps: self.logps[start..end].to_vec(),
            old: cut(&self.old),
            reference: cut(&self.reference),
            advantages: self.advantages[start..end].to_vec(),
            mask: self.mask.as_ref().map(|mask| mask[start..end].to_vec()),
            lengths: self.lengths[sequences].to_vec(),
            max_completion_length: self.max_completion_length,
        }
    }

    /// The completions in the opposite order.
    fn reversed(&self) -> Self {
        let parts: Vec<Self> = (0..self.lengths.len()).rev().map(|index| self.part(index..index + 1)).collect();
        let join = |of: fn(&Self) -> &Option<Vec<f64>>| {
            let parts: Option<Vec<_>> = parts.iter().map(|part| of(part).clone()).collect();
            parts.map(|parts| parts.concat())
        };
        Self {
            logps: parts.iter().flat_map(|part| part.logps.clone()).collect(),
            old: join(|part| &part.old),
            reference: join(|part| &part.reference),
            advantages: parts.iter().flat_map(|part| part.advantages.clone()).collect(),
            mask: self.mask.as_ref().map(|_| parts.iter().flat_map(Self::carries_loss).collect()),
            lengths: parts.iter().flat_map(|part| part.lengths.clone()).collect(),
            max_completion_length: self.max_completion_length,
        }
    }

    fn tensor(&self, options: &LossOptions, normalizer: LossNormalizer) -> Found {
        let device = Device::flex().autodiff();
        let floats = |values: &[f64]| {
            let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
            let len = values.len();
            Tensor::<1>::from_data(TensorData::new(values, [len]), &device)
        };
        let logps = floats(&self.logps).require_grad();
        let advantages: Vec<f32> = self.advantages.iter().map(|advantage| *advantage as f32).collect();
        let input = PolicyLossInput {
            per_token_logps: logps.clone(),
            old_per_token_logps: self.old.as_deref().map(floats),
            ref_per_token_logps: self.reference.as_deref().map(floats),
            entropy: Some(floats(&self.logps).neg()),
            advantages: &advantages,
            sequence_lengths: &self.lengths,
            loss_mask: self.mask.as_deref(),
            normalizer,
        };
        let PolicyLoss { loss, metrics } = policy_loss(input, options);
        let gradient = logps.grad(&loss.backward()).expect("a gradient").into_data();
        Found {
            loss: f64::from(loss.into_scalar::<f32>()),
            gradient: gradient.iter::<f64>().collect(),
            metrics: pollster::block_on(metrics.read()).expect("the CPU does not fail"),
        }
    }

    fn reference(&self, options: &LossOptions, normalizer: LossNormalizer) -> ReferenceLoss {
        let input = ReferenceInput {
            per_token_logps: &self.logps,
            old_per_token_logps: self.old.as_deref(),
            ref_per_token_logps: self.reference.as_deref(),
            advantages: &self.advantages,
            sequence_lengths: &self.lengths,
            loss_mask: self.mask.as_deref(),
            normalizer,
        };
        reference::policy_loss(&input, options)
    }
}

/// The completion that each token belongs to.
fn owners(lengths: &[usize]) -> Vec<usize> {
    lengths.iter().enumerate().flat_map(|(index, &len)| std::iter::repeat_n(index, len)).collect()
}

fn close(ours: f64, expected: f64) -> bool {
    (ours - expected).abs() <= 1e-5 * expected.abs().max(1.0)
}

fn all_close(ours: &[f64], expected: &[f64]) -> bool {
    ours.len() == expected.len() && ours.iter().zip(expected).all(|(ours, expected)| close(*ours, *expected))
}

fn options() -> impl Strategy<Value = LossOptions> {
    let loss_types = prop::sample::select(LossType::ALL.to_vec());
    let highs = prop::sample::select(vec![None, Some(0.28)]);
    (loss_types, highs, any::<[bool; 2]>()).prop_map(|(loss_type, epsilon_high, [kl, corrected])| LossOptions {
        loss_type,
        epsilon_high,
        beta: if kl { 0.04 } else { 0.0 },
        use_bias_correction_kl: corrected,
        ..LossOptions::default()
    })
}

/// Options that need no reference where there is none.
fn fitting(batch: &Batch, options: LossOptions) -> LossOptions {
    LossOptions { beta: if batch.reference.is_some() { options.beta } else { 0.0 }, ..options }
}

/// A ratio at the very edge of the clipping region may fall on either side of it in f32.
fn at_an_edge(batch: &Batch, options: &LossOptions) -> bool {
    let Some(old) = &batch.old else { return false };
    let mut ratios: Vec<f64> = batch.logps.iter().zip(old).map(|(logp, old)| logp - old).collect();
    if options.loss_type == LossType::Gspo {
        let (carries, owners) = (batch.carries_loss(), owners(&batch.lengths));
        let of = |sequence: usize| {
            let own = ratios.iter().enumerate().filter(|&(token, _)| owners[token] == sequence && carries[token]);
            let (count, sum) = own.fold((0.0f64, 0.0), |(count, sum), (_, ratio)| (count + 1.0, sum + ratio));
            sum / count.max(1.0)
        };
        ratios = (0..batch.lengths.len()).map(of).collect();
    }
    let edges = [(1.0 - options.epsilon).ln(), options.epsilon_high().ln_1p()];
    ratios.iter().any(|ratio| edges.iter().any(|edge| (ratio - edge).abs() < 1e-5))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn equals_the_reference(batch in Batch::strategy(), options in options()) {
        let options = fitting(&batch, options);
        prop_assume!(!at_an_edge(&batch, &options));
        let (ours, expected) = (batch.tensor(&options, batch.normalizer()), batch.reference(&options, batch.normalizer()));
        prop_assert!(close(ours.loss, expected.loss), "{} and {}", ours.loss, expected.loss);
        prop_assert!(all_close(&ours.gradient, &expected.gradient), "{:?}\n{:?}", ours.gradient, expected.gradient);
        let metrics = ours.metrics;
        prop_assert!(close(f64::from(metrics.loss), expected.loss));
        prop_assert_eq!(metrics.kl.is_some(), expected.kl.is_some());
        prop_assert!(close(metrics.kl.unwrap_or(0.0).into(), expected.kl.unwrap_or(0.0)));
        prop_assert!(close(metrics.clip_ratio_low_mean.into(), expected.clip_ratio_low_mean));
        prop_assert!(close(metrics.clip_ratio_high_mean.into(), expected.clip_ratio_high_mean));
        let carried = batch.logps.iter().zip(batch.carries_loss()).filter(|(_, carries)| *carries).map(|(logp, _)| -logp);
        let entropy = carried.sum::<f64>() / batch.normalizer().num_tokens.max(1) as f64;
        prop_assert!(close(metrics.entropy.unwrap().into(), entropy));
    }

    #[test]
    fn masked_tokens_have_no_gradient_whatever_they_are(batch in Batch::strategy(), options in options()) {
        let options = fitting(&batch, options);
        let Some(mask) = batch.mask.clone() else { return Ok(()) };
        let clean = batch.tensor(&options, batch.normalizer());
        let mut wild = batch.clone();
        for token in (0..mask.len()).filter(|token| !mask[*token]) {
            wild.logps[token] = f64::NEG_INFINITY;
            wild.advantages[token] = 1e6;
            for other in [&mut wild.old, &mut wild.reference].into_iter().flatten() {
                other[token] = f64::NEG_INFINITY;
            }
        }
        let wild = wild.tensor(&options, batch.normalizer());
        prop_assert_eq!(wild.loss, clean.loss);
        prop_assert_eq!(&wild.gradient, &clean.gradient);
        prop_assert!(wild.gradient.iter().zip(mask).all(|(gradient, carries)| carries || *gradient == 0.0));
        prop_assert_eq!(wild.metrics, clean.metrics);
    }

    #[test]
    fn order_does_not_matter(batch in Batch::strategy(), options in options()) {
        let options = fitting(&batch, options);
        let (forward, reversed) = (batch.tensor(&options, batch.normalizer()), batch.reversed());
        let backward = reversed.tensor(&options, batch.normalizer());
        prop_assert!(close(forward.loss, backward.loss), "{} and {}", forward.loss, backward.loss);
        let gradient = Batch { logps: backward.gradient, ..reversed }.reversed().logps;
        prop_assert!(all_close(&forward.gradient, &gradient));
    }
}

/// Eight completions with ratios and advantages of all kinds, without randomness.
fn eight() -> Batch {
    let lengths = vec![3, 5, 1, 4, 8, 2, 6, 7];
    let owners = owners(&lengths);
    let value = |token: usize, step: usize| ((token * step) % 17) as f64 / 17.0;
    let logps: Vec<f64> = (0..owners.len()).map(|token| -0.1 - 3.0 * value(token, 5)).collect();
    let moved = |step: usize, by: f64| {
        logps.iter().enumerate().map(|(token, logp)| logp + by * (value(token, step) - 0.5)).collect()
    };
    Batch {
        old: Some(moved(7, 1.2)),
        reference: Some(moved(11, 2.0)),
        advantages: owners.iter().map(|owner| (owner * 3 % 8) as f64 / 2.0 - 1.75).collect(),
        mask: Some((0..owners.len()).map(|token| token % 6 != 4).collect()),
        max_completion_length: 10,
        lengths,
        logps,
    }
}

fn with_kl(loss_type: LossType) -> LossOptions {
    LossOptions { loss_type, epsilon_high: Some(0.28), beta: 0.04, ..LossOptions::default() }
}

#[test]
fn eight_times_one_accumulated_equals_eight() {
    let batch = eight();
    for loss_type in LossType::ALL {
        let options = with_kl(loss_type);
        let whole = batch.tensor(&options, batch.normalizer());
        for split in [vec![1; 8], vec![4, 4], vec![1, 5, 2]] {
            let mut start = 0;
            let parts: Vec<Found> = split
                .iter()
                .map(|len| {
                    start += len;
                    batch.part(start - len..start).tensor(&options, batch.normalizer())
                })
                .collect();
            let loss: f64 = parts.iter().map(|part| part.loss).sum();
            assert!(close(loss, whole.loss), "{loss_type:?}, {split:?}: {loss} and {}", whole.loss);
            let gradient: Vec<f64> = parts.iter().flat_map(|part| part.gradient.clone()).collect();
            assert!(all_close(&gradient, &whole.gradient), "{loss_type:?}, {split:?}");
        }
    }
}

#[test]
fn merged_metrics_are_those_of_the_whole() {
    let batch = eight();
    for loss_type in LossType::ALL {
        let options = with_kl(loss_type);
        let metrics = |batch: &Batch, normalizer| {
            let device = Device::flex();
            let floats = |values: &Vec<f64>| {
                Tensor::<1>::from_data(TensorData::new(values.clone(), [values.len()]).convert::<f32>(), &device)
            };
            let advantages: Vec<f32> = batch.advantages.iter().map(|advantage| *advantage as f32).collect();
            let input = PolicyLossInput {
                per_token_logps: floats(&batch.logps),
                old_per_token_logps: batch.old.as_ref().map(floats),
                ref_per_token_logps: batch.reference.as_ref().map(floats),
                entropy: None,
                advantages: &advantages,
                sequence_lengths: &batch.lengths,
                loss_mask: batch.mask.as_deref(),
                normalizer,
            };
            policy_loss(input, &options).metrics
        };
        let normalizer = batch.normalizer();
        let merged = metrics(&batch.part(0..3), normalizer).merge(metrics(&batch.part(3..8), normalizer));
        let merged = pollster::block_on(merged.read()).unwrap();
        let whole = pollster::block_on(metrics(&batch, normalizer).read()).unwrap();
        assert!(whole.clip_ratio_low_mean > 0.0 && whole.clip_ratio_high_mean > 0.0, "{loss_type:?}: {whole:?}");
        let (merged, whole) = (merged.metrics(), whole.metrics());
        assert_eq!(whole.len(), 5);
        for ((name, merged), (_, whole)) in merged.iter().zip(&whole) {
            assert!(close(*merged, *whole), "{loss_type:?}, {name}: {merged} and {whole}");
        }
    }
}

#[test]
fn the_first_iteration_has_ratio_one_and_no_divergence() {
    let batch = eight();
    let same = Batch { old: Some(batch.logps.clone()), reference: Some(batch.logps.clone()), ..batch.clone() };
    let absent = Batch { old: None, ..same.clone() };
    for loss_type in LossType::ALL {
        let options = with_kl(loss_type);
        let (same, absent) = (same.tensor(&options, batch.normalizer()), absent.tensor(&options, batch.normalizer()));
        assert_eq!(same.gradient, absent.gradient, "{loss_type:?}");
        assert_eq!(same.metrics, absent.metrics, "{loss_type:?}");
        assert_eq!(absent.metrics.kl, Some(0.0));
        assert_eq!(absent.metrics.clip_ratio_region_mean(), 0.0);
        // With ratio 1 the loss is the weighted sum of the advantages, its gradient is each one's part of it (in gspo the
        // mean over the completion, which has one advantage here).
        let sum: f64 = absent.gradient.iter().sum();
        assert!(close(absent.loss, sum), "{loss_type:?}: {} and {sum}", absent.loss);
        for (gradient, advantage) in absent.gradient.iter().zip(&batch.advantages) {
            assert!(gradient * advantage <= 0.0, "{loss_type:?}: what is better becomes likelier");
        }
    }
}

#[test]
fn dapo_is_grpo_when_all_lengths_are_equal() {
    let batch = Batch { lengths: vec![4; 9], mask: None, ..eight() };
    let of = |loss_type| batch.tensor(&with_kl(loss_type), batch.normalizer());
    let (grpo, dapo) = (of(LossType::Grpo), of(LossType::Dapo));
    assert!(close(grpo.loss, dapo.loss) && all_close(&grpo.gradient, &dapo.gradient));
    let ragged = eight();
    let of = |loss_type| ragged.tensor(&with_kl(loss_type), ragged.normalizer()).loss;
    assert!((of(LossType::Grpo) - of(LossType::Dapo)).abs() > 1e-3, "and not otherwise");
}

#[test]
fn nothing_to_compare_moves_nothing() {
    let batch = Batch { advantages: vec![0.0; 36], ..eight() };
    let unseen = Batch { mask: Some(vec![false; 36]), ..eight() };
    for loss_type in LossType::ALL {
        let without_kl = LossOptions { beta: 0.0, ..with_kl(loss_type) };
        let found = batch.tensor(&without_kl, batch.normalizer());
        assert_eq!(found.loss, 0.0);
        assert!(found.gradient.iter().all(|gradient| *gradient == 0.0), "{loss_type:?}");
        let found = unseen.tensor(&with_kl(loss_type), unseen.normalizer());
        assert_eq!((found.loss, found.metrics.kl), (0.0, Some(0.0)));
        assert!(found.gradient.iter().all(|gradient| *gradient == 0.0), "{loss_type:?}");
    }
}

#[test]
fn a_ratio_that_overflows_is_clipped() {
    let batch = Batch {
        logps: vec![-0.1, -0.1],
        old: Some(vec![-200.0, -0.1]),
        reference: None,
        advantages: vec![1.0, 1.0],
        mask: None,
        lengths: vec![2],
        max_completion_length: 2,
    };
    let found = batch.tensor(&LossOptions::default(), batch.normalizer());
    assert!(close(found.loss, -1.1) && all_close(&found.gradient, &[0.0, -0.5]), "{found:?}");
}

#[test]
fn options_are_checked_and_named_as_in_trl() {
    let default = LossOptions::default();
    assert_eq!(default.validate(), Ok(()));
    assert_eq!(LossOptions { epsilon: 1.0, ..default }.validate(), Err(LossOptionsError::Epsilon(1.0)));
    let high = LossOptions { epsilon_high: Some(0.0), ..default };
    assert_eq!(high.validate(), Err(LossOptionsError::EpsilonHigh(0.0)));
    assert_eq!(LossOptions { beta: -0.1, ..default }.validate(), Err(LossOptionsError::Beta(-0.1)));
    let read: LossOptions = toml::from_str("loss_type = \"dr_grpo\"\nepsilon_high = 0.28").unwrap();
    assert_eq!(read, LossOptions { loss_type: LossType::DrGrpo, epsilon_high: Some(0.28), ..default });
    assert!(toml::from_str::<LossOptions>("epsilon_hi = 0.28").is_err());
}
