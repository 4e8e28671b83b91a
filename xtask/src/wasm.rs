//! A Rust compiler that can build for browsers.
//!
//! The compiler in use is asked first, then `rustup target add`. Where neither helps (a machine that reaches Debian's
//! packages but not rustup's server), Debian's `rustc-web` builds the standard library from its own sources into the
//! user's cache; nothing but apt touches the system.

use crate::needs;
use crate::shell::{self, Result, WASM};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Set to `debian` to take Debian's compiler even where the usual one would do.
pub const FORCE: &str = "PARL_WASM_TOOLCHAIN";

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm"];
/// `rust-version` of the workspace.
const OLDEST: (u32, u32) = (1, 95);

/// Where wasm is compiled.
pub enum Toolchain {
    /// The compiler that runs xtask has the target.
    Own,
    /// Debian's compiler, through a folder laid out as a toolchain.
    Debian(PathBuf),
}

impl Toolchain {
    /// What is there now; installs nothing.
    pub fn find() -> Option<Self> {
        if !forced() && has_core(&own_libraries().ok()?) {
            return Some(Self::Own);
        }
        let folder = debian_folder().ok()?;
        has_core(&folder.join("lib/rustlib").join(WASM).join("lib")).then_some(Self::Debian(folder))
    }

    /// What is there, or after installing it.
    pub fn ensure() -> Result<Self> {
        if let Some(found) = Self::find() {
            return Ok(found);
        }
        if !forced()
            && let Some(rustup) = shell::which("rustup")
        {
            shell::say(&format!("Rust's standard library for {WASM} is missing: trying `rustup target add {WASM}`"));
            let mut command = Command::new(rustup);
            command.args(["target", "add", WASM]).current_dir(shell::root());
            match shell::run_within(&mut command, Duration::from_secs(180)) {
                Ok(()) => return Ok(Self::Own),
                Err(error) => shell::say(&format!("rustup could not help: {error}")),
            }
        }
        install_debian().map_err(|error| {
            format!("no Rust compiler for {WASM}. {error}\nRemedy: `rustup target add {WASM}` with network access.")
        })?;
        Self::find().ok_or_else(|| format!("{WASM} is still missing after its installation").into())
    }

    /// Where it builds: apart from native code, and from other compilers, so that they do not rebuild each other's
    /// work. Cargo does not see that a library changed under a compiler; the name of Debian's folder does.
    pub fn target(&self) -> PathBuf {
        let folder = match self {
            Self::Own => "web".to_owned(),
            Self::Debian(folder) => format!("web-{}", folder.file_name().unwrap_or_default().to_string_lossy()),
        };
        shell::target().join(folder)
    }

    /// A Cargo command that builds for wasm; `--target` and the target folder are set through the environment.
    pub fn cargo(&self) -> Command {
        let mut command = match self {
            Self::Own => shell::cargo(),
            Self::Debian(folder) => {
                let mut command = Command::new("/usr/bin/cargo");
                debian_environment(&mut command, folder);
                command
            }
        };
        command.env("CARGO_TARGET_DIR", self.target()).env("CARGO_BUILD_TARGET", WASM);
        command.current_dir(shell::root());
        command
    }

    /// `cargo clippy` for wasm, if this toolchain has clippy.
    pub fn clippy(&self) -> std::result::Result<Command, String> {
        match self {
            Self::Own => {
                let mut command = self.cargo();
                command.arg("clippy");
                Ok(command)
            }
            // Called by its path: through PATH, Cargo might find rustup's clippy, which belongs to another compiler.
            Self::Debian(folder) => {
                let clippy = Path::new("/usr/bin/cargo-clippy");
                if !clippy.exists() {
                    return Err("Debian's compiler has no clippy (apt-get install rust-web-clippy)".to_owned());
                }
                let mut command = Command::new(clippy);
                debian_environment(&mut command, folder);
                command.env("CARGO_TARGET_DIR", self.target()).env("CARGO_BUILD_TARGET", WASM);
                command.env("CARGO", "/usr/bin/cargo").current_dir(shell::root()).arg("clippy");
                Ok(command)
            }
        }
    }

    /// One line for `doctor`.
    pub fn describe(&self) -> String {
        match self {
            Self::Own => "the compiler in use has it".to_owned(),
            Self::Debian(folder) => {
                format!("Debian's compiler (for Trunk: PATH={}/bin:$PATH)", folder.display())
            }
        }
    }
}

fn forced() -> bool {
    std::env::var(FORCE).is_ok_and(|value| value == "debian")
}

fn debian_environment(command: &mut Command, folder: &Path) {
    command.env("RUSTC", folder.join("bin/rustc")).env("SYSROOT", folder);
    // What rustup's proxies have set for the compiler that runs xtask.
    for name in ["RUSTUP_TOOLCHAIN", "CARGO", "LD_LIBRARY_PATH", "RUSTDOC"] {
        command.env_remove(name);
    }
}

/// Where the compiler in use keeps, or would keep, its wasm libraries.
fn own_libraries() -> Result<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.args(["--print", "target-libdir", "--target", WASM]).current_dir(shell::root());
    Ok(shell::output(&mut command)?.into())
}

fn has_core(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with("libcore-"))
}

