//! `cargo xtask up`: build what is needed, serve it.

use crate::bundle::{self, Options, Settings};
use crate::shell::{self, Result};
use crate::wasm::Toolchain;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Builds the page and the program, then serves until it is stopped.
pub fn up(port: u16, open: bool) -> Result {
    // Better told before the build than after it.
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .map_err(|error| format!("port {port}: {error}. Try `cargo xtask up --port {}`.", port.wrapping_add(1)))?;
    let (dist, program) = build()?;
    let address = format!("http://127.0.0.1:{port}/");
    shell::say(&format!("Serving on {address} (Ctrl-C stops)"));
    if open {
        std::thread::spawn(move || open_when_ready(port, &address));
    }
    shell::run(Command::new(program).arg("serve").arg("--dist").arg(dist).args(["--port", &port.to_string()]))
}

/// Builds the bundle and the native program. Two chains, as neither fills two cores all the time: the page's wasm in
/// sight of the user, wasm-bindgen and the program beside it.
pub fn build() -> Result<(PathBuf, PathBuf)> {
    let program_log = shell::target().join("xtask/parl.log");
    std::thread::scope(|scope| {
        let bindgen = scope.spawn(|| {
            let bindgen = shell::step("wasm-bindgen", bundle::bindgen);
            // The program starts behind wasm-bindgen, which the bundle waits for.
            bindgen.map(|bindgen| (bindgen, build_program(&program_log)))
        });
        let options = Options::default();
        let settings = Settings::read()?;
        let compiled = Toolchain::ensure().and_then(|toolchain| bundle::compile(&settings, &toolchain, &options));
        if !bindgen.is_finished() {
            shell::say("Waiting for the native program …");
            let mut last = String::new();
            while !bindgen.is_finished() {
                std::thread::sleep(Duration::from_millis(50));
                let line = shell::tail(&program_log, 1);
                if line != last {
                    shell::say(&format!("  {}", line.trim()));
                    last = line;
                }
            }
        }
        let (bindgen, program) = bindgen.join().map_err(|_| "the native build panicked")??;
        let dist = bundle::assemble(&settings, &bindgen, &compiled?, &options)?;
        Ok((dist, program?))
    })
}

fn build_program(log: &std::path::Path) -> Result<PathBuf> {
    shell::step("Native program `parl`, without tensors (profile `serve`)", || {
        let mut cargo = shell::cargo();
        // Serving needs no tensors, which take minutes to compile. A profile of its own keeps the two programs apart.
        cargo.args(["build", "--profile", "serve", "--package", "parl-mt", "--bin", "parl"]);
        cargo.args(["--no-default-features", "--features", "cli"]);
        shell::run_logged(&mut cargo, log)?;
        Ok(shell::target().join("serve").join(format!("parl{}", std::env::consts::EXE_SUFFIX)))
    })
}

fn open_when_ready(port: u16, address: &str) {
    for _ in 0..100 {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
            if Command::new(opener).arg(address).status().is_err() {
                shell::say(&format!("No `{opener}` here; open {address} yourself"));
            }
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
