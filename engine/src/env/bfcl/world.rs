//! A task's world: the instances of its API classes, and how a call string is executed on them.

use std::sync::Arc;

use serde_json::Value as Json;

use super::{ApiClass, BfclContext, LongContext, class_entry};
use crate::env::Environment;
use crate::python::syntax::{self, Evaluated};
use crate::python::{Dict, Exception, ExceptionKind, Signature, Value, text};
use crate::task::TaskSpec;
use crate::tool::{ToolCall, ToolResult};
use crate::trace::StateDifference;

/// Why a task's world cannot be made. A mistake in the task, not the model's.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WorldError {
    /// The task names a class that the engine does not have.
    #[error("task {task}: there is no API class {class}; the classes are {}", known_classes())]
    UnknownClass {
        /// The task's id.
        task: String,
        /// The name it gives.
        class: String,
    },
    /// The initial state does not fit the class.
    #[error("task {task}: the initial state of {class} does not load: {exception}")]
    BadScenario {
        /// The task's id.
        task: String,
        /// The class.
        class: String,
        /// What loading it raised.
        exception: Exception,
    },
    /// A long_context task without the category's data.
    #[error(
        "task {task} is of the long_context category, whose extra data is not loaded: run `parl bfcl fetch`, or load the wheel"
    )]
    NoLongContext {
        /// The task's id.
        task: String,
    },
}

fn known_classes() -> String {
    super::CLASSES.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ")
}

/// The world of one BFCL-style task.
pub struct BfclWorld {
    initial: Vec<Box<dyn ApiClass>>,
    instances: Vec<Box<dyn ApiClass>>,
    long_context: Option<Arc<LongContext>>,
}

impl Clone for BfclWorld {
    fn clone(&self) -> Self {
        let copy = |instances: &[Box<dyn ApiClass>]| instances.iter().map(|instance| instance.boxed_clone()).collect();
        Self { initial: copy(&self.initial), instances: copy(&self.instances), long_context: self.long_context.clone() }
    }
}

impl BfclWorld {
    /// The world of `task` in its initial state.
    pub fn new(task: &TaskSpec, context: &BfclContext) -> Result<Self, WorldError> {
        let long_context = if task.is_long_context() {
            let data = context.long_context.clone();
            Some(data.ok_or_else(|| WorldError::NoLongContext { task: task.id.clone() })?)
        } else {
            None
        };
        let context = BfclContext { long_context, ..*context };
        let defaults = Dict::new();
        let mut initial = Vec::with_capacity(task.classes.len());
        for class in &task.classes {
            let entry = class_entry(class)
                .ok_or_else(|| WorldError::UnknownClass { task: task.id.clone(), class: class.clone() })?;
            let scenario = task.initial_config.get(class).and_then(Value::as_dict).unwrap_or(&defaults);
            let instance = (entry.create)(scenario, &context).map_err(|exception| WorldError::BadScenario {
                task: task.id.clone(),
                class: class.clone(),
                exception,
            })?;
            initial.push(instance);
        }
        let instances = initial.iter().map(|instance| instance.boxed_clone()).collect();
        Ok(Self { initial, instances, long_context: context.long_context })
    }

    /// Executes a call string as the official harness would, and gives the result's text.
    pub fn execute(&mut self, call: &str) -> String {
        match self.evaluate(call) {
            Ok(value) => match &self.long_context {
                Some(data) => text::result_text_with(&value, data.json()),
                None => text::result_text(&value),
            },
            Err(exception) => format!("Error during execution: {exception}"),
        }
    }

    fn evaluate(&mut self, call: &str) -> crate::python::Result<Value> {
        let is_known = |name: &str| self.method(name).is_some();
        if let Some(name) = syntax::forbidden_name(call, is_known) {
            return Err(Exception::new(ExceptionKind::Other, format!("Function call {name} is not allowed.")));
        }
        match syntax::evaluate(call, is_known)? {
            Evaluated::Literal(value) => Ok(value),
            Evaluated::Call(parsed) => {
                let (index, signature) = self.method(&parsed.name).ok_or_else(|| {
                    Exception::new(ExceptionKind::Name, format!("name '{}' is not defined", parsed.name))
                })?;
                let instance = &mut self.instances[index];
                let arguments = signature.bind(instance.class_name(), parsed.arguments)?;
                instance.invoke(signature.name, &arguments)
            }
        }
    }

    /// Which instance has the method; where two classes share a name, the later one has it.
    fn method(&self, name: &str) -> Option<(usize, &'static Signature)> {
        self.instances.iter().enumerate().rev().find_map(|(index, instance)| {
            instance.signatures().iter().find(|signature| signature.name == name).map(|signature| (index, signature))
        })
    }

    /// The instances in the order of the task's classes.
    pub fn instances(&self) -> impl Iterator<Item = &dyn ApiClass> {
        self.instances.iter().map(AsRef::as_ref)
    }

    /// The attributes that differ from `truth`, of the first class (in the order of the task) that differs.
    pub fn differences(&self, truth: &Self) -> Vec<StateDifference> {
        let Some((mine, theirs)) =
            self.instances.iter().zip(&truth.instances).find(|(mine, theirs)| !mine.same_state(theirs.as_ref()))
        else {
            return Vec::new();
        };
        let (model, ground_truth) = (mine.state(), theirs.state());
        ground_truth
            .iter()
            .filter_map(|(attribute, expected)| {
                let found = model.get_value(attribute);
                (found != Some(expected)).then(|| StateDifference {
                    class: mine.class_name().to_owned(),
                    attribute: text::str(attribute),
                    model: found.map_or(Json::Null, Value::to_json),
                    ground_truth: expected.to_json(),
                })
            })
            .collect()
    }
}

impl Environment for BfclWorld {
    fn reset(&mut self) {
        self.instances = self.initial.iter().map(|instance| instance.boxed_clone()).collect();
    }

    fn call(&mut self, call: &ToolCall) -> ToolResult {
        let content = self.execute(&call.call_string());
        let is_error = content.starts_with("Error during execution:") || content.starts_with("{\"error\":");
        ToolResult { call_id: call.id.clone(), content, is_error }
    }

    fn snapshot(&self) -> Json {
        self.instances
            .iter()
            .map(|instance| {
                let state = instance.state();
                let attributes = state.iter().map(|(name, value)| (text::str(name), value.to_json()));
                (instance.class_name().to_owned(), attributes.collect::<serde_json::Map<_, _>>().into())
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    fn same_state(&self, other: &Self) -> bool {
        self.instances.len() == other.instances.len()
            && self.instances.iter().zip(&other.instances).all(|(mine, theirs)| mine.same_state(theirs.as_ref()))
    }
}
