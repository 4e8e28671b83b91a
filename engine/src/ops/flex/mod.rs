//! Fused operators for Flex, burn's CPU backend: one pass over memory, vector registers, and an own backward pass.
//!
//! Flex runs every elementwise operator of a composed expression as a loop of its own and evaluates `exp` one number at a
//! time. These operators do the same arithmetic in one loop, in the widest registers of the processor ([`math`]).

pub mod attention;
pub mod math;
pub mod matmul;

use std::ops::Range;

use burn::backend::tensor::FloatTensor;
use burn::backend::{DispatchDevice, Flex};
use burn::tensor::{DType, Tensor, TensorData};

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

/// The rows of a two-dimensional f32 tensor, each contiguous.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    values: &'a [f32],
    stride: usize,
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
