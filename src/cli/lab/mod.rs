//! `btrfuse lab`: the races of extent buffers, shown on the real cache and tree.
//!
//! Every build knows the command, so that one without the lab can say which build has it.

#[cfg(feature = "race-lab")]
mod explore;
mod live;
#[cfg(feature = "race-lab")]
mod replay;

use super::Failure;
use std::path::PathBuf;

/// Show the races of extent buffers (builds with `--features race-lab`; `live` in all).
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Replay(ReplayArgs),
    List(ListArgs),
    Explore(ExploreArgs),
    Race(RaceArgs),
    Live(Box<live::Args>),
}

/// Force the interleaving of the 2015 report with three threads, and print every step.
///
/// Exits with 0 when the protocol does what is expected of it: unfixed ends in a BUG_ON report,
/// the others don't.
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

/// List the scenarios: where each was seen, and who must lose it.
#[derive(clap::Args, Debug)]
struct ListArgs {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Run every interleaving of a scenario, count them, and show the shortest failing one.
///
/// Exits with 0 when every protocol does what is expected of it.
#[derive(clap::Args, Debug)]
struct ExploreArgs {
    /// Scenarios by letter or name (`btrfuse lab list`); all if absent.
    scenarios: Vec<String>,
    /// A lifetime protocol; may be given several times; all if absent.
    #[arg(long = "protocol", value_name = "P")]
    protocols: Vec<String>,
    /// Pass over schedules that take the processor from a thread that could go on more often.
    #[arg(long, value_name = "N")]
    preemptions: Option<usize>,
    /// Print the shortest failing schedule, step by step.
    #[arg(long)]
    trace: bool,
    /// Explore the planted mutants instead; each must fail.
    #[arg(long, conflicts_with_all = ["scenarios", "protocols"])]
    mutants: bool,
    /// Run each schedule by itself, without sharing what follows a state that was seen before: slow,
    /// and the same counts.
    #[arg(long)]
    one_by_one: bool,
    /// Give up after so many states.
    #[arg(long, value_name = "N", default_value_t = 5_000_000)]
    states: usize,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Also write the JSON object to a file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Run scenarios on real threads, round after round, and count the rounds that break a rule.
///
/// Exits with 0 when nobody lost who must win.
#[derive(clap::Args, Debug)]
struct RaceArgs {
    /// Scenarios by letter or name (`btrfuse lab list`); all if absent.
    scenarios: Vec<String>,
    /// A lifetime protocol; may be given several times; all if absent.
    #[arg(long = "protocol", value_name = "P")]
    protocols: Vec<String>,
    /// Rounds of each.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rounds: u64,
    /// Let threads sleep at a race point.
    #[arg(long = "delay", value_name = "POINT:µs")]
    delays: Vec<String>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Also write the JSON object to a file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Runs the command.
#[cfg(feature = "race-lab")]
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Replay(args) => replay::replay(args),
        Command::List(args) => explore::list(args),
        Command::Explore(args) => explore::explore_all(args),
        Command::Race(args) => explore::race(args),
        Command::Live(args) => live::run(*args),
    }
}

/// Says which build has the command, unless it needs no lab.
#[cfg(not(feature = "race-lab"))]
pub fn run(args: Args) -> Result<(), Failure> {
    let command = match args.command {
        Command::Replay(args) => match args.protocol {
            Some(name) => format!("replay --protocol {name}"),
            None => "replay".into(),
        },
        Command::List(_) => "list".into(),
        Command::Explore(_) => "explore".into(),
        Command::Race(_) => "race".into(),
        // Compares any builds.
        Command::Live(args) => return live::run(*args),
    };
    Err(Failure::usage(format!(
        "this build has no race lab; try `cargo run --release --features race-lab -- lab {command}`"
    )))
}

/// The scenarios and protocols that are meant; all where none is named.
#[cfg(feature = "race-lab")]
fn selection(
    scenarios: &[String],
    protocols: &[String],
) -> Result<
    (
        Vec<crate::extent_buffer::scenarios::Play>,
        Vec<crate::extent_buffer::Kind>,
    ),
    Failure,
> {
    use crate::extent_buffer::Kind;
    use crate::extent_buffer::scenarios::{ALL, Play};

    let mut plays = Vec::new();
    for name in scenarios {
        let named = Play::named(name);
        if named.is_empty() {
            let names: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
            return Err(Failure::usage(format!(
                "no scenario is called {name}; there are {}",
                names.join(", ")
            )));
        }
        plays.extend(named);
    }
    if scenarios.is_empty() {
        plays = Play::all().collect();
    }
    let kinds = match protocols {
        [] => Kind::ALL.to_vec(),
        names => names
            .iter()
            .map(|name| name.parse().map_err(Failure::usage))
            .collect::<Result<_, _>>()?,
    };
    Ok((plays, kinds))
}

/// Prints the JSON object, or writes it to a file, or both.
#[cfg(feature = "race-lab")]
fn report(
    print: bool,
    path: Option<&std::path::Path>,
    json: &serde_json::Value,
) -> Result<(), Failure> {
    if print {
        crate::cli::print::say!("{json:#}");
    }
    match path {
        Some(path) => write(path, &format!("{json:#}\n")),
        None => Ok(()),
    }
}

#[cfg(feature = "race-lab")]
fn write(path: &std::path::Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|error| Failure::failed(format!("{} can't be written: {error}", path.display())))
}
