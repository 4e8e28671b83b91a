//! How Python writes values: `str`, `repr`, `json.dumps` and fixed-point formatting.

use std::fmt::Write as _;
use std::sync::Arc;

use num_bigint::BigInt;
use num_traits::ToPrimitive;
use rustc_hash::FxHashMap;

use super::exception::{Exception, Result};
use super::number;
use super::printable::is_printable;
use super::value::Value;

/// `str(value)`
pub fn str(value: &Value) -> String {
    match value {
        Value::Str(text) => text.to_string(),
        other => repr(other),
    }
}

/// `repr(value)`
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    write_repr(&mut out, value);
    out
}

/// `repr(value)`, which CPython refuses for an `int` of more than 4300 digits.
pub fn try_repr(value: &Value) -> Result<String> {
    check_int_lengths(value, &SharedJson::default())?;
    Ok(repr(value))
}

/// `str(value)`, which CPython refuses for an `int` of more than 4300 digits.
pub fn try_str(value: &Value) -> Result<String> {
    check_int_lengths(value, &SharedJson::default())?;
    Ok(str(value))
}

fn check_int_lengths(value: &Value, shared: &SharedJson) -> Result<()> {
    match value {
        Value::Int(number) if number::too_long_for_text(number) => Err(number::too_long_error()),
        Value::List(items) | Value::Tuple(items) if shared.get(items).is_none() => {
            items.iter().try_for_each(|item| check_int_lengths(item, shared))
        }
        Value::Dict(dict) => dict.iter().try_for_each(|(key, value)| {
            check_int_lengths(key, shared)?;
            check_int_lengths(value, shared)
        }),
        _ => Ok(()),
    }
}

fn write_repr(out: &mut String, value: &Value) {
    match value {
        Value::None => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(number) => write_int(out, number),
        Value::Float(number) => write_float(out, *number),
        Value::Str(text) => write_str_repr(out, text),
        Value::List(items) => {
            out.push('[');
            write_items(out, items);
            out.push(']');
        }
        Value::Tuple(items) => {
            out.push('(');
            write_items(out, items);
            if items.len() == 1 {
                out.push(',');
            }
            out.push(')');
        }
        Value::Dict(dict) => {
            out.push('{');
            for (index, (key, value)) in dict.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(out, key);
                out.push_str(": ");
                write_repr(out, value);
            }
            out.push('}');
        }
        Value::Opaque(opaque) => out.push_str(&opaque.repr),
    }
}

fn write_items(out: &mut String, items: &[Value]) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_repr(out, item);
    }
}

/// `repr` of a `str`: single quotes unless the text has them and no double quotes; what is not printable is escaped.
fn write_str_repr(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    if is_plain(text, quote as u8) {
        out.push_str(text);
        out.push(quote);
        return;
    }
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c => {
                let code = c as u32;
                let written = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
                written.expect("writing to a String cannot fail");
            }
        }
    }
    out.push(quote);
}

fn write_int(out: &mut String, number: &BigInt) {
    match number.to_i64() {
        Some(number) => write!(out, "{number}"),
        None => write!(out, "{number}"),
    }
    .expect("writing to a String cannot fail");
}

/// `repr` of a `float`: the shortest text that reads back, in Python's layout (`1e+16`, `1e-05`, `1.0`).
pub fn float_repr(number: f64) -> String {
    let mut out = String::new();
    write_float(&mut out, number);
    out
}

fn write_float(out: &mut String, number: f64) {
    if number.is_nan() {
        out.push_str("nan");
    } else if number.is_infinite() {
        out.push_str(if number > 0.0 { "inf" } else { "-inf" });
    } else if !write_short_float(out, number) {
        write_any_float(out, number);
    }
}

