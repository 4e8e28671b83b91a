//! Causal attention over a flat batch, forward and backward (see [`crate::ops::attention`]).
//!
//! As in FlashAttention-2, the backward pass keeps only the outputs and the log-sum-exp of each row of scores, and
//! computes the probabilities again. Unlike on a GPU, the scores of a few queries over all keys fit in a core's cache, so
//! a row's softmax is taken at once, and sums over keys never leave registers.
//!
//! Work is cut by the layout alone, never by the number of threads, and every sum has one order: results are the same bit
//! for bit in every run on one processor.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::math::{Simd, WithSimd, dispatch, dot, exp, fold, lanes, load, scale_into, splat, store};
use super::matmul::{Left, Product, Right, matmul, panel_width};
use super::{Rows, Shared, grow};
use crate::ops::{Heads, Layout};

/// Whether [`attention`] can be used: f32 on Flex, and heads of a multiple of 16 numbers.
pub fn takes(query: &Tensor<2>, key: &Tensor<2>, value: &Tensor<2>, heads: Heads) -> bool {
    heads.dim.is_multiple_of(16) && [query, key, value].into_iter().all(super::takes)
}

/// See [`crate::ops::attention`].
pub fn attention(query: Tensor<2>, key: Tensor<2>, value: Tensor<2>, heads: Heads, layout: &Arc<Layout>) -> Tensor<2> {
    let [query, key, value] = [query, key, value].map(Tensor::into_dispatch);
    Tensor::from_dispatch(<Dispatch as FlexAttention>::attention(query, key, value, heads, Arc::clone(layout)))
}

/// Backends with a fused attention.
#[backend_extension(Flex, Autodiff)]
pub trait FlexAttention: Backend {
    /// See [`crate::ops::attention`].
    fn attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        heads: Heads,
        layout: Arc<Layout>,
    ) -> FloatTensor<Self>;
}

impl FlexAttention for Flex {
    fn attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        heads: Heads,
        layout: Arc<Layout>,
    ) -> FloatTensor<Self> {
        forward(query, key, value, heads, &layout).0
    }
}

impl<C: CheckpointStrategy> FlexAttention for Autodiff<Flex, C> {
    fn attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        heads: Heads,
        layout: Arc<Layout>,
    ) -> FloatTensor<Self> {
        match AttentionBackward.prepare::<C>([query.node(), key.node(), value.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let inputs = [prep.checkpoint(&query), prep.checkpoint(&key), prep.checkpoint(&value)];
                let [query, key, value] = [query, key, value].map(|tensor| tensor.into_primitive());
                let (output, log_sums) = forward(query, key, value, heads, &layout);
                prep.finish(State { inputs, output: output.clone(), log_sums: log_sums.into(), heads, layout }, output)
            }
            OpsKind::UnTracked(prep) => {
                let [query, key, value] = [query, key, value].map(|tensor| tensor.into_primitive());
                prep.finish(forward(query, key, value, heads, &layout).0)
            }
        }
    }
}

#[derive(Debug)]
struct AttentionBackward;

#[derive(Clone, Debug)]
struct State {
    /// Query, key and value.
    inputs: [NodeId; 3],
    output: FloatTensor<Flex>,
    log_sums: Arc<[f32]>,
    heads: Heads,
    layout: Arc<Layout>,
}

impl Backward<Flex, 3> for AttentionBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let State { inputs, output, log_sums, heads, layout } = ops.state;
        let inputs = inputs.map(|node| checkpointer.retrieve_node_output::<FloatTensor<Flex>>(node));
        let gradient = gradients.consume::<Flex>(&ops.node);
        let of_inputs = backward(inputs, output, &log_sums, gradient, heads, &layout);
        for (node, gradient) in ops.parents.into_iter().zip(of_inputs) {
            if let Some(node) = node {
                gradients.register::<Flex>(node.id, gradient);
            }
        }
    }
}

/// Queries that are computed together: their scores over some hundred keys stay in a core's cache.
const BLOCK: usize = 24;

/// Segments longer than this are cut, so that a long sequence is work for several threads.
const LONGEST_UNIT: usize = 384;

/// Tasks that a call is cut into, about: enough for the threads to share evenly.
const TASKS: usize = 64;

/// Some consecutive queries of a segment.
#[derive(Clone, Debug)]
struct Unit {
    segment: usize,
    /// In the segment.
    queries: Range<usize>,
}

/// How a call is cut into tasks.
struct Plan {
    /// All queries, the segments of one tree one after the other.
    units: Vec<Unit>,
    /// The units of each task (there is one for each key head).
    groups: Vec<Range<usize>>,
}

