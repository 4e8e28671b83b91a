//! `wasm-bindgen` for this workspace: the options that Trunk and `cargo xtask` use, over wasm-bindgen's own library.
//!
//! The official command line needs minutes to compile; this one needs only the library, and its version is that of
//! `Cargo.lock` by construction. It bears the official name so that Trunk finds it on `PATH`.

use std::path::PathBuf;
use wasm_bindgen_cli_support::Bindgen;

/// The package bears the version of the library; a unit test compares the two.
const VERSION: &str = env!("CARGO_PKG_VERSION");

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() {
    if let Err(error) = run(std::env::args().skip(1)) {
        eprintln!("wasm-bindgen: {error:#}");
        std::process::exit(1);
    }
}

fn run(arguments: impl Iterator<Item = String>) -> Result<()> {
    let mut bindgen = Bindgen::new();
    let mut out_dir: Option<PathBuf> = None;
    let mut has_input = false;
    let mut arguments = arguments.flat_map(|argument| match argument.split_once('=') {
        Some((name, value)) if name.starts_with("--") => vec![name.to_owned(), value.to_owned()],
        _ => vec![argument],
    });
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--version" | "-V" => {
                println!("wasm-bindgen {VERSION}");
                return Ok(());
            }
            "--target" => match value()?.as_str() {
                "web" => _ = bindgen.web(true)?,
                "no-modules" => _ = bindgen.no_modules(true)?,
                other => return Err(format!("--target {other}: only `web` and `no-modules` are known here").into()),
            },
            "--out-dir" => out_dir = Some(value()?.into()),
            "--out-name" => _ = bindgen.out_name(&value()?),
            "--keep-debug" => _ = bindgen.keep_debug(true),
            "--remove-name-section" => _ = bindgen.remove_name_section(true),
            "--no-demangle" => _ = bindgen.demangle(false),
            "--no-typescript" => _ = bindgen.typescript(false),
            option if option.starts_with('-') => {
                return Err(format!("{option}: not an option of this reduced wasm-bindgen").into());
            }
            input => {
                bindgen.input_path(input);
                has_input = true;
            }
        }
    }
    match out_dir {
        Some(out_dir) if has_input => Ok(bindgen.generate(out_dir)?),
        _ => Err("usage: wasm-bindgen --target web --out-dir DIR [--out-name NAME] FILE.wasm".into()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn version_is_the_one_of_the_workspace() {
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains(&format!("wasm-bindgen-cli-support = \"={}\"", super::VERSION)));
    }
}
