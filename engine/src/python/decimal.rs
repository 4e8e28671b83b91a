//! The part of Python's `decimal` that `Decimal(number).sqrt()` goes through, in the default context but for its precision.

use num_bigint::{BigInt, BigUint};
use num_integer::Integer;
use num_traits::{ToPrimitive, Zero};

use super::exception::{Exception, ExceptionKind, Result};
use super::number;
use super::ops::{self, Number};
use super::value::{Opaque, Value};

/// `decimal.MAX_PREC` on 64-bit machines.
const MAX_PRECISION: i64 = 999_999_999_999_999_999;

/// Largest precision that we compute; CPython's limit is memory. See docs/deviations.md.
const MAX_COMPUTED_PRECISION: u64 = 100_000;

/// A decimal number, or a special value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decimal {
    /// `±coefficient · 10^exponent`
    Finite {
        /// Whether it is below zero, or `-0`.
        negative: bool,
        /// All digits.
        coefficient: BigUint,
        /// The power of ten of the last digit.
        exponent: i64,
    },
    /// `Infinity` or `-Infinity`
    Infinity {
        /// Whether it is `-Infinity`.
        negative: bool,
    },
    /// `NaN`
    NotANumber,
}

/// Exponents stay far below 2^32: the caller bounds them.
fn power_of_ten(exponent: u64) -> BigUint {
    BigUint::from(10_u8).pow(exponent as u32)
}

fn digit_count(number: &BigUint) -> i64 {
    number.to_string().len() as i64
}

impl Decimal {
    /// `Decimal(number)`, which is exact.
    pub fn from_number(number: &Number) -> Self {
        match number {
            Number::Int(number) => Self::Finite {
                negative: number.sign() == num_bigint::Sign::Minus,
                coefficient: number.magnitude().clone(),
                exponent: 0,
            },
            Number::Float(number) if number.is_nan() => Self::NotANumber,
            Number::Float(number) if number.is_infinite() => Self::Infinity { negative: *number < 0.0 },
            Number::Float(number) => {
                let negative = number.is_sign_negative();
                let (mantissa, exponent) = number::float_parts(*number);
                let mantissa = mantissa.into_parts().1;
                // In lowest terms: a power of two below the fraction line takes as many decimal places.
                let shift = mantissa.trailing_zeros().unwrap_or(0) as i32;
                let places = if mantissa.is_zero() { 0 } else { -(exponent + shift).min(0) };
                let coefficient = if exponent >= 0 {
                    mantissa << exponent
                } else if places == 0 {
                    mantissa >> -exponent
                } else {
                    (mantissa >> shift) * BigUint::from(5_u8).pow(places as u32)
                };
                Self::Finite { negative, coefficient, exponent: -i64::from(places) }
            }
        }
    }

    /// `self.sqrt()` for a number that is not below zero: rounded half to even, with half the exponent where exact.
    /// An inexact root with more digits than we compute is a `MemoryError`.
    pub fn sqrt(&self, precision: u64) -> Result<Self> {
        let Self::Finite { negative, coefficient, exponent } = self else {
            return Ok(self.clone());
        };
        let half = exponent.div_floor(&2);
        if coefficient.is_zero() {
            return Ok(Self::Finite { negative: *negative, coefficient: BigUint::zero(), exponent: half });
        }
        let radicand = if exponent.is_odd() { coefficient * 10_u8 } else { coefficient.clone() };
        let exact_root = radicand.sqrt();
        if &exact_root * &exact_root == radicand {
            return Ok(Self::Finite { negative: false, coefficient: exact_root, exponent: half }.rounded(precision));
        }
        if precision > MAX_COMPUTED_PRECISION {
            // Python's `MemoryError` has no text.
            return Err(Exception::new(ExceptionKind::Other, ""));
        }
        // One digit more than the precision, for rounding.
        let shift = precision as i64 + 1 - digit_count(&exact_root);
        let scale_squared = power_of_ten(shift.unsigned_abs()).pow(2);
        let mut root = if shift >= 0 { (radicand * scale_squared).sqrt() } else { (radicand / scale_squared).sqrt() };
        if (&root % 5_u8).is_zero() {
            // Not exact: keep the last digit from looking like a tie.
            root += 1_u8;
        }
        Ok(Self::Finite { negative: false, coefficient: root, exponent: half - shift }.rounded(precision))
    }

