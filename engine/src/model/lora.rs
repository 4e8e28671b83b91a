//! Low-rank adapters (LoRA, Hu et al., 2021): a projection computes with `W + alpha/rank · A·B`, and only `A` and `B` are
//! trained. On disk in the format of Hugging Face's PEFT, both ways.
//!
//! Embeddings and norms stay as they are, so adapters are for models that have learnt something: with a fresh preset's small
//! embeddings no token can be told from the others with confidence, whatever the rank.
//!
//! burn attaches the factors to the weight itself, so the layers know nothing of them. It keeps `A` as `[in, rank]` and `B`
//! as `[rank, out]`; PEFT keeps `lora_A` as `[rank, in]` and `lora_B` as `[out, rank]`.

use std::collections::BTreeSet;

use burn::module::{LoraAdapter, Module, Param, Reparameterizer};
use burn::tensor::{Tensor, TensorData};
use indexmap::IndexSet;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde_json::{Map, Value, json};

use super::weights::{is_projection, transposed};
use super::{HostTensor, HostTensors, Transformer};

/// Where the path of an adapter's factors begins, behind the path of the weight that they adapt.
const ADAPTER: &str = ".weight.lora.";

/// Random numbers of adapters are a stream of their own: those of a fresh model come from the same seed.
const STREAM: u64 = u64::from_be_bytes(*b"adapters");

/// The projections that can have adapters, by the last part of their name in Hugging Face's checkpoints.
pub const LORA_TARGETS: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// Which adapters a model has.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraOptions {
    /// Columns of `A` and rows of `B`; at least 1.
    pub rank: usize,
    /// Scale: `alpha / rank` stands before `A·B`.
    pub alpha: f64,
    /// Projections that are adapted in every layer: some of [`LORA_TARGETS`].
    pub targets: Vec<String>,
}

/// Adapters that cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum LoraError {
    /// No rank.
    #[error("adapters of rank 0 adapt nothing. Take a rank of at least 1.")]
    Rank,
    /// A scale that is no number.
    #[error("adapters cannot be scaled by an alpha of {0}. Take a finite number, such as twice the rank.")]
    Alpha(f64),
    /// Nothing to adapt.
    #[error("there is no projection to adapt. Name at least one of {known}.", known = LORA_TARGETS.join(", "))]
    NoTarget,
    /// A projection that models do not have.
    #[error("there is no projection `{name}` to adapt. Name some of {known}.", known = LORA_TARGETS.join(", "))]
    Target {
        /// The name.
        name: String,
    },
    /// `adapter_config.json` is not JSON.
    #[error("adapter_config.json is not valid JSON: {0}. Copy it again from where the adapters are.")]
    Json(#[from] serde_json::Error),
    /// A field of `adapter_config.json` is missing or of the wrong type.
    #[error("adapter_config.json has no usable `{field}`: expected {expected}, found {found}.")]
    Field {
        /// Its name.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// Adapters of another kind.
    #[error(
        "adapter_config.json asks for `{field}` = {found}, which is not supported. Merge the adapters into their model with PEFT's `merge_and_unload`, and load that."
    )]
    Unsupported {
        /// The field that asks for it.
        field: &'static str,
        /// What stands there.
        found: String,
    },
    /// A tensor is not there.
    #[error("the adapters have no tensor `{name}`. Are they and adapter_config.json of this model?")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor that adapts nothing in this model.
    #[error("the adapters' tensor `{name}` fits nothing here. Are they and adapter_config.json of this model?")]
    LeftOver {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape.
    #[error(
        "the adapters' tensor `{name}` has shape {found:?}, expected was {expected:?}. Are they and adapter_config.json of this model?"
    )]
    Shape {
        /// Its name.
        name: String,
        /// What the model and the rank need.
        expected: [usize; 2],
        /// What is there.
        found: Vec<usize>,
    },
}

/// Fields of PEFT's `adapter_config.json` that make another kind of adapter, with the values (besides null, and empty lists
/// and objects) that they may have.
const OTHER_KINDS: [(&str, &[&str]); 19] = [
    ("alora_invocation_tokens", &[]),
    ("alpha_pattern", &[]),
    ("arrow_config", &[]),
    ("bias", &["\"none\""]),
    ("exclude_modules", &[]),
    ("fan_in_fan_out", &["false"]),
    ("kasa_config", &[]),
    ("layer_replication", &[]),
    ("layers_to_transform", &[]),
    ("lora_bias", &["false"]),
    ("modules_to_save", &[]),
    ("monteclora_config", &[]),
    ("rank_pattern", &[]),
    ("target_parameters", &[]),
    ("trainable_token_indices", &[]),
    ("use_bdlora", &["false"]),
    ("use_dora", &["false"]),
    ("use_qalora", &["false"]),
    ("use_rslora", &["false"]),
];

