//! From the schemas of tools to the tables of the automaton.

use serde_json::{Map, Value as Json};

use super::machine::{ANY, ArraySpec, COLON, COMMA, Calls, Choice, FieldsSpec, NumberKind, ObjectSpec, ValueSpec};
use super::{CallOptions, CallStyle, GrammarError};
use crate::python::{self, syntax, text};
use crate::tool::ToolSpec;

pub(super) fn compile(tools: &[ToolSpec], options: &CallOptions) -> Result<Calls, GrammarError> {
    if tools.is_empty() {
        return Err(GrammarError::NoTools);
    }
    if options.max_calls == Some(0) {
        return Err(GrammarError::NoCalls);
    }
    let mut compiler = Compiler {
        style: options.style,
        tool: String::new(),
        calls: Calls {
            is_python: options.style == CallStyle::Python,
            max_calls: options.max_calls,
            ..Calls::default()
        },
    };
    compiler.constants();

    let mut named = Vec::new();
    for tool in tools {
        tool.name.clone_into(&mut compiler.tool);
        compiler.check_name(&tool.name)?;
        let before = match options.style {
            CallStyle::Python => format!("{}(", tool.name),
            CallStyle::Json | CallStyle::ToolCallTags => {
                format!("{{\"name\": {}, \"arguments\": {{", json_text(&Json::from(tool.name.as_str())))
            }
        };
        let fields = compiler.arguments(&tool.parameters)?;
        named.push((before.into_bytes(), fields, &tool.name));
    }
    named.sort_by(|a, b| a.0.cmp(&b.0));
    if let Some(pair) = named.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(GrammarError::DuplicateTool(pair[0].2.clone()));
    }
    compiler.calls.tool_fields = named.iter().map(|named| named.1).collect();
    let names = named.into_iter().map(|named| named.0).collect();
    compiler.calls.names = compiler.words(names);

    let (open, separator, close) = match options.style {
        CallStyle::Python | CallStyle::Json => ("[", ", ", "]"),
        CallStyle::ToolCallTags => ("<tool_call>\n", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>"),
    };
    let empty = match options.style {
        CallStyle::Python | CallStyle::Json => "[]",
        CallStyle::ToolCallTags => "",
    };
    let opening = [(open, false), (empty, true)];
    compiler.calls.opening = compiler.choice(if options.may_be_empty { &opening } else { &opening[..1] });
    compiler.calls.after = compiler.choice(&[(separator, false), (close, true)]);
    compiler.calls.after_last = compiler.choice(&[(close, true)]);
    Ok(compiler.calls)
}

struct Compiler {
    style: CallStyle,
    /// The tool at hand, for errors.
    tool: String,
    calls: Calls,
}

impl Compiler {
    /// What all tables begin with.
    fn constants(&mut self) {
        let comma = self.words(vec![b", ".to_vec()]);
        let colon = self.words(vec![b": ".to_vec()]);
        let literals = [Json::Null, Json::Bool(false), Json::Bool(true)].map(|literal| self.literal(&literal));
        let literals = self.words(literals.to_vec());
        self.calls.arrays.push(ArraySpec { item: ANY, min: 0, max: None });
        let any = self.value(ValueSpec {
            literals: Some(literals),
            string: true,
            number: Some(NumberKind::Float),
            array: Some(0),
            object: Some(ObjectSpec::Map { value: ANY }),
        });
        assert_eq!((comma, colon, any), (COMMA, COLON, ANY), "they come first");
    }

    fn words(&mut self, mut words: Vec<Vec<u8>>) -> u32 {
        words.sort();
        words.dedup();
        self.calls.words.push(words);
        self.calls.words.len() as u32 - 1
    }

    fn choice(&mut self, choices: &[(&str, bool)]) -> Choice {
        let mut choices = choices.to_vec();
        choices.sort_unstable();
        let words = self.words(choices.iter().map(|(word, _)| word.as_bytes().to_vec()).collect());
        Choice { words, is_end: choices.into_iter().map(|(_, is_end)| is_end).collect() }
    }

    fn value(&mut self, spec: ValueSpec) -> u32 {
        self.calls.values.push(spec);
        self.calls.values.len() as u32 - 1
    }

    /// How a fixed value is written.
    fn literal(&self, value: &Json) -> Vec<u8> {
        if self.calls.is_python {
            text::repr(&python::Value::from_json(value)).into_bytes()
        } else {
            json_text(value).into_bytes()
        }
    }

    fn check_name(&self, name: &str) -> Result<(), GrammarError> {
        let is_name = |name: &str| {
            let mut characters = name.chars();
            characters.next().is_some_and(|first| first == '_' || unicode_ident::is_xid_start(first))
                && characters.all(unicode_ident::is_xid_continue)
                && syntax::words::keyword(name).is_none()
        };
        if self.style == CallStyle::Python && !name.split('.').all(is_name) {
            return Err(GrammarError::Name { tool: self.tool.clone(), name: name.to_owned() });
        }
        Ok(())
    }

