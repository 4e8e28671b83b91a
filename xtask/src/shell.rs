//! Processes, progress lines and the folders that every command uses.

use std::error::Error;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What every step returns; the message is for a person.
pub type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The target that browsers run.
pub const WASM: &str = "wasm32-unknown-unknown";

/// The top level of the workspace.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        // Cargo sets it at run time too, which is right even when clones share a target folder.
        let xtask = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
        let xtask = Path::new(&xtask);
        xtask.parent().unwrap_or(xtask).to_owned()
    })
}

/// Cargo's target folder, absolute.
pub fn target() -> &'static Path {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    TARGET.get_or_init(|| {
        if let Some(folder) = std::env::var_os("CARGO_TARGET_DIR") {
            return root().join(folder);
        }
        // Without the variable it may still be set in the user's Cargo configuration: ask where this program lies.
        let here = std::env::current_exe().unwrap_or_default();
        let tagged = here.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
        tagged.map_or_else(|| root().join("target"), Path::to_owned)
    })
}

/// The user's cache: things that outlive a clone and are cheap to lose.
pub fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"));
    base.join("parl-mt")
}

/// The file that a program's name stands for on `PATH`.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Cargo as it was called, with an absolute target folder and the workspace as working folder.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.env("CARGO_TARGET_DIR", target()).current_dir(root());
    command
}

/// A command as a person would type it.
pub fn show(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs a command in sight of the user.
pub fn run(command: &mut Command) -> Result {
    let status = command.status().map_err(|error| format!("`{}` did not start: {error}", show(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed ({status})", show(command)).into()) }
}

/// Runs a command out of sight and gives its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let out = command.stdin(Stdio::null()).output();
    let out = out.map_err(|error| format!("`{}` did not start: {error}", show(command)))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned());
    }
    let words = String::from_utf8_lossy(&out.stderr);
    Err(format!("`{}` failed ({}):\n{}", show(command), out.status, words.trim()).into())
}

/// Runs a command with its output in a file, which the error shows the end of.
pub fn run_logged(command: &mut Command, log: &Path) -> Result {
    std::fs::create_dir_all(log.parent().unwrap_or(log))?;
    let file = std::fs::File::create(log)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    run(command).map_err(|error| format!("{error}\n{}\n(all of it: {})", tail(log, 40), log.display()).into())
}

/// Runs a command that may hang, and stops it at the time limit.
pub fn run_within(command: &mut Command, limit: Duration) -> Result {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).spawn()?;
    loop {
        if let Some(status) = child.try_wait()? {
            return if status.success() {
                Ok(())
            } else {
                Err(format!("`{}` failed ({status})", show(command)).into())
            };
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Err(format!("`{}` did not end within {} s", show(command), limit.as_secs()).into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs a command, passes its standard output on, and hands each line of it to `see`.
pub fn run_seen(command: &mut Command, mut see: impl FnMut(&str)) -> Result {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| format!("`{}` did not start: {error}", show(command)))?;
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            see(&line);
        }
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed ({status})", show(command)).into()) }
}

/// The last lines of a file, or nothing when there is none.
pub fn tail(file: &Path, lines: usize) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn started() -> Instant {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    *STARTED.get_or_init(Instant::now)
}

/// Starts the clock of the progress lines.
pub fn start_clock() {
    started();
}

/// A progress line with the time since the program started.
pub fn say(text: &str) {
    // Standard error, so that progress and Cargo's own lines stay in order.
    let mut out = std::io::stderr().lock();
    _ = writeln!(out, "[{:>7.1} s] {text}", started().elapsed().as_secs_f64());
}

/// Runs a step between two progress lines.
pub fn step<T>(label: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say(&format!("{label} …"));
    let begun = Instant::now();
    let outcome = work();
    let seconds = begun.elapsed().as_secs_f64();
    match &outcome {
        Ok(_) => say(&format!("{label}: done in {seconds:.1} s")),
        Err(_) => say(&format!("{label}: FAILED after {seconds:.1} s")),
    }
    outcome
}

/// Asks a yes/no question; without a terminal the answer is no.
pub fn agree(question: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Fills a new folder through `fill` and gives it its final name last, so that a name means a finished folder.
pub fn make_folder(folder: &Path, fill: impl FnOnce(&Path) -> Result) -> Result {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = folder.with_file_name(name);
    remove_folder(&part)?;
    std::fs::create_dir_all(&part)?;
    if let Err(error) = fill(&part) {
        _ = remove_folder(&part);
        return Err(error);
    }
    remove_folder(folder)?;
    std::fs::rename(&part, folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(())
}

/// Removes a folder with all that it holds; none there is fine.
pub fn remove_folder(folder: &Path) -> Result {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", folder.display()).into())
        }
        _ => Ok(()),
    }
}

/// Copies a folder with all that it holds.
pub fn copy_folder(from: &Path, to: &Path) -> Result {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).map_err(|error| format!("{}: {error}", from.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() { copy_folder(&from, &to)? } else { _ = std::fs::copy(&from, &to)? }
    }
    Ok(())
}

/// Reads a text file; the error names it.
pub fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()).into())
}

/// A hash for file names and cache keys (FNV-1a, 64 bits): the same on every machine and with every compiler.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
