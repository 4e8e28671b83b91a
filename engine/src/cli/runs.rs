//! `parl runs …`: look at runs, and hand their metrics to other programs.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use parl_mt::platform::storage::FileStorage;
use parl_mt::train::RunFolder;
use parl_mt::train::event::{LoggedEvent, TrainEvent};
use parl_mt::train::export;
use parl_mt::train::metrics::{self, Metrics};

use super::display::{duration, number, size, thousands};

/// What to do with runs.
#[derive(Args)]
#[command(after_help = "\
Examples:
  parl runs list
  parl runs show runs/sft-addition-nano-seed0
  parl runs show runs/grpo-addition-nano-seed0 --rollouts
  parl runs export runs/sft-addition-nano-seed0 --format csv > metrics.csv
  parl runs export runs/* --format tensorboard --out boards    then: tensorboard --logdir boards")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the runs in a folder
    List {
        /// Folder that holds runs
        #[arg(value_name = "DIR", default_value = "runs")]
        dir: PathBuf,
    },
    /// Show a run: what it runs on, its last metrics, its checkpoints
    Show {
        /// The run's folder
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Show the latest sample of rollouts as well; those of a step with its number
        #[arg(long, value_name = "STEP", num_args = 0..=1, default_missing_value = "latest")]
        rollouts: Option<String>,
    },
    /// Write a run's metrics for a spreadsheet or for TensorBoard
    Export {
        /// The runs' folders
        #[arg(value_name = "DIR", required = true)]
        dirs: Vec<PathBuf>,
        /// The format
        #[arg(long)]
        format: Format,
        /// Where to write: a file for csv [default: stdout], a folder for tensorboard [default: tensorboard/ in the run's folder]
        #[arg(long, value_name = "PATH")]
        out: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A table: one line for each step, one column for each metric
    Csv,
    /// An event file that TensorBoard reads
    Tensorboard,
}

/// Does it.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::List { dir } => list(dir),
        Command::Show { dir, rollouts } => show(dir, rollouts.as_deref()),
        Command::Export { dirs, format: Format::Csv, out } => match dirs.as_slice() {
            [dir] => export_csv(dir, out.as_deref()),
            _ => bail!("csv takes one run at a time"),
        },
        Command::Export { dirs, format: Format::Tensorboard, out } => {
            dirs.iter().try_for_each(|dir| export_tensorboard(dir, out.as_deref()))
        }
    }
}

fn open(dir: &Path) -> anyhow::Result<RunFolder<FileStorage>> {
    Ok(pollster::block_on(RunFolder::open(FileStorage::new(dir), &[]))?)
}

fn events(folder: &RunFolder<FileStorage>) -> anyhow::Result<Vec<LoggedEvent>> {
    Ok(pollster::block_on(folder.events())?)
}

/// What a list and a page say about a run.
struct Summary {
    step: u64,
    state: String,
    last: Option<Metrics>,
    evaluated: Option<Metrics>,
    seconds: f64,
}

fn summary(events: &[LoggedEvent]) -> Summary {
    let mut summary = Summary { step: 0, state: "no step yet".to_owned(), last: None, evaluated: None, seconds: 0.0 };
    for logged in events {
        summary.step = summary.step.max(logged.event.step());
        match &logged.event {
            TrainEvent::Step { metrics, .. } => {
                // Time of training, not of the pauses in between.
                summary.seconds += metrics.get(metrics::STEP_TIME).unwrap_or(0.0);
                summary.state = "running, or was killed".to_owned();
                summary.last = Some(metrics.clone());
            }
            TrainEvent::Evaluated { metrics, .. } => summary.evaluated = Some(metrics.clone()),
            TrainEvent::Finished { .. } => summary.state = "finished".to_owned(),
            TrainEvent::Stopped { reason, .. } => summary.state = reason.clone(),
            TrainEvent::Paused { .. } => summary.state = "paused".to_owned(),
            TrainEvent::Resumed { .. } => summary.state = "running, or was killed".to_owned(),
            _ => {}
        }
    }
    summary
}

fn list(dir: &Path) -> anyhow::Result<()> {
    let mut names = Vec::new();
    let entries = std::fs::read_dir(dir)
        .with_context(|| format!("{} cannot be listed; `parl train` makes runs", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.join("run.json").is_file() {
            names.push(path);
        }
    }
    names.sort();
    let mut out = std::io::stdout().lock();
    if names.is_empty() {
        writeln!(out, "There are no runs in {}.", dir.display())?;
        return Ok(());
    }
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let width = names.iter().map(|path| name(path).chars().count()).max().unwrap_or(0);
    for path in &names {
        let told = open(path).and_then(|folder| {
            let summary = summary(&events(&folder)?);
            let metric = |name: &str| Some(format!("{name} {}", number(summary.last.as_ref()?.get(name)?)));
            let metrics = [metric(metrics::LOSS), metric(metrics::REWARD)].into_iter().flatten().collect::<Vec<_>>();
            Ok(format!(
                "{:>6}/{:<6}  {:<32}  {}",
                summary.step,
                folder.config().max_steps(),
                metrics.join("  "),
                summary.state
            ))
        });
        // One run that does not read is no reason not to list the others.
        let told = told.unwrap_or_else(|error| format!("{error:#}"));
        writeln!(out, "{:<width$}  {}", name(path), told.trim_end())?;
    }
    Ok(())
}

fn show(dir: &Path, rollouts: Option<&str>) -> anyhow::Result<()> {
    let folder = open(dir)?;
    let summary = summary(&events(&folder)?);
    let (info, config) = (folder.info(), folder.config());
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", folder.describe())?;
    writeln!(
        out,
        "  method      {}, {} parameters, seed {}",
        config.method.name(),
        thousands(info.parameters as f64),
        info.seed
    )?;
    writeln!(out, "  device      {} ({}; {})", info.device.choice, info.device.name, info.device.reason)?;
    let commit = info.git_commit.as_deref().map(|commit| format!(", commit {commit}")).unwrap_or_default();
    writeln!(out, "  program     parl {}{commit}", info.program)?;
    writeln!(out, "  steps       {} of {}, {}", summary.step, config.max_steps(), summary.state)?;
    if summary.seconds > 0.0 {
        writeln!(out, "  time        {}", duration(summary.seconds))?;
    }
    for (title, values) in [("last step", &summary.last), ("last evaluation", &summary.evaluated)] {
        if let Some(values) = values {
            writeln!(out, "\n{title}")?;
            for (name, value) in values.iter() {
                let info = metrics::info(name);
                let text = match info.map(|info| info.unit) {
                    Some("bytes") => size(value as u64),
                    Some(unit) => format!("{} {unit}", number(value)),
                    None => number(value),
                };
                writeln!(out, "  {name:<28}  {:<16}  {}", text.trim_end(), info.map_or("", |info| info.meaning))?;
            }
        }
    }
    if !folder.checkpoints().is_empty() {
        writeln!(out, "\ncheckpoints")?;
        let best = folder.best_checkpoint().map(|manifest| manifest.step);
        for manifest in folder.checkpoints().values() {
            let best = if best == Some(manifest.step) { "  (best)" } else { "" };
            writeln!(out, "  {}  {}{best}", folder.describe_checkpoint(manifest.step), size(manifest.bytes()))?;
        }
    }
    if let Some(step) = rollouts {
        let traced = pollster::block_on(folder.traced_steps())?;
        let step = match step {
            "latest" => traced.last().copied(),
            number => traced.iter().copied().find(|traced| traced.to_string() == number),
        };
        let Some(step) = step else {
            let steps: Vec<String> = traced.iter().map(u64::to_string).collect();
            bail!("there are no rollouts of that step; there are those of: {}", steps.join(", "));
        };
        for group in pollster::block_on(folder.rollouts(step))? {
            writeln!(out, "\nrollouts of step {step}\n  {}", group.prompt.replace('\n', "\n  "))?;
            for rollout in group.rollouts {
                let cut = if rollout.truncated { ", cut" } else { "" };
                writeln!(
                    out,
                    "  reward {}, advantage {}, {} tokens{cut}\n    {}",
                    number(rollout.reward),
                    number(rollout.advantage),
                    rollout.tokens,
                    rollout.completion.replace('\n', "\n    ")
                )?;
            }
        }
    }
    Ok(())
}

fn export_csv(dir: &Path, out: Option<&Path>) -> anyhow::Result<()> {
    let text = export::to_csv(&events(&open(dir)?)?);
    match out {
        Some(path) => std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display())),
        None => Ok(std::io::stdout().lock().write_all(text.as_bytes())?),
    }
}

fn export_tensorboard(dir: &Path, out: Option<&Path>) -> anyhow::Result<()> {
    let events = events(&open(dir)?)?;
    // TensorBoard takes the name of the folder for the name of the run.
    let folder = match out {
        Some(out) => out.join(dir.canonicalize()?.file_name().unwrap_or_default()),
        None => dir.join("tensorboard"),
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let path = folder.join(export::tensorboard_file_name(&events));
    std::fs::write(&path, export::to_tensorboard(&events))
        .with_context(|| format!("{} cannot be written", path.display()))?;
    writeln!(std::io::stdout(), "{}", path.display())?;
    Ok(())
}
