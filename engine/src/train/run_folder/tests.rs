use pollster::block_on;

use super::*;
use crate::platform::storage::MemoryStorage;
use crate::train::event::{Rollout, TrainEvent};

pub(in crate::train) fn config(overrides: &[&str]) -> RunConfig {
    let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
    RunConfig::parse("[data]\ntask = \"copy\"\n[checkpoint]\nevery = 5\n", "config.toml", &overrides).unwrap()
}

pub(in crate::train) fn info(config: &RunConfig) -> RunInfo {
    RunInfo {
        version: FOLDER_VERSION,
        program: "0.1.0".to_owned(),
        git_commit: None,
        device: DeviceInfo { choice: DeviceChoice::Flex, name: "CPU".to_owned(), reason: "asked for".to_owned() },
        seed: config.run.seed,
        data_sha256: [("copy".to_owned(), sha256(b"abc"))].into(),
        tokenizer_sha256: sha256(b""),
        started: 1_700_000_000.5,
        parameters: 300_000,
    }
}

fn new_folder(overrides: &[&str]) -> RunFolder<MemoryStorage> {
    let config = config(overrides);
    let info = info(&config);
    block_on(RunFolder::create(MemoryStorage::default(), config, info)).unwrap().with_clock(|| 1.0)
}

/// The folder as another process finds it.
fn reopen(folder: &RunFolder<MemoryStorage>) -> RunFolder<MemoryStorage> {
    block_on(RunFolder::open(folder.storage().clone(), &[])).unwrap().with_clock(|| 1.0)
}

fn files(content: &[u8]) -> CheckpointFiles {
    vec![("model.safetensors".to_owned(), content.to_owned()), ("state.json".to_owned(), b"{}".to_vec())]
}

fn step(step: u64) -> TrainEvent {
    TrainEvent::Step { step, metrics: [("loss", 1.0 / step as f64)].into_iter().collect() }
}

