//! Tools: what a model may call, the calls it makes and what comes back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::python::{self, text};

/// A function that a model may call, as in OpenAI's `tools` (the `function` object).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolSpec {
    /// The name to call it by.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of the arguments object.
    pub parameters: Json,
    /// JSON Schema of what it returns, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Json>,
}

impl ToolSpec {
    /// From a BFCL function doc, whose schema dialect says `dict`, `float`, `tuple` and `any`.
    pub fn from_bfcl(doc: &Json) -> Option<Self> {
        Some(Self {
            name: doc.get("name")?.as_str()?.to_owned(),
            description: doc.get("description")?.as_str()?.to_owned(),
            parameters: json_schema_from_bfcl(doc.get("parameters")?),
            response: doc.get("response").map(json_schema_from_bfcl),
        })
    }

    /// Names of the parameters in the order of the schema.
    pub fn parameter_names(&self) -> impl Iterator<Item = &str> {
        self.parameters.get("properties").and_then(Json::as_object).into_iter().flat_map(Map::keys).map(String::as_str)
    }
}

fn json_schema_from_bfcl(schema: &Json) -> Json {
    match schema {
        Json::Object(entries) => entries
            .iter()
            .filter_map(|(key, value)| match (key.as_str(), value.as_str()) {
                ("type", Some("dict")) => Some((key.clone(), json!("object"))),
                ("type", Some("float")) => Some((key.clone(), json!("number"))),
                ("type", Some("tuple")) => Some((key.clone(), json!("array"))),
                // "any" is the absence of a constraint.
                ("type", Some("any")) => None,
                _ => Some((key.clone(), json_schema_from_bfcl(value))),
            })
            .collect::<Map<_, _>>()
            .into(),
        Json::Array(items) => items.iter().map(json_schema_from_bfcl).collect(),
        other => other.clone(),
    }
}

/// One function call made by an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCall {
    /// Identifier that the answering tool message repeats, where the protocol has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The function's name; empty when the text could not be parsed.
    pub name: String,
    /// Arguments by name.
    #[serde(default)]
    pub arguments: Map<String, Json>,
    /// Positional arguments; only call strings have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positional: Vec<Json>,
    /// The call string exactly as the agent wrote it, if it wrote one. Worlds that speak call strings execute this text,
    /// so that mistakes in it show as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl ToolCall {
    /// A call by name with named arguments.
    pub fn new(name: impl Into<String>, arguments: Map<String, Json>) -> Self {
        Self { name: name.into(), arguments, ..Self::default() }
    }

    /// From a call string such as `cd(folder='document')`. Never fails: text that does not parse keeps its words in
    /// `text`, and the environment answers with the error.
    pub fn from_text(source: impl Into<String>) -> Self {
        let source = source.into();
        let mut call = match python::syntax::evaluate(&source, |_| true) {
            Ok(python::syntax::Evaluated::Call(parsed)) => Self {
                name: parsed.name,
                arguments: parsed
                    .arguments
                    .keywords
                    .iter()
                    .map(|(key, value)| (key.clone(), value.to_json()))
                    .collect(),
                positional: parsed.arguments.positional.iter().map(python::Value::to_json).collect(),
                ..Self::default()
            },
            _ => Self::default(),
        };
        call.text = Some(source);
        call
    }

    /// The call string that a world executes: what the agent wrote, or `name(key=literal, …)`.
    pub fn call_string(&self) -> String {
        if let Some(text) = &self.text {
            return text.clone();
        }
        let positional = self.positional.iter().map(|value| text::repr(&python::Value::from_json(value)));
        let named =
            self.arguments.iter().map(|(key, value)| format!("{key}={}", text::repr(&python::Value::from_json(value))));
        format!("{}({})", self.name, positional.chain(named).collect::<Vec<_>>().join(", "))
    }
}

/// What the environment answered to a [`ToolCall`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolResult {
    /// The call's identifier, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The text that the model reads.
    pub content: String,
    /// Whether the call was refused: it raised, or answered an `error`. A model mistake, kept as data.
    #[serde(default)]
    pub is_error: bool,
}
