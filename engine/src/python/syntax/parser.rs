//! Tokens to a tree, as CPython 3.11's PEG parser does it, with its error messages.
//!
//! A text that fails is parsed a second time with extra rules that recognize mistakes (`invalid_…`). Which mistake is
//! found depends on the order of alternatives, on how far tokens were read, and on which rules remember their results,
//! so the functions here keep to the structure of Python's published grammar.

mod mistakes;
mod text;

use rustc_hash::FxHashMap;

use super::tokenizer::{Done, Problem, Token, TokenKind, Tokenizer};
use super::tree::{Clause, ComprehensionKind, Constant, Keyword, Kind, LambdaParameter, Node, NodeId, Tree};
use super::words;

/// An error was raised: parsing stops. What it was is in [`Parser::error`].
#[derive(Debug)]
pub(super) struct Raised;

/// `Ok(None)`: this does not match here (try the next alternative).
type Parsed<T> = std::result::Result<Option<T>, Raised>;

/// Rules whose result is remembered per position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Rule {
    Expression,
    StarExpression,
    Disjunction,
    Conjunction,
    Inversion,
    BitwiseOr,
    Factor,
    AwaitPrimary,
    Primary,
    Arguments,
    Strings,
    StarTarget,
    TargetWithStarAtom,
    TargetPrimary,
    InvalidNamedExpression,
}

/// What a text as a whole may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// One expression to the end of the text, as for `eval`.
    Evaluation,
    /// The expression between the braces of an f-string.
    Format,
}

/// How deep rules may call each other and how high a tree may grow, so that no text exhausts the stack.
/// CPython stops at about 200 brackets.
const MAX_DEPTH: usize = 900;
const MAX_HEIGHT: usize = 300;
/// How many rules one text may try. CPython has no such limit; some broken texts would keep it busy for long.
const FUEL: usize = 20_000_000;

/// The words for a text that goes over [`MAX_DEPTH`], [`MAX_HEIGHT`] or [`FUEL`].
pub(super) const TOO_DEEP: &str = "maximum recursion depth exceeded during compilation";

pub(super) struct Parser {
    tokenizer: Tokenizer,
    tokens: Vec<Token>,
    position: usize,
    pub tree: Tree,
    memo: FxHashMap<(Rule, usize), (Option<NodeId>, usize)>,
    /// The second pass: look for known mistakes.
    look_for_mistakes: bool,
    pub error: Option<Problem>,
    depth: usize,
    fuel: usize,
    start: Start,
    /// Added to token lines, for the insides of an f-string.
    first_line: usize,
    format_depth: usize,
}

impl Parser {
    pub fn new(text: &str) -> Self {
        Self::from_characters(normalize_line_ends(text), Start::Evaluation)
    }

    fn from_characters(characters: Vec<char>, start: Start) -> Self {
        Self {
            tokenizer: Tokenizer::new(characters),
            tokens: Vec::new(),
            position: 0,
            tree: Tree::default(),
            memo: FxHashMap::default(),
            look_for_mistakes: false,
            error: None,
            depth: 0,
            fuel: FUEL,
            start,
            first_line: 0,
            format_depth: 0,
        }
    }

    /// Parses a text that is one expression.
    pub fn parse(&mut self) -> std::result::Result<NodeId, Problem> {
        self.run().map_err(|Raised| self.error.take().expect("whoever raises leaves an error"))
    }

    fn run(&mut self) -> std::result::Result<NodeId, Raised> {
        match self.whole() {
            Ok(Some(node)) => return Ok(node),
            Ok(None) => {}
            Err(Raised) => {
                if self.tokenizer.done == Done::No {
                    self.check_rest();
                }
                return Err(Raised);
            }
        }
        let last = *self.tokens.last().expect("a failed parse has read a token");
        self.memo.clear();
        self.position = 0;
        self.depth = 0;
        self.look_for_mistakes = true;
        if self.whole().is_err() {
            if self.tokenizer.done == Done::No {
                self.check_rest();
            }
            return Err(Raised);
        }
        let indentation = match last.kind {
            TokenKind::Indent => Some("unexpected indent"),
            TokenKind::Dedent => Some("unexpected unindent"),
            _ => None,
        };
        if let Some(message) = indentation {
            return Err(self.raise_here(message));
        }
        let raised = self.raise(last.line, "invalid syntax");
        self.check_rest();
        Err(raised)
    }

    /// Reads the rest of the text: an error in its tokens is told instead of the parser's.
    fn check_rest(&mut self) {
        let error_line = self.tokens.last().map_or(0, |token| token.line);
        loop {
            match self.tokenizer.token().kind {
                TokenKind::Error => {
                    if let Some(problem) = self.tokenizer.problem.take() {
                        self.error = Some(problem);
                    } else if self.tokenizer.brackets.last().is_some_and(|&(_, line)| error_line > line) {
                        self.raise_unclosed();
                    }
                    return;
                }
                TokenKind::End => return,
                _ => {}
            }
        }
    }

    fn raise(&mut self, line: usize, message: impl Into<String>) -> Raised {
        let mut message = message.into();
        if self.start == Start::Format {
            message.insert_str(0, "f-string: ");
        }
        self.error = Some(Problem { message, line: line + self.first_line });
        Raised
    }

    /// Raises at the last token that was read.
    fn raise_here(&mut self, message: impl Into<String>) -> Raised {
        let line = self.tokens.last().map_or(0, |token| token.line);
        self.raise(line, message)
    }

