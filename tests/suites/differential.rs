//! Ours beside the official Python package: the same trajectories through both, and identical result strings, verdicts
//! and error types out of both.
//!
//! Environment: `PARL_PYTHON` (a Python with bfcl-eval and mpmath; without it the suite is skipped), `PARL_BFCL_PACKAGE`
//! (where they are unpacked, if not installed), `PARL_DIFFERENTIAL_CASES` (how many mutated trajectories), `PARL_SEED`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use parl_mt::agent::Trajectory;
use parl_mt::env::bfcl::{BfclContext, BfclData, BfclWorld, Score, score_trajectory};
use parl_mt::python::PythonVersion;
use parl_mt::task::TaskSpec;
use parl_mt::trace::ErrorType;
use parl_tests::compare::{executed, state_reprs};
use parl_tests::mutate::{Corpus, mutate, one_call_per_step};
use parl_tests::peer::{Answer, Peer, Question, Session};
use parl_tests::random::Random;

/// Mutated trajectories unless `PARL_DIFFERENTIAL_CASES` says otherwise.
const CASES: usize = 6_000;
/// Of 1000 trajectories, how many may touch a deliberate deviation and so tell nothing.
const MOST_OUTSIDE: usize = 60;
/// Mismatches that are shown in full.
const SHOWN: usize = 20;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let peer = match Peer::from_environment() {
        Ok(peer) => peer,
        Err(reason) => {
            parl_tests::skip(&reason);
            println!("test result: ok. 1 passed; 0 failed; 0 ignored");
            return ExitCode::SUCCESS;
        }
    };
    match run(&peer) {
        Ok(()) => {
            println!("test result: ok. 1 passed; 0 failed; 0 ignored");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("FAILED differential: {error:#}\ntest result: FAILED. 0 passed; 1 failed; 0 ignored");
            ExitCode::FAILURE
        }
    }
}

fn number_from(variable: &str, default: usize) -> Result<usize> {
    match std::env::var(variable) {
        Ok(text) if !text.is_empty() => Ok(text.parse()?),
        _ => Ok(default),
    }
}

fn run(peer: &Peer) -> Result<()> {
    let cases = number_from("PARL_DIFFERENTIAL_CASES", CASES)?;
    let seed = number_from("PARL_SEED", 20_260_323)? as u64;
    let mut session = peer.start()?;
    let header = session.header().clone();
    let data = header.data()?;
    let context = header.context(&data);
    println!("differential: {} tasks, CPython {}, seed {seed}", data.tasks.len(), header.python);

    named_mutations(&data, &context, &mut session)?;
    drop(session);
    mutated(peer, &data, &context, cases, seed)
}

/// The mutations of BFCL.md whose counts are known, in both implementations.
fn named_mutations(data: &BfclData, context: &BfclContext, session: &mut Session) -> Result<()> {
    type Change = fn(&TaskSpec, Vec<String>) -> Vec<String>;
    let known: [(&str, usize, Change); 10] = [
        ("identity", 200, |_, calls| calls),
        ("one call per step", 200, |_, calls| calls),
        ("an extra harmless call", 200, |task, mut calls| {
            let has_files = task.classes.iter().any(|class| class == "GorillaFileSystem");
            calls.push(if has_files { "pwd()" } else { "mean([1])" }.to_owned());
            calls
        }),
        ("reversed", 90, |_, calls| calls.into_iter().rev().collect()),
        ("first call dropped", 0, |_, calls| calls.into_iter().skip(1).collect()),
        ("last call dropped", 0, |_, mut calls| {
            calls.pop();
            calls
        }),
        ("empty", 0, |_, _| Vec::new()),
        ("only ls()", 0, |_, _| vec!["ls()".to_owned()]),
        ("every call twice", 72, |_, calls| calls.into_iter().flat_map(|call| [call.clone(), call]).collect()),
        ("turn replayed", 73, |_, calls| [calls.clone(), calls].concat()),
    ];
    for (name, expected, change) in known {
        let mut valid = BTreeMap::<&str, usize>::new();
        let mut failures = BTreeMap::<Option<&str>, usize>::new();
        for task in &data.tasks {
            let one_step = |calls: Vec<String>| if calls.is_empty() { Vec::new() } else { vec![calls] };
            let mut turns: Trajectory =
                task.ground_truth().map(|calls| one_step(change(task, calls.to_vec()))).collect();
            if name == "one call per step" {
                turns = one_call_per_step(&turns);
            }
            let score = score_trajectory(task, &turns, context)?;
            let answer = session.ask(&Question { id: &task.id, case: name.to_owned(), turns: &turns })?;
            if let Some(difference) = difference(task, &turns, context, &answer)? {
                bail!("{name}, {}: {difference}", task.id);
            }
            *valid.entry(&task.category).or_default() += usize::from(score.verdict.valid);
            if !score.verdict.valid && task.category == "base" {
                *failures.entry(score.verdict.error_type.map(ErrorType::name)).or_default() += 1;
            }
        }
        println!("  {name}: valid {valid:?}");
        ensure!(valid.values().all(|count| *count == expected), "{name}: {valid:?}, but {expected} of 200 are known");
        if name == "reversed" {
            let count = |error_type: ErrorType| failures.get(&Some(error_type.name())).copied().unwrap_or_default();
            let found = (count(ErrorType::InstanceStateMismatch), count(ErrorType::ExecutionResponseMismatch));
            ensure!(found == (87, 23), "reversed: {found:?}, but (87, 23) are known");
        }
    }
    Ok(())
}

