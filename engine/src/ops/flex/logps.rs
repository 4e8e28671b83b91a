//! Output projection, log-softmax and entropy in one, without the logits of all tokens at once.
//!
//! Logits are made in tiles of `ROWS` tokens by `COLUMNS` entries of the vocabulary, small enough for the second level
//! of cache, and reduced while they are there. Between the passes one number per token is kept, the logarithm of its
//! sum of exponentials; the backward pass turns logits into probabilities with it. Few logits are kept as well, and many
//! are made again (`KEPT`).

#![allow(unsafe_code)]

use std::ops::Range;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, Flex, backend_extension};
use burn::tensor::DType;
use gemm::Parallelism;
use rayon::prelude::*;

use super::blocks::{BLOCK, FlexTensor, Registers, update_registers, values};
use super::math::{F32s, Simd, WithSimd, dispatch, exp, fold, lanes, load, load_tail, mul_add, splat};
use super::tensor;

/// Tokens of a tile.
const ROWS: usize = 128;

/// Entries of the vocabulary in a tile.
const COLUMNS: usize = 512;

/// Up to this many logits (16 MiB) are kept for the backward pass, which then has two matrix products instead of three.
/// More are made again, as they would take more memory than all else in a training step of a small model.
const KEPT: usize = 1 << 22;

/// Into how many parts the backward pass divides its work when it needs the weight's gradient. Each part adds up its
/// own, so this is bounded; it does not depend on the number of threads, so neither do the results.
const PARTS: usize = 8;

/// The operator of this module, for burn's dispatch over backends. What it computes is said at
/// [`token_logps`](crate::ops::token_logps).
#[backend_extension(Flex, Autodiff)]
pub trait TokenLogpsOps: Backend {
    /// `hidden` is `[tokens, d_model]`, `weight` is `[vocabulary, d_model]`, `targets` is `[tokens]`. Returns
    /// log-probabilities and entropies, `[tokens]` each; entropies carry no gradient.
    fn fused_token_logps(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        temperature: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl TokenLogpsOps for Flex {
    fn fused_token_logps(
        hidden: FlexTensor,
        weight: FlexTensor,
        targets: FlexTensor,
        temperature: f32,
    ) -> (FlexTensor, FlexTensor) {
        let out = Problem::new(hidden, weight, &targets, temperature).forward(false);
        (out.logps, out.entropy)
    }
}

impl<C: CheckpointStrategy> TokenLogpsOps for Autodiff<Flex, C> {
    fn fused_token_logps(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        temperature: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        /// Keeps the inputs, the logarithm of the sum of exponentials of each token, and logits if they are few.
        #[derive(Debug)]
        struct TokenLogpsBackward;
        impl Backward<Flex, 2> for TokenLogpsBackward {
            type State = (Problem, Saved);
            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
                let (problem, saved) = ops.state;
                let [hidden, weight] = ops.parents;
                let (of_hidden, of_weight) = problem.backward(values(&gradient), &saved, weight.is_some());
                if let Some(node) = hidden {
                    grads.register::<Flex>(node.id, of_hidden);
                }
                if let (Some(node), Some(of_weight)) = (weight, of_weight) {
                    grads.register::<Flex>(node.id, of_weight);
                }
            }
        }
        let tracked = hidden.is_tracked() || weight.is_tracked();
        let ((hidden, hidden_node), (weight, weight_node)) = (hidden.into_parts(), weight.into_parts());
        let problem = Problem::new(hidden, weight, &targets, temperature);
        let keep = tracked && problem.tokens() * problem.vocabulary <= KEPT;
        let Forward { logps, entropy, saved } = problem.forward(keep);
        let logps = match TokenLogpsBackward.prepare::<C>([hidden_node, weight_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((problem, saved), logps),
            OpsKind::UnTracked(prepared) => prepared.finish(logps),
        };
        (logps, Self::from_inner(entropy))
    }
}

/// The inputs, contiguous.
#[derive(Clone, Debug)]
struct Problem {
    /// `[tokens, d_model]`
    hidden: FlexTensor,
    /// `[vocabulary, d_model]`
    weight: FlexTensor,
    /// `[tokens]`
    targets: Vec<usize>,
    d_model: usize,
    vocabulary: usize,
    /// What logits are multiplied with: 1 / temperature.
    scale: f32,
}

struct Forward {
    logps: FlexTensor,
    entropy: FlexTensor,
    saved: Saved,
}

/// What the backward pass reads.
#[derive(Clone, Debug)]
struct Saved {
    /// `[tokens]`
    log_sums: Vec<f32>,
    /// Logits of each block of `ROWS` tokens, tile by tile; or none.
    logits: Vec<Vec<f32>>,
}

/// What is known of a token's distribution after some of its logits.
#[derive(Clone, Copy)]
struct Running {
    max: f32,
    /// Sum of `e^(logit - max)`.
    sum: f32,
    /// Sum of `e^(logit - max) (logit - max)`.
    weighted: f32,
    /// The target's logit, once it was met.
    target: f32,
}

impl Problem {
    fn new(hidden: FlexTensor, weight: FlexTensor, targets: &FlexTensor, temperature: f32) -> Self {
        let shape = weight.layout().shape();
        let (vocabulary, d_model) = (shape[0], shape[1]);
        let targets = targets.to_contiguous();
        let targets: Vec<usize> = match targets.dtype() {
            DType::I64 => targets.as_slice::<i64>().unwrap_or_default().iter().map(|&id| id as usize).collect(),
            DType::I32 => targets.as_slice::<i32>().unwrap_or_default().iter().map(|&id| id as usize).collect(),
            other => panic!("token ids are I64 or I32, not {other:?}"),
        };
        assert_eq!(hidden.layout().shape()[0], targets.len(), "each token has a target");
        assert_eq!(hidden.layout().shape()[1], d_model, "hidden states are as wide as the weight");
        assert!(targets.iter().all(|&id| id < vocabulary), "targets are in the vocabulary");
        let (hidden, weight) = (hidden.to_contiguous(), weight.to_contiguous());
        Self { hidden, weight, targets, d_model, vocabulary, scale: 1.0 / temperature }
    }

    fn tokens(&self) -> usize {
        self.targets.len()
    }

    fn hidden(&self, rows: &Range<usize>) -> View<'_> {
        View::rows(&values(&self.hidden)[rows.start * self.d_model..rows.end * self.d_model], self.d_model)
    }

    fn weight(&self, columns: &Range<usize>) -> View<'_> {
        View::rows(&values(&self.weight)[columns.start * self.d_model..columns.end * self.d_model], self.d_model)
    }

