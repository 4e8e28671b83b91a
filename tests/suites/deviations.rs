//! One test for each entry of `engine/docs/deviations.md`: what we do where the official package does something else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parl_mt::env::Environment as _;
use parl_mt::env::bfcl::{BfclContext, BfclWorld, LongContext, score_trajectory};
use parl_mt::python::{PythonVersion, Value};
use parl_mt::task::TaskSpec;
use parl_tests::mutate::ground_truth;
use parl_tests::scenario::scenarios;
use serde_json::{Value as Json, json};

fn task(classes: &[&str], config: Json) -> TaskSpec {
    TaskSpec {
        id: "deviation_0".to_owned(),
        classes: classes.iter().map(|class| (*class).to_owned()).collect(),
        initial_config: serde_json::from_value(config).expect("a config is an object"),
        ..TaskSpec::default()
    }
}

fn world(classes: &[&str], config: Json) -> BfclWorld {
    BfclWorld::new(&task(classes, config), &BfclContext::default()).expect("the scenario loads")
}

/// Calls in a world with a directory, and calculations.
fn answer(call: &str) -> String {
    world(&["GorillaFileSystem", "MathAPI"], json!({})).execute(call)
}

const ONLY_LITERALS: &str = "Error during execution: only literal arguments are supported";

#[test]
fn every_run_starts_anew() {
    for task in scenarios() {
        let (turns, context) = (ground_truth(&task), BfclContext::default());
        let first = score_trajectory(&task, &turns, &context).expect("the scenario loads");
        let second = score_trajectory(&task, &turns, &context).expect("the scenario loads");
        assert_eq!(first, second);
    }
}

