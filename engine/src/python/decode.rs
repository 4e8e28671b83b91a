//! What a model wrote, decoded to call strings as the official handlers do it.
//!
//! A step in a result file of the official harness is either text (prompting: `[cd(folder='x'), ls(a=True)]`) or a list of
//! objects (function calling: `[{"cd": "{\"folder\": \"x\"}"}]`). The strings that come out equal the official ones, with
//! the official quirks: positional arguments are dropped, a nested call becomes text. Where the original raises, and the
//! step counts as not decodable, this gives a [`DecodeError`].

use num_integer::Integer;
use num_traits::{ToPrimitive, Zero};

use super::exception::{Exception, ExceptionKind};
use super::syntax::tree::{Constant, Kind, NodeId, Tree};
use super::syntax::unparse::unparse;
use super::syntax::{self, bytes_repr};
use super::value::{Dict, Opaque, Value};
use super::{number, ops, strings, text};

/// Why a step cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The text is not Python.
    #[error("the text is not a list of Python calls: {0}")]
    NotPython(Exception),
    /// The text is Python, but no list of calls.
    #[error("the text is not a list of Python calls")]
    NotCalls,
    /// An argument of a kind that the official decoder does not take.
    #[error("the argument is {0}, which cannot be decoded")]
    Argument(&'static str),
    /// Evaluating an argument raised.
    #[error("an argument cannot be evaluated: {0}")]
    Evaluation(Exception),
    /// The official decoder trips over an empty dict (it takes it for a call).
    #[error("an argument is an empty dict, which cannot be decoded")]
    EmptyDict,
    /// Arguments in JSON that do not parse.
    #[error("the arguments are not JSON: {0}")]
    NotJson(#[from] JsonError),
    /// Not of the shape `[{"name": arguments}]`.
    #[error("a call is written as {{\"name\": {{arguments}}}}, found {0}")]
    Shape(&'static str),
}

/// Decodes one step of a result file: text as prompting does, objects as function calling does.
pub fn decode_step(step: &serde_json::Value) -> Result<Vec<String>, DecodeError> {
    match step {
        serde_json::Value::String(text) => decode_text(text),
        other => decode_function_calls(&Value::from_json(other)),
    }
}

/// Decodes `[{"name": arguments}, …]` (or one such object), the arguments being an object or JSON text of one.
pub fn decode_function_calls(calls: &Value) -> Result<Vec<String>, DecodeError> {
    let single = [calls.clone()];
    let calls = match calls {
        Value::Dict(_) => &single[..],
        Value::List(calls) => calls,
        other => return Err(DecodeError::Shape(other.type_name())),
    };
    let mut decoded = Vec::new();
    for call in calls {
        let call = call.as_dict().ok_or(DecodeError::Shape(call.type_name()))?;
        for (name, arguments) in call.iter() {
            let parsed;
            let arguments = match arguments {
                Value::Str(json) => {
                    parsed = json_loads(json)?;
                    &parsed
                }
                other => other,
            };
            let arguments = arguments.as_dict().ok_or(DecodeError::Shape(arguments.type_name()))?;
            let written: Vec<_> =
                arguments.iter().map(|(key, value)| format!("{}={}", text::str(key), text::repr(value))).collect();
            decoded.push(format!("{}({})", text::str(name), written.join(",")));
        }
    }
    Ok(decoded)
}

/// Decodes text such as `[cd(folder='x'), ls(a=True)]`; missing brackets around it are added.
pub fn decode_text(step: &str) -> Result<Vec<String>, DecodeError> {
    let mut list = step.trim_matches(['`', '\n', ' ']).to_owned();
    if !list.starts_with('[') {
        list.insert(0, '[');
    }
    if !list.ends_with(']') {
        list.push(']');
    }
    let list = list.trim_matches(strings::is_space).trim_matches('\'');
    let (tree, root) = syntax::parse(list).map_err(DecodeError::NotPython)?;
    let decoder = Decoder { tree: &tree };
    let calls = match tree.kind(root) {
        Kind::Call { .. } => vec![root],
        Kind::List(items) | Kind::Tuple(items) | Kind::Set(items) => items.clone(),
        _ => return Err(DecodeError::NotCalls),
    };
    // Decoding is over before writing starts, so that its errors come first.
    let calls = calls.into_iter().map(|call| decoder.call(call)).collect::<Result<Vec<_>, _>>()?;
    calls.into_iter().map(|(name, arguments)| write_call(&name, &arguments)).collect()
}

/// `name(key=value, …)`
fn write_call(name: &str, arguments: &Dict) -> Result<String, DecodeError> {
    let written = arguments
        .iter()
        .map(|(key, value)| Ok(format!("{}={}", text::str(key), write_value(value)?)))
        .collect::<Result<Vec<_>, DecodeError>>()?;
    Ok(format!("{name}({})", written.join(", ")))
}

/// A dict whose values are all dicts is taken for a call, as a nested call is kept that way.
fn write_value(value: &Value) -> Result<String, DecodeError> {
    let Value::Dict(dict) = value else { return Ok(text::repr(value)) };
    if dict.values().all(|value| value.as_dict().is_some()) {
        let (name, arguments) = dict.iter().next().ok_or(DecodeError::EmptyDict)?;
        return write_call(&text::str(name), arguments.as_dict().unwrap_or(&Dict::new()));
    }
    let written = dict
        .iter()
        .map(|(key, value)| Ok(format!("'{}': {}", text::str(key), write_value(value)?)))
        .collect::<Result<Vec<_>, DecodeError>>()?;
    Ok(format!("{{{}}}", written.join(", ")))
}

struct Decoder<'a> {
    tree: &'a Tree,
}

impl Decoder<'_> {
    /// A call's name and its keyword arguments; positional ones are dropped.
    fn call(&self, id: NodeId) -> Result<(String, Dict), DecodeError> {
        let Kind::Call { function, keywords, .. } = self.tree.kind(id) else { return Err(DecodeError::NotCalls) };
        let mut parts = Vec::new();
        let mut part = *function;
        while let Some(id) = part {
            part = match self.tree.kind(id) {
                Kind::Attribute { value, name } => {
                    parts.push(name.as_str());
                    Some(*value)
                }
                Kind::Name { name, .. } => {
                    parts.push(name.as_str());
                    None
                }
                _ => None,
            };
        }
        parts.reverse();
        let mut arguments = Dict::new();
        for keyword in keywords {
            let value = self.value(keyword.value)?;
            // `**value` has no name: the original writes `None=value`.
            arguments.set(keyword.name.as_deref().map_or(Value::None, Value::from), value);
        }
        Ok((parts.join("."), arguments))
    }

    fn values(&self, ids: &[NodeId]) -> Result<Vec<Value>, DecodeError> {
        ids.iter().map(|&id| self.value(id)).collect()
    }

    fn value(&self, id: NodeId) -> Result<Value, DecodeError> {
        Ok(match self.tree.kind(id) {
            Kind::Constant(constant) => constant_value(constant),
            Kind::Unary { operand, .. } => match self.tree.kind(*operand) {
                // Whatever the operator is, the original negates.
                Kind::Constant(Constant::Imaginary(number)) => complex(-0.0, -number),
                Kind::Constant(constant) => {
                    syntax::signed("-", constant_value(constant)).map_err(DecodeError::Evaluation)?
                }
                _ => return Err(DecodeError::Argument("a sign before something that is no literal")),
            },
            Kind::List(items) => Value::list(self.values(items)?),
            Kind::Tuple(items) => Value::tuple(self.values(items)?),
            Kind::Dict(entries) => {
                let mut dict = Dict::new();
                for &(key, value) in entries {
                    let key = key.ok_or(DecodeError::Argument("a dict with `**`"))?;
                    let key = self.value(key)?;
                    let value = self.value(value)?;
                    key.check_hashable().map_err(DecodeError::Evaluation)?;
                    dict.set(key, value);
                }
                Value::Dict(dict.into())
            }
            Kind::Binary { .. } => self.arithmetic(id)?,
            Kind::Name { name, .. } => Value::str(name),
            Kind::Call { keywords, .. } if keywords.is_empty() => Value::from(self.unparse(id)?),
            Kind::Call { .. } => {
                let (name, arguments) = self.call(id)?;
                Value::dict([(name, Value::Dict(arguments.into()))])
            }
            Kind::Subscript { value, index } => {
                Value::from(format!("{}[{}]", self.unparse(*value)?, self.unparse(*index)?))
            }
            _ => return Err(DecodeError::Argument(self.tree.describe(id))),
        })
    }

    fn unparse(&self, id: NodeId) -> Result<String, DecodeError> {
        unparse(self.tree, id).map_err(|_| DecodeError::Argument("an f-string expression"))
    }

    /// Evaluates operators on literals. The original evaluates anything here.
    fn arithmetic(&self, id: NodeId) -> Result<Value, DecodeError> {
        match self.tree.kind(id) {
            Kind::Binary { operator, left, right } => {
                let left = self.arithmetic(*left)?;
                let right = self.arithmetic(*right)?;
                binary(operator, &left, &right)
            }
            Kind::Unary { operator: operator @ ("-" | "+"), operand } => {
                syntax::signed(operator, self.arithmetic(*operand)?).map_err(DecodeError::Evaluation)
            }
            _ => syntax::literal(self.tree, id).map_err(DecodeError::Evaluation),
        }
    }
}