    fn raise_unclosed(&mut self) -> Raised {
        match self.tokenizer.brackets.last() {
            Some(&(bracket, line)) => self.raise(line, format!("'{bracket}' was never closed")),
            None => self.raise_here("unexpected EOF while parsing"),
        }
    }

    fn raise_too_deep(&mut self) -> Raised {
        self.error = Some(Problem { message: TOO_DEEP.into(), line: 0 });
        Raised
    }

    // Tokens

    fn token(&mut self) -> std::result::Result<Token, Raised> {
        while self.position >= self.tokens.len() {
            let token = self.tokenizer.token();
            self.tokens.push(token);
            if token.kind == TokenKind::Error {
                return Err(self.raise_token_error());
            }
        }
        Ok(self.tokens[self.position])
    }

    fn raise_token_error(&mut self) -> Raised {
        if let Some(mut problem) = self.tokenizer.problem.take() {
            problem.line += self.first_line;
            self.error = Some(problem);
            return Raised;
        }
        let line = self.tokenizer.line;
        match self.tokenizer.done {
            Done::End => self.raise_unclosed(),
            Done::LineContinuation => self.raise(line, "unexpected character after line continuation character"),
            Done::Dedent => self.raise_here("unindent does not match any outer indentation level"),
            Done::TabSpace => self.raise(line, "inconsistent use of tabs and spaces in indentation"),
            Done::TooDeep => self.raise(line, "too many levels of indentation"),
            Done::No | Done::Raised => self.raise(line, "unknown parsing error"),
        }
    }

    fn is(&mut self, fixed: &str) -> std::result::Result<bool, Raised> {
        Ok(matches!(self.token()?.kind, TokenKind::Fixed(spelling) if spelling == fixed))
    }

    fn accept(&mut self, fixed: &str) -> std::result::Result<bool, Raised> {
        let found = self.is(fixed)?;
        if found {
            self.position += 1;
        }
        Ok(found)
    }

    fn is_any(&mut self, fixed: &[&str]) -> std::result::Result<bool, Raised> {
        Ok(matches!(self.token()?.kind, TokenKind::Fixed(spelling) if fixed.contains(&spelling)))
    }

    fn text(&self, token: Token) -> String {
        self.tokenizer.characters[token.start..token.end].iter().collect()
    }

    fn line(&mut self) -> std::result::Result<usize, Raised> {
        Ok(self.token()?.line)
    }

    // Nodes

    fn node(&mut self, line: usize, kind: Kind) -> Parsed<NodeId> {
        let mut height = 0;
        let nodes = &self.tree.0;
        Tree::children(&kind, &mut |child| height = height.max(nodes[child as usize].height + 1));
        if height > MAX_HEIGHT {
            return Err(self.raise_too_deep());
        }
        let id = NodeId::try_from(self.tree.0.len()).map_err(|_| self.raise_too_deep())?;
        self.tree.0.push(Node { kind, line, height });
        Ok(Some(id))
    }

    fn memo(&mut self, rule: Rule, parse: fn(&mut Self) -> Parsed<NodeId>) -> Parsed<NodeId> {
        let start = self.position;
        if let Some(&(result, end)) = self.memo.get(&(rule, start)) {
            self.position = end;
            return Ok(result);
        }
        self.depth += 1;
        self.fuel = self.fuel.saturating_sub(1);
        if self.depth > MAX_DEPTH || self.fuel == 0 {
            return Err(self.raise_too_deep());
        }
        let result = parse(self)?;
        self.depth -= 1;
        if result.is_none() {
            self.position = start;
        }
        self.memo.insert((rule, start), (result, self.position));
        Ok(result)
    }

    fn name(&mut self) -> Parsed<NodeId> {
        let token = self.token()?;
        if token.kind != TokenKind::Name {
            return Ok(None);
        }
        self.position += 1;
        let called = self.tokenizer.characters.get(token.end) == Some(&'(');
        self.node(token.line, Kind::Name { name: self.text(token), called })
    }

    fn name_text(&mut self) -> Parsed<String> {
        let token = self.token()?;
        if token.kind != TokenKind::Name {
            return Ok(None);
        }
        self.position += 1;
        Ok(Some(self.text(token)))
    }

    /// `item (',' item)*`
    fn list_of<T>(&mut self, item: fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let start = self.position;
        let Some(first) = item(self)? else {
            self.position = start;
            return Ok(None);
        };
        let mut items = vec![first];
        loop {
            let before = self.position;
            if self.accept(",")?
                && let Some(next) = item(self)?
            {
                items.push(next);
                continue;
            }
            self.position = before;
            return Ok(Some(items));
        }
    }

    // Whole texts

    fn whole(&mut self) -> Parsed<NodeId> {
        if self.start == Start::Format {
            return self.star_expressions();
        }
        let Some(node) = self.expressions()? else { return Ok(None) };
        while self.token()?.kind == TokenKind::Newline {
            self.position += 1;
        }
        Ok((self.token()?.kind == TokenKind::End).then_some(node))
    }

    /// `NAME = expressions` statements to the end of a file.
    pub fn assignments(&mut self) -> std::result::Result<Vec<(String, NodeId)>, Problem> {
        let mut assignments = Vec::new();
        loop {
            match self.assignment() {
                Ok(Some(Some(assignment))) => assignments.push(assignment),
                Ok(Some(None)) => return Ok(assignments),
                Ok(None) => {
                    let line = self.tokens.last().map_or(0, |token| token.line);
                    return Err(Problem { message: "expected NAME = literal".into(), line });
                }
                Err(Raised) => return Err(self.error.take().expect("whoever raises leaves an error")),
            }
        }
    }

