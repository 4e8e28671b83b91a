//! AdamW with a global norm, over all parameters of a model that have gradients: of a model with adapters, their factors.
//!
//! Ours instead of burn's, for three reasons: its clipping is per tensor, where everybody's is global; its state is keyed
//! by identifiers that are drawn anew for each model, where a run must resume from a file; and its update is a dozen passes
//! over memory, where one will do.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};

use crate::model::{HostTensor, HostTensors, Transformer};
use crate::ops::{self, AdamWStep};

/// Constants of AdamW (Loshchilov and Hutter, 2019), under PyTorch's names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Share of a weight that a step at learning rate 1 takes away. Matrices only: norms and biases are spared, as usual.
    pub weight_decay: f64,
    /// Gradients are scaled down to this global norm; 0 leaves them.
    pub max_grad_norm: f64,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, max_grad_norm: 1.0 }
    }
}

/// Moments of a parameter, flat, under the parameter's path.
struct Moments {
    mean: Tensor<1>,
    square: Tensor<1>,
}

/// The optimizer and its state.
pub struct AdamW {
    options: AdamWOptions,
    /// Updates made.
    updates: u64,
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// Without state: no update made yet.
    pub fn new(options: AdamWOptions) -> Self {
        Self { options, updates: 0, moments: BTreeMap::new() }
    }

    /// Updates made.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// One update. Returns the model and the gradients' global norm before clipping.
    ///
    /// Parameters without a gradient stay as they are. Waits for the device, as the norm decides the factor.
    pub async fn step(
        &mut self,
        model: Transformer,
        gradients: GradientsParams,
        learning_rate: f64,
    ) -> (Transformer, f64) {
        let mut norm = SquareSums { gradients: &gradients, sums: Vec::new() };
        model.visit(&mut norm);
        let norm = match norm.sums.is_empty() {
            true => 0.0,
            false => {
                let sums = Tensor::cat(norm.sums, 0).into_data_async().await.expect("a device that can be read");
                // In f64 and in the parameters' order: the same on every run.
                sums.iter::<f64>().sum::<f64>().sqrt()
            }
        };
        let most = self.options.max_grad_norm;
        // PyTorch's `clip_grad_norm_` adds the same 1e-6.
        let grad_scale = if most > 0.0 { (most / (norm + 1e-6)).min(1.0) as f32 } else { 1.0 };
        self.updates += 1;
        let model = model.map(&mut Update { optimizer: self, gradients, learning_rate, grad_scale, path: Vec::new() });
        (model, norm)
    }

    /// Its state: `{parameter}.mean` and `{parameter}.square`, flat.
    pub async fn to_host(&self) -> HostTensors {
        let mut tensors = HostTensors::new();
        for (path, moments) in &self.moments {
            for (kind, tensor) in [("mean", &moments.mean), ("square", &moments.square)] {
                let data = tensor.clone().into_data_async().await.expect("a device that can be read");
                let values = data.convert::<f32>().try_into_vec::<f32>().expect("converted");
                tensors.insert(format!("{path}.{kind}"), HostTensor { shape: vec![values.len()], values });
            }
        }
        tensors
    }

    /// With the state that [`to_host`](Self::to_host) gave.
    pub fn from_host(options: AdamWOptions, updates: u64, tensors: &HostTensors, device: &Device) -> Self {
        let device = device.clone().inner();
        let tensor = |tensor: &HostTensor| Tensor::from_data(TensorData::from(&tensor.values[..]), &device);
        let moments = tensors
            .iter()
            .filter_map(|(name, mean)| {
                let path = name.strip_suffix(".mean")?;
                let square = tensors.get(&format!("{path}.square"))?;
                Some((path.to_owned(), Moments { mean: tensor(mean), square: tensor(square) }))
            })
            .collect();
        Self { options, updates, moments }
    }
}

/// Sums of squares of all gradients.
struct SquareSums<'a> {
    gradients: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for SquareSums<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.sums.push(ops::square_sum(gradient));
        }
    }
}

/// Writes the update into each parameter.
struct Update<'a> {
    optimizer: &'a mut AdamW,
    gradients: GradientsParams,
    learning_rate: f64,
    grad_scale: f32,
    path: Vec<String>,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return param };
        let options = self.optimizer.options;
        let step = AdamWStep {
            lr: self.learning_rate,
            beta1: options.beta1,
            beta2: options.beta2,
            eps: options.eps,
            weight_decay: if D > 1 { options.weight_decay } else { 0.0 },
            step: self.optimizer.updates as usize,
            grad_scale: self.grad_scale,
        };
        let path = self.path.join(".");
        let (id, tensor, mapper) = param.consume();
        let checkpointing = tensor.gradient_checkpointing_strategy();
        let tensor = tensor.inner();
        let (dims, device) = (tensor.dims(), tensor.device());
        let size = dims.iter().product::<usize>();
        let Moments { mean, square } = self.optimizer.moments.remove(&path).unwrap_or_else(|| Moments {
            mean: Tensor::zeros([size], &device),
            square: Tensor::zeros([size], &device),
        });
        let (tensor, mean, square) =
            ops::adamw_update(tensor.reshape([size]), gradient.reshape([size]), mean, square, step);
        self.optimizer.moments.insert(path, Moments { mean, square });
        let tensor: Tensor<D> = Tensor::from_inner(tensor.reshape(dims));
        let tensor = match checkpointing {
            Some(strategy) => tensor.with_gradient_checkpointing_strategy(strategy),
            None => tensor,
        };
        let tensor = tensor.require_grad();
        Param::from_mapped_value(id, tensor, mapper)
    }
}
