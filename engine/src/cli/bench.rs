//! `parl bench`: how fast this engine trains and generates, beside PyTorch on the same machine, weights and batches.
//!
//! Ours and the peer take turns, so that what else the machine does falls on both; medians are compared. Nothing here is
//! a test: times depend on the machine.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::ProgressBar;
use parl_mt::device::{self, DEVICE_VARIABLE, DeviceChoice, SelectedDevice};
use parl_mt::generation::{Cancel, Completion, Generation, GenerationOptions, Group, SamplingOptions};
use parl_mt::model::{ModelConfig, Precision, Preset, Transformer, to_safetensors};
use parl_mt::platform;
use parl_mt::train::batch::Sequence;
use parl_mt::train::grpo::prompts::{PromptSource, PromptTasks};
use parl_mt::train::grpo::trainer::{AdvantageLevel, GrpoOptions, GrpoTrainer};
use parl_mt::train::grpo::{LossOptions, RewardTerm, ScaleRewards};
use parl_mt::train::optimizer::AdamWOptions;
use parl_mt::train::schedule::{Schedule, ScheduleKind};
use parl_mt::train::sft::{SftOptions, SftTrainer};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

/// What to measure.
#[derive(Args)]
#[command(after_help = HELP)]
pub struct Arguments {
    /// Benchmarks whose names begin with one of these; without any, all
    names: Vec<String>,
    /// Python with PyTorch and safetensors, to compare with
    #[arg(long, value_name = "PYTHON", env = "PARL_PARITY_PYTHON")]
    peer: Option<PathBuf>,
    /// Turns that each side takes; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Also write the table to this file as JSON: [{"name", "ours", "peer", "unit", "ratio"}]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where ours computes: auto, flex (CPU), wgpu, vulkan, metal, cuda
    #[arg(long, value_name = "DEVICE", env = DEVICE_VARIABLE, default_value = "flex")]
    device: DeviceChoice,
    /// Train a little and print this process's memory as JSON: what `memory_train` starts
    #[arg(long, hide = true)]
    memory_child: bool,
}

const HELP: &str = "\
The model has 4 layers and d_model 128. `ratio` is ours / peer: for times and memory less is better, for tokens/s more is.

Examples:
  Ours alone:
    parl bench

  Beside PyTorch (the environment of `cargo xtask parity --yes`, or any other):
    parl bench --peer ~/.cache/parl-mt/parity/bin/python

  Decoding only, more rounds, table to a file:
    parl bench decode --peer python3 --rounds 15 --json bench.json

Environment:
  PARL_PARITY_PYTHON  the Python to compare with, as --peer
  PARL_DEVICE         the device, as --device";

const PEER: &str = include_str!("bench_peer.py");

/// Prompt and completion of the benchmarks that generate, in tokens.
const PROMPT: usize = 140;
const NEW: usize = 60;
const GENERATIONS: usize = 8;
const GROUPS: usize = 8;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
struct Line {
    name: &'static str,
    ours: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<f64>,
    unit: &'static str,
    /// ours / peer
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

/// What a benchmark does.
#[derive(Clone, Copy)]
enum Work {
    /// An update from `sequences` sequences of `length` tokens.
    Train { sequences: usize, length: usize },
    /// Logits after `sequences` prompts of `length` tokens.
    Prefill { sequences: usize, length: usize },
    /// `NEW` tokens for each of `rows` different prompts; the prompts' own time is left out.
    Decode { rows: usize },
    /// Rollouts of `GROUPS` prompts, `GENERATIONS` each, and an update from them.
    Grpo,
}

const BENCHMARKS: [(&str, Work); 7] = [
    ("train_16x256", Work::Train { sequences: 16, length: 256 }),
    ("train_64x200", Work::Train { sequences: 64, length: 200 }),
    ("prefill", Work::Prefill { sequences: 16, length: 256 }),
    ("decode_b1", Work::Decode { rows: 1 }),
    ("decode_b16", Work::Decode { rows: 16 }),
    ("decode_b64", Work::Decode { rows: 64 }),
    ("grpo_step", Work::Grpo),
];
const MEMORY: &str = "memory_train";
const MEMORY_PROCESS: &str = "memory_process";

/// Measures, prints a table.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let device = device::select(arguments.device)?;
    if arguments.memory_child {
        return memory_child(&device);
    }
    let wanted = |name: &str| {
        arguments.names.is_empty() || arguments.names.iter().any(|prefix| name.starts_with(prefix.as_str()))
    };
    let work: Vec<(&'static str, Work)> = BENCHMARKS.into_iter().filter(|(name, _)| wanted(name)).collect();
    let with_memory = wanted(MEMORY);
    if work.is_empty() && !with_memory {
        let names: Vec<&str> = BENCHMARKS.iter().map(|(name, _)| *name).chain([MEMORY]).collect();
        bail!("no benchmark begins with {}; there are {}", arguments.names.join(" or "), names.join(", "));
    }
    let model = model(&device);
    let folder = exchange(&model)?;
    let mut peer = match &arguments.peer {
        Some(python) => Some(Peer::start(python, &folder)?),
        None => None,
    };
    println!("{} on {} ({})", processor(), device.choice, device.name);
    match &peer {
        Some(peer) => println!("peer: {}, the better of 1 and {} threads", peer.version, threads()),
        None => println!("ours alone: --peer PYTHON compares with PyTorch (see --help)"),
    }
    println!("{} rounds, medians\n", arguments.rounds);
    let mut lines = Vec::new();
    for (name, work) in work {
        lines.push(measure(name, work, &model, peer.as_mut(), arguments.rounds)?);
    }
    if with_memory {
        lines.extend(memory(arguments, &folder)?);
    }
    drop(peer);
    std::fs::remove_dir_all(&folder).ok();
    print_table(&lines);
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&lines)? + "\n")
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