    fn rounded(self, precision: u64) -> Self {
        let Self::Finite { negative, coefficient, exponent } = self else {
            return self;
        };
        let excess = digit_count(&coefficient) - precision as i64;
        if excess <= 0 {
            return Self::Finite { negative, coefficient, exponent };
        }
        let unit = BigInt::from(power_of_ten(excess as u64));
        let mut coefficient = number::divide_half_even(&coefficient.into(), &unit).into_parts().1;
        let mut exponent = exponent + excess;
        if coefficient == power_of_ten(precision) {
            coefficient = power_of_ten(precision - 1);
            exponent += 1;
        }
        Self::Finite { negative, coefficient, exponent }
    }

    /// `str(self)`: scientific notation for a positive exponent or more than five zeros after the point.
    pub fn to_text(&self) -> String {
        match self {
            Self::NotANumber => "NaN".into(),
            Self::Infinity { negative } => if *negative { "-Infinity" } else { "Infinity" }.into(),
            Self::Finite { negative, coefficient, exponent } => {
                let sign = if *negative { "-" } else { "" };
                let mut digits = coefficient.to_string();
                let left = exponent + digits.len() as i64;
                if *exponent <= 0 && left > -6 {
                    if *exponent < 0 {
                        if left <= 0 {
                            digits = "0".repeat(1 + left.unsigned_abs() as usize) + &digits;
                        }
                        digits.insert(left.max(1) as usize, '.');
                    }
                    return format!("{sign}{digits}");
                }
                if digits.len() > 1 {
                    digits.insert(1, '.');
                }
                format!("{sign}{digits}E{:+}", left - 1)
            }
        }
    }

    /// The `Decimal` as a value to be shown.
    pub fn to_value(&self) -> Value {
        Value::Opaque(Opaque { type_name: "Decimal", repr: format!("Decimal('{}')", self.to_text()) }.into())
    }
}

/// What `getcontext().prec = precision` checks.
fn check_precision(precision: &Value) -> Result<u64> {
    let Some(precision) = precision.to_int() else {
        return Err(Exception::type_error("an integer is required"));
    };
    let precision = precision
        .to_i64()
        .ok_or_else(|| Exception::new(ExceptionKind::Overflow, "Python int too large to convert to C ssize_t"))?;
    if !(1..=MAX_PRECISION).contains(&precision) {
        return Err(Exception::value_error("valid range for prec is [1, MAX_PREC]"));
    }
    Ok(precision.unsigned_abs())
}

/// `getcontext().prec = precision`, then `Decimal(number).sqrt()`, for a number that is not below zero.
pub fn square_root(number: &Value, precision: &Value) -> Result<Value> {
    let precision = check_precision(precision)?;
    let number = ops::number(number).ok_or_else(|| {
        Exception::type_error(format!("conversion from {} to Decimal is not supported", number.type_name()))
    })?;
    Decimal::from_number(&number).sqrt(precision).map(|root| root.to_value())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_written_as_decimal_writes_them() {
        for (number, precision, expected) in [
            (Value::int(2), 5, "1.4142"),
            (Value::int(144), 3, "12"),
            (Value::int(1_440_000), 2, "1.2E+3"),
            (Value::Float(0.25), 28, "0.5"),
            (Value::Float(0.0), 3, "0"),
            (Value::Float(-0.0), 3, "-0"),
            (Value::Float(1e-13), 3, "3.16E-7"),
            (Value::Float(f64::INFINITY), 3, "Infinity"),
            (Value::Float(f64::NAN), 3, "NaN"),
            (Value::Bool(true), 1, "1"),
            (Value::int(4), MAX_PRECISION, "2"),
        ] {
            let root = square_root(&number, &Value::int(precision)).expect("a root");
            assert_eq!(crate::python::text::repr(&root), format!("Decimal('{expected}')"), "{number:?}");
        }
    }

    #[test]
    fn precisions_out_of_range_are_refused() {
        let message = |precision: Value| square_root(&Value::int(2), &precision).expect_err("raises").message;
        assert_eq!(message(Value::int(0)), "valid range for prec is [1, MAX_PREC]");
        assert_eq!(message(Value::Float(2.0)), "an integer is required");
        assert_eq!(message(Value::int(1_u128 << 70)), "Python int too large to convert to C ssize_t");
        assert_eq!(message(Value::int(MAX_PRECISION)), "");
    }
}
