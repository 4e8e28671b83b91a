//! Losses, gradients and advantages beside TRL's own code: what it gave on fixed numbers, frozen in
//! `data/parity/trl.json` by `parity/trl_vectors.py` (which describes the file). `cargo xtask parity` runs TRL again.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use parl_mt::train::grpo::{
    CompletionStatistics, LossNormalizer, LossOptions, LossType, PolicyLossInput, PolicyMetrics, RewardTable,
    RewardTerm, ScaleRewards, expand_over_sequences, group_advantages, policy_loss,
};
use parl_tests::scenario::data_folder;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    max_completion_length: usize,
    batch: Batch,
    losses: Vec<LossVector>,
    advantages: Vec<AdvantageVector>,
}

#[derive(Deserialize)]
struct Batch {
    sequence_lengths: Vec<usize>,
    tool_mask: Vec<u8>,
    per_token_logps: Vec<f32>,
    old_per_token_logps: Vec<f32>,
    ref_per_token_logps: Vec<f32>,
    entropies: Vec<f32>,
    advantages: Vec<f32>,
    turn_advantages: Vec<f32>,
}

#[derive(Deserialize)]
struct LossVector {
    options: LossOptions,
    with_old: bool,
    with_tool_mask: bool,
    by_turn: bool,
    parts: Vec<usize>,
    loss: f64,
    gradient: Vec<f64>,
    metrics: Option<BTreeMap<String, f64>>,
}

#[derive(Deserialize)]
struct AdvantageVector {
    num_generations: usize,
    scale_rewards: ScaleRewards,
    reward_weights: Option<Vec<f64>>,
    rewards: Vec<Vec<Option<f64>>>,
    completions: Vec<Vec<u32>>,
    advantages: Vec<f64>,
    metrics: BTreeMap<String, f64>,
}

/// Ends a completion in the vectors.
const END: u32 = 1;

fn vectors() -> Vectors {
    let file = std::fs::read_to_string(data_folder().join("parity/trl.json")).expect("the vectors are there");
    serde_json::from_str(&file).expect("the vectors read")
}

fn close(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() <= 1e-5
}

/// The loss of some whole sequences of the batch, its gradient, and its metrics.
fn part(vectors: &Vectors, vector: &LossVector, sequences: Range<usize>) -> (f64, Vec<f64>, PolicyMetrics) {
    let batch = &vectors.batch;
    let mask: Vec<bool> = batch.tool_mask.iter().map(|&mask| mask == 1 || !vector.with_tool_mask).collect();
    let advantages = if vector.by_turn {
        batch.turn_advantages.clone()
    } else {
        expand_over_sequences(&batch.advantages, &batch.sequence_lengths)
    };
    let start: usize = batch.sequence_lengths[..sequences.start].iter().sum();
    let tokens = start..start + batch.sequence_lengths[sequences.clone()].iter().sum::<usize>();
    let device = Device::flex().autodiff();
    let floats = |values: &[f32]| {
        let values = values[tokens.clone()].to_vec();
        let len = values.len();
        Tensor::<1>::from_data(TensorData::new(values, [len]), &device)
    };
    let logps = floats(&batch.per_token_logps).require_grad();
    let input = PolicyLossInput {
        per_token_logps: logps.clone(),
        old_per_token_logps: vector.with_old.then(|| floats(&batch.old_per_token_logps)),
        ref_per_token_logps: (vector.options.beta != 0.0).then(|| floats(&batch.ref_per_token_logps)),
        entropy: Some(floats(&batch.entropies)),
        advantages: &advantages[tokens.clone()],
        sequence_lengths: &batch.sequence_lengths[sequences],
        loss_mask: vector.with_tool_mask.then_some(&mask[tokens.clone()]),
        normalizer: LossNormalizer {
            num_sequences: batch.sequence_lengths.len(),
            num_tokens: mask.iter().filter(|mask| **mask).count(),
            max_completion_length: vectors.max_completion_length,
        },
    };
    let found = policy_loss(input, &vector.options);
    let gradient = logps.grad(&found.loss.backward()).expect("a gradient").into_data();
    (found.loss.into_scalar::<f32>().into(), gradient.iter::<f64>().collect(), found.metrics)
}

