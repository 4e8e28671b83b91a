//! The part of mpmath 1.3.0 that `mpmath.log(value) / mpmath.log(base)` goes through: binary floating point of any
//! precision, with mpmath's working precisions and roundings, so that even the last digit agrees.
//!
//! mpmath caches constants and thereby lets the history of a process decide the last bits of an intermediate value;
//! here every constant is computed as in a fresh process.

use num_bigint::{BigInt, BigUint, Sign};
use num_integer::Integer;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::exception::{Exception, ExceptionKind, Result};
use super::number;
use super::ops;
use super::text;
use super::value::{Opaque, Value};

/// Bits per decimal digit as mpmath writes it.
const BITS_PER_DIGIT: f64 = 3.321_928_094_887_362_6;

/// Largest decimal precision; mpmath knows none but time and memory. See docs/deviations.md.
const MAX_DIGITS: i64 = 10_000;

/// Largest decimal exponent of a number given as text; mpmath knows none. See docs/deviations.md.
const MAX_TEXT_EXPONENT: i64 = 1_000_000_000_000;

/// Beyond this working precision mpmath uses the arithmetic-geometric mean; we use the series with these extra bits,
/// which gives the correctly rounded value.
const SERIES_PRECISION: u64 = 2500;
const EXTRA_BITS: u64 = 64;

/// How to round what does not fit the precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rounding {
    Nearest,
    /// Towards zero; mpmath's default for intermediate values.
    Down,
    /// Away from zero.
    Up,
}

/// A real number: `±mantissa · 2^exponent` with odd mantissa, or a special value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Real {
    Zero,
    Finite { negative: bool, mantissa: BigUint, exponent: i64 },
    Infinity,
    NegativeInfinity,
    NotANumber,
}

/// What `mpmath.log` takes and gives.
#[derive(Clone, Debug)]
enum Number {
    Real(Real),
    Complex(Real, Real),
}

fn zero_division() -> Exception {
    Exception::new(ExceptionKind::ZeroDivision, "")
}

/// Stands for Python's `MemoryError`, whose text is empty.
fn too_large() -> Exception {
    Exception::new(ExceptionKind::Other, "")
}

impl Real {
    /// `±mantissa · 2^exponent`, rounded.
    fn new(negative: bool, mantissa: BigUint, exponent: i64, precision: u64, rounding: Rounding) -> Self {
        let excess = mantissa.bits().saturating_sub(precision);
        if excess == 0 {
            return Self::exact(negative, mantissa, exponent);
        }
        let kept = &mantissa >> excess;
        let up = match rounding {
            Rounding::Down => false,
            Rounding::Up => mantissa.trailing_zeros().is_some_and(|zeros| zeros < excess),
            Rounding::Nearest => {
                mantissa.bit(excess - 1)
                    && (kept.is_odd() || mantissa.trailing_zeros().is_some_and(|zeros| zeros < excess - 1))
            }
        };
        Self::exact(negative, if up { kept + 1_u8 } else { kept }, exponent + excess as i64)
    }

    fn exact(negative: bool, mantissa: BigUint, exponent: i64) -> Self {
        match mantissa.trailing_zeros() {
            None => Self::Zero,
            Some(zeros) => Self::Finite { negative, mantissa: mantissa >> zeros, exponent: exponent + zeros as i64 },
        }
    }

    fn from_int(number: &BigInt) -> Self {
        Self::exact(number.is_negative(), number.magnitude().clone(), 0)
    }

    /// `number · 2^-bits`, rounded.
    fn from_fixed(number: &BigInt, bits: u64, precision: u64, rounding: Rounding) -> Self {
        Self::new(number.is_negative(), number.magnitude().clone(), -(bits as i64), precision, rounding)
    }

    fn from_float(number: f64) -> Self {
        if number.is_nan() {
            return Self::NotANumber;
        }
        if number.is_infinite() {
            return if number > 0.0 { Self::Infinity } else { Self::NegativeInfinity };
        }
        let (mantissa, exponent) = number::float_parts(number);
        Self::exact(mantissa.is_negative(), mantissa.magnitude().clone(), exponent.into())
    }

    fn is_special(&self) -> bool {
        !matches!(self, Self::Zero | Self::Finite { .. })
    }

    /// -1, 0 or 1; 0 for what is not a number.
    fn sign(&self) -> i8 {
        match self {
            Self::Zero | Self::NotANumber => 0,
            Self::Infinity => 1,
            Self::NegativeInfinity => -1,
            Self::Finite { negative, .. } => {
                if *negative {
                    -1
                } else {
                    1
                }
            }
        }
    }

