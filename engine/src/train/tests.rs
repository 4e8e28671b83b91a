//! Training end to end, on tasks small enough for a test.

use burn::tensor::{Device, Tolerance};

use super::batch::{Batch, Sequence};
use super::grpo::prompts::{PromptSource, PromptTasks};
use super::grpo::trainer::{AdvantageLevel, GrpoOptions, GrpoTrainer};
use super::grpo::{LossOptions, LossType, RewardTerm, ScaleRewards};
use super::optimizer::{AdamW, AdamWOptions};
use super::policy::{Policy, token_logps};
use super::schedule::{Schedule, ScheduleKind};
use super::sft::{SftOptions, SftTrainer};
use super::*;
use crate::generation::{Cancel, Completion, GenerationOptions, SamplingOptions};
use crate::model::{HostTensors, LORA_TARGETS, LoraOptions, ModelConfig, Preset, Transformer};

const END: u32 = 1;

fn tiny() -> ModelConfig {
    ModelConfig { num_hidden_layers: 2, max_position_embeddings: 64, ..ModelConfig::preset(Preset::Nano, 16) }
}

pub(super) fn sft_options(steps: u64) -> SftOptions {
    let schedule =
        Schedule { peak: 3e-3, warmup_steps: 5, total_steps: steps, kind: ScheduleKind::Cosine, min_ratio: 0.1 };
    SftOptions {
        batch_size: 16,
        packed_tokens: None,
        gradient_accumulation_steps: 1,
        shuffle: true,
        schedule,
        optimizer: AdamWOptions::default(),
        seed: 7,
        gradient_checkpointing: false,
    }
}

/// Copy three symbols: `a b c =` to `a b c` and the end.
fn copying() -> Vec<Sequence> {
    let symbols = 4..12u32;
    let triples = symbols.clone().flat_map(|a| symbols.clone().map(move |b| [a, b, (a * 5 + b * 3) % 8 + 4]));
    triples.map(|[a, b, c]| Sequence::new(vec![a, b, c, 2], vec![a, b, c, END])).collect()
}

fn weights(trainer: &SftTrainer) -> HostTensors {
    now_or_yield(trainer.policy().model().to_host())
}

/// Runs a future that yields but never waits.
fn now_or_yield<F: Future>(future: F) -> F::Output {
    pollster::block_on(future)
}

fn farthest(left: &HostTensors, right: &HostTensors) -> f32 {
    assert!(left.keys().eq(right.keys()));
    let pairs = left.values().zip(right.values()).flat_map(|(l, r)| l.values.iter().zip(&r.values));
    pairs.map(|(l, r)| (l - r).abs()).fold(0.0, f32::max)
}

#[test]
fn copying_is_learnt() {
    let mut trainer = SftTrainer::new(&tiny().init(1, &Device::flex()), copying(), sft_options(150)).unwrap();
    let losses: Vec<f64> = (0..150).map(|_| now_or_yield(trainer.step()).unwrap()["loss"]).collect();
    assert!(losses[0] > 2.0, "a fresh model knows nothing: {}", losses[0]);
    assert!(losses[149] < 0.1, "{}", losses[149]);
    let evaluation = now_or_yield(trainer.evaluate(&copying())).unwrap();
    assert!(evaluation.loss < 0.1 && evaluation.tokens == 64 * 4, "{evaluation:?}");
}

#[test]
fn eight_accumulated_are_eight_at_once() {
    let model = tiny().init(1, &Device::flex());
    let of = |batch_size| {
        let options = SftOptions { batch_size, gradient_accumulation_steps: 8 / batch_size, ..sft_options(10) };
        let mut trainer = SftTrainer::new(&model, copying(), options).unwrap();
        let metrics = now_or_yield(trainer.step()).unwrap();
        (metrics["loss"], metrics["grad_norm"], weights(&trainer))
    };
    let (whole, parts) = (of(8), of(1));
    assert!((whole.0 - parts.0).abs() < 1e-5 && (whole.1 - parts.1).abs() < 1e-4 * whole.1, "{whole:?}");
    // Adam's first step is a sign: where a gradient is nearly 0, it may differ by a part of the learning rate.
    assert!(farthest(&whole.2, &parts.2) < 1e-4, "{}", farthest(&whole.2, &parts.2));
}

