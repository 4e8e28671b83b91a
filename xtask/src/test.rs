//! `cargo xtask test`: every check and test, with a summary that tells what was skipped and why.

use crate::bundle::{self, Options};
use crate::needs;
use crate::shell::{self, Result};
use crate::wasm::Toolchain;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// Which part of the tests to run.
#[derive(Clone, Copy, PartialEq)]
pub enum Part {
    /// Formatting, lints, docs and tests of the native code.
    Native,
    /// Lints and builds for browsers.
    Wasm,
    /// The built page in headless Chromium.
    Browser,
    /// Our engine beside the official Python package.
    Python,
    /// The tensors on wgpu.
    Gpu,
}

/// How to test.
#[derive(Default)]
pub struct Plan {
    /// The inner loop: native checks alone, and stop at the first failure.
    pub quick: bool,
    /// One part instead of all.
    pub only: Option<Part>,
}

/// What became of a suite.
enum Outcome {
    Ran,
    Failed(String),
    Skipped(String),
}

struct Suite {
    name: String,
    outcome: Outcome,
    seconds: f64,
    passed: usize,
    failed: usize,
    skipped: usize,
    /// Why single tests of it did not run.
    skips: Vec<String>,
}

/// Why a suite did not run: not a failure, and never a pass.
pub struct Skip(pub String);

/// What became of a suite that ran.
pub type SuiteResult = std::result::Result<Result, Skip>;

/// How many tests of a suite passed, failed and did not run.
#[derive(Default)]
pub struct Counts {
    /// Whether `cargo test` ran, so that the numbers are its own.
    counted: bool,
    passed: usize,
    failed: usize,
    ignored: usize,
    /// Reasons of tests that found something missing and returned.
    skips: Vec<String>,
}