#[test]
fn default_lists_are_not_shared() {
    let mut world = world(&["TwitterAPI"], json!({"TwitterAPI": {"authenticated": true, "tweet_counter": 0}}));
    world.execute("post_tweet(content='first')");
    world.execute("mention(tweet_id=0, mentioned_usernames=['@gull'])");
    // The original shows '@gull' here too.
    let second = world.execute("post_tweet(content='second')");
    assert!(second.ends_with(r#""content": "second", "tags": [], "mentions": []}"#), "{second}");
}

#[test]
fn long_context_cards_are_not_shared() {
    let empty = || Value::dict::<&str>([]);
    let card = Value::dict([("balance", Value::Float(100.0))]);
    let constants = [
        ("CREDIT_CARD_EXTENSION", Value::dict([("card_1", card)])),
        ("BOOKING_RECORD_EXTENSION", Value::dict([("7", Value::dict([("travel_cost", Value::Float(5.0))]))])),
        ("FILE_CONTENT_EXTENSION", empty()),
    ];
    let long_context = LongContext::from_constants(constants.map(|(name, value)| (name.to_owned(), value)));
    let context = BfclContext { long_context: Some(Arc::new(long_context)), ..BfclContext::default() };
    let mut task = task(&["TravelAPI"], json!({"TravelAPI": {"access_token": "t"}}));
    task.category = "long_context".to_owned();
    let mut one = BfclWorld::new(&task, &context).expect("the scenario loads");
    let pay =
        "purchase_insurance(access_token='t', insurance_type='x', booking_id='7', insurance_cost=40, card_id='card_1')";
    assert!(one.execute(pay).contains("\"insurance_status\": true"));
    let balance = "get_credit_card_balance(access_token='t', card_id='card_1')";
    assert_eq!(one.execute(balance), r#"{"card_balance": 60.0}"#);
    // The original shows 60.0 here too.
    let mut other = BfclWorld::new(&task, &context).expect("the scenario loads");
    assert_eq!(other.execute(balance), r#"{"card_balance": 100.0}"#);
}

#[test]
fn today_is_given() {
    let task = task(&["TravelAPI"], json!({"TravelAPI": {"user_first_name": "Ada", "user_last_name": "Potter"}}));
    let call = "verify_traveler_information('Ada', 'Potter', '2010-06-15', 'US7')";
    let on = |today| {
        let context = BfclContext { today, ..BfclContext::default() };
        BfclWorld::new(&task, &context).expect("the scenario loads").execute(call)
    };
    assert!(on((2028, 6, 14)).contains("at least 18"));
    assert_eq!(on((2028, 6, 15)), r#"{"verification_status": true}"#);
    assert_eq!(BfclContext::default().today, (2026, 3, 23));
}

#[test]
fn a_set_has_one_order() {
    let card = json!({"7": {"balance": 10.0}});
    let config = json!({"TravelAPI": {"access_token": "t", "credit_card_list": card}});
    let call = "book_flight('t', '7', '2031-05-02', 'SFO', 'LAX', 'cargo')";
    let refusal = "Invalid travel class. Must be one of {'economy', 'business', 'first'}";
    assert_eq!(
        world(&["TravelAPI"], config).execute(call),
        json!({"booking_status": false, "error": refusal}).to_string().replace("\":", "\": ").replace(",\"", ", \"")
    );
}

#[test]
fn builtins_are_unknown_names() {
    for (call, name) in [
        ("len([1])", "len"),
        ("print('x')", "print"),
        ("open('x')", "open"),
        ("copy.copy(1)", "copy"),
        ("json", "json"),
    ] {
        assert_eq!(answer(call), format!("Error during execution: name '{name}' is not defined"), "{call}");
    }
}

#[test]
fn expressions_are_refused() {
    for call in [
        "cd(folder=pwd())",
        "mean(numbers=[1] + [2])",
        "mean(numbers=[x for x in [1]])",
        "cd(folder=f'{1}')",
        "cd(*['a'])",
        "cd(**{'folder': 'a'})",
        "ls()['a']",
        "ls().x",
        "'a'.upper()",
        "1 + 1",
        "cd(not 1)",
        "lambda: 1",
    ] {
        assert_eq!(answer(call), ONLY_LITERALS, "{call}");
    }
    assert_eq!(answer("cd(folder=there + 'x')"), "Error during execution: name 'there' is not defined");
}

#[test]
fn values_of_other_types_are_refused() {
    for call in ["cd(b'x')", "cd(1j)", "cd({1, 2})", "cd(...)", "..."] {
        assert_eq!(answer(call), ONLY_LITERALS, "{call}");
    }
}

#[test]
fn methods_in_strings_stay() {
    let shown = r#"{"terminal_output": "use ls (now) or call(me)"}"#;
    assert_eq!(answer("echo(content='use ls (now) or call (me)')"), shown);
}

#[test]
fn character_names_are_unknown() {
    let error = answer(r"echo(content='\N{BULLET}')");
    assert!(error.contains("unknown Unicode character name"), "{error}");
}

#[test]
fn lone_surrogates_are_replaced() {
    assert_eq!(answer(r"echo(content='\ud800')"), r#"{"terminal_output": "\ufffd"}"#);
}

#[test]
fn syntax_errors_have_the_words_of_3_11() {
    let task = task(&["GorillaFileSystem"], json!({}));
    for python in [PythonVersion::V3_11, PythonVersion::V3_12] {
        let context = BfclContext { python, ..BfclContext::default() };
        let mut world = BfclWorld::new(&task, &context).expect("the scenario loads");
        // 3.12: expected argument value expression
        assert_eq!(world.execute("ls(a=)"), "Error during execution: invalid syntax (<string>, line 1)");
    }
}

#[test]
fn deep_nesting_is_refused() {
    let nested = |depth: usize| format!("mean({}{})", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(answer(&nested(40)), r#"{"error": "All elements in the list must be numbers"}"#);
    // CPython reads this one.
    assert_eq!(answer(&nested(150)), "Error during execution: maximum recursion depth exceeded during compilation");
    assert_eq!(answer(&nested(250)), "Error during execution: too many nested parentheses (<string>, line 1)");
}

/// Runs a call, which must answer at once.
fn quick_answer(call: &str) -> String {
    let start = Instant::now();
    let result = answer(call);
    assert!(start.elapsed() < Duration::from_secs(5), "{call}");
    result
}

#[test]
fn huge_powers_are_refused_at_once() {
    let refusal = "Error during execution: Exceeds the limit (4300 digits) for integer string conversion; \
                   use sys.set_int_max_str_digits() to increase the limit";
    assert_eq!(quick_answer("power(base=10, exponent=1000000000000)"), refusal);
}

#[test]
fn huge_precisions_are_refused() {
    assert_eq!(quick_answer("logarithm(value=10, base=2, precision=1000000000)"), r#"{"error": ""}"#);
    assert_eq!(quick_answer("logarithm(value='1e9999999999999', base=2, precision=5)"), r#"{"error": ""}"#);
    assert_eq!(quick_answer("square_root(number=2, precision=1000000000)"), "Error during execution: ");
}

#[test]
fn complex_texts_are_refused() {
    assert_eq!(answer("logarithm(value='1+2j', base=2, precision=5)"), r#"{"error": ""}"#);
}

#[test]
fn other_seeds_are_refused() {
    for seed in [json!(1.5), json!("seed")] {
        let task = task(&["MessageAPI"], json!({"MessageAPI": {"random_seed": seed}}));
        let error = BfclWorld::new(&task, &BfclContext::default()).err().expect("the seed is refused").to_string();
        assert!(error.contains("The only supported seed types are"), "{error}");
    }
}

#[test]
fn endless_directories_are_compared() {
    let root = json!({"root": {"type": "directory", "contents": {}}});
    let endless = || {
        let mut world = world(&["GorillaFileSystem"], json!({"GorillaFileSystem": {"root": root.clone()}}));
        world.execute("mkdir(dir_name='a')");
        world.execute("cp(source='a', destination='a')");
        for call in ["find(name='x')", "du()"] {
            assert!(world.execute(call).contains("maximum recursion depth exceeded"), "{call}");
        }
        world
    };
    let (one, mut other) = (endless(), endless());
    assert!(one.same_state(&other));
    other.execute("cd(folder='a')");
    other.execute("touch(file_name='new')");
    assert!(!one.same_state(&other));
}
