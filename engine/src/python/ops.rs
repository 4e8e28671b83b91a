//! Python's operators and builtins on [`Value`]s, with Python's exceptions in Python's words.
//!
//! Only what the worlds need. `num-bigint` and `f64` do the arithmetic; this module decides types and messages.

use std::cmp::Ordering;

use num_bigint::{BigInt, Sign};
use num_traits::{FromPrimitive, ToPrimitive, Zero};

use super::exception::{Exception, ExceptionKind, Result};
use super::value::Value;

/// A number after Python's coercions.
#[derive(Clone, Debug)]
pub enum Number {
    /// `int` or `bool`
    Int(BigInt),
    /// `float`
    Float(f64),
}

/// The number in `value`, if it is one (`bool` counts as `int`).
pub fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Float(number) => Some(Number::Float(*number)),
        other => other.to_int().map(Number::Int),
    }
}

/// `float(int)` as arithmetic does it: an `OverflowError` when too large.
pub fn int_to_float(number: &BigInt) -> Result<f64> {
    match number.to_f64() {
        Some(float) if float.is_finite() => Ok(float),
        _ => Err(Exception::new(ExceptionKind::Overflow, "int too large to convert to float")),
    }
}

fn to_float(number: &Number) -> Result<f64> {
    match number {
        Number::Int(number) => int_to_float(number),
        Number::Float(number) => Ok(*number),
    }
}

fn unsupported(operator: &str, left: &Value, right: &Value) -> Exception {
    Exception::type_error(format!(
        "unsupported operand type(s) for {operator}: '{}' and '{}'",
        left.type_name(),
        right.type_name()
    ))
}

/// `left + right`
pub fn add(left: &Value, right: &Value) -> Result<Value> {
    if let (Some(a), Some(b)) = (number(left), number(right)) {
        return Ok(match (a, b) {
            (Number::Int(a), Number::Int(b)) => Value::Int(a + b),
            (a, b) => Value::Float(to_float(&a)? + to_float(&b)?),
        });
    }
    match (left, right) {
        (Value::Str(a), Value::Str(b)) => Ok(Value::str(format!("{a}{b}"))),
        (Value::List(a), Value::List(b)) => Ok(Value::list(a.iter().chain(b.iter()).cloned())),
        (Value::Tuple(a), Value::Tuple(b)) => Ok(Value::tuple(a.iter().chain(b.iter()).cloned())),
        (Value::Str(_) | Value::List(_) | Value::Tuple(_), _) => Err(Exception::type_error(format!(
            "can only concatenate {0} (not \"{1}\") to {0}",
            left.type_name(),
            right.type_name()
        ))),
        _ => Err(unsupported("+", left, right)),
    }
}

/// `left += right`: as `+`, except that a list takes the items of anything iterable and that errors say `+=`.
pub fn add_assign(left: &mut Value, right: &Value) -> Result<()> {
    if let Value::List(items) = left {
        let more = iterate(right)?;
        std::sync::Arc::make_mut(items).extend(more);
        return Ok(());
    }
    let is_concatenation = matches!(left, Value::Str(_) | Value::Tuple(_));
    if !is_concatenation && (number(left).is_none() || number(right).is_none()) {
        return Err(unsupported("+=", left, right));
    }
    *left = add(left, right)?;
    Ok(())
}

/// `left - right`
pub fn sub(left: &Value, right: &Value) -> Result<Value> {
    match (number(left), number(right)) {
        (Some(Number::Int(a)), Some(Number::Int(b))) => Ok(Value::Int(a - b)),
        (Some(a), Some(b)) => Ok(Value::Float(to_float(&a)? - to_float(&b)?)),
        _ => Err(unsupported("-", left, right)),
    }
}

/// `target -= operand`: as [`sub`], but messages name `-=`.
pub fn sub_assign(target: &mut Value, operand: &Value) -> Result<()> {
    *target = sub(target, operand).map_err(|exception| match exception.kind {
        // A TypeError of `-` can only be the unsupported pair; an OverflowError is the same for both forms.
        ExceptionKind::Type => unsupported("-=", target, operand),
        _ => exception,
    })?;
    Ok(())
}

/// Longest sequence that `*` may build: beyond it Python would need gigabytes, and so would we.
const MAX_REPEATED_LEN: usize = 1 << 24;