    /// `Some(None)` at the end of the file.
    fn assignment(&mut self) -> Parsed<Option<(String, NodeId)>> {
        while self.token()?.kind == TokenKind::Newline {
            self.position += 1;
        }
        if self.token()?.kind == TokenKind::End {
            return Ok(Some(None));
        }
        let Some(name) = self.name_text()? else { return Ok(None) };
        if !self.accept("=")? {
            return Ok(None);
        }
        let Some(value) = self.expressions()? else { return Ok(None) };
        if !matches!(self.token()?.kind, TokenKind::Newline | TokenKind::End) {
            return Ok(None);
        }
        self.memo.clear();
        Ok(Some(Some((name, value))))
    }

    fn expressions(&mut self) -> Parsed<NodeId> {
        self.tuple_without_brackets(Self::expression)
    }

    fn star_expressions(&mut self) -> Parsed<NodeId> {
        self.tuple_without_brackets(Self::star_expression)
    }

    fn tuple_without_brackets(&mut self, item: fn(&mut Self) -> Parsed<NodeId>) -> Parsed<NodeId> {
        let line = self.line()?;
        let Some(mut items) = self.list_of(item)? else { return Ok(None) };
        let comma = self.accept(",")?;
        if items.len() == 1 && !comma {
            return Ok(items.pop());
        }
        self.node(line, Kind::Tuple(items))
    }

    fn star_expression(&mut self) -> Parsed<NodeId> {
        self.memo(Rule::StarExpression, |parser| {
            let line = parser.line()?;
            if parser.accept("*")? {
                return match parser.bitwise_or()? {
                    Some(value) => parser.node(line, Kind::Starred(value)),
                    // No expression starts with `*`.
                    None => Ok(None),
                };
            }
            parser.expression()
        })
    }

    fn star_named_expression(&mut self) -> Parsed<NodeId> {
        let start = self.position;
        let line = self.line()?;
        if self.accept("*")? {
            if let Some(value) = self.bitwise_or()? {
                return self.node(line, Kind::Starred(value));
            }
            self.position = start;
        }
        self.named_expression()
    }

    fn star_named_expressions(&mut self) -> Parsed<Vec<NodeId>> {
        let items = self.list_of(Self::star_named_expression)?;
        if items.is_some() {
            self.accept(",")?;
        }
        Ok(items)
    }

    fn assignment_expression(&mut self) -> Parsed<NodeId> {
        let start = self.position;
        let line = self.line()?;
        if let Some(target) = self.name()?
            && self.accept(":=")?
            && let Some(value) = self.expression()?
        {
            return self.node(line, Kind::Named { target, value });
        }
        self.position = start;
        Ok(None)
    }

    fn named_expression(&mut self) -> Parsed<NodeId> {
        let start = self.position;
        if let Some(node) = self.assignment_expression()? {
            return Ok(Some(node));
        }
        if self.look_for_mistakes {
            self.invalid_named_expression()?;
            self.position = start;
        }
        self.expression_not_assigned()
    }

    /// `expression !':='`
    fn expression_not_assigned(&mut self) -> Parsed<NodeId> {
        let start = self.position;
        if let Some(node) = self.expression()?
            && !self.is(":=")?
        {
            return Ok(Some(node));
        }
        self.position = start;
        Ok(None)
    }

    fn assignment_or_expression(&mut self) -> Parsed<NodeId> {
        if let Some(node) = self.assignment_expression()? {
            return Ok(Some(node));
        }
        self.expression_not_assigned()
    }

    // Expressions

    fn expression(&mut self) -> Parsed<NodeId> {
        self.memo(Rule::Expression, |parser| {
            let start = parser.position;
            if parser.look_for_mistakes {
                parser.invalid_expression()?;
                parser.position = start;
                parser.invalid_legacy_expression()?;
                parser.position = start;
            }
            parser.valid_expression()
        })
    }

    fn valid_expression(&mut self) -> Parsed<NodeId> {
        let start = self.position;
        let line = self.line()?;
        if let Some(body) = self.disjunction()? {
            let end = self.position;
            if self.accept("if")?
                && let Some(test) = self.disjunction()?
                && self.accept("else")?
                && let Some(otherwise) = self.expression()?
            {
                return self.node(line, Kind::Conditional { test, body, otherwise });
            }
            self.position = end;
            return Ok(Some(body));
        }
        self.position = start;
        self.lambda()
    }

    fn disjunction(&mut self) -> Parsed<NodeId> {
        self.memo(Rule::Disjunction, |parser| parser.boolean("or", Self::conjunction))
    }

    fn conjunction(&mut self) -> Parsed<NodeId> {
        self.memo(Rule::Conjunction, |parser| parser.boolean("and", Self::inversion))
    }

    fn boolean(&mut self, operator: &'static str, operand: fn(&mut Self) -> Parsed<NodeId>) -> Parsed<NodeId> {
        let line = self.line()?;
        let Some(first) = operand(self)? else { return Ok(None) };
        let mut operands = vec![first];
        loop {
            let before = self.position;
            if self.accept(operator)?
                && let Some(next) = operand(self)?
            {
                operands.push(next);
                continue;
            }
            self.position = before;
            break;
        }
        if operands.len() == 1 {
            return Ok(Some(first));
        }
        self.node(line, Kind::Boolean { operator, operands })
    }

    fn inversion(&mut self) -> Parsed<NodeId> {
        self.memo(Rule::Inversion, |parser| {
            let line = parser.line()?;
            if parser.accept("not")? {
                return match parser.inversion()? {
                    Some(operand) => parser.node(line, Kind::Unary { operator: "not", operand }),
                    None => Ok(None),
                };
            }
            parser.comparison()
        })
    }

