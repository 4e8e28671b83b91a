//! A tree back to text, spelled as `ast.unparse` of CPython 3.11 does.

use std::fmt::Write as _;

use super::tree::{ComprehensionKind, Constant, Kind, NodeId, Tree};
use super::{bytes_repr, parser};
use crate::python::text;
use crate::python::value::Value;

// How tightly a place binds: an expression that binds less is put in brackets.
const NAMED: usize = 0;
const TUPLE: usize = 1;
const YIELD: usize = 2;
const TEST: usize = 3;
const OR: usize = 4;
const AND: usize = 5;
const NOT: usize = 6;
const COMPARE: usize = 7;
/// `|`, the first of the levels of [`parser::binding`].
const BITWISE_OR: usize = 8;
const FACTOR: usize = 14;
const POWER: usize = 15;
const AWAIT: usize = 16;
const ATOM: usize = 17;

/// f-strings are not unparsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::python) struct NotWritten;

/// The text of the expression at `id`.
pub(in crate::python) fn unparse(tree: &Tree, id: NodeId) -> Result<String, NotWritten> {
    let mut writer = Writer { tree, out: String::new() };
    writer.write(id, TEST)?;
    Ok(writer.out)
}

struct Writer<'a> {
    tree: &'a Tree,
    out: String,
}

type Written = Result<(), NotWritten>;