    /// Logits of a tile, row by row.
    fn logits(&self, tile: &mut [f32], rows: &Range<usize>, columns: &Range<usize>) {
        multiply(tile, columns.len(), self.hidden(rows), self.weight(columns).transposed(), self.scale, false);
    }

    fn forward(&self, keep: bool) -> Forward {
        let tokens = self.tokens();
        let blocks: Vec<Range<usize>> = tiles(&(0..tokens), ROWS).collect();
        let (running, logits): (Vec<_>, Vec<_>) = blocks.par_iter().map(|rows| self.forward_block(rows, keep)).unzip();
        let (mut logps, mut entropy, mut log_sums) =
            (Vec::with_capacity(tokens), Vec::with_capacity(tokens), Vec::with_capacity(tokens));
        for Running { max, sum, weighted, target } in running.into_iter().flatten() {
            let log_sum = sum.ln();
            logps.push((target - max) - log_sum);
            entropy.push(log_sum - weighted / sum);
            log_sums.push(max + log_sum);
        }
        let saved = Saved { log_sums, logits: if keep { logits } else { Vec::new() } };
        Forward { logps: tensor(logps, [tokens]), entropy: tensor(entropy, [tokens]), saved }
    }

    /// What is known of these tokens in the end, and their logits if they are to be kept.
    fn forward_block(&self, rows: &Range<usize>, keep: bool) -> (Vec<Running>, Vec<f32>) {
        // The least finite number instead of minus infinity: differences to it are numbers.
        let mut running = vec![Running { max: f32::MIN, sum: 0.0, weighted: 0.0, target: f32::NAN }; rows.len()];
        let mut scratch = vec![0.0; rows.len() * if keep { self.vocabulary } else { COLUMNS.min(self.vocabulary) }];
        for columns in tiles(&(0..self.vocabulary), COLUMNS) {
            let at = if keep { rows.len() * columns.start } else { 0 };
            let tile = &mut scratch[at..at + rows.len() * columns.len()];
            self.logits(tile, rows, &columns);
            for (i, running) in running.iter_mut().enumerate() {
                let target = self.targets[rows.start + i];
                if columns.contains(&target) {
                    running.target = tile[i * columns.len() + target - columns.start];
                }
            }
            dispatch(Reduce { tile, width: columns.len(), running: &mut running });
        }
        (running, if keep { scratch } else { Vec::new() })
    }