    fn comparison(&mut self) -> Parsed<NodeId> {
        let line = self.line()?;
        let Some(left) = self.bitwise_or()? else { return Ok(None) };
        let mut rest = Vec::new();
        loop {
            let before = self.position;
            if let Some(operator) = self.comparison_operator()?
                && let Some(operand) = self.bitwise_or()?
            {
                rest.push((operator, operand));
                continue;
            }
            self.position = before;
            break;
        }
        if rest.is_empty() {
            return Ok(Some(left));
        }
        self.node(line, Kind::Compare { left, rest })
    }

    fn comparison_operator(&mut self) -> Parsed<&'static str> {
        let TokenKind::Fixed(spelling) = self.token()?.kind else { return Ok(None) };
        Ok(match spelling {
            "==" | "!=" | "<=" | "<" | ">=" | ">" | "in" => {
                self.position += 1;
                Some(spelling)
            }
            "not" => {
                self.position += 1;
                self.accept("in")?.then_some("not in")
            }
            "is" => {
                self.position += 1;
                Some(if self.accept("not")? { "is not" } else { "is" })
            }
            _ => None,
        })
    }

    fn bitwise_or(&mut self) -> Parsed<NodeId> {
        self.memo(Rule::BitwiseOr, |parser| parser.binary(0))
    }

    /// Binary operators from the given level of binding on.
    fn binary(&mut self, level: usize) -> Parsed<NodeId> {
        let line = self.line()?;
        let Some(mut left) = self.factor()? else { return Ok(None) };
        loop {
            let before = self.position;
            let TokenKind::Fixed(operator) = self.token()?.kind else { break };
            let Some(binding) = binding(operator).filter(|&binding| binding >= level) else { break };
            self.position += 1;
            let Some(right) = self.binary(binding + 1)? else {
                self.position = before;
                break;
            };
            match self.node(line, Kind::Binary { operator, left, right })? {
                Some(node) => left = node,
                None => break,
            }
        }
        Ok(Some(left))
    }

    fn factor(&mut self) -> Parsed<NodeId> {
        self.memo(Rule::Factor, |parser| {
            let line = parser.line()?;
            for operator in ["+", "-", "~"] {
                if parser.accept(operator)? {
                    return match parser.factor()? {
                        Some(operand) => parser.node(line, Kind::Unary { operator, operand }),
                        None => Ok(None),
                    };
                }
            }
            let Some(left) = parser.await_primary()? else { return Ok(None) };
            let before = parser.position;
            if parser.accept("**")?
                && let Some(right) = parser.factor()?
            {
                return parser.node(line, Kind::Binary { operator: "**", left, right });
            }
            parser.position = before;
            Ok(Some(left))
        })
    }

    fn await_primary(&mut self) -> Parsed<NodeId> {
        self.memo(Rule::AwaitPrimary, |parser| {
            let line = parser.line()?;
            if parser.accept("await")? {
                return match parser.primary()? {
                    Some(value) => parser.node(line, Kind::Await(value)),
                    None => Ok(None),
                };
            }
            parser.primary()
        })
    }

    fn primary(&mut self) -> Parsed<NodeId> {
        self.memo(Rule::Primary, |parser| {
            let line = parser.line()?;
            let Some(mut value) = parser.atom()? else { return Ok(None) };
            while let Some(longer) = parser.trailer(line, value)? {
                value = longer;
            }
            Ok(Some(value))
        })
    }

    /// What may follow a primary: an attribute, a call, an index.
    fn trailer(&mut self, line: usize, value: NodeId) -> Parsed<NodeId> {
        let start = self.position;
        if self.accept(".")? {
            if let Some(name) = self.name_text()? {
                return self.node(line, Kind::Attribute { value, name });
            }
            self.position = start;
            return Ok(None);
        }
        // A generator is tried first, and with it the mistakes in comprehensions of all kinds.
        if let Some(argument) = self.generator()? {
            let call = Kind::Call { function: Some(value), positional: vec![argument], keywords: Vec::new() };
            return self.node(line, call);
        }
        self.position = start;
        if self.accept("(")? {
            let arguments = self.arguments()?;
            if self.accept(")")? {
                let (positional, keywords) = arguments.map(|id| self.argument_lists(id)).unwrap_or_default();
                return self.node(line, Kind::Call { function: Some(value), positional, keywords });
            }
        } else if self.accept("[")?
            && let Some(index) = self.slices()?
            && self.accept("]")?
        {
            return self.node(line, Kind::Subscript { value, index });
        }
        self.position = start;
        Ok(None)
    }

    fn argument_lists(&self, id: NodeId) -> (Vec<NodeId>, Vec<Keyword>) {
        match self.tree.kind(id) {
            Kind::Call { positional, keywords, .. } => (positional.clone(), keywords.clone()),
            other => unreachable!("arguments are kept as a call, not {other:?}"),
        }
    }

    fn slices(&mut self) -> Parsed<NodeId> {
        let start = self.position;
        let line = self.line()?;
        if let Some(slice) = self.slice()?
            && !self.is(",")?
        {
            return Ok(Some(slice));
        }
        self.position = start;
        let items = self.list_of(|parser| match parser.slice()? {
            Some(slice) => Ok(Some(slice)),
            None => parser.starred_expression(),
        })?;
        let Some(items) = items else { return Ok(None) };
        self.accept(",")?;
        self.node(line, Kind::Tuple(items))
    }

    fn slice(&mut self) -> Parsed<NodeId> {
        let start = self.position;
        let line = self.line()?;
        let lower = self.expression()?;
        if self.accept(":")? {
            let upper = self.expression()?;
            let step = if self.accept(":")? { self.expression()? } else { None };
            return self.node(line, Kind::Slice { lower, upper, step });
        }
        self.position = start;
        self.named_expression()
    }

    fn atom(&mut self) -> Parsed<NodeId> {
        let token = self.token()?;
        match token.kind {
            TokenKind::Name => self.name(),
            TokenKind::String => self.strings(),
            TokenKind::Number => {
                self.position += 1;
                let constant = self.number(token)?;
                self.node(token.line, Kind::Constant(constant))
            }
            TokenKind::Fixed(fixed) => {
                let constant = match fixed {
                    "True" => Constant::Bool(true),
                    "False" => Constant::Bool(false),
                    "None" => Constant::None,
                    "..." => Constant::Ellipsis,
                    "(" => return self.alternatives(&[Self::tuple, Self::group, Self::generator]),
                    "[" => return self.alternatives(&[Self::list, Self::list_comprehension]),
                    "{" => {
                        return self.alternatives(&[
                            Self::dict,
                            Self::set,
                            Self::dict_comprehension,
                            Self::set_comprehension,
                        ]);
                    }
                    _ => return Ok(None),
                };
                self.position += 1;
                self.node(token.line, Kind::Constant(constant))
            }
            _ => Ok(None),
        }
    }

    fn alternatives(&mut self, rules: &[fn(&mut Self) -> Parsed<NodeId>]) -> Parsed<NodeId> {
        let start = self.position;
        for rule in rules {
            if let Some(node) = rule(self)? {
                return Ok(Some(node));
            }
            self.position = start;
        }
        Ok(None)
    }

    fn number(&mut self, token: Token) -> std::result::Result<Constant, Raised> {
        let mut text = self.text(token);
        text.retain(|c| c != '_');
        if let Some(imaginary) = text.strip_suffix(['j', 'J']) {
            return Ok(Constant::Imaginary(imaginary.parse().unwrap_or(f64::NAN)));
        }
        let radix = match text.as_bytes() {
            [b'0', b'x' | b'X', ..] => 16,
            [b'0', b'o' | b'O', ..] => 8,
            [b'0', b'b' | b'B', ..] => 2,
            _ => 10,
        };
        if radix != 10 {
            let digits = num_bigint::BigInt::parse_bytes(&text.as_bytes()[2..], radix);
            return Ok(Constant::Int(digits.unwrap_or_default()));
        }
        if text.contains(['.', 'e', 'E']) {
            return Ok(Constant::Float(text.parse().unwrap_or(f64::NAN)));
        }
        if text.len() > 4300 {
            let message = format!(
                "Exceeds the limit (4300 digits) for integer string conversion: value has {} digits; use \
                 sys.set_int_max_str_digits() to increase the limit - Consider hexadecimal for huge integer literals \
                 to avoid decimal conversion limits.",
                text.len()
            );
            return Err(self.raise(token.line, message));
        }
        Ok(Constant::Int(num_bigint::BigInt::parse_bytes(text.as_bytes(), 10).unwrap_or_default()))
    }

    // Brackets

    fn tuple(&mut self) -> Parsed<NodeId> {
        let line = self.line()?;
        if !self.accept("(")? {
            return Ok(None);
        }
        let inside = self.position;
        let mut items = Vec::new();
        match self.star_named_expression()? {
            Some(first) if self.accept(",")? => {
                items.push(first);
                items.extend(self.star_named_expressions()?.unwrap_or_default());
            }
            _ => self.position = inside,
        }
        if !self.accept(")")? {
            return Ok(None);
        }
        self.node(line, Kind::Tuple(items))
    }

    fn group(&mut self) -> Parsed<NodeId> {
        let start = self.position;
        if self.accept("(")? {
            let inner = match self.yield_expression()? {
                Some(node) => Some(node),
                None => self.named_expression()?,
            };
            if let Some(inner) = inner
                && self.accept(")")?
            {
                return Ok(Some(inner));
            }
        }
        if self.look_for_mistakes {
            self.position = start;
            self.invalid_group()?;
        }
        Ok(None)
    }

    fn yield_expression(&mut self) -> Parsed<NodeId> {
        let line = self.line()?;
        if !self.accept("yield")? {
            return Ok(None);
        }
        let before = self.position;
        if self.accept("from")? {
            if let Some(value) = self.expression()? {
                return self.node(line, Kind::YieldFrom(value));
            }
            self.position = before;
        }
        let value = self.star_expressions()?;
        if value.is_none() {
            self.position = before;
        }
        self.node(line, Kind::Yield(value))
    }

    fn list(&mut self) -> Parsed<NodeId> {
        let line = self.line()?;
        if !self.accept("[")? {
            return Ok(None);
        }
        let items = self.star_named_expressions()?.unwrap_or_default();
        if !self.accept("]")? {
            return Ok(None);
        }
        self.node(line, Kind::List(items))
    }

    fn set(&mut self) -> Parsed<NodeId> {
        let line = self.line()?;
        if !self.accept("{")? {
            return Ok(None);
        }
        let Some(items) = self.star_named_expressions()? else { return Ok(None) };
        if !self.accept("}")? {
            return Ok(None);
        }
        self.node(line, Kind::Set(items))
    }

    fn dict(&mut self) -> Parsed<NodeId> {
        let start = self.position;
        let line = self.line()?;
        if !self.accept("{")? {
            return Ok(None);
        }
        let entries = self.list_of(Self::double_starred_pair)?;
        if entries.is_some() {
            self.accept(",")?;
        }
        if self.accept("}")? {
            return self.node(line, Kind::Dict(entries.unwrap_or_default()));
        }
        // The only mistakes that are looked for in the first pass too.
        self.position = start + 1;
        self.invalid_double_starred_pairs()?;
        Ok(None)
    }

    fn double_starred_pair(&mut self) -> Parsed<(Option<NodeId>, NodeId)> {
        if self.accept("**")? {
            return Ok(self.bitwise_or()?.map(|value| (None, value)));
        }
        self.pair()
    }

    fn pair(&mut self) -> Parsed<(Option<NodeId>, NodeId)> {
        let Some(key) = self.expression()? else { return Ok(None) };
        if !self.accept(":")? {
            return Ok(None);
        }
        Ok(self.expression()?.map(|value| (Some(key), value)))
    }

    // Comprehensions

    fn list_comprehension(&mut self) -> Parsed<NodeId> {
        self.comprehension(ComprehensionKind::List, "[", "]", Self::named_expression)
    }

    fn set_comprehension(&mut self) -> Parsed<NodeId> {
        self.comprehension(ComprehensionKind::Set, "{", "}", Self::named_expression)
    }

    fn generator(&mut self) -> Parsed<NodeId> {
        self.comprehension(ComprehensionKind::Generator, "(", ")", Self::assignment_or_expression)
    }

    fn comprehension(
        &mut self,
        kind: ComprehensionKind,
        opening: &str,
        closing: &str,
        element: fn(&mut Self) -> Parsed<NodeId>,
    ) -> Parsed<NodeId> {
        let start = self.position;
        let line = self.line()?;
        if self.accept(opening)?
            && let Some(element) = element(self)?
            && let Some(clauses) = self.clauses()?
            && self.accept(closing)?
        {
            return self.node(line, Kind::Comprehension { kind, element, value: None, clauses });
        }
        self.position = start;
        if self.look_for_mistakes {
            self.invalid_comprehension()?;
            self.position = start;
        }
        Ok(None)
    }

    fn dict_comprehension(&mut self) -> Parsed<NodeId> {
        let start = self.position;
        let line = self.line()?;
        if self.accept("{")?
            && let Some((Some(element), value)) = self.pair()?
            && let Some(clauses) = self.clauses()?
            && self.accept("}")?
        {
            let kind = ComprehensionKind::Dict;
            return self.node(line, Kind::Comprehension { kind, element, value: Some(value), clauses });
        }
        if self.look_for_mistakes {
            self.position = start + 1;
            let line = self.line()?;
            if self.accept("**")? && self.bitwise_or()?.is_some() && self.clauses()?.is_some() && self.accept("}")? {
                return Err(self.raise(line, "dict unpacking cannot be used in dict comprehension"));
            }
        }
        self.position = start;
        Ok(None)
    }

    fn clauses(&mut self) -> Parsed<Vec<Clause>> {
        let mut clauses = Vec::new();
        loop {
            let before = self.position;
            match self.clause()? {
                Some(clause) => clauses.push(clause),
                None => {
                    self.position = before;
                    return Ok((!clauses.is_empty()).then_some(clauses));
                }
            }
        }
    }

    fn clause(&mut self) -> Parsed<Clause> {
        let start = self.position;
        let is_async = self.accept("async")?;
        if self.accept("for")?
            && let Some(target) = self.star_targets()?
            && self.accept("in")?
        {
            // From here on it is a `for`, right or wrong.
            let Some(iterable) = self.disjunction()? else { return Ok(None) };
            let mut conditions = Vec::new();
            loop {
                let before = self.position;
                if self.accept("if")?
                    && let Some(condition) = self.disjunction()?
                {
                    conditions.push(condition);
                    continue;
                }
                self.position = before;
                break;
            }
            return Ok(Some(Clause { is_async, target, iterable, conditions }));
        }
        if self.look_for_mistakes {
            self.position = start;
            self.accept("async")?;
            if self.accept("for")?
                && let Some(target) = self.star_expressions()?
                && let Some(wrong) = self.wrong_target(target)
            {
                let message = format!("cannot assign to {}", self.tree.describe(wrong));
                return Err(self.raise(self.tree.line(wrong), message));
            }
        }
        self.position = start;
        Ok(None)
    }

    /// The part of a `for`'s target that cannot be assigned to.
    fn wrong_target(&self, id: NodeId) -> Option<NodeId> {
        match self.tree.kind(id) {
            Kind::List(items) | Kind::Tuple(items) => items.iter().find_map(|&item| self.wrong_target(item)),
            Kind::Starred(value) => self.wrong_target(*value),
            // `a in b` of `for a in b` was read as a comparison.
            Kind::Compare { left, rest } if rest[0].0 == "in" => self.wrong_target(*left),
            Kind::Compare { .. } | Kind::Name { .. } | Kind::Subscript { .. } | Kind::Attribute { .. } => None,
            _ => Some(id),
        }
    }

    fn star_targets(&mut self) -> Parsed<NodeId> {
        let line = self.line()?;
        let Some(mut items) = self.list_of(Self::star_target)? else { return Ok(None) };
        let comma = self.accept(",")?;
        if items.len() == 1 && !comma {
            return Ok(items.pop());
        }
        self.node(line, Kind::Tuple(items))
    }

    fn star_target(&mut self) -> Parsed<NodeId> {
        self.memo(Rule::StarTarget, |parser| {
            let line = parser.line()?;
            if parser.accept("*")? {
                if parser.is("*")? {
                    return Ok(None);
                }
                return match parser.star_target()? {
                    Some(value) => parser.node(line, Kind::Starred(value)),
                    None => Ok(None),
                };
            }
            parser.target_with_star_atom()
        })
    }

    fn target_with_star_atom(&mut self) -> Parsed<NodeId> {
        self.memo(Rule::TargetWithStarAtom, |parser| {
            let start = parser.position;
            let line = parser.line()?;
            if let Some(value) = parser.target_primary()? {
                let before = parser.position;
                if parser.accept(".")?
                    && let Some(name) = parser.name_text()?
                    && !parser.is_any(TRAILERS)?
                {
                    return parser.node(line, Kind::Attribute { value, name });
                }
                parser.position = before;
                if parser.accept("[")?
                    && let Some(index) = parser.slices()?
                    && parser.accept("]")?
                    && !parser.is_any(TRAILERS)?
                {
                    return parser.node(line, Kind::Subscript { value, index });
                }
            }
            parser.position = start;
            parser.star_atom()
        })
    }

    fn star_atom(&mut self) -> Parsed<NodeId> {
        let start = self.position;
        let line = self.line()?;
        if let Some(name) = self.name()? {
            return Ok(Some(name));
        }
        if self.accept("(")? {
            if let Some(target) = self.target_with_star_atom()?
                && self.accept(")")?
            {
                return Ok(Some(target));
            }
            self.position = start + 1;
            let items = self.list_of(Self::star_target)?;
            let comma = items.is_some() && self.accept(",")?;
            // `(a)` is no tuple; only `target_with_star_atom` may stand in brackets alone.
            let is_tuple = items.as_ref().is_none_or(|items| items.len() > 1 || comma);
            if is_tuple && self.accept(")")? {
                return self.node(line, Kind::Tuple(items.unwrap_or_default()));
            }
        } else if self.accept("[")? {
            let items = self.list_of(Self::star_target)?;
            if items.is_some() {
                self.accept(",")?;
            }
            if self.accept("]")? {
                return self.node(line, Kind::List(items.unwrap_or_default()));
            }
        }
        self.position = start;
        Ok(None)
    }

    /// A primary behind which another trailer follows.
    fn target_primary(&mut self) -> Parsed<NodeId> {
        self.memo(Rule::TargetPrimary, |parser| {
            let line = parser.line()?;
            let Some(mut value) = parser.atom()? else { return Ok(None) };
            if !parser.is_any(TRAILERS)? {
                return Ok(None);
            }
            loop {
                let before = parser.position;
                match parser.trailer(line, value)? {
                    Some(longer) if parser.is_any(TRAILERS)? => value = longer,
                    _ => {
                        parser.position = before;
                        return Ok(Some(value));
                    }
                }
            }
        })
    }

    // Arguments

    fn arguments(&mut self) -> Parsed<NodeId> {
        self.memo(Rule::Arguments, |parser| {
            let start = parser.position;
            if let Some(arguments) = parser.argument_list()? {
                parser.accept(",")?;
                if parser.is(")")? {
                    return Ok(Some(arguments));
                }
            }
            if parser.look_for_mistakes {
                parser.position = start;
                parser.invalid_arguments()?;
            }
            Ok(None)
        })
    }

    fn argument_list(&mut self) -> Parsed<NodeId> {
        let start = self.position;
        let line = self.line()?;
        let mut keywords = Vec::new();
        let mut positional = match self.list_of(Self::positional_argument)? {
            Some(positional) => {
                let before = self.position;
                let found = if self.accept(",")? { self.keyword_arguments()? } else { None };
                match found {
                    Some(found) => keywords = found,
                    None => self.position = before,
                }
                positional
            }
            None => {
                self.position = start;
                let Some(found) = self.keyword_arguments()? else { return Ok(None) };
                keywords = found;
                Vec::new()
            }
        };
        // `*iterable` among keywords still counts as positional.
        let mut named = Vec::new();
        for keyword in keywords {
            match keyword {
                KeywordOrStarred::Keyword(keyword) => named.push(keyword),
                KeywordOrStarred::Starred(starred) => positional.push(starred),
            }
        }
        self.node(line, Kind::Call { function: None, positional, keywords: named })
    }

    fn positional_argument(&mut self) -> Parsed<NodeId> {
        if let Some(starred) = self.starred_expression()? {
            return Ok(Some(starred));
        }
        match self.assignment_or_expression()? {
            Some(node) if !self.is("=")? => Ok(Some(node)),
            _ => Ok(None),
        }
    }

    fn starred_expression(&mut self) -> Parsed<NodeId> {
        let start = self.position;
        let line = self.line()?;
        if self.accept("*")? {
            if let Some(value) = self.expression()? {
                return self.node(line, Kind::Starred(value));
            }
            self.position = start;
        }
        Ok(None)
    }

    fn keyword_arguments(&mut self) -> Parsed<Vec<KeywordOrStarred>> {
        let start = self.position;
        if let Some(mut first) = self.list_of(|parser| parser.keyword_or("*"))? {
            let before = self.position;
            if self.accept(",")?
                && let Some(second) = self.list_of(|parser| parser.keyword_or("**"))?
            {
                first.extend(second);
                return Ok(Some(first));
            }
            self.position = before;
            return Ok(Some(first));
        }
        self.position = start;
        self.list_of(|parser| parser.keyword_or("**"))
    }

    fn keyword_or(&mut self, star: &str) -> Parsed<KeywordOrStarred> {
        let start = self.position;
        if self.look_for_mistakes {
            self.invalid_keyword()?;
            self.position = start;
        }
        let line = self.line()?;
        if let Some(name) = self.name_text()?
            && self.accept("=")?
            && let Some(value) = self.expression()?
        {
            return Ok(Some(KeywordOrStarred::Keyword(Keyword { name: Some(name), value, line })));
        }
        self.position = start;
        if star == "*" {
            return Ok(self.starred_expression()?.map(KeywordOrStarred::Starred));
        }
        if self.accept("**")?
            && let Some(value) = self.expression()?
        {
            return Ok(Some(KeywordOrStarred::Keyword(Keyword { name: None, value, line })));
        }
        self.position = start;
        Ok(None)
    }

    // Lambda. Models hardly ever write one: the valid forms and the common mistakes.

    fn lambda(&mut self) -> Parsed<NodeId> {
        let line = self.line()?;
        if !self.accept("lambda")? {
            return Ok(None);
        }
        let Some(parameters) = self.lambda_parameters()? else { return Ok(None) };
        if !self.accept(":")? {
            return Ok(None);
        }
        let Some(body) = self.expression()? else { return Ok(None) };
        self.node(line, Kind::Lambda { parameters, body })
    }

    fn lambda_parameters(&mut self) -> Parsed<Vec<LambdaParameter>> {
        let mut parameters: Vec<LambdaParameter> = Vec::new();
        let mistake = self.look_for_mistakes;
        while !self.is(":")? {
            let seen = |star: &str| parameters.iter().any(|parameter| parameter.star == star);
            let line = self.line()?;
            if mistake && seen("**") {
                if self.is_any(&["*", "**", "/"])? || self.token()?.kind == TokenKind::Name {
                    return Err(self.raise(line, "arguments cannot follow var-keyword argument"));
                }
                return Ok(None);
            }
            let star = match self.token()?.kind {
                TokenKind::Fixed("(") if mistake => {
                    self.position += 1;
                    let names = self.list_of(Self::name_text)?;
                    if names.is_some() && {
                        self.accept(",")?;
                        self.accept(")")?
                    } {
                        return Err(self.raise(line, "Lambda expression parameters cannot be parenthesized"));
                    }
                    return Ok(None);
                }
                TokenKind::Fixed(star @ ("*" | "**" | "/")) => {
                    self.position += 1;
                    star
                }
                _ => "",
            };
            if star == "/" {
                if seen("/") || seen("*") || parameters.is_empty() {
                    let message = match () {
                        () if seen("/") => "/ may appear only once",
                        () if seen("*") => "/ must be ahead of *",
                        () => "at least one argument must precede /",
                    };
                    if mistake && (!parameters.is_empty() || self.is(",")?) {
                        return Err(self.raise(line, message));
                    }
                    return Ok(None);
                }
                parameters.push(LambdaParameter { star, name: None, default: None });
            } else {
                if star == "*" && seen("*") {
                    if mistake {
                        return Err(self.raise(line, "* argument may appear only once"));
                    }
                    return Ok(None);
                }
                let name = self.name_text()?;
                if name.is_none() && star != "*" {
                    return Ok(None);
                }
                if name.is_none() {
                    let before = self.position;
                    let comma = self.accept(",")?;
                    let lonely = self.is(":")? || (comma && self.is("**")?);
                    self.position = before;
                    if lonely || !comma {
                        if mistake && lonely {
                            return Err(self.raise_here("named arguments must follow bare *"));
                        }
                        return Ok(None);
                    }
                }
                let default_line = self.line()?;
                let default = if self.accept("=")? {
                    if !star.is_empty() {
                        if mistake {
                            let kind = if star == "*" { "var-positional" } else { "var-keyword" };
                            return Err(self.raise(default_line, format!("{kind} argument cannot have default value")));
                        }
                        return Ok(None);
                    }
                    let Some(default) = self.expression()? else {
                        if mistake && self.is_any(&[")", ","])? {
                            return Err(self.raise(default_line, "expected default value expression"));
                        }
                        return Ok(None);
                    };
                    Some(default)
                } else {
                    None
                };
                let after_default =
                    parameters.iter().any(|parameter| parameter.default.is_some()) && !seen("*") && star.is_empty();
                if default.is_none() && after_default {
                    if mistake && self.is_any(&[",", ":"])? {
                        return Err(self.raise(line, "non-default argument follows default argument"));
                    }
                    return Ok(None);
                }
                parameters.push(LambdaParameter { star, name, default });
            }
            if !self.accept(",")? {
                break;
            }
            if parameters.last().is_some_and(|parameter| parameter.star == "**") && self.is(":")? {
                break;
            }
        }
        Ok(Some(parameters))
    }
}

enum KeywordOrStarred {
    Keyword(Keyword),
    Starred(NodeId),
}

/// What a longer target goes on with.
const TRAILERS: &[&str] = &["(", "[", "."];

/// How tightly a binary operator binds, from `|` on.
pub(super) fn binding(operator: &str) -> Option<usize> {
    Some(match operator {
        "|" => 0,
        "^" => 1,
        "&" => 2,
        "<<" | ">>" => 3,
        "+" | "-" => 4,
        "*" | "/" | "//" | "%" | "@" => 5,
        _ => return None,
    })
}

fn normalize_line_ends(text: &str) -> Vec<char> {
    let mut characters = Vec::with_capacity(text.len());
    let mut input = text.chars().peekable();
    while let Some(character) = input.next() {
        if character == '\r' {
            input.next_if_eq(&'\n');
            characters.push('\n');
        } else {
            characters.push(character);
        }
    }
    characters
}
