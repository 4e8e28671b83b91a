//! Parity without Python: frozen answers of the official package and of CPython (`data/vectors.jsonl`).

use std::collections::BTreeMap;

use parl_mt::env::bfcl::{BfclContext, BfclWorld, score_trajectory};
use parl_mt::python::{PythonVersion, Random, text};
use parl_mt::trace::ErrorType;
use parl_tests::compare::{executed, state_reprs};
use parl_tests::scenario::{data_folder, scenarios};
use parl_tests::vectors::{FILE, Vector};

fn vectors() -> Vec<Vector> {
    let file = std::fs::read_to_string(data_folder().join(FILE)).expect("the vectors are there");
    file.lines().map(|line| serde_json::from_str(line).expect("the vectors read")).collect()
}

fn context(vectors: &[Vector]) -> BfclContext {
    let Some(Vector::Header { python, today }) = vectors.first() else { panic!("the header comes first") };
    assert!(python.starts_with("3.11."), "{python}");
    BfclContext { python: PythonVersion::V3_11, today: *today, ..BfclContext::default() }
}

#[test]
fn trajectories_give_the_official_results_states_and_verdicts() {
    let vectors = vectors();
    let context = context(&vectors);
    let tasks: BTreeMap<_, _> = scenarios().into_iter().map(|task| (task.id.clone(), task)).collect();
    let (mut seen, mut calls) = (0, 0);
    for vector in &vectors {
        let Vector::Trajectory { id, case, turns, valid, error_type, execution, state } = vector else { continue };
        let task = &tasks[id];
        let score = score_trajectory(task, turns, &context).expect("the scenarios load");
        let what = || format!("{id}, {case}: {}", serde_json::to_string(turns).expect("strings serialize"));
        assert_eq!(&score.execution, execution, "{}", what());
        let verdict = (score.verdict.valid, score.verdict.error_type.map(ErrorType::name));
        assert_eq!(verdict, (*valid, error_type.as_deref()), "{}", what());
        if !state.is_empty() {
            let (_, world) = executed(task, turns, &context).expect("the scenarios load");
            for instance in world.instances() {
                assert_eq!(state_reprs(instance), state[instance.class_name()], "{}", what());
            }
        }
        seen += 1;
        calls += execution.iter().map(Vec::len).sum::<usize>();
    }
    assert!(seen >= 400 && calls >= 2_000, "{seen} trajectories with {calls} calls");
}

#[test]
fn the_vectors_call_every_method() {
    let context = BfclContext::default();
    let called: std::collections::BTreeSet<_> = vectors()
        .into_iter()
        .filter_map(|vector| match vector {
            Vector::Trajectory { turns, .. } => Some(turns),
            _ => None,
        })
        .flatten()
        .flatten()
        .flatten()
        .filter_map(|call| Some(call.split_once('(')?.0.to_owned()))
        .collect();
    for task in scenarios() {
        for instance in BfclWorld::new(&task, &context).expect("the scenarios load").instances() {
            for signature in instance.signatures() {
                assert!(called.contains(signature.name), "no vector calls {}", signature.name);
            }
        }
    }
}

#[test]
fn random_numbers_are_those_of_cpython() {
    let mut seen = 0;
    for vector in vectors() {
        let Vector::Random { seed, draws } = vector else { continue };
        let mut random = Random::new(seed.parse::<num_bigint::BigInt>().expect("a seed is a number"));
        for (method, arguments, expected) in draws {
            let found = match (method.as_str(), arguments.as_slice()) {
                ("random", []) => text::float_repr(random.random()),
                ("uniform", [low, high]) => text::float_repr(random.uniform(*low, *high)),
                ("randint", [low, high]) => random.randint(*low as i64, *high as i64).to_string(),
                ("getrandbits", [bits]) => random.getrandbits(*bits as u64).to_string(),
                other => panic!("no such draw: {other:?}"),
            };
            assert_eq!(found, expected, "seed {seed}, {method}{arguments:?}");
            seen += 1;
        }
    }
    assert!(seen >= 300, "{seen} draws");
}