impl LoraOptions {
    /// As PEFT's `adapter_config.json`. `base_model` is where the model that is adapted can be loaded from, if anybody knows.
    pub fn to_peft(&self, base_model: Option<&str>) -> Value {
        // PEFT's own is a whole number, where it can be. (f64 holds every one below 2⁵³.)
        let is_whole = self.alpha.fract() == 0.0 && self.alpha.abs() < (1u64 << 53) as f64;
        let alpha = if is_whole { json!(self.alpha as i64) } else { json!(self.alpha) };
        json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_model,
            "inference_mode": true,
            "r": self.rank,
            "lora_alpha": alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "target_modules": self.targets,
        })
    }

    /// Reads PEFT's `adapter_config.json`.
    pub fn from_peft(text: &str) -> Result<Self, LoraError> {
        let value: Value = serde_json::from_str(text)?;
        let empty = Map::new();
        let fields = value.as_object().unwrap_or(&empty);
        let wrong = |field: &'static str, expected: &'static str| {
            let found = fields.get(field).map_or_else(|| "nothing".to_owned(), Value::to_string);
            LoraError::Field { field, expected, found }
        };
        if fields.get("peft_type").and_then(Value::as_str) != Some("LORA") {
            return Err(wrong("peft_type", "\"LORA\""));
        }
        for (field, plain) in OTHER_KINDS {
            let Some(value) = fields.get(field).filter(|value| !is_empty(value)) else { continue };
            let found = value.to_string();
            if !plain.contains(&&*found) {
                return Err(LoraError::Unsupported { field, found });
            }
        }
        let rank = fields.get("r").and_then(Value::as_u64).and_then(|rank| usize::try_from(rank).ok());
        let targets = match fields.get("target_modules") {
            Some(Value::String(all)) if all == "all-linear" => Some(LORA_TARGETS.to_vec()),
            // PEFT names the modules of small models in full. Whether each layer has them, the tensors tell.
            Some(Value::Array(names)) => names.iter().map(|name| name.as_str()?.rsplit('.').next()).collect(),
            _ => None,
        };
        let targets = targets.map(|names: Vec<&str>| {
            let unique: IndexSet<&str> = names.into_iter().collect();
            unique.into_iter().map(str::to_owned).collect()
        });
        let options = Self {
            rank: rank.ok_or_else(|| wrong("r", "a whole number"))?,
            alpha: fields.get("lora_alpha").and_then(Value::as_f64).ok_or_else(|| wrong("lora_alpha", "a number"))?,
            targets: targets.ok_or_else(|| wrong("target_modules", "a list of names"))?,
        };
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), LoraError> {
        if self.rank == 0 {
            return Err(LoraError::Rank);
        }
        if !self.alpha.is_finite() {
            return Err(LoraError::Alpha(self.alpha));
        }
        match self.targets.iter().find(|name| !LORA_TARGETS.contains(&name.as_str())) {
            Some(name) => Err(LoraError::Target { name: name.clone() }),
            None if self.targets.is_empty() => Err(LoraError::NoTarget),
            None => Ok(()),
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

impl Transformer {
    /// With fresh adapters that change nothing yet, and everything else frozen. Adapters that it has are merged first.
    ///
    /// `A` is uniform in `±1/sqrt(in)`, as PEFT draws it, `B` is 0. Drawn on the host, in the order of the layers: the same
    /// seed gives the same adapters on every device.
    pub fn with_lora(self, options: &LoraOptions, seed: u64) -> Result<Self, LoraError> {
        options.check()?;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(STREAM);
        self.attach(options, |_, input, output| {
            let bound = 1.0 / (input as f64).sqrt();
            let mut uniform = || (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
            let a = (0..input * options.rank).map(|_| ((2.0 * uniform() - 1.0) * bound) as f32).collect();
            Ok([a, vec![0.0; options.rank * output]])
        })
    }

    /// With adapters in PEFT's names and layout, as [`adapters_to_host`](Self::adapters_to_host) gives them, and everything
    /// else frozen. Adapters that it has are merged first.
    pub fn with_adapters_from_host(self, options: &LoraOptions, tensors: &HostTensors) -> Result<Self, LoraError> {
        options.check()?;
        let mut left: BTreeSet<&String> = tensors.keys().collect();
        let model = self.attach(options, |path, input, output| {
            let factor = |factor: char, expected: [usize; 2]| {
                let name = peft_name(path, factor);
                match tensors.get(&name) {
                    Some(HostTensor { shape, values }) if *shape == expected => {
                        Ok((transposed(values, expected[0], expected[1]).values, name))
                    }
                    Some(HostTensor { shape, .. }) => Err(LoraError::Shape { name, expected, found: shape.clone() }),
                    None => Err(LoraError::Missing { name }),
                }
            };
            let (a, a_name) = factor('A', [options.rank, input])?;
            let (b, b_name) = factor('B', [output, options.rank])?;
            left.remove(&a_name);
            left.remove(&b_name);
            Ok([a, b])
        })?;
        match left.first() {
            Some(&name) => Err(LoraError::LeftOver { name: name.clone() }),
            None => Ok(model),
        }
    }

    /// With its adapters merged into the weights that they adapt; nothing is frozen any more.
    pub fn merged(self) -> Self {
        self.materialize().unfreeze()
    }

    /// The factors of its adapters in PEFT's names and layout: `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`
    /// `[rank, in]`, `…lora_B.weight` `[out, rank]`. Empty for a model without adapters.
    ///
    /// Waits for the device, as [`to_host`](Self::to_host) does.
    pub async fn adapters_to_host(&self) -> HostTensors {
        let is_factor = |path: &str| path.contains(ADAPTER);
        let factors = self.parameters_to_host(is_factor).await.into_iter().map(|(path, factor)| {
            let (projection, name) = path.split_once(ADAPTER).expect("only factors were asked for");
            let name = if name == "a" { 'A' } else { 'B' };
            (peft_name(projection, name), transposed(&factor.values, factor.shape[0], factor.shape[1]))
        });
        factors.collect()
    }

    /// The weights below its adapters under Hugging Face's names: all of them, where it has no adapters.
    ///
    /// Waits for the device, as [`to_host`](Self::to_host) does.
    pub async fn base_to_host(&self) -> HostTensors {
        let base = self.parameters_to_host(|path| !path.contains(ADAPTER)).await;
        base.into_iter().map(|(path, tensor)| super::weights::in_hugging_face_layout(&path, tensor)).collect()
    }

    /// Freezes all parameters and attaches factors; `factors(path, in, out)` gives `[A, B]` in burn's layout for a projection.
    fn attach<F>(self, options: &LoraOptions, factors: F) -> Result<Self, LoraError>
    where
        F: FnMut(&str, usize, usize) -> Result<[Vec<f32>; 2], LoraError>,
    {
        let mut error = None;
        let model = self.materialize().apply_reparameterization(Attach { options, factors, error: &mut error });
        error.map_or(Ok(model), Err)
    }
}

/// PEFT's name of a factor of the projection at a path.
fn peft_name(path: &str, factor: char) -> String {
    format!("base_model.model.model.{path}.lora_{factor}.weight")
}

/// What burn's own `Lora` does, with factors from the host instead of from the device's random numbers.
struct Attach<'a, F> {
    options: &'a LoraOptions,
    factors: F,
    error: &'a mut Option<LoraError>,
}

impl<F> Reparameterizer for Attach<'_, F>
where
    F: FnMut(&str, usize, usize) -> Result<[Vec<f32>; 2], LoraError>,
{
    type Reparam = LoraAdapter;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
        let param = param.set_require_grad(false);
        let projection = path.strip_suffix(".weight").filter(|_| is_projection(path));
        let name = projection.and_then(|path| path.rsplit('.').next());
        let (Some(projection), Some(name)) = (projection, name) else { return (param, None) };
        if self.error.is_some() || !self.options.targets.iter().any(|target| target == name) {
            return (param, None);
        }
        let (dims, device, rank) = (param.dims(), param.device(), self.options.rank);
        match (self.factors)(projection, dims[0], dims[1]) {
            Ok([a, b]) => {
                let adapter = LoraAdapter {
                    a: Param::from_data(TensorData::new(a, [dims[0], rank]), &device),
                    b: Param::from_data(TensorData::new(b, [rank, dims[1]]), &device),
                    scale: self.options.alpha / rank as f64,
                };
                (param, Some(adapter))
            }
            Err(error) => {
                *self.error = Some(error);
                (param, None)
            }
        }
    }
}

#[cfg(test)]
mod tests;
