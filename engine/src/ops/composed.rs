//! The operators made of burn's own: every backend, and the reference for the fused ones.

use std::sync::Arc;

use burn::tensor::activation::{log_softmax, sigmoid, softmax};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::{AdamWStep, Heads, Layout, RopeTable, TokenLogps};

/// See [`super::rms_norm`].
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let mean_square = x.clone().square().mean_dim(1);
    x * (mean_square + epsilon).sqrt().recip() * weight.unsqueeze()
}

/// See [`super::rope`].
pub fn rope(x: Tensor<2>, table: &Arc<RopeTable>, positions: &Arc<[usize]>) -> Tensor<2> {
    let half = table.half;
    let [tokens, width] = x.dims();
    let heads = width / (2 * half);
    let rows = |of: &[f32]| {
        let values: Vec<f32> = positions.iter().flat_map(|&p| &of[p * half..(p + 1) * half]).copied().collect();
        Tensor::<3>::from_data(TensorData::new(values, [tokens, 1, half]), &x.device())
    };
    let (cos, sin) = (rows(&table.cos), rows(&table.sin));
    let x: Tensor<3> = x.reshape([tokens, heads, 2 * half]);
    let first = x.clone().slice([0..tokens, 0..heads, 0..half]);
    let second = x.slice([0..tokens, 0..heads, half..2 * half]);
    let turned =
        Tensor::cat(vec![first.clone() * cos.clone() - second.clone() * sin.clone(), second * cos + first * sin], 2);
    turned.reshape([tokens, width])
}

/// See [`super::swiglu`].
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    gate.clone() * sigmoid(gate) * up
}

/// See [`super::attention`]. Gathers each segment and its context into padded rows.
pub fn attention(query: Tensor<2>, key: Tensor<2>, value: Tensor<2>, heads: Heads, layout: &Arc<Layout>) -> Tensor<2> {
    let device = query.device();
    let Rows { rows, queries, keys, query_index, key_index, mask, back } = Rows::new(layout, &device);
    let Heads { query: query_heads, key_value, dim } = heads;
    let repeat = query_heads / key_value;
    // [rows, kv_heads, repeat * queries, dim]: no key is repeated for grouped queries.
    let q: Tensor<5> = query.select(0, query_index).reshape([rows, queries, key_value, repeat, dim]);
    let q: Tensor<4> = q.permute([0, 2, 3, 1, 4]).reshape([rows, key_value, repeat * queries, dim]);
    let of_keys = |x: Tensor<2>| -> Tensor<4> {
        x.select(0, key_index.clone()).reshape([rows, keys, key_value, dim]).swap_dims(1, 2)
    };
    let (k, v) = (of_keys(key), of_keys(value));
    let scores: Tensor<4> = q.matmul(k.swap_dims(2, 3)).mul_scalar(1.0 / (dim as f32).sqrt());
    let scores: Tensor<5> = scores.reshape([rows, key_value, repeat, queries, keys]);
    let hidden: Tensor<5, Bool> = mask.reshape([rows, 1, 1, queries, keys]);
    let hidden = hidden.expand([rows, key_value, repeat, queries, keys]);
    // Finite, as rows of padding see nothing: their softmax is uniform and never read.
    let weights = softmax(scores.mask_fill(hidden, -1e30), 4);
    let weights: Tensor<4> = weights.reshape([rows, key_value, repeat * queries, keys]);
    let out: Tensor<5> = weights.matmul(v).reshape([rows, key_value, repeat, queries, dim]);
    let out: Tensor<2> = out.permute([0, 3, 1, 2, 4]).reshape([rows * queries, query_heads * dim]);
    out.select(0, back)
}

/// See [`super::token_logps`].
pub fn token_logps(hidden: Tensor<2>, weight: Tensor<2>, targets: Tensor<1, Int>, temperature: f32) -> TokenLogps {
    let logits = hidden.matmul(weight.transpose()).div_scalar(temperature);
    let all = log_softmax(logits, 1);
    let tokens = all.dims()[0];
    let detached = all.clone().detach();
    let entropy = (detached.clone().exp() * detached).sum_dim(1).neg().reshape([tokens]);
    let logps = all.gather(1, targets.reshape([tokens, 1])).reshape([tokens]);
    TokenLogps { logps, entropy }
}

