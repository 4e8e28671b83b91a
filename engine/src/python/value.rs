//! Python values with value semantics: cloning is O(1) (shared, copied on write), so that loading a scenario, taking a
//! snapshot and comparing two states cost next to nothing. Aliasing between two Python variables is therefore *not*
//! represented; the worlds that show it (the file system) keep their own arena.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use indexmap::{Equivalent, IndexMap};
use num_bigint::BigInt;
use num_traits::{FromPrimitive, ToPrimitive};
use rustc_hash::FxBuildHasher;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::exception::{Exception, Result};
use super::text;

/// A Python object of one of the types that literals, scenarios and results are made of.
#[derive(Clone, Debug, std::default::Default)]
pub enum Value {
    /// `None`
    #[default]
    None,
    /// `bool`
    Bool(bool),
    /// `int`, unbounded
    Int(BigInt),
    /// `float`
    Float(f64),
    /// `str`. Lone surrogates cannot be held: they become U+FFFD.
    Str(Arc<str>),
    /// `list`
    List(Arc<Vec<Value>>),
    /// `tuple`
    Tuple(Arc<Vec<Value>>),
    /// `dict`, in insertion order
    Dict(Arc<Dict>),
    /// An object that is only ever shown (`Decimal('2')`, `mpf('1.5')`): no operator takes it, `json.dumps` refuses it.
    Opaque(Arc<Opaque>),
}

/// An object that worlds return but never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// `type(x).__name__`
    pub type_name: &'static str,
    /// `repr(x)`
    pub repr: String,
}

impl Value {
    /// A `str`.
    pub fn str(text: impl AsRef<str>) -> Self {
        Self::Str(Arc::from(text.as_ref()))
    }

    /// An `int`.
    pub fn int(number: impl Into<BigInt>) -> Self {
        Self::Int(number.into())
    }

    /// A `list`.
    pub fn list(items: impl IntoIterator<Item = Value>) -> Self {
        Self::List(Arc::new(items.into_iter().collect()))
    }

    /// A `tuple`.
    pub fn tuple(items: impl IntoIterator<Item = Value>) -> Self {
        Self::Tuple(Arc::new(items.into_iter().collect()))
    }

    /// A `dict` with string keys, in the order given: `Value::dict([("error", Value::str("…"))])`.
    pub fn dict<K: AsRef<str>>(entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        Self::Dict(Arc::new(entries.into_iter().map(|(key, value)| (Value::str(key), value)).collect()))
    }

    /// `{"error": message}`, the shape in which the worlds refuse.
    pub fn error(message: impl AsRef<str>) -> Self {
        Self::dict([("error", Value::str(message))])
    }

    /// `type(self).__name__`
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::Opaque(opaque) => opaque.type_name,
        }
    }

    /// `self is None`
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// `bool(self)`
    pub fn truthy(&self) -> bool {
        match self {
            Self::None => false,
            Self::Bool(flag) => *flag,
            Self::Int(number) => number.sign() != num_bigint::Sign::NoSign,
            Self::Float(number) => *number != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::List(items) | Self::Tuple(items) => !items.is_empty(),
            Self::Dict(dict) => !dict.is_empty(),
            Self::Opaque(_) => true,
        }
    }

    /// The text, if this is a `str`.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The items, if this is a `list`.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The items for changing, if this is a `list`.
    pub fn as_list_mut(&mut self) -> Option<&mut Vec<Value>> {
        match self {
            Self::List(items) => Some(Arc::make_mut(items)),
            _ => None,
        }
    }

    /// The entries, if this is a `dict`.
    pub fn as_dict(&self) -> Option<&Dict> {
        match self {
            Self::Dict(dict) => Some(dict),
            _ => None,
        }
    }

    /// The entries for changing, if this is a `dict`.
    pub fn as_dict_mut(&mut self) -> Option<&mut Dict> {
        match self {
            Self::Dict(dict) => Some(Arc::make_mut(dict)),
            _ => None,
        }
    }

    /// The number, if this is an `int` (or `bool`) that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Bool(flag) => Some(i64::from(*flag)),
            Self::Int(number) => number.to_i64(),
            _ => None,
        }
    }

    /// `isinstance(self, (int, float))`: true for `bool` too.
    pub fn is_number(&self) -> bool {
        matches!(self, Self::Bool(_) | Self::Int(_) | Self::Float(_))
    }

    /// Refuses what cannot be a dict key, in Python's words.
    pub fn check_hashable(&self) -> Result<()> {
        match self {
            Self::List(_) | Self::Dict(_) => {
                Err(Exception::type_error(format!("unhashable type: '{}'", self.type_name())))
            }
            Self::Tuple(items) => items.iter().try_for_each(Value::check_hashable),
            _ => Ok(()),
        }
    }

    /// From JSON, as `json.loads` would: whole numbers are `int`, others `float`.
    pub fn from_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::None,
            serde_json::Value::Bool(flag) => Self::Bool(*flag),
            serde_json::Value::Number(number) => {
                if let Some(number) = number.as_i64() {
                    Self::int(number)
                } else if let Some(number) = number.as_u64() {
                    Self::int(number)
                } else {
                    Self::Float(number.as_f64().unwrap_or(f64::NAN))
                }
            }
            serde_json::Value::String(text) => Self::str(text),
            serde_json::Value::Array(items) => Self::list(items.iter().map(Self::from_json)),
            serde_json::Value::Object(entries) => {
                Self::dict(entries.iter().map(|(key, value)| (key, Self::from_json(value))))
            }
        }
    }

    /// To JSON for showing. What JSON cannot hold (`nan`, huge ints, opaque objects) becomes its `repr` as a string.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::None => serde_json::Value::Null,
            Self::Bool(flag) => (*flag).into(),
            Self::Int(number) => match (number.to_i64(), number.to_u64()) {
                (Some(number), _) => number.into(),
                (None, Some(number)) => number.into(),
                _ => number.to_string().into(),
            },
            Self::Float(number) if number.is_finite() => (*number).into(),
            Self::Float(_) | Self::Opaque(_) => text::repr(self).into(),
            Self::Str(text) => text.as_ref().into(),
            Self::List(items) | Self::Tuple(items) => items.iter().map(Self::to_json).collect(),
            Self::Dict(dict) => dict
                .iter()
                .map(|(key, value)| (text::str(key), value.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

/// As the JSON of [`Value::to_json`].
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

/// From any JSON, as [`Value::from_json`].
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        serde_json::Value::deserialize(deserializer).map(|json| Self::from_json(&json))
    }
}