    fn infinity(sign: i8) -> Self {
        if sign < 0 { Self::NegativeInfinity } else { Self::Infinity }
    }

    fn negated(self) -> Self {
        match self {
            Self::Finite { negative, mantissa, exponent } => Self::Finite { negative: !negative, mantissa, exponent },
            Self::Infinity => Self::NegativeInfinity,
            Self::NegativeInfinity => Self::Infinity,
            other => other,
        }
    }

    /// `self · 2^bits`
    fn shifted(self, bits: i64) -> Self {
        match self {
            Self::Finite { negative, mantissa, exponent } => {
                Self::Finite { negative, mantissa, exponent: exponent + bits }
            }
            other => other,
        }
    }

    fn rounded(self, precision: u64, rounding: Rounding) -> Self {
        match self {
            Self::Finite { negative, mantissa, exponent } => {
                Self::new(negative, mantissa, exponent, precision, rounding)
            }
            other => other,
        }
    }

    /// Exact product.
    fn times(&self, other: &Self) -> Self {
        if let (
            Self::Finite { negative: a_negative, mantissa: a, exponent: a_exponent },
            Self::Finite { negative: b_negative, mantissa: b, exponent: b_exponent },
        ) = (self, other)
        {
            return Self::Finite {
                negative: a_negative != b_negative,
                mantissa: a * b,
                exponent: a_exponent + b_exponent,
            };
        }
        if !self.is_special() && !other.is_special() {
            return Self::Zero;
        }
        match self.sign() * other.sign() {
            // Zero times infinity, or not a number.
            0 => Self::NotANumber,
            sign => Self::infinity(sign),
        }
    }

    /// Sum, rounded towards zero.
    fn plus(&self, other: &Self, precision: u64) -> Self {
        if let (
            Self::Finite { negative: a_negative, mantissa: a, exponent: a_exponent },
            Self::Finite { negative: b_negative, mantissa: b, exponent: b_exponent },
        ) = (self, other)
        {
            let signed = |negative: bool, mantissa: &BigUint| {
                BigInt::from_biguint(if negative { Sign::Minus } else { Sign::Plus }, mantissa.clone())
            };
            let (a_top, b_top) = (*a_exponent + a.bits() as i64, *b_exponent + b.bits() as i64);
            let far = precision as i64 + 4;
            // Where one number is far below the other's last bit, only its sign counts.
            let perturbed = |large: &Self, small_negative: bool| match large {
                Self::Finite { negative, mantissa, exponent } => {
                    let mut sum = mantissa << far;
                    if *negative == small_negative {
                        sum += 1_u8;
                    } else {
                        sum -= 1_u8;
                    }
                    Self::new(*negative, sum, exponent - far, precision, Rounding::Down)
                }
                _ => unreachable!("finite"),
            };
            if a_exponent - b_exponent > 100 && a_top - b_top > far {
                return perturbed(self, *b_negative);
            }
            if b_exponent - a_exponent > 100 && b_top - a_top > far {
                return perturbed(other, *a_negative);
            }
            let exponent = *a_exponent.min(b_exponent);
            let sum = (signed(*a_negative, a) << (a_exponent - exponent))
                + (signed(*b_negative, b) << (b_exponent - exponent));
            return Self::new(sum.is_negative(), sum.magnitude().clone(), exponent, precision, Rounding::Down);
        }
        match (self, other) {
            (Self::Zero, other) => other.clone().rounded(precision, Rounding::Down),
            (number, Self::Zero) => number.clone().rounded(precision, Rounding::Down),
            (special, Self::Finite { .. }) => special.clone(),
            (Self::Finite { .. }, special) => special.clone(),
            (a, b) if a == b => a.clone(),
            _ => Self::NotANumber,
        }
    }

    fn divided_by(&self, other: &Self, precision: u64, rounding: Rounding) -> Result<Self> {
        let (
            Self::Finite { negative: a_negative, mantissa: a, exponent: a_exponent },
            Self::Finite { negative: b_negative, mantissa: b, exponent: b_exponent },
        ) = (self, other)
        else {
            return Ok(match (self, other) {
                (_, Self::Zero) => return Err(zero_division()),
                (_, Self::NotANumber) | (Self::NotANumber, _) => Self::NotANumber,
                (Self::Zero, _) => Self::Zero,
                (a, b) if a.is_special() && b.is_special() => Self::NotANumber,
                (a, b) if a.is_special() => Self::infinity(a.sign() * b.sign()),
                _ => Self::Zero,
            });
        };
        let negative = a_negative != b_negative;
        let extra = (precision as i64 - a.bits() as i64 + b.bits() as i64 + 5).max(5);
        let (quotient, remainder) = (a << extra).div_rem(b);
        let exponent = a_exponent - b_exponent - extra;
        Ok(if remainder.is_zero() {
            Self::new(negative, quotient, exponent, precision, rounding)
        } else {
            // A sticky bit below the precision stands for the remainder.
            Self::new(negative, (quotient << 1_u8) + 1_u8, exponent - 1, precision, rounding)
        })
    }

