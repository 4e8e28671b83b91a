//! A model in training with its optimizer: what supervised fine-tuning and GRPO share.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, GradientCheckpointingStrategy, Tensor};

use super::batch::Batch;
use super::optimizer::{AdamW, AdamWOptions};
use crate::model::{HostTensors, Transformer, token_tensor};
use crate::ops::TokenLogps;

/// A model in training.
pub struct Policy {
    /// `None` only while an update is being written into it.
    model: Option<Transformer>,
    optimizer: AdamW,
    accumulator: GradientsAccumulator<Transformer>,
}

impl Policy {
    /// Trains `model`, which may be on a device without autodiff. With `gradient_checkpointing`, cheap operators are
    /// computed again in the backward pass instead of being kept.
    pub fn new(model: &Transformer, options: AdamWOptions, gradient_checkpointing: bool) -> Self {
        Self::with_optimizer(model, AdamW::new(options), gradient_checkpointing)
    }

    /// With an optimizer that has made steps already.
    pub fn with_optimizer(model: &Transformer, optimizer: AdamW, gradient_checkpointing: bool) -> Self {
        let model = model.clone().train();
        let model = if gradient_checkpointing { model.map(&mut Checkpointing) } else { model };
        Self { model: Some(model), optimizer, accumulator: GradientsAccumulator::new() }
    }

    /// The model, with autodiff.
    pub fn model(&self) -> &Transformer {
        self.model.as_ref().expect("an update puts the model back")
    }

    /// The model without autodiff, for sampling and evaluation. Shares the weights, but for those that have adapters: they
    /// are merged once, instead of for each token.
    pub fn inference(&self) -> Transformer {
        self.model().valid().merged()
    }

    /// Parameters that are trained: all of them, or those of adapters.
    pub fn trained_parameters(&self) -> usize {
        let mut count = Trained(0);
        self.model().visit(&mut count);
        count.0
    }

    /// Log-probabilities of a batch's targets, `[n]`, with gradients.
    pub fn token_logps(&self, batch: &Batch, temperature: f32) -> TokenLogps {
        token_logps(self.model(), batch, temperature)
    }

    /// Adds the gradient of `loss` to what is accumulated.
    pub fn backward(&mut self, loss: &Tensor<1>) {
        let model = self.model.as_ref().expect("an update puts the model back");
        let gradients = GradientsParams::from_grads(loss.backward(), model);
        self.accumulator.accumulate(model, gradients);
    }

    /// One update from what was accumulated. Returns the global norm of the gradients before clipping.
    pub async fn update(&mut self, learning_rate: f64) -> f64 {
        let gradients = self.accumulator.grads();
        let model = self.model.take().expect("an update puts the model back");
        let (model, norm) = self.optimizer.step(model, gradients, learning_rate).await;
        self.model = Some(model);
        norm
    }

    /// Forgets accumulated gradients.
    pub fn discard_gradients(&mut self) {
        self.accumulator.grads();
    }

    /// Updates made so far.
    pub fn updates(&self) -> u64 {
        self.optimizer.updates()
    }

    /// The optimizer's state.
    pub async fn optimizer_state(&self) -> HostTensors {
        self.optimizer.to_host().await
    }
}

/// Marks parameters so that what is computed from them is checkpointed.
struct Checkpointing;

impl ModuleMapper for Checkpointing {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.with_gradient_checkpointing_strategy(GradientCheckpointingStrategy::Balanced))
    }
}

/// Counts parameters that require a gradient.
struct Trained(usize);

impl ModuleVisitor for Trained {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            self.0 += param.shape().num_elements();
        }
    }
}

/// Log-probabilities of a batch's targets under any model, `[n]`.
pub fn token_logps(model: &Transformer, batch: &Batch, temperature: f32) -> TokenLogps {
    let device: Device = model.device();
    let hidden = model.forward(token_tensor(&batch.tokens, &device), &batch.layout);
    let sources = hidden.select(0, token_tensor(&batch.sources, &device));
    model.token_logps(sources, token_tensor(&batch.targets, &device), temperature)
}
