//! Fused operators for Flex, burn's CPU backend: one pass over memory, vector registers, and an own backward pass.
//!
//! Flex runs every elementwise operator of a composed expression as a loop of its own and evaluates `exp` one number at a
//! time. These operators do the same arithmetic in one loop, in the widest registers of the processor ([`math`]).

#![allow(unsafe_code)]

mod adamw;
pub mod attention;
mod blocks;
pub mod decode;
mod elementwise;
pub mod linear;
mod logps;
pub mod math;
pub mod matmul;
mod shared;
#[cfg(test)]
mod testing;

pub use adamw::AdamWOps;
pub use elementwise::ElementwiseOps;
pub use logps::TokenLogpsOps;

use std::ops::Range;
use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, DispatchDevice, Flex};
use burn::tensor::{DType, Int, Tensor, TensorData};

use super::{AdamWStep, RopeTable, TokenLogps};
use shared::{Shared, grow};

/// Whether a tensor is f32 on Flex, with autodiff or without: what the operators here take.
pub fn takes<const D: usize>(tensor: &Tensor<D>) -> bool {
    let device = tensor.device();
    let flex = match device.as_dispatch() {
        DispatchDevice::Flex(_) => true,
        DispatchDevice::Autodiff(device) => matches!(**device, DispatchDevice::Flex(_)),
        #[allow(unreachable_patterns, reason = "there are more backends when GPU features are on")]
        _ => false,
    };
    flex && tensor.dtype() == DType::F32
}

/// Whether a tensor is f32 on Flex without autodiff.
pub fn takes_without_autodiff<const D: usize>(tensor: &Tensor<D>) -> bool {
    takes(tensor) && !tensor.device().is_autodiff()
}

/// The rows of a two-dimensional f32 tensor, each contiguous.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    values: &'a [f32],
    pub(crate) stride: usize,
}

impl<'a> Rows<'a> {
    /// Panics if the tensor's rows are not contiguous: see [`with_contiguous_rows`].
    pub(crate) fn of(tensor: &'a FloatTensor<Flex>) -> Self {
        let layout = tensor.layout();
        assert!(has_contiguous_rows(tensor), "strides {:?}", layout.strides());
        Self { values: &tensor.storage::<f32>()[layout.start_offset()..], stride: layout.strides()[0] as usize }
    }

    /// Some numbers of a row.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize, columns: Range<usize>) -> &'a [f32] {
        &self.values[row * self.stride..][columns]
    }

    /// Start of the same columns of `count` rows, at least one, from `first` on in steps of `step`; checks that all are
    /// inside the tensor.
    #[inline(always)]
    pub(crate) fn span(&self, first: usize, count: usize, step: usize, columns: Range<usize>) -> *const f32 {
        let _last = self.row(first + (count - 1) * step, columns.clone());
        self.row(first, columns).as_ptr()
    }
}

fn has_contiguous_rows(tensor: &FloatTensor<Flex>) -> bool {
    matches!(tensor.layout().strides(), &[row, 1] if row >= 0)
}

/// The tensor, copied if the numbers of a row do not lie side by side (after a transposition). Slices of rows or columns
/// are taken as they are.
pub(crate) fn with_contiguous_rows(tensor: FloatTensor<Flex>) -> FloatTensor<Flex> {
    if has_contiguous_rows(&tensor) { tensor } else { tensor.to_contiguous() }
}

/// A tensor of these numbers, row by row.
pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FloatTensor<Flex> {
    FloatTensor::<Flex>::from_data(TensorData::new(values, shape))
}

/// See [`super::rms_norm`].
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, epsilon: f64) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fused_rms_norm(x.into_dispatch(), weight.into_dispatch(), epsilon))
}

/// See [`super::rope`].
pub fn rope(x: Tensor<2>, table: &Arc<RopeTable>, positions: &Arc<[usize]>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fused_rope(x.into_dispatch(), table.clone(), positions.clone()))
}

/// See [`super::swiglu`].
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fused_swiglu(gate.into_dispatch(), up.into_dispatch()))
}

/// See [`super::token_logps`].
pub fn token_logps(hidden: Tensor<2>, weight: Tensor<2>, targets: Tensor<1, Int>, temperature: f32) -> TokenLogps {
    let (hidden, weight, targets) = (hidden.into_dispatch(), weight.into_dispatch(), targets.into_dispatch());
    let (logps, entropy) = Dispatch::fused_token_logps(hidden, weight, targets, temperature);
    TokenLogps { logps: Tensor::from_dispatch(logps), entropy: Tensor::from_dispatch(entropy) }
}

/// See [`super::adamw_update`].
pub fn adamw_update<const D: usize>(
    param: Tensor<D>,
    grad: Tensor<D>,
    first_moment: Tensor<D>,
    second_moment: Tensor<D>,
    step: AdamWStep,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    let (param, first_moment, second_moment) = Dispatch::fused_adamw_update(
        param.into_dispatch(),
        grad.into_dispatch(),
        first_moment.into_dispatch(),
        second_moment.into_dispatch(),
        step,
    );
    (Tensor::from_dispatch(param), Tensor::from_dispatch(first_moment), Tensor::from_dispatch(second_moment))
}

/// See [`super::square_sum`].
pub fn square_sum<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::fused_square_sum(x.into_dispatch()))
}
