//! Chat templates: a conversation as the text that a model reads, in the Hugging Face dialect of Jinja.
//!
//! What `transformers.apply_chat_template` adds to Jinja is here as well: `trim_blocks` and `lstrip_blocks`, `raise_exception`,
//! `tojson` in the words of Python's `json.dumps`, `strftime_now`, `{% generation %}`, loop controls and Python's methods of strings
//! and dictionaries. Templates see `messages`, `tools` (or none), `documents` (none), `add_generation_prompt` and the variables of
//! [`ChatTemplate::with_variable`].
//!
//! # Our own template
//!
//! [`ChatTemplate::default`] is meant for small models, so it is short:
//!
//! ```text
//! <|im_start|>system
//! Tools:
//! cd(folder: string) # Change directory
//! ls(a?: boolean) # List<|im_end|>
//! <|im_start|>user
//! Go to docs and list all.<|im_end|>
//! <|im_start|>assistant
//! <summary>nothing yet</summary><plan>cd docs, ls</plan><tool_call>cd(folder="docs")
//! ls(a=True)</tool_call><|im_end|>
//! <|im_start|>tool
//! {"current_working_directory": "docs"}<|im_end|>
//! ```
//!
//! - A tool is one line: name, parameters with their JSON types (`?`: optional) or the literals they may be, description.
//!   Descriptions of single parameters and nested schemas are left out: a model learns them from examples, and they would
//!   be most of its context. Models that were trained on full schemas have templates of their own.
//! - Calls are Python call lines, a third of the tokens of the same call in JSON, and what BFCL's worlds execute. Strings in them are
//!   written with double quotes and JSON's escapes, which Python reads in the same way; a line break inside a
//!   string is `\n`, so that a line is a call.
//! - Each message is appended as it is, results one by one, so that the text only ever grows.

mod clock;
mod python_json;

use std::collections::BTreeMap;
use std::ops::Range;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, State, Value};
use serde_json::{Value as Json, json};

use super::error::TextError;
use crate::message::{Awareness, Conversation, Message, Role};
use crate::python::datetime::DateTime;
use crate::tool::{ToolCall, ToolSpec};

/// The source of our own template; see the [module](self). It renders the same in `transformers`.
pub const BUILT_IN: &str = include_str!("chat.jinja");

const NAME: &str = "chat";
/// What `{% generation %}` becomes: a call block, as in `transformers`.
const GENERATION: &str = "__generation__";
/// The variable that holds the two characters with which [`GENERATION`] marks where it begins and ends.
const MARKS: &str = "__generation_marks__";

/// A rendered conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Byte ranges of the text that `{% generation %}` blocks wrote: what the assistant said. Empty when the template has none.
    pub generation: Vec<Range<usize>>,
}

/// A compiled chat template.
#[derive(Clone)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    variables: BTreeMap<String, Json>,
    marks_generation: bool,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Default for ChatTemplate {
    /// Our own template; see the [module](self).
    fn default() -> Self {
        Self::new(BUILT_IN).expect("our own template is well-formed")
    }
}

impl ChatTemplate {
    /// Compiles a template as `tokenizer_config.json` or `chat_template.jinja` holds it.
    pub fn new(source: impl Into<String>) -> Result<Self, TextError> {
        let source = source.into();
        let mut environment = environment();
        let (compiled, marks_generation) = rename_generation_tags(&source);
        environment.add_template_owned(NAME, compiled).map_err(syntax_error)?;
        Ok(Self { source, environment, variables: BTreeMap::new(), marks_generation })
    }

