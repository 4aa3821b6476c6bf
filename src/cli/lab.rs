//! `btrfuse lab`: the races of extent buffers, shown on the real cache and tree.
//!
//! Every build knows the command, so that one without the lab can say which build has it.

use super::Failure;
use std::path::PathBuf;

/// Show the races of extent buffers (builds with `--features race-lab`).
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Replay(ReplayArgs),
}

/// Force the interleaving of the 2015 report with three threads, and print every step.
///
/// Exits with 0 when the protocol does what is expected of it: unfixed ends in a BUG_ON report,
/// handshake and owned don't.
#[derive(clap::Args, Debug)]
struct ReplayArgs {
    /// The lifetime protocol: unfixed, handshake (or fixed), owned, handshake-always,
    /// count-under-lock, packed-word; this build's own if absent.
    #[arg(long, value_name = "P")]
    protocol: Option<String>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Also write the JSON object to a file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Also draw the steps to a file, as SVG.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Replay(args) => replay(args),
    }
}

#[cfg(not(feature = "race-lab"))]
fn replay(args: ReplayArgs) -> Result<(), Failure> {
    // The lab's own build prints and writes the report.
    let _ = (args.json, args.report, args.svg);
    let protocol = args.protocol.map(|name| format!(" --protocol {name}"));
    Err(Failure::usage(format!(
        "this build has no race lab; try `cargo run --release --features race-lab -- lab \
         replay{}`",
        protocol.unwrap_or_default()
    )))
}

#[cfg(feature = "race-lab")]
fn replay(args: ReplayArgs) -> Result<(), Failure> {
    use super::Exit;
    use crate::extent_buffer::Kind;

    let protocol = match args.protocol.as_deref() {
        None => Kind::BUILD,
        Some(name) => name.parse().map_err(Failure::usage)?,
    };
    let outcome = crate::lab::replay::replay(protocol)
        .map_err(|error| Failure::new(Exit::Bug, format!("the replay's stage fell: {error}")))?;
    let json = json(&outcome);
    if args.json {
        println!("{json:#}");
    } else {
        println!("The report of 2015, replayed on a leaf of a real tree, protocol {protocol}.");
        println!(
            "X is block {}. Flags: T tree ref, D dirty, S stale.\n",
            outcome.bytenr
        );
        println!("{}", outcome.table());
        for violation in &outcome.violations {
            println!("{violation}\n");
        }
        println!("{}", outcome.verdict());
    }
    if let Some(path) = args.report {
        write(&path, &format!("{json:#}\n"))?;
    }
    if let Some(path) = args.svg {
        write(&path, &crate::lab::drawing::svg(&outcome))?;
    }
    outcome
        .judge()
        .map_err(|words| Failure::new(Exit::Bug, words))
}

#[cfg(feature = "race-lab")]
fn write(path: &std::path::Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|error| Failure::failed(format!("{} can't be written: {error}", path.display())))
}

#[cfg(feature = "race-lab")]
fn json(outcome: &crate::lab::replay::Outcome) -> serde_json::Value {
    use crate::extent_buffer::flags::Flags;

    let steps: Vec<_> = outcome
        .rows
        .iter()
        .map(|row| {
            serde_json::json!({
                "who": row.role.name(),
                "what": row.what,
                "refs": row.seen.map(|seen| seen.refs),
                "flags": row.seen.map(|seen| Flags(seen.flags).to_string()),
            })
        })
        .collect();
    let broken: Vec<_> = outcome.violations.iter().map(ToString::to_string).collect();
    serde_json::json!({
        "protocol": outcome.protocol.name(),
        "bytenr": outcome.bytenr.0,
        "steps": steps,
        "violations": broken,
        "finder_waited": outcome.finder_waited,
        "dropper_took_tree_ref": outcome.dropper_took_tree_ref(),
        "as_expected": outcome.judge().is_ok(),
        "verdict": outcome.verdict(),
    })
}
