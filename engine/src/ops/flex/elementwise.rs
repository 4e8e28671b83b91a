//! RMS norm, rotary position embeddings and SwiGLU, each in one pass.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};

use super::super::RopeTable;
use super::blocks::{FlexTensor, Registers, Update, rows_of_block, update, update_registers, values};
use super::math::{F32s, Simd, WithSimd, dispatch, lanes, load, load_tail, mul_add, sigmoid, splat};
use super::tensor;

/// The operators of this module, for burn's dispatch over backends. What they compute is said at
/// [`rms_norm`](crate::ops::rms_norm), [`rope`](crate::ops::rope) and [`swiglu`](crate::ops::swiglu).
#[backend_extension(Flex, Autodiff)]
pub trait ElementwiseOps: Backend {
    /// `x` is `[tokens, width]`, `weight` is `[width]`.
    fn fused_rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self>;
    /// `x` is `[tokens, heads * dim]`.
    fn fused_rope(x: FloatTensor<Self>, table: Arc<RopeTable>, positions: Arc<[usize]>) -> FloatTensor<Self>;
    /// Both are `[tokens, width]`.
    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl ElementwiseOps for Flex {
    fn fused_rms_norm(x: FlexTensor, weight: FlexTensor, epsilon: f64) -> FlexTensor {
        rms_norm(x, &weight.to_contiguous(), epsilon).0
    }

    fn fused_rope(x: FlexTensor, table: Arc<RopeTable>, positions: Arc<[usize]>) -> FlexTensor {
        rope(x, &table, &positions, 1.0)
    }

    fn fused_swiglu(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        swiglu(gate, &up.to_contiguous())
    }
}

impl<C: CheckpointStrategy> ElementwiseOps for Autodiff<Flex, C> {
    fn fused_rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        /// Keeps the input, the weight and, for each row, `1 / sqrt(mean(x²) + epsilon)`.
        #[derive(Debug)]
        struct RmsNormBackward;
        impl Backward<Flex, 2> for RmsNormBackward {
            type State = (FlexTensor, FlexTensor, FlexTensor);
            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gradient = grads.consume::<Flex>(&ops.node);
                let (x, weight, inverse) = ops.state;
                let [of_x, of_weight] = rms_norm_backward(gradient, &x, &weight, &inverse);
                let [x, weight] = ops.parents;
                if let Some(node) = x {
                    grads.register::<Flex>(node.id, of_x);
                }
                if let Some(node) = weight {
                    grads.register::<Flex>(node.id, of_weight);
                }
            }
        }
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let weight = weight.to_contiguous();
        match RmsNormBackward.prepare::<C>([x_node, weight_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let x = x.to_contiguous();
                let (out, inverse) = rms_norm(x.clone(), &weight, epsilon);
                prepared.finish((x, weight, inverse), out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(rms_norm(x, &weight, epsilon).0),
        }
    }

    fn fused_rope(x: FloatTensor<Self>, table: Arc<RopeTable>, positions: Arc<[usize]>) -> FloatTensor<Self> {
        /// A turn's transpose is the turn back.
        #[derive(Debug)]
        struct RopeBackward;
        impl Backward<Flex, 1> for RopeBackward {
            type State = (Arc<RopeTable>, Arc<[usize]>);
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gradient = grads.consume::<Flex>(&ops.node);
                let (table, positions) = ops.state;
                let [x] = ops.parents;
                if let Some(node) = x {
                    grads.register::<Flex>(node.id, rope(gradient, &table, &positions, -1.0));
                }
            }
        }
        let (x, node) = x.into_parts();
        let out = rope(x, &table, &positions, 1.0);
        match RopeBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((table, positions), out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }

    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        /// Keeps the inputs only: a sigmoid is computed again sooner than it is read.
        #[derive(Debug)]
        struct SwigluBackward;
        impl Backward<Flex, 2> for SwigluBackward {
            type State = (FlexTensor, FlexTensor);
            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gradient = grads.consume::<Flex>(&ops.node);
                let (gate, up) = ops.state;
                let [of_gate, of_up] = swiglu_backward(gradient, gate, &up);
                let [gate, up] = ops.parents;
                if let Some(node) = gate {
                    grads.register::<Flex>(node.id, of_gate);
                }
                if let Some(node) = up {
                    grads.register::<Flex>(node.id, of_up);
                }
            }
        }
        let ((gate, gate_node), (up, up_node)) = (gate.into_parts(), up.into_parts());
        let up = up.to_contiguous();
        match SwigluBackward.prepare::<C>([gate_node, up_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let out = swiglu(gate.clone(), &up);
                prepared.finish((gate, up), out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(swiglu(gate, &up)),
        }
    }
}

/// The result, and `1 / sqrt(mean(x²) + epsilon)` of each row.
fn rms_norm(x: FlexTensor, weight: &FlexTensor, epsilon: f64) -> (FlexTensor, FlexTensor) {
    struct Kernel<'a> {
        x: &'a mut [f32],
        inverse: &'a mut [f32],
        weight: &'a [f32],
        epsilon: f32,
    }
    impl WithSimd for Kernel<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self) {
            let width = self.weight.len();
            for (row, inverse) in self.x.chunks_exact_mut(width).zip(self.inverse) {
                let mean_square = dot::<S>(row, row) / width as f32;
                *inverse = 1.0 / (mean_square + self.epsilon).sqrt();
                update_registers::<S, 1, 1>([row], [self.weight], &Scale(*inverse));
            }
        }
    }
    struct Scale(f32);
    impl Registers<1, 1> for Scale {
        #[inline(always)]
        fn apply<S: Simd>(&self, [x]: [F32s<S>; 1], [weight]: [F32s<S>; 1]) -> [F32s<S>; 1] {
            [x * splat(self.0) * weight]
        }
    }
    let [rows, width] = matrix_shape(&x);
    assert_eq!(values(weight).len(), width, "the weight has one number for each column");
    let block = rows_of_block(width);
    let inverse = tensor(vec![0.0; rows], [rows]);
    let [out, inverse] = update([(x, block * width), (inverse, block)], |_, [x, inverse]| {
        dispatch(Kernel { x, inverse, weight: values(weight), epsilon: epsilon as f32 });
    });
    (out, inverse)
}