/// See [`super::adamw_update`].
pub fn adamw_update<const D: usize>(
    param: Tensor<D>,
    grad: Tensor<D>,
    first_moment: Tensor<D>,
    second_moment: Tensor<D>,
    step: AdamWStep,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    let AdamWStep { lr, beta1, beta2, eps, weight_decay, grad_scale, .. } = step;
    let (first_correction, second_correction) = step.bias_corrections();
    let grad = grad * grad_scale;
    let first_moment = first_moment * beta1 + grad.clone() * (1.0 - beta1);
    let second_moment = second_moment * beta2 + grad.square() * (1.0 - beta2);
    let denominator = (second_moment.clone() / second_correction).sqrt() + eps;
    let change = first_moment.clone() / denominator * (lr / first_correction);
    (param * (1.0 - lr * weight_decay) - change, first_moment, second_moment)
}

/// See [`super::square_sum`].
pub fn square_sum<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    x.square().sum()
}

/// A layout as padded rows, one per segment.
struct Rows {
    rows: usize,
    queries: usize,
    keys: usize,
    /// `[rows * queries]`, token of each query; padding reads token 0.
    query_index: Tensor<1, Int>,
    /// `[rows * keys]`
    key_index: Tensor<1, Int>,
    /// `[rows, queries, keys]`, true where a query must not see a key.
    mask: Tensor<3, Bool>,
    /// `[tokens]`, row of each token among `rows * queries`.
    back: Tensor<1, Int>,
}

impl Rows {
    fn new(layout: &Layout, device: &Device) -> Self {
        let segments = layout.segments();
        let rows = segments.len();
        let queries = segments.iter().map(|segment| segment.len).max().unwrap_or(0);
        let keys = layout.longest();
        let mut query_index = vec![0i64; rows * queries];
        let mut key_index = vec![0i64; rows * keys];
        let mut mask = vec![true; rows * queries * keys];
        let mut back = Vec::with_capacity(layout.tokens());
        for (row, segment) in segments.iter().enumerate() {
            let seen = layout.context(row).into_iter().chain([(segment.start, segment.len)]);
            for (slot, token) in seen.flat_map(|(start, len)| start..start + len).enumerate() {
                key_index[row * keys + slot] = token as i64;
            }
            for i in 0..segment.len {
                query_index[row * queries + i] = (segment.start + i) as i64;
                back.push((row * queries + i) as i64);
                let from = (row * queries + i) * keys;
                mask[from..from + segment.position + i + 1].fill(false);
            }
        }
        let ints = |values: Vec<i64>| {
            let len = values.len();
            Tensor::<1, Int>::from_data(TensorData::new(values, [len]), device)
        };
        Self {
            rows,
            queries,
            keys,
            query_index: ints(query_index),
            key_index: ints(key_index),
            mask: Tensor::from_data(TensorData::new(mask, [rows, queries, keys]), device),
            back: ints(back),
        }
    }
}

/// See [`super::decode_attention`].
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
    let device = query.device();
    let Heads { query: query_heads, key_value, dim } = heads;
    let (rows, repeat, width) = (prompts.len(), query_heads / key_value, key_value * dim);
    let longest = prompts.iter().map(|(_, len)| *len).max().unwrap_or(0);
    let keys = longest + own_len;
    let mut index = vec![0i32; rows * longest];
    let mut mask = vec![false; rows * keys];
    for (row, &(start, len)) in prompts.iter().enumerate() {
        for i in 0..len {
            index[row * longest + i] = (start + i) as i32;
        }
        mask[row * keys + len..row * keys + longest].fill(true);
    }
    let index = Tensor::<1, Int>::from_data(TensorData::new(index, [rows * longest]), &device);
    let seen = |prompt: Tensor<2>, own: Tensor<3>| -> Tensor<4> {
        let prompt: Tensor<3> = prompt.select(0, index.clone()).reshape([rows, longest, width]);
        let own = own.slice([0..rows, 0..own_len, 0..width]);
        Tensor::cat(vec![prompt, own], 1).reshape([rows, keys, key_value, dim]).swap_dims(1, 2)
    };
    let (k, v) = (seen(prompt_key, own_key), seen(prompt_value, own_value));
    let q: Tensor<4> = query.reshape([rows, key_value, repeat, dim]);
    let scores = q.matmul(k.swap_dims(2, 3)).mul_scalar(1.0 / (dim as f32).sqrt());
    let hidden = Tensor::<4, Bool>::from_data(TensorData::new(mask, [rows, 1, 1, keys]), &device);
    let hidden = hidden.expand([rows, key_value, repeat, keys]);
    softmax(scores.mask_fill(hidden, -1e30), 3).matmul(v).reshape([rows, query_heads * dim])
}
