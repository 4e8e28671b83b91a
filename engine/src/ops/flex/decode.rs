//! Attention of a decoding step (see [`crate::ops::decode_attention`]).
//!
//! Rows that continue one prompt are computed together, so its keys and values are read once for all of them. Their
//! queries lie side by side in registers: the scores of a key are a row of `[keys, queries]`, for which keys need not be
//! transposed, and softmax needs no sums across lanes.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::math::{Simd, WithSimd, dispatch, dot, exp, lanes, load, scale_into, splat, store};
use super::matmul::{Left, Product, Right, matmul, panel_width};
use super::{Rows, Shared, grow};
use crate::ops::Heads;

/// Whether [`decode_attention`] can be used: f32 on Flex, without autodiff, and heads of a multiple of 16 numbers.
pub fn takes(
    query: &Tensor<2>,
    prompt_key: &Tensor<2>,
    prompt_value: &Tensor<2>,
    own_key: &Tensor<3>,
    own_value: &Tensor<3>,
    heads: Heads,
) -> bool {
    heads.dim.is_multiple_of(16)
        && [query, prompt_key, prompt_value].into_iter().all(super::takes_without_autodiff)
        && [own_key, own_value].into_iter().all(super::takes_without_autodiff)
}

/// See [`crate::ops::decode_attention`].
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
    let [query, prompt_key, prompt_value] = [query, prompt_key, prompt_value].map(Tensor::into_dispatch);
    let [own_key, own_value] = [own_key, own_value].map(Tensor::into_dispatch);
    let prompts = Arc::clone(prompts);
    Tensor::from_dispatch(<Dispatch as FlexDecodeAttention>::decode_attention(
        query,
        prompt_key,
        prompt_value,
        own_key,
        own_value,
        heads,
        prompts,
        own_len,
    ))
}

/// Backends with a fused attention of a decoding step.
#[backend_extension(Flex)]
pub trait FlexDecodeAttention: Backend {
    /// See [`crate::ops::decode_attention`].
    #[allow(clippy::too_many_arguments, reason = "keys and values of two kinds, each a tensor")]
    fn decode_attention(
        query: FloatTensor<Self>,
        prompt_key: FloatTensor<Self>,
        prompt_value: FloatTensor<Self>,
        own_key: FloatTensor<Self>,
        own_value: FloatTensor<Self>,
        heads: Heads,
        prompts: Arc<[(usize, usize)]>,
        own_len: usize,
    ) -> FloatTensor<Self>;
}

impl FlexDecodeAttention for Flex {
    fn decode_attention(
        query: FloatTensor<Self>,
        prompt_key: FloatTensor<Self>,
        prompt_value: FloatTensor<Self>,
        own_key: FloatTensor<Self>,
        own_value: FloatTensor<Self>,
        heads: Heads,
        prompts: Arc<[(usize, usize)]>,
        own_len: usize,
    ) -> FloatTensor<Self> {
        let [query, prompt_key, prompt_value] = [query, prompt_key, prompt_value].map(super::with_contiguous_rows);
        let rows = prompts.len();
        let capacity = own_key.layout().shape()[1];
        let [own_key, own_value] = [own_key, own_value].map(flat);
        let call = Call {
            query: Rows::of(&query),
            prompt_key: Rows::of(&prompt_key),
            prompt_value: Rows::of(&prompt_value),
            own_key: Rows::of(&own_key),
            own_value: Rows::of(&own_value),
            heads,
            prompts: &prompts,
            own_len,
            capacity,
        };
        let width = heads.query * heads.dim;
        let mut output = vec![0.0; rows * width];
        call.run(Shared::new(&mut output, width));
        super::tensor(output, [rows, width])
    }
}

/// `[rows, capacity, width]` as `[rows * capacity, width]`: no copy where rows lie one after the other.
fn flat(own: FloatTensor<Flex>) -> FloatTensor<Flex> {
    let [rows, capacity, width] = own.layout().shape()[..] else { panic!("own keys have three dimensions") };
    Flex::float_reshape(own, [rows * capacity, width].into())
}

/// Queries that are computed together: two registers of AVX-512.
const QUERIES: usize = 32;

