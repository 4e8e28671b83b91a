//! What the tests of fused operators share: random tensors, gradients, comparison with the composed operators.

use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Numbers that look normally distributed (the sum of four uniform ones), of unit variance.
pub(super) fn normal(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = || (rng.next_u32() >> 8) as f32 / (1 << 24) as f32 - 0.5;
    (0..len).map(|_| (uniform() + uniform() + uniform() + uniform()) * 3f32.sqrt()).collect()
}

/// A matrix on Flex with autodiff.
pub(super) fn matrix(values: Vec<f32>, rows: usize, columns: usize) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, [rows, columns]), &Device::flex().autodiff())
}

/// A random one.
pub(super) fn normal_matrix(rows: usize, columns: usize, seed: u64) -> Tensor<2> {
    matrix(normal(rows * columns, seed), rows, columns)
}

pub(super) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32")
}

/// The result of `f`, and the gradients of `sum(result * direction)` for a random direction.
pub(super) fn with_gradients<const N: usize>(
    inputs: [Tensor<2>; N],
    f: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) -> Vec<Vec<f32>> {
    let inputs = inputs.map(Tensor::require_grad);
    let out = f(inputs.clone());
    let [rows, columns] = out.dims();
    let gradients = (out.clone() * normal_matrix(rows, columns, 99)).sum().backward();
    let of_inputs = inputs.into_iter().map(|input| host(input.grad(&gradients).expect("a gradient")));
    [host(out)].into_iter().chain(of_inputs).collect()
}

/// Panics where numbers differ by more than `tolerance` times their size, or times a hundredth of the largest one's.
pub(super) fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let allowed = tolerance * expected.abs().max(0.01 * largest);
        assert!((got - expected).abs() <= allowed, "{got} instead of {expected} at {i}");
    }
}

/// Runs `f` on one thread and on three; panics unless both give the same bits.
pub(super) fn assert_same_on_any_threads(f: impl Fn() -> Vec<Vec<f32>> + Sync) {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        let results = pool.install(&f);
        results.into_iter().map(|values| values.into_iter().map(f32::to_bits).collect()).collect::<Vec<Vec<u32>>>()
    };
    assert_eq!(on(1), on(3));
    assert_eq!(on(3), on(3));
}
