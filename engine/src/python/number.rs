//! Python's number builtins beyond the operators: `float()`, `int()`, `round()`, `sum()`, `abs()`, `**` and `:.2f`.

use std::borrow::Cow;

use num_bigint::{BigInt, BigUint, Sign};
use num_integer::Integer;
use num_traits::{FromPrimitive, One, ToPrimitive, Zero};

use super::PythonVersion;
use super::exception::{Exception, ExceptionKind, Result};
use super::ops::{self, Number};
use super::text;
use super::value::Value;

/// Most decimal digits that CPython converts between `int` and `str` (`sys.get_int_max_str_digits()`).
pub const MAX_INT_DIGITS: usize = 4300;

/// First characters of the runs of ten decimal digits (category Nd) beyond ASCII, in Unicode 14 as in CPython 3.11.
const DIGIT_RUNS: &[u32] = &[
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0, 0xf20,
    0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0,
    0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0,
    0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0,
    0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

/// The text in which `int()` and `float()` look for a number: digits of any script become ASCII, spaces beyond ASCII
/// become `' '`, and what comes after any other character is cut off (that character becomes `?`).
pub fn to_ascii_digits(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            out.push(character);
        } else if character.is_whitespace() {
            out.push(' ');
        } else if let Some(digit) = digit_value(character) {
            out.extend(char::from_digit(digit, 10));
        } else {
            out.push('?');
            break;
        }
    }
    Cow::Owned(out)
}

/// The value of a decimal digit of any script (`int(character)` where `character.isdecimal()`).
pub fn digit_value(character: char) -> Option<u32> {
    if character.is_ascii() {
        return character.to_digit(10);
    }
    let code = character as u32;
    let run = DIGIT_RUNS[..DIGIT_RUNS.partition_point(|start| *start <= code)].last()?;
    Some(code - run).filter(|digit| *digit < 10)
}

/// Characters of Unicode's numeric type "digit" (superscripts, circled digits, ...), as first and last of each run.
const OTHER_DIGITS: &[(char, char)] = &[
    ('\u{b2}', '\u{b3}'),
    ('\u{b9}', '\u{b9}'),
    ('\u{1369}', '\u{1371}'),
    ('\u{19da}', '\u{19da}'),
    ('\u{2070}', '\u{2070}'),
    ('\u{2074}', '\u{2079}'),
    ('\u{2080}', '\u{2089}'),
    ('\u{2460}', '\u{2468}'),
    ('\u{2474}', '\u{247c}'),
    ('\u{2488}', '\u{2490}'),
    ('\u{24ea}', '\u{24ea}'),
    ('\u{24f5}', '\u{24fd}'),
    ('\u{24ff}', '\u{24ff}'),
    ('\u{2776}', '\u{277e}'),
    ('\u{2780}', '\u{2788}'),
    ('\u{278a}', '\u{2792}'),
    ('\u{10a40}', '\u{10a43}'),
    ('\u{10e60}', '\u{10e68}'),
    ('\u{11052}', '\u{1105a}'),
    ('\u{1f100}', '\u{1f10a}'),
];

/// `text.isdigit()`. Beware: `int` takes decimal digits only, so that `"²".isdigit()` and yet `int("²")` raises.
pub fn is_digit(text: &str) -> bool {
    let is_other = |character: char| OTHER_DIGITS.iter().any(|(first, last)| (*first..=*last).contains(&character));
    !text.is_empty() && text.chars().all(|character| digit_value(character).is_some() || is_other(character))
}

/// Without the white space that C's `isspace` knows.
fn trim_ascii_space(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r'])
}

