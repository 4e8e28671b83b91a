//! Memory of tasks that run side by side.

#![allow(unsafe_code)]

use std::ops::Range;

/// A tensor that tasks write different parts of.
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    start: *mut f32,
    stride: usize,
}

// SAFETY: tasks write different parts: see `row`.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Rows of `stride` numbers.
    pub(crate) fn new(values: &mut [f32], stride: usize) -> Self {
        Self { start: values.as_mut_ptr(), stride }
    }

    /// Some numbers of a row.
    ///
    /// # Safety
    ///
    /// The part must be inside of the tensor, and no one else may use it as long as the slice lives.
    #[inline(always)]
    pub(crate) unsafe fn row<'a>(self, row: usize, columns: Range<usize>) -> &'a mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride + columns.start), columns.len()) }
    }
}

/// Makes a buffer at least this long.
pub(crate) fn grow(buffer: &mut Vec<f32>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
}
