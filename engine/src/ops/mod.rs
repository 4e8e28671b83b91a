//! Operators that the model is made of, on flat batches of tokens ([`Layout`]).
//!
//! Each has two implementations: `composed` of burn's operators, which runs on every backend and is the reference, and a
//! fused one for Flex (CPU) with its own backward pass, which is what makes training on a CPU fast. They are tested
//! against each other, values and gradients. Which one runs is decided here alone, by the tensor's device.
//! Nothing in here knows about models, tokenizers or losses.

pub mod composed;
pub mod flex;
mod layout;

use std::sync::Arc;

use burn::tensor::{Int, Tensor};

pub use layout::{Layout, Segment};

/// Shape of an attention layer's heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads; divides `query`. Query head `h` reads key head `h / (query / key_value)`.
    pub key_value: usize,
    /// Width of one head.
    pub dim: usize,
}

/// Cosines and sines of rotary position embeddings, `[positions, dim / 2]` each, half-split as in Llama and Qwen2:
/// frequency `i` turns the pair `(x[i], x[i + dim / 2])` by `position * theta^(-2 i / dim)`.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTable {
    /// Cosines, row by position.
    pub cos: Vec<f32>,
    /// Sines, row by position.
    pub sin: Vec<f32>,
    /// Half a head's width: the length of a row.
    pub half: usize,
}

impl RopeTable {
    /// The table for positions `0..positions`. Angles are computed in f64 from f32 frequencies, as PyTorch's are.
    pub fn new(theta: f64, dim: usize, positions: usize) -> Self {
        let half = dim / 2;
        let frequencies: Vec<f32> = (0..half).map(|i| (1.0 / theta.powf((2 * i) as f64 / dim as f64)) as f32).collect();
        let angles = (0..positions).flat_map(|position| frequencies.iter().map(move |f| position as f32 * f));
        let (cos, sin) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
        Self { cos, sin, half }
    }

    /// Positions that it covers.
    pub fn positions(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }
}

/// Log-probabilities of given tokens, and the entropy of the distributions they were taken from.
#[derive(Clone, Debug)]
pub struct TokenLogps {
    /// `log softmax(logits / temperature)[target]`, in nats, `[tokens]`. Carries gradients.
    pub logps: Tensor<1>,
    /// Entropy in nats, `[tokens]`. Carries none.
    pub entropy: Tensor<1>,
}

/// `x / sqrt(mean(x²) + epsilon) * weight`.
///
/// `x` and the result are `[tokens, width]`, `weight` is `[width]`.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, epsilon: f64) -> Tensor<2> {
    if flex::takes(&x) { flex::rms_norm(x, weight, epsilon) } else { composed::rms_norm(x, weight, epsilon) }
}

/// Turns each head of each token by its position (see [`RopeTable`]).
///
/// `x` and the result are `[tokens, heads * dim]`; `positions` has one entry per token.
pub fn rope(x: Tensor<2>, table: &Arc<RopeTable>, positions: &Arc<[usize]>) -> Tensor<2> {
    if flex::takes(&x) { flex::rope(x, table, positions) } else { composed::rope(x, table, positions) }
}

/// `x weight + bias`: `[tokens, in]` by `[in, out]`, with a bias of `[out]` or none.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    if flex::takes_without_autodiff(&x) && flex::takes_without_autodiff(&weight) {
        let product = flex::linear::linear(x, weight);
        return match bias {
            Some(bias) => product + bias.unsqueeze(),
            None => product,
        };
    }
    burn::tensor::module::linear(x, weight, bias)
}

/// `silu(gate) * up`, all `[tokens, width]`.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    if flex::takes(&gate) { flex::swiglu(gate, up) } else { composed::swiglu(gate, up) }
}