    fn error(&self, place: &str, reason: &'static str) -> GrammarError {
        GrammarError::Schema { tool: self.tool.clone(), place: place.to_owned(), reason }
    }

    fn arguments(&mut self, schema: &Json) -> Result<u32, GrammarError> {
        let none = Map::new();
        let properties = match schema.get("properties") {
            None => &none,
            Some(properties) => {
                properties.as_object().ok_or_else(|| self.error("parameters", "`properties` is no object"))?
            }
        };
        let close: &[u8] = if self.calls.is_python { b")" } else { b"}}" };
        for name in properties.keys() {
            // A point cannot be in a parameter's name, though it can be in a function's.
            if name.contains('.') && self.style == CallStyle::Python {
                return Err(GrammarError::Name { tool: self.tool.clone(), name: name.clone() });
            }
            self.check_name(name)?;
        }
        let is_python = self.calls.is_python;
        let key = |name: &str| {
            if is_python { format!("{name}=") } else { format!("{}: ", json_text(&Json::from(name))) }
        };
        self.fields("parameters", schema, properties, &key, close, true)
    }

    fn fields(
        &mut self,
        place: &str,
        schema: &Json,
        properties: &Map<String, Json>,
        key: &dyn Fn(&str) -> String,
        close: &[u8],
        may_be_empty: bool,
    ) -> Result<u32, GrammarError> {
        if properties.len() > 64 {
            return Err(GrammarError::TooManyProperties {
                tool: self.tool.clone(),
                place: place.to_owned(),
                count: properties.len(),
            });
        }
        let mut keyed = Vec::new();
        for (name, schema) in properties {
            let value = self.schema(&format!("{place}.{name}"), schema)?;
            keyed.push((key(name).into_bytes(), value, name));
        }
        // The order of the words decides which bit is whose.
        keyed.sort_by(|a, b| a.0.cmp(&b.0));
        let mut required = 0;
        for name in schema.get("required").and_then(Json::as_array).into_iter().flatten() {
            let index = keyed
                .iter()
                .position(|keyed| name.as_str() == Some(keyed.2))
                .ok_or_else(|| self.error(place, "`required` names something that is not in `properties`"))?;
            required |= 1 << index;
        }
        let values = keyed.iter().map(|keyed| keyed.1).collect();
        let keys = self.words(keyed.into_iter().map(|keyed| keyed.0).collect());
        let close = self.words(vec![close.to_vec()]);
        self.calls.fields.push(FieldsSpec { keys, values, required, close, may_be_empty });
        Ok(self.calls.fields.len() as u32 - 1)
    }

    fn schema(&mut self, place: &str, schema: &Json) -> Result<u32, GrammarError> {
        let mut union = Union::default();
        self.collect(place, schema, &mut union)?;
        if union.is_any {
            return Ok(ANY);
        }
        let Union { mut literals, mut spec, .. } = union;
        // A kind takes every value of that kind, so that its enum members add nothing. (Only unions have both.)
        literals.retain(|literal| match literal {
            Json::String(_) => !spec.string,
            Json::Number(number) => {
                let kind = if is_integer(number) { NumberKind::Integer } else { NumberKind::Float };
                match &mut spec.number {
                    Some(known) => {
                        *known = (*known).max(kind);
                        false
                    }
                    None => true,
                }
            }
            Json::Array(_) => spec.array.is_none(),
            Json::Object(_) => spec.object.is_none(),
            Json::Null | Json::Bool(_) => true,
        });
        if !literals.is_empty() {
            let literals = literals.iter().map(|literal| self.literal(literal)).collect();
            spec.literals = Some(self.words(literals));
        } else if !spec.string && spec.number.is_none() && spec.array.is_none() && spec.object.is_none() {
            return Err(self.error(place, "no value fits: `enum` is empty, or no member of it has the `type`"));
        }
        Ok(self.value(spec))
    }

