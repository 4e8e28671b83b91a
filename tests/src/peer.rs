//! The official package as a peer: a Python process that answers trajectories (`python/official.py`).

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result};
use parl_mt::agent::Trajectory;
use parl_mt::env::bfcl::{BfclContext, BfclData};
use parl_mt::python::PythonVersion;
use serde::{Deserialize, Serialize};

/// A trajectory for the peer.
#[derive(Clone, Debug, Serialize)]
pub struct Question<'a> {
    /// The task.
    pub id: &'a str,
    /// Comes back unchanged.
    pub case: String,
    /// The trajectory.
    pub turns: &'a Trajectory,
}

/// What the official package makes of a trajectory.
#[derive(Clone, Debug, Deserialize)]
pub struct Answer {
    /// The task.
    pub id: String,
    /// As asked.
    pub case: String,
    /// The verdict.
    #[serde(default)]
    pub valid: bool,
    /// BFCL's name of the failure.
    pub error_type: Option<String>,
    /// Result strings, a list per turn.
    #[serde(default)]
    pub execution: Vec<Vec<String>>,
    /// The `repr` of each attribute of the model's state after all turns, by class and name.
    pub state: Option<BTreeMap<String, BTreeMap<String, String>>>,
    /// The peer gave the line up.
    #[serde(default)]
    pub timeout: bool,
    /// Which deviations its calls touch.
    #[serde(default)]
    pub outside: Vec<String>,
}

/// What the peer says of itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Header {
    /// The Python's version, such as `3.11.7`.
    pub python: String,
    /// The folder that holds the package `bfcl_eval`.
    pub root: PathBuf,
    /// Today's date there.
    pub today: (i32, u32, u32),
}

impl Header {
    /// Which Python's behaviour the peer shows.
    pub fn python_version(&self) -> PythonVersion {
        if self.python.starts_with("3.11.") { PythonVersion::V3_11 } else { PythonVersion::V3_12 }
    }

    /// The data in the peer's package.
    pub fn data(&self) -> Result<BfclData> {
        Ok(BfclData::from_files(|name| std::fs::read(self.root.join(name)).ok())?)
    }

    /// The context in which our worlds should behave as the peer's.
    pub fn context(&self, data: &BfclData) -> BfclContext {
        BfclContext { python: self.python_version(), today: self.today, ..data.context() }
    }
}

/// How to start the peer.
#[derive(Clone, Debug)]
pub struct Peer {
    python: PathBuf,
    package: Option<PathBuf>,
    tasks: Option<PathBuf>,
}

/// Folder of our Python scripts.
pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

impl Peer {
    /// The peer that the environment names: `PARL_PYTHON` is a Python with bfcl-eval and mpmath, or `PARL_BFCL_PACKAGE`
    /// names the folder where they are unpacked.
    ///
    /// The error says what is missing, for people.
    pub fn from_environment() -> Result<Self, String> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let package = variable("PARL_BFCL_PACKAGE");
        match variable("PARL_PYTHON") {
            Some(python) => Ok(Self { python, package, tasks: None }),
            None => Err("PARL_PYTHON names no Python with bfcl-eval==2026.3.23 and mpmath==1.3.0 (`cargo xtask test` sets it up)".into()),
        }
    }

    /// A command that runs one of our scripts.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg("-B").arg(scripts().join(script));
        if let Some(package) = &self.package {
            command.arg("--package").arg(package);
        }
        // Sets print in one order, and dates do not depend on where this runs.
        command.env("PYTHONHASHSEED", "0").env("TZ", "UTC").env("PYTHONIOENCODING", "utf-8");
        command
    }

    /// The same peer with tasks of our own.
    pub fn with_tasks(self, tasks: &Path) -> Self {
        Self { tasks: Some(tasks.to_owned()), ..self }
    }

    /// Starts the peer.
    pub fn start(&self) -> Result<Session> {
        let mut child = self
            .command("official.py")
            .args(self.tasks.iter().flat_map(|tasks| ["--tasks".as_ref(), tasks.as_os_str()]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.python.display()))?;
        let stdin = child.stdin.take().context("the peer has no stdin")?;
        let mut stdout = BufReader::new(child.stdout.take().context("the peer has no stdout")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let header = serde_json::from_str(&line)
            .with_context(|| format!("the peer says {line:?}: has its Python bfcl-eval and mpmath?"))?;
        Ok(Session { child, stdin, stdout, header })
    }
}

/// A running peer. It ends when this is dropped.
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    header: Header,
}

impl Session {
    /// What the peer says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What the official package makes of a trajectory.
    pub fn ask(&mut self, question: &Question<'_>) -> Result<Answer> {
        writeln!(self.stdin, "{}", serde_json::to_string(question)?)?;
        self.stdin.flush()?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| {
            format!("the peer answers {line:?} to {}", serde_json::to_string(question).unwrap_or_default())
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Only our own child, and only if it does not end by itself on a closed pipe.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