#[test]
fn gradient_checkpointing_changes_nothing_but_memory() {
    let model = tiny().init(1, &Device::flex());
    let of = |gradient_checkpointing| {
        let options = SftOptions { gradient_checkpointing, ..sft_options(10) };
        let mut trainer = SftTrainer::new(&model, copying(), options).unwrap();
        now_or_yield(trainer.step()).unwrap()["grad_norm"]
    };
    let (plain, checkpointed) = (of(false), of(true));
    assert!((plain - checkpointed).abs() < 1e-5 * plain, "{plain} and {checkpointed}");
}

#[test]
fn a_resumed_run_goes_on_bit_by_bit() {
    let device = Device::flex();
    let (model, options) = (tiny().init(1, &device), sft_options(10));
    let mut whole = SftTrainer::new(&model, copying(), options.clone()).unwrap();
    let mut first = SftTrainer::new(&model, copying(), options.clone()).unwrap();
    for _ in 0..4 {
        now_or_yield(first.step()).unwrap();
    }
    let saved = (weights(&first), now_or_yield(first.policy().optimizer_state()), first.num_tokens());
    drop(first);
    let loaded = Transformer::from_host(&model.config, &saved.0, &device).unwrap();
    let optimizer = AdamW::from_host(options.optimizer, 4, &saved.1, &device);
    let policy = Policy::with_optimizer(&loaded, optimizer, false);
    let mut second = SftTrainer::resume(policy, copying(), options, 4, saved.2).unwrap();
    let without_time = |mut metrics: indexmap::IndexMap<String, f64>| {
        metrics.retain(|name, _| name != "step_time" && name != "tokens_per_second");
        metrics
    };
    let curve: Vec<_> = (0..8).map(|_| without_time(now_or_yield(whole.step()).unwrap())).collect();
    let rest: Vec<_> = (0..4).map(|_| without_time(now_or_yield(second.step()).unwrap())).collect();
    assert_eq!(curve[4..], rest);
    assert_eq!(weights(&whole), weights(&second));
}

#[test]
fn what_cannot_be_learnt_from_is_refused() {
    let model = tiny().init(1, &Device::flex());
    let refused = |data| SftTrainer::new(&model, data, sft_options(1)).err().unwrap().to_string();
    assert!(refused(vec![Sequence::new(vec![1, 2], vec![])]).contains("no sequence with a token that carries loss"));
    assert!(refused(vec![Sequence::new(vec![2; 70], vec![3])]).contains("has 71 tokens, more than the model's 64"));
}

/// Say the symbol that follows the one asked for: a reward for the right first token.
struct Successor;

impl PromptTasks for Successor {
    fn count(&self) -> usize {
        6
    }

    fn prompt(&self, task: usize) -> (String, Vec<u32>) {
        (format!("successor of {task}"), vec![4 + task as u32, 2])
    }

    fn reward_terms(&self) -> Vec<RewardTerm> {
        vec![RewardTerm { name: "right".to_owned(), weight: 1.0 }]
    }

    fn rewards(&self, task: usize, completion: &Completion) -> Vec<Option<f64>> {
        vec![Some(f64::from(u8::from(completion.tokens[0] == 5 + task as u32)))]
    }
}

fn grpo_options(steps: u64) -> GrpoOptions {
    GrpoOptions {
        num_generations: 16,
        batch_size: 96,
        gradient_accumulation_steps: 1,
        steps_per_generation: 1,
        loss: LossOptions { loss_type: LossType::Dapo, ..LossOptions::default() },
        scale_rewards: ScaleRewards::Group,
        advantage_level: AdvantageLevel::Trajectory,
        num_iterations: 1,
        temperature: 1.0,
        max_completion_length: 1,
        mask_truncated_completions: false,
        max_resample_rounds: 0,
        schedule: Schedule {
            peak: 5e-3,
            warmup_steps: 2,
            total_steps: steps,
            kind: ScheduleKind::Constant,
            min_ratio: 1.0,
        },
        optimizer: AdamWOptions { weight_decay: 0.0, ..AdamWOptions::default() },
        gradient_checkpointing: false,
    }
}

