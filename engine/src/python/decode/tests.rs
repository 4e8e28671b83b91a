use proptest::prelude::*;
use serde_json::json;

use super::*;

fn decoded(step: &str) -> Vec<String> {
    decode_text(step).unwrap_or_else(|error| panic!("{step}: {error}"))
}

/// Each pair was checked against the official functions.
#[test]
fn decodes_text_as_the_official_handlers_do() {
    for (step, expected) in [
        ("[cd(folder='x'), ls(a=True)]", vec!["cd(folder='x')", "ls(a=True)"]),
        ("cd(folder='x')", vec!["cd(folder='x')"]),
        ("```[ls()]```", vec!["ls()"]),
        ("[]", vec![]),
        ("", vec![]),
        // Positional arguments are lost.
        ("[cd('x', y=1)]", vec!["cd(y=1)"]),
        ("[a.b(c=name)]", vec!["a.b(c='name')"]),
        // Any sign negates.
        ("[f(a=-5, b=+5, c=not True)]", vec!["f(a=-5, b=-5, c=-1)"]),
        ("[f(a=1 + 2 * 3, b=7 // -2, c=7 % -2, d=2 ** 0.5)]", vec!["f(a=7, b=-4, c=-1, d=1.4142135623730951)"]),
        // A nested call is text without keywords and a call with them.
        ("[f(a=g(1, x), b=g(y=2))]", vec!["f(a='g(1, x)', b=g(y=2))"]),
        ("[f(a={'k': 1, 'l': [2, {'m': 3}]})]", vec!["f(a={'k': 1, 'l': [2, {'m': 3}]})"]),
        // A dict of dicts is taken for a call.
        ("[f(a={'k': {'x': 1}, 'l': {'y': 2}})]", vec!["f(a=k(x=1))"]),
        ("[f(a=x[1:2], b=y['k', 3])]", vec!["f(a='x[1:2]', b=\"y[('k', 3)]\")"]),
        ("[f(a=..., b=b'x', c=2j, d=(1,), **e)]", vec!["f(a='...', b=b'x', c=2j, d=(1,), None='e')"]),
        ("[f(a=g(-(-1), (a + b) * c, not x, [y for y in z if w], **d))]", vec!["f(a=g(None='d'))"]),
        (
            "[f(a=g(-(-1), (a + b) * c, not x, [y for y in z if w]))]",
            vec!["f(a='g(--1, (a + b) * c, not x, [y for y in z if w])')"],
        ),
    ] {
        assert_eq!(decoded(step), expected, "{step}");
    }
}

#[test]
fn refuses_what_the_official_handlers_raise_on() {
    for step in [
        "I cannot do that.",
        "[cd(folder='x'",
        "[[ls()]]",
        "['a']",
        "[f(a={})]",
        "[f(a=x.y)]",
        "[f(a={1, 2})]",
        "[f(a=-x)]",
        "[f(a=lambda: 0)]",
        "[f(a=x + 1)]",
        "[f(a=1 / 0)]",
        "[f() for x in y]",
        "[f(a=f'x')]",
        "[f(a={[]: 1})]",
        "```python\n[ls()]\n```",
    ] {
        assert!(decode_text(step).is_err(), "{step}");
    }
}

#[test]
fn decodes_function_calls() {
    let decode = |step: serde_json::Value| decode_step(&step);
    let arguments = r#"{"folder": "it's", "n": [1, 2.0, null, true], "big": 123456789012345678901234567890, "x": NaN}"#;
    assert_eq!(
        decode(json!([{ "cd": arguments }, { "ls": {} }])).unwrap(),
        ["cd(folder=\"it's\",n=[1, 2.0, None, True],big=123456789012345678901234567890,x=nan)", "ls()"]
    );
    assert_eq!(decode(json!({ "cd": { "a": { "b": 1 } } })).unwrap(), ["cd(a={'b': 1})"]);
    assert_eq!(decode(json!([])).unwrap(), [""; 0]);
    for wrong in [json!(null), json!(["cd"]), json!([{ "cd": "[]" }]), json!([{ "cd": "{" }]), json!([{ "cd": 5 }])] {
        assert!(decode(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn reads_json_as_python_does() {
    for (json, repr) in [
        (" {\"a\": 1, \"a\": 2.50} ", "{'a': 2.5}"),
        ("[1e5, -0, -0.0, 1E-7, 1e400]", "[100000.0, 0, -0.0, 1e-07, inf]"),
        ("\"\\u00e9\\ud83d\\ude00\\n\\/\"", "'é😀\\n/'"),
        ("-Infinity", "-inf"),
    ] {
        assert_eq!(text::repr(&json_loads(json).unwrap()), repr, "{json}");
    }
    for wrong in ["", "{", "[1,]", "01", "1.", "-", "'a'", "{a: 1}", "\"\t\"", "\"\\q\"", "[1] 2", "\"\\u12\"", "nul"] {
        assert!(json_loads(wrong).is_err(), "{wrong}");
    }
    assert!(json_loads(&"[".repeat(100_000)).is_err());
}

proptest! {
    #[test]
    fn never_panics(step in prop_oneof![any::<String>(), "[\\[\\](){}a-c0-9'\",.=+*/% -]{0,30}"]) {
        let _ = decode_text(&step);
        let _ = json_loads(&step);
    }

    #[test]
    fn agrees_with_serde_json(text in "[\\[\\]{}a\"0-9:,.e -]{0,12}") {
        if let Ok(json) = serde_json::from_str::<serde_json::Value>(&text) {
            prop_assert_eq!(json_loads(&text).unwrap(), Value::from_json(&json));
        }
    }
}