/// Results longer than this are refused, so that `'a' * 10 ** 9` does no harm.
const LONGEST_REPEAT: i64 = 100_000;

fn binary(operator: &str, left: &Value, right: &Value) -> Result<Value, DecodeError> {
    let repeats = |sequence: &Value, count: &Value| {
        ops::len(sequence).is_ok_and(|length| {
            i64::try_from(length).unwrap_or(i64::MAX).saturating_mul(count.as_i64().unwrap_or(i64::MAX))
                > LONGEST_REPEAT
        })
    };
    let result = match operator {
        "+" => ops::add(left, right),
        "-" => ops::sub(left, right),
        "*" if repeats(left, right) || repeats(right, left) => {
            return Err(DecodeError::Argument("a repetition that is too long"));
        }
        "*" => ops::mul(left, right),
        "/" => ops::truediv(left, right),
        "//" | "%" => return divide(operator == "//", left, right),
        "**" => number::power(left, right),
        _ => return bitwise(operator, left, right),
    };
    result.map_err(DecodeError::Evaluation)
}

const UNSUPPORTED: DecodeError = DecodeError::Argument("an operation that is not supported");

/// `left // right` (`floor`) or `left % right`, of numbers.
fn divide(floor: bool, left: &Value, right: &Value) -> Result<Value, DecodeError> {
    if let (Some(left), Some(right)) = (left.to_int(), right.to_int()) {
        if right.is_zero() {
            let message = "integer division or modulo by zero";
            return Err(DecodeError::Evaluation(Exception::new(ExceptionKind::ZeroDivision, message)));
        }
        return Ok(Value::Int(if floor { left.div_floor(&right) } else { left.mod_floor(&right) }));
    }
    let (left, right) = (float(left)?, float(right)?);
    if right == 0.0 {
        return Err(DecodeError::Evaluation(Exception::new(ExceptionKind::ZeroDivision, "float division by zero")));
    }
    // As CPython computes them: from the exact remainder, with the sign of the divisor.
    let mut remainder = left % right;
    let mut quotient = (left - remainder) / right;
    if remainder == 0.0 {
        remainder = 0.0_f64.copysign(right);
    } else if (right < 0.0) != (remainder < 0.0) {
        remainder += right;
        quotient -= 1.0;
    }
    if !floor {
        return Ok(Value::Float(remainder));
    }
    let mut whole = quotient.floor();
    if quotient == 0.0 {
        whole = 0.0_f64.copysign(left / right);
    } else if quotient - whole > 0.5 {
        whole += 1.0;
    }
    Ok(Value::Float(whole))
}

