//! A tool's parameters as form fields, and filled-in fields as a call string.

use parl_mt::python::{Value, text};
use parl_mt::tool::ToolSpec;
use serde_json::Value as Json;

/// How a parameter is entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A number.
    Number,
    /// Yes or no.
    Boolean,
    /// One of these texts.
    Choice(Vec<String>),
    /// A Python literal, such as a list.
    Literal,
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The parameter's name.
    pub name: String,
    /// How it is entered.
    pub kind: Kind,
    /// Whether the call needs it.
    pub is_required: bool,
    /// What it means.
    pub description: String,
}

/// The fields of a tool, in the order of its schema.
pub fn fields(tool: &ToolSpec) -> Vec<Field> {
    let required = tool.parameters.get("required").and_then(Json::as_array);
    let properties = tool.parameters.get("properties").and_then(Json::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, schema)| {
            let choices = schema.get("enum").and_then(Json::as_array);
            let choices = choices.and_then(|all| all.iter().map(|one| one.as_str().map(str::to_owned)).collect());
            let kind = match (choices, schema.get("type").and_then(Json::as_str)) {
                (Some(choices), _) => Kind::Choice(choices),
                (None, Some("integer" | "number")) => Kind::Number,
                (None, Some("boolean")) => Kind::Boolean,
                (None, Some("string")) => Kind::Text,
                _ => Kind::Literal,
            };
            let description = schema.get("description").and_then(Json::as_str).unwrap_or_default().to_owned();
            let is_required = required.is_some_and(|names| names.iter().any(|one| one == name));
            Field { name: name.clone(), kind, is_required, description }
        })
        .collect()
}

/// The call string of the entered texts, one per field. Empty fields are left out: the world says what it misses.
pub fn call_string(name: &str, fields: &[Field], entered: &[String]) -> String {
    let arguments: Vec<_> = fields
        .iter()
        .zip(entered)
        .filter(|(_, text)| !text.trim().is_empty())
        .map(|(field, entered)| {
            let value = match field.kind {
                Kind::Text | Kind::Choice(_) => text::repr(&Value::from_json(&Json::String(entered.clone()))),
                Kind::Number | Kind::Boolean | Kind::Literal => entered.trim().to_owned(),
            };
            format!("{}={value}", field.name)
        })
        .collect();
    format!("{name}({})", arguments.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_become_a_call() {
        let tool = ToolSpec {
            name: "order".into(),
            description: String::new(),
            parameters: json!({"type": "object", "required": ["side"], "properties": {
                "side": {"type": "string", "enum": ["buy", "sell"]}, "note": {"type": "string"},
                "price": {"type": "number"}, "fast": {"type": "boolean"}, "tags": {"type": "array"}}}),
            response: None,
        };
        let fields = fields(&tool);
        assert!(fields[0].is_required && !fields[1].is_required);
        assert_eq!(fields[0].kind, Kind::Choice(vec!["buy".into(), "sell".into()]));
        let entered = ["buy", "it's", "2.5", "", "['a']"].map(str::to_owned);
        assert_eq!(call_string("order", &fields, &entered), r#"order(side='buy', note="it's", price=2.5, tags=['a'])"#);
    }
}
