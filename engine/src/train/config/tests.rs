use super::*;

fn parse(text: &str, overrides: &[&str]) -> Result<RunConfig, String> {
    let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
    RunConfig::parse(text, "config.toml", &overrides).map_err(|error| error.to_string())
}

const GRPO: &str = "\
method = \"grpo\"

[data]
task = \"addition\"

[grpo]
num_generations = 4
batch_size = 16
beta = 0.04
loss_type = \"dr_grpo\"
";

#[test]
fn sections_overrides_and_defaults_make_one_configuration() {
    let config = parse(
        GRPO,
        &["grpo.beta=0.1", "model.preset=micro", "run.name=first try", "lora.targets=[\"q_proj\"]", "run.seed=7"],
    )
    .unwrap();
    assert_eq!(config.grpo.beta, 0.1);
    assert_eq!(config.grpo.loss_type, LossType::DrGrpo);
    assert_eq!(config.model.preset, Preset::Micro);
    assert_eq!(config.run.name.as_deref(), Some("first try"));
    assert_eq!(config.lora.targets, ["q_proj"]);
    assert_eq!(config.optimizer.beta2, 0.95);
    assert_eq!(config.grpo.epsilon_high, Some(0.2), "it follows from epsilon");
    assert_eq!(config.grpo.generation_batch_size, Some(16));
    assert_eq!(config.tokens_per_step(), TokensPerStep { sequences: 16, tokens: 16 * 256 });
}

#[test]
fn what_is_written_reads_back_as_the_same() {
    for (text, overrides) in [
        (GRPO, &["grpo.min_p=0.05", "run.seed=12345678901234567"][..]),
        ("[data]\npath = \"a \\\"b\\\".jsonl\"\n", &["optimizer.eps=1e-10", "sft.packing=true"]),
    ] {
        let config = parse(text, overrides).unwrap();
        let written = config.to_toml();
        assert_eq!(parse(&written, &[]).as_ref(), Ok(&config), "{written}");
    }
}

#[test]
fn the_resolved_file_reads_well() {
    insta::assert_snapshot!(parse(GRPO, &[]).unwrap().to_toml());
}

#[test]
fn names_follow_from_what_is_trained() {
    assert_eq!(parse(GRPO, &["run.seed=3"]).unwrap().name(), "grpo-addition-nano-seed3");
    let file = parse("[data]\npath = \"some/talks.v2.jsonl\"\n[model]\npath = \"models/smol/\"\n", &[]).unwrap();
    assert_eq!(file.name(), "sft-talks-smol-seed0");
}

#[test]
fn problems_are_told_with_line_and_nearest_name() {
    let cases: &[(&str, &[&str])] = &[
        ("method = \"grpo\"\n[data]\ntask = \"copy\"\n\n[grpo]\nepsilonhigh = 0.3\n", &[]),
        ("[data]\ntask = \"copy\"\n[optimizer]\nepsilon_high = 0.3\nlearning-rate = 1\n", &[]),
        ("[data]\ntask = \"copy\"\n[optimiser]\nlr = 0.3\n", &[]),
        ("methode = \"grpo\"\nseed = 3\nzzz = 1\n", &[]),
        ("method = \"gpro\"\n[data]\ntask = \"adition\"\n[grpo]\nloss_type = \"ppo\"\n", &[]),
        ("[data]\ntask = \"copy\"\n[sft]\nbatch_size = \"16\"\nmax_steps = 1.5\npacking = 1\nmax_length = -4\n", &[]),
        ("[optimizer]\nbeta2 = 1.0\nlearning_rate = nan\nmax_grad_norm = inf\n[sft]\nbatch_size = 0\n", &[]),
        (
            "[data]\ntask = \"copy\"\n",
            &["sft.packing=True", "grpo.epsilonhigh=1", "beta=0.1", "gropo.beta=0.1", "sft.packing"],
        ),
        ("[data]\ntask = copy\n", &[]),
        ("[data]\ntask = \"copy\"\ntask = \"addition\"\n", &[]),
        ("data = 3\n[run.more]\nx = 1\n[run]\nseed = -1\n", &[]),
    ];
    let told: Vec<String> = cases
        .iter()
        .map(|(text, overrides)| format!("{text}{}\n=> {}", overrides.join(" "), parse(text, overrides).unwrap_err()))
        .collect();
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn options_that_do_not_go_together_are_told() {
    let cases: &[(&str, &[&str])] = &[
        ("", &[]),
        ("[data]\ntask = \"copy\"\npath = \"x.jsonl\"\n", &[]),
        ("method = \"grpo\"\n[data]\npath = \"x.jsonl\"\n", &[]),
        (GRPO, &["grpo.num_generations=5"]),
        (GRPO, &["grpo.generation_batch_size=24"]),
        (GRPO, &["grpo.steps_per_generation=3", "grpo.gradient_accumulation_steps=2"]),
        (GRPO, &["schedule.warmup_steps=201", "task.max_length=1", "run.name=../x"]),
        (
            "[data]\ntask = \"copy\"\n[sft]\neval_every = 0\nearly_stopping_patience = 3\n[lora]\nrank = 4\ntargets = []",
            &[],
        ),
    ];
    let told: Vec<String> = cases
        .iter()
        .map(|(text, overrides)| format!("{}=> {}", overrides.join(" "), parse(text, overrides).unwrap_err()))
        .collect();
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn generations_may_last_longer_than_an_update() {
    let config = parse(GRPO, &["grpo.generation_batch_size=64", "grpo.gradient_accumulation_steps=2"]).unwrap();
    assert_eq!(config.grpo.steps_per_generation(), 4);
    let same = parse(GRPO, &["grpo.steps_per_generation=4", "grpo.gradient_accumulation_steps=2"]).unwrap();
    assert_eq!(same.grpo, config.grpo);
}

#[test]
fn every_option_says_what_it_means_and_can_be_set_to_its_default() {
    let options = options();
    assert!(options.len() > 60);
    for option in &options {
        assert!(option.meaning.ends_with('.'), "{option:?}");
        if !option.default.is_empty() {
            let set = parse("[data]\ntask = \"copy\"\n", &[&format!("{}={}", option.name, option.default)]);
            assert!(set.is_ok(), "{option:?}: {set:?}");
        }
    }
}

#[test]
fn names_in_toml_are_those_of_serde() {
    fn same<T: OptionValue + Serialize>() {
        for name in T::names() {
            let value = T::from_toml(&toml::Value::String((*name).to_owned())).unwrap();
            assert_eq!(serde_json::to_value(&value).unwrap(), *name);
        }
    }
    same::<Method>();
    same::<Preset>();
    same::<ToyTask>();
    same::<ScheduleKind>();
    same::<LossType>();
    same::<ScaleRewards>();
    same::<AdvantageLevel>();
    same::<DeviceChoice>();
}

#[test]
fn serde_reads_what_it_writes_and_knows_no_other_names() {
    let config = parse(GRPO, &[]).unwrap();
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<RunConfig>(&json).unwrap(), config);
    assert!(serde_json::from_str::<RunConfig>(r#"{"grpo": {"betta": 1}}"#).is_err());
}
