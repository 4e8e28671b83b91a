//! The eight API classes of BFCL V3/V4 multi-turn, as the pinned official package behaves (`bfcl-eval` 2026.3.23).
//!
//! One file per class. To add a ninth: write its file and add one line to [`CLASSES`].
//!
//! Each class keeps its state as Python [`Value`]s, because scenarios and calls may put a value of any type anywhere and
//! the result text shows it. Deliberate deviations from the original are listed in `docs/deviations.md`.

pub mod checker;
pub mod data;
mod gorilla_file_system;
mod long_context;
mod math_api;
mod message_api;
mod ticket_api;
mod trading_bot;
mod travel_api;
mod twitter_api;
mod vehicle_control_api;
mod world;

pub use checker::{Checker, Score, score_trajectory};
pub use data::BfclData;
pub use long_context::{LongContext, LongContextError};
pub use world::{BfclWorld, WorldError};

use std::any::Any;
use std::sync::Arc;

use crate::python::{self, Dict, PythonVersion, Signature, Value};

/// What worlds and their classes may know besides a task and its scenario. Nothing here is global.
#[derive(Clone, Debug)]
pub struct BfclContext {
    /// Extra data of the long_context category, where it has been loaded. A world hands it to its classes only when its
    /// task is of that category.
    pub long_context: Option<Arc<LongContext>>,
    /// Which CPython to follow.
    pub python: PythonVersion,
    /// What `datetime.today()` answers (year, month, day); injected, so that runs repeat.
    pub today: (i32, u32, u32),
}

impl std::default::Default for BfclContext {
    fn default() -> Self {
        Self { long_context: None, python: PythonVersion::default(), today: (2026, 3, 23) }
    }
}

/// One instance of a BFCL API class.
pub trait ApiClass: Any + Send {
    /// The class's name, as in `involved_classes` and in Python's error messages.
    fn class_name(&self) -> &'static str;

    /// Every public method, documented or not, in the order of the original source.
    fn signatures(&self) -> &'static [Signature];

    /// Runs a method. `arguments` holds one value per parameter of its signature, in order.
    /// Called only with names from [`ApiClass::signatures`].
    fn invoke(&mut self, method: &str, arguments: &[Value]) -> python::Result<Value>;

    /// The state that the checker compares: every attribute whose name has no leading `_`, in the original's order.
    /// Cheap: values are shared, not copied.
    fn attributes(&self) -> Vec<(&'static str, Value)>;

    /// [`ApiClass::attributes`] as a dict.
    fn state(&self) -> Dict {
        self.attributes().into_iter().map(|(name, value)| (Value::str(name), value)).collect()
    }

    /// Whether the checker would call the two states equal (attribute by attribute, Python's `==`). Both are of one
    /// class.
    fn same_state(&self, other: &dyn ApiClass) -> bool {
        self.attributes() == other.attributes()
    }

    /// A copy whose further life is independent of this one.
    fn boxed_clone(&self) -> Box<dyn ApiClass>;
}

/// How to make an instance of a class from its part of `initial_config` (an empty dict when it has none).
pub struct ClassEntry {
    /// The class's name.
    pub name: &'static str,
    /// The file with its function docs, below `multi_turn_func_doc/`.
    pub doc_file: &'static str,
    /// Makes an instance. Fails as the original's `_load_scenario` would.
    pub create: fn(scenario: &Dict, context: &BfclContext) -> python::Result<Box<dyn ApiClass>>,
}

/// All classes. Adding one means adding its file and one entry here.
pub static CLASSES: &[ClassEntry] = &[
    ClassEntry {
        name: "GorillaFileSystem",
        doc_file: "gorilla_file_system.json",
        create: gorilla_file_system::GorillaFileSystem::create,
    },
    ClassEntry { name: "MathAPI", doc_file: "math_api.json", create: math_api::MathApi::create },
    ClassEntry { name: "MessageAPI", doc_file: "message_api.json", create: message_api::MessageApi::create },
    ClassEntry { name: "TicketAPI", doc_file: "ticket_api.json", create: ticket_api::TicketApi::create },
    ClassEntry { name: "TradingBot", doc_file: "trading_bot.json", create: trading_bot::create },
    ClassEntry { name: "TravelAPI", doc_file: "travel_booking.json", create: travel_api::create },
    ClassEntry { name: "TwitterAPI", doc_file: "posting_api.json", create: twitter_api::create },
    ClassEntry { name: "VehicleControlAPI", doc_file: "vehicle_control.json", create: vehicle_control_api::create },
];

/// The entry of the class with this name.
pub fn class_entry(name: &str) -> Option<&'static ClassEntry> {
    CLASSES.iter().find(|entry| entry.name == name)
}
