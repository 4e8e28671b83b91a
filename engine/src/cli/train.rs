//! `parl train`: a run from a configuration, or from where it stopped.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use parl_mt::device::{self, DEVICE_VARIABLE, DeviceChoice, SelectedDevice};
use parl_mt::model::ModelConfig;
use parl_mt::platform::storage::FileStorage;
use parl_mt::train::build::{BuiltRun, RunInputs, build};
use parl_mt::train::config::{self, Method, RunConfig};
use parl_mt::train::event::JsonLines;
use parl_mt::train::run_folder::{CheckpointFiles, RunInfo};
use parl_mt::train::{RunControl, RunEnd, RunFolder, Trainer, run as run_loop};

use super::display::{Display, Verbosity, thousands};

/// What to train.
#[derive(Args)]
#[command(after_help = HELP)]
pub struct Arguments {
    /// Options that override the file's: section.key=value, the value as in TOML (quotes may be left out)
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The configuration (TOML)
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Go on with the run in this folder, from its latest checkpoint
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "dir"])]
    resume: Option<PathBuf>,
    /// Folder for this run [default: run.name in run.dir]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where to compute: auto, flex (CPU), wgpu, vulkan, metal, cuda
    #[arg(long, value_name = "DEVICE", env = DEVICE_VARIABLE)]
    device: Option<DeviceChoice>,
    /// Print the resolved configuration and what it amounts to; train nothing
    #[arg(long)]
    dry_run: bool,
    /// Print every option with its meaning and default; those of one section with a name, such as grpo
    #[arg(long, value_name = "SECTION", num_args = 0..=1, default_missing_value = "")]
    options: Option<String>,
    /// Show evaluations, checkpoints and warnings only
    #[arg(long, short)]
    quiet: bool,
    /// Write every event to stdout as a line of JSON instead of a progress display
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

const HELP: &str = "\
Examples:
  Learn to add two numbers from solved examples; everything else has a default:
    parl train data.task=addition

  The same from a file, with two options changed:
    parl train --config addition.toml optimizer.learning_rate=3e-4 run.seed=7

  See what a configuration comes to, and what there is to set:
    parl train --config addition.toml --dry-run
    parl train --options grpo

  Go on after Ctrl-C or a crash, or train a finished run for longer:
    parl train --resume runs/sft-addition-nano-seed0
    parl train --resume runs/sft-addition-nano-seed0 sft.max_steps=2000

  Improve that model by its rewards:
    parl train method=grpo data.task=addition model.path=runs/sft-addition-nano-seed0/checkpoints/step-001000

Ctrl-C ends the run after the current step, with a checkpoint; a second one ends it at once.

Environment:
  PARL_DEVICE  the device, as --device; both go before run.device of the file";

/// Trains, or says what would be trained.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(section) = &arguments.options {
        return print_options(section);
    }
    let mut overrides = arguments.overrides.clone();
    if let Some(device) = arguments.device {
        overrides.push(format!("run.device={device}"));
    }
    match &arguments.resume {
        Some(folder) => resume(arguments, folder, &overrides),
        None => start(arguments, &overrides),
    }
}

fn start(arguments: &Arguments, overrides: &[String]) -> anyhow::Result<()> {
    let (text, name) = match &arguments.config {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("{} does not read", path.display()))?;
            (text, path.display().to_string())
        }
        None => (String::new(), "the command line".to_owned()),
    };
    let config = RunConfig::parse(&text, &name, overrides)?;
    let device = device::select(config.run.device)?;
    let folder = arguments.dir.clone().unwrap_or_else(|| Path::new(&config.run.dir).join(config.name()));
    if arguments.dry_run {
        return print_plan(&config, &device, &folder);
    }
    let control = RunControl::new();
    let built = build_trainer(&config, &device, None)?;
    let mut info = RunInfo::new(&config, &device, built.parameters);
    info.data_sha256 = built.data_sha256;
    info.tokenizer_sha256 = built.tokenizer_sha256;
    let folder = pollster::block_on(RunFolder::create(FileStorage::new(folder), config, info))?;
    drive(built.trainer, folder, &device, arguments, control)
}

