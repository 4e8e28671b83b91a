//! The fast way for the calls that nearly all texts are: `name(key='text', other=5, items=['a', 1.5])` and nothing odd.
//!
//! Architecture invariant: what is read here means exactly what the full parser makes of it. Whatever is in the least
//! unusual (escapes, prefixes, underscores in numbers, keywords, mistakes) is left to the full parser.

use super::super::call::Arguments;
use super::super::value::{Dict, Value};
use super::words;

/// Nesting beyond this is left to the full parser.
const MAX_DEPTH: usize = 8;

/// The function's name and its arguments, if the text is a plain call.
pub(super) fn plain_call(text: &str) -> Option<(&str, Arguments)> {
    let mut reader = Reader { text, bytes: text.as_bytes(), index: 0 };
    let name = reader.name()?;
    reader.expect(b'(')?;
    let mut arguments = Arguments::default();
    reader.skip_spaces();
    while reader.peek()? != b')' {
        match reader.keyword() {
            Some(keyword) => {
                if arguments.keywords.iter().any(|(known, _)| known == keyword) {
                    return None;
                }
                let value = reader.value(0)?;
                arguments.keywords.push((keyword.to_owned(), value));
            }
            None if arguments.keywords.is_empty() => arguments.positional.push(reader.value(0)?),
            None => return None,
        }
        reader.separator(b')')?;
    }
    reader.index += 1;
    (reader.index == reader.bytes.len()).then_some((name, arguments))
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    index: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.index).copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.index += 1)
    }

    fn skip_spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.index += 1;
        }
    }

    /// After an item: a comma, or the closing bracket (which is not taken).
    fn separator(&mut self, close: u8) -> Option<()> {
        self.skip_spaces();
        match self.peek()? {
            b',' => {
                self.index += 1;
                self.skip_spaces();
                Some(())
            }
            byte => (byte == close).then_some(()),
        }
    }

    /// An identifier that is no keyword and has no special meaning.
    fn name(&mut self) -> Option<&'a str> {
        let start = self.index;
        let length =
            self.bytes[start..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        let word = &self.text[start..start + length];
        let is_name = word.bytes().next()?.is_ascii_alphabetic() && words::keyword(word).is_none();
        is_name.then(|| {
            self.index += length;
            word
        })
    }

    /// `name=`; takes nothing if that is not what comes.
    fn keyword(&mut self) -> Option<&'a str> {
        let start = self.index;
        let name = self.name();
        self.skip_spaces();
        match name {
            Some(name) if self.peek() == Some(b'=') && self.bytes.get(self.index + 1) != Some(&b'=') => {
                self.index += 1;
                self.skip_spaces();
                Some(name)
            }
            _ => {
                self.index = start;
                None
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.peek()? {
            b'\'' | b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b'[' => {
                self.index += 1;
                self.skip_spaces();
                let mut items = Vec::new();
                while self.peek()? != b']' {
                    items.push(self.value(depth + 1)?);
                    self.separator(b']')?;
                }
                self.index += 1;
                Some(Value::list(items))
            }
            b'{' => {
                self.index += 1;
                self.skip_spaces();
                let mut dict = Dict::new();
                while self.peek()? != b'}' {
                    let key = self.string()?;
                    self.skip_spaces();
                    self.expect(b':')?;
                    self.skip_spaces();
                    dict.set(key, self.value(depth + 1)?);
                    self.separator(b'}')?;
                }
                self.index += 1;
                Some(Value::Dict(dict.into()))
            }
            _ => {
                let length = self.bytes[self.index..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
                let value = match &self.text[self.index..self.index + length] {
                    "True" => Value::Bool(true),
                    "False" => Value::Bool(false),
                    "None" => Value::None,
                    _ => return None,
                };
                self.index += length;
                Some(value)
            }
        }
    }

    /// A string without escapes. Brackets in it are left to the full parser: the harness may have closed gaps there.
    fn string(&mut self) -> Option<Value> {
        let quote = self.peek().filter(|byte| matches!(byte, b'\'' | b'"'))?;
        let start = self.index + 1;
        let length =
            self.bytes[start..].iter().position(|byte| matches!(byte, b'\\' | b'(' | ..b' ') || *byte == quote)?;
        let end = start + length;
        // `''` may be the start of a triple quote.
        let is_plain = self.bytes[end] == quote && self.bytes.get(end + 1) != Some(&quote);
        is_plain.then(|| {
            self.index = end + 1;
            Value::str(&self.text[start..end])
        })
    }

    /// Digits, perhaps with a sign in front and a fraction behind.
    fn number(&mut self) -> Option<Value> {
        let start = self.index;
        if self.peek() == Some(b'-') {
            self.index += 1;
        }
        let whole = self.digits();
        let has_leading_zero = whole > 1 && self.bytes[self.index - whole] == b'0';
        if whole == 0 || whole > 18 || has_leading_zero {
            return None;
        }
        let is_float = self.peek() == Some(b'.');
        if is_float {
            self.index += 1;
            if self.digits() == 0 {
                return None;
            }
        }
        let text = &self.text[start..self.index];
        // What follows a number may still belong to it (`1e5`, `1_000`, `1j`).
        if !matches!(self.peek()?, b' ' | b',' | b')' | b']' | b'}') {
            return None;
        }
        if is_float { text.parse().ok().map(Value::Float) } else { text.parse::<i64>().ok().map(Value::int) }
    }

    fn digits(&mut self) -> usize {
        let length = self.bytes[self.index..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.index += length;
        length
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Evaluated, evaluate_in_full};
    use super::plain_call;
    use proptest::prelude::*;

    /// What is read the fast way must be what the full parser reads. Returns whether it was read at all.
    fn agrees(text: &str) -> bool {
        let Some((name, arguments)) = plain_call(text) else { return false };
        let Ok(Evaluated::Call(call)) = evaluate_in_full(text, |_| true) else {
            panic!("{text} is no call for the full parser")
        };
        assert_eq!(call.name, name, "{text}");
        // `repr`, as `1 == 1.0 == True`.
        let shown = |arguments: &super::Arguments| format!("{arguments:?}");
        assert_eq!(shown(&call.arguments), shown(&arguments), "{text}");
        true
    }

    #[test]
    fn plain_calls_are_read_as_the_full_parser_reads_them() {
        for text in [
            "ls()",
            "cd(folder='document')",
            "cd('document')",
            "f(a=1, b=-2.50, c=\"x'y\", d=[1, 'a', [True]], e={'k': None}, f=0, g=-0, h=-0.0)",
            "f( a = 1 , b=[ ] , c={ } , )",
            "f(1, 'é', x='日本', y='')",
            "f(x=999999999999999999)",
        ] {
            assert!(agrees(text), "{text}");
        }
    }

    #[test]
    fn odd_calls_are_left_to_the_full_parser() {
        for text in [
            "",
            "ls",
            "ls(",
            "ls()()",
            "ls ()",
            " ls()",
            "ls() ",
            "ls(,)",
            "f(a=1, 2)",
            "f(a=1, a=2)",
            "f(if=1)",
            "f(a==1)",
            "f('a' 'b')",
            "f(''')",
            "f('''a''')",
            "f('\\n')",
            "f('a (b)')",
            "f(1_0)",
            "f(007)",
            "f(1e5)",
            "f(1.)",
            "f(.5)",
            "f(1j)",
            "f(+1)",
            "f(--1)",
            "f(a.b)",
            "f(x)",
            "f(*a)",
            "f(**a)",
            "f([1 2])",
            "f([,])",
            "f({1: 2})",
            "f((1,))",
            "None()",
            "if()",
            "__debug__()",
            "f(0x1)",
            "f('a\nb')",
            "f(1if 1else 2)",
        ] {
            assert!(plain_call(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_call_text_is_read_alike(text in r#"f\(([a-c]{0,2}=?['"]?[ -~]{0,4}['"]?,? ?){0,4}\)"#) {
            agrees(&text);
        }

        #[test]
        fn any_literal_is_read_alike(text in r#"f\([a-c]=[-0-9.eE_TrueNo'"\[\]{}:, ]{0,12}\)"#) {
            agrees(&text);
        }
    }
}
