//! Call strings as a reader and an editor see them: coloured tokens and completions. Execution is the engine's.

use parl_mt::tool::ToolSpec;

/// What a piece of a call string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// The function's name.
    Name,
    /// A parameter's name.
    Key,
    /// A string literal.
    Text,
    /// A number.
    Number,
    /// `True`, `False`, `None`.
    Constant,
    /// Everything else.
    Plain,
}

/// Splits a call string into tokens. Never fails: the pieces put together are the text again.
pub fn tokens(text: &str) -> Vec<(Token, &str)> {
    let mut tokens: Vec<(Token, &str)> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (token, length) = if first == '\'' || first == '"' {
            (Token::Text, string_length(rest, first))
        } else if first.is_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let following = rest[length..].trim_start();
            let token = match &rest[..length] {
                "True" | "False" | "None" => Token::Constant,
                _ if following.starts_with('(') => Token::Name,
                _ if following.starts_with('=') => Token::Key,
                _ => Token::Plain,
            };
            (token, length)
        } else if first.is_ascii_digit() {
            let is_number = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
            (Token::Number, rest.find(|c| !is_number(c)).unwrap_or(rest.len()))
        } else {
            (Token::Plain, first.len_utf8())
        };
        let (piece, after) = rest.split_at(length);
        tokens.push((token, piece));
        rest = after;
    }
    tokens
}

fn string_length(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return index + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// A call that the editor offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The function.
    pub name: String,
    /// The call with its required parameters, to be filled in.
    pub template: String,
    /// What it does.
    pub description: String,
}

/// Functions whose name begins with what has been typed, then those that contain it; none once the `(` stands.
pub fn complete(typed: &str, tools: &[ToolSpec], limit: usize) -> Vec<Suggestion> {
    let typed = typed.trim().to_lowercase();
    if typed.contains('(') {
        return Vec::new();
    }
    let begins = |tool: &&ToolSpec| tool.name.to_lowercase().starts_with(&typed);
    let contains = |tool: &&ToolSpec| !begins(tool) && tool.name.to_lowercase().contains(&typed);
    let ordered = tools.iter().filter(begins).chain(tools.iter().filter(contains));
    ordered
        .take(limit)
        .map(|tool| Suggestion {
            name: tool.name.clone(),
            template: template(tool),
            description: tool.description.clone(),
        })
        .collect()
}

/// The call with its required parameters, each with an empty value of its type.
pub fn template(tool: &ToolSpec) -> String {
    let required: Vec<_> = tool
        .parameters
        .get("required")
        .and_then(|required| required.as_array())
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str())
        .collect();
    let value = |name: &str| {
        let kind = tool.parameters.pointer(&format!("/properties/{name}/type")).and_then(|kind| kind.as_str());
        match kind {
            Some("integer") => "0",
            Some("number") => "0.0",
            Some("boolean") => "True",
            Some("array") => "[]",
            Some("object") => "{}",
            _ => "''",
        }
    };
    let arguments = tool.parameter_names().filter(|name| required.contains(name));
    let arguments: Vec<_> = arguments.map(|name| format!("{name}={}", value(name))).collect();
    format!("{}({})", tool.name, arguments.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pieces_put_together_are_the_text() {
        let call = r#"cp(source='it\'s', n=-1.5e3, flag=True, list=["a", None], é=😀"#;
        let tokens = tokens(call);
        assert_eq!(tokens.iter().map(|(_, piece)| *piece).collect::<String>(), call);
        assert_eq!(tokens[0], (Token::Name, "cp"));
        assert_eq!(tokens[2], (Token::Key, "source"));
        assert_eq!(tokens[4], (Token::Text, r"'it\'s'"));
        assert!(tokens.contains(&(Token::Number, "1.5e3")));
        assert!(tokens.contains(&(Token::Constant, "None")));
    }

    #[test]
    fn completion_prefers_the_beginning() {
        let tool = |name: &str| ToolSpec {
            name: name.into(),
            description: String::new(),
            parameters: json!({"properties": {"a": {"type": "string"}, "b": {"type": "integer"}, "c": {}}, "required": ["a", "b"]}),
            response: None,
        };
        let tools = [tool("book_flight"), tool("flight_cost"), tool("cancel")];
        let names: Vec<_> = complete("Flight", &tools, 5).into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["flight_cost", "book_flight"]);
        assert_eq!(complete("c", &tools, 5)[0].template, "cancel(a='', b=0)");
        assert!(complete("cancel(", &tools, 5).is_empty());
    }
}