impl Counts {
    /// Adds the numbers of a `test result: …` line, and notes a `SKIPPED: reason`.
    ///
    /// Rust's harness knows no skipping while a test runs: such a test prints the line past the harness (see
    /// `parl_tests::skip`) and counts as passed there, but not here.
    fn see(&mut self, line: &str) {
        // The harness may have begun the line with the test's own name.
        if let Some((_, reason)) = line.split_once("SKIPPED: ") {
            self.skips.push(reason.trim().to_owned());
        }
        let Some(rest) = line.trim_start().strip_prefix("test result: ") else { return };
        let words: Vec<&str> = rest.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let Ok(number) = pair[0].parse::<usize>() else { continue };
            match pair[1] {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// Suites that ran, for the summary.
#[derive(Default)]
pub struct Session {
    fail_fast: bool,
    suites: Vec<Suite>,
}

impl Session {
    /// Runs a suite. One that counts no tests of its own counts as one test.
    pub fn suite(&mut self, name: &str, work: impl FnOnce(&mut Counts) -> SuiteResult) {
        if self.fail_fast && self.suites.iter().any(|suite| suite.failed > 0) {
            return;
        }
        shell::say(&format!("=== {name}"));
        let begun = Instant::now();
        let mut counts = Counts::default();
        let outcome = match work(&mut counts) {
            Ok(Ok(())) => Outcome::Ran,
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
            Err(Skip(reason)) => Outcome::Skipped(reason),
        };
        let Counts { counted, passed, mut failed, ignored, mut skips } = counts;
        let mut passed = passed.saturating_sub(skips.len());
        let outcome = match outcome {
            Outcome::Ran if counted && passed + failed + ignored + skips.len() == 0 => {
                Outcome::Skipped("it holds no test yet".to_owned())
            }
            outcome => outcome,
        };
        match &outcome {
            Outcome::Ran if !counted => passed = 1,
            Outcome::Failed(error) => {
                failed = failed.max(1);
                shell::say(&format!("{name}: FAILED. {error}"));
            }
            Outcome::Skipped(reason) => shell::say(&format!("{name}: SKIPPED. {reason}")),
            Outcome::Ran => {}
        }
        let seconds = begun.elapsed().as_secs_f64();
        if ignored > 0 {
            skips.push(format!("{ignored} tests marked #[ignore]"));
        }
        let skipped = ignored + skips.len() - usize::from(ignored > 0);
        self.suites.push(Suite { name: name.to_owned(), outcome, seconds, passed, failed, skipped, skips });
    }

    /// Prints the summary; fails if anything failed.
    pub fn finish(self) -> Result {
        println!("\n{:<28} {:>9} {:>7} {:>7} {:>8}", "suite", "seconds", "passed", "failed", "skipped");
        let mut total = (0, 0, 0);
        for suite in &self.suites {
            let skipped = suite.skipped + usize::from(matches!(suite.outcome, Outcome::Skipped(_)));
            println!(
                "{:<28} {:>9.1} {:>7} {:>7} {:>8}",
                suite.name, suite.seconds, suite.passed, suite.failed, skipped
            );
            total = (total.0 + suite.passed, total.1 + suite.failed, total.2 + skipped);
        }
        println!();
        for suite in &self.suites {
            match &suite.outcome {
                Outcome::Skipped(reason) => println!("skipped: {}: {reason}", suite.name),
                Outcome::Failed(error) => {
                    println!("FAILED: {}: {}", suite.name, error.lines().next().unwrap_or_default());
                }
                Outcome::Ran => {}
            }
            for reason in &suite.skips {
                println!("skipped: {}: {reason}", suite.name);
            }
        }
        // The last line, for whoever counts.
        println!("{} passed, {} failed, {} skipped", total.0, total.1, total.2);
        if total.1 == 0 { Ok(()) } else { Err("some tests failed".into()) }
    }
}

/// Runs the tests.
pub fn test(plan: &Plan) -> Result {
    let mut session = Session { fail_fast: plan.quick, ..Session::default() };
    let wanted = |part| plan.only.is_none_or(|only| only == part) && (!plan.quick || part == Part::Native);
    if wanted(Part::Native) {
        native(&mut session, plan.quick);
    }
    let mut dist = None;
    if wanted(Part::Wasm) || wanted(Part::Browser) {
        wasm(&mut session, &mut dist, wanted(Part::Wasm));
    }
    if wanted(Part::Browser) {
        browser(&mut session, dist);
    }
    if wanted(Part::Gpu) {
        gpu(&mut session);
    }
    if wanted(Part::Python) {
        session.suite("differential (Python)", |counts| {
            integration_test("differential")?;
            let python = needs::python().map_err(|error| Skip(error.to_string()))?;
            let mut cargo = shell::cargo();
            cargo
                // Environments alone: nothing of burn is compiled in release.
                .args([
                    "test",
                    "--release",
                    "--package",
                    "parl-tests",
                    "--no-default-features",
                    "--test",
                    "differential",
                ])
                .env("PARL_PYTHON", python);
            with_wheel(&mut cargo);
            Ok(tests(&mut cargo, counts))
        });
    }
    if plan.quick {
        shell::say("--quick: docs, wasm, browser, GPU and Python tests did not run");
    }
    session.finish()
}

fn native(session: &mut Session, quick: bool) {
    session.suite("format", |_| Ok(shell::run(shell::cargo().args(["fmt", "--all", "--check"]))));
    session.suite("clippy", |_| {
        let mut cargo = shell::cargo();
        cargo.args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
        Ok(shell::run(&mut cargo))
    });
    if !quick {
        session.suite("docs", |_| {
            let mut cargo = shell::cargo();
            cargo.args(["doc", "--quiet", "--no-deps", "--workspace", "--lib"]).env("RUSTDOCFLAGS", "-D warnings");
            Ok(shell::run(&mut cargo))
        });
    }
    // Every build selects the whole workspace, and targets by name: cargo unites the features of what is selected, and
    // another selection would be another burn, compiled anew.
    let workspace_test = |quick: bool| {
        let mut cargo = shell::cargo();
        cargo.args(["test", "--workspace"]);
        if !quick {
            cargo.arg("--no-fail-fast");
        }
        cargo
    };
    session.suite("native", |counts| {
        let mut cargo = workspace_test(quick);
        cargo.args(["--lib", "--bins"]).args(targets(engine_tests()));
        Ok(tests(&mut cargo, counts))
    });
    if !quick {
        session.suite("examples in docs", |counts| {
            let mut cargo = workspace_test(quick);
            cargo.arg("--doc");
            Ok(tests(&mut cargo, counts))
        });
    }
    session.suite("suites", |counts| {
        let mut cargo = workspace_test(quick);
        // These need set-up and have suites of their own.
        let names = integration_tests().into_iter();
        let names = names.filter(|name| !["browser", "differential", "gpu"].contains(&name.as_str()));
        cargo.args(targets(names));
        Ok(tests(&mut cargo, counts))
    });
}

/// The engine on wgpu: a card where there is one, else software Vulkan. wgpu's own shaders, as SPIR-V from burn's compiler
/// (feature `vulkan`) crashes the lavapipe of Debian 12.
fn gpu(session: &mut Session) {
    session.suite("gpu (wgpu)", |counts| {
        integration_test("gpu")?;
        needs::vulkan().map_err(|error| Skip(error.to_string()))?;
        let mut cargo = shell::cargo();
        cargo.args(["test", "--workspace", "--features", "parl-tests/gpu", "--test", "gpu"]);
        Ok(tests(&mut cargo, counts))
    });
}

fn wasm(session: &mut Session, dist: &mut Option<PathBuf>, all: bool) {
    let mut toolchain = None;
    session.suite("wasm toolchain", |_| {
        Ok(Toolchain::ensure().map(|found| {
            shell::say(&found.describe());
            toolchain = Some(found);
        }))
    });
    let Some(toolchain) = toolchain else { return };
    if all {
        session.suite("wasm engine", |_| {
            let mut cargo = toolchain.cargo();
            cargo.args(["build", "--profile", "web", "--package", "parl-mt", "--no-default-features", "--lib"]);
            Ok(shell::run(&mut cargo))
        });
        session.suite("wasm clippy", |_| {
            let mut clippy = toolchain.clippy().map_err(Skip)?;
            // The bundle's profile: its macros and build scripts are compiled already.
            clippy.args(["--quiet", "--profile", "web", "--package", "parl-app", "--", "-D", "warnings"]);
            Ok(shell::run(&mut clippy))
        });
    }
    if all {
        session.suite("wasm engine with tensors", |_| {
            let mut cargo = toolchain.cargo();
            cargo.args(["check", "--package", "parl-mt", "--no-default-features", "--features", "tensor", "--lib"]);
            Ok(shell::run(&mut cargo))
        });
    }
    session.suite("bundle", |_| Ok(bundle::build(&Options::default()).map(|folder| *dist = Some(folder))));
    if all {
        session.suite("bundle equals Trunk's", |_| {
            let Some(trunk) = shell::which("trunk") else { return Err(Skip("no trunk on PATH".to_owned())) };
            match &*dist {
                Some(dist) => Ok(bundle::compare_with_trunk(&trunk, dist)),
                None => Err(Skip("there is no bundle".to_owned())),
            }
        });
    }
}

fn browser(session: &mut Session, dist: Option<PathBuf>) {
    session.suite("browser", |counts| {
        integration_test("browser")?;
        let dist = dist.ok_or_else(|| Skip("there is no bundle".to_owned()))?;
        let (browser, driver) = needs::browser().map_err(|error| Skip(error.to_string()))?;
        let mut cargo = shell::cargo();
        cargo.args(["test", "--workspace", "--test", "browser"]);
        cargo.env("PARL_DIST", dist).env("PARL_CHROMEDRIVER", driver).env("PARL_CHROMIUM", browser);
        with_wheel(&mut cargo);
        // The native tests have built it already.
        let built = shell::run(shell::cargo().args(["test", "--workspace", "--test", "program", "--no-run"]));
        if let Err(error) = built {
            return Ok(Err(error));
        }
        cargo.env("PARL_PROGRAM", shell::target().join(format!("debug/parl{}", std::env::consts::EXE_SUFFIX)));
        match needs::axe() {
            Ok(axe) => _ = cargo.env("PARL_AXE", axe),
            Err(error) => shell::say(&format!("The accessibility test cannot run: {error}")),
        }
        Ok(tests(&mut cargo, counts))
    });
}

/// Tells tests where the official package's wheel is. Tests that need it skip themselves where it cannot be had.
fn with_wheel(cargo: &mut Command) {
    match needs::wheel() {
        Ok(wheel) => _ = cargo.env("PARL_BFCL_WHEEL", wheel),
        Err(error) => shell::say(&format!("The official package's wheel cannot be had: {error}")),
    }
}

/// Runs `cargo test` and counts.
pub fn tests(cargo: &mut Command, counts: &mut Counts) -> Result {
    counts.counted = true;
    shell::run_seen(cargo, |line| counts.see(line))
}

/// The integration tests of `tests/`, by name.
pub fn integration_tests() -> Vec<String> {
    tests_in("tests/suites")
}

/// The integration tests of `engine/`, by name.
fn engine_tests() -> Vec<String> {
    tests_in("engine/tests")
}

fn tests_in(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(shell::root().join(folder)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .filter_map(|file| Some(file.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names
}

/// `--test NAME` for each.
pub fn targets(names: impl IntoIterator<Item = String>) -> Vec<String> {
    names.into_iter().flat_map(|name| ["--test".to_owned(), name]).collect()
}

fn integration_test(name: &str) -> std::result::Result<(), Skip> {
    if integration_tests().iter().any(|own| own == name) {
        return Ok(());
    }
    Err(Skip(format!("tests/suites/{name}.rs does not exist")))
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn counts_result_lines() {
        let mut counts = Counts::default();
        counts.see("running 4 tests");
        counts.see("test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 7 filtered out; finished in 0.02s");
        counts.see("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.02s");
        assert_eq!((counts.passed, counts.failed, counts.ignored), (13, 2, 3));
        counts.see("test opens_the_page ... SKIPPED: there is no browser");
        assert_eq!(counts.skips, ["there is no browser"]);
    }
}
