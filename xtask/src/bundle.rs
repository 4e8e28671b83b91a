//! The bundle that `trunk build` would make, from the same `Trunk.toml` and the same `data-trunk` links.
//!
//! Trunk itself takes ten minutes to compile; what this project uses of it is a few steps: compile to wasm, run
//! wasm-bindgen, copy, give names with a hash, write the page. Whatever Trunk knows and this file does not is an
//! error, and `cargo xtask test` compares both bundles where a `trunk` is on PATH.

use crate::html::{self, Link};
use crate::needs;
use crate::shell::{self, Result, WASM};
use crate::wasm::Toolchain;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `Trunk.toml` says.
pub struct Settings {
    page: PathBuf,
    dist: PathBuf,
    base: String,
    hashed: bool,
    profile: String,
}

/// How to bundle.
#[derive(Default)]
pub struct Options {
    /// Where to, if not where `Trunk.toml` says.
    pub dist: Option<PathBuf>,
    /// Fast to build instead of small and fast to run.
    pub debug: bool,
}

/// A compiled wasm program and how its link wants it.
pub struct Compiled {
    link: usize,
    name: String,
    wasm: PathBuf,
    worker: bool,
}

impl Settings {
    /// Reads the `Trunk.toml` at the top level.
    pub fn read() -> Result<Self> {
        Self::parse(&shell::read(&shell::root().join("Trunk.toml"))?)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut settings = Self {
            page: "index.html".into(),
            dist: "dist".into(),
            base: "/".into(),
            hashed: true,
            profile: "release".into(),
        };
        let mut sri = true;
        let mut section = "";
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']');
            }
            let Some((name, value)) = line.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match (section, name.trim()) {
                ("build", "target") => settings.page = value.into(),
                ("build", "dist") => settings.dist = value.into(),
                ("build", "public_url") => settings.base = value.to_owned(),
                ("build", "filehash") => settings.hashed = value == "true",
                ("build", "cargo_profile") => settings.profile = value.to_owned(),
                ("build", "no_sri") => sri = value != "true",
                ("build", "release") | ("serve" | "watch", _) => {}
                (_, name) => return Err(format!("Trunk.toml: xtask does not know `{name}` in [{section}]").into()),
            }
        }
        if sri {
            return Err("Trunk.toml: xtask writes no integrity hashes; set no_sri = true in [build]".into());
        }
        if !settings.base.ends_with('/') {
            settings.base.push('/');
        }
        Ok(settings)
    }

    /// Where the bundle goes.
    pub fn dist(&self, options: &Options) -> PathBuf {
        shell::root().join(options.dist.as_ref().unwrap_or(&self.dist))
    }
}

/// Builds the whole bundle and gives its folder.
pub fn build(options: &Options) -> Result<PathBuf> {
    let settings = Settings::read()?;
    let toolchain = Toolchain::ensure()?;
    let compiled = compile(&settings, &toolchain, options)?;
    let bindgen = bindgen()?;
    assemble(&settings, &bindgen, &compiled, options)
}

/// Compiles every `rel="rust"` link.
pub fn compile(settings: &Settings, toolchain: &Toolchain, options: &Options) -> Result<Vec<Compiled>> {
    let file = shell::root().join(&settings.page);
    let page = shell::read(&file)?;
    let folder = file.parent().unwrap_or(&file);
    let profile = if options.debug { "dev" } else { &settings.profile };
    let profile_folder = if options.debug { "debug" } else { profile };
    let mut compiled = Vec::new();
    for (index, link) in html::links(&page)?.iter().enumerate() {
        if link.get("rel") != Some("rust") {
            continue;
        }
        link.allow(&["data-bin", "data-type", "data-bindgen-target", "data-loader-shim", "data-wasm-opt"])?;
        let mut manifest = folder.join(link.get("href").unwrap_or("Cargo.toml"));
        if !manifest.ends_with("Cargo.toml") {
            manifest.push("Cargo.toml");
        }
        let worker = match link.get("data-type") {
            None | Some("main") => false,
            Some("worker") => true,
            Some(other) => return Err(format!("{}: unknown data-type=\"{other}\"", link.describe()).into()),
        };
        let name = link.get("data-bin").map_or_else(|| package_name(&manifest), |name| Ok(name.to_owned()))?;
        shell::step(&format!("{name} for wasm (profile {profile})"), || {
            let mut cargo = toolchain.cargo();
            cargo.args(["build", "--profile", profile, "--bin", &name, "--manifest-path"]).arg(&manifest);
            shell::run(&mut cargo)
        })?;
        let wasm = toolchain.target().join(WASM).join(profile_folder).join(format!("{name}.wasm"));
        compiled.push(Compiled { link: index, name, wasm, worker });
    }
    Ok(compiled)
}

