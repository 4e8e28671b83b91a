use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::*;
use crate::env::bfcl::data::read_tasks;
use crate::generation::{Constraint, SequenceRng, TokenMask};
use crate::python::decode::decode_text;
use crate::tool::ToolCall;

const TASKS: &str = include_str!("../../../../public/tasks/demo.jsonl");
const TOOLS: &str = include_str!("../../../../public/tasks/tools.json");

const STYLES: [CallStyle; 3] = [CallStyle::Python, CallStyle::Json, CallStyle::ToolCallTags];

fn tool(name: &str, parameters: Json) -> ToolSpec {
    ToolSpec { name: name.to_owned(), description: String::new(), parameters, response: None }
}

fn schema(properties: Json, required: &[&str]) -> Json {
    json!({"type": "object", "properties": properties, "required": required})
}

fn calls(tools: &[ToolSpec], style: CallStyle) -> Grammar {
    Grammar::calls(tools, &CallOptions::new(style)).unwrap()
}

fn is_whole(grammar: &Grammar, text: &str) -> bool {
    let mut state = GrammarState::new(grammar);
    state.advance_all(text.as_bytes()) && state.can_end()
}

/// What the grammar takes of a text, by how far it goes.
fn taken<'a>(grammar: &Grammar, text: &'a str) -> &'a str {
    let mut state = GrammarState::new(grammar);
    let count = text.bytes().take_while(|&byte| state.advance(byte)).count();
    &text[..count]
}

/// Writes calls by names and arguments, in the canonical form.
fn written(style: CallStyle, calls: &[(String, Map<String, Json>)]) -> String {
    let object = |name: &str, arguments: &Map<String, Json>| {
        let arguments: Vec<_> =
            arguments.iter().map(|(key, value)| format!("{}: {}", Json::from(key.as_str()), dumps(value))).collect();
        format!("{{\"name\": \"{name}\", \"arguments\": {{{}}}}}", arguments.join(", "))
    };
    let calls = calls.iter().map(|(name, arguments)| match style {
        CallStyle::Python => ToolCall::new(name.as_str(), arguments.clone()).call_string(),
        CallStyle::Json => object(name, arguments),
        CallStyle::ToolCallTags => format!("<tool_call>\n{}\n</tool_call>", object(name, arguments)),
    });
    let calls: Vec<_> = calls.collect();
    match style {
        CallStyle::ToolCallTags => calls.join("\n"),
        _ => format!("[{}]", calls.join(", ")),
    }
}