/// Gradients of `x` and `weight`.
fn rms_norm_backward(
    gradient: FlexTensor,
    x: &FlexTensor,
    weight: &FlexTensor,
    inverse: &FlexTensor,
) -> [FlexTensor; 2] {
    struct Kernel<'a> {
        /// In: gradient of the result. Out: gradient of `x`.
        gradient: &'a mut [f32],
        of_weight: &'a mut [f32],
        x: &'a [f32],
        weight: &'a [f32],
        inverse: &'a [f32],
    }
    impl WithSimd for Kernel<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self) {
            let width = self.weight.len();
            let rows = self.gradient.chunks_exact_mut(width).zip(self.x.chunks_exact(width)).zip(self.inverse);
            for ((gradient, x), &inverse) in rows {
                let mean = dot3::<S>(gradient, self.weight, x) / width as f32;
                let row = Row { inverse, back: -inverse * inverse * mean };
                update_registers::<S, 2, 2>([gradient, self.of_weight], [x, self.weight], &row);
            }
        }
    }
    /// y = x r w with r = (mean(x²) + epsilon)^-1/2, so dx = r (w dy - x r² mean(w dy x)) and dw = dy x r.
    struct Row {
        inverse: f32,
        back: f32,
    }
    impl Registers<2, 2> for Row {
        #[inline(always)]
        fn apply<S: Simd>(&self, [dy, dw]: [F32s<S>; 2], [x, weight]: [F32s<S>; 2]) -> [F32s<S>; 2] {
            let (inverse, back) = (splat(self.inverse), splat(self.back));
            [mul_add(x, back, dy * weight) * inverse, mul_add(dy, x * inverse, dw)]
        }
    }
    let [rows, width] = matrix_shape(x);
    let block = rows_of_block(width);
    // Each block sums for itself, and the sums are added in order.
    let blocks = rows.div_ceil(block);
    let partial = tensor(vec![0.0; blocks * width], [blocks, width]);
    let [of_x, partial] = update([(gradient, block * width), (partial, width)], |index, [gradient, of_weight]| {
        let first = index * block;
        let rows = first..first + gradient.len() / width;
        dispatch(Kernel {
            x: &values(x)[rows.start * width..rows.end * width],
            weight: values(weight),
            inverse: &values(inverse)[rows],
            gradient,
            of_weight,
        });
    });
    let mut of_weight = vec![0.0; width];
    for partial in values(&partial).chunks_exact(width.max(1)) {
        of_weight.iter_mut().zip(partial).for_each(|(sum, partial)| *sum += partial);
    }
    [of_x, tensor(of_weight, [width])]
}