/// `|`, `^`, `&`, `<<` and `>>` of ints.
fn bitwise(operator: &str, left: &Value, right: &Value) -> Result<Value, DecodeError> {
    let (Some(first), Some(second)) = (left.to_int(), right.to_int()) else { return Err(UNSUPPORTED) };
    let shift = || second.to_usize().filter(|&shift| shift <= 10_000).ok_or(UNSUPPORTED);
    Ok(match (operator, left, right) {
        ("|", Value::Bool(a), Value::Bool(b)) => Value::Bool(a | b),
        ("^", Value::Bool(a), Value::Bool(b)) => Value::Bool(a ^ b),
        ("&", Value::Bool(a), Value::Bool(b)) => Value::Bool(a & b),
        ("|", ..) => Value::Int(first | second),
        ("^", ..) => Value::Int(first ^ second),
        ("&", ..) => Value::Int(first & second),
        ("<<", ..) => Value::Int(first << shift()?),
        (">>", ..) => Value::Int(first >> shift()?),
        _ => return Err(UNSUPPORTED),
    })
}

fn float(value: &Value) -> Result<f64, DecodeError> {
    match (value, value.to_int()) {
        (Value::Float(number), _) => Ok(*number),
        (_, Some(number)) => ops::int_to_float(&number).map_err(DecodeError::Evaluation),
        _ => Err(UNSUPPORTED),
    }
}

