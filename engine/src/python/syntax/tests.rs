use proptest::prelude::*;

use super::*;
use crate::python::literal::parse_literal;
use crate::python::text;

fn known(name: &str) -> bool {
    ["cd", "ls", "echo"].contains(&name)
}

/// What the harness would answer, with a call shown as its parts.
fn answer(text: &str) -> String {
    match evaluate(text, known) {
        Ok(Evaluated::Call(call)) => {
            let positional = call.arguments.positional.iter().map(text::repr);
            let named = call.arguments.keywords.iter().map(|(name, value)| format!("{name}={}", text::repr(value)));
            format!("{}({})", call.name, positional.chain(named).collect::<Vec<_>>().join(", "))
        }
        Ok(Evaluated::Literal(value)) => text::repr(&value),
        Err(error) => error.message,
    }
}

#[test]
fn reads_calls() {
    for (source, expected) in [
        ("cd(folder='document')", "cd(folder='document')"),
        ("  cd ( 'a' , )  \n", "cd('a')"),
        ("cd\u{3000}(x=1)", "cd(x=1)"),
        ("cd(\n  folder='x',  # why\n  y=2\n)", "cd(folder='x', y=2)"),
        ("echo(-5, +1.5, --1, -True, 1_000, 0x1F, 0b11, 0o17, 1e999)", "echo(-5, 1.5, 1, -1, 1000, 31, 3, 15, inf)"),
        ("echo('a' \"b\" '''c''', r'\\n', u'é', f'x{{y}}')", "echo('abc', '\\\\n', 'é', 'x{y}')"),
        ("echo('\\x41\\u00e9\\U0001F600\\101\\n\\'\\q\\\n')", "echo(\"Aé😀A\\n'\\\\q\")"),
        ("echo('\\ud83d\\ude00', '\\ud83d')", "echo('😀', '\u{fffd}')"),
        ("echo([1, (2,), ()], {'a': {1: None}, 'a': 2}, (3))", "echo([1, (2,), ()], {'a': 2}, 3)"),
        ("5", "5"),
        ("'abc', True", "('abc', True)"),
    ] {
        assert_eq!(answer(source), expected, "{source}");
    }
}

/// Each line was checked against CPython 3.11.7.
#[test]
fn fails_with_pythons_words() {
    for (source, expected) in [
        ("", "invalid syntax (<string>, line 0)"),
        ("\n\n", "invalid syntax (<string>, line 2)"),
        ("cd(folder='a'", "'(' was never closed (<string>, line 1)"),
        ("cd(folder='a'))", "unmatched ')' (<string>, line 1)"),
        ("cd(['a')", "closing parenthesis ')' does not match opening parenthesis '[' (<string>, line 1)"),
        ("cd(\n]", "closing parenthesis ']' does not match opening parenthesis '(' on line 1 (<string>, line 2)"),
        ("cd(folder='it's')", "unterminated string literal (detected at line 1) (<string>, line 1)"),
        ("cd('''a\nb", "unterminated triple-quoted string literal (detected at line 2) (<string>, line 1)"),
        ("cd(a=1 b=2)", "invalid syntax. Perhaps you forgot a comma? (<string>, line 1)"),
        // `c` is the beginning of the soft keyword `case`.
        ("cd(c b)", "invalid syntax (<string>, line 1)"),
        ("cd(a=1, 2)", "positional argument follows keyword argument (<string>, line 1)"),
        ("cd(**a, 2)", "positional argument follows keyword argument unpacking (<string>, line 1)"),
        ("cd(a=1, a=2)", "keyword argument repeated: a (<string>, line 1)"),
        ("cd('a'=1)", "expression cannot contain assignment, perhaps you meant \"==\"? (<string>, line 1)"),
        ("cd(None=1)", "cannot assign to None (<string>, line 1)"),
        ("cd((a=1))", "invalid syntax. Maybe you meant '==' or ':=' instead of '='? (<string>, line 1)"),
        ("cd(a=)", "invalid syntax (<string>, line 1)"),
        ("cd({'a': 1, 'b'})", "':' expected after dictionary key (<string>, line 1)"),
        ("cd({'a':})", "expression expected after dictionary key and ':' (<string>, line 1)"),
        ("cd(x for x in y, 1)", "Generator expression must be parenthesized (<string>, line 1)"),
        ("cd(a=1 if 2)", "expected 'else' after 'if' expression (<string>, line 1)"),
        ("cd(1a)", "invalid decimal literal (<string>, line 1)"),
        (
            "cd(007)",
            "leading zeros in decimal integer literals are not permitted; use an 0o prefix for octal integers \
             (<string>, line 1)",
        ),
        ("cd(0b2)", "invalid digit '2' in binary literal (<string>, line 1)"),
        ("cd() \\ ", "unexpected character after line continuation character (<string>, line 1)"),
        ("cd(“a”)", "invalid character '“' (U+201C) (<string>, line 1)"),
        ("cd(\u{a0}1)", "invalid non-printable character U+00A0 (<string>, line 1)"),
        ("\n cd()", "unexpected indent (<string>, line 2)"),
        ("cd()\nls()", "invalid syntax (<string>, line 2)"),
        ("\\\n", "unexpected EOF while parsing (<string>, line 1)"),
        (
            "cd('é\\x4')",
            "(unicode error) 'unicodeescape' codec can't decode bytes in position 10-12: truncated \\xXX escape \
             (<string>, line 1)",
        ),
        ("cd(b'é')", "bytes can only contain ASCII literal characters (<string>, line 1)"),
        ("cd(f'{a b}')", "f-string: invalid syntax. Perhaps you forgot a comma? (<string>, line 1)"),
        ("cd(await x)", "'await' outside function (<string>, line 1)"),
        ("cd(\0)", "source code string cannot contain null bytes"),
        ("print 'a'", "Missing parentheses in call to 'print'. Did you mean print(...)? (<string>, line 1)"),
    ] {
        assert_eq!(answer(source), expected, "{source}");
    }
    let deep = "(".repeat(201);
    assert!(answer(&format!("'{deep}' x")).starts_with("invalid syntax"));
}

