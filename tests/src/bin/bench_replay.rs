//! Ours and the official package on the same work, run in turns on one core: load the worlds of all 800 tasks, execute a
//! trajectory and the ground truth, check every turn. Prints the medians and their ratio for two kinds of trajectory: the
//! ground truth itself (where ours need not execute it a second time), and the ground truth after one call more.
//!
//! Needs `PARL_PYTHON` (and `PARL_BFCL_PACKAGE` where the package is not installed). `cargo run -p parl-tests --release
//! --bin bench_replay [ROUNDS]`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use parl_mt::agent::Trajectory;
use parl_mt::env::bfcl::score_trajectory;
use parl_mt::task::TaskSpec;
use parl_tests::mutate::ground_truth;
use parl_tests::peer::Peer;

/// As in `parl`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds unless the first argument says otherwise.
const ROUNDS: usize = 7;

fn main() -> Result<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(ROUNDS), |text| text.parse())?;
    let peer = Peer::from_environment().map_err(anyhow::Error::msg)?;
    let header = peer.start()?.header().clone();
    let data = header.data()?;
    let context = header.context(&data);
    for (work, script_argument) in [(Work::GroundTruth, "ground-truth"), (Work::OneCallMore, "one-call-more")] {
        let trajectories: Vec<_> = data.tasks.iter().map(|task| work.trajectory(task)).collect();
        let mut python = peer
            .command("bench.py")
            .arg(script_argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the peer")?;
        let mut ask = python.stdin.take().context("the peer has no stdin")?;
        let mut answers = BufReader::new(python.stdout.take().context("the peer has no stdout")?).lines();

        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..=rounds {
            let start = Instant::now();
            let mut valid = 0;
            for (task, turns) in data.tasks.iter().zip(&trajectories) {
                valid += usize::from(score_trajectory(task, turns, &context)?.verdict.valid);
            }
            let own_secs = start.elapsed().as_secs_f64();
            writeln!(ask, "round")?;
            ask.flush()?;
            let answer = answers.next().context("the peer has ended")??;
            let (their_valid, their_secs) = answer.split_once(' ').context("the peer says something else")?;
            let their_secs: f64 = their_secs.parse()?;
            ensure!(valid == data.tasks.len() && their_valid.parse() == Ok(valid), "{valid}, {their_valid} are valid");
            // The first round warms both up.
            if round > 0 {
                println!("round {round}: ours {:.2} ms, official {:.0} ms", own_secs * 1e3, their_secs * 1e3);
                ours.push(own_secs);
                theirs.push(their_secs);
            }
        }
        drop(ask);
        python.wait()?;
        let (ours, theirs) = (median(ours), median(theirs));
        let tasks = data.tasks.len() as f64;
        println!(
            "{script_argument}, median of {rounds}: ours {:.0} tasks/s, official (CPython {}) {:.0} tasks/s: {:.1} times",
            tasks / ours,
            header.python,
            tasks / theirs,
            theirs / ours
        );
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Work {
    GroundTruth,
    OneCallMore,
}

impl Work {
    fn trajectory(self, task: &TaskSpec) -> Trajectory {
        let mut turns = ground_truth(task);
        if let (Self::OneCallMore, Some(steps)) = (self, turns.first_mut()) {
            steps.insert(0, vec!["None".to_owned()]);
        }
        turns
    }
}

fn median(mut secs: Vec<f64>) -> f64 {
    secs.sort_by(f64::total_cmp);
    secs[secs.len() / 2]
}
