//! Python exceptions as values. A raised exception is a model mistake, so it is data: the turn loop writes it into
//! the result as `Error during execution: {message}`.

use super::text;
use super::value::Value;

/// Result of an operation that Python may refuse.
pub type Result<T> = std::result::Result<T, Exception>;

/// The class of a Python exception; worlds catch by class, as the originals do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceptionKind {
    /// `AttributeError`
    Attribute,
    /// `Exception` itself, and kinds that nothing catches by class
    Other,
    /// `IndexError`
    Index,
    /// `KeyError`
    Key,
    /// `NameError`
    Name,
    /// `OverflowError` (an `ArithmeticError`)
    Overflow,
    /// `RecursionError` (a `RuntimeError`)
    Recursion,
    /// `SyntaxError`
    Syntax,
    /// `TypeError`
    Type,
    /// `ValueError`
    Value,
    /// `ZeroDivisionError` (an `ArithmeticError`)
    ZeroDivision,
    /// `decimal.InvalidOperation` (an `ArithmeticError`)
    InvalidOperation,
}

/// A Python exception: its class and `str(e)`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Exception {
    /// The exception's class.
    pub kind: ExceptionKind,
    /// What `str(e)` gives.
    pub message: String,
}

impl Exception {
    /// An exception of the given class with the given `str(e)`.
    pub fn new(kind: ExceptionKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// `TypeError(message)`
    pub fn type_error(message: impl Into<String>) -> Self {
        Self::new(ExceptionKind::Type, message)
    }

    /// `ValueError(message)`
    pub fn value_error(message: impl Into<String>) -> Self {
        Self::new(ExceptionKind::Value, message)
    }

    /// `KeyError(key)`, whose `str` is the key's `repr`.
    pub fn key_error(key: &Value) -> Self {
        Self::new(ExceptionKind::Key, text::repr(key))
    }

    /// `'{type}' object has no attribute '{name}'`
    pub fn no_attribute(value: &Value, name: &str) -> Self {
        Self::new(ExceptionKind::Attribute, format!("'{}' object has no attribute '{name}'", value.type_name()))
    }
}