impl Plan {
    fn new(layout: &Layout, heads: Heads) -> Self {
        let segments = layout.segments();
        let mut roots: Vec<usize> = Vec::with_capacity(segments.len());
        for (index, segment) in segments.iter().enumerate() {
            roots.push(segment.parent.map_or(index, |parent| roots[parent]));
        }
        let mut order: Vec<usize> = (0..segments.len()).collect();
        order.sort_by_key(|&segment| roots[segment]);
        let mut units = Vec::with_capacity(order.len());
        for segment in order {
            let len = segments[segment].len;
            let parts = len.div_ceil(LONGEST_UNIT).max(1);
            let step = len.div_ceil(parts).next_multiple_of(BLOCK);
            units.extend(
                (0..len).step_by(step.max(1)).map(|first| Unit { segment, queries: first..len.min(first + step) }),
            );
        }
        // Pairs of query and key.
        let cost = |unit: &Unit| {
            let Range { start, end } = unit.queries;
            (end - start) * (segments[unit.segment].position + (start + end) / 2 + 1)
        };
        let enough = (units.iter().map(cost).sum::<usize>() * heads.key_value).div_ceil(TASKS);
        let mut groups = Vec::new();
        let (mut first, mut total) = (0, 0);
        for (index, unit) in units.iter().enumerate() {
            total += cost(unit);
            let next = units.get(index + 1).map(|next| roots[next.segment]);
            // A tree is better not cut: what its segments share would be added up in several places.
            if total >= enough || (next != Some(roots[unit.segment]) && 2 * total >= enough) || next.is_none() {
                groups.push(first..index + 1);
                (first, total) = (index + 1, 0);
            }
        }
        Self { units, groups }
    }
}

/// Whatever one call needs everywhere.
struct Call<'a> {
    query: Rows<'a>,
    key: Rows<'a>,
    value: Rows<'a>,
    heads: Heads,
    layout: &'a Layout,
}

impl Call<'_> {
    fn scale(&self) -> f32 {
        1.0 / (self.heads.dim as f32).sqrt()
    }

    /// Query heads that read key head `head`.
    fn query_heads(&self, head: usize) -> Range<usize> {
        let repeat = self.heads.query / self.heads.key_value;
        head * repeat..(head + 1) * repeat
    }
}

