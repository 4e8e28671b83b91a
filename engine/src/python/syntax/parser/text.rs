//! String tokens to nodes: joining what stands side by side, and f-strings with the expressions in them.

use super::super::string_literal;
use super::{Constant, Kind, NodeId, Parsed, Parser, Raised, Rule, Start, Token, TokenKind};

impl Parser {
    pub(super) fn strings(&mut self) -> Parsed<NodeId> {
        self.memo(Rule::Strings, |parser| {
            let line = parser.line()?;
            let mut tokens = Vec::new();
            while parser.token()?.kind == TokenKind::String {
                tokens.push(parser.token()?);
                parser.position += 1;
            }
            parser.join_strings(line, &tokens)
        })
    }

    pub(super) fn join_strings(&mut self, line: usize, tokens: &[Token]) -> Parsed<NodeId> {
        let mut text = String::new();
        let mut bytes = Vec::new();
        let mut bytes_before = None;
        let mut is_format = false;
        let mut prefixed = None;
        let mut expressions = Vec::new();
        for &token in tokens {
            let string = string_literal::split(&self.tokenizer.characters[token.start..token.end]);
            prefixed.get_or_insert(string.is_unicode);
            if string.is_bytes && !string.body.iter().all(char::is_ascii) {
                return Err(self.raise(token.line, "bytes can only contain ASCII literal characters"));
            }
            if bytes_before.is_some_and(|before| before != string.is_bytes) {
                return Err(self.raise_here("cannot mix bytes and nonbytes literals"));
            }
            bytes_before = Some(string.is_bytes);
            let ascii = |body: &[char]| body.iter().map(|&c| c as u8).collect::<Vec<_>>();
            let part = match (string.is_bytes, string.is_format) {
                (true, _) if string.is_raw => {
                    bytes.extend(ascii(&string.body));
                    Ok(())
                }
                (true, _) => string_literal::unescape_bytes(&string.body).map(|part| bytes.extend(part)),
                (false, true) => {
                    is_format = true;
                    let mut position = 0;
                    self.format_parts(&string, token.line, &mut position, 0, &mut text, &mut expressions)?;
                    Ok(())
                }
                (false, false) if string.is_raw => {
                    text.extend(&string.body);
                    Ok(())
                }
                (false, false) => string_literal::unescape(&string.body).map(|part| text.push_str(&part)),
            };
            if let Err(message) = part {
                return Err(self.raise_here(message));
            }
        }
        let kind = if is_format {
            Kind::Format { text, expressions }
        } else if bytes_before == Some(true) {
            Kind::Constant(Constant::Bytes(bytes))
        } else {
            Kind::Constant(Constant::Str { text: text.into(), prefixed: prefixed == Some(true) })
        };
        self.node(line, kind)
    }

    /// The parts of an f-string from `position` on; inside a format specification (`nesting` > 0) up to its `}`.
    pub(super) fn format_parts(
        &mut self,
        string: &string_literal::StringToken,
        line: usize,
        position: &mut usize,
        nesting: usize,
        text: &mut String,
        expressions: &mut Vec<NodeId>,
    ) -> std::result::Result<(), Raised> {
        let body = &string.body;
        let mut literal: Vec<char> = Vec::new();
        loop {
            let current = body.get(*position).copied();
            let following = body.get(*position + 1).copied();
            match current {
                Some('\\') if !string.is_raw && following.is_some() => {
                    literal.push('\\');
                    *position += 1;
                    // A brace behind a backslash is still a brace; the braces of `\N{name}` are not.
                    if following == Some('N') && body.get(*position + 1) == Some(&'{') {
                        while let Some(&c) = body.get(*position) {
                            literal.push(c);
                            *position += 1;
                            if c == '}' {
                                break;
                            }
                        }
                    } else if !matches!(following, Some('{' | '}')) {
                        literal.extend(following);
                        *position += 1;
                    }
                    continue;
                }
                Some(brace @ ('{' | '}')) if nesting == 0 && following == Some(brace) => {
                    literal.push(brace);
                    *position += 2;
                    continue;
                }
                Some('}') if nesting == 0 => return Err(self.raise_here("f-string: single '}' is not allowed")),
                Some(character) if !matches!(character, '{' | '}') => {
                    literal.push(character);
                    *position += 1;
                    continue;
                }
                _ => {}
            }
            let part = if string.is_raw { Ok(literal.iter().collect()) } else { string_literal::unescape(&literal) };
            match part {
                Ok(part) => text.push_str(&part),
                Err(message) => return Err(self.raise_here(message)),
            }
            literal.clear();
            if current != Some('{') {
                return Ok(());
            }
            self.format_expression(string, line, position, nesting, text, expressions)?;
        }
    }