fn resume(arguments: &Arguments, folder: &Path, overrides: &[String]) -> anyhow::Result<()> {
    let folder = pollster::block_on(RunFolder::open(FileStorage::new(folder), overrides))?;
    let device = device::select(folder.config().run.device)?;
    if arguments.dry_run {
        return print_plan(folder.config(), &device, folder.storage().root());
    }
    let checkpoint = match folder.latest_checkpoint().map(|manifest| manifest.step) {
        Some(step) => Some(pollster::block_on(folder.load_checkpoint(step))?),
        None => None,
    };
    let control = RunControl::new();
    let built = build_trainer(folder.config(), &device, checkpoint)?;
    for (name, hash) in &built.data_sha256 {
        if folder.info().data_sha256.get(name).is_some_and(|before| before != hash) {
            bail!("{name} is not the data that this run began with: put that back, or start a new run");
        }
    }
    if built.tokenizer_sha256 != folder.info().tokenizer_sha256 {
        bail!("the tokenizer is not the one that this run began with: put that back, or start a new run");
    }
    drive(built.trainer, folder, &device, arguments, control)
}

/// Builds what a configuration describes; from a checkpoint's files where there is one.
fn build_trainer(
    config: &RunConfig,
    device: &SelectedDevice,
    checkpoint: Option<CheckpointFiles>,
) -> anyhow::Result<BuiltRun> {
    Ok(build(config, &read_inputs(config)?, &device.device, checkpoint.as_ref())?)
}

/// Reads the files that a configuration names.
fn read_inputs(config: &RunConfig) -> anyhow::Result<RunInputs> {
    let read = |path: &Path, option: &str| {
        std::fs::read(path).with_context(|| format!("{} of {option} does not read", path.display()))
    };
    let named =
        |path: &Option<String>, option: &str| path.as_ref().map(|path| read(Path::new(path), option)).transpose();
    let mut inputs = RunInputs {
        data: named(&config.data.path, "data.path")?,
        eval_data: named(&config.data.eval_path, "data.eval_path")?,
        tokenizer: named(&config.tokenizer.path, "tokenizer.path")?,
        chat_template: named(&config.tokenizer.chat_template, "tokenizer.chat_template")?
            .map(|bytes| String::from_utf8(bytes).context("tokenizer.chat_template is not UTF-8"))
            .transpose()?,
        model: None,
    };
    if let Some(folder) = config.model.path.as_ref().map(Path::new) {
        let file = |name: &str| read(&folder.join(name), "model.path");
        let shape = String::from_utf8(file("config.json")?).context("config.json of model.path is not UTF-8")?;
        inputs.model = Some((shape, file("model.safetensors")?));
        if inputs.tokenizer.is_none() {
            inputs.tokenizer = Some(file("tokenizer.json")?);
        }
        if inputs.chat_template.is_none() {
            inputs.chat_template = std::fs::read_to_string(folder.join("chat_template.jinja")).ok();
        }
    }
    Ok(inputs)
}

/// Runs the loop to its end, with Ctrl-C heard and progress shown.
fn drive<T: Trainer>(
    mut trainer: T,
    mut folder: RunFolder<FileStorage>,
    device: &SelectedDevice,
    arguments: &Arguments,
    control: RunControl,
) -> anyhow::Result<()> {
    let _lock = lock(folder.storage().root())?;
    eprintln!("{}  on {} ({}; {})", folder.describe(), device.choice, device.name, device.reason);
    // The loop runs on this thread; the other one only listens.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.spawn(stop_on_ctrl_c(control.clone()));
    let end = if arguments.json {
        let mut lines = JsonLines::new(std::io::stdout());
        let end = runtime.block_on(run_loop(&mut trainer, &mut folder, &mut lines, &control));
        lines.finish()?;
        end?
    } else {
        let verbosity = if arguments.quiet { Verbosity::Quiet } else { Verbosity::Progress };
        let mut display = Display::new(verbosity, folder.config().max_steps(), trainer.step_number());
        runtime.block_on(run_loop(&mut trainer, &mut folder, &mut display, &control))?
    };
    match end {
        RunEnd::Finished(_) => {
            let step = trainer.step_number();
            eprintln!("The model is in {}", folder.describe_checkpoint(step));
            Ok(())
        }
        RunEnd::Stopped(_) => {
            eprintln!("Go on with: parl train --resume {}", folder.describe());
            // As a shell says of a program that Ctrl-C ended, so that `parl train && …` does not go on.
            std::process::exit(130);
        }
    }
}