thread_local! {
    /// Kept by each thread, as taking large blocks from the system is slow.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Memory of one task. All of it is written before it is read.
#[derive(Default)]
struct Scratch {
    keys: Keys,
    /// `[BLOCK, dim]` each.
    query: Vec<f32>,
    output: Vec<f32>,
    output_gradient: Vec<f32>,
    /// `[BLOCK, stride]` each.
    scores: Vec<f32>,
    score_gradients: Vec<f32>,
}

/// Keys and values that the queries of a unit see, in order, packed. What the next unit sees too is not packed again.
#[derive(Default)]
struct Keys {
    /// Where they come from: segment, index of its first token in the batch, how many.
    ranges: Vec<(usize, usize, usize)>,
    len: usize,
    dim: usize,
    /// `[len, dim]` each.
    keys: Vec<f32>,
    values: Vec<f32>,
    /// Panels of `[dim, panel_width]`: a column is a key or a value. Values only for the backward pass.
    keys_by_column: Vec<f32>,
    values_by_column: Vec<f32>,
    /// `[len, dim]` each, for the backward pass.
    key_gradients: Vec<f32>,
    value_gradients: Vec<f32>,
}

impl Keys {
    /// Forgets all.
    fn begin(&mut self, dim: usize) {
        self.ranges.clear();
        self.len = 0;
        self.dim = dim;
    }

    /// The ranges that a unit sees.
    fn ranges_of(layout: &Layout, unit: &Unit) -> Vec<(usize, usize, usize)> {
        let segments = layout.segments();
        let mut ranges = vec![(unit.segment, segments[unit.segment].start, unit.queries.end)];
        while let Some(parent) = segments[ranges[ranges.len() - 1].0].parent {
            ranges.push((parent, segments[parent].start, segments[parent].len));
        }
        ranges.reverse();
        ranges
    }

    /// How many of its keys are the first ones of `ranges` as well.
    fn common(&self, ranges: &[(usize, usize, usize)]) -> usize {
        let mut common = 0;
        for (old, new) in self.ranges.iter().zip(ranges) {
            if old.0 == new.0 {
                common += old.2.min(new.2);
            }
            if old != new {
                break;
            }
        }
        common
    }

    /// Packs `ranges`, of which the first `common` keys are there.
    #[inline(always)]
    fn pack<S: Simd>(
        &mut self,
        call: &Call<'_>,
        head: usize,
        ranges: Vec<(usize, usize, usize)>,
        common: usize,
        backward: bool,
    ) {
        let dim = self.dim;
        let width = panel_width::<S>();
        self.len = ranges.iter().map(|range| range.2).sum();
        let padded = self.len.next_multiple_of(width) * dim;
        for buffer in [&mut self.keys_by_column, &mut self.values, &mut self.keys] {
            grow(buffer, padded);
        }
        if backward {
            for buffer in [&mut self.values_by_column, &mut self.key_gradients, &mut self.value_gradients] {
                grow(buffer, padded);
            }
            self.key_gradients[common * dim..self.len * dim].fill(0.0);
            self.value_gradients[common * dim..self.len * dim].fill(0.0);
        }
        // Plain copies first: the processor then waits for many rows of the tensors at once, not for one after the other.
        let columns = head * dim..(head + 1) * dim;
        let mut at = 0;
        for &(_, start, len) in &ranges {
            for i in common.saturating_sub(at).min(len)..len {
                let packed = (at + i) * dim..(at + i + 1) * dim;
                self.keys[packed.clone()].copy_from_slice(call.key.row(start + i, columns.clone()));
                self.values[packed].copy_from_slice(call.value.row(start + i, columns.clone()));
            }
            at += len;
        }
        let packed = common * dim..self.len * dim;
        set_columns(&mut self.keys_by_column, width, common, dim, &self.keys[packed.clone()]);
        if backward {
            set_columns(&mut self.values_by_column, width, common, dim, &self.values[packed]);
        }
        self.ranges = ranges;
    }
}

/// Makes rows of `dim` numbers the columns of a matrix in panels, from column `first` on.
#[inline(always)]
fn set_columns(panels: &mut [f32], width: usize, first: usize, dim: usize, rows: &[f32]) {
    for (index, row) in (first..).zip(rows.chunks_exact(dim)) {
        let panel = &mut panels[index / width * width * dim..][..width * dim];
        let column = index % width;
        for (to, from) in panel.chunks_exact_mut(width).zip(row) {
            to[column] = *from;
        }
    }
}

/// Distance of rows of scores: not a power of two, or the rows of a block would compete for the same places in the cache.
fn score_stride(columns: usize) -> usize {
    columns + 16
}

/// Output `[tokens, heads.query * dim]` and log-sum-exp of scores `[tokens, heads.query]`.
fn forward(
    query: FloatTensor<Flex>,
    key: FloatTensor<Flex>,
    value: FloatTensor<Flex>,
    heads: Heads,
    layout: &Layout,
) -> (FloatTensor<Flex>, Vec<f32>) {
    let tokens = layout.tokens();
    let [query, key, value] = [query, key, value].map(super::with_contiguous_rows);
    let call = Call { query: Rows::of(&query), key: Rows::of(&key), value: Rows::of(&value), heads, layout };
    let width = heads.query * heads.dim;
    let mut output = vec![0.0; tokens * width];
    let mut log_sums = vec![0.0; tokens * heads.query];
    let plan = Plan::new(layout, heads);
    let (to_output, to_log_sums) = (Shared::new(&mut output, width), Shared::new(&mut log_sums, heads.query));
    (0..plan.groups.len() * heads.key_value).into_par_iter().with_max_len(1).for_each(|task| {
        let units = &plan.units[plan.groups[task / heads.key_value].clone()];
        let head = task % heads.key_value;
        SCRATCH.with_borrow_mut(|scratch| {
            dispatch(Forward { call: &call, units, head, output: to_output, log_sums: to_log_sums, scratch });
        });
    });
    (super::tensor(output, [tokens, width]), log_sums)
}

/// The queries of some units that read one key head.
struct Forward<'a> {
    call: &'a Call<'a>,
    units: &'a [Unit],
    head: usize,
    output: Shared,
    log_sums: Shared,
    scratch: &'a mut Scratch,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { call, units, head, output, log_sums, scratch } = self;
        let dim = call.heads.dim;
        let width = panel_width::<S>();
        grow(&mut scratch.query, BLOCK * dim);
        grow(&mut scratch.output, BLOCK * dim);
        scratch.keys.begin(dim);
        for unit in units {
            let ranges = Keys::ranges_of(call.layout, unit);
            let common = scratch.keys.common(&ranges);
            scratch.keys.pack::<S>(call, head, ranges, common, false);
            let segment = call.layout.segments()[unit.segment];
            let stride = score_stride(scratch.keys.len.next_multiple_of(width));
            grow(&mut scratch.scores, BLOCK * stride);
            for query_head in call.query_heads(head) {
                let columns = query_head * dim..(query_head + 1) * dim;
                for first in unit.queries.clone().step_by(BLOCK) {
                    let rows = BLOCK.min(unit.queries.end - first);
                    let seen = segment.position + first + rows;
                    let padded = seen.next_multiple_of(width);
                    for row in 0..rows {
                        let from = call.query.row(segment.start + first + row, columns.clone());
                        scale_into::<S>(&mut scratch.query[row * dim..(row + 1) * dim], from, call.scale());
                    }
                    // SAFETY: the buffers were grown for `BLOCK` rows of `dim` and `stride` numbers, and the keys for `padded`.
                    unsafe {
                        matmul::<S>(
                            (rows, padded, dim),
                            Left { start: scratch.query.as_ptr(), row: dim, column: 1 },
                            Right { start: scratch.keys.keys_by_column.as_ptr(), row: width, panel: dim * width },
                            Product { start: scratch.scores.as_mut_ptr(), row: stride },
                            false,
                        );
                    }
                    let mut sums = [0.0; BLOCK];
                    for row in 0..rows {
                        let scores = &mut scratch.scores[row * stride..][..padded];
                        scores[segment.position + first + row + 1..].fill(f32::NEG_INFINITY);
                        let max = fold::<S>(scores, f32::NEG_INFINITY, |max, score| max.max(score)).reduce_max();
                        sums[row] = exp_minus::<S>(scores, max);
                        // SAFETY: this task alone has these queries of this head.
                        let log_sum = unsafe { log_sums.row(segment.start + first + row, query_head..query_head + 1) };
                        log_sum[0] = max + sums[row].ln();
                    }
                    // SAFETY: as above; there are `seen` values.
                    unsafe {
                        matmul::<S>(
                            (rows, dim, seen),
                            Left { start: scratch.scores.as_ptr(), row: stride, column: 1 },
                            Right { start: scratch.keys.values.as_ptr(), row: dim, panel: width },
                            Product { start: scratch.output.as_mut_ptr(), row: dim },
                            false,
                        );
                    }
                    for (row, sum) in sums[..rows].iter().enumerate() {
                        // SAFETY: this task alone has these queries of this head.
                        let to = unsafe { output.row(segment.start + first + row, columns.clone()) };
                        scale_into::<S>(to, &scratch.output[row * dim..(row + 1) * dim], 1.0 / sum);
                    }
                }
            }
        }
    }
}