/// Turns by `direction` (1 or -1) times the angle of each position.
fn rope(x: FlexTensor, table: &RopeTable, positions: &[usize], direction: f32) -> FlexTensor {
    struct Kernel<'a> {
        x: &'a mut [f32],
        width: usize,
        table: &'a RopeTable,
        positions: &'a [usize],
        direction: f32,
    }
    impl WithSimd for Kernel<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self) {
            let half = self.table.half;
            for (row, position) in self.x.chunks_exact_mut(self.width).zip(self.positions) {
                let cos = &self.table.cos[position * half..(position + 1) * half];
                let sin = &self.table.sin[position * half..(position + 1) * half];
                for head in row.chunks_exact_mut(2 * half) {
                    let (first, second) = head.split_at_mut(half);
                    update_registers::<S, 2, 2>([first, second], [cos, sin], &Turn(self.direction));
                }
            }
        }
    }
    struct Turn(f32);
    impl Registers<2, 2> for Turn {
        #[inline(always)]
        fn apply<S: Simd>(&self, [first, second]: [F32s<S>; 2], [cos, sin]: [F32s<S>; 2]) -> [F32s<S>; 2] {
            let sin = sin * splat(self.0);
            [first * cos - second * sin, mul_add(second, cos, first * sin)]
        }
    }
    let [rows, width] = matrix_shape(&x);
    assert_eq!(rows, positions.len(), "each token has a position");
    assert!(table.half > 0 && width.is_multiple_of(2 * table.half), "a row is made of whole heads");
    let block = rows_of_block(width);
    let [out] = update([(x, block * width)], |index, [x]| {
        let positions = &positions[index * block..][..x.len() / width];
        dispatch(Kernel { x, width, table, positions, direction });
    });
    out
}

fn swiglu(gate: FlexTensor, up: &FlexTensor) -> FlexTensor {
    struct Swiglu;
    impl Registers<1, 1> for Swiglu {
        #[inline(always)]
        fn apply<S: Simd>(&self, [gate]: [F32s<S>; 1], [up]: [F32s<S>; 1]) -> [F32s<S>; 1] {
            [gate * sigmoid(gate) * up]
        }
    }
    let [_, width] = matrix_shape(&gate);
    let block = rows_of_block(width) * width;
    let [out] = update([(gate, block)], |index, [gate]| {
        let up = &values(up)[index * block..][..gate.len()];
        dispatch(Update { changed: [gate], read: [up], f: Swiglu });
    });
    out
}

/// Gradients of `gate` and `up`.
fn swiglu_backward(gradient: FlexTensor, gate: FlexTensor, up: &FlexTensor) -> [FlexTensor; 2] {
    /// In: `gate` and the gradient of the result. Out: the gradients of `gate` and `up`.
    struct SwigluBack;
    impl Registers<2, 1> for SwigluBack {
        #[inline(always)]
        fn apply<S: Simd>(&self, [gate, gradient]: [F32s<S>; 2], [up]: [F32s<S>; 1]) -> [F32s<S>; 2] {
            let open = sigmoid(gate);
            let silu = gate * open;
            let slope = mul_add(silu, splat(1.0) - open, open);
            [gradient * up * slope, gradient * silu]
        }
    }
    let [_, width] = matrix_shape(&gate);
    let block = rows_of_block(width) * width;
    update([(gate, block), (gradient, block)], |index, changed| {
        let up = &values(up)[index * block..][..changed[0].len()];
        dispatch(Update { changed, read: [up], f: SwigluBack });
    })
}

fn matrix_shape(x: &FlexTensor) -> [usize; 2] {
    let shape = x.layout().shape();
    [shape[0], shape[1]]
}