fn package_name(manifest: &Path) -> Result<String> {
    let text = shell::read(manifest)?;
    let name = text.lines().find_map(|line| line.strip_prefix("name = "));
    Ok(name.ok_or_else(|| format!("{} has no name", manifest.display()))?.trim_matches('"').to_owned())
}

/// wasm-bindgen of the locked version: one on PATH, or our own, compiled in half a minute.
pub fn bindgen() -> Result<PathBuf> {
    let version = bindgen_version()?;
    if let Some(found) = shell::which("wasm-bindgen").filter(|found| needs::reports(found, &version)) {
        return Ok(found);
    }
    let log = shell::target().join("xtask/wasm-bindgen.log");
    shell::run_logged(shell::cargo().args(["build", "--package", "parl-bindgen"]), &log)?;
    Ok(shell::target().join("debug/wasm-bindgen"))
}

/// The version that the lock file fixes.
pub fn bindgen_version() -> Result<String> {
    let lock = shell::read(&shell::root().join("Cargo.lock"))?;
    let version = lock.split("name = \"wasm-bindgen\"\nversion = \"").nth(1).and_then(|rest| rest.split('"').next());
    Ok(version.ok_or("Cargo.lock has no wasm-bindgen")?.to_owned())
}

/// Writes the bundle from what is compiled.
pub fn assemble(settings: &Settings, bindgen: &Path, compiled: &[Compiled], options: &Options) -> Result<PathBuf> {
    let dist = settings.dist(options);
    shell::step("Bundle", || {
        shell::make_folder(&dist, |dist| {
            let file = shell::root().join(&settings.page);
            let page = shell::read(&file)?;
            let links = html::links(&page)?;
            let mut writer = Writer {
                settings,
                bindgen,
                options,
                source: file.parent().unwrap_or(&file),
                dist,
                head: String::new(),
            };
            let mut texts = Vec::new();
            for (index, link) in links.iter().enumerate() {
                let program = compiled.iter().find(|program| program.link == index);
                texts.push(match program {
                    Some(program) => writer.program(link, program)?,
                    None => writer.asset(link)?,
                });
            }
            let page = html::replace(&page, &links, &texts, &writer.head)?;
            Ok(std::fs::write(dist.join("index.html"), page)?)
        })
    })?;
    Ok(dist)
}

struct Writer<'all> {
    settings: &'all Settings,
    bindgen: &'all Path,
    options: &'all Options,
    /// The folder of the page's source.
    source: &'all Path,
    dist: &'all Path,
    /// What goes to the end of the page's head.
    head: String,
}