/// `left * right`
pub fn mul(left: &Value, right: &Value) -> Result<Value> {
    if let (Some(a), Some(b)) = (number(left), number(right)) {
        return Ok(match (a, b) {
            (Number::Int(a), Number::Int(b)) => Value::Int(a * b),
            (a, b) => Value::Float(to_float(&a)? * to_float(&b)?),
        });
    }
    let is_sequence = |value: &Value| matches!(value, Value::Str(_) | Value::List(_) | Value::Tuple(_));
    let (sequence, count) = match (is_sequence(left), is_sequence(right)) {
        (true, _) => (left, right),
        (false, true) => (right, left),
        (false, false) => return Err(unsupported("*", left, right)),
    };
    let Some(count) = count.to_int() else {
        return Err(Exception::type_error(format!(
            "can't multiply sequence by non-int of type '{}'",
            count.type_name()
        )));
    };
    let count = if count.sign() == Sign::Minus { 0 } else { count.to_usize().unwrap_or(usize::MAX) };
    let memory_error = || Exception::new(ExceptionKind::Other, "");
    let within = |len: usize| len.checked_mul(count).filter(|len| *len <= MAX_REPEATED_LEN).ok_or_else(memory_error);
    Ok(match sequence {
        Value::Str(text) => {
            within(text.len())?;
            Value::str(text.repeat(count))
        }
        Value::List(items) => Value::list(
            std::iter::repeat_n(items.as_slice(), within(items.len())? / items.len().max(1)).flatten().cloned(),
        ),
        Value::Tuple(items) => Value::tuple(
            std::iter::repeat_n(items.as_slice(), within(items.len())? / items.len().max(1)).flatten().cloned(),
        ),
        _ => unreachable!("checked to be a sequence"),
    })
}

/// `left / right`
pub fn truediv(left: &Value, right: &Value) -> Result<Value> {
    let zero = |message: &str| Exception::new(ExceptionKind::ZeroDivision, message);
    match (number(left), number(right)) {
        (Some(Number::Int(a)), Some(Number::Int(b))) => {
            if b.is_zero() {
                return Err(zero("division by zero"));
            }
            int_truediv(&a, &b).map(Value::Float)
        }
        (Some(a), Some(b)) => {
            let (a, b) = (to_float(&a)?, to_float(&b)?);
            if b == 0.0 {
                return Err(zero("float division by zero"));
            }
            Ok(Value::Float(a / b))
        }
        _ => Err(unsupported("/", left, right)),
    }
}

/// `int / int`: the correctly rounded quotient, whatever the size of the operands.
fn int_truediv(a: &BigInt, b: &BigInt) -> Result<f64> {
    const EXACT: u64 = 1 << 53;
    if a.magnitude() <= &EXACT.into() && b.magnitude() <= &EXACT.into() {
        // Both are exact as floats, so that one rounding remains.
        return Ok(a.to_f64().expect("below 2^53") / b.to_f64().expect("below 2^53"));
    }
    let negative = (a.sign() == Sign::Minus) != (b.sign() == Sign::Minus);
    let (a, b) = (a.magnitude(), b.magnitude());
    let signed = |magnitude: f64| if negative { -magnitude } else { magnitude };
    if a.is_zero() {
        return Ok(signed(0.0));
    }
    let overflow = || Exception::new(ExceptionKind::Overflow, "integer division result too large for a float");
    let scaled = |shift: i64| if shift >= 0 { (a << shift, b.clone()) } else { (a.clone(), b << -shift) };
    let difference = a.bits() as i64 - b.bits() as i64;
    let (mantissa, shift) = if difference <= -1022 {
        // The result may be subnormal: count its last places at once, so that it is rounded only once.
        const LAST_PLACE: i64 = 1074;
        if difference < -LAST_PLACE - 1 {
            return Ok(signed(0.0));
        }
        let (numerator, denominator) = scaled(LAST_PLACE);
        (super::number::divide_half_even(&numerator.into(), &denominator.into()).to_f64(), LAST_PLACE)
    } else {
        // Scale so that the quotient has at least 66 bits, keep a sticky bit, and let to_f64 round to nearest even.
        let shift = 66 - difference;
        let (numerator, denominator) = scaled(shift);
        let mut quotient = &numerator / &denominator;
        if &quotient * &denominator != numerator {
            quotient |= num_bigint::BigUint::from(1_u8);
        }
        (quotient.to_f64(), shift)
    };
    // The power of two may itself be out of range; half of it is not unless the result is.
    let half = i32::try_from(-shift / 2).map_err(|_| overflow())?;
    let rest = i32::try_from(-shift - i64::from(half)).map_err(|_| overflow())?;
    let result = mantissa.ok_or_else(overflow)? * 2_f64.powi(half) * 2_f64.powi(rest);
    if result.is_infinite() {
        return Err(overflow());
    }
    Ok(signed(result))
}