    /// `10^power`, with the roundings of mpmath's integer power.
    fn power_of_ten(power: i64, precision: u64, rounding: Rounding) -> Self {
        let one = Self::exact(false, BigUint::one(), 0);
        let ten = Self::exact(false, BigUint::from(10_u8), 0);
        let divide = |a: &Self, b: &Self| a.divided_by(b, precision, rounding).expect("a power of ten is not zero");
        match power {
            0 => return one,
            1 => return ten.rounded(precision, rounding),
            2 => return ten.times(&ten).rounded(precision, rounding),
            -1 => return divide(&one, &ten),
            ..0 => {
                let reciprocal = match rounding {
                    Rounding::Down => Rounding::Up,
                    Rounding::Up => Rounding::Down,
                    Rounding::Nearest => Rounding::Nearest,
                };
                return divide(&one, &Self::power_of_ten(-power, precision + 5, reciprocal));
            }
            _ => {}
        }
        let mut power = power as u64;
        if 3 * power < 1000 {
            let mantissa = BigUint::from(5_u8).pow(power as u32);
            return Self::new(false, mantissa, power as i64, precision, rounding);
        }
        let working = precision + 4 * u64::from(u64::BITS - power.leading_zeros()) + 4;
        let cut = |mantissa: &mut BigUint, exponent: &mut i64| {
            let excess = mantissa.bits().saturating_sub(working);
            if excess > 0 {
                let inexact = mantissa.trailing_zeros().is_some_and(|zeros| zeros < excess);
                *mantissa >>= excess;
                if inexact && rounding == Rounding::Up {
                    *mantissa += 1_u8;
                }
                *exponent += excess as i64;
            }
        };
        let (mut mantissa, mut exponent) = (BigUint::from(5_u8), 1_i64);
        let (mut product, mut product_exponent) = (BigUint::one(), 0_i64);
        loop {
            if power & 1 == 1 {
                product *= &mantissa;
                product_exponent += exponent;
                cut(&mut product, &mut product_exponent);
                power -= 1;
                if power == 0 {
                    break;
                }
            }
            mantissa = &mantissa * &mantissa;
            exponent *= 2;
            cut(&mut mantissa, &mut exponent);
            power /= 2;
        }
        Self::new(false, product, product_exponent, precision, rounding)
    }

    /// The digits of a number from text, `from_str` in mpmath. `None` where that raises `ValueError`.
    fn from_text(text: &str, precision: u64) -> Result<Option<Self>> {
        let lower = text.to_lowercase();
        let lower = lower.trim_matches(is_python_space);
        match lower {
            "inf" | "+inf" => return Ok(Some(Self::Infinity)),
            "-inf" => return Ok(Some(Self::NegativeInfinity)),
            "nan" => return Ok(Some(Self::NotANumber)),
            _ => {}
        }
        let whole = |digits: &str| number::int(&Value::str(digits)).ok();
        if lower.contains('/') {
            let mut parts = lower.split('/').map(|part| part.trim_end_matches('l'));
            let (Some(numerator), Some(denominator), None) = (parts.next(), parts.next(), parts.next()) else {
                return Ok(None);
            };
            let (Some(numerator), Some(denominator)) = (whole(numerator), whole(denominator)) else {
                return Ok(None);
            };
            return Self::from_int(&numerator)
                .divided_by(&Self::from_int(&denominator), precision, Rounding::Nearest)
                .map(Some);
        }
        let literal = lower.trim_end_matches('l');
        if number::parse_float(literal).is_none() {
            return Ok(None);
        }
        let (mantissa, mut exponent) = match literal.split_once('e') {
            None => (literal, BigInt::zero()),
            Some((mantissa, exponent)) => match whole(exponent) {
                None => return Ok(None),
                Some(exponent) => (mantissa, exponent),
            },
        };
        let digits = match mantissa.split_once('.') {
            None => whole(mantissa),
            Some((left, right)) => {
                let right = right.trim_end_matches('0');
                exponent -= right.chars().count();
                whole(&format!("{left}{right}"))
            }
        };
        let Some(digits) = digits else {
            return Ok(None);
        };
        let exponent = exponent.to_i64().filter(|exponent| exponent.abs() <= MAX_TEXT_EXPONENT);
        let exponent = exponent.ok_or_else(too_large)?;
        let power = || BigInt::from(10_u8).pow(exponent.unsigned_abs() as u32);
        Ok(Some(if exponent.abs() > 400 {
            let digits = Self::from_int(&digits).rounded(precision + 10, Rounding::Down);
            digits
                .times(&Self::power_of_ten(exponent, precision + 10, Rounding::Down))
                .rounded(precision, Rounding::Nearest)
        } else if exponent >= 0 {
            Self::from_int(&(digits * power())).rounded(precision, Rounding::Nearest)
        } else {
            Self::from_int(&digits).divided_by(&Self::from_int(&power()), precision, Rounding::Nearest)?
        }))
    }

