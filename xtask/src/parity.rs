//! `cargo xtask parity`: our numbers beside those of TRL, transformers and PyTorch.
//!
//! Each script `tests/parity/*_vectors.py` freezes what such a library gives, and with `--check` compares the frozen file with
//! what it gives now; the Rust suites `parity*` compare ours with the frozen files. Both together are parity, live.

use crate::needs;
use crate::shell::{self, Result};
use crate::test::{self, Session, Skip};
use std::path::PathBuf;
use std::process::Command;

/// The libraries that the frozen vectors were made with; the rest is what these need.
const PACKAGES: [&str; 9] = [
    "torch==2.15.0",
    "transformers==5.23.0",
    "trl==1.16.0",
    "peft==0.21.2",
    "tokenizers==0.23.3",
    "safetensors==0.8.0",
    "datasets==5.2.0",
    "accelerate==1.15.0",
    "numpy==2.4.6",
];

/// PyPI's torch for x86-64 Linux brings the CUDA libraries with it.
const DOWNLOAD: &str = "5.6 GB, most of it PyPI's torch with its CUDA libraries";

/// The folder of the environment in the cache.
const ENVIRONMENT: &str = "parity";

/// Runs everything; downloads the peers only if told to.
pub fn parity(download: bool) -> Result {
    let peer = python(download)?;
    let mut session = Session::default();
    for script in scripts() {
        let name = script.file_name().unwrap_or_default().to_string_lossy().into_owned();
        session.suite(&name, |_| {
            let python = peer.as_ref().ok_or_else(|| {
                Skip("no peers; `cargo xtask parity --yes` downloads them, or set PARL_PARITY_PYTHON".to_owned())
            })?;
            let mut command = Command::new(python);
            command.arg(&script).arg("--check").current_dir(shell::root());
            // No caches of compiled Python between the sources.
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            Ok(shell::run(&mut command))
        });
    }
    session.suite("parity suites", |counts| {
        let mut cargo = shell::cargo();
        // The selection that `test` makes too, for one burn.
        cargo.args(["test", "--workspace", "--no-fail-fast"]);
        let names = test::integration_tests().into_iter().filter(|name| name.starts_with("parity"));
        cargo.args(test::targets(names));
        // Tests that let a peer load what ours has saved.
        if let Some(python) = &peer {
            cargo.env("PARL_PARITY_PYTHON", python);
        }
        Ok(test::tests(&mut cargo, counts))
    });
    session.finish()?;
    if peer.is_none() {
        println!("Ours was compared with frozen vectors alone: the libraries themselves did not run.");
    }
    Ok(())
}

/// The environment of our own, if it is complete.
pub fn find_python() -> Option<PathBuf> {
    needs::find_environment(ENVIRONMENT, &PACKAGES)
}

/// A Python with the peers: what `PARL_PARITY_PYTHON` names, or an environment of our own, which is made only if told to.
fn python(download: bool) -> Result<Option<PathBuf>> {
    if let Some(python) = std::env::var_os("PARL_PARITY_PYTHON").filter(|value| !value.is_empty()) {
        let python = PathBuf::from(python);
        let found = shell::output(Command::new(&python).args(["-c", "import torch, transformers, trl, peft"]));
        found.map_err(|error| format!("PARL_PARITY_PYTHON={} has not all the peers: {error}", python.display()))?;
        return Ok(Some(python));
    }
    if let Some(python) = find_python() {
        return Ok(Some(python));
    }
    let folder = shell::cache().join(ENVIRONMENT);
    shell::say(&format!("The peers are missing. They are {DOWNLOAD}, and go to {}", folder.display()));
    let automatic = std::env::var("CI").is_ok_and(|value| value == "true");
    if download || automatic { needs::environment(ENVIRONMENT, &PACKAGES, &[], "parity").map(Some) } else { Ok(None) }
}

/// `tests/parity/*_vectors.py`, in order.
fn scripts() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(shell::root().join("tests/parity")).into_iter().flatten().flatten();
    let is_script = |file: &PathBuf| file.to_string_lossy().ends_with("_vectors.py");
    let mut scripts: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_script).collect();
    scripts.sort();
    scripts
}