impl Writer<'_> {
    /// `stem-hash.extension`, or without the hash if `Trunk.toml` says so.
    fn hashed(&self, stem: &str, bytes: &[u8]) -> String {
        if self.settings.hashed { format!("{stem}-{:016x}", shell::hash(bytes)) } else { stem.to_owned() }
    }

    /// Any link but `rel="rust"`: copies its file and gives the element that replaces it.
    fn asset(&self, link: &Link) -> Result<String> {
        let rel = link.need("rel")?;
        let source = self.source.join(link.need("href")?);
        let name = source.canonicalize().map_err(|error| format!("{}: {error}", link.describe()))?;
        let name = Path::new(name.file_name().unwrap_or_default());
        let rel = match rel {
            "css" => "stylesheet",
            "icon" => "icon",
            "copy-file" | "copy-dir" => {
                link.allow(&["data-target-path"])?;
                let folder = self.dist.join(link.get("data-target-path").unwrap_or(""));
                if rel == "copy-file" {
                    std::fs::create_dir_all(&folder)?;
                    std::fs::copy(&source, folder.join(name))?;
                } else if link.get("data-target-path").is_some() {
                    shell::copy_folder(&source, &folder)?;
                } else {
                    shell::copy_folder(&source, &folder.join(name))?;
                }
                return Ok(String::new());
            }
            _ => return Err(format!("{}: xtask knows rust, css, icon, copy-file and copy-dir", link.describe()).into()),
        };
        link.allow(&[])?;
        let bytes = std::fs::read(&source)?;
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let target = format!("{}.{}", self.hashed(&part(name.file_stem()), &bytes), part(name.extension()));
        std::fs::write(self.dist.join(&target), bytes)?;
        Ok(format!("<link rel=\"{rel}\" href=\"{}{target}\"/>", self.settings.base))
    }

    /// A `rel="rust"` link: its wasm and JavaScript, and the script that starts it.
    fn program(&mut self, link: &Link, program: &Compiled) -> Result<String> {
        let target = link.get("data-bindgen-target").unwrap_or(if program.worker { "no-modules" } else { "web" });
        let bytes = std::fs::read(&program.wasm).map_err(|error| format!("{}: {error}", program.wasm.display()))?;
        let glue = self.glue(link, program, target, &bytes)?;
        // A worker is started by its name from the page's code, so it keeps that name.
        let copy = |from: String, stem: &str, ending: &str| -> Result<String> {
            let bytes = std::fs::read(glue.join(from))?;
            let stem = if program.worker { stem.to_owned() } else { self.hashed(stem, &bytes) };
            let name = format!("{stem}{ending}");
            std::fs::write(self.dist.join(&name), bytes)?;
            Ok(name)
        };
        let name = &program.name;
        let script = copy(format!("{name}.js"), name, ".js")?;
        let wasm = copy(format!("{name}_bg.wasm"), name, "_bg.wasm")?;
        let snippets = glue.join("snippets");
        if snippets.exists() {
            shell::copy_folder(&snippets, &self.dist.join("snippets"))?;
        }
        if program.worker {
            if link.get("data-loader-shim").is_some() {
                let shim = match target {
                    "web" => format!("import init from './{script}';await init();"),
                    _ => format!("importScripts(\"./{script}\");wasm_bindgen(\"./{wasm}\");"),
                };
                std::fs::write(self.dist.join(format!("{name}_loader.js")), shim)?;
            }
            return Ok(String::new());
        }
        let base = &self.settings.base;
        self.preload("modulepreload", &script, "");
        let mut modules = Vec::new();
        list(&snippets, &mut modules)?;
        for module in modules {
            if let Ok(module) = module.strip_prefix(&glue) {
                self.preload("modulepreload", &module.to_string_lossy(), "");
            }
        }
        self.preload("preload", &wasm, " as=\"fetch\" type=\"application/wasm\"");
        Ok(format!(
            "\n<script type=\"module\">\nimport init, * as bindings from '{base}{script}';\n\
             const wasm = await init({{ module_or_path: '{base}{wasm}' }});\n\nwindow.wasmBindings = bindings;\n\n\
             dispatchEvent(new CustomEvent(\"TrunkApplicationStarted\", {{detail: {{wasm}}}}));\n</script>"
        ))
    }

    fn preload(&mut self, rel: &str, file: &str, more: &str) {
        let base = &self.settings.base;
        self.head.push_str(&format!("<link rel=\"{rel}\" href=\"{base}{file}\" crossorigin=\"anonymous\"{more}>"));
    }

    /// What wasm-bindgen (and wasm-opt, where there is one) make of a program: kept, as wasm-opt takes half a minute.
    fn glue(&self, link: &Link, program: &Compiled, target: &str, wasm: &[u8]) -> Result<PathBuf> {
        let level = link.get("data-wasm-opt").unwrap_or("");
        let optimizer = if self.options.debug || level == "0" { None } else { needs::wasm_opt() };
        let debug = self.options.debug;
        let version = optimizer.as_ref().map_or(0, |(_, version)| *version);
        let key = shell::hash(
            format!("{:x} {target} {version} {level} {debug} {}", shell::hash(wasm), bindgen_version()?).as_bytes(),
        );
        let kept = shell::target().join("xtask/bindgen").join(&program.name);
        let folder = kept.join(format!("{key:016x}"));
        if folder.exists() {
            return Ok(folder);
        }
        // Older ones would only pile up.
        shell::remove_folder(&kept)?;
        shell::make_folder(&folder, |part| {
            let mut command = Command::new(self.bindgen);
            command.args(["--no-typescript", "--target", target, "--out-name", &program.name, "--out-dir"]);
            command.arg(part).arg(&program.wasm);
            // Names of functions are a third of the file, and panics tell file and line without them.
            command.arg(if debug { "--keep-debug" } else { "--remove-name-section" });
            shell::output(&mut command)?;
            let Some((optimizer, version)) = &optimizer else { return Ok(()) };
            let wasm = part.join(format!("{}_bg.wasm", program.name));
            shell::step(&format!("wasm-opt {version} -O{level} {}", program.name), || {
                let mut command = Command::new(optimizer);
                command.arg(format!("-O{level}")).arg("--output").arg(&wasm).arg(&wasm);
                shell::output(&mut command).map(drop)
            })
        })?;
        Ok(folder)
    }
}