fn debian_version() -> Result<String> {
    let mut command = Command::new(DEBIAN_RUSTC);
    command.env_remove("LD_LIBRARY_PATH").arg("-vV");
    shell::output(&mut command)
}

/// The toolchain folder in the cache; its name changes with the compiler, whose libraries fit no other one.
fn debian_folder() -> Result<PathBuf> {
    let version = debian_version()?;
    let release = field(&version, "release: ").ok_or("rustc -vV names no release")?;
    let package = shell::output(Command::new("dpkg-query").args(["-W", "-f", "${Version}", "rustc-web"]))?;
    let key = shell::hash(format!("{version} {package} bitcode").as_bytes());
    Ok(shell::cache().join(format!("rust-web-{release}-{:08x}", key >> 32)))
}

fn field<'text>(text: &'text str, name: &str) -> Option<&'text str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

fn install_debian() -> Result {
    if shell::which("apt-get").is_none() {
        return Err("Neither rustup nor Debian's packages are available here.".into());
    }
    if !Path::new(DEBIAN_RUSTC).exists() || !Path::new("/usr/lib/rustlib/src/rust").exists() || !has_linker() {
        needs::install_packages(&DEBIAN_PACKAGES, "Debian's Rust compiler, with the sources of its library")?;
    }
    let version = debian_version()?;
    let release = field(&version, "release: ").unwrap_or_default();
    let mut numbers = release.split('.').filter_map(|part| part.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(OLDEST.0), Some(OLDEST.1)) {
        return Err(format!("{DEBIAN_RUSTC} is {release}; {}.{} is needed.", OLDEST.0, OLDEST.1).into());
    }
    let host = field(&version, "host: ").ok_or("rustc -vV names no host")?;
    if !has_linker() {
        // rust-lld links to the lld of the compiler's LLVM, which is a package of its own.
        let llvm = field(&version, "LLVM version: ").and_then(|version| version.split('.').next());
        let lld = format!("lld-{}", llvm.ok_or("rustc -vV names no LLVM version")?);
        needs::install_packages(&[&lld], "the linker for wasm")?;
    }
    let folder = debian_folder()?;
    shell::step("Rust's standard library for wasm (once per compiler, about a minute)", || {
        shell::make_folder(&folder, |part| build_library(part, host))
    })
}

fn has_linker() -> bool {
    // A dangling link (rust-web-llvm without lld) does not exist.
    Path::new("/usr/bin/rust-lld").exists()
}

/// Compiles the standard library through a crate that is empty and lays out a toolchain around it.
fn build_library(folder: &Path, host: &str) -> Result {
    let seed = folder.join("seed");
    std::fs::create_dir_all(seed.join("src"))?;
    std::fs::write(seed.join("src/lib.rs"), "")?;
    let manifest = "[package]\nname = \"seed\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[workspace]\n\
                    [profile.release]\nopt-level = 3\ndebug = 0\npanic = \"abort\"\n";
    std::fs::write(seed.join("Cargo.toml"), manifest)?;
    let mut cargo = Command::new("/usr/bin/cargo");
    debian_environment(&mut cargo, Path::new("/usr"));
    // RUSTC_BOOTSTRAP: building the library is an unstable option of the released compiler.
    cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", seed.join("target"));
    cargo.args(["build", "--release", "--target", WASM, "-Zbuild-std=std,panic_abort,proc_macro,test"]);
    // Link-time optimisation reads the library's bitcode, which Cargo leaves out otherwise.
    cargo.env("RUSTFLAGS", "-C embed-bitcode=yes").env_remove("CARGO_ENCODED_RUSTFLAGS").current_dir(&seed);
    shell::run_logged(&mut cargo, &shell::target().join("xtask/wasm-library.log"))?;

    let libraries = folder.join("lib/rustlib").join(WASM).join("lib");
    std::fs::create_dir_all(&libraries)?;
    for entry in std::fs::read_dir(seed.join("target").join(WASM).join("release/deps"))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".rlib") && !name.starts_with("libseed") {
            std::fs::copy(entry.path(), libraries.join(&*name))?;
        }
    }
    shell::remove_folder(&seed)?;
    link(&Path::new("/usr/lib/rustlib").join(host), &folder.join("lib/rustlib").join(host))?;
    std::fs::create_dir_all(folder.join("bin"))?;
    link(Path::new("/usr/bin/cargo"), &folder.join("bin/cargo"))?;
    // Debian's compiler looks for libraries beside itself; this one looks beside the wrapper.
    let wrapper = "#!/bin/sh\nunset LD_LIBRARY_PATH\n\
                   exec /usr/bin/rustc --sysroot \"$(dirname \"$(dirname \"$0\")\")\" \"$@\"\n";
    executable(&folder.join("bin/rustc"), wrapper)
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) -> Result {
    Ok(std::os::unix::fs::symlink(to, at)?)
}

#[cfg(unix)]
fn executable(file: &Path, text: &str) -> Result {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(file, text)?;
    Ok(std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755))?)
}

#[cfg(not(unix))]
fn link(_to: &Path, _at: &Path) -> Result {
    Err("Debian's compiler is for Debian".into())
}

#[cfg(not(unix))]
fn executable(_file: &Path, _text: &str) -> Result {
    Err("Debian's compiler is for Debian".into())
}