    /// Gives the template a variable: `bos_token`, `enable_thinking`, …
    pub fn with_variable(mut self, name: impl Into<String>, value: impl Into<Json>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Sets the time that `strftime_now` tells. Without one the function is not defined, and templates that ask for the date fall
    /// back to the one written in them: the same conversation is the same text on any day.
    pub fn with_now(mut self, now: DateTime) -> Self {
        self.environment.add_function("strftime_now", move |format: &str| {
            clock::strftime(now, format).ok_or_else(|| {
                Error::new(ErrorKind::InvalidOperation, format!("strftime_now does not know {format:?}"))
            })
        });
        self
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders messages. `add_generation_prompt` appends what opens an assistant's reply.
    pub fn render(
        &self,
        messages: &[Message],
        tools: &[ToolSpec],
        add_generation_prompt: bool,
    ) -> Result<Rendered, TextError> {
        let messages = messages.iter().map(message_json).collect();
        let tools = if tools.is_empty() { Json::Null } else { tools.iter().map(tool_json).collect() };
        self.render_json(&messages, &tools, add_generation_prompt)
    }

    /// [`Self::render`] for messages and tools that are in Hugging Face's JSON shape already.
    pub fn render_json(
        &self,
        messages: &Json,
        tools: &Json,
        add_generation_prompt: bool,
    ) -> Result<Rendered, TextError> {
        let mut context = self.variables.clone();
        context.insert("messages".into(), messages.clone());
        context.insert("tools".into(), tools.clone());
        context.insert("documents".into(), Json::Null);
        context.insert("add_generation_prompt".into(), json!(add_generation_prompt));
        let marks = self.marks_generation.then(|| unused_characters(&self.source, &context));
        if let Some([begin, end]) = marks {
            context.insert(MARKS.into(), json!([begin, end]));
        }
        let template = self.environment.get_template(NAME).expect("compiled by `new`");
        let text = template
            .render(Value::from_pairs(context.iter().map(|(name, value)| (name.as_str(), from_json(value)))))
            .map_err(render_error)?;
        Ok(match marks {
            Some(marks) => take_marks(&text, marks),
            None => Rendered { text, generation: Vec::new() },
        })
    }

    /// Checks on one conversation that the text only ever grows while it goes on, which token ids that are kept depend on.
    ///
    /// For each assistant's message: the text before it, with the generation prompt, must be a prefix of the text with it; and that one a
    /// prefix of the text up to the next assistant's message. What stands between two assistant's messages is added at
    /// once (Qwen2.5 puts all results of a step into one block). Templates that rewrite history, as Qwen3's does when it drops older
    /// reasoning, fail with [`TextError::NotPrefixPreserving`].
    pub fn check_prefix_preserving(&self, messages: &[Message], tools: &[ToolSpec]) -> Result<(), TextError> {
        let mut before = String::new();
        for end in 1..=messages.len() {
            let added = end - 1;
            if messages[added].role == Role::Assistant {
                let prompt = self.render(&messages[..added], tools, true)?.text;
                suffix_of(&prompt, &before, added)?;
                before = self.render(&messages[..end], tools, false)?.text;
                suffix_of(&before, &prompt, added)?;
            } else if messages.get(end).is_none_or(|next| next.role == Role::Assistant) {
                let text = self.render(&messages[..end], tools, false)?.text;
                suffix_of(&text, &before, added)?;
                before = text;
            }
        }
        Ok(())
    }
}

/// What `text` has beyond `before`, if it begins with it. `message` is the one that was added.
pub(super) fn suffix_of<'a>(text: &'a str, before: &str, message: usize) -> Result<&'a str, TextError> {
    if let Some(suffix) = text.strip_prefix(before) {
        return Ok(suffix);
    }
    let position = text.char_indices().zip(before.chars()).find(|((_, now), then)| now != then);
    let position = position.map_or(text.len().min(before.len()), |((position, _), _)| position);
    let excerpt = |text: &str| text[position..].chars().take(40).collect();
    Err(TextError::NotPrefixPreserving { message, position, before: excerpt(before), after: excerpt(text) })
}

/// Progress awareness as a model writes it before it acts: `<summary>…</summary><plan>…</plan>`.
pub fn awareness_text(awareness: &Awareness) -> String {
    format!("<summary>{}</summary><plan>{}</plan>", awareness.summary, awareness.plan)
}

/// A conversation as a flat list of chat messages, progress awareness in front of each reply's text: what
/// [`ChatTemplate::render`] takes. The context is full; nothing is dropped.
pub fn chat_messages(conversation: &Conversation) -> Vec<Message> {
    let mut messages = conversation.messages();
    let steps = conversation.turns.iter().flat_map(|turn| &turn.steps);
    let replies = messages.iter_mut().filter(|message| message.role == Role::Assistant);
    for (message, step) in replies.zip(steps) {
        if let Some(awareness) = &step.awareness {
            message.content.insert_str(0, &awareness_text(awareness));
        }
    }
    messages
}

/// A message in Hugging Face's shape.
fn message_json(message: &Message) -> Json {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut json = json!({"role": role, "content": message.content});
    if !message.tool_calls.is_empty() {
        json["tool_calls"] = message.tool_calls.iter().map(call_json).collect();
    }
    if let Some(id) = &message.tool_call_id {
        json["tool_call_id"] = json!(id);
    }
    json
}