/// The model that is measured: 4 layers, d 128.
fn model(device: &SelectedDevice) -> Transformer {
    let shape = ModelConfig::preset(Preset::Micro, 1024);
    let config = ModelConfig { num_hidden_layers: 4, num_key_value_heads: 4, max_position_embeddings: 512, ..shape };
    config.init(1, &device.device)
}

/// Rows of random tokens, the same on every call.
fn tokens(rows: usize, length: usize) -> Vec<Vec<u32>> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        // xorshift64: any tokens will do, as long as both sides have the same.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 1024) as u32
    };
    (0..rows).map(|_| (0..length).map(|_| next()).collect()).collect()
}

/// The tokens of a benchmark.
fn batch(work: Work) -> Vec<Vec<u32>> {
    match work {
        // One more than is read: the last one is only predicted.
        Work::Train { sequences, length } => tokens(sequences, length + 1),
        Work::Prefill { sequences, length } => tokens(sequences, length),
        Work::Decode { rows } => tokens(rows, PROMPT),
        Work::Grpo => tokens(GROUPS, PROMPT),
    }
}

/// Writes what both sides work on into a new folder.
fn exchange(model: &Transformer) -> anyhow::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("parl-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("config.json"), model.config.to_hugging_face().to_string())?;
    let weights = pollster::block_on(model.to_host());
    std::fs::write(folder.join("model.safetensors"), to_safetensors(&weights, Precision::F32))?;
    let mut batches: serde_json::Map<String, Json> =
        BENCHMARKS.iter().map(|(name, work)| ((*name).to_owned(), json!(batch(*work)))).collect();
    batches.insert("generations".to_owned(), json!(GENERATIONS));
    batches.insert("new".to_owned(), json!(NEW));
    std::fs::write(folder.join("batches.json"), Json::Object(batches).to_string())?;
    Ok(folder)
}

/// Ours and the peer in turns.
fn measure(
    name: &'static str,
    work: Work,
    model: &Transformer,
    mut peer: Option<&mut Peer>,
    rounds: u32,
) -> anyhow::Result<Line> {
    let progress = ProgressBar::new(u64::from(rounds + 1)).with_message(name);
    progress.set_style(indicatif::ProgressStyle::with_template("{msg:14} {bar:30} {pos}/{len}").expect("a template"));
    let mut ours_once = ours(work, model)?;
    let (mut ours, mut one, mut all) = (Vec::new(), Vec::new(), Vec::new());
    // The first round warms both up.
    for round in 0..=rounds {
        let seconds = ours_once()?;
        let mut of_peer = None;
        if let Some(peer) = &mut peer {
            of_peer = Some((peer.seconds(name, 1)?, peer.seconds(name, threads())?));
            // Threads of the peer may still be spinning.
            std::thread::sleep(Duration::from_millis(50));
        }
        progress.inc(1);
        if round > 0 {
            ours.push(seconds);
            if let Some((with_one, with_all)) = of_peer {
                one.push(with_one);
                all.push(with_all);
            }
        }
    }
    progress.finish_and_clear();
    let peer = peer.is_some().then(|| median(&mut one).min(median(&mut all)));
    let ours = median(&mut ours);
    let line = |unit, of: &dyn Fn(f64) -> f64| Line {
        name,
        ours: of(ours),
        peer: peer.map(of),
        unit,
        ratio: peer.map(|peer| of(ours) / of(peer)),
    };
    Ok(match work {
        Work::Decode { rows } => line("tokens/s", &|seconds| (rows * NEW) as f64 / seconds),
        _ => line("ms", &|seconds| seconds * 1e3),
    })
}