/// Products of two numbers below which more than one thread is not worth waking.
const FEW: usize = 200_000;

struct Call<'a> {
    query: Rows<'a>,
    prompt_key: Rows<'a>,
    prompt_value: Rows<'a>,
    /// Row `r` at step `t` is row `r * capacity + t`.
    own_key: Rows<'a>,
    own_value: Rows<'a>,
    heads: Heads,
    prompts: &'a [(usize, usize)],
    own_len: usize,
    /// Steps that each row has room for.
    capacity: usize,
}

impl Call<'_> {
    fn run(&self, output: Shared) {
        let Heads { query: heads, key_value, dim } = self.heads;
        let rows_of_task = (QUERIES / (heads / key_value)).max(1);
        let (mut groups, mut first): (Vec<Range<usize>>, usize) = (Vec::new(), 0);
        for same in self.prompts.chunk_by(|a, b| a == b) {
            groups.extend(same.chunks(rows_of_task).scan(first, |first, rows| {
                *first += rows.len();
                Some(*first - rows.len()..*first)
            }));
            first += same.len();
        }
        let task = |rows: &Range<usize>| {
            self.touch(rows.clone());
            for head in 0..key_value {
                let rows = rows.clone();
                SCRATCH.with_borrow_mut(|scratch| dispatch(Task { call: self, rows, head, output, scratch }));
            }
        };
        let keys: usize = self.prompts.iter().map(|prompt| prompt.1 + self.own_len).sum();
        if keys * heads * dim < FEW {
            groups.iter().for_each(task);
        } else {
            groups.par_iter().for_each(task);
        }
    }

    /// Brings the keys and values of some rows into the cache, in the order of memory. A head alone reads a small part of
    /// each token's, which the processor does not foresee.
    fn touch(&self, rows: Range<usize>) {
        const LINE: usize = 16;
        let (start, len) = self.prompts[rows.start];
        let width = self.heads.key_value * self.heads.dim;
        let mut bits = 0;
        let mut touch = |tensor: &Rows<'_>, row: usize, count: usize| {
            for row in row..row + count {
                bits |= tensor.row(row, 0..width).iter().step_by(LINE).fold(0, |bits, x| bits | x.to_bits());
            }
        };
        for (tensor, own) in [(&self.prompt_key, &self.own_key), (&self.prompt_value, &self.own_value)] {
            touch(tensor, start, len);
            for row in rows.clone() {
                touch(own, row * self.capacity, self.own_len);
            }
        }
        std::hint::black_box(bits);
    }
}

thread_local! {
    /// Kept by each thread. All of it is written before it is read.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    /// `[queries, dim]`
    query: Vec<f32>,
    /// `[dim, padded queries]`
    query_by_column: Vec<f32>,
    /// `[keys, padded queries]`
    scores: Vec<f32>,
    /// `[padded queries]`
    sums: Vec<f32>,
    /// `[queries, dim]`
    output: Vec<f32>,
}

