//! Vector arithmetic on f32, in the widest registers that the processor has.
//!
//! A kernel is written once, generic over an instruction set `S`, as a [`WithSimd`] whose `with_simd` is
//! `#[inline(always)]`; [`dispatch`] runs the copy of it that was compiled for this processor (AVX-512, AVX2, SSE4.2,
//! NEON, wasm's simd128, or none).
//!
//! Sums run over vectors first and lanes last, so a result may differ in its last bits between processors. On one
//! processor it is always the same.

#![allow(unsafe_code)]

pub use macerator::{Simd, Vector, WithSimd};

/// A register full of f32.
pub type F32s<S> = Vector<S, f32>;

/// Runs `op` compiled for the best instruction set of this processor.
#[inline]
pub fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    macerator::AutoArch::new().dispatch(op)
}

/// How many f32 a register holds.
#[inline(always)]
pub fn lanes<S: Simd>() -> usize {
    S::lanes32()
}

/// A register with `value` in each lane.
#[inline(always)]
pub fn splat<S: Simd>(value: f32) -> F32s<S> {
    S::typed(S::splat_f32(value))
}

/// The first [`lanes`] numbers of `values`, which must have that many.
#[inline(always)]
pub fn load<S: Simd>(values: &[f32]) -> F32s<S> {
    assert!(values.len() >= lanes::<S>());
    // SAFETY: the slice holds a whole register.
    unsafe { S::load_unaligned(values.as_ptr()) }
}

/// Writes a register over the first [`lanes`] numbers of `values`, which must have that many.
#[inline(always)]
pub fn store<S: Simd>(values: &mut [f32], register: F32s<S>) {
    assert!(values.len() >= lanes::<S>());
    // SAFETY: the slice holds a whole register.
    unsafe { S::store_unaligned(values.as_mut_ptr(), register) }
}

/// All of `values`, fewer than [`lanes`], and `fill` in the lanes behind them.
#[inline(always)]
pub fn load_tail<S: Simd>(values: &[f32], fill: f32) -> F32s<S> {
    let mut padded = [fill; MAX_LANES];
    padded[..values.len()].copy_from_slice(values);
    load(&padded)
}

/// Writes the first `values.len()` lanes of a register over `values`, fewer than [`lanes`].
#[inline(always)]
pub fn store_tail<S: Simd>(values: &mut [f32], register: F32s<S>) {
    let mut padded = [0.0; MAX_LANES];
    store(&mut padded, register);
    let len = values.len();
    values.copy_from_slice(&padded[..len]);
}

/// No register of any instruction set has more f32 (512 bits have 16).
const MAX_LANES: usize = 16;

/// `a * b + c`, rounded once where the processor can do that, else twice.
#[inline(always)]
pub fn mul_add<S: Simd>(a: F32s<S>, b: F32s<S>, c: F32s<S>) -> F32s<S> {
    // Without an instruction for it, a fused multiply-add is a slow function call for each lane.
    if <f32 as macerator::VMulAdd>::is_accelerated::<S>() { a.mul_add(b, c) } else { a * b + c }
}

/// `e^x` to about 2 units in the last place. Below -87.33, where results are no longer normal numbers, it is 0; above
/// 88.72 it is infinite. NaN stays NaN.
///
/// Cephes' `expf`: `x = n ln 2 + r`, a polynomial for `e^r`, and `n` added to its exponent.
#[inline(always)]
pub fn exp<S: Simd>(x: F32s<S>) -> F32s<S> {
    // Adding it rounds to an integer, which then stands in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: the first has few bits, so its product with n is exact.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let shifted = mul_add(x, splat(std::f32::consts::LOG2_E), splat(ROUND));
    let n = shifted - splat(ROUND);
    let r = mul_add(n, splat(-LN_2_LOW), mul_add(n, splat(-LN_2_HIGH), x));
    let mut p = splat(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        p = mul_add(p, r, splat(coefficient));
    }
    let p = mul_add(p, r * r, r) + splat(1.0);
    let scaled = (p.reinterpret::<i32>() + (shifted.reinterpret::<i32>() << 23)).reinterpret::<f32>();
    let scaled = x.lt(splat(-87.336_54)).select(splat(0.0), scaled);
    x.gt(splat(88.722_83)).select(splat(f32::INFINITY), scaled)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid<S: Simd>(x: F32s<S>) -> F32s<S> {
    let one = splat(1.0);
    one / (one + exp(splat(0.0) - x))
}

/// Replaces each number by `e` to its power ([`exp`]).
pub fn exp_slice(values: &mut [f32]) {
    struct Op<'a>(&'a mut [f32]);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self) {
            map::<S>(self.0, exp);
        }
    }
    dispatch(Op(values));
}

/// Replaces each `x` by `e^(x - shift)` and returns the sum of the results: a softmax before its division.
pub fn exp_minus_slice(values: &mut [f32], shift: f32) -> f32 {
    struct Op<'a>(&'a mut [f32], f32);
    impl WithSimd for Op<'_> {
        type Output = f32;
        #[inline(always)]
        fn with_simd<S: Simd>(self) -> f32 {
            let shift = splat::<S>(self.1);
            let mut sum = splat::<S>(0.0);
            let mut chunks = self.0.chunks_exact_mut(lanes::<S>());
            for chunk in &mut chunks {
                let y = exp(load::<S>(chunk) - shift);
                sum += y;
                store(chunk, y);
            }
            let tail = chunks.into_remainder();
            if !tail.is_empty() {
                // e^-infinity: nothing to add in the lanes behind the tail.
                let y = exp(load_tail::<S>(tail, f32::NEG_INFINITY) - shift);
                sum += y;
                store_tail(tail, y);
            }
            sum.reduce_add()
        }
    }
    dispatch(Op(values, shift))
}

