//! Products of a few rows with a weight, as decoding makes them.
//!
//! burn's own product takes one thread below seven million multiplications, which is most of a decoding step with 64
//! rows. Here the threshold is gemm's.

#![allow(unsafe_code)]

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use super::{Rows, with_contiguous_rows};

/// See [`crate::ops::linear`]; without bias.
pub fn linear(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fused_linear(x.into_dispatch(), weight.into_dispatch()))
}

/// Backends with a product of their own.
#[backend_extension(Flex)]
pub trait LinearOps: Backend {
    /// `x weight`: `[rows, in]` by `[in, out]`.
    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl LinearOps for Flex {
    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let ([rows, inner], [of_weight, out]) = (dims(&x), dims(&weight));
        assert_eq!(inner, of_weight, "shapes of a product");
        let mut result: Vec<f32> = Vec::with_capacity(rows * out);
        if rows * inner * out == 0 {
            result.resize(rows * out, 0.0);
            return super::tensor(result, [rows, out]);
        }
        let [x, weight] = [x, weight].map(with_contiguous_rows);
        let (x, weight) = (Rows::of(&x), Rows::of(&weight));
        // SAFETY: `span` checks that the last number of both matrices lies in its tensor; the result has room for
        // `rows * out` numbers, all of which gemm writes without reading them.
        unsafe {
            gemm::gemm(
                rows,
                out,
                inner,
                result.as_mut_ptr(),
                1,
                out as isize,
                false,
                x.span(0, rows, 1, 0..inner),
                1,
                x.stride as isize,
                weight.span(0, inner, 1, 0..out),
                1,
                weight.stride as isize,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(0),
            );
            result.set_len(rows * out);
        }
        super::tensor(result, [rows, out])
    }
}

fn dims(tensor: &FloatTensor<Flex>) -> [usize; 2] {
    let [rows, columns] = tensor.layout().shape()[..] else { panic!("a matrix has two dimensions") };
    [rows, columns]
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, Tolerance};

    use super::*;

    #[test]
    fn is_the_product() {
        let device = Device::flex();
        for [rows, inner, out] in [[1, 64, 96], [3, 5, 7], [64, 128, 352], [200, 33, 1], [0, 4, 4]] {
            let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Default, &device);
            let (x, weight) = (random([rows, inner]), random([inner, out]));
            let expected = x.clone().matmul(weight.clone());
            let fused = linear(x.clone(), weight.clone());
            fused.into_data().assert_approx_eq::<f32>(&expected.clone().into_data(), Tolerance::relative(1e-5));
            // Transposed and sliced inputs are read as they are meant.
            let turned = linear(x.transpose().transpose(), weight.transpose().clone().transpose());
            turned.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::relative(1e-5));
        }
    }
}
