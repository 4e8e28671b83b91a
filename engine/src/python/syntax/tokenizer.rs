//! Text to tokens, one at a time, with CPython 3.11's errors.
//!
//! Tokens are made on demand because that is when CPython meets their errors: `f(a b 'c` is an unterminated string only
//! if the parser, or the check of the rest of the text after a failed parse, reads that far.

use super::words;
use crate::python::printable::is_printable;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Name,
    Number,
    String,
    /// An operator, a bracket or a keyword: a token with only one spelling.
    Fixed(&'static str),
    /// A character that is no token of the language (`$`, `?`, `!`, `` ` ``): read without an error, matched by nothing.
    Stray,
    Newline,
    Indent,
    Dedent,
    End,
    /// Nothing could be read; [`Tokenizer::done`] says why, unless the error is already raised.
    Error,
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub kind: TokenKind,
    /// First character.
    pub start: usize,
    /// One past the last character.
    pub end: usize,
    /// Line of the first character, from 1 (0 for the end of an empty text).
    pub line: usize,
    /// Number of brackets open after this token.
    pub level: usize,
}

/// Why no more tokens come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// More may come.
    No,
    /// The text ended.
    End,
    /// Something other than a line end followed a backslash.
    LineContinuation,
    /// A line goes back to an indentation that no line above has.
    Dedent,
    /// Tabs and spaces are mixed so that the indentation depends on the width of a tab.
    TabSpace,
    /// Too many levels of indentation.
    TooDeep,
    /// An error with its own words was raised.
    Raised,
}

/// An error with its own words, and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub message: String,
    pub line: usize,
}

/// CPython allows 200 open brackets and 100 levels of indentation.
const MAX_LEVEL: usize = 200;
const MAX_INDENT: usize = 100;

pub(super) struct Tokenizer {
    pub characters: Vec<char>,
    position: usize,
    /// End of the part of the text that was read, always at a line's end: reading a line counts it.
    loaded: usize,
    /// Number of lines read.
    pub line: usize,
    at_line_start: bool,
    /// Columns of the open indentations, by tabs of 8 and by tabs of 1.
    indents: Vec<(usize, usize)>,
    /// Indents (positive) or dedents (negative) not yet handed out.
    pending: isize,
    /// The open brackets and their lines.
    pub brackets: Vec<(char, usize)>,
    pub done: Done,
    pub problem: Option<Problem>,
}

impl Tokenizer {
    /// `text` with `\r\n` and `\r` already made `\n`.
    pub fn new(characters: Vec<char>) -> Self {
        Self {
            characters,
            position: 0,
            loaded: 0,
            line: 0,
            at_line_start: true,
            indents: vec![(0, 0)],
            pending: 0,
            brackets: Vec::new(),
            done: Done::No,
            problem: None,
        }
    }

    fn next(&mut self) -> Option<char> {
        if self.position == self.loaded {
            if self.done != Done::No {
                return None;
            }
            if self.loaded == self.characters.len() {
                self.done = Done::End;
                return None;
            }
            self.line += 1;
            let rest = &self.characters[self.loaded..];
            self.loaded += rest.iter().position(|&c| c == '\n').map_or(rest.len(), |index| index + 1);
        }
        self.position += 1;
        Some(self.characters[self.position - 1])
    }

    /// Unreads what [`Tokenizer::next`] gave.
    fn back(&mut self, character: Option<char>) {
        if character.is_some() {
            self.position -= 1;
        }
    }

    fn raise(&mut self, message: impl Into<String>) -> TokenKind {
        self.problem = Some(Problem { message: message.into(), line: self.line });
        self.done = Done::Raised;
        TokenKind::Error
    }

    fn stop(&mut self, done: Done) -> TokenKind {
        self.done = done;
        self.position = self.loaded;
        TokenKind::Error
    }

    /// The next token. After the end (or an error) it repeats itself.
    pub fn token(&mut self) -> Token {
        let mut start = self.position;
        let mut first_line = None;
        let kind = self.read(&mut start, &mut first_line);
        Token { kind, start, end: self.position, line: first_line.unwrap_or(self.line), level: self.brackets.len() }
    }

    /// Reads what follows a backslash; false where that is not a line end with something behind it.
    fn continue_line(&mut self) -> bool {
        if self.next() != Some('\n') {
            self.done = Done::LineContinuation;
            return false;
        }
        let following = self.next();
        if following.is_none() {
            self.done = Done::End;
            self.position = self.loaded;
            return false;
        }
        self.back(following);
        true
    }

