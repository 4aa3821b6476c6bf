//! `btrfuse lab`: the races of extent buffers, shown on the real cache and tree.
//!
//! Every build knows the command, so that one without the lab can say which build has it.

#[cfg(feature = "protocols")]
mod cost;
#[cfg(feature = "race-lab")]
mod explore;
mod live;
#[cfg(feature = "race-lab")]
mod machine_code;
#[cfg(feature = "race-lab")]
mod replay;
#[cfg(feature = "race-lab")]
mod report;

use super::{Failure, duration};
use std::path::PathBuf;
use std::time::Duration;

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
    Cost(CostArgs),
    MachineCode(MachineCodeArgs),
    Report(ReportArgs),
}

/// Force the interleaving of the 2015 report with three threads, and print every step.
///
/// On a real tree; with scenarios, the shortest schedule that breaks each, forced on real threads that
/// are held before every access. Exits with 0 when the protocol does what is expected of it (unfixed
/// ends in a BUG_ON report, the others don't), and with 7 otherwise.
#[derive(clap::Args, Debug)]
struct ReplayArgs {
    /// Scenarios by letter or name (`btrfuse lab list`) in place of the report on the tree.
    scenarios: Vec<String>,
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
    /// Also draw the steps to a file, as SVG: of one scenario, as it is done today unless its letter has
    /// the mark (G').
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
/// Exits with 0 when every protocol does what is expected of it, and with 7 otherwise, or where a search
/// gave up.
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
/// Exits with 0 when nobody lost who must win, and with 7 otherwise.
#[derive(clap::Args, Debug)]
struct RaceArgs {
    /// Scenarios by letter or name (`btrfuse lab list`); all if absent.
    scenarios: Vec<String>,
    /// A lifetime protocol; may be given several times; all if absent.
    #[arg(long = "protocol", value_name = "P")]
    protocols: Vec<String>,
    /// Rounds of each.
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..))]
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

/// Measure what each protocol costs, a lookup in memory and whole mounts, as ratios to owned.
///
/// Protocols take turns within each round of one run; the median round counts. A build with
/// `--features protocols` measures without the lab's points and events, which a race-lab build pays
/// for in every lookup.
#[derive(clap::Args, Debug)]
struct CostArgs {
    /// A lifetime protocol; may be given several times; all if absent. owned is always measured.
    #[arg(long = "protocol", value_name = "P")]
    protocols: Vec<String>,
    /// How many threads, and processes of mounts; a measurement each.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,2,4,8",
          value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: Vec<u64>,
    /// Rounds of lookups.
    #[arg(long, value_name = "N", default_value_t = 9,
          value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rounds: u64,
    /// Milliseconds of lookups of one protocol in a round.
    #[arg(long, value_name = "MS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=60_000))]
    each: u64,
    /// Measure no mounts.
    #[arg(long)]
    no_mounts: bool,
    /// How long a mount is worked on.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration::parse)]
    each_mount: Duration,
    /// Mounts of each protocol for each number of processes.
    #[arg(long, value_name = "N", default_value_t = 3)]
    seeds: u64,
    /// Where images lie while they are used; not in memory.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Also write the JSON object to a file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Look for the empty lock section of 2015 in the machine code of a program.
///
/// Exits with 7 when a compiler has dropped it. Needs objdump, and a program with symbols that was
/// built with the handshake (`cargo build --release --no-default-features --features handshake`).
#[derive(clap::Args, Debug)]
struct MachineCodeArgs {
    /// The program: a release build of btrfuse.
    program: PathBuf,
    /// Print one JSON object instead of the code.
    #[arg(long)]
    json: bool,
}

/// Run every engine, and put what they say on one page.
///
/// Explores, replays, races, and compares on live mounts. What needs other builds is taken from files:
/// `scripts/report` makes those builds and files, and calls this. Exits with 7 when a verdict isn't
/// the registry's.
#[derive(clap::Args, Debug)]
struct ReportArgs {
    /// Where the page goes: one HTML file that needs nothing else.
    #[arg(long, value_name = "FILE", default_value = "race-report.html")]
    html: PathBuf,
    /// Also write all of it as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print the terminal's version too: the same facts.
    #[arg(long)]
    text: bool,
    /// What the model checker found (`examples/model.rs --report FILE`).
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// What random schedules found (`examples/schedules.rs --report FILE`).
    #[arg(long, value_name = "FILE")]
    schedules: Option<PathBuf>,
    /// What protocols cost (`lab cost --report FILE`); measured in this build if absent.
    #[arg(long, value_name = "FILE")]
    costs: Option<PathBuf>,
    /// A release build with the handshake, whose machine code is looked into.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// An earlier comparison on mounts to show as well (`lab live --report FILE`). Repeatable.
    #[arg(long, value_name = "FILE")]
    live: Vec<PathBuf>,
    /// Short runs on mounts and fewer rounds: a few minutes less, and fewer losers caught.
    #[arg(long)]
    quick: bool,
    /// Exit with 7 too when anything wasn't run: cells, costs, the program's machine code, or what was
    /// left to do when somebody ended it.
    #[arg(long, conflicts_with = "quick")]
    whole: bool,
    /// Where images lie while they are used; not in memory.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
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
        Command::Cost(args) => cost::cost(&args),
        Command::MachineCode(args) => machine_code::machine_code(&args),
        Command::Report(args) => report::report(&args),
    }
}

