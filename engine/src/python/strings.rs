//! Methods of `str` that Rust's standard library does differently.

/// `str.isspace` for one character: Unicode white space and the four information separators.
pub(crate) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// `text.split()`: the words between runs of white space.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `text.splitlines()`: more than `\n` ends a line, and the end of the text ends no line of its own.
pub fn splitlines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some(end) = rest.find(is_line_end) else {
            lines.push(rest);
            break;
        };
        lines.push(&rest[..end]);
        let tail = &rest[end..];
        let ending = if tail.starts_with("\r\n") { 2 } else { tail.chars().next().map_or(0, char::len_utf8) };
        rest = &tail[ending..];
    }
    lines
}

fn is_line_end(character: char) -> bool {
    matches!(character, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// `text.zfill(width)`: zeros go after a leading sign.
pub fn zfill(text: &str, width: usize) -> String {
    let zeros = "0".repeat(width.saturating_sub(text.chars().count()));
    match text.strip_prefix(['+', '-']) {
        Some(digits) => format!("{}{zeros}{digits}", &text[..1]),
        None => zeros + text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_in_python() {
        assert_eq!(
            splitlines("a\r\nb\rc\n\nd\u{b}e\u{c}f\u{1c}g\u{85}h\u{2029}"),
            ["a", "b", "c", "", "d", "e", "f", "g", "h"]
        );
        assert_eq!(splitlines("a\u{1f}b\n"), ["a\u{1f}b"]);
        assert_eq!(splitlines("\n"), [""]);
        assert!(splitlines("").is_empty());
    }

    #[test]
    fn words_split_as_in_python() {
        assert_eq!(split(" a\u{1f}b\u{3000}c\n\u{200b}").collect::<Vec<_>>(), ["a", "b", "c", "\u{200b}"]);
    }

    #[test]
    fn zeros_fill_after_the_sign() {
        assert_eq!(zfill("5", 3), "005");
        assert_eq!(zfill("-5", 3), "-05");
        assert_eq!(zfill("12345", 3), "12345");
    }
}