/// Replaces scores by `e^(score - shift)`; returns their sum. Whole registers.
#[inline(always)]
fn exp_minus<S: Simd>(scores: &mut [f32], shift: f32) -> f32 {
    let shift = splat::<S>(shift);
    let mut sum = splat::<S>(0.0);
    for scores in scores.chunks_exact_mut(lanes::<S>()) {
        let weights = exp(load::<S>(scores) - shift);
        sum += weights;
        store(scores, weights);
    }
    sum.reduce_add()
}

/// Gradients of query, key and value.
fn backward(
    inputs: [FloatTensor<Flex>; 3],
    output: FloatTensor<Flex>,
    log_sums: &[f32],
    gradient: FloatTensor<Flex>,
    heads: Heads,
    layout: &Layout,
) -> [FloatTensor<Flex>; 3] {
    let tokens = layout.tokens();
    let [query, key, value] = inputs.map(super::with_contiguous_rows);
    let [output, gradient] = [output, gradient].map(super::with_contiguous_rows);
    let call = Call { query: Rows::of(&query), key: Rows::of(&key), value: Rows::of(&value), heads, layout };
    let plan = Plan::new(layout, heads);
    let parts = Parts::new(&plan, layout, heads);
    let (query_width, key_width) = (heads.query * heads.dim, heads.key_value * heads.dim);
    let mut query_gradient = vec![0.0; tokens * query_width];
    let mut key_gradient = vec![0.0; tokens * key_width];
    let mut value_gradient = vec![0.0; tokens * key_width];
    let mut part_gradients = vec![0.0; parts.rows * 2 * heads.dim];
    let targets = Targets {
        query: Shared::new(&mut query_gradient, query_width),
        key: Shared::new(&mut key_gradient, key_width),
        value: Shared::new(&mut value_gradient, key_width),
        parts: Shared::new(&mut part_gradients, 2 * heads.dim),
    };
    (0..plan.groups.len() * heads.key_value).into_par_iter().with_max_len(1).for_each(|task| {
        let (group, head) = (task / heads.key_value, task % heads.key_value);
        let units = &plan.units[plan.groups[group].clone()];
        let parts = parts.of_task(group, head);
        let (output, gradient) = (Rows::of(&output), Rows::of(&gradient));
        SCRATCH.with_borrow_mut(|scratch| {
            dispatch(BackwardTask { call: &call, units, head, output, gradient, log_sums, targets, parts, scratch });
        });
    });
    parts.add_up(layout, heads, targets);
    [
        super::tensor(query_gradient, [tokens, query_width]),
        super::tensor(key_gradient, [tokens, key_width]),
        super::tensor(value_gradient, [tokens, key_width]),
    ]
}

