//! Work on the storage of Flex tensors, block by block.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::TensorData;
use rayon::prelude::*;

use super::math::{F32s, Simd, WithSimd, lanes, load, load_tail, splat, store, store_tail};

/// A tensor of Flex.
pub(super) type FlexTensor = FloatTensor<Flex>;

/// Numbers in a block: what a thread works on at a time. Small enough that a block of each operand stays in the first
/// two levels of cache, large enough that handing it out costs nothing. It does not depend on the number of threads, and
/// so neither do sums over blocks.
pub(super) const BLOCK: usize = 8 * 1024;

/// Fewer numbers than these are done sooner by one thread than shared out.
const SERIAL_BELOW: usize = 16 * 1024;

/// How many rows of this width make a block.
pub(super) fn rows_of_block(width: usize) -> usize {
    (BLOCK / width.max(1)).max(1)
}

/// The numbers of a tensor in row-major order. `tensor` must be contiguous ([`FlexTensor::to_contiguous`]).
pub(super) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("a contiguous tensor of f32")
}

/// Changes several tensors at once. Each comes with the length of its blocks, and all have equally many blocks; `kernel`
/// gets the index of a block and that block of each tensor.
///
/// A tensor that nobody else holds is changed in place. Another one is copied, each block just before its turn, so that
/// the copy costs no pass over memory of its own.
pub(super) fn update<const N: usize>(
    operands: [(FlexTensor, usize); N],
    kernel: impl Fn(usize, [&mut [f32]; N]) + Sync,
) -> [FlexTensor; N] {
    let lengths = operands.each_ref().map(|(_, length)| (*length).max(1));
    let mut storages = operands.map(|(tensor, _)| Storage::of(tensor));
    let elements = storages.iter().map(Storage::len).max().unwrap_or(0);
    let mut length = lengths.into_iter();
    let mut columns = storages.each_mut().map(|storage| storage.blocks(length.next().unwrap_or(1)).into_iter());
    let count = columns.iter().map(|column| column.len()).max().unwrap_or(0);
    let blocks: Vec<[Block<'_>; N]> = (0..count)
        .map(|_| columns.each_mut().map(|column| column.next().expect("operands have equally many blocks")))
        .collect();
    let run = |(index, blocks): (usize, [Block<'_>; N])| kernel(index, blocks.map(Block::values));
    if elements < SERIAL_BELOW {
        blocks.into_iter().enumerate().for_each(run);
    } else {
        blocks.into_par_iter().enumerate().for_each(run);
    }
    // SAFETY: all blocks were taken out above, and `Block::values` has filled each of them.
    storages.map(|storage| unsafe { storage.into_tensor() })
}

/// Where a result is computed: in its input or beside it.
enum Storage {
    Own(FlexTensor),
    /// `to` has room for all of `from`, and a length of 0 until that room is filled.
    Copy {
        from: FlexTensor,
        to: Vec<f32>,
    },
}

impl Storage {
    fn of(tensor: FlexTensor) -> Self {
        let mut tensor = if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() };
        let len = tensor.layout().num_elements();
        match tensor.try_storage_mut::<f32>() {
            Some(values) if values.len() == len => Self::Own(tensor),
            _ => Self::Copy { from: tensor, to: Vec::with_capacity(len) },
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Own(tensor) | Self::Copy { from: tensor, .. } => tensor.layout().num_elements(),
        }
    }

    fn blocks(&mut self, length: usize) -> Vec<Block<'_>> {
        match self {
            Self::Own(tensor) => tensor.storage_mut::<f32>().chunks_mut(length).map(Block::Own).collect(),
            Self::Copy { from, to } => {
                let from = values(from);
                let to = &mut to.spare_capacity_mut()[..from.len()];
                from.chunks(length).zip(to.chunks_mut(length)).map(|(from, to)| Block::Copy(from, to)).collect()
            }
        }
    }

    /// SAFETY: every block must have been filled.
    unsafe fn into_tensor(self) -> FlexTensor {
        match self {
            Self::Own(tensor) => tensor,
            Self::Copy { from, mut to } => {
                // SAFETY: `blocks` covers this many elements, and the caller says that they are filled.
                unsafe { to.set_len(from.layout().num_elements()) };
                FlexTensor::from_data(TensorData::new(to, from.layout().shape().clone()))
            }
        }
    }
}

enum Block<'a> {
    Own(&'a mut [f32]),
    Copy(&'a [f32], &'a mut [MaybeUninit<f32>]),
}

impl<'a> Block<'a> {
    fn values(self) -> &'a mut [f32] {
        match self {
            Self::Own(values) => values,
            Self::Copy(from, to) => to.write_copy_of_slice(from),
        }
    }
}

/// Arithmetic on registers: `M` that change and `N` that are only read.
///
/// A trait and not a closure, as `#[inline(always)]` cannot stand at a closure. A function that is not inlined into its
/// kernel is compiled without the kernel's instruction set: measured, 40 times slower.
pub(super) trait Registers<const M: usize, const N: usize> {
    /// What `changed` becomes. Implementations are `#[inline(always)]`.
    fn apply<S: Simd>(&self, changed: [F32s<S>; M], read: [F32s<S>; N]) -> [F32s<S>; M];
}

/// Applies `f` to all slices, a register of each at a time. They have one length. To be inlined into a
/// [`WithSimd`](super::math::WithSimd).
#[inline(always)]
pub(super) fn update_registers<S: Simd, const M: usize, const N: usize>(
    changed: [&mut [f32]; M],
    read: [&[f32]; N],
    f: &impl Registers<M, N>,
) {
    let len = changed[0].len();
    assert!(changed.iter().all(|values| values.len() == len) && read.iter().all(|values| values.len() == len));
    let whole = len - len % lanes::<S>();
    // Loops over M and N instead of array functions, for the same reason; they are unrolled.
    let (mut of_changed, mut of_read) = ([splat::<S>(0.0); M], [splat::<S>(0.0); N]);
    let mut at = 0;
    while at < whole {
        for i in 0..M {
            of_changed[i] = load(&changed[i][at..]);
        }
        for i in 0..N {
            of_read[i] = load(&read[i][at..]);
        }
        of_changed = f.apply(of_changed, of_read);
        for i in 0..M {
            store(&mut changed[i][at..], of_changed[i]);
        }
        at += lanes::<S>();
    }
    if whole < len {
        for i in 0..M {
            of_changed[i] = load_tail(&changed[i][whole..], 0.0);
        }
        for i in 0..N {
            of_read[i] = load_tail(&read[i][whole..], 0.0);
        }
        of_changed = f.apply(of_changed, of_read);
        for i in 0..M {
            store_tail(&mut changed[i][whole..], of_changed[i]);
        }
    }
}

/// `f` on whole slices, as a kernel of its own.
pub(super) struct Update<'a, F, const M: usize, const N: usize> {
    pub(super) changed: [&'a mut [f32]; M],
    pub(super) read: [&'a [f32]; N],
    pub(super) f: F,
}

impl<F: Registers<M, N>, const M: usize, const N: usize> WithSimd for Update<'_, F, M, N> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        update_registers::<S, M, N>(self.changed, self.read, &self.f);
    }
}
