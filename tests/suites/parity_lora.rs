//! Adapters beside PEFT: logits of adapters that PEFT wrote, and adapters of ours that PEFT loads.
//! `parity/lora_vectors.py` describes the frozen files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use burn::tensor::Device;
use parl_mt::model::{
    LORA_TARGETS, LoraOptions, ModelConfig, ModelType, Precision, Preset, Transformer, from_safetensors,
    to_safetensors, token_tensor,
};
use parl_mt::ops::Layout;
use parl_mt::train::batch::{Batch, Sequence};
use parl_mt::train::optimizer::AdamWOptions;
use parl_mt::train::policy::Policy;
use parl_tests::scenario::data_folder;
use pollster::block_on;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Vectors {
    logits: Vec<LogitsVector>,
}

#[derive(Deserialize)]
struct LogitsVector {
    adapters: String,
    model: String,
    sequences: Vec<Vec<u32>>,
    /// By sequence, position and token.
    logits: Vec<Vec<Vec<f32>>>,
    merged_norms: BTreeMap<String, f64>,
}

fn parity_folder() -> PathBuf {
    data_folder().join("parity")
}

fn load(folder: &Path) -> Transformer {
    let config = ModelConfig::from_hugging_face(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
    let weights = from_safetensors(&std::fs::read(folder.join("model.safetensors")).unwrap()).unwrap();
    Transformer::from_host(&config, &weights, &Device::flex()).unwrap()
}

fn adapted(model: Transformer, folder: &Path) -> Transformer {
    let config = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap();
    let tensors = from_safetensors(&std::fs::read(folder.join("adapter_model.safetensors")).unwrap()).unwrap();
    model.with_adapters_from_host(&LoraOptions::from_peft(&config).unwrap(), &tensors).unwrap()
}

/// Logits of sequences, read together in one flat batch: by sequence, position and token.
fn logits(model: &Transformer, sequences: &[Vec<u32>]) -> Vec<Vec<Vec<f32>>> {
    let layout = Layout::of_lengths(sequences.iter().map(Vec::len)).shared();
    let hidden = model.forward(token_tensor(&sequences.concat(), &Device::flex()), &layout);
    let values: Vec<f32> = model.logits(hidden).into_data().iter::<f32>().collect();
    let mut rows = values.chunks(model.config.vocab_size).map(<[f32]>::to_vec);
    sequences.iter().map(|sequence| rows.by_ref().take(sequence.len()).collect()).collect()
}

fn farthest(left: &[Vec<Vec<f32>>], right: &[Vec<Vec<f32>>]) -> f32 {
    let (left, right): (Vec<_>, Vec<_>) =
        (left.iter().flatten().flatten().collect(), right.iter().flatten().flatten().collect());
    assert_eq!(left.len(), right.len());
    left.into_iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max)
}

#[test]
fn adapters_of_peft_give_its_logits() {
    let file = std::fs::read(parity_folder().join("lora.json")).unwrap();
    let vectors: Vectors = serde_json::from_slice(&file).unwrap();
    assert!(vectors.logits.len() >= 2);
    for vector in vectors.logits {
        let base = load(&parity_folder().join(&vector.model));
        let model = adapted(base.clone(), &parity_folder().join(&vector.adapters));
        let difference = farthest(&logits(&model, &vector.sequences), &vector.logits);
        println!("{}: largest difference {difference:.1e}", vector.adapters);
        assert!(difference < 1e-4, "{}: {difference}", vector.adapters);
        assert!(farthest(&logits(&base, &vector.sequences), &vector.logits) > 0.1, "the adapters do something");
        let merged = block_on(model.to_host());
        assert!(merged.keys().eq(vector.merged_norms.keys()));
        for (name, theirs) in &vector.merged_norms {
            let ours = merged[name].values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            assert!((ours - theirs).abs() < 1e-5 * theirs, "{name}: {ours}, PEFT's {theirs}");
        }
        // And back, as they were.
        let bytes = std::fs::read(parity_folder().join(&vector.adapters).join("adapter_model.safetensors")).unwrap();
        assert_eq!(block_on(model.adapters_to_host()), from_safetensors(&bytes).unwrap());
    }
}

/// Needs the real library: `cargo xtask parity` runs it.
#[test]
fn peft_loads_what_we_save() {
    let Some(python) = std::env::var_os("PARL_PARITY_PYTHON").filter(|value| !value.is_empty()) else {
        return parl_tests::skip("PARL_PARITY_PYTHON names no Python with PEFT: `cargo xtask parity` does");
    };
    let config = ModelConfig {
        model_type: ModelType::Qwen2,
        attention_bias: true,
        initializer_range: 0.2,
        ..ModelConfig::preset(Preset::Nano, 64)
    };
    let targets = LORA_TARGETS[..5].iter().map(|&name| name.to_owned()).collect();
    let options = LoraOptions { rank: 3, alpha: 7.5, targets };
    let start = config.init(9, &Device::flex()).with_lora(&options, 2).unwrap();
    // Trained a little, so that no factor is 0.
    let mut policy = Policy::new(&start, AdamWOptions::default(), false);
    let sequence = Sequence::new(vec![1, 17, 5], vec![42, 9, 60, 3]);
    for _ in 0..3 {
        policy.backward(&policy.token_logps(&Batch::new(&[&sequence]), 1.0).logps.mean().neg());
        block_on(policy.update(0.05));
    }
    let model = policy.model();
    let folder = std::env::temp_dir().join(format!("parl-parity-lora-{}", std::process::id()));
    let (base, adapter) = (folder.join("base"), folder.join("adapter"));
    std::fs::create_dir_all(&base).unwrap();
    std::fs::create_dir_all(&adapter).unwrap();
    let bytes = |tensors| to_safetensors(&tensors, Precision::F32);
    std::fs::write(base.join("config.json"), config.to_hugging_face().to_string()).unwrap();
    std::fs::write(base.join("model.safetensors"), bytes(block_on(model.base_to_host()))).unwrap();
    std::fs::write(adapter.join("adapter_config.json"), options.to_peft(None).to_string()).unwrap();
    std::fs::write(adapter.join("adapter_model.safetensors"), bytes(block_on(model.adapters_to_host()))).unwrap();
    let sequences = vec![vec![1, 17, 5, 42, 9, 60, 3], vec![1, 33, 33, 8]];
    let expected = json!({"logits": logits(&policy.inference(), &sequences), "sequences": sequences});
    std::fs::write(folder.join("logits.json"), expected.to_string()).unwrap();
    let script = data_folder().join("../parity/lora_vectors.py");
    let output = Command::new(&python).arg(script).arg("--load").arg(&folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    println!("{said}");
    std::fs::remove_dir_all(&folder).unwrap();
}
