//! Call strings, read as CPython 3.11's `eval` would read them: `cd(folder='document')`.
//!
//! What the official harness evaluates is parsed here instead, in full, because a wrong text must fail with Python's
//! words: `'(' was never closed (<string>, line 1)`. A text that Python accepts is then evaluated as far as this needs no
//! interpreter: a known function applied to literals, or a literal. Anything else (nested calls, arithmetic, …) is a
//! deliberate deviation: it fails with [`ONLY_LITERALS`], unless Python would have met an unknown name before.
//!
//! Architecture invariant: no text, however long or odd, panics or exhausts the stack here.

mod check;
mod parser;
mod plain;
mod string_literal;
mod tokenizer;
pub(in crate::python) mod tree;
pub(in crate::python) mod unparse;
pub(crate) mod words;

use std::borrow::Cow;

use num_bigint::BigInt;

use super::call::Arguments;
use super::exception::{Exception, ExceptionKind, Result};
use super::strings::is_space;
use super::value::{Dict, Opaque, Value};
use parser::Parser;
pub(in crate::python) use string_literal::bytes_repr;
use tokenizer::Problem;
use tree::{Constant, Keyword, Kind, NodeId, Tree};

/// What an argument that is not a literal answers. Python would evaluate it.
pub const ONLY_LITERALS: &str = "only literal arguments are supported";

/// Names that the harness refuses to call.
const FORBIDDEN: &[&str] = &["kill", "exit", "quit", "remove", "unlink", "popen", "Popen", "run"];

/// A function's name and its arguments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParsedCall {
    /// The function's name.
    pub name: String,
    /// Its arguments, evaluated.
    pub arguments: Arguments,
}

/// What a text evaluates to, short of calling the function.
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluated {
    /// The call of a known function.
    Call(ParsedCall),
    /// A value: the text is a literal.
    Literal(Value),
}

/// The name for which the harness refuses a call string before it evaluates it, if that is so.
///
/// It looks at the text before the first bracket, and of that at what follows the first point: `os.kill('x')` and
/// `kill` are refused, ` kill()` and `remove, x` are not. `is_known` tells the world's functions, because the harness
/// has put an instance and a point in front of their names by then.
pub fn forbidden_name(text: &str, is_known: impl Fn(&str) -> bool) -> Option<&str> {
    fn second_part(text: &str) -> &str {
        text.split('.').nth(1).unwrap_or(text)
    }
    let candidate = match text.split_once('(') {
        None => second_part(text),
        Some((head, _)) => {
            // The harness has also closed the gap between a name and its bracket.
            let tight = head.trim_end_matches(is_space);
            match ends_with_name(tight) {
                None => second_part(head),
                Some(name) if is_known(name) => {
                    let mut parts = tight[..tight.len() - name.len()].split('.').skip(1);
                    match (parts.next(), parts.next()) {
                        (None, _) => name,
                        // The instance stands in front of the name, whose point comes too late to count.
                        (Some(_), None) => return None,
                        (Some(second), Some(_)) => second,
                    }
                }
                Some(_) => second_part(tight),
            }
        }
    };
    FORBIDDEN.contains(&candidate).then_some(candidate)
}

/// The name at the end of a text, as the harness's pattern `\b([a-zA-Z_]\w*)` sees it.
fn ends_with_name(text: &str) -> Option<&str> {
    let start = text.char_indices().rev().take_while(|&(_, c)| is_word(c)).last()?.0;
    let name = &text[start..];
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_').then_some(name)
}

/// Python's `\w`.
fn is_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

/// Removes the white space between a name and an opening bracket, as the harness does before it evaluates a text: inside
/// strings too. There it leaves the names of methods alone, in front of which the harness would also put an instance (a
/// deliberate deviation).
fn close_gaps<'a>(text: &'a str, is_known: impl Fn(&str) -> bool) -> Cow<'a, str> {
    let has_gap = text.match_indices('(').any(|(index, _)| text[..index].ends_with(is_space));
    if !has_gap {
        return Cow::Borrowed(text);
    }
    let characters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut index = 0;
    let mut end_of_literal = 0;
    while let Some(&character) = characters.get(index) {
        let start = index;
        if is_word(character) {
            while characters.get(index).is_some_and(|&c| is_word(c)) {
                index += 1;
            }
            let name: String = characters[start..index].iter().collect();
            let gap = characters[index..].iter().take_while(|&&c| is_space(c)).count();
            let is_called = characters.get(index + gap) == Some(&'(');
            let is_name = character.is_ascii_alphabetic() || character == '_';
            if is_called && is_name && (start >= end_of_literal || !is_known(&name)) {
                index += gap;
            }
            out.push_str(&name);
        } else {
            if matches!(character, '\'' | '"') && start >= end_of_literal {
                end_of_literal = end_of_string(&characters, start);
            }
            out.push(character);
            index += 1;
        }
    }
    Cow::Owned(out)
}

