//! What tests need beyond Rust: a browser with its driver, Python with the official package, axe-core.

use crate::shell::{self, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The official Python package and its one import, both pinned.
const PYTHON_PACKAGES: [&str; 2] = ["bfcl-eval==2026.3.23", "mpmath==1.3.0"];
const AXE_PACKAGE: &str = "axe-core@4.10.3";

/// Installs Debian packages: says which and why, and asks before it becomes root.
pub fn install_packages(packages: &[&str], why: &str) -> Result {
    let list = packages.join(" ");
    if shell::which("apt-get").is_none() {
        return Err(format!("Needed for {why}: {list}. This machine has no apt-get; install them by hand.").into());
    }
    let typed = format!("apt-get install -y --no-remove {list}");
    let mut prefix = Vec::new();
    if shell::output(Command::new("id").arg("-u"))? != "0" {
        let question = format!("{why} needs `sudo {typed}`. Run it now?");
        if shell::which("sudo").is_none() || !shell::agree(&question) {
            return Err(format!("Needed for {why}. As root run: {typed}").into());
        }
        prefix.push("sudo");
    }
    shell::say(&format!("Installing {list} with apt-get: {why}"));
    let apt = |words: &[&str]| {
        let mut all = prefix.clone();
        all.extend(["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]);
        all.extend(words);
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).env("DEBIAN_FRONTEND", "noninteractive");
        shell::run_logged(&mut command, &shell::target().join("xtask/apt-get.log"))
    };
    let mut install = vec!["install", "-y", "--no-install-recommends", "--no-remove"];
    install.extend(packages);
    // Package lists may be missing or stale; refreshing them first would cost every machine time.
    apt(&install).or_else(|_| apt(&["update"]).and_then(|()| apt(&install)))
}

fn first(names: &[&str]) -> Option<PathBuf> {
    names.iter().find_map(|name| {
        if name.contains('/') { Some(name.into()).filter(|file: &PathBuf| file.exists()) } else { shell::which(name) }
    })
}

/// A Chromium-like browser.
pub fn find_browser() -> Option<PathBuf> {
    first(&[
        "chromium",
        "chromium-browser",
        "google-chrome",
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    ])
}

/// The driver of that browser.
pub fn find_driver() -> Option<PathBuf> {
    first(&["chromedriver", "/usr/lib/chromium-browser/chromedriver"])
}

/// The browser and its driver, installed where apt can do it.
pub fn browser() -> Result<(PathBuf, PathBuf)> {
    if find_browser().is_none() || find_driver().is_none() {
        install_packages(&["chromium", "chromium-driver"], "browser tests")?;
    }
    match (find_browser(), find_driver()) {
        (Some(browser), Some(driver)) => Ok((browser, driver)),
        _ => Err("no Chromium with chromedriver on PATH; install both, of one version".into()),
    }
}

/// A Vulkan driver: that of a card, or Mesa's software one (lavapipe).
pub fn vulkan() -> Result {
    let has_driver = || {
        ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"]
            .iter()
            .any(|folder| std::fs::read_dir(folder).is_ok_and(|entries| entries.flatten().next().is_some()))
    };
    if !has_driver() {
        install_packages(&["mesa-vulkan-drivers", "libvulkan1"], "tests on software Vulkan")?;
    }
    Ok(())
}

/// The interpreter of the private environment, if it is complete.
pub fn find_python() -> Option<PathBuf> {
    find_environment("venv", &PYTHON_PACKAGES)
}

/// The interpreter of the private environment with the official package, made where it is missing.
pub fn python() -> Result<PathBuf> {
    if let Some(python) = find_python() {
        return Ok(python);
    }
    environment("venv", &PYTHON_PACKAGES, &["--quiet", "--no-deps"], "the differential tests")
}

/// The interpreter of a Python environment in the cache, if it holds these packages.
pub fn find_environment(name: &str, packages: &[&str]) -> Option<PathBuf> {
    let venv = shell::cache().join(name);
    let marker = std::fs::read_to_string(venv.join("packages.txt")).ok()?;
    let python = venv.join("bin/python");
    (marker == packages.join("\n") && python.exists()).then_some(python)
}

/// Makes a Python environment in the cache with these packages; gives its interpreter.
pub fn environment(name: &str, packages: &[&str], pip_options: &[&str], why: &str) -> Result<PathBuf> {
    let venv = shell::cache().join(name);
    shell::say(&format!("Python packages for {why}, in {}: {}", venv.display(), packages.join(" ")));
    let python = match shell::which("python3") {
        Some(python) => python,
        None => {
            install_packages(&["python3", "python3-venv"], why)?;
            shell::which("python3").ok_or("no python3 on PATH")?
        }
    };
    // Not moved after it is made: a virtual environment holds its own path. The marker is written last instead.
    shell::remove_folder(&venv)?;
    let make = || shell::output(Command::new(&python).args(["-m", "venv"]).arg(&venv));
    if make().is_err() {
        install_packages(&["python3-venv"], "a private Python environment")?;
        make()?;
    }
    let python = venv.join("bin/python");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--disable-pip-version-check"]).args(pip_options).args(packages);
    shell::run(&mut pip)?;
    std::fs::write(venv.join("packages.txt"), packages.join("\n"))?;
    Ok(python)
}

/// The wheel of the official package itself, whose data the engine reads.
pub fn wheel() -> Result<PathBuf> {
    let folder = shell::cache().join("wheel").join(PYTHON_PACKAGES[0]);
    if !folder.exists() {
        let python = python()?;
        shell::say(&format!("{} for tests that read its data, in {}", PYTHON_PACKAGES[0], folder.display()));
        shell::make_folder(&folder, |part| {
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"]);
            pip.arg(part).arg(PYTHON_PACKAGES[0]);
            shell::output(&mut pip).map(drop)
        })?;
    }
    let files = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path());
    let wheel = files.into_iter().find(|file| file.extension().is_some_and(|extension| extension == "whl"));
    wheel.ok_or_else(|| format!("{} holds no wheel; remove it and try again", folder.display()).into())
}

fn axe_file() -> PathBuf {
    shell::cache().join("axe").join(AXE_PACKAGE).join("node_modules/axe-core/axe.min.js")
}

/// axe-core's script, if it is in the cache.
pub fn find_axe() -> Option<PathBuf> {
    Some(axe_file()).filter(|file| file.exists())
}

/// axe-core's script, fetched with npm where it is missing.
pub fn axe() -> Result<PathBuf> {
    let file = axe_file();
    if !file.exists() {
        let npm = shell::which("npm").ok_or("no npm on PATH to fetch axe-core with (apt-get install npm)")?;
        let folder = shell::cache().join("axe").join(AXE_PACKAGE);
        shell::say(&format!("{AXE_PACKAGE} for the accessibility tests, in {}", folder.display()));
        shell::make_folder(&folder, |part| {
            let mut command = Command::new(&npm);
            command.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
            command.arg(part).arg(AXE_PACKAGE);
            shell::output(&mut command).map(drop)
        })?;
    }
    if file.exists() { Ok(file) } else { Err(format!("npm did not bring {}", file.display()).into()) }
}

/// A `wasm-opt` on PATH with its version, if it understands what current compilers emit.
pub fn wasm_opt() -> Option<(PathBuf, u32)> {
    let file = shell::which("wasm-opt")?;
    let words = shell::output(Command::new(&file).arg("--version")).ok()?;
    let version = words.split_whitespace().find_map(|word| word.parse().ok())?;
    (version >= 116).then_some((file, version))
}

/// Whether a program on PATH starts and reports `version`.
pub fn reports(program: &Path, version: &str) -> bool {
    shell::output(Command::new(program).arg("--version"))
        .is_ok_and(|words| words.split_whitespace().any(|word| word == version))
}
