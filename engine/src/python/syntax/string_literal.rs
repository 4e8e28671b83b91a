//! What a string token means: prefixes, escapes, bytes.

/// A string token taken apart.
pub(super) struct StringToken {
    /// Between the quotes.
    pub body: Vec<char>,
    pub is_bytes: bool,
    pub is_raw: bool,
    pub is_format: bool,
    /// Written with a `u`.
    pub is_unicode: bool,
}

/// Takes a token apart. `token` is a whole string token: prefix, quotes, text, quotes.
pub(super) fn split(token: &[char]) -> StringToken {
    let prefix_length = token.iter().position(|c| matches!(c, '\'' | '"')).unwrap_or(0);
    let (prefix, quoted) = token.split_at(prefix_length);
    let has = |letter: char| prefix.iter().any(|c| c.eq_ignore_ascii_case(&letter));
    let size = if quoted.len() >= 6 && quoted[1] == quoted[0] && quoted[2] == quoted[0] { 3 } else { 1 };
    StringToken {
        body: quoted.get(size..quoted.len() - size).unwrap_or_default().to_vec(),
        is_bytes: has('b'),
        is_raw: has('r'),
        is_format: has('f'),
        is_unicode: has('u'),
    }
}

/// Replaces the escapes of a `str`. The error is the text of the `SyntaxError`.
pub(super) fn unescape(body: &[char]) -> Result<String, String> {
    if !body.contains(&'\\') {
        return Ok(body.iter().collect());
    }
    let mut units: Vec<u32> = Vec::with_capacity(body.len());
    // CPython counts error positions in a copy of the text where each non-ASCII character is spelled `\U000000e9` and a
    // backslash in front of one is spelled `\u005c`.
    let mut position = 0;
    let mut index = 0;
    while index < body.len() {
        let character = body[index];
        index += 1;
        if character != '\\' {
            units.push(character.into());
            position += if character.is_ascii() { 1 } else { 10 };
            continue;
        }
        let start = position;
        let Some(&escape) = body.get(index) else {
            units.push('\\'.into());
            break;
        };
        if !escape.is_ascii() {
            units.push('\\'.into());
            position += 6;
            continue;
        }
        index += 1;
        position += 2;
        let simple = match escape {
            '\n' => continue,
            '\\' | '\'' | '"' => escape,
            'a' => '\u{7}',
            'b' => '\u{8}',
            't' => '\t',
            'n' => '\n',
            'v' => '\u{b}',
            'f' => '\u{c}',
            'r' => '\r',
            '0'..='7' => {
                let mut code = escape as u32 - '0' as u32;
                for _ in 0..2 {
                    let Some(digit) = body.get(index).and_then(|c| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    index += 1;
                    position += 1;
                }
                units.push(code);
                continue;
            }
            'x' | 'u' | 'U' => {
                let (count, shape) = match escape {
                    'x' => (2, r"truncated \xXX escape"),
                    'u' => (4, r"truncated \uXXXX escape"),
                    _ => (8, r"truncated \UXXXXXXXX escape"),
                };
                let mut code: u32 = 0;
                for _ in 0..count {
                    let Some(digit) = body.get(index).filter(|c| c.is_ascii()).and_then(|c| c.to_digit(16)) else {
                        return Err(unicode_error(start, position, shape));
                    };
                    code = code << 4 | digit;
                    index += 1;
                    position += 1;
                }
                if code > 0x10_ffff {
                    return Err(unicode_error(start, position, "illegal Unicode character"));
                }
                units.push(code);
                continue;
            }
            'N' => {
                let name_length = match body.get(index) {
                    Some('{') => body[index + 1..].iter().position(|&c| c == '}'),
                    _ => None,
                };
                // The table of character names is not here: every name is unknown.
                let width = |c: &char| if c.is_ascii() { 1 } else { 10 };
                return Err(match (body.get(index), name_length) {
                    (Some('{'), Some(length)) if length > 0 => {
                        let end = position + 2 + body[index + 1..=index + length].iter().map(width).sum::<usize>();
                        unicode_error(start, end, "unknown Unicode character name")
                    }
                    (Some('{'), Some(_)) => unicode_error(start, position + 1, r"malformed \N character escape"),
                    (Some('{'), None) => {
                        let end = position + body[index..].iter().map(width).sum::<usize>();
                        unicode_error(start, end, r"malformed \N character escape")
                    }
                    _ => unicode_error(start, position, r"malformed \N character escape"),
                });
            }
            other => {
                units.push('\\'.into());
                other
            }
        };
        units.push(simple.into());
    }
    Ok(join_surrogates(&units))
}

/// `end` is one past the last character that was read.
fn unicode_error(start: usize, end: usize, reason: &str) -> String {
    if end == start + 1 {
        return format!("(unicode error) 'unicodeescape' codec can't decode byte 0x5c in position {start}: {reason}");
    }
    format!("(unicode error) 'unicodeescape' codec can't decode bytes in position {start}-{}: {reason}", end - 1)
}

/// Code points to text. Our text cannot hold a surrogate: a pair becomes its character, a lone one U+FFFD.
fn join_surrogates(units: &[u32]) -> String {
    let mut text = String::with_capacity(units.len());
    let mut index = 0;
    while index < units.len() {
        let unit = units[index];
        index += 1;
        if let (0xd800..=0xdbff, Some(&low @ 0xdc00..=0xdfff)) = (unit, units.get(index)) {
            index += 1;
            let code = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        } else {
            text.push(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
    }
    text
}

/// Replaces the escapes of a `bytes`. The body is ASCII. The error is the text of the `SyntaxError`.
pub(super) fn unescape_bytes(body: &[char]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(body.len());
    let mut index = 0;
    while index < body.len() {
        let character = body[index];
        index += 1;
        let escape = body.get(index).copied();
        if character != '\\' || escape.is_none() {
            bytes.push(character as u8);
            continue;
        }
        let escape = escape.unwrap_or_default();
        index += 1;
        let byte = match escape {
            '\n' => continue,
            '\\' | '\'' | '"' => escape as u8,
            'a' => 7,
            'b' => 8,
            't' => b'\t',
            'n' => b'\n',
            'v' => 0xb,
            'f' => 0xc,
            'r' => b'\r',
            '0'..='7' => {
                let mut code = escape as u32 - '0' as u32;
                for _ in 0..2 {
                    let Some(digit) = body.get(index).and_then(|c| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    index += 1;
                }
                code as u8
            }
            'x' => {
                let digits =
                    (body.get(index).and_then(|c| c.to_digit(16)), body.get(index + 1).and_then(|c| c.to_digit(16)));
                let (Some(high), Some(low)) = digits else {
                    return Err(format!(r"(value error) invalid \x escape at position {}", index - 2));
                };
                index += 2;
                (high * 16 + low) as u8
            }
            other => {
                bytes.push(b'\\');
                other as u8
            }
        };
        bytes.push(byte);
    }
    Ok(bytes)
}

/// `repr` of a `bytes`.
pub(in crate::python) fn bytes_repr(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    let mut text = format!("b{quote}");
    for &byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            byte if char::from(byte) == quote => {
                text.push('\\');
                text.push(quote);
            }
            b' '..=b'~' => text.push(byte.into()),
            byte => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push(quote);
    text
}