/// A call in Hugging Face's shape, with one key more: `text`, the call string exactly as the agent wrote it, if it wrote one.
/// Positional arguments and calls that do not parse are only there.
fn call_json(call: &ToolCall) -> Json {
    let mut json = json!({"type": "function", "function": {"name": call.name, "arguments": call.arguments}});
    if let Some(id) = &call.id {
        json["id"] = json!(id);
    }
    if call.text.is_some() || !call.positional.is_empty() {
        json["text"] = json!(call.call_string());
    }
    json
}

/// A tool in Hugging Face's shape. What it returns is left out: templates made for OpenAI's shape do not know it.
fn tool_json(tool: &ToolSpec) -> Json {
    json!({
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    })
}

/// Writes `{% generation %}` as a call block, white space control and lines as they were; whether there was one.
fn rename_generation_tags(source: &str) -> (String, bool) {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut found = false;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (inner, after) = (&tag[2..end], &tag[end..]);
        let name = inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        let replacement = match name {
            "generation" => Some(format!("call {GENERATION}()")),
            "endgeneration" => Some("endcall".to_owned()),
            _ => None,
        };
        out.push_str("{%");
        match replacement {
            Some(replacement) => {
                found = true;
                out.push_str(&inner.replacen(name, &replacement, 1));
            }
            None => out.push_str(inner),
        }
        out.push_str("%}");
        rest = &after[2..];
    }
    out.push_str(rest);
    (out, found)
}

/// Two characters that occur neither in the template nor in anything that it is given.
fn unused_characters(source: &str, context: &BTreeMap<String, Json>) -> [char; 2] {
    let given = serde_json::to_string(context).expect("JSON serializes");
    // Noncharacters first: Unicode keeps them for such internal use. Then planes for private use.
    let candidates = ('\u{FDD0}'..='\u{FDEF}').chain('\u{F0000}'..='\u{10FFFD}');
    let mut unused = candidates.filter(|&candidate| !source.contains(candidate) && !given.contains(candidate));
    let mut next = || unused.next().expect("no conversation has 131,000 different private characters");
    [next(), next()]
}

/// Takes the marks out of a text and tells where they were.
fn take_marks(marked: &str, [begin, end]: [char; 2]) -> Rendered {
    let mut rendered = Rendered::default();
    let mut start = 0;
    for character in marked.chars() {
        if character == begin {
            start = rendered.text.len();
        } else if character == end {
            rendered.generation.push(start..rendered.text.len());
        } else {
            rendered.text.push(character);
        }
    }
    rendered
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().expect("the default delimiters"),
    );
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Refusal(message)))
    });
    environment.add_function(GENERATION, |state: &mut State, arguments: Kwargs| -> Result<Value, Error> {
        let caller: Value = arguments.get("caller")?;
        let marks = state.lookup(MARKS).unwrap_or_default();
        let said = caller.call(state, &[])?;
        let mark = |index: usize| marks.get_item_by_index(index);
        Ok(Value::from(format!("{}{said}{}", mark(0)?, mark(1)?)))
    });
    environment
}

/// A value as templates see it; objects keep the order of their keys.
fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => Value::from(number),
            (None, Some(number), _) => Value::from(number),
            (None, None, number) => Value::from(number.unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(from_json).collect::<Vec<_>>().into(),
        Json::Object(entries) => Value::from_pairs(entries.iter().map(|(key, value)| (key.as_str(), from_json(value)))),
    }
}

/// The words of a template's `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

/// The filter `tojson` of `transformers`: `json.dumps(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
fn tojson(value: &Value, arguments: Kwargs) -> Result<Value, Error> {
    let wrong = |message: String| Error::new(ErrorKind::InvalidOperation, message);
    let indent = match arguments.get::<Option<Value>>("indent")? {
        None => None,
        Some(indent) => match (indent.as_str(), usize::try_from(indent.clone())) {
            (Some(text), _) => Some(text.to_owned()),
            (None, Ok(spaces)) => Some(" ".repeat(spaces)),
            (None, Err(_)) if indent.is_none() => None,
            (None, Err(error)) => return Err(error),
        },
    };
    let separators = match arguments.get::<Option<Vec<String>>>("separators")?.as_deref() {
        None => None,
        Some([item, key]) => Some((item.clone(), key.clone())),
        Some(_) => return Err(wrong("tojson takes two separators".into())),
    };
    let style = python_json::Style {
        ensure_ascii: arguments.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent,
        separators,
        sort_keys: arguments.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    arguments.assert_all_used()?;
    Ok(Value::from(python_json::dumps(value, &style)?))
}

fn syntax_error(error: Error) -> TextError {
    TextError::TemplateSyntax { line: error.line().unwrap_or(1), message: words(&error) }
}

fn render_error(error: Error) -> TextError {
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        if let Some(Refusal(message)) = cause.downcast_ref() {
            return TextError::TemplateRefused { message: message.clone() };
        }
        source = cause.source();
    }
    TextError::TemplateFailed { line: error.line().unwrap_or(1), message: words(&error) }
}

