//! `cargo xtask doctor`: what is there, what is missing, and what to do about it. Installs and builds nothing.

use crate::bundle;
use crate::needs;
use crate::shell::{self, Result};
use crate::wasm::Toolchain;
use std::path::Path;
use std::process::Command;

/// Prints the table.
pub fn doctor() -> Result {
    println!("{:<18} {:<8} details", "what", "state");
    let version = |program: &str| shell::output(Command::new(program).arg("--version")).ok();
    let first_line = |text: String| text.lines().next().unwrap_or_default().to_owned();
    let file = |path: &Path| path.display().to_string();

    line("rustc", version("rustc").map(first_line), "https://rustup.rs", Need::Up);
    line("wasm target", Toolchain::find().map(|found| found.describe()), "`cargo xtask up` installs it", Need::Later);
    let locked = bundle::bindgen_version()?;
    let bindgen = shell::which("wasm-bindgen").filter(|found| needs::reports(found, &locked));
    let own = Some(shell::target().join("debug/wasm-bindgen")).filter(|own| needs::reports(own, &locked));
    let bindgen = bindgen.or(own).map(|path| format!("{locked}, {}", file(&path)));
    line("wasm-bindgen", bindgen, "`cargo xtask up` compiles it (half a minute)", Need::Later);
    let optimizer = needs::wasm_opt().map(|(path, version)| format!("{version}, {}", file(&path)));
    line("wasm-opt ≥ 116", optimizer, "optional, makes the page smaller: `npm install -g binaryen`", Need::Never);
    let trunk = version("trunk").map(first_line);
    line("trunk", trunk, "optional, xtask bundles without it: `cargo install --locked trunk`", Need::Never);
    line("clippy", version("cargo-clippy").map(first_line), "tests: `rustup component add clippy`", Need::Tests);
    line("rustfmt", version("rustfmt").map(first_line), "tests: `rustup component add rustfmt`", Need::Tests);
    let browser = needs::find_browser().map(|path| file(&path));
    line("Chromium", browser, "tests: `cargo xtask setup` (apt-get install chromium)", Need::Tests);
    let driver = needs::find_driver().map(|path| file(&path));
    line("chromedriver", driver, "tests: `cargo xtask setup` (apt-get install chromium-driver)", Need::Tests);
    line("python3", version("python3"), "tests: apt-get install python3 python3-venv", Need::Tests);
    line("Python packages", needs::find_python().map(|path| file(&path)), "tests: `cargo xtask setup`", Need::Tests);
    line("axe-core", needs::find_axe().map(|path| file(&path)), "tests: `cargo xtask setup` (needs npm)", Need::Tests);
    println!("\ntarget folder: {}\ncache folder:  {}", file(shell::target()), file(&shell::cache()));
    Ok(())
}

/// What a missing thing stops.
enum Need {
    Up,
    Later,
    Tests,
    Never,
}

fn line(name: &str, found: Option<String>, remedy: &str, need: Need) {
    match (found, need) {
        (Some(details), _) => println!("{name:<18} {:<8} {details}", "ok"),
        (None, Need::Up | Need::Tests) => println!("{name:<18} {:<8} {remedy}", "MISSING"),
        (None, Need::Later) => println!("{name:<18} {:<8} {remedy}", "later"),
        (None, Need::Never) => println!("{name:<18} {:<8} {remedy}", "absent"),
    }
}