/// Where a backward pass writes to.
#[derive(Clone, Copy)]
struct Targets {
    query: Shared,
    key: Shared,
    value: Shared,
    /// Rows of [`Parts`]: a key's gradient, then its value's.
    parts: Shared,
}

/// Segments whose keys are seen by several tasks of one head: each adds up a part of their gradients of its own, and the
/// parts are added up in order of the tasks.
struct Parts {
    /// For each group, the segments that it shares with others, and where its part of each begins among the rows of one head.
    starts: Vec<Vec<(usize, usize)>>,
    /// Rows of one head.
    rows_of_head: usize,
    /// Rows of all heads.
    rows: usize,
}

impl Parts {
    fn new(plan: &Plan, layout: &Layout, heads: Heads) -> Self {
        let segments = layout.segments();
        let seen: Vec<Vec<usize>> = plan
            .groups
            .iter()
            .map(|group| {
                let mut seen = vec![false; segments.len()];
                for unit in &plan.units[group.clone()] {
                    let mut next = Some(unit.segment);
                    while let Some(segment) = next.filter(|&segment| !seen[segment]) {
                        seen[segment] = true;
                        next = segments[segment].parent;
                    }
                }
                (0..segments.len()).filter(|&segment| seen[segment]).collect()
            })
            .collect();
        let mut groups = vec![0; segments.len()];
        seen.iter().flatten().for_each(|&segment| groups[segment] += 1);
        let mut rows_of_head = 0;
        let mut starts = vec![Vec::new(); plan.groups.len()];
        for (starts, seen) in starts.iter_mut().zip(&seen) {
            for &segment in seen.iter().filter(|&&segment| groups[segment] > 1) {
                starts.push((segment, rows_of_head));
                rows_of_head += segments[segment].len;
            }
        }
        Self { starts, rows_of_head, rows: rows_of_head * heads.key_value }
    }

    /// Segments that a task shares with others, and where its part of each begins.
    fn of_task(&self, group: usize, head: usize) -> PartsOfTask<'_> {
        PartsOfTask { starts: &self.starts[group], first: head * self.rows_of_head }
    }

    /// Adds the parts to the gradients, in order of the groups.
    fn add_up(&self, layout: &Layout, heads: Heads, targets: Targets) {
        let mut all: Vec<(usize, usize)> = self.starts.iter().flatten().copied().collect();
        // Parts begin in order of their groups.
        all.sort_unstable();
        let segments: Vec<&[(usize, usize)]> = all.chunk_by(|a, b| a.0 == b.0).collect();
        (0..segments.len() * heads.key_value).into_par_iter().for_each(|task| {
            let (parts, head) = (segments[task / heads.key_value], task % heads.key_value);
            let dim = heads.dim;
            let columns = head * dim..(head + 1) * dim;
            for &(segment, start) in parts {
                let segment = layout.segments()[segment];
                for row in 0..segment.len {
                    // SAFETY: parts are written no more, and this task alone has this segment's keys of this head.
                    unsafe {
                        let from = targets.parts.row(head * self.rows_of_head + start + row, 0..2 * dim);
                        add(targets.key.row(segment.start + row, columns.clone()), &from[..dim]);
                        add(targets.value.row(segment.start + row, columns.clone()), &from[dim..]);
                    }
                }
            }
        });
    }
}

/// [`Parts`] of one task.
#[derive(Clone, Copy)]
struct PartsOfTask<'a> {
    starts: &'a [(usize, usize)],
    first: usize,
}

#[inline(always)]
fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

/// The queries of some units that read one key head.
struct BackwardTask<'a> {
    call: &'a Call<'a>,
    units: &'a [Unit],
    head: usize,
    output: Rows<'a>,
    gradient: Rows<'a>,
    log_sums: &'a [f32],
    targets: Targets,
    parts: PartsOfTask<'a>,
    scratch: &'a mut Scratch,
}