fn constant_value(constant: &Constant) -> Value {
    match constant {
        Constant::None => Value::None,
        Constant::Bool(flag) => Value::Bool(*flag),
        Constant::Ellipsis => Value::str("..."),
        Constant::Int(number) => Value::Int(number.clone()),
        Constant::Float(number) => Value::Float(*number),
        Constant::Imaginary(number) => complex(0.0, *number),
        Constant::Str { text, .. } => Value::Str(text.clone()),
        Constant::Bytes(bytes) => Value::Opaque(Opaque { type_name: "bytes", repr: bytes_repr(bytes) }.into()),
    }
}

fn complex(real: f64, imaginary: f64) -> Value {
    let number = text::float_repr(imaginary);
    let number = number.strip_suffix(".0").unwrap_or(&number);
    // A real part of 0 is left out, one of -0 is not.
    let repr = if real.is_sign_negative() { format!("(-0{number}j)") } else { format!("{number}j") };
    Value::Opaque(Opaque { type_name: "complex", repr }.into())
}

/// Why a text is not JSON, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at character {position}")]
pub struct JsonError {
    /// What was expected or found.
    pub reason: &'static str,
    /// Index of the character, from 0.
    pub position: usize,
}

/// How deep JSON may nest. Python's limit is its recursion limit, about 1,000.
const MAX_JSON_DEPTH: usize = 300;

/// `json.loads`: ints are unbounded, `NaN` and `Infinity` are taken, of equal keys the last value counts.
pub fn json_loads(text: &str) -> Result<Value, JsonError> {
    let characters: Vec<char> = text.chars().collect();
    let mut reader = JsonReader { characters: &characters, position: 0 };
    reader.space();
    let value = reader.value(0)?;
    reader.space();
    if reader.position < characters.len() {
        return Err(reader.error("extra data"));
    }
    Ok(value)
}

struct JsonReader<'a> {
    characters: &'a [char],
    position: usize,
}