fn words(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Step, Turn};
    use crate::tool::ToolResult;

    fn rendered(source: &str) -> Result<String, TextError> {
        let template = ChatTemplate::new(source)?.with_variable("x", json!({"b": [1, 2.0, "é\n"], "a": null}));
        Ok(template.render_json(&json!([]), &Json::Null, false)?.text)
    }

    #[test]
    fn blocks_leave_no_lines_behind() {
        assert_eq!(rendered("a\n  {% if true %}\n  b\n  {% endif %}\nc\n").expect("renders"), "a\n  b\nc");
    }

    #[test]
    fn tojson_writes_what_python_writes() {
        let cases = [
            ("{{ x | tojson }}", r#"{"b": [1, 2.0, "é\n"], "a": null}"#),
            ("{{ x | tojson(ensure_ascii=True, sort_keys=True) }}", r#"{"a": null, "b": [1, 2.0, "\u00e9\n"]}"#),
            ("{{ x | tojson(separators=(',', ':')) }}", r#"{"b":[1,2.0,"é\n"],"a":null}"#),
            ("{{ x.b | tojson(indent=2) }}", "[\n  1,\n  2.0,\n  \"é\\n\"\n]"),
            (
                "{{ [[], {}, 1e22, 1e-7, '<&>', true] | tojson(indent=1) }}",
                "[\n [],\n {},\n 1e+22,\n 1e-07,\n \"<&>\",\n true\n]",
            ),
            ("{{ '🙂\x7f' | tojson(ensure_ascii=true) }}", "\"\\ud83d\\ude42\\u007f\""),
        ];
        for (source, expected) in cases {
            assert_eq!(rendered(source).expect("renders"), expected, "{source}");
        }
        assert!(rendered("{{ missing | tojson }}").is_err());
    }

    #[test]
    fn pythons_methods_and_loop_controls_work() {
        let source = "{% set ns = namespace(n=0) %}{% for k, v in x.items() %}{% if k == 'a' %}{% continue %}{% endif %}\
                      {% set ns.n = ns.n + 1 %}{{ k.upper() }}{% endfor %}{{ ns.n }}{{ ' s '.strip() }}{{ 'a</t>b'.split('</t>')[-1] }}\
                      {{ [1, 2, 3][::-1] | join(',') }}{{ true }}{{ none }}";
        assert_eq!(rendered(source).expect("renders"), "B1sb3,2,1TrueNone");
    }

    #[test]
    fn mistakes_in_templates_are_told_by_line() {
        let error = rendered("a\n{% for %}").expect_err("no Jinja");
        assert!(matches!(error, TextError::TemplateSyntax { line: 2, .. }), "{error}");
        let error = rendered("\n\n{{ missing.key }}").expect_err("no such variable");
        assert!(matches!(error, TextError::TemplateFailed { line: 3, .. }), "{error}");
        let error = rendered("{{ raise_exception('roles must alternate') }}").expect_err("refuses");
        assert!(
            matches!(&error, TextError::TemplateRefused { message } if message == "roles must alternate"),
            "{error}"
        );
    }

    #[test]
    fn the_date_is_what_was_given_or_not_known_at_all() {
        let source = "{{ strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024' }}";
        assert_eq!(rendered(source).expect("renders"), "26 Jul 2024");
        let template = ChatTemplate::new(source).expect("compiles").with_now(DateTime::from_timestamp(0));
        assert_eq!(template.render(&[], &[], false).expect("renders").text, "01 Jan 1970");
    }

    #[test]
    fn generation_blocks_are_found_whatever_the_text() {
        let source =
            "{% for m in messages %}\n<{% generation %}\n{{ m.content }}\n{%- endgeneration -%}\n>\n{% endfor %}";
        let template = ChatTemplate::new(source).expect("compiles");
        let messages = [Message::user("é\u{FDD0}"), Message::user(""), Message::user("b")];
        let rendered = template.render(&messages, &[], false).expect("renders");
        assert_eq!(rendered.text, "<é\u{FDD0}>\n<>\n<b>\n");
        let said: Vec<_> = rendered.generation.iter().map(|range| &rendered.text[range.clone()]).collect();
        assert_eq!(said, ["é\u{FDD0}", "", "b"]);
    }

    #[test]
    fn our_template_writes_what_its_description_shows() {
        let parameters = |json: &str| serde_json::from_str(json).expect("JSON");
        let tools = [
            ToolSpec {
                name: "cd".into(),
                description: "Change directory".into(),
                parameters: parameters(
                    r#"{"type": "object", "properties": {"folder": {"type": "string"}}, "required": ["folder"]}"#,
                ),
                response: None,
            },
            ToolSpec {
                name: "ls".into(),
                description: String::new(),
                parameters: parameters(
                    r#"{"type": "object", "properties": {"a": {"type": "boolean"}, "by": {"enum": ["name", 1, null]}, "x": {}}}"#,
                ),
                response: None,
            },
        ];
        let call = |text: &str| ToolCall { text: None, ..ToolCall::from_text(text) };
        let conversation = Conversation {
            tools: tools.to_vec(),
            turns: vec![Turn {
                messages: vec![Message::user("Go to docs and list all.")],
                steps: vec![Step {
                    awareness: Some(Awareness { summary: "nothing yet".into(), plan: "cd docs, ls".into() }),
                    calls: vec![
                        call("cd(folder='do\"cs\\n')"),
                        call("ls(a=True, by=None, x={'k': [1, 2.5, -0.0, 'é']})"),
                        ToolCall::from_text("ls( 'as is' )"),
                    ],
                    results: vec![ToolResult { content: "ok".into(), ..ToolResult::default() }],
                    ..Step::default()
                }],
                ..Turn::default()
            }],
        };
        let messages = chat_messages(&conversation);
        let rendered = ChatTemplate::default().render(&messages, &tools, true).expect("renders");
        let expected = "<|im_start|>system\nTools:\ncd(folder: string) # Change directory\n\
                        ls(a?: boolean, by?: \"name\"|1|None, x?)<|im_end|>\n\
                        <|im_start|>user\nGo to docs and list all.<|im_end|>\n<|im_start|>assistant\n\
                        <summary>nothing yet</summary><plan>cd docs, ls</plan><tool_call>cd(folder=\"do\\\"cs\\n\")\n\
                        ls(a=True, by=None, x={\"k\": [1, 2.5, -0.0, \"é\"]})\nls( 'as is' )</tool_call><|im_end|>\n\
                        <|im_start|>tool\nok<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(rendered.text, expected);
        let said: Vec<_> = rendered.generation.iter().map(|range| &rendered.text[range.clone()]).collect();
        assert!(
            matches!(said[..], [reply] if reply.starts_with("<summary>") && reply.ends_with("</tool_call><|im_end|>"))
        );
    }

    #[test]
    fn a_system_message_stands_before_the_tools() {
        let messages = [Message::new(Role::System, "Be brief."), Message::user("Hi")];
        let tools = [ToolSpec {
            name: "f".into(),
            description: "F".into(),
            parameters: json!({"type": "object", "properties": {}}),
            response: None,
        }];
        let template = ChatTemplate::default();
        let text = template.render(&messages, &tools, false).expect("renders").text;
        assert_eq!(text, "<|im_start|>system\nBe brief.\nTools:\nf() # F<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n");
        let text = template.render(&messages, &[], false).expect("renders").text;
        assert_eq!(text, "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n");
    }

    #[test]
    fn templates_that_rewrite_history_are_found_out() {
        // As Qwen3's: reasoning stays only in the last reply.
        let source = "{% for m in messages %}[{{ m.content if loop.last or m.role == 'user' else m.content.split('|')[-1] }}]\
                      {% endfor %}{% if add_generation_prompt %}[{% endif %}";
        let template = ChatTemplate::new(source).expect("compiles");
        let reply = |text: &str| Message::new(Role::Assistant, text);
        let messages = [Message::user("é"), reply("thought|said"), Message::user("b"), reply("c")];
        template.check_prefix_preserving(&messages[..2], &[]).expect("one reply is kept");
        let error = template.check_prefix_preserving(&messages, &[]).expect_err("it forgets");
        let TextError::NotPrefixPreserving { message, position, before, after } = &error else { panic!("{error}") };
        assert_eq!((*message, *position), (2, "[é][".len()));
        assert_eq!((before.as_str(), after.as_str()), ("thought|said]", "said][b]"));
        ChatTemplate::default().check_prefix_preserving(&messages, &[]).expect("ours only appends");
    }
}