/// `<`, `<=`, `>` and `>=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    fn symbol(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    fn holds(self, ordering: Option<Ordering>) -> bool {
        match self {
            Self::Less => ordering == Some(Ordering::Less),
            Self::LessOrEqual => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
            Self::Greater => ordering == Some(Ordering::Greater),
            Self::GreaterOrEqual => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// `left < right` and its kin.
pub fn compare(left: &Value, comparison: Comparison, right: &Value) -> Result<bool> {
    if let (Some(a), Some(b)) = (number(left), number(right)) {
        return Ok(comparison.holds(compare_numbers(&a, &b)));
    }
    match (left, right) {
        // By code point, which is also the order of UTF-8 bytes.
        (Value::Str(a), Value::Str(b)) => Ok(comparison.holds(Some(a.cmp(b)))),
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            match a.iter().zip(b.iter()).find(|(a, b)| a != b) {
                Some((a, b)) => compare(a, comparison, b),
                None => Ok(comparison.holds(Some(a.len().cmp(&b.len())))),
            }
        }
        _ => Err(Exception::type_error(format!(
            "'{}' not supported between instances of '{}' and '{}'",
            comparison.symbol(),
            left.type_name(),
            right.type_name()
        ))),
    }
}

/// `left < right`
pub fn lt(left: &Value, right: &Value) -> Result<bool> {
    compare(left, Comparison::Less, right)
}

/// `left <= right`
pub fn le(left: &Value, right: &Value) -> Result<bool> {
    compare(left, Comparison::LessOrEqual, right)
}

/// `left > right`
pub fn gt(left: &Value, right: &Value) -> Result<bool> {
    compare(left, Comparison::Greater, right)
}

/// `left >= right`
pub fn ge(left: &Value, right: &Value) -> Result<bool> {
    compare(left, Comparison::GreaterOrEqual, right)
}

fn compare_numbers(a: &Number, b: &Number) -> Option<Ordering> {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => Some(a.cmp(b)),
        (Number::Float(a), Number::Float(b)) => a.partial_cmp(b),
        (Number::Int(a), Number::Float(b)) => compare_int_float(a, *b),
        (Number::Float(a), Number::Int(b)) => compare_int_float(b, *a).map(Ordering::reverse),
    }
}

/// Exact, as in Python: no rounding of the int.
fn compare_int_float(int: &BigInt, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if float.is_infinite() {
        return Some(if float > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let whole = BigInt::from_f64(float.trunc()).expect("finite");
    Some(int.cmp(&whole).then_with(|| 0.0.partial_cmp(&float.fract()).expect("finite")))
}

/// `len(value)`
pub fn len(value: &Value) -> Result<usize> {
    match value {
        Value::Str(text) => Ok(text.chars().count()),
        Value::List(items) | Value::Tuple(items) => Ok(items.len()),
        Value::Dict(dict) => Ok(dict.len()),
        other => Err(Exception::type_error(format!("object of type '{}' has no len()", other.type_name()))),
    }
}

/// `needle in haystack`
pub fn contains(haystack: &Value, needle: &Value) -> Result<bool> {
    match haystack {
        Value::Str(text) => match needle {
            Value::Str(part) => Ok(text.contains(part.as_ref())),
            other => Err(Exception::type_error(format!(
                "'in <string>' requires string as left operand, not {}",
                other.type_name()
            ))),
        },
        Value::List(items) | Value::Tuple(items) => Ok(items.contains(needle)),
        Value::Dict(dict) => {
            needle.check_hashable()?;
            Ok(dict.get_value(needle).is_some())
        }
        other => Err(Exception::type_error(format!("argument of type '{}' is not iterable", other.type_name()))),
    }
}

/// `container[key]`
pub fn get_item(container: &Value, key: &Value) -> Result<Value> {
    let index = |len: usize, what: &str| -> Result<usize> {
        let Some(index) = key.to_int() else {
            return Err(Exception::type_error(format!(
                "{what} indices must be integers{}, not {}",
                if what == "string" { "" } else { " or slices" },
                if what == "string" { format!("'{}'", key.type_name()) } else { key.type_name().to_owned() }
            )));
        };
        let index = if index.sign() == Sign::Minus { index + len } else { index };
        index
            .to_usize()
            .filter(|index| *index < len)
            .ok_or_else(|| Exception::new(ExceptionKind::Index, format!("{what} index out of range")))
    };
    match container {
        Value::Dict(dict) => {
            key.check_hashable()?;
            dict.get_value(key).cloned().ok_or_else(|| Exception::key_error(key))
        }
        Value::List(items) => Ok(items[index(items.len(), "list")?].clone()),
        Value::Tuple(items) => Ok(items[index(items.len(), "tuple")?].clone()),
        Value::Str(text) => {
            let index = index(text.chars().count(), "string")?;
            Ok(Value::str(text.chars().nth(index).expect("within range").to_string()))
        }
        other => Err(Exception::type_error(format!("'{}' object is not subscriptable", other.type_name()))),
    }
}

/// `container[key]` for a string key.
pub fn get_key(container: &Value, key: &str) -> Result<Value> {
    get_item(container, &Value::str(key))
}

/// `container[key]` for changing it in place. Refuses as [`get_item`] does, and what cannot be changed as [`set_item`].
pub fn item_mut<'a>(container: &'a mut Value, key: &Value) -> Result<&'a mut Value> {
    get_item(container, key)?;
    let type_name = container.type_name();
    let item = match container {
        Value::Dict(dict) => std::sync::Arc::make_mut(dict).get_value_mut(key),
        Value::List(items) => {
            let len = items.len();
            let index = key.to_int().map(|index| if index.sign() == Sign::Minus { index + len } else { index });
            index.and_then(|index| std::sync::Arc::make_mut(items).get_mut(index.to_usize()?))
        }
        _ => None,
    };
    item.ok_or_else(|| Exception::type_error(format!("'{type_name}' object does not support item assignment")))
}