impl Writer<'_> {
    fn brackets(&mut self, needed: bool, inside: impl FnOnce(&mut Self) -> Written) -> Written {
        if needed {
            self.out.push('(');
        }
        inside(self)?;
        if needed {
            self.out.push(')');
        }
        Ok(())
    }

    fn list(&mut self, items: &[NodeId]) -> Written {
        for (index, &item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            self.write(item, TEST)?;
        }
        Ok(())
    }

    /// The items of a tuple: a single one gets its comma.
    fn items(&mut self, items: &[NodeId]) -> Written {
        self.list(items)?;
        if items.len() == 1 {
            self.out.push(',');
        }
        Ok(())
    }

    fn write(&mut self, id: NodeId, level: usize) -> Written {
        let tree = self.tree;
        match tree.kind(id) {
            Kind::Constant(constant) => self.constant(constant),
            Kind::Name { name, .. } => self.out.push_str(name),
            Kind::Format { .. } => return Err(NotWritten),
            Kind::Call { function, positional, keywords } => {
                if let Some(function) = function {
                    self.write(*function, ATOM)?;
                }
                self.out.push('(');
                self.list(positional)?;
                for (index, keyword) in keywords.iter().enumerate() {
                    if index > 0 || !positional.is_empty() {
                        self.out.push_str(", ");
                    }
                    match &keyword.name {
                        Some(name) => {
                            self.out.push_str(name);
                            self.out.push('=');
                        }
                        None => self.out.push_str("**"),
                    }
                    self.write(keyword.value, TEST)?;
                }
                self.out.push(')');
            }
            Kind::Attribute { value, name } => {
                self.write(*value, ATOM)?;
                // `1 .real`, because `1.` is a number.
                if matches!(tree.kind(*value), Kind::Constant(Constant::Int(_) | Constant::Bool(_))) {
                    self.out.push(' ');
                }
                self.out.push('.');
                self.out.push_str(name);
            }
            Kind::Subscript { value, index } => {
                self.write(*value, ATOM)?;
                self.out.push('[');
                match tree.kind(*index) {
                    Kind::Tuple(items) if !items.is_empty() => self.items(items)?,
                    _ => self.write(*index, TEST)?,
                }
                self.out.push(']');
            }
            Kind::Slice { lower, upper, step } => {
                if let Some(lower) = lower {
                    self.write(*lower, TEST)?;
                }
                self.out.push(':');
                if let Some(upper) = upper {
                    self.write(*upper, TEST)?;
                }
                if let Some(step) = step {
                    self.out.push(':');
                    self.write(*step, TEST)?;
                }
            }
            Kind::Starred(value) => {
                self.out.push('*');
                self.write(*value, BITWISE_OR)?;
            }
            Kind::List(items) => {
                self.out.push('[');
                self.list(items)?;
                self.out.push(']');
            }
            Kind::Set(items) => {
                self.out.push('{');
                self.list(items)?;
                self.out.push('}');
            }
            Kind::Tuple(items) => self.brackets(items.is_empty() || level > TUPLE, |writer| writer.items(items))?,
            Kind::Dict(entries) => {
                self.out.push('{');
                for (index, &(key, value)) in entries.iter().enumerate() {
                    if index > 0 {
                        self.out.push_str(", ");
                    }
                    match key {
                        Some(key) => {
                            self.write(key, TEST)?;
                            self.out.push_str(": ");
                            self.write(value, TEST)?;
                        }
                        None => {
                            self.out.push_str("**");
                            self.write(value, BITWISE_OR)?;
                        }
                    }
                }
                self.out.push('}');
            }
            Kind::Unary { operator, operand } => {
                let own = if *operator == "not" { NOT } else { FACTOR };
                self.brackets(level > own, |writer| {
                    writer.out.push_str(operator);
                    if own == NOT {
                        writer.out.push(' ');
                    }
                    writer.write(*operand, own)
                })?;
            }
            Kind::Binary { operator, left, right } => {
                let own = parser::binding(operator).map_or(POWER, |binding| BITWISE_OR + binding);
                // `**` groups from the right, the others from the left.
                let (left_level, right_level) = if own == POWER { (own + 1, own) } else { (own, own + 1) };
                self.brackets(level > own, |writer| {
                    writer.write(*left, left_level)?;
                    writer.spaced(operator);
                    writer.write(*right, right_level)
                })?;
            }
            Kind::Boolean { operator, operands } => {
                let own = if *operator == "or" { OR } else { AND };
                self.brackets(level > own, |writer| {
                    for (index, &operand) in operands.iter().enumerate() {
                        if index > 0 {
                            writer.spaced(operator);
                        }
                        // As the original does it: each operand binds tighter than the one before.
                        writer.write(operand, (own + 1 + index).min(ATOM))?;
                    }
                    Ok(())
                })?;
            }
            Kind::Compare { left, rest } => self.brackets(level > COMPARE, |writer| {
                writer.write(*left, COMPARE + 1)?;
                for (operator, operand) in rest {
                    writer.spaced(operator);
                    writer.write(*operand, COMPARE + 1)?;
                }
                Ok(())
            })?,
            Kind::Conditional { test, body, otherwise } => self.brackets(level > TEST, |writer| {
                writer.write(*body, TEST + 1)?;
                writer.spaced("if");
                writer.write(*test, TEST + 1)?;
                writer.spaced("else");
                writer.write(*otherwise, TEST)
            })?,
            Kind::Lambda { parameters, body } => self.brackets(level > TEST, |writer| {
                writer.out.push_str("lambda");
                for (index, parameter) in parameters.iter().enumerate() {
                    writer.out.push_str(if index > 0 { ", " } else { " " });
                    writer.out.push_str(parameter.star);
                    writer.out.push_str(parameter.name.as_deref().unwrap_or_default());
                    if let Some(default) = parameter.default {
                        writer.out.push('=');
                        writer.write(default, TEST)?;
                    }
                }
                writer.out.push_str(": ");
                writer.write(*body, TEST)
            })?,
            Kind::Comprehension { kind, element, value, clauses } => {
                let (opening, closing) = match kind {
                    ComprehensionKind::List => ('[', ']'),
                    ComprehensionKind::Generator => ('(', ')'),
                    ComprehensionKind::Set | ComprehensionKind::Dict => ('{', '}'),
                };
                self.out.push(opening);
                self.write(*element, TEST)?;
                if let Some(value) = value {
                    self.out.push_str(": ");
                    self.write(*value, TEST)?;
                }
                for clause in clauses {
                    self.out.push_str(if clause.is_async { " async for " } else { " for " });
                    self.write(clause.target, TUPLE)?;
                    self.spaced("in");
                    self.write(clause.iterable, TEST + 1)?;
                    for &condition in &clause.conditions {
                        self.spaced("if");
                        self.write(condition, TEST + 1)?;
                    }
                }
                self.out.push(closing);
            }
            Kind::Named { target, value } => self.brackets(level > NAMED, |writer| {
                writer.write(*target, ATOM)?;
                writer.out.push_str(" := ");
                writer.write(*value, ATOM)
            })?,
            Kind::Await(value) => self.brackets(level > AWAIT, |writer| {
                writer.out.push_str("await ");
                writer.write(*value, ATOM)
            })?,
            Kind::Yield(value) => self.brackets(level > YIELD, |writer| {
                writer.out.push_str("yield");
                if let Some(value) = value {
                    writer.out.push(' ');
                    writer.write(*value, ATOM)?;
                }
                Ok(())
            })?,
            Kind::YieldFrom(value) => self.brackets(level > YIELD, |writer| {
                writer.out.push_str("yield from ");
                writer.write(*value, ATOM)
            })?,
        }
        Ok(())
    }

    fn spaced(&mut self, word: &str) {
        write!(self.out, " {word} ").expect("writing to a String cannot fail");
    }

    fn constant(&mut self, constant: &Constant) {
        // `inf` is no literal: a number that is too large is.
        let number = |number: f64| text::float_repr(number).replace("inf", "1e309");
        match constant {
            Constant::None => self.out.push_str("None"),
            Constant::Bool(flag) => self.out.push_str(if *flag { "True" } else { "False" }),
            Constant::Ellipsis => self.out.push_str("..."),
            Constant::Int(value) => self.out.push_str(&value.to_string()),
            Constant::Float(value) => self.out.push_str(&number(*value)),
            Constant::Imaginary(value) => {
                let value = number(*value);
                self.out.push_str(value.strip_suffix(".0").unwrap_or(&value));
                self.out.push('j');
            }
            Constant::Str { text: value, prefixed } => {
                if *prefixed {
                    self.out.push('u');
                }
                self.out.push_str(&text::repr(&Value::Str(value.clone())));
            }
            Constant::Bytes(bytes) => self.out.push_str(&bytes_repr(bytes)),
        }
    }
}
