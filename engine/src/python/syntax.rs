//! Placeholder until the parser lands.
use super::{Arguments, Exception, Result, Value};
/// A parsed call.
pub struct ParsedCall {
    /// Name.
    pub name: String,
    /// Arguments.
    pub arguments: Arguments,
}
/// What text evaluates to.
pub enum Evaluated {
    /// A call.
    Call(ParsedCall),
    /// A literal.
    Literal(Value),
}
/// The forbidden name that the call begins with.
pub fn forbidden_name(_call: &str, _is_known: impl Fn(&str) -> bool) -> Option<&str> {
    None
}
/// Evaluates a call string.
pub fn evaluate(text: &str, _is_known: impl Fn(&str) -> bool) -> Result<Evaluated> {
    Err(Exception::value_error(text))
}