impl WithSimd for BackwardTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { call, units, head, output, gradient, log_sums, targets, parts, scratch } = self;
        let Heads { query: heads, dim, .. } = call.heads;
        let width = panel_width::<S>();
        grow(&mut scratch.query, BLOCK * dim);
        grow(&mut scratch.output, BLOCK * dim);
        grow(&mut scratch.output_gradient, BLOCK * dim);
        scratch.keys.begin(dim);
        for unit in units {
            let ranges = Keys::ranges_of(call.layout, unit);
            let common = scratch.keys.common(&ranges);
            write_key_gradients(&scratch.keys, common, head, targets, parts);
            scratch.keys.pack::<S>(call, head, ranges, common, true);
            let segment = call.layout.segments()[unit.segment];
            let stride = score_stride(scratch.keys.len.next_multiple_of(width));
            grow(&mut scratch.scores, BLOCK * stride);
            grow(&mut scratch.score_gradients, BLOCK * stride);
            for query_head in call.query_heads(head) {
                let columns = query_head * dim..(query_head + 1) * dim;
                for first in unit.queries.clone().step_by(BLOCK) {
                    let rows = BLOCK.min(unit.queries.end - first);
                    let seen = segment.position + first + rows;
                    let padded = seen.next_multiple_of(width);
                    let mut deltas = [0.0; BLOCK];
                    for (row, delta) in deltas[..rows].iter_mut().enumerate() {
                        let token = segment.start + first + row;
                        let at = row * dim..(row + 1) * dim;
                        scale_into::<S>(
                            &mut scratch.query[at.clone()],
                            call.query.row(token, columns.clone()),
                            call.scale(),
                        );
                        let gradient = gradient.row(token, columns.clone());
                        scratch.output_gradient[at].copy_from_slice(gradient);
                        *delta = dot::<S>(gradient, output.row(token, columns.clone()));
                    }
                    let Keys { keys_by_column, values_by_column, keys, .. } = &scratch.keys;
                    // SAFETY: the buffers were grown for `BLOCK` rows of `dim` and `stride` numbers, and the keys for `padded`.
                    unsafe {
                        for (left, right, product) in [
                            (&scratch.query, keys_by_column, &mut scratch.scores),
                            (&scratch.output_gradient, values_by_column, &mut scratch.score_gradients),
                        ] {
                            matmul::<S>(
                                (rows, padded, dim),
                                Left { start: left.as_ptr(), row: dim, column: 1 },
                                Right { start: right.as_ptr(), row: width, panel: dim * width },
                                Product { start: product.as_mut_ptr(), row: stride },
                                false,
                            );
                        }
                    }
                    for row in 0..rows {
                        let sees = segment.position + first + row + 1;
                        let weights = &mut scratch.scores[row * stride..][..padded];
                        let gradients = &mut scratch.score_gradients[row * stride..][..padded];
                        weights[sees..].fill(f32::NEG_INFINITY);
                        // There is no key behind the last one, only old numbers.
                        gradients[sees..].fill(0.0);
                        let shift = splat::<S>(log_sums[(segment.start + first + row) * heads + query_head]);
                        let delta = splat::<S>(deltas[row]);
                        let lanes = lanes::<S>();
                        for (weights, gradients) in
                            weights.chunks_exact_mut(lanes).zip(gradients.chunks_exact_mut(lanes))
                        {
                            let weight = exp(load::<S>(weights) - shift);
                            store(weights, weight);
                            let gradient = load::<S>(gradients) - delta;
                            store(gradients, weight * gradient);
                        }
                    }
                    // SAFETY: as above; there are `seen` keys and values, and their gradients.
                    unsafe {
                        matmul::<S>(
                            (rows, dim, seen),
                            Left { start: scratch.score_gradients.as_ptr(), row: stride, column: 1 },
                            Right { start: keys.as_ptr(), row: dim, panel: width },
                            Product { start: scratch.output.as_mut_ptr(), row: dim },
                            false,
                        );
                        for (left, right, product) in [
                            (&scratch.scores, &scratch.output_gradient, &mut scratch.keys.value_gradients),
                            (&scratch.score_gradients, &scratch.query, &mut scratch.keys.key_gradients),
                        ] {
                            matmul::<S>(
                                (seen, dim, rows),
                                Left { start: left.as_ptr(), row: 1, column: stride },
                                Right { start: right.as_ptr(), row: dim, panel: width },
                                Product { start: product.as_mut_ptr(), row: dim },
                                true,
                            );
                        }
                    }
                    for row in 0..rows {
                        // SAFETY: this task alone has these queries of this head.
                        let to = unsafe { targets.query.row(segment.start + first + row, columns.clone()) };
                        scale_into::<S>(to, &scratch.output[row * dim..(row + 1) * dim], call.scale());
                    }
                }
            }
        }
        write_key_gradients(&scratch.keys, 0, head, targets, parts);
    }
}