    /// Reads a line's indentation. `Ok(true)`: the line is blank.
    fn indentation(&mut self) -> Result<bool, TokenKind> {
        let (mut column, mut narrow) = (0, 0);
        let mut continued_column = 0;
        let first = loop {
            match self.next() {
                Some(' ') => {
                    column += 1;
                    narrow += 1;
                }
                Some('\t') => {
                    column = (column / 8 + 1) * 8;
                    narrow += 1;
                }
                Some('\u{c}') => (column, narrow) = (0, 0),
                Some('\\') => {
                    // The first backslash fixes the indentation of what comes after it.
                    if continued_column == 0 {
                        continued_column = column;
                    }
                    if !self.continue_line() {
                        return Err(TokenKind::Error);
                    }
                }
                other => break other,
            }
        };
        self.back(first);
        if matches!(first, Some('#' | '\n')) {
            return Ok(true);
        }
        if !self.brackets.is_empty() {
            return Ok(false);
        }
        if continued_column > 0 {
            (column, narrow) = (continued_column, continued_column);
        }
        let (open, open_narrow) = *self.indents.last().expect("the outermost indentation stays");
        if column == open {
            if narrow != open_narrow {
                return Err(self.stop(Done::TabSpace));
            }
        } else if column > open {
            if self.indents.len() >= MAX_INDENT {
                return Err(self.stop(Done::TooDeep));
            }
            if narrow <= open_narrow {
                return Err(self.stop(Done::TabSpace));
            }
            self.pending += 1;
            self.indents.push((column, narrow));
        } else {
            while self.indents.len() > 1 && self.indents.last().is_some_and(|&(open, _)| column < open) {
                self.pending -= 1;
                self.indents.pop();
            }
            let (open, open_narrow) = *self.indents.last().expect("the outermost indentation stays");
            if column != open {
                return Err(self.stop(Done::Dedent));
            }
            if narrow != open_narrow {
                return Err(self.stop(Done::TabSpace));
            }
        }
        Ok(false)
    }

