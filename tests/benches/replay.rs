//! Replays the ground truth of all 800 tasks: worlds, execution, checks. `cargo bench -p parl-tests --bench replay`.
//!
//! The data is found as in the differential suite (`PARL_BFCL_WHEEL`, or the package of `PARL_PYTHON`).

use divan::Bencher;
use parl_mt::agent::Trajectory;
use parl_mt::env::bfcl::data::CATEGORIES;
use parl_mt::env::bfcl::{BfclContext, BfclData, BfclWorld, score_trajectory};
use parl_mt::task::TaskSpec;
use parl_tests::mutate::ground_truth;

fn main() {
    if let Err(reason) = parl_tests::find_data() {
        println!("replay ... SKIPPED: {reason}");
        return;
    }
    divan::main();
}

struct Work {
    context: BfclContext,
    tasks: Vec<(TaskSpec, Trajectory)>,
}

fn work(category: &str) -> Work {
    let data: BfclData = parl_tests::find_data().expect("main has found it");
    let tasks = data.tasks.iter().filter(|task| task.category == category);
    Work { context: data.context(), tasks: tasks.map(|task| (task.clone(), ground_truth(task))).collect() }
}

/// Everything, as a scorer does it.
#[divan::bench(args = CATEGORIES)]
fn score(bencher: Bencher, category: &str) {
    let Work { context, tasks } = work(category);
    bencher.counter(divan::counter::ItemsCount::new(tasks.len())).bench_local(|| {
        tasks
            .iter()
            .filter(|(task, turns)| score_trajectory(task, turns, &context).expect("BFCL's tasks load").verdict.valid)
            .count()
    });
}

/// Only the worlds in their initial state.
#[divan::bench(args = CATEGORIES)]
fn load(bencher: Bencher, category: &str) {
    let Work { context, tasks } = work(category);
    bencher.counter(divan::counter::ItemsCount::new(tasks.len())).bench_local(|| {
        for (task, _) in &tasks {
            divan::black_box(BfclWorld::new(task, &context).expect("BFCL's tasks load"));
        }
    });
}