/// Where ours and the peer's answer to a trajectory differ, for people. Panics of ours are differences too.
fn difference(task: &TaskSpec, turns: &Trajectory, context: &BfclContext, answer: &Answer) -> Result<Option<String>> {
    let ours = std::panic::catch_unwind(|| -> Result<_> {
        let score = score_trajectory(task, turns, context)?;
        let (execution, world) = executed(task, turns, context)?;
        ensure!(execution == score.execution, "two runs of one trajectory differ");
        Ok((score, world))
    });
    let Ok(ours) = ours else { return Ok(Some("ours panicked".to_owned())) };
    let (score, world) = ours?;
    Ok(difference_of_scores(&score, answer, context.python).or_else(|| difference_of_states(&world, answer)))
}

fn difference_of_states(world: &BfclWorld, answer: &Answer) -> Option<String> {
    let theirs = answer.state.as_ref()?;
    for instance in world.instances() {
        let expected = theirs.get(instance.class_name())?;
        let ours = state_reprs(instance);
        for attribute in expected.keys().chain(ours.keys()) {
            if expected.get(attribute) != ours.get(attribute) {
                let show = |repr: Option<&String>| repr.map_or("nothing".to_owned(), |repr| shortened(repr));
                let (theirs, ours) = (show(expected.get(attribute)), show(ours.get(attribute)));
                let class = instance.class_name();
                return Some(format!("state {class}.{attribute}\n    official: {theirs}\n    ours:     {ours}"));
            }
        }
    }
    None
}

/// Where result strings or verdicts differ.
fn difference_of_scores(score: &Score, answer: &Answer, python: PythonVersion) -> Option<String> {
    let flat = |execution: &[Vec<String>]| -> Vec<(usize, String)> {
        let turns = execution.iter().enumerate();
        turns.flat_map(|(turn, results)| results.iter().map(move |text| (turn, comparable(text, python)))).collect()
    };
    let (ours, theirs) = (flat(&score.execution), flat(&answer.execution));
    for index in 0..ours.len().max(theirs.len()) {
        if ours.get(index) != theirs.get(index) {
            let show = |result: Option<&(usize, String)>| match result {
                Some((turn, text)) => format!("turn {turn} {}", shortened(text)),
                None => "nothing".to_owned(),
            };
            let (theirs, ours) = (show(theirs.get(index)), show(ours.get(index)));
            return Some(format!("result {index}\n    official: {theirs}\n    ours:     {ours}"));
        }
    }
    let error_type = score.verdict.error_type.map(ErrorType::name);
    (score.verdict.valid != answer.valid || error_type != answer.error_type.as_deref()).then(|| {
        let turn = score.verdict.turn;
        format!(
            "verdict\n    official: {} {:?}\n    ours:     {} {error_type:?} (turn {turn:?})",
            answer.valid, answer.error_type, score.verdict.valid
        )
    })
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= 1_500 { text.to_owned() } else { text.chars().take(1_500).chain(['…']).collect() }
}

/// A result as it is compared.
fn comparable(text: &str, python: PythonVersion) -> String {
    // The engine has CPython 3.11's words for syntax errors; later versions changed some (docs/deviations.md).
    if python != PythonVersion::V3_11
        && text.starts_with("Error during execution: ")
        && text.contains(" (<string>, line ")
    {
        return "Error during execution: a syntax error".to_owned();
    }
    without_set_order(text)
}

/// One message of the original prints a set, whose order changes from process to process (docs/deviations.md).
fn without_set_order(text: &str) -> String {
    const MARK: &str = "Must be one of {";
    match text.split_once(MARK) {
        Some((before, rest)) if rest.contains('}') => {
            let (set, after) = rest.split_once('}').expect("just found");
            let mut items: Vec<_> = set.split(", ").collect();
            items.sort_unstable();
            format!("{before}{MARK}{}}}{after}", items.join(", "))
        }
        _ => text.to_owned(),
    }
}

/// One mutated trajectory.
struct Case {
    task: usize,
    kinds: String,
    turns: Trajectory,
}

#[derive(Default)]
struct Tally {
    compared: usize,
    valid: usize,
    calls: usize,
    timeouts: usize,
    outside: BTreeMap<String, usize>,
    mismatches: Vec<(usize, String)>,
}