impl JsonReader<'_> {
    fn error(&self, reason: &'static str) -> JsonError {
        JsonError { reason, position: self.position }
    }

    fn peek(&self) -> Option<char> {
        self.characters.get(self.position).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.position += 1;
        }
    }

    fn accept(&mut self, word: &str) -> bool {
        let length = word.chars().count();
        let rest = &self.characters[self.position.min(self.characters.len())..];
        let found = rest.len() >= length && word.chars().zip(rest).all(|(expected, &found)| expected == found);
        if found {
            self.position += length;
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        if depth > MAX_JSON_DEPTH {
            return Err(self.error("too deep nesting"));
        }
        match self.peek() {
            Some('"') => self.string().map(Value::from),
            Some('{') => self.object(depth),
            Some('[') => self.array(depth),
            _ if self.accept("null") => Ok(Value::None),
            _ if self.accept("true") => Ok(Value::Bool(true)),
            _ if self.accept("false") => Ok(Value::Bool(false)),
            _ if self.accept("NaN") => Ok(Value::Float(f64::NAN)),
            _ if self.accept("Infinity") => Ok(Value::Float(f64::INFINITY)),
            _ if self.accept("-Infinity") => Ok(Value::Float(f64::NEG_INFINITY)),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.position += 1;
        let mut dict = Dict::new();
        self.space();
        if self.accept("}") {
            return Ok(Value::Dict(dict.into()));
        }
        loop {
            if self.peek() != Some('"') {
                return Err(self.error("expected a property name"));
            }
            let key = self.string()?;
            self.space();
            if !self.accept(":") {
                return Err(self.error("expected ':'"));
            }
            self.space();
            dict.set(key, self.value(depth + 1)?);
            self.space();
            if self.accept("}") {
                return Ok(Value::Dict(dict.into()));
            }
            if !self.accept(",") {
                return Err(self.error("expected ','"));
            }
            self.space();
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.position += 1;
        let mut items = Vec::new();
        self.space();
        if self.accept("]") {
            return Ok(Value::list(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            if self.accept("]") {
                return Ok(Value::list(items));
            }
            if !self.accept(",") {
                return Err(self.error("expected ','"));
            }
            self.space();
        }
    }

    fn digits(&mut self, written: &mut String) -> usize {
        let start = self.position;
        while let Some(digit) = self.peek().filter(char::is_ascii_digit) {
            written.push(digit);
            self.position += 1;
        }
        self.position - start
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.position;
        let mut written = String::new();
        if self.accept("-") {
            written.push('-');
        }
        // `01` is the number 0 and then something else.
        if self.accept("0") {
            written.push('0');
        } else if self.digits(&mut written) == 0 {
            self.position = start;
            return Err(self.error("expected a value"));
        }
        let mut is_float = false;
        let (end, length) = (self.position, written.len());
        if self.accept(".") {
            written.push('.');
            if self.digits(&mut written) > 0 {
                is_float = true;
            } else {
                self.position = end;
                written.truncate(length);
            }
        }
        let (end, length) = (self.position, written.len());
        if let Some('e' | 'E') = self.peek() {
            self.position += 1;
            written.push('e');
            if let Some(sign @ ('+' | '-')) = self.peek() {
                self.position += 1;
                written.push(sign);
            }
            if self.digits(&mut written) > 0 {
                is_float = true;
            } else {
                self.position = end;
                written.truncate(length);
            }
        }
        if is_float {
            return Ok(Value::Float(written.parse().unwrap_or(f64::NAN)));
        }
        // Python refuses to convert longer numbers.
        if written.trim_start_matches('-').len() > 4300 {
            return Err(self.error("an int with too many digits"));
        }
        Ok(Value::Int(num_bigint::BigInt::parse_bytes(written.as_bytes(), 10).unwrap_or_default()))
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.position += 1;
        let mut text = String::new();
        loop {
            let Some(character) = self.peek() else { return Err(self.error("unterminated string")) };
            self.position += 1;
            match character {
                '"' => return Ok(text),
                '\\' => {
                    let Some(escape) = self.peek() else { return Err(self.error("unterminated string")) };
                    self.position += 1;
                    text.push(match escape {
                        '"' | '\\' | '/' => escape,
                        'b' => '\u{8}',
                        'f' => '\u{c}',
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        'u' => self.unicode_escape()?,
                        _ => return Err(self.error("invalid escape")),
                    });
                }
                '\0'..='\u{1f}' => return Err(self.error("invalid control character")),
                other => text.push(other),
            }
        }
    }

    /// What follows `\u`. A pair of surrogates is one character; a lone one becomes U+FFFD.
    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let high = self.hexadecimal()?;
        if (0xd800..0xdc00).contains(&high) {
            let before = self.position;
            if self.accept("\\u") {
                let low = self.hexadecimal()?;
                if (0xdc00..0xe000).contains(&low) {
                    let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                    return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                self.position = before;
            }
        }
        Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hexadecimal(&mut self) -> Result<u32, JsonError> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(16)) else {
                return Err(self.error("invalid \\u escape"));
            };
            code = code * 16 + digit;
            self.position += 1;
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests;