/// The largest number, minus infinity of none. Says nothing useful if there is a NaN.
pub fn max_slice(values: &[f32]) -> f32 {
    struct Op<'a>(&'a [f32]);
    impl WithSimd for Op<'_> {
        type Output = f32;
        #[inline(always)]
        fn with_simd<S: Simd>(self) -> f32 {
            fold::<S>(self.0, f32::NEG_INFINITY, |max, x| max.max(x)).reduce_max()
        }
    }
    dispatch(Op(values))
}

/// The sum of all numbers.
pub fn sum_slice(values: &[f32]) -> f32 {
    struct Op<'a>(&'a [f32]);
    impl WithSimd for Op<'_> {
        type Output = f32;
        #[inline(always)]
        fn with_simd<S: Simd>(self) -> f32 {
            fold::<S>(self.0, 0.0, |sum, x| sum + x).reduce_add()
        }
    }
    dispatch(Op(values))
}

/// Replaces each number by what `f` makes of it, a register at a time. To be inlined into a [`WithSimd`].
#[inline(always)]
pub fn map<S: Simd>(values: &mut [f32], f: impl Fn(F32s<S>) -> F32s<S>) {
    let mut chunks = values.chunks_exact_mut(lanes::<S>());
    for chunk in &mut chunks {
        store(chunk, f(load(chunk)));
    }
    let tail = chunks.into_remainder();
    if !tail.is_empty() {
        store_tail(tail, f(load_tail(tail, 0.0)));
    }
}

/// Folds `values` into a register, lane by lane; lanes behind the end see `neutral`, with which all lanes begin. To be
/// inlined into a [`WithSimd`], which then reduces the register.
#[inline(always)]
pub fn fold<S: Simd>(values: &[f32], neutral: f32, f: impl Fn(F32s<S>, F32s<S>) -> F32s<S>) -> F32s<S> {
    let mut folded = splat(neutral);
    let mut chunks = values.chunks_exact(lanes::<S>());
    for chunk in &mut chunks {
        folded = f(folded, load(chunk));
    }
    let tail = chunks.remainder();
    if tail.is_empty() { folded } else { f(folded, load_tail(tail, neutral)) }
}

/// `to = from * factor`, of whole registers. To be inlined into a [`WithSimd`].
#[inline(always)]
pub fn scale_into<S: Simd>(to: &mut [f32], from: &[f32], factor: f32) {
    let factor = splat::<S>(factor);
    for (to, from) in to.chunks_exact_mut(lanes::<S>()).zip(from.chunks_exact(lanes::<S>())) {
        store(to, load::<S>(from) * factor);
    }
}

/// The sum of products, of whole registers. To be inlined into a [`WithSimd`].
#[inline(always)]
pub fn dot<S: Simd>(a: &[f32], b: &[f32]) -> f32 {
    let mut sum = splat::<S>(0.0);
    for (a, b) in a.chunks_exact(lanes::<S>()).zip(b.chunks_exact(lanes::<S>())) {
        sum = mul_add(load::<S>(a), load(b), sum);
    }
    sum.reduce_add()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exp_of(x: f32) -> f32 {
        let mut values = [x];
        exp_slice(&mut values);
        values[0]
    }

    #[test]
    fn exp_is_exact_to_two_units() {
        let mut values: Vec<f32> = (-87_300..=88_700).map(|i| i as f32 * 1e-3).collect();
        let expected: Vec<f64> = values.iter().map(|&x| f64::from(x).exp()).collect();
        exp_slice(&mut values);
        for (got, expected) in values.iter().zip(expected) {
            let unit = f64::from((expected as f32).next_up() - expected as f32);
            assert!((f64::from(*got) - expected).abs() <= 2.0 * unit, "{got} for {expected}");
        }
    }

    #[test]
    fn exp_has_the_right_ends() {
        assert_eq!(exp_of(0.0), 1.0);
        assert_eq!(exp_of(-88.0), 0.0);
        assert_eq!(exp_of(-1e30), 0.0);
        assert_eq!(exp_of(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_of(89.0), f32::INFINITY);
        assert_eq!(exp_of(1e30), f32::INFINITY);
        assert_eq!(exp_of(f32::INFINITY), f32::INFINITY);
        assert!(exp_of(f32::NAN).is_nan());
    }

    #[test]
    fn slices_of_any_length_are_covered() {
        for len in 0..70 {
            let values: Vec<f32> = (0..len).map(|i| ((i * 37) % 23) as f32 * 0.25 - 3.0).collect();
            let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max_slice(&values), max);
            assert!((sum_slice(&values) - values.iter().sum::<f32>()).abs() < 1e-4);
            let mut weights = values.clone();
            let sum = exp_minus_slice(&mut weights, max);
            let expected: Vec<f32> = values.iter().map(|x| (x - max).exp()).collect();
            assert!((sum - expected.iter().sum::<f32>()).abs() < 1e-4);
            for (got, expected) in weights.iter().zip(&expected) {
                assert!((got - expected).abs() <= 1e-6 * expected);
            }
        }
    }

    #[test]
    fn sigmoid_saturates() {
        struct Op<'a>(&'a mut [f32]);
        impl WithSimd for Op<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self) {
                map::<S>(self.0, sigmoid);
            }
        }
        let mut values = [-200.0, -2.0, 0.0, 2.0, 200.0];
        dispatch(Op(&mut values));
        let expected = [0.0, 0.119_202_92, 0.5, 0.880_797_1, 1.0];
        for (got, expected) in values.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6);
        }
    }
}
