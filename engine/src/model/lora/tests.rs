//! Adapters against the weights that they stand for, and their files against what PEFT writes.

use burn::module::ModuleVisitor;
use burn::tensor::{Device, Tolerance};

use super::*;
use crate::agent::now;
use crate::model::{ModelConfig, ModelType, Preset, from_safetensors, to_safetensors, token_tensor};
use crate::model::{Precision, WeightsError};
use crate::ops::Layout;

fn tiny() -> Transformer {
    let shape = ModelConfig::preset(Preset::Nano, 96);
    let config = ModelConfig {
        model_type: ModelType::Qwen2,
        attention_bias: true,
        num_hidden_layers: 2,
        initializer_range: 0.2,
        ..shape
    };
    config.init(1, &Device::flex())
}

fn options(rank: usize, targets: &[&str]) -> LoraOptions {
    LoraOptions { rank, alpha: 6.0, targets: targets.iter().map(|&name| name.to_owned()).collect() }
}

/// Adapters whose `B` is not 0 either.
fn moved(options: &LoraOptions) -> HostTensors {
    let mut tensors = now(tiny().with_lora(options, 5).unwrap().adapters_to_host());
    for (index, tensor) in tensors.values_mut().enumerate() {
        for (place, value) in tensor.values.iter_mut().enumerate() {
            *value += ((index + 3 * place) % 7) as f32 * 0.03 - 0.09;
        }
    }
    tensors
}

fn logits(model: &Transformer) -> Tensor<2> {
    let tokens: Vec<u32> = (0..12).map(|i| (i * i * 7 + i * 3) % 96).collect();
    model.logits(model.forward(token_tensor(&tokens, &Device::flex()), &Layout::of_lengths([5, 7]).shared()))
}

#[test]
fn fresh_adapters_change_nothing() {
    let model = tiny();
    let adapted = model.clone().with_lora(&options(4, &LORA_TARGETS), 3).unwrap();
    assert_eq!(logits(&adapted).into_data(), logits(&model).into_data());
    assert_eq!(now(adapted.to_host()), now(model.to_host()));
    assert_eq!(now(adapted.base_to_host()), now(model.to_host()));
    assert!(now(model.adapters_to_host()).is_empty());
}

#[test]
fn the_seed_decides_them() {
    let of = |seed| now(tiny().with_lora(&options(4, &["q_proj", "down_proj"]), seed).unwrap().adapters_to_host());
    assert_eq!(of(3), of(3));
    assert_ne!(of(3), of(4));
    let name = |layer: usize, projection: &str| format!("base_model.model.model.layers.{layer}.{projection}.weight");
    let adapters = of(3);
    assert_eq!(adapters.len(), 2 * 2 * 2);
    let (a, b) = (&adapters[&name(1, "mlp.down_proj.lora_A")], &adapters[&name(1, "mlp.down_proj.lora_B")]);
    assert_eq!((&a.shape[..], &b.shape[..]), (&[4, 176][..], &[64, 4][..]));
    assert!(b.values.iter().all(|&value| value == 0.0));
    let (bound, largest) = (1.0 / 176f32.sqrt(), a.values.iter().fold(0f32, |most, value| most.max(value.abs())));
    assert!(largest <= bound && largest > 0.97 * bound, "{largest} of {bound}");
    let mean = a.values.iter().sum::<f32>() / a.values.len() as f32;
    assert!(mean.abs() < 0.1 * bound, "{mean}");
    assert_ne!(adapters[&name(0, "self_attn.q_proj.lora_A")], adapters[&name(1, "self_attn.q_proj.lora_A")]);
}

/// The paths under which visitors and mappers see parameters: the optimizer's keys.
#[derive(Default)]
struct Paths {
    path: Vec<String>,
    found: Vec<String>,
}

impl ModuleVisitor for Paths {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {
        self.found.push(self.path.join("."));
    }
}

#[test]
fn every_factor_has_a_path_of_its_own() {
    let mut paths = Paths::default();
    tiny().with_lora(&options(4, &["q_proj"]), 3).unwrap().visit(&mut paths);
    let found: BTreeSet<&String> = paths.found.iter().collect();
    assert_eq!(found.len(), paths.found.len());
    for end in ["q_proj.weight", "q_proj.weight.lora.a", "q_proj.weight.lora.b"] {
        assert!(found.contains(&format!("layers.1.self_attn.{end}")), "{found:?}");
    }
}

#[test]
fn merged_weights_compute_what_base_and_adapters_do() {
    let options = options(3, &LORA_TARGETS);
    let tensors = moved(&options);
    let adapted = tiny().with_adapters_from_host(&options, &tensors).unwrap();
    let merged = Transformer::from_host(&adapted.config, &now(adapted.to_host()), &Device::flex()).unwrap();
    logits(&merged).into_data().assert_approx_eq::<f32>(&logits(&adapted).into_data(), Tolerance::absolute(1e-5));
    let difference = (logits(&adapted) - logits(&tiny())).abs().max().into_scalar::<f32>();
    assert!(difference > 0.1, "the adapters do something: {difference}");
    // One element of one weight by hand: base + alpha / rank * lora_B · lora_A, in `[out, in]`.
    let (module, base) = ("layers.1.mlp.up_proj", now(tiny().to_host()));
    let factor = |name: char| &tensors[&peft_name(module, name)].values;
    let weight = format!("model.{module}.weight");
    let (out, input, width) = (17, 9, 64);
    let product: f32 = (0..3).map(|rank| factor('B')[out * 3 + rank] * factor('A')[rank * width + input]).sum();
    let expected = base[&weight].values[out * width + input] + 6.0 / 3.0 * product;
    assert!((now(adapted.to_host())[&weight].values[out * width + input] - expected).abs() < 1e-6);
    // Adapters on adapters: the first are merged.
    let again = adapted.clone().with_lora(&LoraOptions { rank: 2, ..options }, 9).unwrap();
    assert_eq!(now(again.base_to_host()), now(adapted.to_host()));
}