/// Adds the gradients of packed keys and values from number `first` on to where they belong.
#[inline(always)]
fn write_key_gradients(keys: &Keys, first: usize, head: usize, targets: Targets, parts: PartsOfTask<'_>) {
    let dim = keys.dim;
    let columns = head * dim..(head + 1) * dim;
    let mut at = 0;
    for &(segment, start, len) in &keys.ranges {
        let part = parts.starts.iter().find(|part| part.0 == segment).map(|part| parts.first + part.1);
        for i in first.saturating_sub(at).min(len)..len {
            let packed = (at + i) * dim..(at + i + 1) * dim;
            let (of_key, of_value) = (&keys.key_gradients[packed.clone()], &keys.value_gradients[packed]);
            // SAFETY: no other task has this part, or, where there is none, this segment's keys of this head.
            unsafe {
                if let Some(part) = part {
                    let to = targets.parts.row(part + i, 0..2 * dim);
                    add(&mut to[..dim], of_key);
                    add(&mut to[dim..], of_value);
                } else {
                    add(targets.key.row(start + i, columns.clone()), of_key);
                    add(targets.value.row(start + i, columns.clone()), of_value);
                }
            }
        }
        at += len;
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};
    use proptest::prelude::*;

    use super::*;
    use crate::ops::composed;

    type Operator = fn(Tensor<2>, Tensor<2>, Tensor<2>, Heads, &Arc<Layout>) -> Tensor<2>;

    fn numbers(seed: u64, len: usize) -> Vec<f32> {
        use rand_chacha::rand_core::{RngCore, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        // About normal, of variance 1.
        let uniform = |rng: &mut rand_chacha::ChaCha8Rng| rng.next_u32() as f32 / u32::MAX as f32;
        (0..len).map(|_| ((0..4).map(|_| uniform(&mut rng)).sum::<f32>() - 2.0) * 1.7).collect()
    }

    fn inputs(heads: Heads, tokens: usize, device: &Device) -> [Tensor<2>; 4] {
        let widths = [heads.query, heads.key_value, heads.key_value, heads.query].map(|heads_of| heads_of * heads.dim);
        let mut seed = 0;
        widths.map(|width| {
            seed += 1;
            Tensor::from_data(burn::tensor::TensorData::new(numbers(seed, tokens * width), [tokens, width]), device)
        })
    }

    /// The output, and the gradients of query, key and value.
    fn run(operator: Operator, heads: Heads, layout: &Arc<Layout>, device: &Device) -> [Vec<f32>; 4] {
        let [query, key, value, weights] = inputs(heads, layout.tokens(), device);
        let [query, key, value] = [query, key, value].map(Tensor::require_grad);
        let output = operator(query.clone(), key.clone(), value.clone(), heads, layout);
        let gradients = (output.clone() * weights).sum().backward();
        let of = |tensor: Tensor<2>| tensor.grad(&gradients).expect("it is required").into_data().try_to_vec().unwrap();
        [output.into_data().try_to_vec().unwrap(), of(query), of(key), of(value)]
    }

    fn assert_close(got: &[Vec<f32>; 4], expected: &[Vec<f32>; 4]) {
        for ((got, expected), name) in got.iter().zip(expected).zip(["output", "query", "key", "value"]) {
            let size = (expected.iter().map(|x| x * x).sum::<f32>() / expected.len() as f32).sqrt();
            for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
                // A lone token's query has no gradient but rounding.
                let close = (got - expected).abs() <= 1e-4 * (expected.abs() + size) + 1e-6;
                assert!(close, "{name} at {index}: {got} for {expected}");
            }
        }
    }

    /// Segments with the lengths of `segments`, each continuing the one that its second number picks, or none.
    fn layout(segments: &[(usize, usize)]) -> Arc<Layout> {
        let mut layout = Layout::new();
        for (index, &(len, parent)) in segments.iter().enumerate() {
            let parent = parent % (index + 1);
            layout.push(len, (parent < index).then_some(parent));
        }
        layout.shared()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn agrees_with_composed(
            segments in prop::collection::vec((1usize..70, 0usize..100), 1..7),
            repeat in prop::sample::select(vec![1usize, 2, 4]),
            key_value in 1usize..3,
            dim in prop::sample::select(vec![16usize, 32, 64]),
        ) {
            let heads = Heads { query: repeat * key_value, key_value, dim };
            let layout = layout(&segments);
            let device = Device::flex().autodiff();
            assert_close(
                &run(attention, heads, &layout, &device),
                &run(composed::attention, heads, &layout, &device),
            );
        }
    }

    /// A prompt with many replies, some of which go on: cut into several tasks, whose parts are added up.
    fn tree() -> Arc<Layout> {
        let mut segments = vec![(50, 0)];
        segments.extend((1..40).map(|i| (10 + i, 0)));
        segments.extend([(30, 2), (5, 3), (9, 40)]);
        segments.push((20, 43));
        layout(&segments)
    }

    const HEADS: Heads = Heads { query: 4, key_value: 2, dim: 16 };

    #[test]
    fn parts_of_shared_prefixes_are_added_up() {
        let plan = Plan::new(&tree(), HEADS);
        assert!(plan.groups.len() > 4, "{:?}", plan.groups);
        let device = Device::flex().autodiff();
        assert_close(&run(attention, HEADS, &tree(), &device), &run(composed::attention, HEADS, &tree(), &device));
    }

    #[test]
    fn long_segments_are_cut() {
        let layout = Layout::of_lengths([900, 30]).shared();
        let heads = Heads { query: 1, key_value: 1, dim: 16 };
        assert!(Plan::new(&layout, heads).units.len() > 3);
        let device = Device::flex().autodiff();
        assert_close(&run(attention, heads, &layout, &device), &run(composed::attention, heads, &layout, &device));
    }

    #[test]
    fn is_the_same_bit_for_bit_with_any_number_of_threads() {
        let results = [1, 2, 5].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(attention, HEADS, &tree(), &Device::flex().autodiff()))
        });
        let bits = |result: &[Vec<f32>; 4]| -> Vec<u32> { result.iter().flatten().map(|x| x.to_bits()).collect() };
        assert!(results.iter().all(|result| bits(result) == bits(&results[0])));
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let heads = Heads { query: 2, key_value: 1, dim: 16 };
        let layout = layout(&[(3, 0), (2, 0), (2, 1)]);
        let device = Device::flex().autodiff();
        let [_, query, key, value] = run(attention, heads, &layout, &device);
        let [.., weights] = inputs(heads, layout.tokens(), &Device::flex());
        for (input, gradient) in [query, key, value].into_iter().enumerate() {
            for index in (0..gradient.len()).step_by(7) {
                let loss = |step: f32| {
                    let mut tensors = inputs(heads, layout.tokens(), &Device::flex());
                    let shape = tensors[input].dims();
                    let mut values: Vec<f32> = tensors[input].to_data().try_to_vec().unwrap();
                    values[index] += step;
                    tensors[input] = Tensor::from_data(burn::tensor::TensorData::new(values, shape), &Device::flex());
                    let [query, key, value, _] = tensors;
                    (attention(query, key, value, heads, &layout) * weights.clone()).sum().into_scalar::<f32>()
                };
                let difference = (loss(1e-2) - loss(-1e-2)) / 2e-2;
                assert!((difference - gradient[index]).abs() < 5e-3, "{difference} for {}", gradient[index]);
            }
        }
    }

    #[test]
    fn works_with_gradient_checkpointing_and_slices() {
        let layout = Layout::of_lengths([20, 7]).shared();
        let heads = Heads { query: 2, key_value: 2, dim: 16 };
        let gradients = [Device::flex().autodiff(), Device::flex().autodiff().gradient_checkpointing()].map(|device| {
            let joint = Tensor::<2>::from_data(burn::tensor::TensorData::new(numbers(9, 27 * 96), [27, 96]), &device)
                .require_grad();
            let scaled = joint.clone().mul_scalar(1.5);
            let [query, key, value] = [0, 32, 64].map(|first| scaled.clone().slice([0..27, first..first + 32]));
            // A column-major value: its rows are copied first.
            let value = (value.transpose() + 0.0).transpose();
            let output = attention(query, key, value, heads, &layout);
            let gradients = (output.clone() * output).sum().backward();
            joint.grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap()
        });
        assert!(gradients[0].iter().any(|&x| x != 0.0));
        assert_eq!(gradients[0], gradients[1]);
    }

    #[test]
    fn extreme_scores_stay_finite() {
        let layout = Layout::of_lengths([40]).shared();
        let heads = Heads { query: 1, key_value: 1, dim: 16 };
        let device = Device::flex();
        let large = Tensor::<2>::random([40, 16], Distribution::Normal(0.0, 100.0), &device);
        let output = attention(large.clone(), large.clone(), large, heads, &layout);
        assert!(output.into_data().iter::<f32>().all(f32::is_finite));
    }
}