/// One process at a time writes to a run. The lock is the system's and goes with the process, however it ends.
fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join(".lock");
    let file = File::create(&path).with_context(|| format!("{} cannot be made", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => bail!("another process is training in {}", folder.display()),
        // A file system without locks: then nobody holds one.
        Err(std::fs::TryLockError::Error(_)) => Ok(file),
    }
}

async fn stop_on_ctrl_c(control: RunControl) {
    // Without a way to hear of Ctrl-C, the process ends by it, and the run can be resumed.
    if tokio::signal::ctrl_c().await.is_err() {
        return;
    }
    eprintln!("\nStopping after this step, with a checkpoint. Ctrl-C again stops at once.");
    control.stop("stopped by Ctrl-C");
    if tokio::signal::ctrl_c().await.is_ok() {
        std::process::exit(130);
    }
}

/// The resolved configuration, with what it amounts to as comments: the output is a configuration itself.
fn print_plan(config: &RunConfig, device: &SelectedDevice, folder: &Path) -> anyhow::Result<()> {
    let model = model_config(config)?;
    let per_step = config.tokens_per_step();
    let sequences = if config.method == Method::Sft { "sequences" } else { "completions, and their prompts" };
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "# {} parameters, with {} tokens in the vocabulary",
        thousands(model.num_parameters() as f64),
        model.vocab_size
    )?;
    writeln!(
        out,
        "# {} steps of up to {} tokens ({} {sequences})",
        config.max_steps(),
        thousands(per_step.tokens as f64),
        per_step.sequences
    )?;
    writeln!(out, "# device: {} ({}); {}", device.choice, device.name, device.reason)?;
    writeln!(out, "# folder: {}", folder.display())?;
    writeln!(out)?;
    write!(out, "{}", config.to_toml())?;
    Ok(())
}

/// The shape of the model that a configuration starts from. A vocabulary that is still to be made is taken at its full size.
fn model_config(config: &RunConfig) -> anyhow::Result<ModelConfig> {
    let Some(folder) = &config.model.path else {
        return Ok(ModelConfig::preset(config.model.preset, config.tokenizer.vocab_size));
    };
    let path = Path::new(folder).join("config.json");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("{} does not read; model.path is a folder with config.json and model.safetensors", path.display())
    })?;
    Ok(ModelConfig::from_hugging_face(&text)?)
}

fn print_options(section: &str) -> anyhow::Result<()> {
    let belongs = |name: &str| match name.split_once('.') {
        Some((of, _)) => section.is_empty() || of == section,
        None => section.is_empty() || name == section,
    };
    let options: Vec<_> = config::options().into_iter().filter(|option| belongs(&option.name)).collect();
    if options.is_empty() {
        let of = |option: config::OptionInfo| Some(option.name.split_once('.')?.0.to_owned());
        let mut names: Vec<String> = config::options().into_iter().filter_map(of).collect();
        names.dedup();
        bail!("there is no section `{section}`; take one of {}", names.join(", "));
    }
    let mut out = std::io::stdout().lock();
    for option in options {
        let range = if option.range.is_empty() { String::new() } else { format!(", {}", option.range) };
        let default =
            if option.default.is_empty() { "no default".to_owned() } else { format!("default {}", option.default) };
        writeln!(out, "{}  ({}{range}; {default})", option.name, option.kind)?;
        for line in option.meaning.lines() {
            writeln!(out, "    {line}")?;
        }
    }
    Ok(())
}