/// `json.dumps`, by another way than the grammar's own.
fn dumps(value: &Json) -> String {
    match value {
        Json::Array(items) => format!("[{}]", items.iter().map(dumps).collect::<Vec<_>>().join(", ")),
        Json::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| format!("{}: {}", Json::from(key.as_str()), dumps(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    }
}

/// Reads calls back: what a harness would do with the text.
fn read(style: CallStyle, text: &str) -> Vec<(String, Map<String, Json>)> {
    let from_json = |call: &Json| {
        let name = call["name"].as_str().unwrap().to_owned();
        (name, call["arguments"].as_object().unwrap().clone())
    };
    match style {
        CallStyle::Python => decode_text(text)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .into_iter()
            .map(|call| {
                // Without the name: one with a point is decoded, but no world has such a function.
                let (name, arguments) = call.split_once('(').unwrap();
                let arguments = ToolCall::from_text(format!("f({arguments}"));
                assert!(arguments.name == "f" && arguments.positional.is_empty(), "{call}");
                (name.to_owned(), arguments.arguments)
            })
            .collect(),
        CallStyle::Json => {
            let calls: Vec<Json> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            calls.iter().map(from_json).collect()
        }
        CallStyle::ToolCallTags => text
            .split("</tool_call>")
            .map(|block| block.trim().trim_start_matches("<tool_call>").trim())
            .filter(|block| !block.is_empty())
            .map(|block| from_json(&serde_json::from_str(block).unwrap()))
            .collect(),
    }
}

/// A validator of its own, for the part of JSON Schema that the tests use.
fn fits(value: &Json, schema: &Json) -> bool {
    if let Some(alternatives) = schema.get("anyOf") {
        return alternatives.as_array().unwrap().iter().any(|schema| fits(value, schema));
    }
    if let Some(members) = schema.get("enum") {
        return members.as_array().unwrap().contains(value);
    }
    let Some(name) = schema.get("type") else { return true };
    let names: Vec<_> = match name {
        Json::Array(names) => names.iter().collect(),
        name => vec![name],
    };
    names.into_iter().any(|name| match (name.as_str().unwrap(), value) {
        ("string", Json::String(_)) | ("boolean", Json::Bool(_)) | ("null", Json::Null) => true,
        ("number", Json::Number(_)) => true,
        ("integer", Json::Number(number)) => number.is_i64(),
        ("array", Json::Array(items)) => {
            let at_least = schema.get("minItems").and_then(Json::as_u64).unwrap_or(0);
            let at_most = schema.get("maxItems").and_then(Json::as_u64).unwrap_or(u64::MAX);
            (at_least..=at_most).contains(&(items.len() as u64))
                && items.iter().all(|item| schema.get("items").is_none_or(|schema| fits(item, schema)))
        }
        ("object", Json::Object(entries)) => has_fields(entries, schema),
        _ => false,
    })
}

fn has_fields(entries: &Map<String, Json>, schema: &Json) -> bool {
    let none = Map::new();
    let properties = schema.get("properties").and_then(Json::as_object).unwrap_or(&none);
    let required = schema.get("required").and_then(Json::as_array).into_iter().flatten();
    entries.iter().all(|(key, value)| properties.get(key).is_some_and(|schema| fits(value, schema)))
        && required.into_iter().all(|name| entries.contains_key(name.as_str().unwrap()))
}

fn below(rng: &mut SequenceRng, count: usize) -> usize {
    (rng.uniform() * count as f64) as usize
}

fn random_schema(rng: &mut SequenceRng, depth: usize) -> Json {
    match below(rng, if depth == 0 { 8 } else { 11 }) {
        0 | 1 => json!({"type": "string"}),
        2 => json!({"type": "string", "enum": ["on", "on and off", "it's", "\"é\""]}),
        3 => json!({"type": "integer"}),
        4 => json!({"type": "number"}),
        5 => json!({"type": "boolean"}),
        6 => json!({"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        7 => json!({"enum": [1, 12, -3, 1.5, "1", true, null]}),
        8 => json!({"type": ["array", "string"], "items": random_schema(rng, depth - 1)}),
        9 => json!({"type": "array", "items": random_schema(rng, depth - 1), "minItems": 1, "maxItems": 3}),
        _ => {
            // The official decoder takes a dict of nothing but dicts for a call (so `id`), and does not escape keys.
            let properties =
                json!({"id": {"type": "integer"}, "its": random_schema(rng, depth - 1), "i": random_schema(rng, 0)});
            schema(properties, &["id"])
        }
    }
}

fn random_tools(rng: &mut SequenceRng) -> Vec<ToolSpec> {
    ["cd", "cd_up", "files.find", "f"]
        .into_iter()
        .map(|name| {
            let names = ["a", "ab", "b", "folder", "größe"];
            let properties: Map<String, Json> =
                names[..below(rng, 6)].iter().map(|&name| (name.to_owned(), random_schema(rng, 2))).collect();
            let required: Vec<_> = properties.keys().filter(|_| rng.uniform() < 0.5).cloned().collect();
            let required: Vec<_> = required.iter().map(String::as_str).collect();
            tool(name, schema(properties.clone().into(), &required))
        })
        .collect()
}

fn random_value(rng: &mut SequenceRng, schema: &Json) -> Json {
    if let Some(alternatives) = schema.get("anyOf").and_then(Json::as_array) {
        let chosen = below(rng, alternatives.len());
        return random_value(rng, &alternatives[chosen]);
    }
    if let Some(members) = schema.get("enum").and_then(Json::as_array) {
        return members[below(rng, members.len())].clone();
    }
    let name = match &schema["type"] {
        Json::Array(names) => &names[below(rng, names.len())],
        name => name,
    };
    match name.as_str().unwrap() {
        "string" => {
            let characters = ['a', ' ', '\'', '"', '\\', '\n', '\t', '\u{1}', '\u{7f}', 'é', '漢', '😀', ')', ','];
            let count = below(rng, 8);
            (0..count).map(|_| characters[below(rng, characters.len())]).collect::<String>().into()
        }
        "integer" => (((rng.uniform() - 0.5) * 10_f64.powi(below(rng, 18) as i32)) as i64).into(),
        "number" => ((rng.uniform() - 0.5) * 10_f64.powi(below(rng, 60) as i32 - 30)).into(),
        "boolean" => (rng.uniform() < 0.5).into(),
        "null" => Json::Null,
        "array" => {
            let least = schema.get("minItems").and_then(Json::as_u64).unwrap_or(0) as usize;
            (0..least + below(rng, 3)).map(|_| random_value(rng, &schema["items"])).collect()
        }
        "object" => Json::Object(random_fields(rng, schema)),
        other => unreachable!("{other}"),
    }
}

fn random_fields(rng: &mut SequenceRng, schema: &Json) -> Map<String, Json> {
    let required = schema["required"].as_array().unwrap();
    let mut entries: Vec<_> = schema["properties"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| rng.uniform() < 0.5 || required.contains(&Json::from(name.as_str())))
        .map(|(name, schema)| (name.clone(), schema))
        .collect();
    // In any order.
    for index in (1..entries.len()).rev() {
        entries.swap(index, below(rng, index + 1));
    }
    entries.into_iter().map(|(name, schema)| (name, random_value(rng, schema))).collect()
}

/// A random text of the grammar that starts with `prefix`, byte by byte; from some length on by a short way to its end.
fn random_walk(rng: &mut SequenceRng, grammar: &Grammar, prefix: &str, length: usize) -> Vec<u8> {
    let mut state = GrammarState::new(grammar);
    assert!(state.advance_all(prefix.as_bytes()));
    let mut walked = prefix.as_bytes().to_vec();
    loop {
        let after = |byte| {
            let mut state = state.clone();
            state.advance(byte).then_some((byte, state))
        };
        let allowed: Vec<_> = (0..=255).filter_map(after).collect();
        let is_long = walked.len() > length;
        if state.can_end() && (allowed.is_empty() || is_long || rng.uniform() < 0.3) {
            return walked;
        }
        // Closing now and then, or most texts would be one long string.
        let (byte, next) = if is_long || rng.uniform() < 0.2 {
            let least = allowed.iter().map(|(_, state)| state.stack.len()).min();
            let closing: Vec<_> = allowed.iter().filter(|(_, state)| Some(state.stack.len()) == least).collect();
            closing.get(below(rng, closing.len())).copied()
        } else {
            allowed.get(below(rng, allowed.len()))
        }
        .unwrap_or_else(|| panic!("stuck after {:?}", String::from_utf8_lossy(&walked)));
        state = next.clone();
        walked.push(*byte);
        assert!(walked.len() < 5_000, "no end in sight: {:?}", String::from_utf8_lossy(&walked));
    }
}

#[test]
fn ground_truth_calls_are_accepted() {
    let (tasks, errors) = read_tasks(TASKS, TOOLS, "demo");
    assert!(errors.is_empty() && tasks.len() > 10);
    let mut count = 0;
    for task in &tasks {
        for style in STYLES {
            let grammar = calls(&task.tools, style);
            for turn in &task.turns {
                let turn_calls: Vec<_> = turn
                    .ground_truth
                    .iter()
                    .map(|call| {
                        let call = ToolCall::from_text(call.as_str());
                        (call.name, call.arguments)
                    })
                    .collect();
                if turn_calls.is_empty() {
                    continue;
                }
                let text = match style {
                    CallStyle::Python => format!("[{}]", turn.ground_truth.join(", ")),
                    style => written(style, &turn_calls),
                };
                assert!(is_whole(&grammar, &text), "{}: {text}: only {:?}", task.id, taken(&grammar, &text));
                assert_eq!(read(style, &text), turn_calls);
                count += turn_calls.len();
            }
        }
    }
    assert!(count > 300, "{count}");
}

#[test]
fn every_tool_of_the_demo_tasks_compiles() {
    let tools: BTreeMap<String, Vec<ToolSpec>> = serde_json::from_str(TOOLS).unwrap();
    for style in STYLES {
        for tools in tools.values() {
            let grammar = calls(tools, style);
            let mut rng = SequenceRng::new(8, 0);
            for _ in 0..5 {
                let walked = String::from_utf8(random_walk(&mut rng, &grammar, "", 100)).unwrap();
                for (name, _) in read(style, &walked) {
                    assert!(tools.iter().any(|tool| tool.name == name), "{walked}");
                }
            }
        }
    }
}

/// Each text with the place, marked by `¦`, at which it is refused.
#[test]
fn mistakes_are_refused_where_they_are_made() {
    let tools = [
        tool("cd", schema(json!({"folder": {"type": "string"}}), &["folder"])),
        tool(
            "mix",
            schema(
                json!({
                    "a": {"type": "integer"},
                    "ab": {"type": "number"},
                    "mode": {"type": "string", "enum": ["on", "one"]},
                    "flag": {"type": "boolean"},
                    "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
                    "change": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
                    "free": {"type": "object"},
                }),
                &[],
            ),
        ),
        tool("pwd", json!({})),
    ];
    let python = calls(&tools, CallStyle::Python);
    for text in [
        "[cd(folder='a')]",
        "[cd(folder=\"it's\"), pwd(), pwd()]",
        r"[cd(folder='\'\x1f\u00e9\n')]",
        "[mix()]",
        "[mix(ab=-1.5e-05, a=-7)]",
        "[mix(mode='on'), mix(mode='one')]",
        "[mix(tags=['a', 'b'], change={'x': 1}, free={'k': [None, True, {'l': 1.0}]}, flag=False)]",
    ] {
        assert!(is_whole(&python, text), "{text}: {:?}", taken(&python, text));
    }
    for marked in [
        "[¦]",
        "[c¦at()]",
        "[cd(¦)]",
        "[cd(folder¦ ='a')]",
        "[cd(folder=¦1)]",
        "[cd(folder='a'¦, folder='b')]",
        "[cd(folder='a')¦;",
        "[cd(folder='a')]¦ ",
        "[cd(folder='a\\¦q')]",
        "[cd(folder='\\ud¦800')]",
        "[cd(folder='a¦\nb')]",
        "[cd(¦'a')]",
        "[mix(a=1, a¦=2)]",
        "[mix(a=0¦1)]",
        "[mix(a=1¦.5)]",
        "[mix(a=-¦0)]",
        "[mix(ab=1.¦)]",
        "[mix(ab=¦.5)]",
        "[mix(a=123456789012345678¦9)]",
        "[mix(mode='o¦ff')]",
        "[mix(mode='one¦s')]",
        "[mix(flag=¦true)]",
        "[mix(tags=[¦])]",
        "[mix(tags=['a', 'b'¦, 'c'])]",
        "[mix(change={¦})]",
        "[mix(change={'¦y': 1})]",
        "[mix(free={¦})]",
        "[mix(free={'a¦\"': 1})]",
    ] {
        let (good, bad) = marked.split_once('¦').unwrap();
        let text = format!("{good}{bad}");
        assert_eq!(taken(&python, &text), good, "{marked}");
        assert!(!is_whole(&python, &text));
    }
    let json = calls(&tools, CallStyle::Json);
    assert!(is_whole(
        &json,
        r#"[{"name": "mix", "arguments": {"free": {}, "flag": true}}, {"name": "pwd", "arguments": {}}]"#
    ));
    for marked in [
        r#"[{"name": "cd", "arguments": {¦}}]"#,
        r#"[{"name": "cd", "arguments": {"folder": ¦'a'}}]"#,
        r#"[{"name": "cd", "arguments": {"folder": "\¦'"}}]"#,
        r#"[{"name": "mix", "arguments": {"flag": ¦True}}]"#,
    ] {
        let (good, bad) = marked.split_once('¦').unwrap();
        assert_eq!(taken(&json, &format!("{good}{bad}")), good, "{marked}");
    }
}

#[test]
fn a_refused_byte_changes_nothing() {
    let grammar = calls(&[tool("cd", schema(json!({"n": {"type": "integer"}}), &[]))], CallStyle::Python);
    let mut state = GrammarState::new(&grammar);
    assert!(state.advance_all(b"[cd(n=1"));
    let before = state.clone();
    assert!(!state.advance(b'.') && !state.advance_all(b"2)x"));
    assert_eq!(state, before);
    assert!(!state.can_end());
    assert!(state.advance_all(b")]") && state.is_complete() && state.can_end());
    assert!(!state.advance(b' '));
}

#[test]
fn calls_are_counted() {
    let tools = [tool("f", json!({}))];
    let grammar = |style, may_be_empty, max_calls| {
        Grammar::calls(&tools, &CallOptions { style, may_be_empty, max_calls }).unwrap()
    };
    let python = grammar(CallStyle::Python, true, Some(2));
    assert!(is_whole(&python, "[]") && is_whole(&python, "[f()]") && is_whole(&python, "[f(), f()]"));
    assert_eq!(taken(&python, "[f(), f(), f()]"), "[f(), f()");
    let tags = grammar(CallStyle::ToolCallTags, true, None);
    let one = written(CallStyle::ToolCallTags, &[("f".to_owned(), Map::new())]);
    for text in [String::new(), one.clone(), format!("{one}\n{one}\n{one}")] {
        assert!(is_whole(&tags, &text), "{text}");
    }
    assert!(!is_whole(&tags, &format!("{one}\n")));
    assert!(!is_whole(&grammar(CallStyle::ToolCallTags, false, None), ""));
    let mut state = GrammarState::new(&grammar(CallStyle::ToolCallTags, false, Some(1)));
    assert!(state.advance_all(one.as_bytes()) && state.is_complete());
}

#[test]
fn free_text_runs_until_its_tag() {
    let grammar = Grammar::seq([
        Grammar::literal("<summary>"),
        Grammar::until("</summary>\n<plan>"),
        Grammar::until("aab"),
        Grammar::text(),
    ]);
    for text in ["<summary></summary>\n<plan>aab", "<summary>é </summary>< </summary>\n<plan>aaaab and aab 漢"] {
        assert!(is_whole(&grammar, text), "{text}");
    }
    assert!(!is_whole(&grammar, "<summary></summary>\n<plan>aa"));
    let mut state = GrammarState::new(&grammar);
    // Half a character, and what is no UTF-8.
    assert!(!state.advance_all(b"<summary>\xff") && !state.advance_all(b"<summary>\xed\xa0"));
    assert!(state.advance_all(b"<summary></summary>\n<plan>aab\xe6") && !state.can_end());
    assert!(state.advance_all(b"\xbc\xa2") && state.can_end() && !state.is_complete());
    assert!(is_whole(&Grammar::seq([]), "") && is_whole(&Grammar::literal(""), ""));
}

#[test]
fn unions_merge() {
    let properties = json!({
        "n": {"anyOf": [{"type": "integer"}, {"enum": [1.5, "auto", null]}]},
        "s": {"type": ["string", "null"], "enum": ["a", 1, null]},
        "c": {"const": {"k": [1]}},
        "m": {"type": "object", "additionalProperties": {"type": "integer"}},
        "any": {},
    });
    let grammar = calls(&[tool("f", schema(properties, &[]))], CallStyle::Python);
    for value in ["n=7", "n=7.5", "n='auto'", "n=None", "s='a'", "s=None", "c={'k': [1]}", "m={'a': 1}", "any=[[]]"] {
        assert!(is_whole(&grammar, &format!("[f({value})]")), "{value}");
    }
    for value in ["n='b'", "s=1", "s='b'", "c={'k': [2]}", "m={'a': 'b'}"] {
        assert!(!is_whole(&grammar, &format!("[f({value})]")), "{value}");
    }
    // What may be anything still has an end.
    let deep = format!("[f(any={}", "[".repeat(100));
    let got = taken(&grammar, &deep).len();
    assert!((15..60).contains(&got), "{got}");
}

#[test]
fn schemas_that_do_not_compile_say_why() {
    let python = CallOptions::new(CallStyle::Python);
    let error = |tools: &[ToolSpec]| Grammar::calls(tools, &python).unwrap_err().to_string();
    let of = |value: Json| error(&[tool("f", schema(json!({"a": value}), &[]))]);
    assert!(error(&[]).contains("no tools"));
    assert!(error(&[tool("f", json!({})), tool("f", json!({}))]).contains("two tools named f"));
    assert!(error(&[tool("my tool", json!({}))]).contains("not a Python name"));
    assert!(error(&[tool("f", schema(json!({"class": {}}), &[]))]).contains("not a Python name"));
    assert!(error(&[tool("f", schema(json!({}), &["a"]))]).contains("`required`"));
    assert!(of(json!({"$ref": "#/x"})).contains("parameters.a: `$ref`"));
    assert!(of(json!({"enum": []})).contains("no value fits"));
    assert!(of(json!({"type": "dict"})).contains("none of JSON Schema's"));
    assert!(of(json!({"type": "array", "minItems": 2, "maxItems": 1})).contains("maxItems"));
    let many: Map<String, Json> = (0..65).map(|index| (format!("p{index}"), json!({}))).collect();
    assert!(error(&[tool("f", schema(many.into(), &[]))]).contains("65 properties"));
    assert!(Grammar::calls(&[tool("my tool", json!({}))], &CallOptions::new(CallStyle::Json)).is_ok());
    assert_eq!(
        Grammar::calls(&[tool("f", json!({}))], &CallOptions { max_calls: Some(0), ..python }).unwrap_err(),
        GrammarError::NoCalls
    );
}

/// Tokens of all kinds: single bytes, pieces of the text and of other texts, special ones.
fn random_vocabulary(rng: &mut SequenceRng, text: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut tokens: Vec<Option<Vec<u8>>> = (0..=255).map(|byte| Some(vec![byte])).collect();
    for other in [text, b"')], [cd(f(a='x', ab=1.5)\", None), True\\n</plan>\n[", "é漢😀".as_bytes()] {
        for _ in 0..60 {
            let start = below(rng, other.len());
            let end = (start + 1 + below(rng, 7)).min(other.len());
            tokens.push(Some(other[start..end].to_vec()));
        }
    }
    tokens.extend([None, Some(Vec::new()), None]);
    tokens
}

fn brute_force(state: &GrammarState, tokens: &[Option<Vec<u8>>], end_token: u32) -> TokenMask {
    let mut mask = TokenMask::none(tokens.len());
    for (token, bytes) in (0..).zip(tokens) {
        let is_allowed = match bytes {
            Some(bytes) => !bytes.is_empty() && state.clone().advance_all(bytes),
            None => token == end_token && state.can_end(),
        };
        if is_allowed {
            mask.allow(token);
        }
    }
    mask
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn valid_calls_are_accepted(seed in any::<u64>()) {
        let mut rng = SequenceRng::new(seed, 0);
        let tools = random_tools(&mut rng);
        for style in STYLES {
            let grammar = calls(&tools, style);
            for _ in 0..5 {
                let made: Vec<_> = (0..1 + below(&mut rng, 3))
                    .map(|_| {
                        let tool = &tools[below(&mut rng, tools.len())];
                        (tool.name.clone(), random_fields(&mut rng, &tool.parameters))
                    })
                    .collect();
                let text = written(style, &made);
                prop_assert!(is_whole(&grammar, &text), "{text}\nonly {:?}", taken(&grammar, &text));
            }
        }
    }

    #[test]
    fn accepted_texts_are_valid_calls(seed in any::<u64>()) {
        let mut rng = SequenceRng::new(seed, 1);
        let tools = random_tools(&mut rng);
        for style in STYLES {
            let grammar = calls(&tools, style);
            for _ in 0..5 {
                let text = String::from_utf8(random_walk(&mut rng, &grammar, "", 150)).unwrap();
                let calls = read(style, &text);
                prop_assert!(!calls.is_empty());
                for (name, arguments) in calls {
                    let tool = tools.iter().find(|tool| tool.name == name);
                    prop_assert!(tool.is_some_and(|tool| has_fields(&arguments, &tool.parameters)), "{text}");
                }
            }
        }
    }

    #[test]
    fn masks_are_what_brute_force_finds(seed in any::<u64>()) {
        let mut rng = SequenceRng::new(seed, 2);
        let style = STYLES[below(&mut rng, 3)];
        let options = CallOptions { may_be_empty: rng.uniform() < 0.3, ..CallOptions::new(style) };
        let calls = Grammar::calls(&random_tools(&mut rng), &options).unwrap();
        let grammar = Grammar::seq([Grammar::literal("<plan>"), Grammar::until("</plan>\n"), calls]);
        let text = random_walk(&mut rng, &grammar, "<plan>é <plan </plan>\n", 80);
        let tokens = random_vocabulary(&mut rng, &text);
        let end_token = tokens.len() as u32 - 1;
        let mut masks = TokenMasks::new(&grammar, Arc::new(TokenVocabulary::new(&tokens, &[end_token])));
        let vocabulary = Arc::clone(masks.vocabulary());
        // On a walk by tokens, at random among the allowed ones.
        let mut state = GrammarState::new(&grammar);
        for _ in 0..40 {
            let mask = masks.mask(&state);
            prop_assert_eq!(&*mask, &brute_force(&state, &tokens, end_token));
            let allowed: Vec<_> = mask.tokens().collect();
            prop_assert!(!allowed.is_empty());
            let token = allowed[below(&mut rng, allowed.len())];
            prop_assert!(state.advance_token(&vocabulary, token));
        }
        // And along the text, so that its end is among the states.
        let mut state = GrammarState::new(&grammar);
        for &byte in &text {
            prop_assert!(state.advance(byte));
            prop_assert_eq!(&*masks.mask(&state), &brute_force(&state, &tokens, end_token));
        }
        prop_assert!(masks.mask(&state).is_allowed(end_token));
    }
}

#[test]
fn special_tokens_come_at_the_end_only() {
    let grammar = calls(&[tool("f", json!({}))], CallStyle::Python);
    let tokens = [Some(b"[f(".to_vec()), Some(b")]".to_vec()), None, None, Some(Vec::new())];
    let vocabulary = Arc::new(TokenVocabulary::new(&tokens, &[2]));
    assert_eq!((vocabulary.size(), vocabulary.bytes(1), vocabulary.bytes(9)), (5, &b")]"[..], &b""[..]));
    let mut masks = TokenMasks::new(&grammar, Arc::clone(&vocabulary));
    let mut state = GrammarState::new(&grammar);
    let mut constraint =
        GrammarConstraint::new(&Arc::new(Mutex::new(TokenMasks::new(&grammar, Arc::clone(&vocabulary)))));
    for token in [0, 1, 2] {
        assert_eq!(constraint.allowed().tokens().collect::<Vec<_>>(), [token]);
        constraint.accept(token);
        assert_eq!(masks.mask(&state).tokens().collect::<Vec<_>>(), [token]);
        assert!(!state.advance_token(&vocabulary, 3));
        assert!(state.advance_token(&vocabulary, token));
    }
}
