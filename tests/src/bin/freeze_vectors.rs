//! Makes `data/vectors.jsonl` anew with the official package: `PARL_PYTHON=… cargo run -p parl-tests --bin freeze_vectors`.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use parl_mt::agent::Trajectory;
use parl_mt::env::bfcl::BfclContext;
use parl_mt::task::TaskSpec;
use parl_tests::mutate::{Corpus, ground_truth, literals, mutate, texts};
use parl_tests::peer::{Peer, Question, Session};
use parl_tests::random::Random;
use parl_tests::scenario::{data_folder, scenarios};
use parl_tests::vectors::{FILE, Vector};

const SEED: u64 = 20_260_323;
/// Mutated trajectories of each scenario.
const MUTATED: usize = 24;

fn main() -> Result<()> {
    let peer = Peer::from_environment().map_err(anyhow::Error::msg)?;
    let peer = peer.with_tasks(&data_folder().join("scenarios.jsonl"));
    let mut session = peer.start()?;
    let header = session.header().clone();
    ensure!(header.python.starts_with("3.11."), "the vectors are CPython 3.11's, not {}'s", header.python);
    let mut vectors = vec![Vector::Header { python: header.python, today: header.today }];

    let tasks = scenarios();
    let corpus = Corpus::new(&tasks, &BfclContext::default())?;
    for (index, task) in tasks.iter().enumerate() {
        vectors.extend(answer(&mut session, task, "ground truth".to_owned(), ground_truth(task))?);
        for stream in 0..MUTATED {
            let mut random = Random::new(SEED, (index * 1000 + stream) as u64);
            let (kinds, turns) = mutate(&corpus, &mut random, task);
            vectors.extend(answer(&mut session, task, format!("{kinds:?}"), turns)?);
        }
    }
    // Every text by itself, so that one deviation hides nothing else.
    let files = &tasks[0];
    let literals =
        literals().map(|literal| vec![literal.to_owned(), format!("cd({literal})"), format!("ls(a={literal})")]);
    for calls in texts().map(|text| vec![text.to_owned()]).chain(literals) {
        vectors.extend(answer(&mut session, files, "text".to_owned(), vec![vec![calls]])?);
    }

    let output = peer.command("random_vectors.py").output()?;
    for line in String::from_utf8(output.stdout)?.lines() {
        let mut line: serde_json::Value = serde_json::from_str(line)?;
        line.as_object_mut().context("a line is an object")?.insert("kind".into(), "random".into());
        vectors.push(serde_json::from_value(line)?);
    }

    let mut text = String::new();
    for vector in &vectors {
        writeln!(text, "{}", serde_json::to_string(vector)?)?;
    }
    std::fs::write(data_folder().join(FILE), &text)?;
    println!("{} vectors, {} bytes", vectors.len(), text.len());
    Ok(())
}

/// The official answer as a vector; `None` where it tells nothing.
fn answer(session: &mut Session, task: &TaskSpec, case: String, turns: Trajectory) -> Result<Option<Vector>> {
    let answer = session.ask(&Question { id: &task.id, case, turns: &turns })?;
    // A set's order is of one process only.
    let is_stable = !answer.execution.iter().flatten().any(|text| text.contains("Must be one of {"));
    if answer.timeout || !answer.outside.is_empty() || !is_stable {
        return Ok(None);
    }
    let is_text = answer.case == "text";
    Ok(Some(Vector::Trajectory {
        id: answer.id,
        case: answer.case,
        turns,
        valid: answer.valid,
        error_type: answer.error_type,
        execution: answer.execution,
        state: if is_text { Default::default() } else { answer.state.unwrap_or_default() },
    }))
}