#[test]
fn losses_gradients_and_metrics_are_trls() {
    let vectors = vectors();
    let mut seen = BTreeMap::new();
    for vector in &vectors.losses {
        let what = format!(
            "{:?}, old {}, mask {}, by turn {}, parts {:?}",
            vector.options, vector.with_old, vector.with_tool_mask, vector.by_turn, vector.parts
        );
        let mut start = 0;
        let parts: Vec<_> = vector
            .parts
            .iter()
            .map(|count| {
                start += count;
                part(&vectors, vector, start - count..start)
            })
            .collect();
        let loss: f64 = parts.iter().map(|(loss, ..)| loss).sum();
        assert!(close(loss, vector.loss), "{what}: loss {loss}, TRL's {}", vector.loss);
        let gradient: Vec<f64> = parts.iter().flat_map(|(_, gradient, _)| gradient.clone()).collect();
        assert_eq!(gradient.len(), vector.gradient.len());
        for (token, (ours, theirs)) in gradient.iter().zip(&vector.gradient).enumerate() {
            assert!(close(*ours, *theirs), "{what}: gradient of token {token} is {ours}, TRL's {theirs}");
        }
        let metrics = parts.into_iter().map(|(.., metrics)| metrics).reduce(PolicyMetrics::merge).expect("a part");
        let metrics = pollster::block_on(metrics.read()).expect("the CPU does not fail").metrics();
        if let Some(theirs) = &vector.metrics {
            for (name, ours) in metrics {
                // With one ratio per completion and advantages by turn, TRL counts tokens; ours counts completions.
                let counts_differ = vector.by_turn && vector.options.loss_type == LossType::Gspo;
                if name == "loss" || counts_differ && name.starts_with("clip_ratio") {
                    continue;
                }
                assert!(close(ours, theirs[name]), "{what}: {name} is {ours}, TRL's {}", theirs[name]);
                *seen.entry(name).or_insert(0) += 1;
            }
        }
    }
    assert!(vectors.losses.len() >= 120, "{} losses", vectors.losses.len());
    assert!(seen.len() == 5 && seen.values().all(|count| *count >= 30), "{seen:?}");
}

#[test]
fn advantages_and_reward_metrics_are_trls() {
    let vectors = vectors();
    let mut names = std::collections::BTreeSet::new();
    for vector in &vectors.advantages {
        let what = format!("{:?} by {}, {:?}", vector.scale_rewards, vector.num_generations, vector.reward_weights);
        let terms = (0..vector.rewards[0].len()).map(|index| RewardTerm {
            name: format!("term_{index}"),
            weight: vector.reward_weights.as_ref().map_or(1.0, |weights| weights[index]),
        });
        let mut table = RewardTable::new(terms.collect());
        vector.rewards.iter().for_each(|row| table.push(row.clone()));
        let found = group_advantages(&table.totals(), vector.num_generations, vector.scale_rewards);
        for (rollout, (ours, theirs)) in found.advantages.iter().zip(&vector.advantages).enumerate() {
            assert!(close((*ours).into(), *theirs), "{what}: advantage {rollout} is {ours}, TRL's {theirs}");
        }
        let lengths = vector.completions.iter().map(|tokens| (tokens.len(), tokens.last() != Some(&END)));
        let mut metrics = table.metrics();
        metrics.push(("frac_reward_zero_std".to_owned(), found.frac_reward_zero_std));
        let completions = CompletionStatistics::new(lengths).metrics();
        metrics.extend(completions.map(|(name, value)| (name.to_owned(), value)));
        let theirs = vector.metrics.keys().filter(|name| *name != "num_tokens").count();
        assert_eq!(metrics.len(), theirs, "{what}: {metrics:?}");
        for (name, ours) in metrics {
            assert!(close(ours, vector.metrics[&name]), "{what}: {name} is {ours}, TRL's {}", vector.metrics[&name]);
            names.insert(name);
        }
    }
    assert!(vectors.advantages.len() >= 45 && names.len() == 14, "{} vectors with {names:?}", vectors.advantages.len());
}
