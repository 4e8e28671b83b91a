//! How a call's arguments meet a method's parameters, with Python's words for every way in which they do not.

use super::exception::{Exception, Result};
use super::value::Value;

/// A parameter's default value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Default {
    /// No default: the argument must be given.
    Required,
    /// `None`
    None,
    /// `True` or `False`
    Bool(bool),
    /// An `int`
    Int(i64),
    /// A `float`
    Float(f64),
    /// A `str`
    Str(&'static str),
    /// A fresh `[]` for each call (the originals share one; see docs/deviations.md).
    EmptyList,
}

impl Default {
    fn value(self) -> Option<Value> {
        Some(match self {
            Self::Required => return None,
            Self::None => Value::None,
            Self::Bool(flag) => Value::Bool(flag),
            Self::Int(number) => Value::int(number),
            Self::Float(number) => Value::Float(number),
            Self::Str(text) => Value::str(text),
            Self::EmptyList => Value::list([]),
        })
    }
}

/// One parameter of a method, in the order of the Python definition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it is when not given.
    pub default: Default,
}

/// A parameter that must be given.
pub const fn required(name: &'static str) -> Parameter {
    Parameter { name, default: Default::Required }
}

/// A parameter with a default.
pub const fn optional(name: &'static str, default: Default) -> Parameter {
    Parameter { name, default }
}

/// A method's name and parameters (`self` left out).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signature {
    /// The method's name.
    pub name: &'static str,
    /// Its parameters, in the order of the Python definition.
    pub parameters: &'static [Parameter],
}

/// A method's signature.
pub const fn method(name: &'static str, parameters: &'static [Parameter]) -> Signature {
    Signature { name, parameters }
}

/// The arguments as written: positional, then by name (unique; the parser refuses repeats).
#[derive(Clone, Debug, std::default::Default, PartialEq)]
pub struct Arguments {
    /// Positional arguments.
    pub positional: Vec<Value>,
    /// Keyword arguments in the order written.
    pub keywords: Vec<(String, Value)>,
}

impl Signature {
    /// Binds arguments to parameters as CPython does for a bound method of class `class_name`, with its error words.
    /// Returns one value per parameter, in order.
    pub fn bind(&self, class_name: &str, arguments: Arguments) -> Result<Vec<Value>> {
        let full_name = format_args!("{class_name}.{}()", self.name);
        let total = self.parameters.len();
        let given = arguments.positional.len();
        let mut slots: Vec<Option<Value>> = vec![None; total];
        let mut positional = arguments.positional.into_iter();
        for (slot, value) in slots.iter_mut().zip(positional.by_ref()) {
            *slot = Some(value);
        }
        // CPython handles keywords before it complains of too many positional arguments.
        for (name, value) in arguments.keywords {
            match self.parameters.iter().position(|parameter| parameter.name == name) {
                Some(index) if slots[index].is_some() => {
                    return Err(Exception::type_error(format!(
                        "{full_name} got multiple values for argument '{name}'"
                    )));
                }
                Some(index) => slots[index] = Some(value),
                // `self` is a parameter too, and bound already.
                None if name == "self" => {
                    return Err(Exception::type_error(format!("{full_name} got multiple values for argument 'self'")));
                }
                None => {
                    return Err(Exception::type_error(format!(
                        "{full_name} got an unexpected keyword argument '{name}'"
                    )));
                }
            }
        }
        if given > total {
            return Err(Exception::type_error(self.too_many(class_name, given)));
        }
        for (slot, parameter) in slots.iter_mut().zip(self.parameters) {
            if slot.is_none() {
                *slot = parameter.default.value();
            }
        }
        let missing: Vec<_> = slots
            .iter()
            .zip(self.parameters)
            .filter(|(slot, _)| slot.is_none())
            .map(|(_, parameter)| format!("'{}'", parameter.name))
            .collect();
        if !missing.is_empty() {
            let plural = if missing.len() == 1 { "" } else { "s" };
            return Err(Exception::type_error(format!(
                "{full_name} missing {} required positional argument{plural}: {}",
                missing.len(),
                list_names(&missing)
            )));
        }
        Ok(slots.into_iter().flatten().collect())
    }

    fn too_many(&self, class_name: &str, given: usize) -> String {
        // `self` counts on both sides.
        let most = self.parameters.len() + 1;
        let defaults = self.parameters.iter().filter(|parameter| parameter.default != Default::Required).count();
        let takes = if defaults > 0 { format!("from {} to {most}", most - defaults) } else { most.to_string() };
        let plural = if most == 1 && defaults == 0 { "" } else { "s" };
        let given = given + 1;
        let verb = if given == 1 { "was" } else { "were" };
        format!("{class_name}.{}() takes {takes} positional argument{plural} but {given} {verb} given", self.name)
    }
}

fn list_names(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first, second] => format!("{first} and {second}"),
        [rest @ .., last] => format!("{}, and {last}", rest.join(", ")),
    }
}
