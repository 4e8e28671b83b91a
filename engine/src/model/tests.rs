//! The model against itself: whatever is computed in two ways must agree.

use burn::module::Module;
use burn::tensor::{Device, Tensor, Tolerance};

use super::*;
use crate::ops::Layout;

fn tiny(model_type: ModelType) -> ModelConfig {
    let bias = model_type == ModelType::Qwen2;
    let shape = ModelConfig::preset(Preset::Nano, 96);
    ModelConfig { model_type, attention_bias: bias, num_hidden_layers: 2, initializer_range: 0.2, ..shape }
}

fn close(left: Tensor<2>, right: Tensor<2>) {
    left.into_data().assert_approx_eq::<f32>(&right.into_data(), Tolerance::absolute(2e-5));
}

fn tokens(seed: u32, count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| (seed + i * i * 7 + i * 3) % 96).collect()
}

#[test]
fn a_shared_prompt_gives_what_separate_sequences_give() {
    let device = Device::flex();
    let model = tiny(ModelType::Qwen2).init(1, &device);
    let (prompt, first, second) = (tokens(1, 9), tokens(2, 5), tokens(3, 7));
    let mut layout = Layout::new();
    let parent = layout.push(prompt.len(), None);
    layout.push(first.len(), Some(parent));
    layout.push(second.len(), Some(parent));
    let flat = [&prompt[..], &first, &second].concat();
    let shared = model.forward(token_tensor(&flat, &device), &layout.shared());
    let whole = [[&prompt[..], &first].concat(), [&prompt[..], &second].concat()];
    let apart = Layout::of_lengths(whole.iter().map(Vec::len)).shared();
    let separate = model.forward(token_tensor(&whole.concat(), &device), &apart);
    let width = model.config.hidden_size;
    close(shared.clone().slice([0..14, 0..width]), separate.clone().slice([0..14, 0..width]));
    close(shared.slice([14..21, 0..width]), separate.slice([23..30, 0..width]));
}

#[test]
fn decoding_gives_what_the_whole_sequence_gives() {
    let device = Device::flex();
    let model = tiny(ModelType::Llama).init(2, &device);
    let prompts = [tokens(5, 6), tokens(6, 3)];
    let rows = [0, 0, 1];
    let new = [tokens(7, 4), tokens(8, 4), tokens(9, 4)];
    let (after_prompts, mut cache) = model.prefill(&[&prompts[0], &prompts[1]], &rows, 4);
    let logits_of = |sequence: &[u32]| {
        let hidden = model.forward(token_tensor(sequence, &device), &Layout::of_lengths([sequence.len()]).shared());
        model.logits(hidden.slice([sequence.len() - 1..sequence.len(), 0..model.config.hidden_size]))
    };
    close(after_prompts, Tensor::cat(vec![logits_of(&prompts[0]), logits_of(&prompts[1])], 0));
    let mut live = vec![0, 1, 2];
    for step in 0..4 {
        if step == 2 {
            // The middle row ends; the others change places.
            cache.keep_rows(&[2, 0]);
            live = vec![2, 0];
        }
        let next: Vec<u32> = live.iter().map(|&row| new[row][step]).collect();
        let logits = model.decode(&next, &mut cache);
        let whole = live.iter().map(|&row| logits_of(&[&prompts[rows[row]][..], &new[row][..=step]].concat()));
        close(logits, Tensor::cat(whole.collect(), 0));
    }
    assert_eq!((cache.rows(), cache.generated()), (2, 4));
}