    /// Adds what a schema allows.
    fn collect(&mut self, place: &str, schema: &Json, union: &mut Union) -> Result<(), GrammarError> {
        let schema = match schema {
            Json::Object(schema) => schema,
            Json::Bool(true) => {
                union.is_any = true;
                return Ok(());
            }
            _ => return Err(self.error(place, "a schema is an object")),
        };
        if schema.contains_key("$ref") {
            return Err(self.error(place, "`$ref` is not supported: write the schema out"));
        }
        if schema.contains_key("allOf") {
            return Err(self.error(place, "`allOf` is not supported: write the schema out"));
        }
        if schema.get("nullable") == Some(&Json::Bool(true)) {
            union.literals.push(Json::Null);
        }
        let types: Option<Vec<&str>> = match schema.get("type") {
            None => None,
            Some(Json::String(name)) => Some(vec![name]),
            Some(Json::Array(names)) => Some(
                names
                    .iter()
                    .map(Json::as_str)
                    .collect::<Option<_>>()
                    .ok_or_else(|| self.error(place, "`type` is a name or a list of names"))?,
            ),
            Some(_) => return Err(self.error(place, "`type` is a name or a list of names")),
        };
        if let Some(only) = schema.get("const") {
            union.literals.push(only.clone());
            return Ok(());
        }
        if let Some(members) = schema.get("enum") {
            let members = members.as_array().ok_or_else(|| self.error(place, "`enum` is a list"))?;
            let fits = |member: &&Json| types.as_ref().is_none_or(|types| types.iter().any(|name| is_of(member, name)));
            union.literals.extend(members.iter().filter(fits).cloned());
            return Ok(());
        }
        let alternatives = ["anyOf", "oneOf"].into_iter().find_map(|key| schema.get(key));
        if let Some(alternatives) = alternatives {
            let alternatives =
                alternatives.as_array().ok_or_else(|| self.error(place, "`anyOf` and `oneOf` are lists"))?;
            return alternatives.iter().try_for_each(|schema| self.collect(place, schema, union));
        }
        let Some(types) = types else {
            if schema.contains_key("properties") {
                return self.collect_type(place, "object", schema, union);
            }
            union.is_any = true;
            return Ok(());
        };
        types.into_iter().try_for_each(|name| self.collect_type(place, name, schema, union))
    }

    fn collect_type(
        &mut self,
        place: &str,
        name: &str,
        schema: &Map<String, Json>,
        union: &mut Union,
    ) -> Result<(), GrammarError> {
        match name {
            "string" => union.spec.string = true,
            "integer" => union.spec.number = union.spec.number.max(Some(NumberKind::Integer)),
            "number" => union.spec.number = Some(NumberKind::Float),
            "boolean" => union.literals.extend([Json::Bool(false), Json::Bool(true)]),
            "null" => union.literals.push(Json::Null),
            "array" => {
                if union.spec.array.is_some() {
                    return Err(self.error(place, "two kinds of array as alternatives are not supported"));
                }
                let item = match schema.get("items") {
                    Some(items) => self.schema(&format!("{place}[]"), items)?,
                    None => ANY,
                };
                let count = |key| schema.get(key).and_then(Json::as_u64).map(|count| count.min(1 << 20) as u32);
                let (min, max) = (count("minItems").unwrap_or(0), count("maxItems"));
                if max.is_some_and(|max| max < min) {
                    return Err(self.error(place, "`maxItems` is less than `minItems`"));
                }
                self.calls.arrays.push(ArraySpec { item, min, max });
                union.spec.array = Some(self.calls.arrays.len() as u32 - 1);
            }
            "object" => {
                if union.spec.object.is_some() {
                    return Err(self.error(place, "two kinds of object as alternatives are not supported"));
                }
                union.spec.object = Some(self.object(place, schema)?);
            }
            _ => return Err(self.error(place, "the `type` is none of JSON Schema's")),
        }
        Ok(())
    }

    fn object(&mut self, place: &str, schema: &Map<String, Json>) -> Result<ObjectSpec, GrammarError> {
        let properties = schema.get("properties").and_then(Json::as_object).filter(|known| !known.is_empty());
        let Some(properties) = properties else {
            let value = match schema.get("additionalProperties") {
                Some(schema @ Json::Object(_)) => self.schema(&format!("{place}.*"), schema)?,
                _ => ANY,
            };
            return Ok(ObjectSpec::Map { value });
        };
        let is_python = self.calls.is_python;
        let key = |name: &str| {
            if is_python {
                format!("{}: ", text::repr(&python::Value::from(name)))
            } else {
                format!("{}: ", json_text(&Json::from(name)))
            }
        };
        let fields = self.fields(place, &Json::Object(schema.clone()), properties, &key, b"}", !is_python)?;
        Ok(ObjectSpec::Fields(fields))
    }
}

/// What the alternatives of a schema allow together.
#[derive(Default)]
struct Union {
    is_any: bool,
    literals: Vec<Json>,
    spec: ValueSpec,
}

fn is_integer(number: &serde_json::Number) -> bool {
    number.is_i64() || number.is_u64()
}

fn is_of(value: &Json, name: &str) -> bool {
    match value {
        Json::Null => name == "null",
        Json::Bool(_) => name == "boolean",
        Json::Number(number) => name == "number" || name == "integer" && is_integer(number),
        Json::String(_) => name == "string",
        Json::Array(_) => name == "array",
        Json::Object(_) => name == "object",
    }
}

/// As `json.dumps(value, ensure_ascii=False)` writes it.
fn json_text(value: &Json) -> String {
    match value {
        Json::Array(items) => format!("[{}]", items.iter().map(json_text).collect::<Vec<_>>().join(", ")),
        Json::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", Json::from(key.as_str()), json_text(value)))
                .collect::<Vec<_>>();
            format!("{{{}}}", entries.join(", "))
        }
        scalar => scalar.to_string(),
    }
}