#[test]
fn meets_unknown_names_in_pythons_order() {
    for (source, expected) in [
        ("cd(folder=document)", "name 'document' is not defined"),
        ("foo(document)", "name 'foo' is not defined"),
        ("cd(a, b=c)", "name 'a' is not defined"),
        ("ls", "name 'ls' is not defined"),
        ("(ls)()", "name 'ls' is not defined"),
        ("GorillaFileSystem.ls()", "name 'GorillaFileSystem' is not defined"),
        ("cd(ls(x))", "name 'x' is not defined"),
        ("cd(x + 1)", "name 'x' is not defined"),
        ("cd([1, x], y)", "name 'x' is not defined"),
        ("5(x)", "name 'x' is not defined"),
        ("5()", "'int' object is not callable"),
        ("-'a'", "bad operand type for unary -: 'str'"),
        ("{[]: 1}", "unhashable type: 'list'"),
    ] {
        assert_eq!(answer(source), expected, "{source}");
    }
}

#[test]
fn refuses_what_needs_an_interpreter() {
    for source in [
        "cd(ls())",
        "cd(1 + 2)",
        "cd([x for x in ()])",
        "cd(lambda: 0)",
        "cd('a'.b)",
        "cd(1 < 2)",
        "cd(not 1)",
        "cd(*[1])",
        "cd(**{'a': 1})",
        "cd({1})",
        "cd(b'')",
        "cd(1j)",
        "cd(...)",
        "cd(1 if 2 else 3)",
        "[ls()]",
        "ls()()",
        "cd(f'{1}')",
        "cd([1][0])",
        "cd(x := 1)",
        "cd(True and 1)",
    ] {
        assert_eq!(answer(source), ONLY_LITERALS, "{source}");
    }
}

#[test]
fn closes_gaps_in_strings_but_leaves_methods_alone() {
    assert_eq!(answer("echo('ls (x)')"), "echo('ls (x)')");
    assert_eq!(answer("echo('it\\'s (', \"a\" )"), "echo(\"it's(\", 'a')");
}