#[test]
fn adapters_survive_a_file() {
    let options = options(3, &["k_proj", "o_proj"]);
    let tensors = moved(&options);
    let bytes = to_safetensors(&tensors, Precision::F32);
    let config = options.to_peft(Some("some/model")).to_string();
    let read = LoraOptions::from_peft(&config).unwrap();
    assert_eq!(read, options);
    let model = tiny().with_adapters_from_host(&read, &from_safetensors(&bytes).unwrap()).unwrap();
    assert_eq!(now(model.adapters_to_host()), tensors);
    assert_eq!(now(model.base_to_host()), now(tiny().to_host()));
    for alpha in [0.1, 16.0, 1.0 / 3.0, 1e300] {
        let options = LoraOptions { alpha, ..options.clone() };
        assert_eq!(LoraOptions::from_peft(&options.to_peft(None).to_string()).unwrap(), options);
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let options = options(3, &["k_proj"]);
    let whole = moved(&options);
    let load = |tensors: &HostTensors| tiny().with_adapters_from_host(&options, tensors).unwrap_err().to_string();
    let key = peft_name("layers.1.self_attn.k_proj", 'A');
    let mut tensors = whole.clone();
    let removed = tensors.remove(&key).unwrap();
    assert!(load(&tensors).contains(&format!("no tensor `{key}`")), "{}", load(&tensors));
    tensors.insert(key.clone(), HostTensor { shape: vec![64, 3], ..removed });
    assert!(load(&tensors).contains("has shape [64, 3], expected was [3, 64]"), "{}", load(&tensors));
    let mut tensors = whole;
    let copy = tensors[&key].clone();
    let stranger = peft_name("layers.7.self_attn.k_proj", 'A');
    tensors.insert(stranger.clone(), copy);
    assert!(load(&tensors).contains(&format!("`{stranger}` fits nothing")), "{}", load(&tensors));
    let WeightsError::Format(_) = from_safetensors(b"").unwrap_err() else { panic!("no safetensors") };
}

#[test]
fn options_that_adapt_nothing_are_refused() {
    let refused = |options: LoraOptions| tiny().with_lora(&options, 1).unwrap_err().to_string();
    let error = refused(options(2, &["q_proj", "query"]));
    assert!(error.contains("no projection `query`") && error.contains("q_proj, k_proj, v_proj"), "{error}");
    assert!(refused(options(2, &["lm_head"])).contains("no projection `lm_head`"));
    assert!(refused(options(2, &[])).contains("at least one of q_proj"));
    assert!(refused(options(0, &["q_proj"])).contains("rank of at least 1"));
    assert!(refused(LoraOptions { alpha: f64::NAN, ..options(2, &["q_proj"]) }).contains("finite"));
}

#[test]
fn other_kinds_of_adapters_are_refused() {
    let read = |fields: Value| {
        let mut config = options(2, &["q_proj"]).to_peft(None);
        config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        LoraOptions::from_peft(&config.to_string())
    };
    let refused = |fields| read(fields).unwrap_err().to_string();
    assert!(refused(json!({"peft_type": "IA3"})).contains("expected \"LORA\", found \"IA3\""));
    assert!(refused(json!({"use_dora": true})).contains("`use_dora` = true"));
    assert!(refused(json!({"bias": "all"})).contains("`bias` = \"all\""));
    assert!(refused(json!({"rank_pattern": {"layers.0": 3}})).contains("rank_pattern"));
    assert!(refused(json!({"r": 2.5})).contains("`r`: expected a whole number, found 2.5"));
    assert!(refused(json!({"target_modules": ".*_proj"})).contains("target_modules"));
    assert!(refused(json!({"target_modules": ["v_proj", "lm_head"]})).contains("no projection `lm_head`"));
    assert!(LoraOptions::from_peft("{").unwrap_err().to_string().contains("not valid JSON"));
    let plain = json!({"use_dora": false, "rank_pattern": {}, "layers_to_transform": null, "loftq_config": {}});
    assert_eq!(read(plain).unwrap(), options(2, &["q_proj"]));
    assert_eq!(read(json!({"target_modules": "all-linear"})).unwrap().targets, LORA_TARGETS);
    let full = json!(["model.layers.1.mlp.up_proj", "model.layers.0.mlp.up_proj", "self_attn.q_proj"]);
    assert_eq!(read(json!({"target_modules": full})).unwrap().targets, ["up_proj", "q_proj"]);
}