/// A function that does the work once and returns its seconds.
fn ours<'m>(work: Work, model: &'m Transformer) -> anyhow::Result<Box<dyn FnMut() -> anyhow::Result<f64> + 'm>> {
    let batch = batch(work);
    Ok(match work {
        Work::Train { sequences, .. } => {
            let data = batch.into_iter().map(|tokens| Sequence::new(Vec::new(), tokens)).collect();
            let mut trainer = SftTrainer::new(model, data, sft_options(sequences))?;
            Box::new(move || {
                let begun = Instant::now();
                pollster::block_on(trainer.step())?;
                Ok(begun.elapsed().as_secs_f64())
            })
        }
        Work::Prefill { .. } => Box::new(move || {
            let prompts: Vec<&[u32]> = batch.iter().map(Vec::as_slice).collect();
            let rows: Vec<usize> = (0..prompts.len()).collect();
            let begun = Instant::now();
            let (logits, _) = model.prefill(&prompts, &rows, 1);
            logits.into_data();
            Ok(begun.elapsed().as_secs_f64())
        }),
        Work::Decode { .. } => Box::new(move || {
            let groups: Vec<Group> = batch
                .iter()
                .enumerate()
                .map(|(index, prompt)| Group { prompt: prompt.clone(), sequences: vec![index as u64] })
                .collect();
            let mut generation = Generation::start(model, &groups, &generation_options())?;
            let begun = Instant::now();
            while !generation.is_done() {
                pollster::block_on(generation.step())?;
            }
            Ok(begun.elapsed().as_secs_f64())
        }),
        Work::Grpo => {
            let source = PromptSource::new(Prompts(batch), generation_options(), Cancel::default());
            let mut trainer = GrpoTrainer::new(model, source, grpo_options())?;
            Box::new(move || {
                let begun = Instant::now();
                pollster::block_on(trainer.step())?;
                Ok(begun.elapsed().as_secs_f64())
            })
        }
    })
}

/// Prompts whose rewards vary with the first sampled token.
struct Prompts(Vec<Vec<u32>>);

impl PromptTasks for Prompts {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn prompt(&self, task: usize) -> (String, Vec<u32>) {
        (task.to_string(), self.0[task].clone())
    }

    fn reward_terms(&self) -> Vec<RewardTerm> {
        vec![RewardTerm { name: "remainder".to_owned(), weight: 1.0 }]
    }

    fn rewards(&self, _: usize, completion: &Completion) -> Vec<Option<f64>> {
        vec![Some(f64::from(completion.tokens[0] % 7))]
    }
}

const SCHEDULE: Schedule =
    Schedule { peak: 1e-4, warmup_steps: 0, total_steps: 1000, kind: ScheduleKind::Constant, min_ratio: 1.0 };

fn sft_options(batch_size: usize) -> SftOptions {
    SftOptions {
        batch_size,
        packed_tokens: None,
        gradient_accumulation_steps: 1,
        shuffle: false,
        schedule: SCHEDULE,
        optimizer: AdamWOptions::default(),
        seed: 1,
        gradient_checkpointing: false,
    }
}

fn grpo_options() -> GrpoOptions {
    GrpoOptions {
        num_generations: GENERATIONS,
        batch_size: GROUPS * GENERATIONS,
        gradient_accumulation_steps: 1,
        steps_per_generation: 1,
        loss: LossOptions::default(),
        scale_rewards: ScaleRewards::Group,
        advantage_level: AdvantageLevel::Trajectory,
        num_iterations: 1,
        temperature: 1.0,
        max_completion_length: NEW,
        mask_truncated_completions: false,
        max_resample_rounds: 0,
        schedule: SCHEDULE,
        optimizer: AdamWOptions::default(),
        gradient_checkpointing: false,
    }
}