/// One past the string that starts with the quote at `start`.
fn end_of_string(characters: &[char], start: usize) -> usize {
    let quote = characters[start];
    let is_quote = |index: usize| characters.get(index) == Some(&quote);
    let size = if is_quote(start + 1) && is_quote(start + 2) { 3 } else { 1 };
    let mut index = start + size;
    while let Some(&character) = characters.get(index) {
        if character == '\\' {
            index += 2;
        } else if size == 1 && character == '\n' {
            return index;
        } else if (0..size).all(|offset| is_quote(index + offset)) {
            return index + size;
        } else {
            index += 1;
        }
    }
    characters.len()
}

/// Evaluates a text as the official harness would, up to the call itself, in Python's order: errors of the whole text
/// first, then an unknown function's name, then the arguments from left to right.
pub fn evaluate(text: &str, is_known: impl Fn(&str) -> bool) -> Result<Evaluated> {
    if let Some((name, arguments)) = plain::plain_call(text)
        && is_known(name)
    {
        return Ok(Evaluated::Call(ParsedCall { name: name.to_owned(), arguments }));
    }
    evaluate_in_full(text, is_known)
}

fn evaluate_in_full(text: &str, is_known: impl Fn(&str) -> bool) -> Result<Evaluated> {
    let text = close_gaps(text, &is_known);
    let (tree, root) = parse(&text)?;
    check::check(&tree, root).map_err(exception)?;
    let evaluator = Evaluator { tree: &tree, is_known: &is_known, takes_ellipsis: false };
    if let Kind::Call { function: Some(function), positional, keywords } = tree.kind(root)
        && let Some(name) = evaluator.known_function(*function)
    {
        let arguments = evaluator.arguments(positional, keywords)?;
        return Ok(Evaluated::Call(ParsedCall { name: name.to_owned(), arguments }));
    }
    evaluator.value(root).map(Evaluated::Literal)
}

/// Reads `name(literal, key=literal, …)` with any name.
pub fn parse_call(text: &str) -> Result<ParsedCall> {
    match evaluate(text, |_| true)? {
        Evaluated::Call(call) => Ok(call),
        Evaluated::Literal(value) => {
            Err(Exception::type_error(format!("expected a call, found a value of type {}", value.type_name())))
        }
    }
}

/// Parses one expression as `compile(text, "<string>", "eval")` does, without the checks of later stages.
pub(in crate::python) fn parse(text: &str) -> Result<(Tree, NodeId)> {
    let text = text.trim_start_matches([' ', '\t']);
    check_nulls(text)?;
    let mut parser = Parser::new(text);
    let root = parser.parse().map_err(exception)?;
    Ok((parser.tree, root))
}

/// Parses the `NAME = expression` statements of a file.
pub(in crate::python) fn parse_assignments(source: &str) -> Result<(Tree, Vec<(String, NodeId)>)> {
    check_nulls(source)?;
    let mut parser = Parser::new(source);
    let assignments = parser.assignments().map_err(exception)?;
    Ok((parser.tree, assignments))
}

fn check_nulls(text: &str) -> Result<()> {
    if text.contains('\0') {
        return Err(Exception::new(ExceptionKind::Syntax, "source code string cannot contain null bytes"));
    }
    Ok(())
}

fn exception(problem: Problem) -> Exception {
    if problem.message == parser::TOO_DEEP {
        return Exception::new(ExceptionKind::Recursion, problem.message);
    }
    Exception::new(ExceptionKind::Syntax, format!("{} (<string>, line {})", problem.message, problem.line))
}

/// The value of a tree made of literals only. Unlike in a call's arguments, `...` is one of them: a list of the
/// long_context data has it, and it shows in results as `Ellipsis`.
pub(in crate::python) fn literal(tree: &Tree, root: NodeId) -> Result<Value> {
    Evaluator { tree, is_known: &|_| false, takes_ellipsis: true }.value(root)
}

struct Evaluator<'a> {
    tree: &'a Tree,
    is_known: &'a dyn Fn(&str) -> bool,
    takes_ellipsis: bool,
}