/// The fast way for numbers with at most four decimals, which prices, scores and temperatures mostly are. False, with
/// nothing written, for others.
fn write_short_float(out: &mut String, number: f64) -> bool {
    const SCALE: f64 = 1e4;
    let magnitude = number.abs();
    // Up to here the scaled number has at most 15 digits. No two texts of at most 15 digits are one float, so the one
    // that reads back is the shortest.
    if magnitude >= 1e11 {
        return false;
    }
    let scaled = (magnitude * SCALE).round();
    if scaled / SCALE != magnitude {
        return false;
    }
    // Digits from the back: four decimals without trailing zeros (but at least one), the point, the whole part.
    let mut buffer = [b'0'; 20];
    let mut start = buffer.len();
    let mut end = buffer.len();
    let mut rest = scaled as u64;
    for place in 0..4 {
        start -= 1;
        buffer[start] += (rest % 10) as u8;
        if place < 3 && end == start + 1 && rest.is_multiple_of(10) {
            end = start;
        }
        rest /= 10;
    }
    start -= 1;
    buffer[start] = b'.';
    loop {
        start -= 1;
        buffer[start] += (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number.is_sign_negative() {
        start -= 1;
        buffer[start] = b'-';
    }
    out.push_str(std::str::from_utf8(&buffer[start..end]).expect("digits are ASCII"));
    true
}

fn write_any_float(out: &mut String, number: f64) {
    let scientific = shortest_scientific(number);
    let (mantissa, exponent) = scientific.split_once('e').expect("LowerExp always has an exponent");
    let exponent: i32 = exponent.parse().expect("LowerExp's exponent is a number");
    if !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{mantissa}e{sign}{:02}", exponent.abs()).expect("writing to a String cannot fail");
        return;
    }
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let digits = mantissa.replace('.', "");
    match usize::try_from(exponent) {
        Err(_) => write!(out, "{sign}0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1)),
        Ok(exponent) if digits.len() > exponent + 1 => {
            let (whole, fraction) = digits.split_at(exponent + 1);
            write!(out, "{sign}{whole}.{fraction}")
        }
        Ok(exponent) => write!(out, "{sign}{digits:0<width$}.0", width = exponent + 1),
    }
    .expect("writing to a String cannot fail");
}

/// The shortest scientific notation that reads back as `number`. Where two are equally close, Python takes the one with
/// the even last digit; Rust's own shortest text takes the larger.
fn shortest_scientific(number: f64) -> String {
    let shortest = format!("{number:e}");
    let digits = shortest.split('e').next().map_or(0, |mantissa| mantissa.bytes().filter(u8::is_ascii_digit).count());
    // No two texts of at most 15 digits are one (normal) float: there is nothing to choose from.
    if digits <= 15 && number.is_normal() {
        return shortest;
    }
    // Rounded half to even from the exact value.
    let nearest = format!("{number:.*e}", digits.saturating_sub(1));
    if nearest != shortest && nearest.parse() == Ok(number) { nearest } else { shortest }
}

/// Why `json.dumps` refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

/// JSON of long lists that many results repeat, made once. It holds the lists, so that no other can take their place.
#[derive(Clone, Debug, Default)]
pub struct SharedJson(FxHashMap<usize, (Arc<Vec<Value>>, String)>);

impl SharedJson {
    /// The JSON of those values that are lists.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a Value>) -> Self {
        let entry = |value: &Value| match value {
            Value::List(items) => {
                let json = json_dumps(value).ok()?;
                Some((Arc::as_ptr(items) as usize, (items.clone(), json)))
            }
            _ => None,
        };
        Self(values.into_iter().filter_map(entry).collect())
    }

    fn get(&self, items: &Arc<Vec<Value>>) -> Option<&str> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(Arc::as_ptr(items) as usize)).map(|(_, json)| json.as_str())
    }
}

/// `json.dumps(value)` with Python's defaults (`ensure_ascii`, `", "` and `": "`, `NaN` and `Infinity` allowed).
pub fn json_dumps(value: &Value) -> std::result::Result<String, NotJson> {
    json_dumps_with(value, &SharedJson::default())
}

fn json_dumps_with(value: &Value, shared: &SharedJson) -> std::result::Result<String, NotJson> {
    let mut out = String::with_capacity(128);
    write_json(&mut out, value, shared)?;
    Ok(out)
}

fn write_json(out: &mut String, value: &Value, shared: &SharedJson) -> std::result::Result<(), NotJson> {
    match value {
        Value::None => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Int(number) => write_int(out, number),
        Value::Float(number) => write_json_float(out, *number),
        Value::Str(text) => write_json_str(out, text),
        Value::List(items) | Value::Tuple(items) => {
            if let Some(json) = shared.get(items) {
                out.push_str(json);
                return Ok(());
            }
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_json(out, item, shared)?;
            }
            out.push(']');
        }
        Value::Dict(dict) => {
            out.push('{');
            for (index, (key, value)) in dict.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                match key {
                    Value::Str(text) => write_json_str(out, text),
                    Value::Float(number) => {
                        out.push('"');
                        write_json_float(out, *number);
                        out.push('"');
                    }
                    Value::Bool(true) => out.push_str("\"true\""),
                    Value::Bool(false) => out.push_str("\"false\""),
                    Value::None => out.push_str("\"null\""),
                    Value::Int(number) => write!(out, "\"{number}\"").expect("writing to a String cannot fail"),
                    _ => return Err(NotJson),
                }
                out.push_str(": ");
                write_json(out, value, shared)?;
            }
            out.push('}');
        }
        Value::Opaque(_) => return Err(NotJson),
    }
    Ok(())
}

