//! Runs from a configuration, resumed from their checkpoints' files.

use burn::tensor::Device;

use super::*;
use crate::model::HostTensors;

fn config(method: &str, overrides: &[&str]) -> RunConfig {
    let small = ["sft.max_steps=8", "sft.batch_size=4", "sft.eval_every=0", "grpo.max_steps=6", "grpo.beta=0.1"];
    let smaller = ["grpo.batch_size=8", "grpo.num_generations=4", "grpo.max_completion_length=6"];
    let simple = ["task.min_length=1", "task.max_length=2", "task.symbols=3", "run.seed=5"];
    let adapters = ["lora.rank=3", "lora.alpha=5.3", "schedule.warmup_steps=1", "optimizer.learning_rate=0.01"];
    let all = small.iter().chain(&smaller).chain(&simple).chain(&adapters).chain(overrides);
    let overrides: Vec<String> = all.map(|&text| text.to_owned()).collect();
    let text = format!("method = \"{method}\"\n[data]\ntask = \"copy\"\nexamples = 40\neval_examples = 2\n");
    RunConfig::parse(&text, "config.toml", &overrides).unwrap()
}

fn built(config: &RunConfig, inputs: &RunInputs, files: Option<&CheckpointFiles>) -> BuiltRun {
    build(config, inputs, &Device::flex(), files).unwrap()
}

/// A checkpoint as a model to start from, as `model.path` would give it: nothing of its adapters is known.
fn as_inputs(files: &CheckpointFiles) -> RunInputs {
    let get = |name| Files(files).get(name).unwrap().to_vec();
    let model = Some((String::from_utf8(get(CONFIG_FILE)).unwrap(), get(WEIGHTS_FILE)));
    RunInputs { model, tokenizer: Some(get(TOKENIZER_FILE)), ..RunInputs::default() }
}

/// Metrics of some updates, without those of time and memory.
fn steps(trainer: &mut RunTrainer, count: usize) -> Vec<Vec<(String, f64)>> {
    let mut events: Vec<TrainEvent> = Vec::new();
    for _ in 0..count {
        pollster::block_on(trainer.step(&mut events)).unwrap();
    }
    let metrics = events.iter().filter_map(|event| match event {
        TrainEvent::Step { metrics, .. } => Some(metrics),
        _ => None,
    });
    let lasting = |name: &str| !name.contains("time") && !name.contains("per_second") && name != metrics::MEMORY;
    metrics
        .map(|metrics| metrics.iter().filter(|(name, _)| lasting(name)).map(|(name, v)| (name.to_owned(), v)).collect())
        .collect()
}

fn checkpoint(trainer: &RunTrainer) -> CheckpointFiles {
    pollster::block_on(trainer.checkpoint()).unwrap()
}

fn tensors(files: &CheckpointFiles, name: &'static str) -> HostTensors {
    from_safetensors(Files(files).get(name).unwrap()).unwrap()
}

#[test]
fn runs_with_adapters_are_resumed_bit_by_bit() {
    // Copies some of what it is asked to: a fresh model would never be rewarded.
    let mut full = built(&config("sft", &["lora.rank=0", "sft.max_steps=60"]), &RunInputs::default(), None);
    steps(&mut full.trainer, 60);
    let inputs = as_inputs(&checkpoint(&full.trainer));
    // With few targets, most projections are frozen; in bf16, the reference must be rounded as the policy is.
    let few = ["lora.targets=[\"v_proj\"]", "run.precision=bf16"];
    for (method, overrides) in [("sft", &[][..]), ("grpo", &[]), ("sft", &few[..1]), ("grpo", &few)] {
        let config = config(method, overrides);
        let mut whole = built(&config, &inputs, None);
        let start = checkpoint(&whole.trainer);
        assert!(tensors(&start, BASE_FILE) == tensors(&start, WEIGHTS_FILE), "adapters start as nothing");
        let curve = steps(&mut whole.trainer, 6);
        let mut first = built(&config, &inputs, None);
        assert_eq!(steps(&mut first.trainer, 3), curve[..3]);
        let files = checkpoint(&first.trainer);
        drop(first);
        let mut second = built(&config, &inputs, Some(&files));
        assert!(checkpoint(&second.trainer) == files, "{method}");
        assert_eq!(steps(&mut second.trainer, 3), curve[3..], "{method}");
        let end = checkpoint(&whole.trainer);
        assert!(checkpoint(&second.trainer) == end, "{method}");

        assert!(tensors(&end, BASE_FILE) == tensors(&start, BASE_FILE), "what is adapted stays");
        assert!(tensors(&end, WEIGHTS_FILE) != tensors(&start, WEIGHTS_FILE), "{method}: {curve:?}");
        let trained: usize = tensors(&end, ADAPTER_FILE).values().map(|tensor| tensor.values.len()).sum();
        assert_eq!((second.parameters, whole.parameters), (trained as u64, trained as u64));
        if let Trained::Grpo { trainer } = &second.trainer.method {
            let reference = pollster::block_on(trainer.reference().unwrap().to_host());
            assert!(reference == tensors(&start, BASE_FILE), "the policy as it was");
            assert!(curve[0].iter().any(|(name, value)| name == "kl" && *value == 0.0), "{curve:?}");
            assert!(curve[5].iter().any(|(name, value)| name == "kl" && *value > 0.0), "{curve:?}");
        }
        let full = self::config(method, &["lora.rank=0"]);
        let next = built(&full, &as_inputs(&end), None);
        assert!(tensors(&checkpoint(&next.trainer), WEIGHTS_FILE) == tensors(&end, WEIGHTS_FILE), "merged");
    }
}

#[test]
fn a_run_keeps_its_adapters() {
    let files = |overrides: &[&str]| checkpoint(&built(&config("sft", overrides), &RunInputs::default(), None).trainer);
    let (with, without) = (files(&[]), files(&["lora.rank=0"]));
    let refused = |overrides: &[&str], files| {
        let result = build(&config("sft", overrides), &RunInputs::default(), &Device::flex(), Some(files));
        result.err().unwrap().to_string()
    };
    for overrides in [&["lora.rank=0"][..], &["lora.rank=4"], &["lora.alpha=5"], &["lora.targets=[\"q_proj\"]"]] {
        let error = refused(overrides, &with);
        assert!(
            error.contains("set lora.rank = 3, lora.alpha = 5.3, lora.targets = [\"q_proj\", \"k_proj\""),
            "{error}"
        );
    }
    assert!(refused(&[], &without).contains("set lora.rank = 0, or start a new run"));
    let error = build(&config("sft", &["lora.targets=[\"query\"]"]), &RunInputs::default(), &Device::flex(), None);
    assert!(matches!(error, Err(BuildError::Lora(LoraError::Target { name })) if name == "query"));
}