    /// Gradients of `hidden` and, if asked for, `weight`, where `gradient` is that of the log-probabilities.
    fn backward(&self, gradient: &[f32], saved: &Saved, of_weight: bool) -> (FlexTensor, Option<FlexTensor>) {
        let tokens = self.tokens();
        // d logp / d logit is 1 at the target, minus the probability everywhere.
        let pass = BackwardPass { problem: self, gradient, saved };
        if !of_weight {
            let mut of_hidden = vec![0.0; tokens * self.d_model];
            let blocks: Vec<Range<usize>> = tiles(&(0..tokens), ROWS).collect();
            blocks
                .par_iter()
                .zip(of_hidden.par_chunks_mut(ROWS * self.d_model))
                .for_each(|(rows, of_hidden)| pass.run(rows, &(0..self.vocabulary), of_hidden, &mut []));
            return (tensor(of_hidden, [tokens, self.d_model]), None);
        }
        // Parts along the longer side: the sums along it are the smaller ones to keep for each part.
        let by_rows = tokens >= self.vocabulary;
        let side = if by_rows { tokens } else { self.vocabulary };
        let unit = if by_rows { ROWS } else { COLUMNS };
        let parts: Vec<Range<usize>> = tiles(&(0..side), side.div_ceil(PARTS).next_multiple_of(unit)).collect();
        let (whole_side, summed_side) = if by_rows { (tokens, self.vocabulary) } else { (self.vocabulary, tokens) };
        let mut whole = vec![0.0; whole_side * self.d_model];
        let part_len = parts.first().map_or(1, |part| part.len() * self.d_model).max(1);
        let sums: Vec<Vec<f32>> = parts
            .par_iter()
            .zip(whole.par_chunks_mut(part_len))
            .map(|(part, whole)| {
                let mut sum = vec![0.0; summed_side * self.d_model];
                if by_rows {
                    pass.run(part, &(0..self.vocabulary), whole, &mut sum);
                } else {
                    pass.run(&(0..tokens), part, &mut sum, whole);
                }
                sum
            })
            .collect();
        let summed = add_in_order(sums, summed_side * self.d_model);
        let (of_hidden, of_weight) = if by_rows { (whole, summed) } else { (summed, whole) };
        (tensor(of_hidden, [tokens, self.d_model]), Some(tensor(of_weight, [self.vocabulary, self.d_model])))
    }
}

struct BackwardPass<'a> {
    problem: &'a Problem,
    gradient: &'a [f32],
    saved: &'a Saved,
}

impl BackwardPass<'_> {
    /// Adds what these logits contribute: to the gradients of the hidden states of `rows`, and of the weights of
    /// `columns` unless `of_weight` is empty.
    fn run(&self, rows: &Range<usize>, columns: &Range<usize>, of_hidden: &mut [f32], of_weight: &mut [f32]) {
        let problem = self.problem;
        let d_model = problem.d_model;
        let mut scratch = vec![0.0; ROWS.min(rows.len()) * COLUMNS.min(columns.len())];
        for tile_columns in tiles(columns, COLUMNS) {
            let width = tile_columns.len();
            for tile_rows in tiles(rows, ROWS) {
                let tile = &mut scratch[..tile_rows.len() * width];
                match self.saved.logits.get(tile_rows.start / ROWS) {
                    Some(logits) => tile.copy_from_slice(&logits[tile_rows.len() * tile_columns.start..][..tile.len()]),
                    None => problem.logits(tile, &tile_rows, &tile_columns),
                }
                let (gradient, log_sums) = (&self.gradient[tile_rows.clone()], &self.saved.log_sums[tile_rows.clone()]);
                dispatch(Probabilities { tile, width, gradient, log_sums, scale: problem.scale });
                for (i, row) in tile_rows.clone().enumerate() {
                    let target = problem.targets[row];
                    if tile_columns.contains(&target) {
                        tile[i * width + target - tile_columns.start] += self.gradient[row] * problem.scale;
                    }
                }
                let tile = View::rows(tile, width);
                let at = (tile_rows.start - rows.start) * d_model;
                let to = &mut of_hidden[at..at + tile_rows.len() * d_model];
                multiply(to, d_model, tile, problem.weight(&tile_columns), 1.0, true);
                if !of_weight.is_empty() {
                    let at = (tile_columns.start - columns.start) * d_model;
                    let to = &mut of_weight[at..at + width * d_model];
                    multiply(to, d_model, tile.transposed(), problem.hidden(&tile_rows), 1.0, true);
                }
            }
        }
    }
}

