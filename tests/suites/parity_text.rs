//! Tokenizers and chat templates beside Hugging Face's own libraries, on what those said (`data/parity/text.json`, made by
//! `parity/text_vectors.py`).

use std::path::PathBuf;
use std::sync::Arc;

use parl_mt::message::{Message, Role};
use parl_mt::python::datetime::DateTime;
use parl_mt::text::template::BUILT_IN;
use parl_mt::text::{ChatEncoder, ChatTemplate, TextError, Tokenizer, TokenizerConfig, TokenizerTrainer};
use parl_mt::tool::{ToolCall, ToolSpec};
use parl_tests::scenario::data_folder;
use proptest::prelude::*;
use serde_json::Value as Json;

fn folder() -> PathBuf {
    data_folder().join("parity")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn vectors() -> Json {
    serde_json::from_str(&read("text.json")).expect("the vectors read")
}

fn tokenizer() -> Tokenizer {
    let config = TokenizerConfig::from_json(read("tokenizer/tokenizer_config.json").as_bytes()).expect("reads");
    Tokenizer::from_json(read("tokenizer/tokenizer.json").as_bytes())
        .and_then(|tokenizer| tokenizer.with_config(config))
        .expect("reads")
}

fn template(name: &str) -> ChatTemplate {
    match name {
        "built_in" => ChatTemplate::default(),
        _ => ChatTemplate::new(read(&format!("templates/{name}.jinja"))).expect("compiles"),
    }
}

/// A message and its calls from Hugging Face's shape.
fn message(json: &Json) -> Option<Message> {
    let text = |json: &Json| json.as_str().expect("a string").to_owned();
    let call = |json: &Json| ToolCall {
        text: json.get("text").map(text),
        ..ToolCall::new(
            text(&json["function"]["name"]),
            json["function"]["arguments"].as_object().expect("an object").clone(),
        )
    };
    let role = serde_json::from_value(json["role"].clone()).ok()?;
    let calls = json.get("tool_calls").and_then(Json::as_array);
    let calls = calls.into_iter().flatten().map(call).collect();
    Some(Message { tool_calls: calls, ..Message::new(role, text(&json["content"])) })
}

fn messages(json: &Json) -> Option<Vec<Message>> {
    json.as_array().expect("a list").iter().map(message).collect()
}

fn tools(json: &Json) -> Vec<ToolSpec> {
    let tool = |json: &Json| serde_json::from_value(json["function"].clone()).expect("a tool");
    json.as_array().expect("a list").iter().map(tool).collect()
}

fn ids(json: &Json) -> Vec<u32> {
    serde_json::from_value(json.clone()).expect("token ids")
}

/// `PARL_FREEZE=1` writes the tokenizer anew; then run `parity/text_vectors.py`.
#[test]
fn training_gives_the_frozen_tokenizer() {
    let corpus: Vec<String> = serde_json::from_str(&read("text_corpus.json")).expect("texts");
    let trained = TokenizerTrainer::new(420).train(corpus).expect("trains");
    let config = TokenizerConfig { chat_template: Some(BUILT_IN.to_owned()), ..trained.config().clone() };
    if std::env::var_os("PARL_FREEZE").is_some() {
        std::fs::create_dir_all(folder().join("tokenizer")).expect("a folder");
        std::fs::write(folder().join("tokenizer/tokenizer.json"), trained.to_json()).expect("writes");
        std::fs::write(folder().join("tokenizer/tokenizer_config.json"), config.to_json()).expect("writes");
    }
    assert_eq!(trained.to_json(), read("tokenizer/tokenizer.json"));
    assert_eq!(config.to_json(), read("tokenizer/tokenizer_config.json"));
}

#[test]
fn odd_texts_have_the_librarys_tokens() {
    let (tokenizer, vectors) = (tokenizer(), vectors());
    let special = &vectors["special"];
    assert_eq!(tokenizer.eos_id().map(u64::from), special["eos"].as_u64());
    assert_eq!(tokenizer.pad_id().map(u64::from), special["pad"].as_u64());
    assert_eq!(Some(tokenizer.vocab_size() as u64), special["size"].as_u64());
    let encodings = vectors["encodings"].as_array().expect("a list");
    assert!(encodings.len() > 15);
    for entry in encodings {
        let text = entry["text"].as_str().expect("a text");
        let expected = ids(&entry["ids"]);
        assert_eq!(tokenizer.encode(text).expect("encodes"), expected, "{text:?}");
        assert_eq!(tokenizer.decode(&expected), text);
        assert_eq!(Some(tokenizer.decode_text(&expected).as_str()), entry["without_control_tokens"].as_str());
    }
}

#[test]
fn templates_render_as_in_transformers() {
    let vectors = vectors();
    let now = vectors["now"].as_str().expect("a time");
    let now = DateTime::strptime(&parl_mt::python::Value::str(now), "%Y-%m-%d %H:%M:%S").expect("a time");
    let renderings = vectors["renderings"].as_array().expect("a list");
    let mut refused = 0;
    for entry in renderings {
        let what = entry["template"].as_str().expect("a name");
        let mut template = template(what).with_now(now);
        for (name, value) in entry["variables"].as_object().expect("an object") {
            template = template.with_variable(name, value.clone());
        }
        let conversation = entry["conversation"].as_str().expect("a name");
        let json = &vectors["conversations"][conversation];
        let given = if entry["tools"] == true { &vectors["tools"] } else { &Json::Null };
        let prompt = entry["add_generation_prompt"] == true;
        let what = format!("{what}, {conversation}, tools: {}, prompt: {prompt}", entry["tools"]);
        match (template.render_json(json, given, prompt), entry["error"].as_str()) {
            (Ok(rendered), None) => {
                assert_eq!(Some(rendered.text.as_str()), entry["text"].as_str(), "{what}");
                let said = rendered.generation.iter().map(|range| &rendered.text[range.clone()]);
                assert!(said.eq(entry["generation"].as_array().expect("a list")), "{what}");
                // The same through our own types.
                if let Some(messages) = messages(json) {
                    let tools = if given.is_null() { Vec::new() } else { tools(given) };
                    assert_eq!(template.render(&messages, &tools, prompt).expect("renders"), rendered, "{what}");
                }
            }
            (Err(TextError::TemplateRefused { message }), Some(expected)) => {
                assert_eq!(message, expected, "{what}");
                refused += 1;
            }
            (ours, theirs) => panic!("{what}: {ours:?}, where transformers has {theirs:?}"),
        }
    }
    assert!(renderings.len() > 100 && refused > 0);
}

#[test]
fn tokens_with_loss_are_those_of_assistant_masks() {
    let vectors = vectors();
    let encoder = ChatEncoder::new(tokenizer(), ChatTemplate::default()).expect("they fit");
    for entry in vectors["masked"].as_array().expect("a list") {
        let conversation = entry["conversation"].as_str().expect("a name");
        let messages = messages(&vectors["conversations"][conversation]).expect("known roles");
        let sequence = encoder.encode(&messages, &tools(&vectors["tools"])).expect("encodes");
        assert_eq!(sequence.ids, ids(&entry["ids"]), "{conversation}");
        assert_eq!(serde_json::json!(sequence.loss_mask), entry["loss_mask"], "{conversation}");
    }
}

#[test]
fn qwen3_drops_older_reasoning_and_is_found_out() {
    let vectors = vectors();
    let thinking = messages(&vectors["conversations"]["thinking"]).expect("known roles");
    let qwen3 = template("qwen3");
    qwen3.check_prefix_preserving(&thinking[..2], &[]).expect("one reply is kept");
    let error = qwen3.check_prefix_preserving(&thinking, &[]).expect_err("the first reply loses its reasoning");
    let TextError::NotPrefixPreserving { message: 2, before, after, .. } = &error else { panic!("{error}") };
    assert!(before.starts_with("<think>\nadd") && after.starts_with("4<|im_end|>"), "{error}");
    template("qwen2_5").check_prefix_preserving(&thinking, &[]).expect("Qwen2.5 keeps all");
}

fn conversation() -> impl Strategy<Value = Vec<Message>> {
    let text = || "[a-c0-9 \n\"'\\\\{}é🙂\t]{0,10}";
    let call = ("[a-z]{1,5}", prop::collection::btree_map("[a-z]{1,4}", text(), 0..3)).prop_map(|(name, arguments)| {
        ToolCall::new(name, arguments.into_iter().map(|(key, value)| (key, Json::from(value))).collect())
    });
    let step = (text(), prop::collection::vec((call, text()), 1..3));
    let turn = (text(), prop::collection::vec(step, 0..3), text());
    prop::collection::vec(turn, 1..4).prop_map(|turns| {
        let mut messages = Vec::new();
        for (question, steps, answer) in turns {
            messages.push(Message::user(question));
            for (said, calls) in steps {
                let (calls, results): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
                messages.push(Message { tool_calls: calls, ..Message::new(Role::Assistant, said) });
                messages.extend(results.into_iter().map(|result| Message::new(Role::Tool, result)));
            }
            messages.push(Message::new(Role::Assistant, answer));
        }
        messages
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn qwen2_5_only_appends(messages in conversation()) {
        let tools = tools(&vectors()["tools"]);
        let template = template("qwen2_5");
        template.check_prefix_preserving(&messages, &tools).expect("Qwen2.5 only appends");
        let encoder: Arc<ChatEncoder> = ChatEncoder::new(tokenizer(), template).expect("they fit");
        let sequence = encoder.encode(&messages, &tools).expect("encodes");
        let text = encoder.template().render(&messages, &tools, false).expect("renders").text;
        prop_assert_eq!(encoder.tokenizer().decode(&sequence.ids), text);
        let replies = messages.iter().filter(|message| message.role == Role::Assistant);
        for (range, reply) in sequence.replies().into_iter().zip(replies) {
            let said = encoder.tokenizer().decode(&sequence.ids[range]);
            prop_assert!(said.starts_with(&reply.content) && said.ends_with("<|im_end|>"), "{}", said);
        }
    }
}
