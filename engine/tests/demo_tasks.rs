//! The conversations that the page brings with it must read, play without accident and score as right, and the tool
//! specs that they use must say what the classes do.

use std::collections::BTreeMap;

use parl_mt::env::bfcl::data::read_tasks;
use parl_mt::env::bfcl::{BfclContext, CLASSES, score_trajectory};
use parl_mt::python::{Default, Dict};
use parl_mt::task::TaskSpec;
use parl_mt::tool::ToolSpec;

const TASKS: &str = include_str!("../../public/tasks/demo.jsonl");
const TOOLS: &str = include_str!("../../public/tasks/tools.json");

/// Calls that a story wants to be refused: too little money, a service that is down, a mistyped number.
const WANTED_REFUSALS: [(&str, &str); 3] = [
    ("parl_demo_5", "place_order(order_type='Buy', symbol='KELP', price=41.5, amount=30)"),
    ("parl_demo_12", "get_outside_temperature_from_weather_com()"),
    ("parl_demo_14", "cancel_booking(access_token='fern-19', booking_id='4410072')"),
];

fn demo_tasks() -> Vec<TaskSpec> {
    let (tasks, errors) = read_tasks(TASKS, TOOLS, "demo");
    assert!(errors.is_empty(), "{errors:?}");
    tasks
}

#[test]
fn every_class_has_a_story() {
    let tasks = demo_tasks();
    assert!(tasks.len() >= 14, "only {} tasks", tasks.len());
    for (index, task) in tasks.iter().enumerate() {
        assert_eq!(task.id, format!("parl_demo_{index}"));
        assert!(!task.title.is_empty(), "{} has no title", task.id);
        assert!((2..=6).contains(&task.turns.len()), "{} has {} turns", task.id, task.turns.len());
    }
    for class in CLASSES {
        assert!(tasks.iter().any(|task| task.classes.iter().any(|name| name == class.name)), "no {}", class.name);
    }
    for category in ["base", "miss_func", "miss_param"] {
        assert!(tasks.iter().any(|task| task.category == category), "no task of the category {category}");
    }
}

#[test]
fn ground_truth_plays_and_scores_as_right() {
    let mut refusals = Vec::new();
    for task in demo_tasks() {
        let trajectory: Vec<Vec<Vec<String>>> = task.ground_truth().map(|calls| vec![calls.to_vec()]).collect();
        let score = score_trajectory(&task, &trajectory, &BfclContext::default()).expect("the world can be made");
        assert!(score.verdict.valid, "{}: {:?}", task.id, score.verdict);
        for (call, result) in task.ground_truth().flatten().zip(score.execution.iter().flatten()) {
            if result.starts_with("Error") || result.contains("\"error\":") {
                refusals.push((task.id.clone(), call.clone(), result.clone()));
            }
        }
    }
    let found: Vec<_> = refusals.iter().map(|(task, call, _)| (task.as_str(), call.as_str())).collect();
    // The refused order comes again once the account is funded, and then succeeds.
    assert_eq!(found, WANTED_REFUSALS, "{refusals:#?}");
}

#[test]
fn held_out_tools_are_needed_when_they_come() {
    for task in demo_tasks() {
        let holds_out = task.turns.iter().any(|turn| !turn.added_tools.is_empty());
        assert_eq!(holds_out, task.category == "miss_func", "{}", task.id);
        for (index, turn) in task.turns.iter().enumerate() {
            for tool in &turn.added_tools {
                assert!(turn.messages.is_empty(), "{}: the harness speaks in turn {index}", task.id);
                assert!(task.turns[index - 1].ground_truth.is_empty(), "{}: nothing to call before it comes", task.id);
                assert!(turn.ground_truth.iter().any(|call| call.starts_with(&format!("{tool}("))), "{tool} is unused");
            }
        }
    }
}

#[test]
fn tool_specs_have_the_parameters_of_the_classes() {
    let tools: BTreeMap<String, Vec<ToolSpec>> = serde_json::from_str(TOOLS).expect("tools.json reads");
    assert_eq!(tools.values().map(Vec::len).sum::<usize>(), 128);
    for class in CLASSES {
        let instance = (class.create)(&Dict::new(), &BfclContext::default()).expect("defaults load");
        let specs = tools.get(class.name).unwrap_or_else(|| panic!("no tools of {}", class.name));
        assert_eq!(specs.len(), instance.signatures().len(), "{}", class.name);
        for signature in instance.signatures() {
            let spec = specs.iter().find(|spec| spec.name == signature.name);
            let spec = spec.unwrap_or_else(|| panic!("no spec of {}", signature.name));
            let names: Vec<_> = signature.parameters.iter().map(|parameter| parameter.name).collect();
            assert_eq!(spec.parameter_names().collect::<Vec<_>>(), names, "{}", signature.name);
            let required: Vec<_> = signature
                .parameters
                .iter()
                .filter(|parameter| parameter.default == Default::Required)
                .map(|parameter| parameter.name)
                .collect();
            assert_eq!(spec.parameters["required"], serde_json::json!(required), "{}", signature.name);
        }
    }
}