/// Takes the logits of a tile into what is known of its tokens.
struct Reduce<'a> {
    tile: &'a [f32],
    width: usize,
    running: &'a mut [Running],
}

impl WithSimd for Reduce<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        for (row, running) in self.tile.chunks_exact(self.width).zip(self.running) {
            let max = fold::<S>(row, f32::MIN, |max, x| max.max(x)).reduce_max().max(running.max);
            let (mut sum, mut weighted) = (splat::<S>(0.0), splat::<S>(0.0));
            let shift = splat(max);
            let mut chunks = row.chunks_exact(lanes::<S>());
            for chunk in &mut chunks {
                let below = load(chunk) - shift;
                let power = exp(below);
                sum += power;
                weighted = mul_add(power, below, weighted);
            }
            let tail = chunks.remainder();
            if !tail.is_empty() {
                let below = load_tail(tail, f32::MIN) - shift;
                // Behind the end, `below` may be minus infinity; 0 times that would be no number.
                let below = below.max(splat(-1e30));
                let power = exp(below);
                sum += power;
                weighted = mul_add(power, below, weighted);
            }
            // What was summed before had another maximum.
            let moved = running.max - max;
            let factor = moved.exp();
            running.weighted = factor * (running.weighted + moved * running.sum) + weighted.reduce_add();
            running.sum = factor * running.sum + sum.reduce_add();
            running.max = max;
        }
    }
}

/// Turns the logits of a tile into what they contribute to the gradient of the logits before scaling, targets excepted:
/// `-gradient * scale * probability`.
struct Probabilities<'a> {
    tile: &'a mut [f32],
    width: usize,
    gradient: &'a [f32],
    log_sums: &'a [f32],
    scale: f32,
}

impl WithSimd for Probabilities<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let rows = self.tile.chunks_exact_mut(self.width).zip(self.gradient.iter().zip(self.log_sums));
        for (row, (gradient, log_sum)) in rows {
            let weighted = Weighted { log_sum: *log_sum, factor: -gradient * self.scale };
            update_registers::<S, 1, 0>([row], [], &weighted);
        }
    }
}

/// `factor * e^(logit - log_sum)`
struct Weighted {
    log_sum: f32,
    factor: f32,
}

impl Registers<1, 0> for Weighted {
    #[inline(always)]
    fn apply<S: Simd>(&self, [logit]: [F32s<S>; 1], []: [F32s<S>; 0]) -> [F32s<S>; 1] {
        [exp(logit - splat(self.log_sum)) * splat(self.factor)]
    }
}

/// `range` in pieces of `length`, the last one may be shorter.
fn tiles(range: &Range<usize>, length: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let end = range.end;
    range.clone().step_by(length.max(1)).map(move |start| start..end.min(start + length))
}

/// The sum of these, in their order.
fn add_in_order(sums: Vec<Vec<f32>>, len: usize) -> Vec<f32> {
    let mut sums = sums.into_iter();
    let mut total = sums.next().unwrap_or_else(|| vec![0.0; len]);
    let rest: Vec<Vec<f32>> = sums.collect();
    total.par_chunks_mut(BLOCK).enumerate().for_each(|(index, total)| {
        for sum in &rest {
            let sum = &sum[index * BLOCK..][..total.len()];
            total.iter_mut().zip(sum).for_each(|(total, x)| *total += x);
        }
    });
    total
}

/// A matrix in a slice: element `(i, j)` stands at `i * strides[0] + j * strides[1]`.
#[derive(Clone, Copy)]
struct View<'a> {
    values: &'a [f32],
    shape: [usize; 2],
    strides: [usize; 2],
}

impl<'a> View<'a> {
    fn rows(values: &'a [f32], width: usize) -> Self {
        Self { values, shape: [values.len() / width.max(1), width], strides: [width, 1] }
    }

    fn transposed(self) -> Self {
        let ([rows, columns], [down, right]) = (self.shape, self.strides);
        Self { values: self.values, shape: [columns, rows], strides: [right, down] }
    }
}

