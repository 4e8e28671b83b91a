//! `parl`: the engine on a workstation. Thin entry points only: what a command does lives in the library.

#[cfg(feature = "tensor")]
mod bench;
mod bfcl;
mod data_folder;
#[cfg(feature = "tensor")]
mod devices;
#[cfg(feature = "tensor")]
mod display;
#[cfg(feature = "tensor")]
mod runs;
mod serve;
#[cfg(feature = "tensor")]
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps memory that is freed, instead of giving it back to the system and taking it again. A step of training frees and
/// takes hundreds of megabytes; without this a fifth of its time goes to the system clearing pages.
#[cfg(feature = "tensor")]
#[allow(unsafe_code)]
fn keep_freed_memory() {
    /// `mi_option_purge_delay` in mimalloc.h, which the crate does not name.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets a number that mimalloc reads atomically; -1 is its value for "never".
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) }
}

/// Progress-aware multi-turn function calling: see it, learn it, train it.
#[derive(Parser)]
#[command(name = "parl", version, after_help = EXAMPLES)]
struct Arguments {
    /// Folder with the data that `parl` fetches [default: parl-mt in the user's data folder]
    #[arg(long, global = true, value_name = "DIR", env = "PARL_DATA")]
    data: Option<std::path::PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Get BFCL's tasks (through pip, checked by hash), then run their ground truth through loop and checker:
    parl bfcl fetch
    parl bfcl replay

  Look at one task, with the results of its ground truth:
    parl bfcl show multi_turn_base_0

  Score your own trajectories, one JSON object a line:
    parl bfcl score --trajectories runs.jsonl --out scores.jsonl

  Train a small model on a toy task, and look at what came of it:
    parl train data.task=addition
    parl runs show runs/sft-addition-nano-seed0

  Open the page, with BFCL's tasks in it:
    parl serve --dist dist

Environment:
  PARL_DATA    the data folder, as --data
  PARL_DEVICE  where to compute, as --device of `parl train`";

#[derive(Subcommand)]
enum Command {
    /// BFCL's multi-turn tasks: fetch, list, show, replay, score
    Bfcl(bfcl::Arguments),
    /// Print the JSON Schemas of the file formats (trace, task, score lines)
    Schema,
    /// Serve the page, and BFCL's tasks where they have been fetched, on this machine only
    Serve(serve::Arguments),
    /// Train a model: fine-tune it, or let it learn from rewards
    #[cfg(feature = "tensor")]
    Train(train::Arguments),
    /// Runs of `parl train`: list, show, export
    #[cfg(feature = "tensor")]
    Runs(runs::Arguments),
    /// Measure training and generation, beside PyTorch where there is one
    #[cfg(feature = "tensor")]
    Bench(bench::Arguments),
    /// Show what can compute on this machine
    #[cfg(feature = "tensor")]
    Devices(devices::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let data = match data_folder::DataFolder::locate(arguments.data) {
        Ok(data) => data,
        Err(error) => return fail(&error),
    };
    let done = match arguments.command {
        Command::Bfcl(arguments) => bfcl::run(arguments, &data),
        Command::Schema => print_schemas(),
        Command::Serve(arguments) => serve::run(&arguments, &data),
        #[cfg(feature = "tensor")]
        Command::Train(arguments) => {
            keep_freed_memory();
            train::run(&arguments)
        }
        #[cfg(feature = "tensor")]
        Command::Runs(arguments) => runs::run(&arguments),
        #[cfg(feature = "tensor")]
        Command::Bench(arguments) => {
            keep_freed_memory();
            bench::run(&arguments)
        }
        #[cfg(feature = "tensor")]
        Command::Devices(arguments) => devices::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// An error is told once, here; a closed pipe (`parl … | head`) is no error.
fn fail(error: &anyhow::Error) -> ExitCode {
    let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(broken_pipe) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn print_schemas() -> anyhow::Result<()> {
    use std::io::Write as _;
    let schemas = parl_mt::schema::schemas();
    writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&schemas)?)?;
    Ok(())
}
