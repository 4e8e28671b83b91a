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
const MAX_COMPUTED_PRECISION: u32 = 100_000;

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

fn power_of_ten(exponent: u32) -> BigUint {
    BigUint::from(10_u8).pow(exponent)
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
    pub fn sqrt(&self, precision: u32) -> Self {
        let Self::Finite { negative, coefficient, exponent } = self else {
            return self.clone();
        };
        let half = exponent.div_floor(&2);
        if coefficient.is_zero() {
            return Self::Finite { negative: *negative, coefficient: BigUint::zero(), exponent: half };
        }
        let length = digit_count(coefficient);
        let (radicand, root_length) = if exponent.is_odd() {
            (coefficient * 10_u8, (length >> 1) + 1)
        } else {
            (coefficient.clone(), (length + 1) >> 1)
        };
        // One digit more than the precision, for rounding.
        let shift = i64::from(precision) + 1 - root_length;
        let scale = power_of_ten(shift.unsigned_abs() as u32);
        let scale_squared = &scale * &scale;
        let (radicand, remainder) =
            if shift >= 0 { (radicand * scale_squared, BigUint::zero()) } else { radicand.div_rem(&scale_squared) };
        let mut root = radicand.sqrt();
        let exact = remainder.is_zero() && &root * &root == radicand;
        let mut root_exponent = half - shift;
        if exact {
            root = if shift >= 0 { root / scale } else { root * scale };
            root_exponent = half;
        } else if (&root % 5_u8).is_zero() {
            // Not exact: keep the last digit from looking like a tie.
            root += 1_u8;
        }
        Self::Finite { negative: false, coefficient: root, exponent: root_exponent }.rounded(precision)
    }

    fn rounded(self, precision: u32) -> Self {
        let Self::Finite { negative, coefficient, exponent } = self else {
            return self;
        };
        let excess = digit_count(&coefficient) - i64::from(precision);
        if excess <= 0 {
            return Self::Finite { negative, coefficient, exponent };
        }
        let unit = BigInt::from(power_of_ten(excess as u32));
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
fn check_precision(precision: &Value) -> Result<u32> {
    let Some(precision) = precision.to_int() else {
        return Err(Exception::type_error("an integer is required"));
    };
    let precision = precision
        .to_i64()
        .ok_or_else(|| Exception::new(ExceptionKind::Overflow, "Python int too large to convert to C ssize_t"))?;
    if !(1..=MAX_PRECISION).contains(&precision) {
        return Err(Exception::value_error("valid range for prec is [1, MAX_PREC]"));
    }
    // Python's `MemoryError` has no text.
    precision
        .to_u32()
        .filter(|precision| *precision <= MAX_COMPUTED_PRECISION)
        .ok_or_else(|| Exception::new(ExceptionKind::Other, ""))
}

/// `getcontext().prec = precision`, then `Decimal(number).sqrt()`, for a number that is not below zero.
pub fn square_root(number: &Value, precision: &Value) -> Result<Value> {
    let precision = check_precision(precision)?;
    let number = ops::number(number).ok_or_else(|| {
        Exception::type_error(format!("conversion from {} to Decimal is not supported", number.type_name()))
    })?;
    let root = Decimal::from_number(&number).sqrt(precision);
    Ok(root.to_value())
}