/// Rows with one prompt, and one key head.
struct Task<'a> {
    call: &'a Call<'a>,
    rows: Range<usize>,
    head: usize,
    output: Shared,
    scratch: &'a mut Scratch,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { call, rows, head, output, scratch } = self;
        let Heads { query: query_heads, key_value, dim } = call.heads;
        let (repeat, own_len, capacity) = (query_heads / key_value, call.own_len, call.capacity);
        let (prompt_start, prompt_len) = call.prompts[rows.start];
        let (keys, queries) = (prompt_len + own_len, rows.len() * repeat);
        let (lanes, width) = (lanes::<S>(), panel_width::<S>());
        let padded = queries.next_multiple_of(lanes);
        let columns = head * dim..(head + 1) * dim;
        grow(&mut scratch.query, queries * dim);
        grow(&mut scratch.query_by_column, dim * padded);
        grow(&mut scratch.scores, keys * padded);
        grow(&mut scratch.output, queries * dim);
        let scale = 1.0 / (dim as f32).sqrt();
        // Query `i` is head `head * repeat + i % repeat` of row `rows.start + i / repeat`.
        let columns_of = |query: usize| {
            let head = head * repeat + query % repeat;
            head * dim..(head + 1) * dim
        };
        scratch.query_by_column[..dim * padded].fill(0.0);
        for i in 0..queries {
            let query = &mut scratch.query[i * dim..(i + 1) * dim];
            scale_into::<S>(query, call.query.row(rows.start + i / repeat, columns_of(i)), scale);
            for (j, x) in query.iter().enumerate() {
                scratch.query_by_column[j * padded + i] = *x;
            }
        }
        let (prompt_scores, own_scores) = scratch.scores[..keys * padded].split_at_mut(prompt_len * padded);
        // A product costs a column the same for one query as for a register full of them.
        if 4 * queries > lanes {
            // SAFETY: `span` checks that the prompt's keys are inside the tensor, and the buffers have `padded` columns.
            unsafe {
                let first = call.prompt_key.span(prompt_start, prompt_len, 1, columns.clone());
                matmul::<S>(
                    (prompt_len, padded, dim),
                    Left { start: first, row: call.prompt_key.stride, column: 1 },
                    Right { start: scratch.query_by_column.as_ptr(), row: padded, panel: width },
                    Product { start: prompt_scores.as_mut_ptr(), row: padded },
                    false,
                );
            }
        } else {
            for (key, scores) in prompt_scores.chunks_exact_mut(padded).enumerate() {
                let key = call.prompt_key.row(prompt_start + key, columns.clone());
                scores[queries..].fill(0.0);
                for (score, query) in scores.iter_mut().zip(scratch.query[..queries * dim].chunks_exact(dim)) {
                    *score = dot::<S>(query, key);
                }
            }
        }
        for (step, scores) in own_scores.chunks_exact_mut(padded).enumerate() {
            scores[queries..].fill(0.0);
            for (row, queries) in scratch.query[..queries * dim].chunks_exact(repeat * dim).enumerate() {
                let key = call.own_key.row((rows.start + row) * capacity + step, columns.clone());
                for (i, query) in queries.chunks_exact(dim).enumerate() {
                    scores[row * repeat + i] = dot::<S>(query, key);
                }
            }
        }
        grow(&mut scratch.sums, padded);
        exp_columns::<S>(&mut scratch.scores[..keys * padded], &mut scratch.sums[..padded]);
        // SAFETY: as above; the product of a row's own keys stays in the row's lines of the output.
        unsafe {
            matmul::<S>(
                (queries, dim, prompt_len),
                Left { start: scratch.scores.as_ptr(), row: 1, column: padded },
                Right {
                    start: call.prompt_value.span(prompt_start, prompt_len, 1, columns.clone()),
                    row: call.prompt_value.stride,
                    panel: width,
                },
                Product { start: scratch.output.as_mut_ptr(), row: dim },
                false,
            );
            for row in 0..rows.len() {
                matmul::<S>(
                    (repeat, dim, own_len),
                    Left {
                        start: scratch.scores.as_ptr().add(prompt_len * padded + row * repeat),
                        row: 1,
                        column: padded,
                    },
                    Right {
                        start: call.own_value.span((rows.start + row) * capacity, own_len, 1, columns.clone()),
                        row: call.own_value.stride,
                        panel: width,
                    },
                    Product { start: scratch.output.as_mut_ptr().add(row * repeat * dim), row: dim },
                    true,
                );
            }
        }
        for i in 0..queries {
            // SAFETY: this task alone has these rows and heads.
            let to = unsafe { output.row(rows.start + i / repeat, columns_of(i)) };
            scale_into::<S>(to, &scratch.output[i * dim..(i + 1) * dim], 1.0 / scratch.sums[i]);
        }
    }
}