#[test]
fn finds_forbidden_names() {
    let find = |text| forbidden_name(text, known);
    for text in ["kill()", "kill", "os.kill('x')", "kill (1)", "x.run.y()", "a b.exit(", "os.exit"] {
        assert!(find(text).is_some(), "{text}");
    }
    for text in [
        " kill()",
        "killed()",
        "(kill)()",
        "cd('kill')",
        "cd(kill())",
        "kill x",
        "a.b.kill()",
        "kill ",
        "",
        "os. kill()",
    ] {
        assert_eq!(find(text), None, "{text}");
    }
    // A world with a function of that name: the instance stands in front of it.
    let world = |name: &str| name == "run";
    assert_eq!(forbidden_name("run()", world), Some("run"));
    assert_eq!(forbidden_name(" run()", world), Some("run"));
    assert_eq!(forbidden_name("x.run()", world), None);
    assert_eq!(forbidden_name("x.kill.run()", world), Some("kill"));
}

/// Texts that would exhaust the stack or the patience of a careless parser, in the small stack of a test's thread.
#[test]
fn survives_deep_and_long_texts() {
    let open = [
        "(",
        "[",
        "{",
        "f(",
        "f(x=",
        "-",
        "not ",
        "1+",
        "1 if 1 else ",
        "lambda: ",
        "a.",
        "1**",
        "f(*",
        "await ",
        "(x for x in ",
        "{1: ",
        "{1:2,",
        "[x,",
        "lambda x=(",
        "x if ",
        "f(a=1, ",
        "'a' ",
        "f'{",
        "\\\n",
        "((a b",
        "*",
    ];
    for count in [50, 199, 3_000] {
        for open in open {
            for close in ["", ")", "]", "}", ": 1}", " a b)"] {
                let text = open.repeat(count) + "1" + &close.repeat(count);
                let _ = evaluate(&text, known);
            }
        }
        let _ = answer(&("a".to_owned() + &"[0]".repeat(count)));
        let _ = answer(&("a".to_owned() + &"()".repeat(count)));
    }
    assert_eq!(answer(&"(".repeat(90)), "'(' was never closed (<string>, line 1)");
    assert_eq!(answer(&"-".repeat(100_000)), "maximum recursion depth exceeded during compilation");
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::int),
        any::<(i128, i128)>().prop_map(|(a, b)| Value::Int(BigInt::from(a) * BigInt::from(b))),
        any::<f64>().prop_filter("nan and inf are no literals", |x| x.is_finite()).prop_map(Value::Float),
        ".*".prop_map(Value::from),
        "[ -~\n\t'\"\\\\]{0,12}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let key = prop_oneof![".{0,5}".prop_map(Value::from), any::<i32>().prop_map(Value::int)];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::list),
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::tuple),
            prop::collection::vec((key, inner), 0..5)
                .prop_map(|entries| Value::Dict(entries.into_iter().collect::<Dict>().into())),
        ]
    })
}

/// Pieces of which calls are made, to get further than random characters do.
fn call_like() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "cd", "ls(", "(", ")", "[", "]", "{", "}", ",", "=", "==", ":", ":=", "'", "\"", "'''", "\\", "\n", " ", "#",
        "1", "1.5", "0x", "e5", "a", "c", "for", "in", "if", "else", "lambda", "not", "and", "*", "**", "-", ".",
        "None", "f'{", "b'", "r'", "é", "“", "\u{a0}", "\0", "\r", "print ", "yield", "await", "!", "x=1", "'a'", "\t",
        "_",
    ]);
    prop::collection::vec(pieces, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn reads_back_what_repr_writes(value in any_value()) {
        let written = text::repr(&value);
        let read = parse_literal(&written).unwrap();
        // Values that are equal may differ in type (1 and True): their texts do not.
        prop_assert_eq!(text::repr(&read), written);
    }

    #[test]
    fn reads_back_calls(positional in prop::collection::vec(any_value(), 0..3), named in prop::collection::vec(any_value(), 0..3)) {
        let named: Vec<_> = named.into_iter().enumerate().map(|(index, value)| (format!("key{index}"), value)).collect();
        let written = positional.iter().map(text::repr).chain(named.iter().map(|(key, value)| format!("{key}={}", text::repr(value))));
        let call = parse_call(&format!("name({})", written.collect::<Vec<_>>().join(", "))).unwrap();
        prop_assert_eq!(call.arguments, Arguments { positional, keywords: named });
        prop_assert_eq!(call.name, "name");
    }

    #[test]
    fn never_panics(text in prop_oneof![any::<String>(), ".*", call_like()]) {
        let _ = evaluate(&text, known);
        let _ = forbidden_name(&text, known);
        let _ = parse_literal(&text);
        let _ = crate::python::literal::parse_assignments(&format!("A = {text}"));
    }
}