/// Digits without the underscores that may stand between two of them; `None` if one stands elsewhere.
fn without_underscores(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('_') {
        return Some(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let between_digits = |index: usize| {
        index > 0
            && bytes[index - 1].is_ascii_digit()
            && bytes.get(index + 1).is_some_and(|following| following.is_ascii_digit())
    };
    let valid = (0..bytes.len()).filter(|index| bytes[*index] == b'_').all(between_digits);
    valid.then(|| Cow::Owned(text.replace('_', "")))
}

/// A decimal floating-point number as C's `strtod` and Python accept it: no hexadecimal, `inf` and `nan` in any case.
pub fn parse_float(text: &str) -> Option<f64> {
    let text = to_ascii_digits(text);
    let text = without_underscores(trim_ascii_space(&text))?;
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(&text);
    let starts_like_a_number = unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    let is_name = ["inf", "infinity", "nan"].iter().any(|name| unsigned.eq_ignore_ascii_case(name));
    if !starts_like_a_number && !is_name {
        return None;
    }
    // Rust reads the same grammar, and rounds correctly too.
    text.parse().ok()
}

/// `float(value)`, which gives a `float`.
pub fn float(value: &Value) -> Result<f64> {
    if let Some(number) = ops::number(value) {
        return match number {
            Number::Int(number) => ops::int_to_float(&number),
            Number::Float(number) => Ok(number),
        };
    }
    match value {
        Value::Str(text) => parse_float(text)
            .ok_or_else(|| Exception::value_error(format!("could not convert string to float: {}", text::repr(value)))),
        other => Err(Exception::type_error(format!(
            "float() argument must be a string or a real number, not '{}'",
            other.type_name()
        ))),
    }
}

/// `int(float)`
pub fn float_to_int(number: f64) -> Result<BigInt> {
    if number.is_nan() {
        return Err(Exception::value_error("cannot convert float NaN to integer"));
    }
    BigInt::from_f64(number.trunc())
        .ok_or_else(|| Exception::new(ExceptionKind::Overflow, "cannot convert float infinity to integer"))
}

/// `int(value)`
pub fn int(value: &Value) -> Result<BigInt> {
    if let Some(number) = ops::number(value) {
        return match number {
            Number::Int(number) => Ok(number),
            Number::Float(number) => float_to_int(number),
        };
    }
    match value {
        Value::Str(text) => parse_int(text),
        other => Err(Exception::type_error(format!(
            "int() argument must be a string, a bytes-like object or a real number, not '{}'",
            other.type_name()
        ))),
    }
}

fn parse_int(text: &str) -> Result<BigInt> {
    let invalid = || {
        // CPython cuts the repr in this message.
        let shown: String = text::repr(&Value::str(text)).chars().take(200).collect();
        Exception::value_error(format!("invalid literal for int() with base 10: {shown}"))
    };
    let ascii = to_ascii_digits(text);
    let digits = without_underscores(trim_ascii_space(&ascii)).ok_or_else(invalid)?;
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(&digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid());
    }
    if unsigned.len() > MAX_INT_DIGITS {
        return Err(Exception::value_error(format!(
            "Exceeds the limit ({MAX_INT_DIGITS} digits) for integer string conversion: value has {} digits; use \
             sys.set_int_max_str_digits() to increase the limit",
            unsigned.len()
        )));
    }
    let magnitude = BigInt::parse_bytes(unsigned.as_bytes(), 10).expect("only digits");
    Ok(if digits.starts_with('-') { -magnitude } else { magnitude })
}

/// Whether `str(number)` refuses because the number is too long.
pub fn too_long_for_text(number: &BigInt) -> bool {
    // Up to this many bits there are at most 4300 digits; from two more on there are more.
    const SAFE_BITS: u64 = 14_284;
    number.bits() > SAFE_BITS
        && (number.bits() > SAFE_BITS + 2 || number.magnitude().to_string().len() > MAX_INT_DIGITS)
}

/// The error of `str(number)` and `json.dumps(number)` where [`too_long_for_text`].
pub fn too_long_error() -> Exception {
    Exception::value_error(format!(
        "Exceeds the limit ({MAX_INT_DIGITS} digits) for integer string conversion; use sys.set_int_max_str_digits() to \
         increase the limit"
    ))
}

/// A finite float as an exact fraction: a signed whole number times a power of two.
pub fn float_parts(number: f64) -> (BigInt, i32) {
    let bits = number.to_bits();
    let biased = ((bits >> 52) & 0x7ff) as i32;
    let fraction = bits & ((1 << 52) - 1);
    let (magnitude, exponent) = if biased == 0 { (fraction, -1074) } else { (fraction | 1 << 52, biased - 1075) };
    let sign = if number.is_sign_negative() { Sign::Minus } else { Sign::Plus };
    (BigInt::from_biguint(sign, magnitude.into()), exponent)
}

/// `numerator / denominator` to the nearest whole number, ties to even. The denominator is positive.
pub fn divide_half_even(numerator: &BigInt, denominator: &BigInt) -> BigInt {
    let (quotient, remainder) = numerator.div_mod_floor(denominator);
    match (remainder << 1_u8).cmp(denominator) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Equal if quotient.is_even() => quotient,
        _ => quotient + 1,
    }
}

