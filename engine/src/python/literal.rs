//! Python literals: one alone, as `ast.literal_eval` reads it, or the constants of a Python file.

use super::exception::{Exception, ExceptionKind, Result};
use super::syntax;
use super::value::Value;

/// Reads one literal, as `ast.literal_eval` does for the types of [`Value`].
pub fn parse_literal(text: &str) -> Result<Value> {
    let (tree, root) = syntax::parse(text)?;
    syntax::literal(&tree, root).map_err(|error| match error.kind {
        ExceptionKind::Name | ExceptionKind::Other => {
            Exception::value_error(format!("malformed node or string on line {}", tree.line(root)))
        }
        _ => error,
    })
}

/// Reads a Python file that consists of `NAME = literal` statements and comments. A name assigned twice is listed twice.
pub fn parse_assignments(source: &str) -> Result<Vec<(String, Value)>> {
    let (tree, assignments) = syntax::parse_assignments(source)?;
    assignments
        .into_iter()
        .map(|(name, id)| {
            let value = syntax::literal(&tree, id).map_err(|error| {
                Exception::value_error(format!("{name}, line {}: the value is not a literal ({error})", tree.line(id)))
            })?;
            Ok((name, value))
        })
        .collect()
}
