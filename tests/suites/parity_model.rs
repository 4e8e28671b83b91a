//! Models beside transformers and PyTorch: logits of checkpoints that transformers wrote, updates that PyTorch's AdamW
//! made, and checkpoints of ours that transformers loads. `parity/transformers_vectors.py` describes the frozen files.

use std::path::{Path, PathBuf};
use std::process::Command;

use burn::tensor::Device;
use parl_mt::model::{
    ModelConfig, ModelType, Precision, Preset, Transformer, from_safetensors, to_safetensors, token_tensor,
};
use parl_mt::ops::Layout;
use parl_mt::train::batch::{Batch, Sequence};
use parl_mt::train::optimizer::AdamWOptions;
use parl_mt::train::policy::Policy;
use parl_tests::scenario::data_folder;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Vectors {
    logits: Vec<LogitsVector>,
    training: TrainingVector,
}

#[derive(Deserialize)]
struct LogitsVector {
    model: String,
    sequences: Vec<Vec<u32>>,
    /// By sequence, position and token.
    logits: Vec<Vec<Vec<f32>>>,
}

#[derive(Deserialize)]
struct TrainingVector {
    model: String,
    learning_rate: f64,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    max_grad_norm: f64,
    steps: Vec<StepVector>,
    parameter_norms: std::collections::BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct StepVector {
    sequences: Vec<Vec<u32>>,
    loss_mask: Vec<Vec<u8>>,
    loss: f64,
    grad_norm: f64,
}

fn parity_folder() -> PathBuf {
    data_folder().join("parity")
}

fn vectors() -> Vectors {
    serde_json::from_slice(&std::fs::read(parity_folder().join("transformers.json")).unwrap()).unwrap()
}

fn load(folder: &Path) -> Transformer {
    let config = ModelConfig::from_hugging_face(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
    let weights = from_safetensors(&std::fs::read(folder.join("model.safetensors")).unwrap()).unwrap();
    Transformer::from_host(&config, &weights, &Device::flex()).unwrap()
}

/// Logits of sequences, read together in one flat batch: by sequence, position and token.
fn logits(model: &Transformer, sequences: &[Vec<u32>]) -> Vec<Vec<Vec<f32>>> {
    let layout = Layout::of_lengths(sequences.iter().map(Vec::len)).shared();
    let hidden = model.forward(token_tensor(&sequences.concat(), &Device::flex()), &layout);
    let values: Vec<f32> = model.logits(hidden).into_data().iter::<f32>().collect();
    let mut rows = values.chunks(model.config.vocab_size).map(<[f32]>::to_vec);
    sequences.iter().map(|sequence| rows.by_ref().take(sequence.len()).collect()).collect()
}

#[test]
fn checkpoints_of_transformers_give_its_logits() {
    let vectors = vectors().logits;
    assert!(vectors.len() >= 4);
    for vector in vectors {
        let ours = logits(&load(&parity_folder().join(&vector.model)), &vector.sequences);
        let pairs = ours.iter().flatten().flatten().zip(vector.logits.iter().flatten().flatten());
        let (mut count, mut farthest) = (0, 0f32);
        for (ours, theirs) in pairs {
            count += 1;
            farthest = farthest.max((ours - theirs).abs());
        }
        assert_eq!(count, vector.sequences.iter().map(Vec::len).sum::<usize>() * 64);
        println!("{}: {count} logits, largest difference {farthest:.1e}", vector.model);
        assert!(farthest < 1e-4, "{}: {farthest}", vector.model);
    }
}

#[test]
fn updates_are_those_of_pytorch() {
    let vector = vectors().training;
    let options = AdamWOptions {
        beta1: vector.betas[0],
        beta2: vector.betas[1],
        eps: vector.eps,
        weight_decay: vector.weight_decay,
        max_grad_norm: vector.max_grad_norm,
    };
    let mut policy = Policy::new(&load(&parity_folder().join(&vector.model)), options, false);
    for (index, step) in vector.steps.iter().enumerate() {
        let masked = step.sequences.iter().zip(&step.loss_mask).map(|(tokens, mask)| Sequence {
            prompt: Vec::new(),
            completion: tokens.clone(),
            loss_mask: mask.iter().map(|carries| *carries == 1).collect(),
        });
        let sequences: Vec<Sequence> = masked.collect();
        let batch = Batch::new(&sequences.iter().collect::<Vec<_>>());
        let loss = policy.token_logps(&batch, 1.0).logps.mean().neg();
        let value = f64::from(loss.clone().into_scalar::<f32>());
        policy.backward(&loss);
        let norm = pollster::block_on(policy.update(vector.learning_rate));
        assert!((value - step.loss).abs() < 1e-4, "step {index}: loss {value}, PyTorch's {}", step.loss);
        assert!((norm - step.grad_norm).abs() < 1e-3 * norm, "step {index}: norm {norm}, PyTorch's {}", step.grad_norm);
    }
    let weights = pollster::block_on(policy.inference().to_host());
    assert!(weights.keys().eq(vector.parameter_norms.keys()));
    for (name, theirs) in &vector.parameter_norms {
        let ours = weights[name].values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        assert!((ours - theirs).abs() < 1e-3 * theirs, "{name}: {ours}, PyTorch's {theirs}");
    }
}

/// Needs the real library: `cargo xtask parity` runs it.
#[test]
fn transformers_loads_what_we_save() {
    let Some(python) = std::env::var_os("PARL_PARITY_PYTHON").filter(|value| !value.is_empty()) else {
        return parl_tests::skip("PARL_PARITY_PYTHON names no Python with transformers: `cargo xtask parity` does");
    };
    let shapes = [
        (ModelType::Qwen2, true, Precision::F32),
        (ModelType::Llama, false, Precision::F32),
        (ModelType::Llama, true, Precision::Bf16),
    ];
    for (index, (model_type, tie_word_embeddings, precision)) in shapes.into_iter().enumerate() {
        let config = ModelConfig {
            model_type,
            attention_bias: model_type == ModelType::Qwen2,
            tie_word_embeddings,
            initializer_range: 0.2,
            ..ModelConfig::preset(Preset::Nano, 64)
        };
        let folder = std::env::temp_dir().join(format!("parl-parity-{}-{index}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let weights = pollster::block_on(config.init(9, &Device::flex()).to_host());
        std::fs::write(folder.join("config.json"), config.to_hugging_face().to_string()).unwrap();
        std::fs::write(folder.join("model.safetensors"), to_safetensors(&weights, precision)).unwrap();
        // From the file, so that both sides have the weights as they were rounded.
        let sequences = vec![vec![1, 17, 5, 42, 9, 60, 3], vec![1, 33, 33, 8]];
        let expected = json!({"logits": logits(&load(&folder), &sequences), "sequences": sequences});
        std::fs::write(folder.join("logits.json"), expected.to_string()).unwrap();
        let script = data_folder().join("../parity/transformers_vectors.py");
        let output = Command::new(&python).arg(script).arg("--load").arg(&folder).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{model_type:?}: {said}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