fn generation_options() -> GenerationOptions {
    GenerationOptions {
        sampling: SamplingOptions::default(),
        max_new_tokens: NEW,
        // Every sequence has its full length, as on the other side.
        stop_tokens: Vec::new(),
        seed: 1,
        constraint: None,
    }
}

/// Memory of a process that trains on 64 × 200 tokens, ours and the peer's, each in a process of its own.
fn memory(arguments: &Arguments, folder: &Path) -> anyhow::Result<Vec<Line>> {
    let output = Command::new(std::env::current_exe()?)
        .args(["bench", "--memory-child", "--device", arguments.device.name()])
        .output()
        .context("parl cannot start itself")?;
    if !output.status.success() {
        bail!("measuring memory failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let ours: Memory = serde_json::from_slice(&output.stdout)?;
    let peer = match &arguments.peer {
        Some(python) => Some(Peer::start(python, folder)?.ask::<Memory>(&json!({"name": "memory"}))?),
        None => None,
    };
    let line = |name, of: &dyn Fn(&Memory) -> f64| Line {
        name,
        ours: of(&ours) / 1e6,
        peer: peer.as_ref().map(|peer| of(peer) / 1e6),
        unit: "MB",
        ratio: peer.as_ref().map(|peer| of(&ours) / of(peer)),
    };
    Ok(vec![line(MEMORY, &|m| m.peak - m.before), line(MEMORY_PROCESS, &|m| m.peak)])
}

/// Resident memory in bytes: before the model was made, and the most.
#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    before: f64,
    peak: f64,
}

fn memory_child(device: &SelectedDevice) -> anyhow::Result<()> {
    let unknown = "this system does not tell a process its memory";
    let before = platform::resident_memory_bytes().context(unknown)? as f64;
    let model = model(device);
    let mut once = ours(Work::Train { sequences: 64, length: 200 }, &model)?;
    for _ in 0..3 {
        once()?;
    }
    let peak = platform::peak_memory_bytes().context(unknown)? as f64;
    println!("{}", serde_json::to_string(&Memory { before, peak })?);
    Ok(())
}

/// The other side: a Python process that answers requests.
struct Peer {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    version: String,
}

impl Peer {
    fn start(python: &Path, folder: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(python)
            .args(["-c", PEER])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} does not start; --peer takes a Python with torch", python.display()))?;
        let requests = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut peer = Self { child, requests, answers, version: String::new() };
        let hello: Json =
            peer.answer().context("the peer needs torch and safetensors: pip install torch safetensors")?;
        let word = |name: &str| hello[name].as_str().unwrap_or("?").to_owned();
        peer.version = format!("PyTorch {} on Python {}", word("torch"), word("python"));
        Ok(peer)
    }

    fn ask<T: for<'de> Deserialize<'de>>(&mut self, request: &Json) -> anyhow::Result<T> {
        writeln!(self.requests, "{request}")?;
        self.answer()
    }

    fn answer<T: for<'de> Deserialize<'de>>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("the peer ended; what it wrote above says why");
        }
        Ok(serde_json::from_str(&line)?)
    }

    fn seconds(&mut self, name: &str, threads: usize) -> anyhow::Result<f64> {
        let answer: Json = self.ask(&json!({"name": name, "threads": threads}))?;
        answer["seconds"].as_f64().context("the peer answers with seconds")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn threads() -> usize {
    platform::available_cores().max(2)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// The processor's name, where the system tells it.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let name = name.map_or("a processor without a name", |(_, name)| name.trim());
    format!("{name}, {} cores", platform::available_cores())
}

fn print_table(lines: &[Line]) {
    println!("{:<16} {:>12} {:>12} {:<10} {:>7}", "name", "ours", "peer", "unit", "ratio");
    for line in lines {
        let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
        let ratio = line.ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        let (ours, peer) = (number(Some(line.ours)), number(line.peer));
        println!("{:<16} {ours:>12} {peer:>12} {:<10} {ratio:>7}", line.name, line.unit);
    }
}
