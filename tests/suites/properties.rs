//! What must hold for any calls: no panic, and the same results and states whenever and however they are replayed.

use parl_mt::agent::{Replay, Trajectory, now};
use parl_mt::env::Environment as _;
use parl_mt::env::bfcl::{BfclContext, BfclWorld, score_trajectory};
use parl_mt::episode::{Episode, EpisodeOptions};
use parl_mt::message::TurnEnd;
use parl_mt::task::TaskSpec;
use parl_tests::compare::{executed, state_reprs};
use parl_tests::mutate::{Corpus, ground_truth, mutate};
use parl_tests::random::Random;
use parl_tests::scenario::scenarios;
use proptest::prelude::*;

fn context() -> BfclContext {
    BfclContext::default()
}

fn states(world: &BfclWorld) -> Vec<std::collections::BTreeMap<String, String>> {
    world.instances().map(state_reprs).collect()
}

/// Mutated trajectories of our own scenarios.
fn trajectories(count: u64) -> Vec<(TaskSpec, Trajectory)> {
    let tasks = scenarios();
    let corpus = Corpus::new(&tasks, &context()).expect("the scenarios load");
    let draw = |stream| {
        let mut random = Random::new(7, stream);
        let task = random.pick(&tasks).clone();
        let turns = if stream % 10 == 0 { ground_truth(&task) } else { mutate(&corpus, &mut random, &task).1 };
        (task, turns)
    };
    (0..count).map(draw).collect()
}

#[test]
fn a_replay_repeats_exactly() {
    for (task, turns) in trajectories(400) {
        let (results, world) = executed(&task, &turns, &context()).expect("the scenarios load");
        let (again, mut other) = executed(&task, &turns, &context()).expect("the scenarios load");
        assert_eq!(results, again);
        assert_eq!(states(&world), states(&other));
        assert!(world.same_state(&other) || has_nan(&world));

        // A world that is reset, and one that is copied, live on as new ones.
        other.reset();
        let calls = || turns.iter().flatten().flatten();
        let expected: Vec<_> =
            BfclWorld::new(&task, &context()).map(|mut fresh| calls().map(|c| fresh.execute(c)).collect()).unwrap();
        let mut copy = other.clone();
        let results: Vec<_> = calls().map(|call| other.execute(call)).collect();
        assert_eq!(results, expected, "after a reset: {turns:?}");
        let results: Vec<_> = calls().map(|call| copy.execute(call)).collect();
        assert_eq!(results, expected, "in a copy: {turns:?}");
    }
}

/// `nan` is not equal to itself, so a state that holds one differs from its like.
fn has_nan(world: &BfclWorld) -> bool {
    states(world).iter().flat_map(|attributes| attributes.values()).any(|text| text.contains("nan"))
}

/// The turn loop ends a turn at the first step without calls, and the conversation after a force-quit; up to there it must
/// give what the scorer gives.
#[test]
fn an_episode_gives_what_the_scorer_gives() {
    for (task, mut turns) in trajectories(400) {
        turns.iter_mut().for_each(|steps| steps.retain(|calls| calls.iter().any(|call| !call.is_empty())));
        turns.resize(task.turns.len(), Vec::new());
        let score = score_trajectory(&task, &turns, &context()).expect("the scenarios load");
        let world = BfclWorld::new(&task, &context()).expect("the scenarios load");
        let mut episode = Episode::new(&task, world, EpisodeOptions::default());
        now(episode.run(&mut Replay::new("replay", turns.clone()))).expect("a replay always answers");
        let (conversation, world) = episode.into_parts();
        let results: Vec<Vec<String>> = conversation
            .turns
            .iter()
            .map(|turn| turn.results().map(|result| result.content.clone()).collect())
            .collect();
        if conversation.turns.iter().any(|turn| turn.end == Some(TurnEnd::ForceQuit)) {
            assert!(score.execution.len() >= results.len());
            continue;
        }
        assert_eq!(results, score.execution, "{turns:?}");
        let (_, scored) = executed(&task, &turns, &context()).expect("the scenarios load");
        assert_eq!(states(&world), states(&scored), "{turns:?}");
    }
}

#[test]
fn the_ground_truth_of_every_scenario_is_right() {
    for task in scenarios() {
        let score = score_trajectory(&task, &ground_truth(&task), &context()).expect("the scenarios load");
        assert!(score.verdict.valid, "{}: {:?}", task.id, score.verdict);
    }
}

/// A world with all eight classes.
fn world_of_all_classes() -> BfclWorld {
    let tasks = scenarios();
    let task = tasks.iter().find(|task| task.classes.len() == 8).expect("one scenario has them all");
    BfclWorld::new(task, &context()).expect("the scenarios load")
}

fn method_names() -> Vec<String> {
    let world = world_of_all_classes();
    world.instances().flat_map(|instance| instance.signatures()).map(|signature| signature.name.to_owned()).collect()
}

fn literal() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("None".to_owned()),
        any::<bool>().prop_map(|flag| if flag { "True" } else { "False" }.to_owned()),
        // Not too long: `power` would compute what it says.
        (-400_i64..400).prop_map(|number| number.to_string()),
        (-1e6..1e6_f64).prop_map(|number| format!("{number:?}")),
        any::<String>().prop_map(|text| format!("{text:?}")),
        "[a-z_./]{0,12}".prop_map(|text| format!("'{text}'")),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            proptest::collection::vec((inner.clone(), inner), 0..3).prop_map(|entries| {
                let entries: Vec<_> = entries.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", entries.join(", "))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gets_an_answer(text in any::<String>()) {
        world_of_all_classes().execute(&text);
    }

    #[test]
    fn text_of_python_characters_gets_an_answer(text in r#"[a-z(){}\[\]'",=:.\\ \n0-9_#*+-]{0,60}"#) {
        world_of_all_classes().execute(&text);
    }

    #[test]
    fn any_arguments_get_an_answer(
        calls in proptest::collection::vec(
            (any::<prop::sample::Index>(), proptest::collection::vec(literal(), 0..5)), 1..8),
    ) {
        let names = method_names();
        let mut world = world_of_all_classes();
        for (name, arguments) in calls {
            world.execute(&format!("{}({})", name.get(&names), arguments.join(", ")));
        }
        world.snapshot();
    }
}