    /// One `{expression!r:spec}`, from its `{`.
    pub(super) fn format_expression(
        &mut self,
        string: &string_literal::StringToken,
        line: usize,
        position: &mut usize,
        nesting: usize,
        text: &mut String,
        expressions: &mut Vec<NodeId>,
    ) -> std::result::Result<(), Raised> {
        let body = &string.body;
        if nesting >= 2 {
            return Err(self.raise_here("f-string: expressions nested too deeply"));
        }
        *position += 1;
        let start = *position;
        let mut quote: Option<(char, usize)> = None;
        let mut brackets: Vec<char> = Vec::new();
        while let Some(&character) = body.get(*position) {
            if character == '\\' {
                return Err(self.raise_here("f-string expression part cannot include a backslash"));
            }
            let triple = body[*position..].len() >= 3 && body[*position..*position + 3].iter().all(|&c| c == character);
            if let Some((open, size)) = quote {
                if character == open && size == 1 {
                    quote = None;
                } else if character == open && triple {
                    *position += 2;
                    quote = None;
                }
                *position += 1;
                continue;
            }
            match character {
                '\'' | '"' => {
                    quote = Some((character, if triple { 3 } else { 1 }));
                    *position += if triple { 2 } else { 0 };
                }
                '(' | '[' | '{' => brackets.push(character),
                '#' => return Err(self.raise_here("f-string expression part cannot include '#'")),
                '!' | ':' | '}' | '=' | '<' | '>' if brackets.is_empty() => {
                    if matches!(character, '!' | '=' | '<' | '>') && body.get(*position + 1) == Some(&'=') {
                        *position += 2;
                        continue;
                    }
                    if !matches!(character, '<' | '>') {
                        break;
                    }
                }
                ')' | ']' | '}' => match brackets.pop() {
                    None => return Err(self.raise_here(format!("f-string: unmatched '{character}'"))),
                    Some('(') if character == ')' => {}
                    Some('[') if character == ']' => {}
                    Some('{') if character == '}' => {}
                    Some(opening) => {
                        return Err(self.raise_here(format!(
                            "f-string: closing parenthesis '{character}' does not match opening parenthesis \
                             '{opening}'"
                        )));
                    }
                },
                _ => {}
            }
            *position += 1;
        }
        if quote.is_some() {
            return Err(self.raise_here("f-string: unterminated string"));
        }
        if let Some(opening) = brackets.last() {
            return Err(self.raise_here(format!("f-string: unmatched '{opening}'")));
        }
        if *position >= body.len() {
            return Err(self.raise_here("f-string: expecting '}'"));
        }
        let inside = &body[start..*position];
        if inside.iter().all(|c| matches!(c, ' ' | '\t' | '\n' | '\u{c}' | '\r')) {
            return Err(self.raise_here(match body[*position] {
                '}' => "f-string: empty expression not allowed".to_owned(),
                other => format!("f-string: expression required before '{other}'"),
            }));
        }
        expressions.push(self.parse_format_expression(inside, line)?);
        if body.get(*position) == Some(&'=') {
            *position += 1;
            while body.get(*position).is_some_and(|c| c.is_ascii_whitespace()) {
                *position += 1;
            }
        }
        if body.get(*position) == Some(&'!') {
            let Some(conversion) = body.get(*position + 1) else {
                return Err(self.raise_here("f-string: expecting '}'"));
            };
            if !matches!(conversion, 's' | 'r' | 'a') {
                return Err(self.raise_here("f-string: invalid conversion character: expected 's', 'r', or 'a'"));
            }
            *position += 2;
        }
        if body.get(*position) == Some(&':') {
            *position += 1;
            self.format_parts(string, line, position, nesting + 1, text, expressions)?;
        }
        if body.get(*position) != Some(&'}') {
            return Err(self.raise_here("f-string: expecting '}'"));
        }
        *position += 1;
        Ok(())
    }

    pub(super) fn parse_format_expression(
        &mut self,
        text: &[char],
        line: usize,
    ) -> std::result::Result<NodeId, Raised> {
        // Brackets, so that the expression may go over several lines.
        let mut bracketed = vec!['('];
        bracketed.extend(text);
        bracketed.push(')');
        let mut inner = Self::from_characters(bracketed, Start::Format);
        inner.first_line = line + self.first_line - 1;
        inner.format_depth = self.format_depth + 1;
        inner.depth = self.depth;
        inner.fuel = self.fuel;
        if inner.format_depth > 4 {
            return Err(self.raise_too_deep());
        }
        std::mem::swap(&mut inner.tree, &mut self.tree);
        let result = inner.run();
        std::mem::swap(&mut inner.tree, &mut self.tree);
        self.fuel = inner.fuel;
        result.map_err(|Raised| {
            self.error = inner.error;
            Raised
        })
    }
}
