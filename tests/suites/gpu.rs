//! The engine on wgpu beside the engine on Flex: the same weights must give the same numbers within f32's reach.
//!
//! Shapes are the smallest that use every operator, because software Vulkan (lavapipe) runs them. A machine without any
//! adapter skips, loudly.

use burn::module::Module as _;
use burn::tensor::{Device, Tensor, Tolerance};
use parl_mt::device::{self, DeviceChoice};
use parl_mt::generation::{Cancel, GenerationOptions, Group, SamplingOptions, generate};
use parl_mt::model::{ModelConfig, ModelType, Preset, Transformer, token_tensor};
use parl_mt::ops::Layout;
use parl_mt::train::batch::{Batch, Sequence};
use parl_mt::train::optimizer::AdamWOptions;
use parl_mt::train::policy::token_logps;
use parl_mt::train::schedule::{Schedule, ScheduleKind};
use parl_mt::train::sft::{SftOptions, SftTrainer};

/// The model on both devices, or none where there is no adapter.
fn both() -> Option<[Transformer; 2]> {
    let selected = match device::select(DeviceChoice::Wgpu) {
        Ok(selected) => selected,
        Err(error) => {
            parl_tests::skip(&error.to_string());
            return None;
        }
    };
    let shape = ModelConfig::preset(Preset::Nano, 48);
    let config = ModelConfig {
        model_type: ModelType::Qwen2,
        attention_bias: true,
        num_hidden_layers: 1,
        hidden_size: 32,
        head_dim: 8,
        intermediate_size: 48,
        max_position_embeddings: 64,
        initializer_range: 0.15,
        ..shape
    };
    Some([Device::flex(), selected.device].map(|device| config.init(3, &device)))
}

fn sequences() -> Vec<Sequence> {
    (0..4u32)
        .map(|i| Sequence::new(vec![5, 6 + i / 2, 9], (0..4 + i).map(|j| (i * 7 + j * 5) % 48).collect()))
        .collect()
}

fn close(left: &Tensor<2>, right: &Tensor<2>) {
    left.clone().into_data().assert_approx_eq::<f32>(&right.clone().into_data(), Tolerance::absolute(1e-4));
}

#[test]
fn forward_passes_agree() {
    let Some(models) = both() else { return };
    let mut layout = Layout::new();
    let prompt = layout.push(5, None);
    layout.push(3, Some(prompt));
    layout.push(4, Some(prompt));
    let layout = layout.shared();
    let ids: Vec<u32> = (0..12).map(|i| i * 5 % 48).collect();
    let [flex, gpu] = models.map(|model| model.forward(token_tensor(&ids, &model.device()), &layout));
    close(&flex, &gpu);
}

#[test]
fn log_probabilities_agree() {
    let Some(models) = both() else { return };
    let sequences = sequences();
    let batch = Batch::new(&sequences.iter().collect::<Vec<_>>());
    let [flex, gpu] = models.map(|model| token_logps(&model, &batch, 0.8));
    close(&flex.logps.unsqueeze(), &gpu.logps.unsqueeze());
    close(&flex.entropy.unsqueeze(), &gpu.entropy.unsqueeze());
}

#[test]
fn training_agrees() {
    let Some(models) = both() else { return };
    let schedule =
        Schedule { peak: 1e-3, warmup_steps: 0, total_steps: 3, kind: ScheduleKind::Constant, min_ratio: 1.0 };
    let options = SftOptions {
        batch_size: 4,
        packed_tokens: None,
        gradient_accumulation_steps: 1,
        shuffle: false,
        schedule,
        optimizer: AdamWOptions::default(),
        seed: 1,
        gradient_checkpointing: false,
    };
    let [flex, gpu] = models.map(|model| {
        let mut trainer = SftTrainer::new(&model, sequences(), options.clone()).unwrap();
        let steps = (0..3).map(|_| {
            let metrics = pollster::block_on(trainer.step()).unwrap();
            (metrics["loss"], metrics["grad_norm"])
        });
        steps.collect::<Vec<_>>()
    });
    for ((flex_loss, flex_norm), (loss, norm)) in flex.iter().zip(&gpu) {
        assert!((flex_loss - loss).abs() < 1e-3, "{flex:?} and {gpu:?}");
        assert!((flex_norm - norm).abs() < 1e-3 * flex_norm, "{flex:?} and {gpu:?}");
    }
    assert!(gpu[2].0 < gpu[0].0, "the loss falls: {gpu:?}");
}

#[test]
fn generation_agrees() {
    let Some(models) = both() else { return };
    let options = GenerationOptions {
        sampling: SamplingOptions::default(),
        max_new_tokens: 6,
        stop_tokens: vec![3],
        seed: 5,
        constraint: None,
    };
    let groups =
        [Group { prompt: vec![5, 6, 7], sequences: vec![0, 1] }, Group { prompt: vec![8, 9], sequences: vec![2] }];
    let [flex, gpu] = models.map(|model| {
        let completions = pollster::block_on(generate(&model.valid(), &groups, &options, &Cancel::default(), |_| ()));
        completions.unwrap().into_iter().flatten().map(|completion| completion.tokens).collect::<Vec<_>>()
    });
    assert_eq!(flex, gpu);
}
