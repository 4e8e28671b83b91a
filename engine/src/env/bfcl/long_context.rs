//! The long_context category's extra data, read from the wheel's `long_context.py` with our own literal parser.

use indexmap::IndexMap;

use crate::python::text::SharedJson;
use crate::python::{Exception, Value, literal};

/// The constants that the API classes use.
const NEEDED: &[&str] = &[
    // GorillaFileSystem
    "FILE_CONTENT_EXTENSION",
    "FILES_TAIL_USED",
    "POPULATE_FILE_EXTENSION",
    // TradingBot
    "AUTOMOBILE_EXTENSION",
    "MA_5_EXTENSION",
    "MA_20_EXTENSION",
    "ORDER_DETAIL_EXTENSION",
    "TECHNOLOGY_EXTENSION",
    "TRANSACTION_HISTORY_EXTENSION",
    "WATCH_LIST_EXTENSION",
    // TravelAPI
    "BOOKING_RECORD_EXTENSION",
    "CREDIT_CARD_EXTENSION",
    // VehicleControlAPI
    "CAR_STATUS_METADATA_EXTENSION",
    "INTERMEDIARY_CITIES",
    "LONG_WEATHER_EXTENSION",
    "PARKING_BRAKE_INSTRUCTION",
];

/// Why `long_context.py` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LongContextError {
    /// The file is not a list of `NAME = literal` statements.
    #[error("cannot be read as constants: {0}. Take the file unchanged from the wheel of bfcl-eval 2026.3.23")]
    Unreadable(Exception),
    /// Constants are missing.
    #[error("lacks {}. Take the file unchanged from the wheel of bfcl-eval 2026.3.23", .0.join(", "))]
    Missing(Vec<&'static str>),
}

/// The constants of `long_context.py` by name. Values are shared, so that instances hold them at no cost.
#[derive(Clone, Debug, Default)]
pub struct LongContext {
    constants: IndexMap<String, Value>,
    /// Results repeat the lists of thousands of numbers and names.
    json: SharedJson,
}

impl LongContext {
    /// From constants already read.
    pub fn from_constants(constants: impl IntoIterator<Item = (String, Value)>) -> Self {
        let constants: IndexMap<_, _> = constants.into_iter().collect();
        let json = SharedJson::new(constants.values());
        Self { constants, json }
    }

    /// From the source of `long_context.py`. Checks that every constant that a class uses is there.
    pub fn from_source(source: &str) -> Result<Self, LongContextError> {
        let constants = literal::parse_assignments(source).map_err(LongContextError::Unreadable)?;
        let context = Self::from_constants(constants);
        let missing: Vec<_> = NEEDED.iter().copied().filter(|&name| !context.constants.contains_key(name)).collect();
        if missing.is_empty() { Ok(context) } else { Err(LongContextError::Missing(missing)) }
    }

    /// The JSON of the constants that are lists.
    pub(super) fn json(&self) -> &SharedJson {
        &self.json
    }

    /// The constant with this name. Panics when it is missing: loading checks that all are there.
    pub fn constant(&self, name: &str) -> &Value {
        self.constants.get(name).unwrap_or_else(|| panic!("long_context.py has no constant {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_constants_of_every_shape() {
        let mut source = String::from("# a comment\nUNUSED = 'a' \"b\"\n\n");
        for name in NEEDED {
            source
                .push_str(&format!("{name} = {{\n    'text': '''two\nlines''',  # why\n    3: [1, -2.5, None],\n}}\n"));
        }
        let context = LongContext::from_source(&source).unwrap();
        assert_eq!(context.constant("UNUSED"), &Value::str("ab"));
        // The real WATCH_LIST_EXTENSION has an ellipsis among its symbols.
        let ellipsis = literal::parse_literal("['A', ..., 'B']").unwrap();
        assert_eq!(crate::python::text::repr(&ellipsis), "['A', Ellipsis, 'B']");
        let expected = literal::parse_literal("{'text': 'two\\nlines', 3: [1, -2.5, None]}").unwrap();
        assert_eq!(context.constant("FILES_TAIL_USED"), &expected);
    }

    #[test]
    fn says_what_is_wrong_and_what_to_do() {
        let missing = LongContext::from_source("FILES_TAIL_USED = []").unwrap_err().to_string();
        assert!(missing.starts_with("lacks FILE_CONTENT_EXTENSION, POPULATE_FILE_EXTENSION, "), "{missing}");
        assert!(missing.ends_with("Take the file unchanged from the wheel of bfcl-eval 2026.3.23"), "{missing}");
        for source in ["import os", "A = ", "A = [", "A = other", "A = f()", "A += 1", "A = 1; B = 2"] {
            let error = LongContext::from_source(source).unwrap_err();
            assert!(matches!(error, LongContextError::Unreadable(_)), "{source}: {error}");
        }
    }
}
