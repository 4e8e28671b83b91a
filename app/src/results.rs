//! Result texts made readable.

use serde_json::Value as Json;

/// A result longer than this (in characters) is folded.
const FOLD_CHARS: usize = 220;
/// A result with more lines than this is folded.
const FOLD_LINES: usize = 6;

/// A result text, ready to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readable {
    /// The whole text; indented when it is a JSON object or list that does not fit on a line.
    pub full: String,
    /// The beginning on one line, if the text is long enough to be folded.
    pub preview: Option<String>,
}

/// Makes a result text readable.
pub fn readable(content: &str) -> Readable {
    let full = match serde_json::from_str::<Json>(content) {
        Ok(json @ (Json::Object(_) | Json::Array(_))) if content.chars().count() > 96 => {
            serde_json::to_string_pretty(&json).unwrap_or_else(|_| content.to_owned())
        }
        _ => content.to_owned(),
    };
    let is_long = content.chars().count() > FOLD_CHARS || content.lines().count() > FOLD_LINES;
    let preview = is_long.then(|| shorten(content, 140));
    Readable { full, preview }
}

/// The text on one line, cut after `limit` characters.
pub fn shorten(text: &str, limit: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A JSON value on one line, for a leaf of the state tree or a table cell.
pub fn inline(value: &Json, limit: usize) -> String {
    shorten(&value.to_string(), limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_json_is_indented_and_folded() {
        assert_eq!(readable("None"), Readable { full: "None".into(), preview: None });
        assert_eq!(readable(r#"{"a": 1}"#).full, r#"{"a": 1}"#);
        let long = format!(r#"{{"text": "{}"}}"#, "é ".repeat(200));
        let shown = readable(&long);
        assert!(shown.full.starts_with("{\n  \"text\""));
        assert!(shown.preview.unwrap().ends_with('…'));
    }
}
