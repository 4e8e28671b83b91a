//! The part of Python that BFCL's worlds show through their result strings: values, operators with Python's error
//! words, `repr`, `str`, `json.dumps`, call strings, random numbers and number formatting.
//!
//! This is not an interpreter: nothing here evaluates code. Worlds are written in Rust and use these values because
//! what a call answers (and what the checker compares) is defined by Python's behaviour on *any* literal argument, for
//! example `cd(folder=5)` → `'int' object has no attribute 'rstrip'`.

pub mod call;
pub mod datetime;
pub mod decimal;
pub mod decode;
pub mod exception;
pub mod literal;
pub mod mpf;
pub mod number;
pub mod ops;
mod printable;
pub mod random;
pub mod strings;
pub mod syntax;
pub mod text;
pub mod value;

pub use call::{Arguments, Default, Parameter, Signature};
pub use datetime::DateTime;
pub use exception::{Exception, ExceptionKind, Result};
pub use random::Random;
pub use value::{Dict, Opaque, Value};

/// Which CPython's behaviour to follow where versions differ.
///
/// The known difference that shows in results: from 3.12 on, `sum()` over floats is compensated (Neumaier).
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::default::Default, serde::Serialize, serde::Deserialize)]
pub enum PythonVersion {
    /// CPython 3.11: `sum()` adds floats left to right.
    #[serde(rename = "3.11")]
    V3_11,
    /// CPython 3.12 and later: `sum()` over floats is compensated.
    #[default]
    #[serde(rename = "3.12")]
    V3_12,
}