    /// Natural logarithm of a positive number, zero or special value.
    fn ln(&self, precision: u64, rounding: Rounding) -> Self {
        let Self::Finite { mantissa, exponent, .. } = self else {
            return match self {
                Self::Zero => Self::NegativeInfinity,
                other => other.clone(),
            };
        };
        let exponent = *exponent;
        let bits = mantissa.bits();
        let mut working = precision + 20;
        let exponent_times_ln2 =
            |working: u64| Self::from_fixed(&(ln2_fixed(working) * exponent), working, precision, rounding);
        if mantissa.is_one() {
            return if exponent == 0 { Self::Zero } else { exponent_times_ln2(working) };
        }
        let magnitude = exponent + bits as i64;
        if magnitude.abs() <= 1 {
            // Close to 1: the difference from 1 decides how many bits cancel.
            let below_one = magnitude == 0;
            let difference =
                if below_one { (BigUint::one() << bits) - mantissa } else { mantissa - (BigUint::one() << (bits - 1)) };
            let cancelled = bits - difference.bits().min(bits);
            if cancelled > working {
                // mpmath comes here for numbers just above 1/4 too, and answers the difference for them as well.
                return Self::new(below_one, difference, magnitude.abs() - bits as i64, precision, rounding);
            } else {
                working += cancelled;
            }
        }
        let magnitude_bits = u64::from(u64::BITS - magnitude.unsigned_abs().leading_zeros());
        if magnitude.abs() > 10_000 && magnitude_bits > working {
            return exponent_times_ln2(working);
        }
        let series = if working <= SERIES_PRECISION { working } else { working + EXTRA_BITS };
        let shift = series as i64 - bits as i64;
        let mantissa = BigInt::from(mantissa.clone());
        let fixed = if shift >= 0 { mantissa << shift } else { mantissa >> -shift };
        let mut result =
            if working <= SERIES_PRECISION { ln_fixed_tabled(&fixed, series) } else { ln_fixed_far(&fixed, series) };
        if magnitude != 0 {
            result += ln2_fixed(series) * magnitude;
        }
        Self::from_fixed(&result, series, precision, rounding)
    }

    fn pi(precision: u64, rounding: Rounding) -> Self {
        let working = precision + 20;
        Self::from_fixed(&pi_fixed(working), working, precision, rounding)
    }

    /// Sign, decimal digits (cut, not rounded) and decimal exponent.
    fn digits(&self, count: i64) -> (&'static str, String, i64) {
        let Self::Finite { negative, mantissa, exponent } = self else {
            return ("", "0".into(), 0);
        };
        let sign = if *negative { "-" } else { "" };
        let bit_precision = (count as f64 * BITS_PER_DIGIT) as i64 + 10;
        let (mut mantissa, mut binary_exponent) = (mantissa.clone(), *exponent);
        let mut decimal_exponent = 0;
        if (binary_exponent + mantissa.bits() as i64).abs() > 3500 {
            let precision = u64::from(u64::BITS - binary_exponent.unsigned_abs().leading_zeros()) + 5;
            let constant = |fixed: BigInt| Self::from_fixed(&fixed, precision + 20, precision, Rounding::Down);
            let power = Self::from_int(&binary_exponent.into())
                .times(&constant(ln2_fixed(precision + 20)))
                .divided_by(&constant(ln10_fixed(precision + 20)), precision, Rounding::Down)
                .expect("ln 10 is not zero");
            decimal_exponent = power.truncated();
            let scale = Self::power_of_ten(decimal_exponent, bit_precision as u64, Rounding::Down);
            let unsigned = Self::Finite { negative: false, mantissa, exponent: binary_exponent };
            match unsigned.divided_by(&scale, bit_precision as u64, Rounding::Down) {
                Ok(Self::Finite { mantissa: scaled, exponent: scaled_exponent, .. }) => {
                    (mantissa, binary_exponent) = (scaled, scaled_exponent);
                }
                _ => unreachable!("a finite number over a power of ten is finite and not zero"),
            }
        }
        let fixed_bits = (bit_precision - binary_exponent - mantissa.bits() as i64).max(0);
        let fixed_digits = (fixed_bits as f64 / BITS_PER_DIGIT + 0.5) as i64;
        let offset = binary_exponent + fixed_bits;
        let fixed = if offset >= 0 { mantissa << offset } else { mantissa >> -offset };
        let digits = ((fixed * BigUint::from(10_u8).pow(fixed_digits as u32)) >> fixed_bits).to_string();
        decimal_exponent += digits.len() as i64 - fixed_digits - 1;
        (sign, digits, decimal_exponent)
    }