fn power_of_ten(exponent: u32) -> BigInt {
    BigInt::from(10_u8).pow(exponent)
}

/// `round(number, digits)` for floats: exact in decimal, ties to even.
pub fn round_float(number: f64, digits: i64) -> Result<f64> {
    // Beyond these the result is known, and so CPython's own short cuts decide.
    const MOST_DIGITS: i64 = 323;
    const LEAST_DIGITS: i64 = -308;
    if !number.is_finite() || digits > MOST_DIGITS {
        return Ok(number);
    }
    if digits < LEAST_DIGITS {
        return Ok(0.0 * number);
    }
    let (mantissa, exponent) = float_parts(number);
    let mut numerator = mantissa;
    let mut denominator = BigInt::one();
    match exponent {
        0.. => numerator <<= exponent as u32,
        _ => denominator <<= exponent.unsigned_abs(),
    }
    match digits {
        0.. => numerator *= power_of_ten(digits as u32),
        _ => denominator *= power_of_ten(digits.unsigned_abs() as u32),
    }
    let rounded = divide_half_even(&numerator, &denominator);
    let result: f64 = format!("{}e{}", rounded.magnitude(), -digits).parse().expect("a decimal number");
    if result.is_infinite() {
        return Err(Exception::new(ExceptionKind::Overflow, "rounded value too large to represent"));
    }
    Ok(result.copysign(number))
}

fn round_int(number: &BigInt, digits: i64) -> BigInt {
    if digits >= 0 {
        return number.clone();
    }
    // More zeros than the number has digits: nothing is left. (CPython would try to build the power of ten.)
    let zeros = digits.unsigned_abs();
    if zeros > number.bits() / 3 + 2 {
        return BigInt::zero();
    }
    let unit = power_of_ten(zeros as u32);
    divide_half_even(number, &unit) * unit
}

/// `round(value, digits)`, or `round(value)` without digits: exact, ties to even.
pub fn round_half_even(value: &Value, digits: Option<i64>) -> Result<Value> {
    match (ops::number(value), digits) {
        (Some(Number::Int(number)), None) => Ok(Value::Int(number)),
        (Some(Number::Int(number)), Some(digits)) => Ok(Value::Int(round_int(&number, digits))),
        (Some(Number::Float(number)), None) => {
            if number.is_nan() || number.is_infinite() {
                float_to_int(number).map(Value::Int)
            } else {
                float_to_int(number.round_ties_even()).map(Value::Int)
            }
        }
        (Some(Number::Float(number)), Some(digits)) => round_float(number, digits).map(Value::Float),
        (None, _) => Err(Exception::type_error(format!("type {} doesn't define __round__ method", value.type_name()))),
    }
}