impl JsonSchema for Value {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Value".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        serde_json::Value::json_schema(generator)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::int(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::str(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(text.into())
    }
}

/// Python's `==`: numbers compare across types, dicts without regard to order, lists and tuples in order.
/// As in Python's containers, the same object equals itself.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Str(a), Self::Str(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Dict(a), Self::Dict(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Opaque(a), Self::Opaque(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Float(float), number) | (number, Self::Float(float)) => match number.to_int() {
                // Exact: a float equals an int only if it is that whole number.
                Some(int) => float.fract() == 0.0 && BigInt::from_f64(*float).is_some_and(|float| float == int),
                None => false,
            },
            _ => match (self.int_ref(), other.int_ref()) {
                (Some(a), Some(b)) => a == b,
                _ => match (self.to_int(), other.to_int()) {
                    (Some(a), Some(b)) => a == b,
                    _ => false,
                },
            },
        }
    }
}

impl Eq for Value {}

impl Value {
    fn int_ref(&self) -> Option<&BigInt> {
        match self {
            Self::Int(number) => Some(number),
            _ => None,
        }
    }

    /// The number, if this is an `int` or `bool`.
    pub fn to_int(&self) -> Option<BigInt> {
        match self {
            Self::Bool(flag) => Some(BigInt::from(u8::from(*flag))),
            Self::Int(number) => Some(number.clone()),
            _ => None,
        }
    }
}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::None => 0_u8.hash(state),
            Self::Str(text) => text.hash(state),
            Self::Bool(flag) => i64::from(*flag).hash(state),
            Self::Int(number) => match number.to_i64() {
                Some(number) => number.hash(state),
                None => number.to_f64().map(f64::to_bits).hash(state),
            },
            Self::Float(number) => {
                if number.fract() == 0.0 && number.abs() < 9.0e18 {
                    (*number as i64).hash(state);
                } else {
                    Some(number.to_bits()).hash(state);
                }
            }
            Self::Tuple(items) => items.iter().for_each(|item| item.hash(state)),
            // Unhashable in Python; callers check first, so any constant will do.
            Self::List(_) | Self::Dict(_) => 1_u8.hash(state),
            Self::Opaque(opaque) => opaque.repr.hash(state),
        }
    }
}

impl Equivalent<Value> for str {
    fn equivalent(&self, key: &Value) -> bool {
        key.as_str() == Some(self)
    }
}

/// Entries up to which a dict is a plain list: comparing a few short keys is faster than hashing one.
const SMALL: usize = 12;

/// A Python `dict`: insertion order kept, keys equal as in Python (`1`, `1.0` and `True` are one key).
#[derive(Clone, Debug)]
pub struct Dict(Entries);

#[derive(Clone, Debug)]
enum Entries {
    Small(Vec<(Value, Value)>),
    Large(IndexMap<Value, Value, FxBuildHasher>),
}