    fn truncated(&self) -> i64 {
        match self {
            Self::Finite { negative, mantissa, exponent } => {
                let whole = if *exponent >= 0 { mantissa << *exponent } else { mantissa >> -exponent };
                let whole = whole.to_i64().expect("a decimal exponent is small");
                if *negative { -whole } else { whole }
            }
            _ => 0,
        }
    }

    /// At most `count` significant digits, fixed-point where the number is near 1.
    fn to_text(&self, count: i64) -> String {
        match self {
            Self::Zero => return "0.0".into(),
            Self::Infinity => return "+inf".into(),
            Self::NegativeInfinity => return "-inf".into(),
            Self::NotANumber => return "nan".into(),
            Self::Finite { .. } => {}
        }
        let (sign, mut digits, mut exponent) = self.digits(count + 3);
        let length = count as usize;
        let round_up = digits.as_bytes().get(length).is_some_and(|digit| *digit >= b'5');
        digits.truncate(length);
        if round_up {
            let kept = digits.trim_end_matches('9').len();
            digits.truncate(kept);
            match digits.pop() {
                Some(last) => digits.push(char::from(last as u8 + 1)),
                None => {
                    digits.push('1');
                    exponent += 1;
                }
            }
            digits.push_str(&"0".repeat(length - digits.len()));
        }
        let least_fixed = (-(count / 3)).min(-5);
        let mut split = 1;
        if least_fixed < exponent && exponent < count {
            if exponent < 0 {
                digits = "0".repeat(-exponent as usize) + &digits;
            } else {
                split = exponent as usize + 1;
            }
            exponent = 0;
        }
        digits.insert(split, '.');
        let kept = digits.trim_end_matches('0').len();
        digits.truncate(kept);
        if digits.ends_with('.') {
            digits.push('0');
        }
        match exponent {
            0 => format!("{sign}{digits}"),
            1.. => format!("{sign}{digits}e+{exponent}"),
            ..0 => format!("{sign}{digits}e{exponent}"),
        }
    }
}

fn is_python_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// A constant at the precision at which mpmath first computes it, cut to the precision asked for.
fn memoized(bits: u64, compute: impl Fn(u64) -> BigInt) -> BigInt {
    let wider = (bits as f64 * 1.05 + 10.0) as u64;
    compute(wider) >> (wider - bits)
}

/// `acoth(whole) · 2^bits`
fn acoth_fixed(whole: u32, bits: u64) -> BigInt {
    /// Numerator, denominator and the last odd factor of the series' terms `from..to`.
    fn split(square: &BigInt, from: u64, to: u64) -> (BigInt, BigInt, BigInt) {
        if to - from == 1 {
            let odd = BigInt::from(2 * from + 3);
            return (BigInt::one(), &odd * square, odd);
        }
        let middle = (from + to) / 2;
        let (p1, q1, r1) = split(square, from, middle);
        let (p2, q2, r2) = split(square, middle, to);
        (&q2 * p1 + &r1 * p2, q1 * q2, r1 * r2)
    }
    let terms = (0.35 * bits as f64 / f64::from(whole).ln() + 20.0) as u64;
    let (p, q, _) = split(&BigInt::from(whole).pow(2), 0, terms);
    ((p + &q) << bits) / (q * whole)
}

fn machin(terms: [(i32, u32); 3], bits: u64) -> BigInt {
    const EXTRA: u64 = 10;
    let sum: BigInt = terms.iter().map(|(factor, whole)| acoth_fixed(*whole, bits + EXTRA) * *factor).sum();
    sum >> EXTRA
}

/// `ln(2) · 2^bits`
fn ln2_fixed(bits: u64) -> BigInt {
    memoized(bits, |bits| machin([(18, 26), (-2, 4801), (8, 8749)], bits))
}

/// `ln(10) · 2^bits`
fn ln10_fixed(bits: u64) -> BigInt {
    memoized(bits, |bits| machin([(46, 31), (34, 49), (20, 161)], bits))
}