#[test]
fn hashes_are_those_of_sha256() {
    assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn a_folder_is_made_once_and_opened_with_what_was_written() {
    let folder = new_folder(&["run.seed=3"]);
    let opened = reopen(&folder);
    assert_eq!(opened.config(), folder.config());
    assert_eq!(opened.info(), folder.info());
    let info_text = String::from_utf8(block_on(folder.storage().read(INFO)).unwrap().unwrap()).unwrap();
    insta::assert_snapshot!(info_text);

    let again = RunFolder::create(folder.storage().clone(), config(&[]), info(&config(&[])));
    let error = block_on(again).unwrap_err().to_string();
    assert!(error.contains("is there already") && error.contains("--resume"), "{error}");
}

#[test]
fn a_strangers_folder_is_left_alone_and_a_killed_creation_is_not_in_the_way() {
    let storage = MemoryStorage::default();
    block_on(storage.write(CONFIG, b"mine = true\n")).unwrap();
    let create =
        |storage: &MemoryStorage| block_on(RunFolder::create(storage.clone(), config(&[]), info(&config(&[]))));
    assert!(matches!(create(&storage), Err(RunFolderError::Exists { .. })));
    block_on(storage.write(CONFIG, config(&[]).to_toml().as_bytes())).unwrap();
    let error = block_on(RunFolder::open(storage.clone(), &[])).unwrap_err().to_string();
    assert!(error.contains("there is no run.json in it"), "{error}");
    create(&storage).unwrap();
}

#[test]
fn a_later_layout_and_damaged_files_are_told() {
    let folder = new_folder(&[]);
    let mut later = folder.info().clone();
    later.version = FOLDER_VERSION + 1;
    block_on(folder.storage().write(INFO, &to_json(&later))).unwrap();
    let error = block_on(RunFolder::open(folder.storage().clone(), &[])).unwrap_err().to_string();
    assert!(error.contains("later version"), "{error}");
    block_on(folder.storage().write(INFO, b"{")).unwrap();
    let error = block_on(RunFolder::open(folder.storage().clone(), &[])).unwrap_err().to_string();
    assert!(error.contains("run.json does not read"), "{error}");
}

#[test]
fn checkpoints_come_back_and_the_latest_and_the_best_stay() {
    block_on(async {
        let mut folder = new_folder(&["checkpoint.keep=2"]);
        for (step, score) in [(5, Some(-2.0)), (10, Some(-1.0)), (15, None), (20, Some(f64::NAN)), (25, Some(-1.0))] {
            folder.save_checkpoint(step, score, &files(format!("weights {step}").as_bytes())).await.unwrap();
        }
        let opened = reopen(&folder);
        assert_eq!(opened.checkpoints().keys().copied().collect::<Vec<_>>(), [10, 20, 25]);
        assert_eq!(opened.checkpoints(), folder.checkpoints());
        assert_eq!(opened.best_checkpoint().unwrap().step, 10);
        assert_eq!(opened.latest_checkpoint().unwrap().step, 25);
        assert_eq!(opened.load_checkpoint(25).await.unwrap(), files(b"weights 25"));
        assert!(opened.load_checkpoint(15).await.is_err());
        assert_eq!(opened.describe_checkpoint(25), "(memory)/checkpoints/step-000025");
    });
}

#[test]
fn incomplete_checkpoints_do_not_count_and_go_when_the_run_goes_on() {
    block_on(async {
        let mut folder = new_folder(&["checkpoint.keep=9"]);
        for step in [5, 10, 15, 20] {
            folder.save_checkpoint(step, None, &files(b"weights")).await.unwrap();
        }
        let storage = folder.storage();
        storage.remove("checkpoints/step-000010/manifest.json").await.unwrap();
        storage.write("checkpoints/step-000015/model.safetensors", b"weigh").await.unwrap();
        storage.remove("checkpoints/step-000020/state.json").await.unwrap();
        storage.write("checkpoints/notes.txt", b"mine").await.unwrap();
        let mut opened = reopen(&folder);
        assert_eq!(opened.latest_checkpoint().unwrap().step, 5);
        let present = opened.storage().list("checkpoints").await.unwrap();
        assert_eq!(present.len(), 5, "who only looks removes nothing: another process may be writing");
        opened.rewind(5).await.unwrap();
        assert_eq!(opened.storage().list("checkpoints").await.unwrap(), ["notes.txt", "step-000005"]);
    });
}

#[test]
fn a_changed_checkpoint_is_refused_with_a_remedy() {
    block_on(async {
        let mut folder = new_folder(&[]);
        folder.save_checkpoint(5, None, &files(b"weights")).await.unwrap();
        folder.storage().write("checkpoints/step-000005/model.safetensors", b"WEIGHTS").await.unwrap();
        let error = reopen(&folder).load_checkpoint(5).await.unwrap_err().to_string();
        insta::assert_snapshot!(error, @"(memory)/checkpoints/step-000005/model.safetensors has changed since it was written. Remove (memory)/checkpoints/step-000005 to resume from the checkpoint before it");
    });
}

#[test]
fn a_half_written_line_is_tolerated_at_the_end_only() {
    block_on(async {
        let folder = new_folder(&[]);
        folder.log(&[step(1), step(2)]).await.unwrap();
        folder.storage().append(EVENTS, b"{\"time\":1,\"type\":\"st").await.unwrap();
        let events = folder.events().await.unwrap();
        assert_eq!(events.iter().map(|logged| &logged.event).collect::<Vec<_>>(), [&step(1), &step(2)]);
        folder.storage().append(EVENTS, b"\n").await.unwrap();
        folder.log(&[step(3)]).await.unwrap();
        let error = folder.events().await.unwrap_err().to_string();
        assert!(error.contains("events.jsonl:3 does not read"), "{error}");
    });
}

#[test]
fn rewinding_leaves_what_belongs_to_the_checkpoint() {
    block_on(async {
        let mut folder = new_folder(&["run.seed=1"]);
        let groups = |reward| {
            let rollout = Rollout {
                completion: "ab".to_owned(),
                tokens: 3,
                truncated: false,
                reward,
                rewards: Default::default(),
                advantage: 0.0,
            };
            vec![RolloutGroup { prompt: "ab|".to_owned(), rollouts: vec![rollout] }]
        };
        folder.log(&[step(1), TrainEvent::Rollouts { step: 1, groups: groups(0.0) }]).await.unwrap();
        folder.log(&[step(2)]).await.unwrap();
        folder.save_checkpoint(2, None, &files(b"two")).await.unwrap();
        folder.log(&[step(3), TrainEvent::Rollouts { step: 3, groups: groups(1.0) }]).await.unwrap();
        folder.save_checkpoint(3, None, &files(b"three")).await.unwrap();
        folder.storage().append(EVENTS, b"{\"time\":1,").await.unwrap();
        assert_eq!(folder.traced_steps().await.unwrap(), [1, 3]);
        assert_eq!(folder.rollouts(3).await.unwrap(), groups(1.0));

        let mut opened = RunFolder::open(folder.storage().clone(), &["sft.max_steps=50".to_owned()])
            .await
            .unwrap()
            .with_clock(|| 1.0);
        opened.rewind(2).await.unwrap();
        let told: Vec<TrainEvent> = opened.events().await.unwrap().into_iter().map(|logged| logged.event).collect();
        assert_eq!(told, [step(1), step(2), TrainEvent::CheckpointSaved { step: 2, bytes: 5 }]);
        assert_eq!(opened.traced_steps().await.unwrap(), [1]);
        assert_eq!(opened.latest_checkpoint().unwrap().step, 2);
        let config = opened.storage().read(CONFIG).await.unwrap().unwrap();
        assert!(String::from_utf8(config).unwrap().contains("max_steps = 50"), "overrides are kept");
        assert_eq!(reopen(&opened).config().sft.max_steps, 50);
    });
}