impl std::default::Default for Dict {
    fn default() -> Self {
        Self(Entries::Small(Vec::new()))
    }
}

impl Dict {
    /// An empty dict.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty dict with room for this many entries.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(if capacity <= SMALL {
            Entries::Small(Vec::with_capacity(capacity))
        } else {
            Entries::Large(IndexMap::with_capacity_and_hasher(capacity, FxBuildHasher))
        })
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        match &self.0 {
            Entries::Small(entries) => entries.len(),
            Entries::Large(entries) => entries.len(),
        }
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `self.get(key)` for a string key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match &self.0 {
            Entries::Small(entries) => {
                entries.iter().find(|(known, _)| known.as_str() == Some(key)).map(|(_, value)| value)
            }
            Entries::Large(entries) => entries.get(key),
        }
    }

    /// `self.get(key)` for any key. The caller has checked that the key is hashable.
    pub fn get_value(&self, key: &Value) -> Option<&Value> {
        match &self.0 {
            Entries::Small(entries) => entries.iter().find(|(known, _)| known == key).map(|(_, value)| value),
            Entries::Large(entries) => entries.get(key),
        }
    }

    /// The value at a string key, for changing.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        match &mut self.0 {
            Entries::Small(entries) => {
                entries.iter_mut().find(|(known, _)| known.as_str() == Some(key)).map(|(_, value)| value)
            }
            Entries::Large(entries) => entries.get_mut(key),
        }
    }

    /// The value at any key, for changing.
    pub fn get_value_mut(&mut self, key: &Value) -> Option<&mut Value> {
        match &mut self.0 {
            Entries::Small(entries) => entries.iter_mut().find(|(known, _)| known == key).map(|(_, value)| value),
            Entries::Large(entries) => entries.get_mut(key),
        }
    }

    /// `key in self` for a string key.
    pub fn contains(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// `self[key] = value`; an existing key keeps its place (and its first spelling).
    pub fn set(&mut self, key: impl Into<Value>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        if let Entries::Small(entries) = &mut self.0 {
            if let Some((_, known)) = entries.iter_mut().find(|(known, _)| *known == key) {
                *known = value;
                return;
            }
            if entries.len() < SMALL {
                entries.push((key, value));
                return;
            }
            self.0 = Entries::Large(std::mem::take(entries).into_iter().collect());
        }
        if let Entries::Large(entries) = &mut self.0 {
            entries.insert(key, value);
        }
    }

    /// `self.pop(key)` for any key; the order of the rest is kept.
    pub fn remove(&mut self, key: &Value) -> Option<Value> {
        match &mut self.0 {
            Entries::Small(entries) => {
                let index = entries.iter().position(|(known, _)| known == key)?;
                Some(entries.remove(index).1)
            }
            Entries::Large(entries) => entries.shift_remove(key),
        }
    }

    /// Entries in insertion order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Value, &Value)> + ExactSizeIterator {
        match &self.0 {
            Entries::Small(entries) => Iter::Small(entries.iter()),
            Entries::Large(entries) => Iter::Large(entries.iter()),
        }
    }

    /// Keys in insertion order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Value> + ExactSizeIterator {
        self.iter().map(|(key, _)| key)
    }

    /// Values in insertion order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Value> + ExactSizeIterator {
        self.iter().map(|(_, value)| value)
    }
}

enum Iter<'a> {
    Small(std::slice::Iter<'a, (Value, Value)>),
    Large(indexmap::map::Iter<'a, Value, Value>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a Value, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Small(entries) => entries.next().map(|(key, value)| (key, value)),
            Self::Large(entries) => entries.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Small(entries) => entries.size_hint(),
            Self::Large(entries) => entries.size_hint(),
        }
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            Self::Small(entries) => entries.next_back().map(|(key, value)| (key, value)),
            Self::Large(entries) => entries.next_back(),
        }
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl PartialEq for Dict {
    fn eq(&self, other: &Self) -> bool {
        if self.len() != other.len() {
            return false;
        }
        // Mostly the order is the same, and then nothing needs to be looked up.
        self.iter().zip(other.iter()).all(|((key, value), (other_key, other_value))| {
            if key == other_key {
                value == other_value
            } else {
                other.get_value(key).is_some_and(|found| found == value)
            }
        })
    }
}

impl Eq for Dict {}

impl FromIterator<(Value, Value)> for Dict {
    fn from_iter<I: IntoIterator<Item = (Value, Value)>>(entries: I) -> Self {
        let entries = entries.into_iter();
        let mut dict = Self::with_capacity(entries.size_hint().0);
        entries.for_each(|(key, value)| dict.set(key, value));
        dict
    }
}
