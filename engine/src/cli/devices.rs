//! `parl devices`: what can compute on this machine.

use std::io::Write as _;

use clap::Args;
use parl_mt::device::{self, DeviceChoice, FoundDevice};
use serde_json::json;

/// What to print.
#[derive(Args)]
pub struct Arguments {
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Prints every choice: what was found, or why there is nothing, and which one auto takes.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let selected = device::select(DeviceChoice::Auto)?;
    let choices: Vec<(DeviceChoice, Vec<FoundDevice>)> =
        DeviceChoice::AUTO_ORDER.into_iter().map(|choice| (choice, device::find(choice))).collect();
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let list: Vec<_> = choices
            .iter()
            .map(|(choice, found)| {
                let devices: Vec<_> =
                    found.iter().map(|found| json!({"name": found.name, "software": found.software})).collect();
                json!({"device": choice, "built_in": choice.is_built_in(), "found": devices})
            })
            .collect();
        let auto = json!({"device": selected.choice, "name": selected.name, "reason": selected.reason});
        writeln!(out, "{}", serde_json::to_string_pretty(&json!({"devices": list, "auto": auto}))?)?;
        return Ok(());
    }
    for (choice, found) in &choices {
        let state = if !choice.is_built_in() {
            format!("not built in (cargo build --release --features {choice})")
        } else if found.is_empty() {
            "none found".to_owned()
        } else {
            let name = |found: &FoundDevice| match found.software {
                true => format!("{} (software: by name only)", found.name),
                false => found.name.clone(),
            };
            found.iter().map(name).collect::<Vec<_>>().join("; ")
        };
        writeln!(out, "{:<7}  {:<42}  {state}", choice.name(), choice.description())?;
    }
    let why = selected.reason.strip_prefix("auto: ").unwrap_or(&selected.reason);
    writeln!(out, "\nauto takes {} ({}); {why}", selected.choice, selected.name)?;
    Ok(())
}
