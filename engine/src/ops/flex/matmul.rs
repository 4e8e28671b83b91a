//! Small matrix products, for use inside a kernel: one thread, operands that fit in its cache.
//!
//! `gemm` packs both operands for each product, which costs as much as the product itself when a head is 32 wide. Here
//! nothing is packed: the left matrix is read a number at a time (any strides, so it may be transposed), the right one
//! and the result a register at a time (rows contiguous).

#![allow(unsafe_code)]

use super::math::{F32s, Simd, WithSimd, lanes, mul_add, splat};

/// A matrix read a number at a time: number `(i, j)` lies at `start[i * row + j * column]`.
#[derive(Clone, Copy)]
pub struct Left {
    /// Number (0, 0).
    pub start: *const f32,
    /// Distance between rows.
    pub row: usize,
    /// Distance between columns.
    pub column: usize,
}

/// A matrix read a register at a time: rows are contiguous in panels of [`panel_width`] columns.
#[derive(Clone, Copy)]
pub struct Right {
    /// Number (0, 0).
    pub start: *const f32,
    /// Distance between rows.
    pub row: usize,
    /// Distance between panels; [`panel_width`] if whole rows are contiguous.
    pub panel: usize,
}

/// The result, rows contiguous.
#[derive(Clone, Copy)]
pub struct Product {
    /// Number (0, 0).
    pub start: *mut f32,
    /// Distance between rows.
    pub row: usize,
}

/// Columns that are computed together: two registers.
#[inline(always)]
pub fn panel_width<S: Simd>() -> usize {
    2 * lanes::<S>()
}

/// `product (+)= left right`, with `rows × depth` and `depth × columns` numbers; `columns` is a multiple of [`lanes`].
///
/// # Safety
///
/// All numbers that the three matrices consist of must be valid to read (and the product's to write), the product must
/// not overlap the others, and the processor must have instruction set `S`.
#[inline(always)]
pub unsafe fn matmul<S: Simd>(
    (rows, columns, depth): (usize, usize, usize),
    left: Left,
    right: Right,
    product: Product,
    accumulate: bool,
) {
    debug_assert!(columns.is_multiple_of(lanes::<S>()));
    // One function for each instruction set, not a copy in each kernel.
    // SAFETY: the caller promises what the operator needs.
    unsafe { S::vectorize(Matmul { rows, columns, depth, left, right, product, accumulate }) }
}

struct Matmul {
    rows: usize,
    columns: usize,
    depth: usize,
    left: Left,
    right: Right,
    product: Product,
    accumulate: bool,
}

impl WithSimd for Matmul {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let width = panel_width::<S>();
        let mut column = 0;
        // SAFETY: `matmul`'s caller promises that the matrices are valid; tiles stay inside them.
        unsafe {
            while column + width <= self.columns {
                self.panel::<S, 2>(column, self.right.start.add(column / width * self.right.panel));
                column += width;
            }
            if column < self.columns {
                self.panel::<S, 1>(column, self.right.start.add(column / width * self.right.panel));
            }
        }
    }
}

impl Matmul {
    /// All rows of `N` registers' columns.
    #[inline(always)]
    unsafe fn panel<S: Simd, const N: usize>(&self, column: usize, right: *const f32) {
        let mut row = 0;
        // SAFETY: as `with_simd`.
        unsafe {
            // 24 sums and what feeds them fill AVX-512's 32 registers; the others have 16.
            if lanes::<S>() == 16 {
                while row + 12 <= self.rows {
                    self.tile::<S, 12, N>(row, column, right);
                    row += 12;
                }
            }
            while row + 6 <= self.rows {
                self.tile::<S, 6, N>(row, column, right);
                row += 6;
            }
            while row + 4 <= self.rows {
                self.tile::<S, 4, N>(row, column, right);
                row += 4;
            }
            while row + 2 <= self.rows {
                self.tile::<S, 2, N>(row, column, right);
                row += 2;
            }
            if row < self.rows {
                self.tile::<S, 1, N>(row, column, right);
            }
        }
    }

    /// `M` rows of `N` registers, which stay in registers.
    #[inline(always)]
    unsafe fn tile<S: Simd, const M: usize, const N: usize>(&self, row: usize, column: usize, right: *const f32) {
        // SAFETY: as `with_simd`.
        unsafe {
            let lanes = lanes::<S>();
            let left = self.left.start.add(row * self.left.row);
            let mut sums: [[F32s<S>; N]; M] = [[splat(0.0); N]; M];
            for k in 0..self.depth {
                let mut b: [F32s<S>; N] = [splat(0.0); N];
                for (n, b) in b.iter_mut().enumerate() {
                    *b = S::load_unaligned(right.add(k * self.right.row + n * lanes));
                }
                for (m, sums) in sums.iter_mut().enumerate() {
                    let a = splat(*left.add(m * self.left.row + k * self.left.column));
                    for n in 0..N {
                        sums[n] = mul_add(a, b[n], sums[n]);
                    }
                }
            }
            let product = self.product.start.add(row * self.product.row + column);
            for (m, sums) in sums.into_iter().enumerate() {
                for (n, sum) in sums.into_iter().enumerate() {
                    let at = product.add(m * self.product.row + n * lanes);
                    let sum = if self.accumulate { S::load_unaligned(at) + sum } else { sum };
                    S::store_unaligned(at, sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::math::dispatch;
    use super::*;

    struct Op<'a> {
        size: (usize, usize, usize),
        a: &'a [f32],
        transposed: bool,
        b: &'a [f32],
        c: &'a mut [f32],
    }

    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self) {
            let (rows, columns, depth) = self.size;
            let (row, column) = if self.transposed { (1, rows) } else { (depth, 1) };
            // SAFETY: the slices have the sizes that the test made them with.
            unsafe {
                matmul::<S>(
                    self.size,
                    Left { start: self.a.as_ptr(), row, column },
                    Right { start: self.b.as_ptr(), row: columns, panel: panel_width::<S>() },
                    Product { start: self.c.as_mut_ptr(), row: columns },
                    true,
                );
            }
        }
    }

    #[test]
    fn products_of_all_row_counts() {
        for columns in [16, 32, 48, 64] {
            for rows in 1..30 {
                let depth = 1 + rows % 7;
                let a: Vec<f32> = (0..rows * depth).map(|i| ((i * 7) % 11) as f32 - 5.0).collect();
                let b: Vec<f32> = (0..depth * columns).map(|i| ((i * 5) % 13) as f32 - 6.0).collect();
                for transposed in [false, true] {
                    let mut c: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
                    let at = |i: usize, k: usize| if transposed { a[k * rows + i] } else { a[i * depth + k] };
                    let expected: Vec<f32> = (0..rows * columns)
                        .map(|n| {
                            let (i, j) = (n / columns, n % columns);
                            n as f32 + (0..depth).map(|k| at(i, k) * b[k * columns + j]).sum::<f32>()
                        })
                        .collect();
                    dispatch(Op { size: (rows, columns, depth), a: &a, transposed, b: &b, c: &mut c });
                    assert_eq!(c, expected, "{rows} x {columns} x {depth}, transposed: {transposed}");
                }
            }
        }
    }
}