/// `container[key] = value` for dicts and lists.
pub fn set_item(container: &mut Value, key: Value, value: Value) -> Result<()> {
    match container {
        Value::Dict(dict) => {
            key.check_hashable()?;
            std::sync::Arc::make_mut(dict).set(key, value);
            Ok(())
        }
        Value::List(items) => {
            let Some(index) = key.to_int() else {
                return Err(Exception::type_error(format!(
                    "list indices must be integers or slices, not {}",
                    key.type_name()
                )));
            };
            let index = if index.sign() == Sign::Minus { index + items.len() } else { index };
            let items = std::sync::Arc::make_mut(items);
            let slot = index.to_usize().and_then(|index| items.get_mut(index));
            *slot.ok_or_else(|| Exception::new(ExceptionKind::Index, "list assignment index out of range"))? = value;
            Ok(())
        }
        other => Err(Exception::type_error(format!("'{}' object does not support item assignment", other.type_name()))),
    }
}

/// The items that `for item in value` goes through.
pub fn iterate(value: &Value) -> Result<Vec<Value>> {
    match value {
        Value::Str(text) => Ok(text.chars().map(|character| Value::str(character.to_string())).collect()),
        Value::List(items) | Value::Tuple(items) => Ok(items.to_vec()),
        Value::Dict(dict) => Ok(dict.keys().cloned().collect()),
        other => Err(Exception::type_error(format!("'{}' object is not iterable", other.type_name()))),
    }
}

/// The text on which a `str` method is called, or `'{type}' object has no attribute '{method}'`.
pub fn text_for<'a>(value: &'a Value, method: &str) -> Result<&'a str> {
    value.as_str().ok_or_else(|| Exception::no_attribute(value, method))
}

/// The dict on which a `dict` method is called, or `'{type}' object has no attribute '{method}'`.
pub fn dict_for<'a>(value: &'a Value, method: &str) -> Result<&'a super::value::Dict> {
    value.as_dict().ok_or_else(|| Exception::no_attribute(value, method))
}

/// The list on which a `list` method is called (for changing), or `'{type}' object has no attribute '{method}'`.
pub fn list_for<'a>(value: &'a mut Value, method: &str) -> Result<&'a mut Vec<Value>> {
    if value.as_list().is_none() {
        return Err(Exception::no_attribute(value, method));
    }
    Ok(value.as_list_mut().expect("checked to be a list"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_place_operators_name_themselves() {
        let mut number = Value::int(1);
        add_assign(&mut number, &Value::Float(0.5)).unwrap();
        assert_eq!(number, Value::Float(1.5));
        let message = |result: Result<()>| result.unwrap_err().message;
        assert_eq!(
            message(add_assign(&mut number, &Value::None)),
            "unsupported operand type(s) for +=: 'float' and 'NoneType'"
        );
        assert_eq!(
            message(sub_assign(&mut Value::str("a"), &Value::int(1))),
            "unsupported operand type(s) for -=: 'str' and 'int'"
        );
        let mut list = Value::list([]);
        assert_eq!(message(add_assign(&mut list, &Value::int(1))), "'int' object is not iterable");
        add_assign(&mut list, &Value::str("ab")).unwrap();
        assert_eq!(list, Value::list([Value::str("a"), Value::str("b")]));
    }

    #[test]
    fn items_change_in_place() {
        let mut cards = Value::dict([("card", Value::list([Value::int(1), Value::int(2)]))]);
        let card = item_mut(&mut cards, &Value::str("card")).unwrap();
        *item_mut(card, &Value::int(-1)).unwrap() = Value::None;
        assert_eq!(cards, Value::dict([("card", Value::list([Value::int(1), Value::None]))]));
        assert_eq!(item_mut(&mut cards, &Value::int(5)).unwrap_err().message, "5");
        assert_eq!(
            item_mut(&mut Value::str("ab"), &Value::int(0)).unwrap_err().message,
            "'str' object does not support item assignment"
        );
    }
}