/// `pi · 2^bits`, by Chudnovsky's series.
fn pi_fixed(bits: u64) -> BigInt {
    const A: u32 = 13_591_409;
    const B: u32 = 545_140_134;
    const C: u32 = 640_320;
    const D: u32 = 12;
    fn split(from: u64, to: u64) -> (BigInt, BigInt, BigInt) {
        if to - from == 1 {
            let factor = BigInt::from(6 * to - 5) * (2 * to - 1) * (6 * to - 1);
            let p = BigInt::from(to).pow(3) * (BigInt::from(C).pow(3) / 24);
            let q = &factor * (BigInt::from(B) * to + A);
            return (factor, p, if to % 2 == 1 { -q } else { q });
        }
        let middle = (from + to) / 2;
        let (g1, p1, q1) = split(from, middle);
        let (g2, p2, q2) = split(middle, to);
        (&g1 * g2, p1 * &p2, q1 * p2 + q2 * g1)
    }
    memoized(bits, |bits| {
        let terms = (bits as f64 / BITS_PER_DIGIT / 14.181_647_462 + 2.0) as u64;
        let (_, p, q) = split(0, terms);
        let root = (BigInt::from(C) << (2 * bits)).sqrt();
        let denominator = (q + &p * A) * D;
        (p * C * root).div_floor(&denominator)
    })
}

/// `2·atanh(v)` by its series, summed in two interleaved halves as mpmath does.
fn twice_atanh_fixed(v: BigInt, bits: u64) -> BigInt {
    let square = (&v * &v) >> bits;
    let fourth = (&square * &square) >> bits;
    let mut even = v.clone();
    let mut odd = v.div_floor(&3.into());
    let mut term: BigInt = (v * &fourth) >> bits;
    let mut divisor = 5_u64;
    while !term.is_zero() {
        // A negative term shifted right stays at -1 for ever; the caller passes only terms that reach 0.
        even += term.div_floor(&divisor.into());
        divisor += 2;
        odd += term.div_floor(&divisor.into());
        term = (term * &fourth) >> bits;
        divisor += 2;
    }
    let odd: BigInt = (odd * square) >> bits;
    (even + odd) << 1_u8
}

/// `ln(x)` with `x` close to 1, after `roots` square roots.
fn ln_fixed(x: &BigInt, bits: u64, roots: u32) -> BigInt {
    let mut x = x.clone();
    for _ in 0..roots {
        x = (x << bits).sqrt();
    }
    let one = BigInt::one() << bits;
    let quotient = ((&x - &one) << bits).div_floor(&(x + one));
    let negative = quotient.is_negative();
    let result = twice_atanh_fixed(quotient.abs(), bits) << roots;
    if negative { -result } else { result }
}

/// `ln(x)` for `x` in (0.5, 2), up to [`SERIES_PRECISION`]: from the logarithm of the next lower 1/512th.
fn ln_fixed_tabled(x: &BigInt, bits: u64) -> BigInt {
    const STEP_BITS: u64 = 9;
    // mpmath rounds the table's precision up to powers of two.
    let table_bits = bits.next_power_of_two().min(SERIES_PRECISION) + 20;
    let step: BigInt = x >> (bits - STEP_BITS);
    let near: BigInt = step << (table_bits - STEP_BITS);
    let near_ln = ln_fixed(&near, table_bits, 8) >> (table_bits - bits);
    let near: BigInt = near >> (table_bits - bits);
    let excess = ((x - &near) << bits).div_floor(&near);
    let quotient = (&excess << bits).div_floor(&((BigInt::from(2_u8) << bits) + &excess));
    near_ln + twice_atanh_fixed(quotient, bits)
}

/// `ln(x)` for `x` in (0.5, 2) at high precision: enough square roots to make the series short.
fn ln_fixed_far(x: &BigInt, bits: u64) -> BigInt {
    let roots = (bits as f64).sqrt() as u32 / 2;
    let guard = u64::from(roots) + 20;
    ln_fixed(&(x << guard), bits + guard, roots) >> guard
}

/// The number in `value` as mpmath takes it, or its `TypeError`.
fn convert(value: &Value, precision: u64) -> Result<Number> {
    match ops::number(value) {
        Some(ops::Number::Int(number)) => return Ok(Number::Real(Real::from_int(&number))),
        Some(ops::Number::Float(number)) => return Ok(Number::Real(Real::from_float(number))),
        None => {}
    }
    let refused = |value: &Value| match text::try_repr(value) {
        Ok(repr) => Exception::type_error(format!("cannot create mpf from {repr}")),
        Err(error) => error,
    };
    let Value::Str(text) = value else {
        return Err(refused(value));
    };
    if let Some(number) = Real::from_text(text, precision)? {
        return Ok(Number::Real(number));
    }
    let lower = text.to_lowercase();
    if !lower.contains('j') {
        return Err(refused(value));
    }
    let compact = lower.replace(' ', "");
    let (real, imaginary) = split_complex(&compact)
        .ok_or_else(|| Exception::new(ExceptionKind::Attribute, "'NoneType' object has no attribute 'group'"))?;
    let part = |text: &str| Real::from_text(text, precision)?.ok_or_else(|| refused(&Value::str(text)));
    let real = if real.is_empty() { Real::Zero } else { part(real)? };
    Ok(Number::Complex(real, part(imaginary)?))
}