fn source(seed: u64) -> PromptSource<Successor> {
    let options = GenerationOptions {
        sampling: SamplingOptions::default(),
        max_new_tokens: 1,
        stop_tokens: vec![END],
        seed,
        constraint: None,
    };
    PromptSource::new(Successor, options, Cancel::default())
}

fn grpo(model: &Transformer, options: GrpoOptions, steps: usize) -> Vec<indexmap::IndexMap<String, f64>> {
    let mut trainer = GrpoTrainer::new(model, source(3), options).unwrap();
    (0..steps).map(|_| now_or_yield(trainer.step()).unwrap().metrics).collect()
}

#[test]
fn rewards_are_learnt_from_by_every_loss() {
    let model = tiny().init(1, &Device::flex());
    for loss_type in LossType::ALL {
        let mut options = grpo_options(40);
        options.loss.loss_type = loss_type;
        let curve = grpo(&model, options, 40);
        let (before, after) = (curve[0]["reward"], curve[39]["reward"]);
        assert!(before < 0.3 && after > 0.9, "{loss_type:?}: {before} to {after}");
    }
}

#[test]
fn the_first_iteration_clips_nothing_and_has_not_moved() {
    let model = tiny().init(1, &Device::flex());
    let mut options = grpo_options(3);
    options.loss.beta = 0.1;
    let curve = grpo(&model, options.clone(), 3);
    assert_eq!((curve[0]["kl"], curve[0]["clip_ratio/region_mean"]), (0.0, 0.0));
    assert!(curve[2]["kl"] > 0.0);
    // Later iterations do move.
    options.num_iterations = 4;
    options.loss.epsilon = 0.01;
    assert!(grpo(&model, options, 4)[3]["clip_ratio/region_mean"] > 0.0);
}

#[test]
fn parts_of_a_batch_of_rollouts_give_the_whole_update() {
    let model = tiny().init(1, &Device::flex());
    for loss_type in LossType::ALL {
        let of = |batch_size| {
            let passes = 96 / batch_size;
            let mut options = GrpoOptions {
                batch_size,
                gradient_accumulation_steps: passes,
                steps_per_generation: passes,
                ..grpo_options(2)
            };
            options.loss.loss_type = loss_type;
            grpo(&model, options, 1).remove(0)
        };
        let (whole, parts) = (of(96), of(8));
        assert!((whole["grad_norm"] - parts["grad_norm"]).abs() < 1e-4 * whole["grad_norm"], "{loss_type:?}");
    }
}

#[test]
fn groups_that_teach_nothing_are_resampled() {
    let model = tiny().init(1, &Device::flex());
    let plain = grpo(&model, grpo_options(1), 1).remove(0);
    assert!(plain["frac_reward_zero_std"] > 0.0, "this seed has a group without a right answer");
    let options = GrpoOptions { max_resample_rounds: 10, ..grpo_options(1) };
    let resampled = grpo(&model, options, 1).remove(0);
    assert_eq!(resampled["frac_reward_zero_std"], 0.0);
    assert!(resampled["dynamic_sampling/dropped_groups"] > 0.0);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let model = tiny().init(1, &Device::flex());
    let options = GrpoOptions { num_generations: 1, ..grpo_options(1) };
    let error = GrpoTrainer::new(&model, source(1), options).err().unwrap();
    assert!(matches!(&error, TrainError::Options(text) if text.contains("at least 2")), "{error}");
}

fn lora(rank: usize) -> LoraOptions {
    LoraOptions { rank, alpha: 2.0 * rank as f64, targets: LORA_TARGETS.map(str::to_owned).to_vec() }
}