/// `round(value, digits)` where `digits` may be anything.
pub fn round(value: &Value, digits: &Value) -> Result<Value> {
    if !value.is_number() || digits.is_none() {
        return round_half_even(value, None);
    }
    let Some(digits) = digits.to_int() else {
        return Err(Exception::type_error(format!(
            "'{}' object cannot be interpreted as an integer",
            digits.type_name()
        )));
    };
    let clipped = digits.to_i64().unwrap_or(if digits.sign() == Sign::Minus { i64::MIN } else { i64::MAX });
    round_half_even(value, Some(clipped))
}

/// `f"{number:.{decimals}f}"`
pub fn format_fixed(number: f64, decimals: usize) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    // Rust writes the exact decimal value rounded half to even, and `inf` as Python does.
    format!("{number:.decimals$}")
}

/// `sum(items)`
pub fn sum(items: &[Value], version: PythonVersion) -> Result<Value> {
    try_sum(items.iter().cloned().map(Ok), version)
}

/// `sum(generator)`, where producing an item may raise.
pub fn try_sum(items: impl IntoIterator<Item = Result<Value>>, version: PythonVersion) -> Result<Value> {
    /// CPython sums small ints and then floats in C, and falls back to `+` for good at the first value that does not fit.
    enum Sum {
        Int(i64),
        Float { sum: f64, compensation: f64 },
        Any(Value),
    }
    let finish = |sum: f64, compensation: f64| {
        if compensation != 0.0 && compensation.is_finite() { sum + compensation } else { sum }
    };
    let mut total = Sum::Int(0);
    for item in items {
        let item = item?;
        total = match total {
            Sum::Int(sum) => match item.as_i64().and_then(|item| sum.checked_add(item)) {
                Some(sum) => Sum::Int(sum),
                None => match ops::add(&Value::int(sum), &item)? {
                    Value::Float(sum) => Sum::Float { sum, compensation: 0.0 },
                    other => Sum::Any(other),
                },
            },
            Sum::Float { sum, mut compensation } => {
                if let Value::Float(item) = item {
                    let next = sum + item;
                    if version == PythonVersion::V3_12 {
                        // Neumaier: keep what the addition lost of the smaller operand.
                        compensation += if sum.abs() >= item.abs() { (sum - next) + item } else { (item - next) + sum };
                    }
                    Sum::Float { sum: next, compensation }
                } else if let Some(item) = item.as_i64() {
                    Sum::Float { sum: sum + item as f64, compensation }
                } else {
                    Sum::Any(ops::add(&Value::Float(finish(sum, compensation)), &item)?)
                }
            }
            Sum::Any(sum) => Sum::Any(ops::add(&sum, &item)?),
        };
    }
    Ok(match total {
        Sum::Int(sum) => Value::int(sum),
        Sum::Float { sum, compensation } => Value::Float(finish(sum, compensation)),
        Sum::Any(value) => value,
    })
}

/// `abs(value)`
pub fn abs(value: &Value) -> Result<Value> {
    match ops::number(value) {
        Some(Number::Int(number)) => Ok(Value::Int(number.magnitude().clone().into())),
        Some(Number::Float(number)) => Ok(Value::Float(number.abs())),
        None => Err(Exception::type_error(format!("bad operand type for abs(): '{}'", value.type_name()))),
    }
}

/// `min(value)`; `minimum` false means `max(value)`.
pub fn extremum(value: &Value, minimum: bool) -> Result<Value> {
    let mut items = ops::iterate(value)?.into_iter();
    let Some(mut best) = items.next() else {
        let name = if minimum { "min" } else { "max" };
        return Err(Exception::value_error(format!("{name}() arg is an empty sequence")));
    };
    for item in items {
        let better = if minimum { ops::lt(&item, &best)? } else { ops::gt(&item, &best)? };
        if better {
            best = item;
        }
    }
    Ok(best)
}

/// Largest result of `int ** int` in bits that is computed: well beyond what can be shown.
const MAX_POWER_BITS: u64 = 1 << 16;

