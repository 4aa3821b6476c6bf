//! `btrfuse lab machine-code`: whether the lock section of 2015 is in a built program.

use super::MachineCodeArgs;
use crate::cli::print::say;
use crate::cli::{Exit, Failure};
use crate::lab::machine_code;

/// Looks, prints, and judges.
pub fn machine_code(args: &MachineCodeArgs) -> Result<(), Failure> {
    let section = machine_code::look(&args.program).map_err(Failure::failed)?;
    let json =
        serde_json::to_value(&section).map_err(|why| Failure::new(Exit::Bug, why.to_string()))?;
    if args.json {
        say!("{json:#}");
    } else {
        say!("wait_for_dropper in {}:\n", section.program);
        for (at, line) in section.code.iter().enumerate() {
            let mark = match (
                section.takes.contains(&at),
                section.gives_back.contains(&at),
            ) {
                (true, _) => "      <-- takes refs_lock",
                (_, true) => "      <-- gives it back",
                _ => "",
            };
            say!("    {line}{mark}");
        }
        say!("\ncalled by: {}\n", section.lookups.join(", "));
    }
    match section.is_there() {
        true => {
            if !args.json {
                say!(
                    "The section is there: lookups come to it, the lock is taken, and given back."
                );
            }
            Ok(())
        }
        false if section.lookups.is_empty() => Err(Failure::new(
            Exit::Wrong,
            format!(
                "{}: no lookup calls the section; a build that mounts with the handshake has it in its \
                 lookups (cargo build --release --no-default-features --features handshake)",
                section.program
            ),
        )),
        false => Err(Failure::new(
            Exit::Wrong,
            format!(
                "{}: the lock is taken {} times and given back {} times, where each must be once at \
                 least",
                section.program,
                section.takes.len(),
                section.gives_back.len()
            ),
        )),
    }
}