/// A model with adapters that knows nothing, but has embeddings large enough to say something: they stay frozen.
fn adapted() -> Transformer {
    let config = ModelConfig { initializer_range: 0.2, ..tiny() };
    config.init(1, &Device::flex()).with_lora(&lora(4), 5).unwrap()
}

#[test]
fn adapters_learn_and_what_they_adapt_stays() {
    let model = adapted();
    let before = now_or_yield(model.base_to_host());
    for gradient_checkpointing in [false, true] {
        let mut options = SftOptions { gradient_checkpointing, ..sft_options(100) };
        options.schedule.peak = 1e-2;
        let mut trainer = SftTrainer::new(&model, copying(), options).unwrap();
        let adapters = now_or_yield(trainer.policy().model().adapters_to_host());
        let trained: usize = adapters.values().map(|tensor| tensor.values.len()).sum();
        assert_eq!(trainer.policy().trained_parameters(), trained);
        let curve: Vec<_> = (0..100).map(|_| now_or_yield(trainer.step()).unwrap()).collect();
        let (first, last) = (curve[0]["loss"], curve[99]["loss"]);
        assert!(first > 2.0 && last < 0.1, "{first} to {last}");
        let policy = trainer.policy();
        assert_eq!(now_or_yield(policy.model().base_to_host()), before);
        let moved = now_or_yield(policy.model().adapters_to_host());
        assert!(moved.iter().all(|(name, tensor)| *tensor != adapters[name]), "all factors are trained");
        // Moments of each factor, and of nothing else.
        let moments = now_or_yield(policy.optimizer_state());
        assert_eq!(moments.len(), 2 * adapters.len());
        assert!(moments.keys().all(|name| name.contains(".lora.")), "{:?}", moments.keys());
        // What is sampled from and saved is merged, and computes the same.
        let (merged, batch) = (policy.inference(), Batch::new(&copying().iter().collect::<Vec<_>>()));
        assert!(now_or_yield(merged.adapters_to_host()).is_empty());
        let again = Policy::new(&merged, AdamWOptions::default(), false);
        assert_eq!(again.trained_parameters(), model.config.num_parameters(), "nothing is frozen any more");
        let logps = |model: &Transformer| token_logps(model, &batch, 1.0).logps.into_data();
        let saved = Transformer::from_host(&model.config, &now_or_yield(policy.model().to_host()), &Device::flex());
        logps(&merged).assert_approx_eq::<f32>(&logps(policy.model()), Tolerance::absolute(1e-5));
        assert_eq!(logps(&saved.unwrap()), logps(&merged));
    }
}

#[test]
fn the_norm_of_a_gradient_is_that_of_the_factors() {
    let model = adapted();
    let batch = Batch::new(&copying().iter().collect::<Vec<_>>());
    let mut policy = Policy::new(&model, AdamWOptions::default(), false);
    let loss = policy.token_logps(&batch, 1.0).logps.mean().neg();
    let gradients = loss.backward();
    let mut expected = 0.0;
    for layer in &policy.model().layers {
        for linear in [&layer.self_attn.q_proj, &layer.self_attn.k_proj, &layer.self_attn.v_proj].into_iter().chain([
            &layer.self_attn.o_proj,
            &layer.mlp.gate_proj,
            &layer.mlp.up_proj,
            &layer.mlp.down_proj,
        ]) {
            let adapter = linear.weight.adapter().unwrap();
            for factor in [&adapter.a, &adapter.b] {
                let gradient = factor.val().grad(&gradients).unwrap();
                expected += f64::from(gradient.powi_scalar(2).sum().into_scalar::<f32>());
            }
            assert!(linear.weight.base().grad(&gradients).is_none());
        }
    }
    let loss = policy.token_logps(&batch, 1.0).logps.mean().neg();
    policy.backward(&loss);
    let norm = now_or_yield(policy.update(0.0));
    assert!(norm > 0.0 && (norm - expected.sqrt()).abs() < 1e-4 * norm, "{norm}, by hand {}", expected.sqrt());
}