/// `base ** exponent`. A huge `int` result is refused in the words in which CPython would refuse to show it.
pub fn power(base: &Value, exponent: &Value) -> Result<Value> {
    let (Some(left), Some(right)) = (ops::number(base), ops::number(exponent)) else {
        return Err(Exception::type_error(format!(
            "unsupported operand type(s) for ** or pow(): '{}' and '{}'",
            base.type_name(),
            exponent.type_name()
        )));
    };
    match (left, right) {
        (Number::Int(base), Number::Int(exponent)) if exponent.sign() != Sign::Minus => {
            int_power(&base, exponent.magnitude()).map(Value::Int)
        }
        (left, right) => {
            let float = |number: Number| match number {
                Number::Int(number) => ops::int_to_float(&number),
                Number::Float(number) => Ok(number),
            };
            float_power(float(left)?, float(right)?)
        }
    }
}

fn int_power(base: &BigInt, exponent: &BigUint) -> Result<BigInt> {
    if exponent.is_zero() || base.is_one() {
        return Ok(BigInt::one());
    }
    if base.is_zero() {
        return Ok(BigInt::zero());
    }
    if base.magnitude().is_one() {
        return Ok(if exponent.is_even() { BigInt::one() } else { -BigInt::one() });
    }
    let exponent = exponent.to_u32().ok_or_else(too_long_error)?;
    if u64::from(exponent).saturating_mul(base.bits() - 1) > MAX_POWER_BITS {
        return Err(too_long_error());
    }
    Ok(base.pow(exponent))
}

fn float_power(base: f64, exponent: f64) -> Result<Value> {
    if base == 0.0 && exponent < 0.0 && exponent.is_finite() {
        return Err(Exception::new(ExceptionKind::ZeroDivision, "0.0 cannot be raised to a negative power"));
    }
    let overflow = || Exception::new(ExceptionKind::Overflow, "(34, 'Numerical result out of range')");
    let both_finite = base.is_finite() && exponent.is_finite();
    if base < 0.0 && both_finite && exponent.fract() != 0.0 {
        return complex_power(base, exponent);
    }
    let result = base.powf(exponent);
    if both_finite && result.is_infinite() {
        return Err(overflow());
    }
    Ok(Value::Float(result))
}

/// `base ** exponent` where the result is a `complex`: negative base, fractional exponent.
fn complex_power(base: f64, exponent: f64) -> Result<Value> {
    let length = base.abs().powf(exponent);
    // The angle of a negative real number is pi.
    let angle = std::f64::consts::PI * exponent;
    let (real, imaginary) = (length * angle.cos(), length * angle.sin());
    if real.is_infinite() || imaginary.is_infinite() {
        return Err(Exception::new(ExceptionKind::Overflow, "complex exponentiation"));
    }
    Ok(complex(real, imaginary))
}