/// Real and imaginary part (without `j`) of a text like `(1.5-2e3j)`.
fn split_complex(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_prefix('(').unwrap_or(text);
    let text = text.strip_suffix(')').unwrap_or(text).strip_suffix('j')?;
    /// Lengths that a number from the start of `text` may have; every part of a number may be missing.
    fn lengths(text: &str) -> Vec<usize> {
        let bytes = text.as_bytes();
        let digits_from = |start: usize| bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count() + start;
        let signed = usize::from(bytes.first().is_some_and(|byte| matches!(byte, b'+' | b'-')));
        let mut ends: Vec<usize> = (0..=digits_from(signed)).rev().collect();
        let whole = digits_from(signed);
        if bytes.get(whole) == Some(&b'.') {
            ends.splice(0..0, (whole + 1..=digits_from(whole + 1)).rev());
        }
        let mut all = Vec::new();
        for end in ends {
            if end >= signed && bytes.get(end) == Some(&b'e') {
                let first = end + 1 + usize::from(bytes.get(end + 1).is_some_and(|byte| matches!(byte, b'+' | b'-')));
                if first <= bytes.len() {
                    all.extend((first + 1..=digits_from(first)).rev());
                }
            }
            all.push(end);
        }
        all
    }
    if lengths(text).contains(&text.len()) {
        return Some(("", text));
    }
    let split = lengths(text)
        .into_iter()
        .find(|end| text.is_char_boundary(*end) && lengths(&text[*end..]).contains(&(text.len() - end)))?;
    Some(text.split_at(split))
}

fn log(number: Number, precision: u64) -> Result<Number> {
    const ROUNDING: Rounding = Rounding::Nearest;
    Ok(match number {
        Number::Real(number) if number.sign() < 0 => {
            Number::Complex(number.negated().ln(precision, ROUNDING), Real::pi(precision, ROUNDING))
        }
        Number::Real(number) => Number::Real(number.ln(precision, ROUNDING)),
        Number::Complex(real, Real::Zero) => {
            let angle = if real.sign() < 0 { Real::pi(precision, ROUNDING) } else { Real::Zero };
            let length = if real.sign() < 0 { real.negated() } else { real };
            Number::Complex(length.ln(precision, ROUNDING), angle)
        }
        Number::Complex(Real::Zero, imaginary @ Real::Finite { .. }) => {
            let half_pi = Real::pi(precision, ROUNDING).shifted(-1);
            let (length, angle) =
                if imaginary.sign() < 0 { (imaginary.negated(), half_pi.negated()) } else { (imaginary, half_pi) };
            Number::Complex(length.ln(precision, ROUNDING), angle)
        }
        // A text with both parts, like "1+2j": no scenario and no model has a use for it. See docs/deviations.md.
        Number::Complex(..) => return Err(too_large()),
    })
}

fn divide(left: Number, right: Number, precision: u64) -> Result<Number> {
    let nearest = |a: &Real, b: &Real| a.divided_by(b, precision, Rounding::Nearest);
    let wide = precision + 10;
    let length_squared = |a: &Real, b: &Real| a.times(a).plus(&b.times(b), wide);
    Ok(match (left, right) {
        (Number::Real(a), Number::Real(b)) => Number::Real(nearest(&a, &b)?),
        (Number::Complex(a, b), Number::Real(divisor)) => {
            Number::Complex(nearest(&a, &divisor)?, nearest(&b, &divisor)?)
        }
        (Number::Real(numerator), Number::Complex(a, b)) => {
            let length = length_squared(&a, &b);
            Number::Complex(nearest(&a.times(&numerator), &length)?, nearest(&b.times(&numerator).negated(), &length)?)
        }
        (Number::Complex(a, b), Number::Complex(c, d)) => {
            let length = length_squared(&c, &d);
            let real = a.times(&c).plus(&b.times(&d), wide);
            let imaginary = b.times(&c).plus(&a.times(&d).negated(), wide);
            Number::Complex(nearest(&real, &length)?, nearest(&imaginary, &length)?)
        }
    })
}