/// `sum(a b)` of two slices of one length.
#[inline(always)]
fn dot<S: Simd>(a: &[f32], b: &[f32]) -> f32 {
    let whole = a.len() - a.len() % lanes::<S>();
    let mut sum = splat::<S>(0.0);
    let mut at = 0;
    while at < whole {
        sum = mul_add(load(&a[at..]), load(&b[at..]), sum);
        at += lanes::<S>();
    }
    if whole < a.len() {
        sum = mul_add(load_tail(&a[whole..], 0.0), load_tail(&b[whole..], 0.0), sum);
    }
    sum.reduce_add()
}

/// `sum(a b c)` of three slices of one length.
#[inline(always)]
fn dot3<S: Simd>(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let whole = a.len() - a.len() % lanes::<S>();
    let mut sum = splat::<S>(0.0);
    let mut at = 0;
    while at < whole {
        sum = mul_add(load::<S>(&a[at..]) * load(&b[at..]), load(&c[at..]), sum);
        at += lanes::<S>();
    }
    if whole < a.len() {
        sum = mul_add(load_tail::<S>(&a[whole..], 0.0) * load_tail(&b[whole..], 0.0), load_tail(&c[whole..], 0.0), sum);
    }
    sum.reduce_add()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;
    use proptest::prelude::*;

    use super::super::testing::*;
    use super::*;
    use crate::ops::{composed, flex};

    fn table_and_positions(half: usize, tokens: usize) -> (Arc<RopeTable>, Arc<[usize]>) {
        let positions: Vec<usize> = (0..tokens).map(|i| (i * 5) % 37).collect();
        (Arc::new(RopeTable::new(10_000.0, 2 * half, 37)), positions.into())
    }

    fn both<const N: usize>(
        inputs: impl Fn() -> [Tensor<2>; N],
        fused: impl Fn([Tensor<2>; N]) -> Tensor<2>,
        composed: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    ) {
        let (fused, composed) = (with_gradients(inputs(), fused), with_gradients(inputs(), composed));
        for (fused, composed) in fused.iter().zip(&composed) {
            assert_close(fused, composed, 1e-4);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn rms_norm_is_the_composed_one(rows in 1usize..200, width in 8usize..300, seed in 0u64..1000) {
            both(
                || [normal_matrix(rows, width, seed), normal_matrix(1, width, seed + 1)],
                |[x, weight]| flex::rms_norm(x, weight.squeeze_dim(0), 1e-5),
                |[x, weight]| composed::rms_norm(x, weight.squeeze_dim(0), 1e-5),
            );
        }

        #[test]
        fn rope_is_the_composed_one(rows in 1usize..200, half in 1usize..40, heads in 1usize..5, seed in 0u64..1000) {
            let (table, positions) = table_and_positions(half, rows);
            both(
                || [normal_matrix(rows, heads * 2 * half, seed)],
                |[x]| flex::rope(x, &table, &positions),
                |[x]| composed::rope(x, &table, &positions),
            );
        }

        #[test]
        fn swiglu_is_the_composed_one(rows in 1usize..200, width in 8usize..300, seed in 0u64..1000) {
            both(
                || [normal_matrix(rows, width, seed) * 4.0, normal_matrix(rows, width, seed + 1)],
                |[gate, up]| flex::swiglu(gate, up),
                |[gate, up]| composed::swiglu(gate, up),
            );
        }
    }

    #[test]
    fn gradients_are_the_slopes() {
        let (rows, width) = (3, 6);
        let (table, positions) = table_and_positions(3, rows);
        let direction = normal(rows * width, 7);
        let f = |x: Tensor<2>| {
            let x = flex::rms_norm(x, Tensor::from_floats([0.5, 1.0, -1.5, 2.0, 0.1, 1.0], &x_device()), 1e-5);
            let x = flex::rope(x, &table, &positions);
            flex::swiglu(x.clone(), x * 2.0 + 1.0)
        };
        let value = |x: &[f32]| -> f64 {
            let out = host(f(matrix(x.to_vec(), rows, width)));
            out.iter().zip(&direction).map(|(out, direction)| f64::from(out * direction)).sum()
        };
        let at = normal(rows * width, 3);
        let x = matrix(at.clone(), rows, width).require_grad();
        let gradients = (f(x.clone()) * matrix(direction.clone(), rows, width)).sum().backward();
        let gradient = host(x.grad(&gradients).unwrap());
        for (i, gradient) in gradient.iter().enumerate() {
            let moved = |by: f32| {
                let mut x = at.clone();
                x[i] += by;
                value(&x)
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((slope - f64::from(*gradient)).abs() < 5e-3 * (1.0 + slope.abs()), "{gradient} for {slope}");
        }
    }

    fn x_device() -> burn::tensor::Device {
        burn::tensor::Device::flex().autodiff()
    }

    #[test]
    fn swiglu_saturates() {
        let gate = vec![-1e30, -200.0, -80.0, -1.0, 0.0, 1.0, 80.0, 200.0, 1e30];
        let fused = with_gradients([matrix(gate.clone(), 1, 9), matrix(vec![2.0; 9], 1, 9)], |[gate, up]| {
            flex::swiglu(gate, up)
        });
        assert!(fused.iter().flatten().all(|x| x.is_finite()), "{fused:?}");
        assert_eq!(fused[0][8], 2e30);
        assert!(fused[0][0].abs() < 1e-6 && fused[0][1].abs() < 1e-6);
        assert!((fused[0][3] - -0.537_882_9).abs() < 1e-6);
    }

    #[test]
    fn rms_norm_of_zeros_and_of_equal_numbers() {
        let weight = || Tensor::<1>::from_floats([1.0, 2.0, -3.0], &x_device());
        let out = host(flex::rms_norm(matrix(vec![0.0, 0.0, 0.0, 4.0, 4.0, 4.0], 2, 3), weight(), 1e-6));
        assert_close(&out, &[0.0, 0.0, 0.0, 1.0, 2.0, -3.0], 1e-6);
        let x = matrix(vec![0.0; 3], 1, 3).require_grad();
        let gradients = flex::rms_norm(x.clone(), weight(), 1e-6).sum().backward();
        assert_close(&host(x.grad(&gradients).unwrap()), &[1e3, 2e3, -3e3], 1e-5);
    }

    #[test]
    fn inputs_that_others_hold_stay_as_they_are() {
        // With autodiff but untracked, and without autodiff: the cases that may compute in place.
        for inner in [false, true] {
            let on = |x: Tensor<2>| if inner { x.inner() } else { x };
            let (gate, up) = (on(normal_matrix(90, 256, 1)), on(normal_matrix(90, 256, 2)));
            let (table, positions) = table_and_positions(32, 90);
            let expected = (host(gate.clone()), host(up.clone()));
            let _ = flex::swiglu(gate.clone(), up.clone());
            let _ = flex::rope(gate.clone(), &table, &positions);
            let _ = flex::rms_norm(gate.clone(), up.clone().slice([0..1, 0..256]).squeeze_dim(0), 1e-5);
            assert_eq!((host(gate), host(up)), expected);
        }
    }

    #[test]
    fn views_are_read_as_they_look() {
        let views = || {
            let x = normal_matrix(40, 60, 1);
            [x.clone().slice([3..33, 8..48]), x.transpose().slice([5..35, 0..40])]
        };
        both(views, |[gate, up]| flex::swiglu(gate, up), |[gate, up]| composed::swiglu(gate, up));
        let (table, positions) = table_and_positions(10, 30);
        both(
            views,
            |[x, y]| flex::rms_norm(flex::rope(x, &table, &positions), y.slice([0..1, 0..40]).squeeze_dim(0), 1e-5),
            |[x, y]| {
                composed::rms_norm(composed::rope(x, &table, &positions), y.slice([0..1, 0..40]).squeeze_dim(0), 1e-5)
            },
        );
    }

    #[test]
    fn results_do_not_depend_on_threads() {
        assert_same_on_any_threads(|| {
            with_gradients([normal_matrix(301, 130, 1), normal_matrix(1, 130, 2)], |[x, weight]| {
                let x = flex::rms_norm(x, weight.squeeze_dim(0), 1e-5);
                flex::swiglu(x.clone(), x)
            })
        });
    }
}