/// All files below a folder; none when there is no folder.
pub fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result {
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() { list(&entry, files)? } else { files.push(entry) }
    }
    Ok(())
}

/// Compares the bundle with the one of the `trunk` on PATH: the same files, the same page, the same contents.
pub fn compare_with_trunk(trunk: &Path, dist: &Path) -> Result {
    let other = shell::target().join("xtask/trunk-dist");
    shell::remove_folder(&other)?;
    let bindgen = bindgen()?;
    let toolchain = Toolchain::ensure()?;
    let cargo = toolchain.cargo();
    let mut command = Command::new(trunk);
    for (name, value) in cargo.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // Trunk names the target itself. Without --release it leaves wasm-opt out, which is not what is compared here.
    command.env_remove("CARGO_BUILD_TARGET").env_remove("NO_COLOR");
    let mut folders = vec![bindgen.parent().unwrap_or(&bindgen).to_owned()];
    if let Some(folder) = Path::new(cargo.get_program()).parent() {
        folders.push(folder.to_owned());
    }
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    command.env("PATH", std::env::join_paths(folders)?).args(["build", "--offline", "--dist"]).arg(&other);
    command.current_dir(shell::root());
    shell::run_logged(&mut command, &shell::target().join("xtask/trunk.log"))?;

    let names = |folder: &Path| -> Result<Vec<String>> {
        let mut files = Vec::new();
        list(folder, &mut files)?;
        let mut names: Vec<_> = files
            .iter()
            .filter_map(|file| file.strip_prefix(folder).ok())
            .map(|file| html::unhash(&file.to_string_lossy()))
            .filter(|name| name != ".trunk-lock")
            .collect();
        names.sort();
        Ok(names)
    };
    let (own, theirs) = (names(dist)?, names(&other)?);
    if own != theirs {
        return Err(format!("files differ.\nxtask: {own:?}\nTrunk: {theirs:?}").into());
    }
    let page = |folder: &Path| shell::read(&folder.join("index.html")).map(|page| html::normal(&page));
    let (own, theirs) = (page(dist)?, page(&other)?);
    if own != theirs {
        return Err(format!("index.html differs.\n--- xtask\n{own}\n--- Trunk\n{theirs}").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn reads_settings() {
        let settings =
            Settings::parse("[build]\ntarget = \"app/index.html\" # here\npublic_url = \"./x\"\nno_sri = true\n")
                .unwrap();
        assert_eq!(settings.page.to_str(), Some("app/index.html"));
        assert_eq!(settings.base, "./x/");
        assert!(settings.hashed);
        assert!(Settings::parse("[build]\nno_sri = true\nminify = \"always\"\n").is_err());
        assert!(Settings::parse("").is_err());
    }

    #[test]
    fn reads_the_real_settings() {
        Settings::read().unwrap();
    }
}