/// Says which build has the command, unless it needs no lab.
#[cfg(not(feature = "race-lab"))]
pub fn run(args: Args) -> Result<(), Failure> {
    let command = match args.command {
        Command::Replay(args) => {
            let mut command = format!("replay {}", args.scenarios.join(" "));
            if let Some(name) = args.protocol {
                command = format!("{} --protocol {name}", command.trim_end());
            }
            command.trim_end().to_owned()
        }
        Command::List(_) => "list".into(),
        Command::Explore(_) => "explore".into(),
        Command::Race(_) => "race".into(),
        // Compares any builds.
        Command::Live(args) => return live::run(*args),
        #[cfg(feature = "protocols")]
        Command::Cost(args) => return cost::cost(&args),
        #[cfg(not(feature = "protocols"))]
        Command::Cost(_) => {
            return Err(Failure::usage(
                "this build has one protocol, and nothing to compare it with; try `cargo run \
                 --release --features protocols -- lab cost`",
            ));
        }
        Command::MachineCode(args) => format!("machine-code {}", args.program.display()),
        Command::Report(_) => "report".into(),
    };
    Err(Failure::usage(format!(
        "this build has no race lab; try `cargo run --release --features race-lab -- lab {command}`"
    )))
}

/// The scenarios that are meant; all where none is named.
#[cfg(feature = "race-lab")]
fn plays(names: &[String]) -> Result<Vec<crate::extent_buffer::scenarios::Play>, Failure> {
    use crate::extent_buffer::scenarios::Play;
    let mut plays = Vec::new();
    for name in names {
        let named = Play::named(name);
        if named.is_empty() {
            let labels: Vec<_> = Play::all().map(|play| play.label()).collect();
            return Err(Failure::usage(format!(
                "no scenario is called {name}; there are {} (`btrfuse lab list` names them)",
                labels.join(", ")
            )));
        }
        plays.extend(named);
    }
    if names.is_empty() {
        plays = Play::all().collect();
    }
    Ok(plays)
}

/// The protocols that are meant; all where none is named.
#[cfg(feature = "protocols")]
fn kinds(names: &[String]) -> Result<Vec<crate::extent_buffer::Kind>, Failure> {
    use crate::extent_buffer::Kind;
    match names {
        [] => Ok(Kind::ALL.to_vec()),
        names => names
            .iter()
            .map(|name| name.parse().map_err(Failure::usage))
            .collect(),
    }
}

/// Prints the JSON object, or writes it to a file, or both.
#[cfg(feature = "protocols")]
fn tell(
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

/// Refuses a file to be written at the end whose folder isn't there.
fn want_folder_of(file: &std::path::Path) -> Result<(), Failure> {
    want_folder(folder_of(file))
}

fn folder_of(file: &std::path::Path) -> &std::path::Path {
    let folder = file.parent();
    folder
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(std::path::Path::new("."))
}

fn want_folder(folder: &std::path::Path) -> Result<(), Failure> {
    match folder.is_dir() {
        true => Ok(()),
        false => Err(Failure::failed(format!(
            "{} isn't a directory",
            folder.display()
        ))),
    }
}

/// Refuses a file that can't be written, before the work whose outcome it is for.
#[cfg(feature = "protocols")]
fn want_writable(file: Option<&std::path::Path>) -> Result<(), Failure> {
    use rustix::fs::Access;
    let Some(file) = file else {
        return Ok(());
    };
    want_folder_of(file)?;
    let refused = |why: &dyn std::fmt::Display| {
        Failure::failed(format!("{} can't be written: {why}", file.display()))
    };
    if file.is_dir() {
        return Err(refused(&"it is a directory"));
    }
    let asked = if file.exists() { file } else { folder_of(file) };
    rustix::fs::access(asked, Access::WRITE_OK).map_err(|why| refused(&why))
}

fn write(path: &std::path::Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|error| Failure::failed(format!("{} can't be written: {error}", path.display())))
}