impl<'a> Evaluator<'a> {
    /// The name, if this is one that the harness would have turned into a method.
    fn known_function(&self, id: NodeId) -> Option<&'a str> {
        match self.tree.kind(id) {
            Kind::Name { name, called: true } if (self.is_known)(name) => Some(name),
            _ => None,
        }
    }

    fn arguments(&self, positional: &[NodeId], keywords: &[Keyword]) -> Result<Arguments> {
        let positional = self.values(positional)?;
        let mut named = Vec::with_capacity(keywords.len());
        for keyword in keywords {
            let value = self.value(keyword.value)?;
            // `**{…}` is no literal argument.
            let name = keyword.name.clone().ok_or_else(unsupported)?;
            named.push((name, value));
        }
        Ok(Arguments { positional, keywords: named })
    }

    fn values(&self, ids: &[NodeId]) -> Result<Vec<Value>> {
        ids.iter().map(|&id| self.value(id)).collect()
    }

    fn value(&self, id: NodeId) -> Result<Value> {
        match self.tree.kind(id) {
            Kind::Constant(Constant::Ellipsis) if self.takes_ellipsis => {
                Ok(Value::Opaque(Opaque { type_name: "ellipsis", repr: "Ellipsis".into() }.into()))
            }
            Kind::Constant(constant) => constant_value(constant).ok_or_else(unsupported),
            Kind::Name { name, .. } if name == "__debug__" => Ok(Value::Bool(true)),
            Kind::Name { name, .. } => match self.known_function(id) {
                Some(_) => Err(unsupported()),
                None => Err(Exception::new(ExceptionKind::Name, format!("name '{name}' is not defined"))),
            },
            Kind::Format { text, expressions } if expressions.is_empty() => Ok(Value::str(text)),
            Kind::List(items) => Ok(Value::list(self.values(items)?)),
            Kind::Tuple(items) => Ok(Value::tuple(self.values(items)?)),
            Kind::Dict(entries) => {
                // All are evaluated before any is put in.
                let mut pairs = Vec::with_capacity(entries.len());
                for &(key, value) in entries {
                    let key = key.map(|key| self.value(key)).transpose()?;
                    pairs.push((key, self.value(value)?));
                }
                let mut dict = Dict::new();
                for (key, value) in pairs {
                    let key = key.ok_or_else(unsupported)?;
                    key.check_hashable()?;
                    dict.set(key, value);
                }
                Ok(Value::Dict(dict.into()))
            }
            Kind::Unary { operator: operator @ ("-" | "+"), operand } => signed(operator, self.value(*operand)?),
            Kind::Call { function: Some(function), positional, keywords } => {
                let function = match self.known_function(*function) {
                    Some(_) => None,
                    None => Some(self.value(*function)?),
                };
                self.arguments(positional, keywords)?;
                Err(match function {
                    Some(value) => Exception::type_error(format!("'{}' object is not callable", value.type_name())),
                    None => unsupported(),
                })
            }
            // What Python evaluates before it would do what is not supported here.
            Kind::Conditional { test, .. } => self.give_up(&[*test]),
            Kind::Boolean { operands, .. } => self.give_up(&operands[..1]),
            Kind::Compare { left, rest } => self.give_up(&[*left, rest[0].1]),
            Kind::Comprehension { clauses, .. } => self.give_up(&[clauses[0].iterable]),
            Kind::Named { value, .. } => self.give_up(&[*value]),
            Kind::Lambda { parameters, .. } => {
                let defaults: Vec<_> = parameters.iter().filter_map(|parameter| parameter.default).collect();
                self.give_up(&defaults)
            }
            kind => {
                let mut children = Vec::new();
                Tree::children(kind, &mut |child| children.push(child));
                self.give_up(&children)
            }
        }
    }

    fn give_up(&self, evaluated_first: &[NodeId]) -> Result<Value> {
        self.values(evaluated_first)?;
        Err(unsupported())
    }
}

fn unsupported() -> Exception {
    Exception::new(ExceptionKind::Other, ONLY_LITERALS)
}

fn constant_value(constant: &Constant) -> Option<Value> {
    Some(match constant {
        Constant::None => Value::None,
        Constant::Bool(flag) => Value::Bool(*flag),
        Constant::Int(number) => Value::Int(number.clone()),
        Constant::Float(number) => Value::Float(*number),
        Constant::Str { text, .. } => Value::Str(text.clone()),
        Constant::Ellipsis | Constant::Imaginary(_) | Constant::Bytes(_) => return None,
    })
}

/// `-value` or `+value`.
pub(in crate::python) fn signed(operator: &str, value: Value) -> Result<Value> {
    let negative = operator == "-";
    Ok(match value {
        Value::Int(number) => Value::Int(if negative { -number } else { number }),
        Value::Float(number) => Value::Float(if negative { -number } else { number }),
        Value::Bool(flag) => {
            let number = BigInt::from(u8::from(flag));
            Value::Int(if negative { -number } else { number })
        }
        other => {
            let message = format!("bad operand type for unary {operator}: '{}'", other.type_name());
            return Err(Exception::type_error(message));
        }
    })
}

#[cfg(test)]
mod tests;