/// Causal attention over a flat batch: `softmax(q kᵀ / sqrt(dim)) v` of what [`Layout`] lets each token see.
///
/// `query` and the result are `[tokens, heads.query * dim]`; `key` and `value` are `[tokens, heads.key_value * dim]`.
pub fn attention(query: Tensor<2>, key: Tensor<2>, value: Tensor<2>, heads: Heads, layout: &Arc<Layout>) -> Tensor<2> {
    if flex::attention::takes(&query, &key, &value, heads) {
        flex::attention::attention(query, key, value, heads, layout)
    } else {
        composed::attention(query, key, value, heads, layout)
    }
}

/// Output projection and log-softmax in one, for the tokens that matter: see [`TokenLogps`].
///
/// `hidden` is `[tokens, d_model]`, `weight` is `[vocabulary, d_model]` (Hugging Face's layout, as embeddings are tied),
/// `targets` is `[tokens]`.
pub fn token_logps(hidden: Tensor<2>, weight: Tensor<2>, targets: Tensor<1, Int>, temperature: f32) -> TokenLogps {
    if flex::takes(&hidden) {
        flex::token_logps(hidden, weight, targets, temperature)
    } else {
        composed::token_logps(hidden, weight, targets, temperature)
    }
}

/// Attention of one new token per row to what its row has seen: a prompt, shared with other rows, and the tokens that
/// the row generated since.
///
/// `query` and the result are `[rows, heads.query * dim]`; `prompt_key` and `prompt_value` are
/// `[prompt_tokens, heads.key_value * dim]`, of which row `r` sees `prompts[r] = (start, len)`; `own_key` and
/// `own_value` are `[rows, capacity, heads.key_value * dim]`, of which the first `own_len` steps are filled, the new
/// token's included.
#[expect(clippy::too_many_arguments, reason = "keys and values of two kinds, each a tensor")]
pub fn decode_attention(
    query: Tensor<2>,
    prompt_key: Tensor<2>,
    prompt_value: Tensor<2>,
    own_key: Tensor<3>,
    own_value: Tensor<3>,
    heads: Heads,
    prompts: &Arc<[(usize, usize)]>,
    own_len: usize,
) -> Tensor<2> {
    let decode_attention = if flex::decode::takes(&query, &prompt_key, &prompt_value, &own_key, &own_value, heads) {
        flex::decode::decode_attention
    } else {
        composed::decode_attention
    };
    decode_attention(query, prompt_key, prompt_value, own_key, own_value, heads, prompts, own_len)
}

/// One step of AdamW: PyTorch's names and formula.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment (mean of gradients).
    pub beta1: f64,
    /// Decay of the second moment (mean of squared gradients).
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay: takes `lr * weight_decay` of each parameter away.
    pub weight_decay: f64,
    /// Which step this is, from 1. The moments begin at zero, and this corrects their bias to it.
    pub step: usize,
    /// What gradients are multiplied with first: the factor of global-norm clipping, or 1.
    pub grad_scale: f32,
}

impl AdamWStep {
    /// What the first and the second moment are divided by: `1 - beta^step`.
    pub fn bias_corrections(&self) -> (f64, f64) {
        let step = self.step as f64;
        (1.0 - self.beta1.powf(step), 1.0 - self.beta2.powf(step))
    }
}

/// `param -= lr * (m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + eps) + weight_decay * param)`, where the moments
/// `m` and `v` take up `grad_scale * grad` first. All are of one shape; returns the new parameter and moments.
///
/// The tensors are without autodiff ([`Tensor::inner`]). On a CPU, what nobody else holds is changed in place: pass the
/// only handle of parameter and moments.
pub fn adamw_update<const D: usize>(
    param: Tensor<D>,
    grad: Tensor<D>,
    first_moment: Tensor<D>,
    second_moment: Tensor<D>,
    step: AdamWStep,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    let fused = [&param, &grad, &first_moment, &second_moment].into_iter().all(flex::takes);
    let update = if fused { flex::adamw_update } else { composed::adamw_update };
    update(param, grad, first_moment, second_moment, step)
}

/// Sum of the squares of all elements, `[1]`. `x` is without autodiff ([`Tensor::inner`]).
pub fn square_sum<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    if flex::takes(&x) { flex::square_sum(x) } else { composed::square_sum(x) }
}
