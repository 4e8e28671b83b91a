//! How Python writes values: `str`, `repr`, `json.dumps` and fixed-point formatting.

use std::fmt::Write as _;

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

fn write_repr(out: &mut String, value: &Value) {
    match value {
        Value::None => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(number) => write!(out, "{number}").expect("writing to a String cannot fail"),
        Value::Float(number) => out.push_str(&float_repr(*number)),
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

/// `str.isprintable` for one character: false for Unicode categories Cc, Cf, Cs, Co, Cn, Zl, Zp and Zs except the space.
fn is_printable(character: char) -> bool {
    match character {
        ' '..='~' => true,
        '\0'..='\u{a0}' | '\u{ad}' => false,
        // Rust's Debug escapes the same categories (plus grapheme extenders at the start of a string).
        c => !c.is_whitespace() && (c.escape_debug().count() == 1 || is_grapheme_extender(c)),
    }
}

/// `char::escape_debug` also escapes combining marks, which Python prints; no mark is unassigned or a control.
fn is_grapheme_extender(character: char) -> bool {
    let mut text = String::from("a");
    text.push(character);
    // Inside a string, after another character, extenders are not escaped, all the rest is.
    text.escape_debug().count() == 2
}

/// `repr` of a `float`: the shortest text that reads back, in Python's layout (`1e+16`, `1e-05`, `1.0`).
pub fn float_repr(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("LowerExp always has an exponent");
    let exponent: i32 = exponent.parse().expect("LowerExp's exponent is a number");
    if (-4..16).contains(&exponent) {
        let plain = format!("{number}");
        if plain.contains('.') { plain } else { plain + ".0" }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{mantissa}e{sign}{:02}", exponent.abs())
    }
}

/// Why `json.dumps` refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

/// `json.dumps(value)` with Python's defaults (`ensure_ascii`, `", "` and `": "`, `NaN` and `Infinity` allowed).
pub fn json_dumps(value: &Value) -> Result<String, NotJson> {
    let mut out = String::new();
    write_json(&mut out, value)?;
    Ok(out)
}

fn write_json(out: &mut String, value: &Value) -> Result<(), NotJson> {
    match value {
        Value::None => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Int(number) => write!(out, "{number}").expect("writing to a String cannot fail"),
        Value::Float(number) => out.push_str(&json_float(*number)),
        Value::Str(text) => write_json_str(out, text),
        Value::List(items) | Value::Tuple(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_json(out, item)?;
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
                    Value::Float(number) => write_json_str(out, &json_float(*number)),
                    Value::Bool(true) => out.push_str("\"true\""),
                    Value::Bool(false) => out.push_str("\"false\""),
                    Value::None => out.push_str("\"null\""),
                    Value::Int(number) => write!(out, "\"{number}\"").expect("writing to a String cannot fail"),
                    _ => return Err(NotJson),
                }
                out.push_str(": ");
                write_json(out, value)?;
            }
            out.push('}');
        }
        Value::Opaque(_) => return Err(NotJson),
    }
    Ok(())
}

fn json_float(number: f64) -> String {
    if number.is_nan() {
        "NaN".into()
    } else if number == f64::INFINITY {
        "Infinity".into()
    } else if number == f64::NEG_INFINITY {
        "-Infinity".into()
    } else {
        float_repr(number)
    }
}

fn write_json_str(out: &mut String, text: &str) {
    out.push('"');
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
/// JSON refuses), anything else its `str`.
pub fn result_text(value: &Value) -> String {
    match value {
        Value::Dict(_) => json_dumps(value).unwrap_or_else(|NotJson| str(value)),
        other => str(other),
    }
}