fn mutated(peer: &Peer, data: &BfclData, context: &BfclContext, count: usize, seed: u64) -> Result<()> {
    let corpus = Corpus::new(&data.tasks, context)?;
    let (classes, methods) = corpus.size();
    ensure!(classes == 8 && methods >= 128, "{classes} classes with {methods} methods");
    let cases: Vec<_> = (0..count)
        .map(|index| {
            let mut random = Random::new(seed, index as u64);
            // The categories in turn, so that each has its share.
            let task = index % 4 * 200 + random.below(200);
            let (kinds, turns) = mutate(&corpus, &mut random, &data.tasks[task]);
            Case { task, kinds: format!("{kinds:?}"), turns }
        })
        .collect();

    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let chunk = cases.len().div_ceil(workers).max(1);
    let tallies: Vec<Result<Tally>> = std::thread::scope(|scope| {
        let workers: Vec<_> = cases
            .chunks(chunk)
            .enumerate()
            .map(|(worker, part)| scope.spawn(move || compare(peer, data, context, part, worker * chunk)))
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a panic here is a bug that must be seen")).collect()
    });
    let mut total = Tally::default();
    for tally in tallies {
        let tally = tally?;
        total.compared += tally.compared;
        total.valid += tally.valid;
        total.calls += tally.calls;
        total.timeouts += tally.timeouts;
        total.mismatches.extend(tally.mismatches);
        for (reason, count) in tally.outside {
            *total.outside.entry(reason).or_default() += count;
        }
    }

    println!(
        "  mutated: {} trajectories, {} calls; {} valid; {} mismatches; {} gave up",
        total.compared,
        total.calls,
        total.valid,
        total.mismatches.len(),
        total.timeouts
    );
    let outside: usize = total.outside.values().sum();
    println!("  not compared, as they touch a deliberate deviation: {outside}");
    for (reason, count) in &total.outside {
        println!("    {count}: {reason}");
    }
    let mut session = peer.start()?;
    for (index, difference) in total.mismatches.iter().take(SHOWN) {
        let case = &cases[*index];
        let task = &data.tasks[case.task];
        println!("\n  MISMATCH case {index}, {}, {}: {difference}", task.id, case.kinds);
        let smallest = minimized(task, context, &mut session, &case.turns)?;
        println!("    smallest: {}", serde_json::to_string(&smallest)?);
        let answer = session.ask(&Question { id: &task.id, case: String::new(), turns: &smallest })?;
        println!("    there: {}", self::difference(task, &smallest, context, &answer)?.unwrap_or_default());
    }
    ensure!(total.mismatches.is_empty(), "{} of {} trajectories differ", total.mismatches.len(), total.compared);
    ensure!(total.timeouts * 1000 <= count, "the official package gave up {} of {count} trajectories", total.timeouts);
    ensure!(outside * 1000 <= MOST_OUTSIDE * count, "{outside} of {count} trajectories tell nothing");
    Ok(())
}

fn compare(peer: &Peer, data: &BfclData, context: &BfclContext, cases: &[Case], first: usize) -> Result<Tally> {
    let mut session = peer.start()?;
    let mut tally = Tally::default();
    for (index, case) in cases.iter().enumerate() {
        let task = &data.tasks[case.task];
        let question = Question { id: &task.id, case: (first + index).to_string(), turns: &case.turns };
        let answer = session.ask(&question)?;
        if answer.timeout {
            println!("    gave up: {} {}", task.id, serde_json::to_string(&case.turns)?);
            tally.timeouts += 1;
            continue;
        }
        let difference = difference(task, &case.turns, context, &answer)?;
        if !answer.outside.is_empty() {
            *tally.outside.entry(answer.outside.join("; ")).or_default() += 1;
            continue;
        }
        tally.compared += 1;
        tally.valid += usize::from(answer.valid);
        tally.calls += answer.execution.iter().map(Vec::len).sum::<usize>();
        if let Some(difference) = difference {
            tally.mismatches.push((first + index, difference));
        }
    }
    Ok(tally)
}

/// A smaller trajectory that still differs.
fn minimized(task: &TaskSpec, context: &BfclContext, session: &mut Session, turns: &Trajectory) -> Result<Trajectory> {
    let mut smallest = turns.clone();
    let places: Vec<_> = turns
        .iter()
        .enumerate()
        .flat_map(|(turn, steps)| steps.iter().enumerate().map(move |(step, calls)| (turn, step, calls.len())))
        .flat_map(|(turn, step, calls)| (0..calls).map(move |call| (turn, step, call)))
        .collect();
    for (turn, step, call) in places.into_iter().rev() {
        let mut smaller = smallest.clone();
        smaller[turn][step].remove(call);
        let answer = session.ask(&Question { id: &task.id, case: String::new(), turns: &smaller })?;
        let differs = difference(task, &smaller, context, &answer)?.is_some();
        if differs && !answer.timeout {
            smallest = smaller;
        }
    }
    smallest.iter_mut().for_each(|steps| steps.retain(|calls| !calls.is_empty()));
    // Steps without calls may be what matters.
    let answer = session.ask(&Question { id: &task.id, case: String::new(), turns: &smallest })?;
    let differs = difference(task, &smallest, context, &answer)?.is_some();
    Ok(if differs { smallest } else { turns.clone() })
}
