//! Fused operators for Flex, burn's CPU backend: one pass over memory, vector registers, and an own backward pass.
//!
//! Flex runs every elementwise operator of a composed expression as a loop of its own and evaluates `exp` one number at a
//! time. These operators do the same arithmetic in one loop, in the widest registers of the processor ([`math`]).

mod adamw;
mod blocks;
mod elementwise;
mod logps;
pub mod math;
#[cfg(test)]
mod testing;

pub use adamw::AdamWOps;
pub use elementwise::ElementwiseOps;
pub use logps::TokenLogpsOps;

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{DType, Int, Tensor};
use std::sync::Arc;

use super::{AdamWStep, RopeTable, TokenLogps};

/// Whether these operators can take a tensor: f32 on Flex, with or without autodiff.
pub fn takes<const D: usize>(tensor: &Tensor<D>) -> bool {
    let device = match tensor.device().as_dispatch().clone() {
        DispatchDevice::Autodiff(device) => device.inner(),
        device => device,
    };
    matches!(device, DispatchDevice::Flex(_)) && tensor.dtype() == DType::F32
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