    fn read(&mut self, start: &mut usize, first_line: &mut Option<usize>) -> TokenKind {
        'line: loop {
            let mut blank = false;
            if self.at_line_start {
                self.at_line_start = false;
                match self.indentation() {
                    Ok(is_blank) => blank = is_blank,
                    Err(error) => return error,
                }
            }
            *start = self.position;
            if self.pending < 0 {
                self.pending += 1;
                return TokenKind::Dedent;
            }
            if self.pending > 0 {
                self.pending -= 1;
                return TokenKind::Indent;
            }
            loop {
                let mut c = self.next();
                while matches!(c, Some(' ' | '\t' | '\u{c}')) {
                    c = self.next();
                }
                *start = if c.is_some() { self.position - 1 } else { self.position };
                if c == Some('#') {
                    while !matches!(c, None | Some('\n')) {
                        c = self.next();
                    }
                }
                let Some(character) = c else {
                    return if self.brackets.is_empty() && self.done == Done::End {
                        TokenKind::End
                    } else {
                        TokenKind::Error
                    };
                };
                return match character {
                    'a'..='z' | 'A'..='Z' | '_' | '\u{80}'.. => self.word(character, *start, first_line),
                    '\n' => {
                        self.at_line_start = true;
                        if blank || !self.brackets.is_empty() {
                            continue 'line;
                        }
                        TokenKind::Newline
                    }
                    '.' => self.period(),
                    '0'..='9' => self.number(character),
                    '\'' | '"' => self.string(character, first_line),
                    '\\' => {
                        if self.continue_line() {
                            continue;
                        }
                        TokenKind::Error
                    }
                    other => self.operator(other),
                };
            }
        }
    }

    /// A name, a keyword, or a string with a prefix.
    fn word(&mut self, first: char, start: usize, first_line: &mut Option<usize>) -> TokenKind {
        let mut c = Some(first);
        let (mut bytes, mut raw, mut unicode, mut format) = (false, false, false, false);
        loop {
            match c {
                Some('b' | 'B') if !(bytes || unicode || format) => bytes = true,
                Some('u' | 'U') if !(bytes || unicode || raw || format) => unicode = true,
                Some('r' | 'R') if !(raw || unicode) => raw = true,
                Some('f' | 'F') if !(format || bytes || unicode) => format = true,
                _ => break,
            }
            c = self.next();
            if let Some(quote @ ('\'' | '"')) = c {
                return self.string(quote, first_line);
            }
        }
        while c.is_some_and(is_word_character) {
            c = self.next();
        }
        self.back(c);
        let text = &self.characters[start..self.position];
        if text.iter().all(char::is_ascii) {
            let word: String = text.iter().collect();
            return words::keyword(&word).map_or(TokenKind::Name, TokenKind::Fixed);
        }
        let invalid = text.iter().enumerate().find_map(|(index, &character)| {
            let valid = match index {
                0 => character == '_' || unicode_ident::is_xid_start(character),
                _ => unicode_ident::is_xid_continue(character),
            };
            // The table of names may be of a later Unicode than Python's: what Python does not know it does not print.
            (!valid || !is_printable(character)).then_some(character)
        });
        match invalid {
            None => TokenKind::Name,
            Some(character) if is_printable(character) => {
                self.raise(format!("invalid character '{character}' (U+{:04X})", u32::from(character)))
            }
            Some(character) => self.raise(format!("invalid non-printable character U+{:04X}", u32::from(character))),
        }
    }

    fn period(&mut self) -> TokenKind {
        let second = self.next();
        if second.is_some_and(|c| c.is_ascii_digit()) {
            return self.fraction(second);
        }
        if second == Some('.') {
            let third = self.next();
            if third == Some('.') {
                return TokenKind::Fixed("...");
            }
            self.back(third);
        }
        self.back(second);
        TokenKind::Fixed(".")
    }

    fn number(&mut self, first: char) -> TokenKind {
        if first != '0' {
            return match self.decimal_tail() {
                Ok(Some('.')) => {
                    let c = self.next();
                    self.fraction(c)
                }
                Ok(c) => self.exponent(c),
                Err(error) => error,
            };
        }
        let mut c = self.next();
        match c {
            Some('x' | 'X') => return self.radix("hexadecimal", 16),
            Some('o' | 'O') => return self.radix("octal", 8),
            Some('b' | 'B') => return self.radix("binary", 2),
            _ => {}
        }
        // `0` and `00` are numbers, `07` is not, `07.5` is.
        loop {
            if c == Some('_') {
                c = self.next();
                if !c.is_some_and(|c| c.is_ascii_digit()) {
                    self.back(c);
                    return self.raise("invalid decimal literal");
                }
            }
            if c != Some('0') {
                break;
            }
            c = self.next();
        }
        let mut nonzero = false;
        if c.is_some_and(|c| c.is_ascii_digit()) {
            nonzero = true;
            c = match self.decimal_tail() {
                Ok(c) => c,
                Err(error) => return error,
            };
        }
        match c {
            Some('.') => {
                let c = self.next();
                self.fraction(c)
            }
            Some('e' | 'E' | 'j' | 'J') => self.exponent(c),
            _ if nonzero => {
                self.back(c);
                self.raise(
                    "leading zeros in decimal integer literals are not permitted; use an 0o prefix for octal integers",
                )
            }
            _ => self.end_number(c, "decimal"),
        }
    }

    /// The digits behind `0x`, `0o` or `0b`.
    fn radix(&mut self, name: &str, radix: u32) -> TokenKind {
        let mut c = self.next();
        loop {
            if c == Some('_') {
                c = self.next();
            }
            match c {
                Some(digit) if digit.is_digit(radix) => {}
                Some(digit) if digit.is_ascii_digit() => {
                    return self.raise(format!("invalid digit '{digit}' in {name} literal"));
                }
                _ => {
                    self.back(c);
                    return self.raise(format!("invalid {name} literal"));
                }
            }
            while c.is_some_and(|c| c.is_digit(radix)) {
                c = self.next();
            }
            if c != Some('_') {
                break;
            }
        }
        if let Some(digit) = c.filter(char::is_ascii_digit) {
            return self.raise(format!("invalid digit '{digit}' in {name} literal"));
        }
        self.end_number(c, name)
    }

    /// The digits behind a digit; gives the character behind them.
    fn decimal_tail(&mut self) -> Result<Option<char>, TokenKind> {
        loop {
            let mut c = self.next();
            while c.is_some_and(|c| c.is_ascii_digit()) {
                c = self.next();
            }
            if c != Some('_') {
                return Ok(c);
            }
            c = self.next();
            if !c.is_some_and(|c| c.is_ascii_digit()) {
                self.back(c);
                return Err(self.raise("invalid decimal literal"));
            }
        }
    }

    /// What follows a number's point; `c` is the first character.
    fn fraction(&mut self, mut c: Option<char>) -> TokenKind {
        if c.is_some_and(|c| c.is_ascii_digit()) {
            c = match self.decimal_tail() {
                Ok(c) => c,
                Err(error) => return error,
            };
        }
        self.exponent(c)
    }

    /// The exponent, if `c` starts one, and a `j`.
    fn exponent(&mut self, mut c: Option<char>) -> TokenKind {
        if matches!(c, Some('e' | 'E')) {
            let letter = c;
            c = self.next();
            if matches!(c, Some('+' | '-')) {
                c = self.next();
                if !c.is_some_and(|c| c.is_ascii_digit()) {
                    self.back(c);
                    return self.raise("invalid decimal literal");
                }
            } else if !c.is_some_and(|c| c.is_ascii_digit()) {
                // `1else`: the `e` belongs to a keyword.
                self.back(c);
                return self.end_number(letter, "decimal");
            }
            c = match self.decimal_tail() {
                Ok(c) => c,
                Err(error) => return error,
            };
        }
        if matches!(c, Some('j' | 'J')) {
            c = self.next();
            return self.end_number(c, "imaginary");
        }
        self.end_number(c, "decimal")
    }

    /// Checks the character `c` behind a number and unreads it: only a keyword may follow without a gap.
    fn end_number(&mut self, c: Option<char>, name: &str) -> TokenKind {
        let keyword = match c {
            Some('a') => self.follows("nd"),
            Some('e') => self.follows("lse"),
            Some('f') => self.follows("or"),
            Some('i') => self.characters.get(self.position).is_some_and(|c| matches!(c, 'f' | 'n' | 's')),
            Some('o') => self.follows("r"),
            Some('n') => self.follows("ot"),
            _ => false,
        };
        if !keyword && c.is_some_and(|c| c.is_ascii() && is_word_character(c)) {
            self.back(c);
            return self.raise(format!("invalid {name} literal"));
        }
        self.back(c);
        TokenKind::Number
    }

    /// Whether the rest of a word follows, and the word ends there.
    fn follows(&self, rest: &str) -> bool {
        let mut position = self.position;
        for character in rest.chars() {
            if self.characters.get(position) != Some(&character) {
                return false;
            }
            position += 1;
        }
        !self.characters.get(position).copied().is_some_and(is_word_character)
    }

    /// A string from behind its first quote.
    fn string(&mut self, quote: char, first_line: &mut Option<usize>) -> TokenKind {
        let first = self.line;
        *first_line = Some(first);
        let mut size = 1;
        let mut closing = 0;
        let mut c = self.next();
        if c == Some(quote) {
            c = self.next();
            if c == Some(quote) {
                size = 3;
            } else {
                closing = 1;
            }
        }
        if c != Some(quote) {
            self.back(c);
        }
        while closing != size {
            match self.next() {
                end @ (None | Some('\n')) if end.is_none() || size == 1 => {
                    let kind = if size == 3 { "triple-quoted string" } else { "string" };
                    let message = format!("unterminated {kind} literal (detected at line {})", self.line);
                    self.line = first;
                    return self.raise(message);
                }
                Some(character) if character == quote => closing += 1,
                Some(character) => {
                    closing = 0;
                    if character == '\\' {
                        self.next();
                    }
                }
                None => unreachable!("the first arm takes the end"),
            }
        }
        TokenKind::String
    }

    fn operator(&mut self, first: char) -> TokenKind {
        // The characters behind are really read: meeting the end of the text shows in later errors.
        let second = self.next();
        if let Some(operator) = second.and_then(|second| words::long_operator(&[first, second])) {
            let third = self.next();
            let longer = third.zip(second).and_then(|(third, second)| words::long_operator(&[first, second, third]));
            return TokenKind::Fixed(longer.filter(|longer| longer.len() == 3).unwrap_or_else(|| {
                self.back(third);
                operator
            }));
        }
        self.back(second);
        match first {
            '(' | '[' | '{' => {
                if self.brackets.len() >= MAX_LEVEL {
                    return self.raise("too many nested parentheses");
                }
                self.brackets.push((first, self.line));
            }
            ')' | ']' | '}' => {
                let Some((opening, line)) = self.brackets.pop() else {
                    return self.raise(format!("unmatched '{first}'"));
                };
                if !matches!((opening, first), ('(', ')') | ('[', ']') | ('{', '}')) {
                    let place = if line == self.line { String::new() } else { format!(" on line {line}") };
                    return self.raise(format!(
                        "closing parenthesis '{first}' does not match opening parenthesis '{opening}'{place}"
                    ));
                }
            }
            _ => {}
        }
        if !is_printable(first) {
            return self.raise(format!("invalid non-printable character U+{:04X}", u32::from(first)));
        }
        words::operator(first).map_or(TokenKind::Stray, TokenKind::Fixed)
    }
}

/// What may follow in a word; whether a non-ASCII character really may is checked at the word's end.
fn is_word_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || !character.is_ascii()
}