/// `to = scale * a b`, or `to += scale * a b`, on this thread. `to` has rows of `width` numbers.
fn multiply(to: &mut [f32], width: usize, a: View<'_>, b: View<'_>, scale: f32, add: bool) {
    let ([m, k], [k_of_b, n]) = (a.shape, b.shape);
    assert!(k == k_of_b && n == width && to.len() == m * width, "shapes of a product");
    for view in [a, b] {
        let last = |i: usize| view.shape[i].saturating_sub(1) * view.strides[i];
        assert!(view.values.is_empty() || last(0) + last(1) < view.values.len());
    }
    // SAFETY: the assertions say that every element of the three matrices lies within its slice, and `to` is borrowed
    // alone.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            to.as_mut_ptr(),
            1,
            width as isize,
            add,
            a.values.as_ptr(),
            a.strides[1] as isize,
            a.strides[0] as isize,
            b.values.as_ptr(),
            b.strides[1] as isize,
            b.strides[0] as isize,
            1.0,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Int, Tensor};
    use proptest::prelude::*;

    use super::super::testing::*;
    use crate::ops::{TokenLogps, composed, flex};

    type Op = fn(Tensor<2>, Tensor<2>, Tensor<1, Int>, f32) -> TokenLogps;

    fn targets(tokens: usize, vocabulary: usize, like: &Tensor<2>) -> Tensor<1, Int> {
        let ids: Vec<i64> = (0..tokens).map(|i| ((i * 7919 + 13) % vocabulary) as i64).collect();
        Tensor::from_data(burn::tensor::TensorData::new(ids, [tokens]), &like.device())
    }

    /// Log-probabilities, entropy, and gradients of both inputs.
    fn all(op: Op, hidden: Tensor<2>, weight: Tensor<2>, temperature: f32) -> Vec<Vec<f32>> {
        let (tokens, vocabulary) = (hidden.dims()[0], weight.dims()[0]);
        let (hidden, weight) = (hidden.require_grad(), weight.require_grad());
        let out = op(hidden.clone(), weight.clone(), targets(tokens, vocabulary, &hidden), temperature);
        let direction: Tensor<1> = normal_matrix(1, tokens, 99).squeeze_dim(0);
        let gradients = (out.logps.clone() * direction).sum().backward();
        let gradient = |x: Tensor<2>| host(x.grad(&gradients).expect("a gradient"));
        vec![host(out.logps), host(out.entropy), gradient(hidden), gradient(weight)]
    }

    fn compare(tokens: usize, vocabulary: usize, d_model: usize, temperature: f32, seed: u64) {
        let run = |op| {
            let weight = normal_matrix(vocabulary, d_model, seed + 1) * 0.3;
            all(op, normal_matrix(tokens, d_model, seed), weight, temperature)
        };
        let (fused, composed) = (run(flex::token_logps), run(composed::token_logps));
        for (tolerance, (fused, composed)) in [1e-5, 1e-4, 1e-4, 1e-4].into_iter().zip(fused.iter().zip(&composed)) {
            assert_close(fused, composed, tolerance);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_the_composed_one(
            tokens in 1usize..200,
            vocabulary in 8usize..300,
            d_model in 3usize..70,
            temperature in 0.5f32..2.0,
            seed in 0u64..1000,
        ) {
            compare(tokens, vocabulary, d_model, temperature, seed);
        }
    }

    #[test]
    fn it_is_the_composed_one_over_several_tiles() {
        // More rows than columns, and the reverse: the parts of the backward pass lie along the longer side.
        compare(1_200, 700, 24, 1.0, 1);
        compare(300, 5_000, 24, 0.7, 2);
    }

    #[test]
    fn the_weight_may_be_untracked() {
        let (hidden, weight) = (normal_matrix(150, 16, 1), normal_matrix(40, 16, 2));
        let expected = all(flex::token_logps, hidden.clone(), weight.clone(), 1.0);
        let hidden = hidden.require_grad();
        let out = flex::token_logps(hidden.clone(), weight, targets(150, 40, &hidden), 1.0);
        let direction: Tensor<1> = normal_matrix(1, 150, 99).squeeze_dim(0);
        let gradients = (out.logps * direction).sum().backward();
        assert_close(&host(hidden.grad(&gradients).unwrap()), &expected[2], 1e-5);
    }

    #[test]
    fn entropy_carries_no_gradient_and_plain_tensors_work() {
        let (hidden, weight) = (normal_matrix(9, 5, 1), normal_matrix(11, 5, 2).require_grad());
        let out = flex::token_logps(hidden.clone(), weight.clone(), targets(9, 11, &hidden), 1.0);
        assert!(out.logps.is_tracked() && !out.entropy.is_tracked());
        let plain = flex::token_logps(hidden.clone().inner(), weight.inner(), targets(9, 11, &hidden.inner()), 1.0);
        assert_eq!(host(out.logps), host(plain.logps));
        assert_eq!(host(out.entropy), host(plain.entropy));
    }

    #[test]
    fn extreme_logits() {
        // Logits 80, -80 and 0, in turn; targets in turn.
        let device = burn::tensor::Device::flex().autodiff();
        let hidden = Tensor::<2>::from_floats([[80.0], [-80.0], [0.0]], &device);
        let weight = Tensor::<2>::from_floats([[1.0], [-1.0], [0.0]], &device);
        let ids = Tensor::<1, Int>::from_ints([0, 0, 1], &device);
        let out = flex::token_logps(hidden, weight, ids, 1.0);
        assert_close(&host(out.logps), &[0.0, -160.0, -(3f32.ln())], 1e-6);
        let entropy = host(out.entropy);
        assert!(entropy[0].abs() < 1e-6 && entropy[1].abs() < 1e-6);
        assert!((entropy[2] - 3f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn equal_logits_over_several_tiles() {
        let out = flex::token_logps(
            matrix(vec![2.0; 3], 3, 1),
            matrix(vec![3.0; 1_500], 1_500, 1),
            targets(3, 1_500, &matrix(vec![0.0], 1, 1)),
            0.5,
        );
        assert_close(&host(out.logps), &[-(1_500f32.ln()); 3], 1e-5);
        assert_close(&host(out.entropy), &[1_500f32.ln(); 3], 1e-5);
    }

    #[test]
    fn gradients_are_the_slopes() {
        let (tokens, vocabulary, d_model) = (3, 7, 4);
        let (hidden, weight) = (normal(tokens * d_model, 1), normal(vocabulary * d_model, 2));
        let found = all(flex::token_logps, matrix(hidden.clone(), 3, 4), matrix(weight.clone(), 7, 4), 0.8);
        let direction = normal(tokens, 99);
        let value = |hidden: Vec<f32>, weight: Vec<f32>| -> f64 {
            let hidden = matrix(hidden, tokens, d_model);
            let ids = targets(tokens, vocabulary, &hidden);
            let logps = host(flex::token_logps(hidden, matrix(weight, vocabulary, d_model), ids, 0.8).logps);
            logps.iter().zip(&direction).map(|(logp, direction)| f64::from(logp * direction)).sum()
        };
        let moved = |values: &[f32], i: usize, by: f32| {
            let mut values = values.to_vec();
            values[i] += by;
            values
        };
        for (i, gradient) in found[2].iter().enumerate() {
            let at = |by| value(moved(&hidden, i, by), weight.clone());
            let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((slope - f64::from(*gradient)).abs() < 2e-3 * (1.0 + slope.abs()), "{gradient} for {slope}");
        }
        for (i, gradient) in found[3].iter().enumerate() {
            let at = |by| value(hidden.clone(), moved(&weight, i, by));
            let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((slope - f64::from(*gradient)).abs() < 2e-3 * (1.0 + slope.abs()), "{gradient} for {slope}");
        }
    }

    #[test]
    fn results_do_not_depend_on_threads() {
        for (tokens, vocabulary) in [(600, 90), (90, 2_100)] {
            assert_same_on_any_threads(|| {
                let (hidden, weight) = (normal_matrix(tokens, 33, 1), normal_matrix(vocabulary, 33, 2));
                all(flex::token_logps, hidden, weight, 1.0)
            });
        }
    }

    #[test]
    #[should_panic(expected = "targets are in the vocabulary")]
    fn a_target_outside_the_vocabulary_is_our_mistake() {
        let hidden = normal_matrix(1, 4, 1);
        let ids = Tensor::<1, Int>::from_ints([5], &hidden.device());
        let _ = flex::token_logps(hidden, normal_matrix(5, 4, 2), ids, 1.0);
    }
}
