//! `cargo xtask`: the two commands of this project, `up` and `test`, and their helpers.
//!
//! Standard library only: this program is the first thing that a newcomer waits for.

mod bundle;
mod doctor;
mod html;
mod needs;
mod parity;
mod shell;
mod test;
mod up;
mod wasm;

use shell::Result;

const HELP: &str = "\
cargo xtask COMMAND

Commands
  up        Build the page and the program `parl`, and serve them. Installs what is missing, and says so first.
              --port N       Serve on this port (8080)
              --open         Open the page in the browser
  test      Run every check and test: native, wasm, browser, Python. Ends with what was skipped and why.
              --quick        Native checks and tests alone, up to the first failure
              --only PART    One part: native, wasm, browser, gpu or python
  parity    Run TRL and transformers again beside the frozen vectors (tests/parity), then the parity suites on them.
            --yes          Download these peers if they are missing (5.6 GB, most of it PyPI's torch); so does CI=true
  bundle    Build the page alone.
              --dist DIR     Write it here (dist)
              --debug        Fast to build, large, with debug information
  setup     Install what `up` and `test` need, and nothing else.
  doctor    Show what is there, what is missing and what to do about it. Changes nothing.
  bench     Measure training and generation, beside PyTorch where `parity` has put it; what follows goes to `parl bench`.

Examples
  cargo xtask up --open              See the page: minutes the first time, seconds from then on
  cargo xtask test --quick           Before every commit
  cargo xtask test --only browser    After a change to the page
  cargo xtask parity --yes           After a change to losses, sampling, model or optimizer
  cargo xtask bundle --dist /tmp/site && parl serve --dist /tmp/site
                                     Put the page somewhere else

Environment
  CARGO_TARGET_DIR        Where builds go (target/)
  XDG_CACHE_HOME          Where downloads and the Python environment go (~/.cache), in parl-mt/
  PARL_PARITY_PYTHON      A Python that has torch, transformers, trl and peft, for `parity`; otherwise it makes its own
  PARL_WASM_TOOLCHAIN     `debian`: build wasm with Debian's rustc-web even where rustup could do it
";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    shell::start_clock();
    if let Err(error) = dispatch(&arguments) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn dispatch(arguments: &[String]) -> Result {
    let mut rest = Arguments(arguments.iter().skip(1).cloned().collect());
    if rest.flag("--help") || rest.flag("-h") {
        print!("{HELP}");
        return Ok(());
    }
    match arguments.first().map(String::as_str) {
        None | Some("help" | "--help" | "-h") => print!("{HELP}"),
        Some("up") => {
            let port = rest.value("--port")?.unwrap_or_else(|| "8080".to_owned());
            let port = port.parse().map_err(|_| format!("--port {port}: not a port number"))?;
            let open = rest.flag("--open");
            rest.end()?;
            up::up(port, open)?;
        }
        Some("test") => {
            let only = match rest.value("--only")?.as_deref() {
                None => None,
                Some("native") => Some(test::Part::Native),
                Some("wasm") => Some(test::Part::Wasm),
                Some("browser") => Some(test::Part::Browser),
                Some("python") => Some(test::Part::Python),
                Some("gpu") => Some(test::Part::Gpu),
                Some(other) => return Err(format!("--only {other}: native, wasm, browser, gpu or python").into()),
            };
            let plan = test::Plan { quick: rest.flag("--quick"), only };
            rest.end()?;
            test::test(&plan)?;
        }
        Some("parity") => {
            let download = rest.flag("--yes");
            rest.end()?;
            parity::parity(download)?;
        }
        Some("bundle") => {
            let options = bundle::Options { dist: rest.value("--dist")?.map(Into::into), debug: rest.flag("--debug") };
            rest.end()?;
            let dist = bundle::build(&options)?;
            println!("{}", dist.display());
        }
        Some("setup") => {
            rest.end()?;
            setup()?;
        }
        Some("doctor") => {
            rest.end()?;
            doctor::doctor()?;
        }
        Some("bench") => bench(&rest.0)?,
        Some(other) => return Err(format!("unknown command `{other}`; see `cargo xtask --help`").into()),
    }
    Ok(())
}

/// Runs `parl bench` in release, with the peer that `parity` installed, where there is one.
fn bench(arguments: &[String]) -> Result {
    let mut cargo = shell::cargo();
    cargo.args(["run", "--release", "--package", "parl-mt", "--bin", "parl", "--", "bench"]).args(arguments);
    if std::env::var_os("PARL_PARITY_PYTHON").is_none()
        && let Some(python) = parity::find_python()
    {
        cargo.env("PARL_PARITY_PYTHON", python);
    }
    shell::run(&mut cargo)
}

/// Installs everything; goes on after a failure, so that one missing thing does not hide the next.
fn setup() -> Result {
    let mut missing = 0;
    let mut tell = |label: &str, outcome: Result<String>| match outcome {
        Ok(found) => shell::say(&format!("{label}: {found}")),
        Err(error) => {
            missing += 1;
            shell::say(&format!("{label}: {error}"));
        }
    };
    tell("wasm target", wasm::Toolchain::ensure().map(|found| found.describe()));
    tell("wasm-bindgen", shell::step("wasm-bindgen", bundle::bindgen).map(|path| path.display().to_string()));
    tell("browser", needs::browser().map(|(browser, _)| browser.display().to_string()));
    tell("Python packages", needs::python().map(|path| path.display().to_string()));
    tell("axe-core", needs::axe().map(|path| path.display().to_string()));
    if missing == 0 { Ok(()) } else { Err(format!("{missing} things are missing").into()) }
}

/// Options in any order.
struct Arguments(Vec<String>);

impl Arguments {
    fn flag(&mut self, name: &str) -> bool {
        let place = self.0.iter().position(|word| word == name);
        place.map(|place| self.0.remove(place)).is_some()
    }

    fn value(&mut self, name: &str) -> Result<Option<String>> {
        let Some(place) = self.0.iter().position(|word| word == name || word.starts_with(&format!("{name}="))) else {
            return Ok(None);
        };
        let word = self.0.remove(place);
        match word.split_once('=') {
            Some((_, value)) => Ok(Some(value.to_owned())),
            None if place < self.0.len() => Ok(Some(self.0.remove(place))),
            None => Err(format!("{name} needs a value").into()),
        }
    }

    fn end(&self) -> Result {
        match self.0.first() {
            Some(word) => Err(format!("unknown option `{word}`; see `cargo xtask --help`").into()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    #[test]
    fn options_in_any_order() {
        let mut arguments = Arguments(["--open", "--port", "1", "--dist=x"].map(str::to_owned).into());
        assert_eq!(arguments.value("--port").unwrap().as_deref(), Some("1"));
        assert_eq!(arguments.value("--dist").unwrap().as_deref(), Some("x"));
        assert!(arguments.flag("--open"));
        arguments.end().unwrap();
        arguments.0.push("--port".into());
        assert!(arguments.end().is_err());
        assert!(arguments.value("--port").is_err());
    }
}