/// Replaces each column's numbers by `e^(number - the column's largest)`, and fills `sums` with the columns' sums. Whole
/// registers.
#[inline(always)]
fn exp_columns<S: Simd>(scores: &mut [f32], sums: &mut [f32]) {
    let (lanes, columns) = (lanes::<S>(), sums.len());
    for (column, sum) in (0..columns).step_by(lanes).zip(sums.chunks_exact_mut(lanes)) {
        let mut max = splat::<S>(f32::NEG_INFINITY);
        for scores in scores.chunks_exact(columns) {
            max = max.max(load(&scores[column..]));
        }
        let mut total = splat::<S>(0.0);
        for scores in scores.chunks_exact_mut(columns) {
            let weights = exp(load::<S>(&scores[column..]) - max);
            total += weights;
            store(&mut scores[column..], weights);
        }
        store(sum, total);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};
    use proptest::prelude::*;

    use super::*;
    use crate::ops::{Layout, attention, composed};

    fn assert_close(got: Tensor<2>, expected: Tensor<2>) {
        let difference = (got - expected.clone()).abs().max().into_scalar::<f32>();
        let size = expected.square().mean().sqrt().into_scalar::<f32>();
        assert!(difference <= 1e-4 * size, "{difference} of {size}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn agrees_with_composed(
            lengths in prop::collection::vec(1usize..70, 1..4),
            rows in prop::collection::vec(0usize..4, 1..40),
            repeat in prop::sample::select(vec![1usize, 2, 4, 7]),
            key_value in 1usize..3,
            dim in prop::sample::select(vec![16usize, 32, 64]),
            own_len in 1usize..70,
            sorted in any::<bool>(),
        ) {
            let heads = Heads { query: repeat * key_value, key_value, dim };
            let mut rows: Vec<usize> = rows.into_iter().map(|row| row % lengths.len()).collect();
            if sorted {
                rows.sort_unstable();
            }
            let device = Device::flex();
            let start = |prompt: usize| lengths[..prompt].iter().sum::<usize>();
            let prompts: Arc<[(usize, usize)]> = rows.iter().map(|&row| (start(row), lengths[row])).collect();
            let normal = Distribution::Normal(0.0, 1.0);
            let flat = |rows: usize, heads: usize| Tensor::<2>::random([rows, heads * dim], normal, &device);
            let query = flat(rows.len(), heads.query);
            let [key, value] = [(); 2].map(|()| flat(start(lengths.len()), key_value));
            let [own_key, own_value] =
                [(); 2].map(|()| Tensor::<3>::random([rows.len(), own_len + 3, key_value * dim], normal, &device));
            let operands = || (query.clone(), key.clone(), value.clone(), own_key.clone(), own_value.clone());
            let (q, k, v, ok, ov) = operands();
            prop_assert!(takes(&q, &k, &v, &ok, &ov, heads));
            let got = decode_attention(q, k, v, ok, ov, heads, &prompts, own_len);
            let (q, k, v, ok, ov) = operands();
            assert_close(got, composed::decode_attention(q, k, v, ok, ov, heads, &prompts, own_len));
        }
    }

    #[test]
    fn is_the_last_row_of_full_attention() {
        let heads = Heads { query: 4, key_value: 2, dim: 16 };
        let device = Device::flex();
        let mut layout = Layout::new();
        let prompt = layout.push(9, None);
        let (first, second) = (layout.push(5, Some(prompt)), layout.push(5, Some(prompt)));
        let normal = Distribution::Normal(0.0, 1.0);
        let query = Tensor::<2>::random([19, 64], normal, &device);
        let [key, value] = [(); 2].map(|()| Tensor::<2>::random([19, 32], normal, &device));
        let full = attention(query.clone(), key.clone(), value.clone(), heads, &layout.clone().shared());
        let last = [first, second].map(|segment| layout.segments()[segment].start + 4);
        let rows = |of: &Tensor<2>| {
            Tensor::cat(last.iter().map(|&token| of.clone().slice([token..token + 1, 0..of.dims()[1]])).collect(), 0)
        };
        // As the cache lays them out: [rows, capacity, width].
        let own = |of: &Tensor<2>| of.clone().slice([9..19, 0..32]).reshape([2, 5, 32]);
        let prompts: Arc<[(usize, usize)]> = [(0, 9); 2].into();
        let (own_key, own_value) = (own(&key), own(&value));
        let got = decode_attention(rows(&query), key, value, own_key, own_value, heads, &prompts, 5);
        assert_close(got, rows(&full));
    }
}