fn write_json_float(out: &mut String, number: f64) {
    if number.is_nan() {
        out.push_str("NaN");
    } else if number.is_infinite() {
        out.push_str(if number > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        write_float(out, number);
    }
}

/// Whether the text is printable ASCII without the quote and backslashes. (No early end: that makes it much faster.)
fn is_plain(text: &str, quote: u8) -> bool {
    !text.bytes().fold(false, |odd, byte| odd | !matches!(byte, b' '..=b'~') | (byte == quote) | (byte == b'\\'))
}

fn write_json_str(out: &mut String, text: &str) {
    out.push('"');
    if is_plain(text, b'"') {
        out.push_str(text);
        out.push('"');
        return;
    }
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(character),
            other => {
                let mut units = [0; 2];
                for unit in other.encode_utf16(&mut units) {
                    write!(out, "\\u{unit:04x}").expect("writing to a String cannot fail");
                }
            }
        }
    }
    out.push('"');
}

/// What the official harness makes of a method's return value: a `str` as it is, a `dict` as JSON (or its `str` where
/// JSON refuses), anything else its `str`. An `int` that is too long to be shown fails in both, and the harness then
/// reports that as the result.
pub fn result_text(value: &Value) -> String {
    result_text_with(value, &SharedJson::default())
}

/// [`result_text`], with the JSON of some lists at hand.
pub fn result_text_with(value: &Value, shared: &SharedJson) -> String {
    if let Err(Exception { message, .. }) = check_int_lengths(value, shared) {
        return format!("Error during execution: {message}");
    }
    match value {
        Value::Dict(_) => json_dumps_with(value, shared).unwrap_or_else(|NotJson| str(value)),
        other => str(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_cpython_writes_them() {
        for (number, expected) in [
            (0.1, "0.1"),
            (-0.0, "-0.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (123_456.0, "123456.0"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (5e-324, "5e-324"),
            (f64::NEG_INFINITY, "-inf"),
            // Two shortest texts are equally close: the even digit wins.
            (3_172_979_666_707_379.25, "3172979666707379.0"),
            (6_345_959_333_413_165.0 / 4.0, "1586489833353291.2"),
            (11_126_905.578_125 / 64.0, "173857.89965820312"),
            // 2^-44: the nearest text of that length, …801e-14, does not read back.
            (5.684_341_886_080_802e-14, "5.684341886080802e-14"),
        ] {
            assert_eq!(float_repr(number), expected);
        }
    }

    #[test]
    fn the_fast_way_writes_floats_as_the_general_one() {
        let mut checked = 0;
        for whole in [0.0, 1.0, 7.0, 10.0, 99.0, 100.0, 12_345.0, 99_999_999_999.0] {
            for ten_thousandths in [0.0, 1.0, 9.0, 10.0, 99.0, 100.0, 120.0, 1000.0, 2500.0, 5000.0, 9999.0] {
                for number in [whole + ten_thousandths / 1e4, -(whole + ten_thousandths / 1e4)] {
                    let (mut fast, mut general) = (String::new(), String::new());
                    if write_short_float(&mut fast, number) {
                        write_any_float(&mut general, number);
                        assert_eq!(fast, general);
                        checked += 1;
                    }
                }
            }
        }
        assert!(checked > 150, "{checked}");
    }

    #[test]
    fn texts_are_quoted_as_cpython_quotes_them() {
        for (text, expected) in [
            ("it's", "\"it's\""),
            ("'\"", "'\\'\"'"),
            ("\n\u{0}\u{a0}é\u{200b}\u{e0001}", "'\\n\\x00\\xa0é\\u200b\\U000e0001'"),
        ] {
            assert_eq!(repr(&Value::str(text)), expected);
        }
    }
}