/// Bits for a precision in decimal digits.
fn precision_bits(digits: &Value) -> Result<u64> {
    let digits = number::int(digits)? + 1;
    let bits = number::float_to_int((ops::int_to_float(&digits)? * BITS_PER_DIGIT).round_ties_even())?;
    if digits > BigInt::from(MAX_DIGITS + 1) {
        return Err(too_large());
    }
    Ok(bits.to_u64().unwrap_or(0).max(1))
}

/// `mpmath.log(value) / mpmath.log(base)` after `mpmath.mp.dps = precision`.
pub fn logarithm(value: &Value, base: &Value, precision: &Value) -> Result<Value> {
    let precision = precision_bits(precision)?;
    let dividend = log(convert(value, precision)?, precision)?;
    let divisor = log(convert(base, precision)?, precision)?;
    let quotient = divide(dividend, divisor, precision)?;
    let digits = match ((precision as f64 / BITS_PER_DIGIT).round_ties_even() as i64 - 1).max(1) {
        15 => 17,
        digits => digits + 3,
    };
    let (type_name, repr) = match quotient {
        Number::Real(number) => ("mpf", format!("mpf('{}')", number.to_text(digits))),
        Number::Complex(real, imaginary) => {
            ("mpc", format!("mpc(real='{}', imag='{}')", real.to_text(digits), imaginary.to_text(digits)))
        }
    };
    Ok(Value::Opaque(Opaque { type_name, repr }.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: impl Into<Value>, base: impl Into<Value>, precision: i64) -> String {
        match logarithm(&value.into(), &base.into(), &precision.into()) {
            Ok(result) => text::repr(&result),
            Err(error) => error.message,
        }
    }

    #[test]
    fn logarithms_are_those_of_mpmath() {
        // Every expected text was printed by mpmath 1.3.0.
        for (value, base, precision, expected) in [
            (100.0, 10.0, 5, "mpf('2.0')"),
            (2.0, 10.0, 15, "mpf('0.30102999566398114')"),
            (2.0, 10.0, 50, "mpf('0.30102999566398119521373889472449302676818988146210811')"),
            (0.0, 2.0, 10, "mpf('-inf')"),
            (-8.0, 2.0, 10, "mpc(real='3.000000000029', imag='4.532360141806')"),
            (3.0, -2.0, 10, "mpc(real='0.07357447209051', imag='-0.3334660047622')"),
            (-3.0, -2.0, 10, "mpc(real='1.027154148542', imag='-0.1230723805529')"),
            (1.0, 7.0, 3, "mpf('0.0')"),
            (1.000_000_000_000_000_2, 10.0, 20, "mpf('9.6432746655328700365768e-17')"),
            (f64::INFINITY, 2.0, 3, "mpf('+inf')"),
            (10.0, 1.000_000_000_000_000_2, 12, "mpf('1.03699213667963e+16')"),
            (
                3.0,
                7.0,
                800,
                "mpf('0.56457503405357961380455016717490853614322791118679259504540926230775231420040949901028154458436126099630417764845537208561500242579984402784134365361024486598767381359012496219073695567705146940686513074945007531902146562055260676973571272386070336207888440130044693376594137739820763839579950340783505151163654314842758576002940436857272853262211075785593078346871201615345938752331398177426513389255041145716963066634912099643141408301155252076446273936561979143280485279543511858783885828967677119047241755056038931345587044902757940897886224247339361978334820548497693734065018737777357798859530410098441662208260380013610314323501191481420541556549758640605192957101048057117629509652956154802409086820698514408439735289360637881610232751742021774787055319856032828224371493997634347699173788416444')",
            ),
        ] {
            assert_eq!(shown(value, base, precision), expected);
        }
        assert_eq!(shown("1/3", "1e500", 20), "mpf('-0.00095424250943932487458997')");
        assert_eq!(shown("abc", 2.0, 20), "cannot create mpf from 'abc'");
        assert_eq!(shown(2.0, 1.0, 20), "");
    }

    #[test]
    fn precisions_may_be_anything_that_int_takes() {
        let message = |precision: Value| match logarithm(&Value::int(8), &Value::int(2), &precision) {
            Ok(result) => text::repr(&result),
            Err(error) => error.message,
        };
        assert_eq!(message(Value::str(" 7 ")), "mpf('3.0')");
        assert_eq!(message(Value::int(-5)), "mpf('4.0')");
        assert_eq!(message(Value::Float(f64::INFINITY)), "cannot convert float infinity to integer");
        assert_eq!(message(Value::str("x")), "invalid literal for int() with base 10: 'x'");
        assert_eq!(message(Value::Int(BigInt::from(10).pow(400))), "int too large to convert to float");
    }
}