#[test]
fn weights_survive_a_file() {
    let device = Device::flex();
    for model_type in [ModelType::Llama, ModelType::Qwen2] {
        let config = ModelConfig { tie_word_embeddings: model_type == ModelType::Qwen2, ..tiny(model_type) };
        let model = config.init(3, &device);
        let tensors = crate::agent::now(model.to_host());
        let names: Vec<&str> = tensors.keys().map(String::as_str).take(4).collect();
        assert_eq!(names[0].starts_with("lm_head"), model_type == ModelType::Llama, "{names:?}");
        let query = &tensors["model.layers.0.self_attn.k_proj.weight"];
        assert_eq!(query.shape, [32, 64], "out, in");
        let bytes = to_safetensors(&tensors, Precision::F32);
        let read = from_safetensors(&bytes).unwrap();
        assert_eq!(read, tensors);
        assert_eq!(to_safetensors(&read, Precision::F32), bytes, "the same tensors make the same file");
        let again = Transformer::from_host(&config, &read, &device).unwrap();
        let (ids, layout) = (token_tensor(&tokens(4, 8), &device), Layout::of_lengths([8]).shared());
        let expected = model.forward(ids.clone(), &layout).into_data();
        assert_eq!(again.forward(ids, &layout).into_data(), expected);
        let halves = from_safetensors(&to_safetensors(&tensors, Precision::Bf16)).unwrap();
        let largest = |of: &HostTensors| of.values().flat_map(|t| &t.values).fold(0f32, |m, v| m.max(v.abs()));
        assert!((largest(&halves) - largest(&tensors)).abs() < 0.01);
    }
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let device = Device::flex();
    let config = tiny(ModelType::Llama);
    let mut tensors = crate::agent::now(config.init(3, &device).to_host());
    let load = |tensors: &HostTensors| Transformer::from_host(&config, tensors, &device).unwrap_err().to_string();
    let key = "model.layers.1.self_attn.k_proj.weight".to_owned();
    let whole = tensors[&key].clone();
    tensors.insert(key.clone(), HostTensor { shape: vec![64, 32], values: whole.values });
    assert!(load(&tensors).contains("k_proj.weight` has shape [64, 32] where config.json asks for [32, 64]"));
    tensors.remove(&key);
    assert!(load(&tensors).contains("no tensor `model.layers.1.self_attn.k_proj.weight`"));
    assert!(from_safetensors(b"nonsense").unwrap_err().to_string().contains("safetensors"));
}

#[test]
fn parameters_are_counted_as_burn_counts_them() {
    for model_type in [ModelType::Llama, ModelType::Qwen2] {
        let config = ModelConfig { tie_word_embeddings: model_type == ModelType::Qwen2, ..tiny(model_type) };
        assert_eq!(config.init(0, &Device::flex()).num_params(), config.num_parameters());
    }
}

#[test]
fn mixed_precision_keeps_master_weights_and_learns() {
    use crate::train::batch::{Batch, Sequence};
    use crate::train::optimizer::AdamWOptions;
    use crate::train::policy::Policy;
    let model = tiny(ModelType::Qwen2).init(6, &Device::flex());
    let sequence = Sequence::new(vec![5, 6, 7], tokens(3, 8));
    let batch = Batch::new(&[&sequence]);
    let logps = |model: &Transformer| crate::train::policy::token_logps(model, &batch, 1.0).logps.into_data();
    let exact: Vec<f32> = logps(&model).iter::<f32>().collect();
    for (precision, reach) in [(Precision::Bf16, 0.2), (Precision::F16, 0.03)] {
        let mixed = model.clone().with_compute(precision);
        let rounded: Vec<f32> = logps(&mixed).iter::<f32>().collect();
        let farthest = exact.iter().zip(&rounded).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(farthest > 0.0 && farthest < reach, "{precision:?}: {farthest}");
        let mut policy = Policy::new(&mixed, AdamWOptions::default(), false);
        let mut losses = Vec::new();
        for _ in 0..20 {
            let loss = policy.token_logps(&batch, 1.0).logps.mean().neg();
            losses.push(loss.clone().into_scalar::<f32>());
            policy.backward(&loss);
            pollster::block_on(policy.update(1e-3));
        }
        assert!(losses[19] < 0.7 * losses[0], "{precision:?}: {losses:?}");
        // Updates of a thousandth would be lost in weights of 8 or 11 bits.
        let weights = pollster::block_on(policy.inference().to_host());
        let fine = |value: &f32| half::bf16::from_f32(*value).to_f32() != *value;
        assert!(weights["model.layers.0.mlp.up_proj.weight"].values.iter().filter(|value| fine(value)).count() > 1000);
    }
}
