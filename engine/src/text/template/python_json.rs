//! Python's `json.dumps`, as chat templates see it through the filter `tojson`.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use crate::python::text::float_repr;

/// The arguments of `json.dumps` that the filter passes on, with the filter's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Style {
    /// Escape everything beyond ASCII.
    pub ensure_ascii: bool,
    /// Text for each level of nesting; `None`: all on one line.
    pub indent: Option<String>,
    /// Between items, and between key and value; `None`: Python's defaults.
    pub separators: Option<(String, String)>,
    /// Order keys by code points.
    pub sort_keys: bool,
}

/// `json.dumps(value, ensure_ascii=…, indent=…, separators=…, sort_keys=…)`. Fails on what is no JSON, such as an undefined value.
pub(super) fn dumps(value: &Value, style: &Style) -> Result<String, Error> {
    let between = if style.indent.is_some() { "," } else { ", " };
    let (item, key) = style.separators.as_ref().map_or((between, ": "), |(item, key)| (item, key));
    let mut out = String::new();
    Writer { style, item, key }.write(value, 0, &mut out)?;
    Ok(out)
}

struct Writer<'a> {
    style: &'a Style,
    item: &'a str,
    key: &'a str,
}

impl Writer<'_> {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
            ValueKind::Number => out.push_str(&float(f64::try_from(value.clone())?)),
            ValueKind::String => self.write_string(&value.to_string(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_items("[", "]", items, depth, out, |item, out| self.write(&item, depth + 1, out))?;
            }
            ValueKind::Map => {
                let mut entries = Vec::new();
                for key in value.try_iter()? {
                    let name = match key.as_str() {
                        Some(name) => name.to_owned(),
                        // Python writes numbers, booleans and None as keys too.
                        None => dumps(&key, &Style::default())?,
                    };
                    entries.push((name, value.get_item(&key)?));
                }
                if self.style.sort_keys {
                    // Rust orders strings by bytes of UTF-8, which is the order of code points.
                    entries.sort_by(|(left, _), (right, _)| left.cmp(right));
                }
                self.write_items("{", "}", entries, depth, out, |(key, value), out| {
                    self.write_string(&key, out);
                    out.push_str(self.key);
                    self.write(&value, depth + 1, out)
                })?;
            }
            kind => {
                let message = format!("an {kind} value is not JSON serializable");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        }
        Ok(())
    }

    fn write_items<T>(
        &self,
        open: &str,
        close: &str,
        items: Vec<T>,
        depth: usize,
        out: &mut String,
        write: impl Fn(T, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let new_line = |depth: usize, out: &mut String| {
            if let Some(indent) = &self.style.indent {
                out.push('\n');
                out.extend(std::iter::repeat_n(indent.as_str(), depth));
            }
        };
        out.push_str(open);
        let is_empty = items.is_empty();
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                out.push_str(self.item);
            }
            new_line(depth + 1, out);
            write(item, out)?;
        }
        if !is_empty {
            new_line(depth, out);
        }
        out.push_str(close);
        Ok(())
    }

    fn write_string(&self, text: &str, out: &mut String) {
        let json = serde_json::to_string(text).expect("strings serialize");
        if !self.style.ensure_ascii {
            out.push_str(&json);
            return;
        }
        for character in json.chars() {
            if matches!(character, ' '..='~') {
                out.push(character);
            } else {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
}

fn float(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        float_repr(number)
    }
}
