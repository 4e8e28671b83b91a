//! AdamW in one pass over parameter, gradient and moments, and the sum of squares that a global norm needs.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Flex, backend_extension};

use super::super::AdamWStep;
use super::blocks::{BLOCK, FlexTensor, Registers, Update, update, values};
use super::math::{F32s, Simd, WithSimd, dispatch, fold, mul_add, splat};
use super::tensor;

/// The operators of this module, for burn's dispatch over backends. What they compute is said at
/// [`adamw_update`](crate::ops::adamw_update) and [`square_sum`](crate::ops::square_sum). They have no gradients.
#[backend_extension(Flex)]
pub trait AdamWOps: Backend {
    /// All of one shape; returns parameter, first and second moment.
    fn fused_adamw_update(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        first_moment: FloatTensor<Self>,
        second_moment: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
    /// `[1]`
    fn fused_square_sum(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl AdamWOps for Flex {
    fn fused_adamw_update(
        param: FlexTensor,
        grad: FlexTensor,
        first_moment: FlexTensor,
        second_moment: FlexTensor,
        step: AdamWStep,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        /// The constants of the step, as the loop needs them.
        struct Kernel {
            grad_scale: f32,
            /// What is kept of the old moments and taken of the new ones.
            keep: [f32; 2],
            take: [f32; 2],
            root_scale: f32,
            eps: f32,
            decay: f32,
            step_size: f32,
        }
        impl Registers<3, 1> for Kernel {
            #[inline(always)]
            fn apply<S: Simd>(&self, [p, m, v]: [F32s<S>; 3], [g]: [F32s<S>; 1]) -> [F32s<S>; 3] {
                let g = g * splat(self.grad_scale);
                let m = mul_add(m, splat(self.keep[0]), g * splat(self.take[0]));
                let v = mul_add(v, splat(self.keep[1]), g * g * splat(self.take[1]));
                let denominator = mul_add(v.sqrt(), splat(self.root_scale), splat(self.eps));
                [mul_add(p, splat(self.decay), m / denominator * splat(self.step_size)), m, v]
            }
        }
        let AdamWStep { lr, beta1, beta2, eps, weight_decay, grad_scale, .. } = step;
        let (first_correction, second_correction) = step.bias_corrections();
        let kernel = || Kernel {
            grad_scale,
            keep: [beta1 as f32, beta2 as f32],
            take: [(1.0 - beta1) as f32, (1.0 - beta2) as f32],
            root_scale: (1.0 / second_correction.sqrt()) as f32,
            eps: eps as f32,
            decay: (1.0 - lr * weight_decay) as f32,
            step_size: (-lr / first_correction) as f32,
        };
        let grad = grad.to_contiguous();
        let [param, first, second] =
            update([(param, BLOCK), (first_moment, BLOCK), (second_moment, BLOCK)], |index, changed| {
                let grad = &values(&grad)[index * BLOCK..][..changed[0].len()];
                dispatch(Update { changed, read: [grad], f: kernel() });
            });
        (param, first, second)
    }

    fn fused_square_sum(x: FlexTensor) -> FlexTensor {
        struct Kernel<'a>(&'a [f32]);
        impl WithSimd for Kernel<'_> {
            type Output = f32;
            #[inline(always)]
            fn with_simd<S: Simd>(self) -> f32 {
                fold::<S>(self.0, 0.0, |sum, x| mul_add(x, x, sum)).reduce_add()
            }
        }
        let x = x.to_contiguous();
        let x = values(&x);
        // A block each: the order of the additions does not depend on threads.
        let blocks = x.len().div_ceil(BLOCK);
        let [partial] = update([(tensor(vec![0.0; blocks], [blocks]), 1)], |index, [partial]| {
            let end = x.len().min((index + 1) * BLOCK);
            partial[0] = dispatch(Kernel(&x[index * BLOCK..end]));
        });
        let sum: f64 = values(&partial).iter().map(|&sum| f64::from(sum)).sum();
        tensor(vec![sum as f32], [1])
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Tensor, TensorData};

    use super::super::testing::*;
    use super::*;
    use crate::ops;
    use crate::ops::{composed, flex};

    fn vector(values: &[f32]) -> Tensor<1> {
        Tensor::from_data(TensorData::from(values), &burn::tensor::Device::flex())
    }

    const STEP: AdamWStep =
        AdamWStep { lr: 1e-2, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, step: 1, grad_scale: 1.0 };

    /// Gradient of parameter `i` in step `step`: of very different sizes.
    fn grad(step: usize) -> Vec<f32> {
        let of = |i: usize| (((i * 7 + step * 3) % 11) as f64 - 5.0) * 0.125 * 10f64.powi(i as i32 - 3);
        (0..6).map(|i| of(i) as f32).collect()
    }

    /// `torch.optim.AdamW` of PyTorch 2.15 with the settings of `STEP`, after each of five steps.
    const PYTORCH: [[f32; 6]; 5] = [
        [0.509_499_6, -1.258_75, 1.988, 0.01, -0.041_218_75, 0.000_999],
        [0.511_673_7, -1.259_417_7, 1.977_264_8, 0.016_776_478, -0.040_651_217, -0.006_351_599_5],
        [0.506_653_96, -1.259_666_6, 1.974_836_6, 0.015_901_212, -0.039_079_346, -0.003_870_533_3],
        [0.507_132, -1.262_208_7, 1.973_491_4, 0.019_797_37, -0.039_795_607, -6.073_038e-5],
        [0.508_336_9, -1.260_148_3, 1.970_240_7, 0.024_549_268, -0.043_695_178, 0.002_274_742],
    ];
    const PYTORCH_FIRST_MOMENT: [f32; 6] =
        [-2.429_000_2e-5, -0.000_150_812_47, 0.001_790_125_3, -0.075_478_755, 0.712_3, -3.328_750_1];
    const PYTORCH_SECOND_MOMENT: [f32; 6] =
        [2.715_265_9e-8, 4.814_768e-6, 0.000_265_019_6, 0.033_752_386, 4.410_359_4, 274.053_7];

    #[test]
    fn adamw_is_pytorchs() {
        for update in [flex::adamw_update::<1>, composed::adamw_update::<1>] {
            let mut param = vector(&[0.5, -1.25, 2.0, 0.0, -0.03125, 1e-3]);
            let (mut first, mut second) = (param.zeros_like(), param.zeros_like());
            for (step, expected) in (1..).zip(PYTORCH) {
                // Half the gradient, twice the scale: the same step.
                let settings = AdamWStep { step, grad_scale: 2.0, ..STEP };
                (param, first, second) = update(param, vector(&grad(step)) * 0.5, first, second, settings);
                let got = host(param.clone());
                for (got, expected) in got.iter().zip(expected) {
                    assert!((got - expected).abs() <= 2e-7 * (1.0 + expected.abs()), "{got} instead of {expected}");
                }
            }
            for (got, expected) in host(first).iter().zip(PYTORCH_FIRST_MOMENT) {
                assert!((got - expected).abs() <= 1e-6 * expected.abs());
            }
            for (got, expected) in host(second).iter().zip(PYTORCH_SECOND_MOMENT) {
                assert!((got - expected).abs() <= 1e-6 * expected.abs());
            }
        }
    }

    #[test]
    fn adamw_is_the_composed_one_in_any_shape() {
        for (rows, width) in [(1, 1), (3, 17), (129, 131)] {
            let inputs = |seed| normal_matrix(rows, width, seed).inner();
            let arguments = || (inputs(1), inputs(2), inputs(3), inputs(4).square());
            let settings = AdamWStep { step: 3, grad_scale: 0.3, ..STEP };
            let (p, g, m, v) = arguments();
            let fused = ops::adamw_update(p, g, m, v, settings);
            let (p, g, m, v) = arguments();
            let composed = composed::adamw_update(p, g, m, v, settings);
            assert_eq!(fused.0.dims(), [rows, width]);
            assert_close(&host(fused.0), &host(composed.0), 1e-5);
            assert_close(&host(fused.1), &host(composed.1), 1e-5);
            assert_close(&host(fused.2), &host(composed.2), 1e-5);
        }
    }

    #[test]
    fn what_others_hold_stays_as_it_is() {
        let param = normal_matrix(80, 300, 1).inner();
        let before = host(param.clone());
        let zeros = param.zeros_like();
        let _ = ops::adamw_update(param.clone(), param.clone(), zeros.clone(), zeros.clone(), STEP);
        assert_eq!(host(param), before);
        assert!(host(zeros).iter().all(|&x| x == 0.0));
    }

    #[test]
    fn square_sum_of_any_length() {
        for len in [0, 1, 15, 8192, 8193, 50_001] {
            let values = normal(len, 5);
            let expected: f64 = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            let got = f64::from(host(ops::square_sum(vector(&values)))[0]);
            assert!((got - expected).abs() <= 1e-6 * expected, "{got} instead of {expected}");
        }
    }
}