/// A `complex` with the given parts. Only ever shown, so it is opaque.
fn complex(real: f64, imaginary: f64) -> Value {
    let part = |number: f64| {
        let text = text::float_repr(number);
        text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
    };
    let imaginary_text = part(imaginary);
    let repr = if real == 0.0 && real.is_sign_positive() {
        format!("{imaginary_text}j")
    } else {
        let sign = if imaginary_text.starts_with('-') { "" } else { "+" };
        format!("({}{sign}{imaginary_text}j)", part(real))
    };
    Value::Opaque(super::Opaque { type_name: "complex", repr }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_any_script_count_but_not_all_have_a_decimal_value() {
        assert_eq!(
            (digit_value('7'), digit_value('٣'), digit_value('²'), digit_value('x')),
            (Some(7), Some(3), None, None)
        );
        assert!(is_digit("12") && is_digit("٣²"));
        assert!(!is_digit("") && !is_digit("-1") && !is_digit("½"));
    }

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.expect_err("raises").message
    }

    #[test]
    fn floats_are_read_as_python_reads_them() {
        for (text, expected) in [
            ("1", 1.0),
            (" 1.5\n", 1.5),
            ("1_000.5e1_0", 1000.5e10),
            (".5", 0.5),
            ("5.", 5.0),
            ("-INFINITY", f64::NEG_INFINITY),
            ("\u{661}\u{662}.\u{663}\u{2003}", 12.3),
            ("1e400", f64::INFINITY),
        ] {
            assert_eq!(float(&Value::str(text)), Ok(expected), "{text}");
        }
        for text in ["", "abc", "1__0", "_1", "1_", "1_.0", "0x10", "1e", "e5", ".", "in", "infin", "--1", "1 2", "٣?"]
        {
            let expected = format!("could not convert string to float: '{text}'");
            assert_eq!(message(float(&Value::str(text))), expected);
        }
        assert_eq!(message(float(&Value::None)), "float() argument must be a string or a real number, not 'NoneType'");
    }

    #[test]
    fn ints_are_read_as_python_reads_them() {
        assert_eq!(int(&Value::str(" -1_000 ")), Ok((-1000).into()));
        assert_eq!(int(&Value::str("007")), Ok(7.into()));
        assert_eq!(int(&Value::Float(-2.9)), Ok((-2).into()));
        assert_eq!(message(int(&Value::str("1.5"))), "invalid literal for int() with base 10: '1.5'");
        assert_eq!(message(int(&Value::Float(f64::NAN))), "cannot convert float NaN to integer");
        assert_eq!(
            message(int(&Value::str("1".repeat(5000)))),
            "Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits; use \
             sys.set_int_max_str_digits() to increase the limit"
        );
        assert!(too_long_for_text(&power_of_ten(4300)));
        assert!(!too_long_for_text(&(power_of_ten(4300) - 1)));
    }

    #[test]
    fn rounding_is_exact_and_half_even() {
        for (number, digits, expected) in [
            (2.675, 2, 2.67),
            (0.5, 0, 0.0),
            (1.5, 0, 2.0),
            (2.5, 0, 2.0),
            (0.125, 2, 0.12),
            (1234.5, -2, 1200.0),
            (150.0, -2, 200.0),
            (1e300, -400, 0.0),
            (5e-324, 323, 0.0),
            (5e-324, 324, 5e-324),
        ] {
            assert_eq!(round_float(number, digits), Ok(expected), "round({number}, {digits})");
        }
        assert!(round_float(-0.4, 0).is_ok_and(|zero| zero == 0.0 && zero.is_sign_negative()));
        assert_eq!(message(round_float(f64::MAX, -308)), "rounded value too large to represent");
        assert_eq!(round_half_even(&Value::int(25), Some(-1)), Ok(Value::int(20)));
        assert_eq!(round_half_even(&Value::int(-35), Some(-1)), Ok(Value::int(-40)));
        assert_eq!(round_half_even(&Value::Float(2.5), None), Ok(Value::int(2)));
        assert_eq!(message(round_half_even(&Value::str("1"), None)), "type str doesn't define __round__ method");
    }

    #[test]
    fn fixed_point_text_rounds_half_even() {
        for (number, decimals, expected) in [
            (0.125, 2, "0.12"),
            (0.375, 2, "0.38"),
            (2.5, 0, "2"),
            (0.5, 0, "0"),
            (-0.001, 2, "-0.00"),
            (1e22, 1, "10000000000000000000000.0"),
        ] {
            assert_eq!(format_fixed(number, decimals), expected);
        }
    }

    #[test]
    fn sums_follow_the_python_version() {
        let tenths = vec![Value::Float(0.1); 10];
        assert_eq!(sum(&tenths, PythonVersion::V3_11), Ok(Value::Float(0.999_999_999_999_999_9)));
        assert_eq!(sum(&tenths, PythonVersion::V3_12), Ok(Value::Float(1.0)));
        assert_eq!(
            message(sum(&[Value::str("a")], PythonVersion::V3_12)),
            "unsupported operand type(s) for +: 'int' and 'str'"
        );
    }
}
