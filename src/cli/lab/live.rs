//! `btrfuse lab live`: protocols or builds under the same workload, on real mounts.

use crate::cli::{Exit, Failure, duration, options, size, stress};
use crate::commit::mkfs;
use crate::extent_buffer::Kind;
use crate::lab::live::campaign::{self, News};
use crate::lab::live::children;
use crate::lab::live::plan::{Plan, Subject};
use crate::lab::live::report::Report;
use crate::lab::live::run::Run;
use crate::lab::workload::conductor::Order;
use crate::lab::workload::mix::Mix;
use crate::sync::atomic::Ordering;
use crate::sync::thread;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Compare protocols, or builds, on live mounts: who breaks a rule, when, and what it costs.
///
/// Each run makes an image, mounts it, works on it with several processes until its time is over
/// or the log tells of a broken rule, unmounts, and asks the judges: `btrfs check`, the kernel
/// (as root), and the processes' own memory of what they wrote. All subjects get the same seeds,
/// in turns. What fails ends no comparison: it is in the report. A race-lab build compares its
/// protocols; any build compares others that are named with --binary. Exits with 7 when a subject broke that mustn't: all but unfixed and handshake;
/// when anybody hung, crashed, or answered wrongly; and when nobody judged an image.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A protocol to compare (race-lab builds); all of the build's if absent. Repeatable.
    #[arg(long, value_name = "P", conflicts_with = "binary")]
    protocol: Vec<String>,
    /// A build to compare: NAME=PATH of its btrfuse. Repeatable.
    #[arg(long, value_name = "NAME=PATH")]
    binary: Vec<String>,
    /// A delay point to arm, POINT:µs (race-lab builds). Repeatable.
    #[arg(long, value_name = "POINT:µs")]
    delay: Vec<String>,
    /// No run begins after this time: 90, 15m, 2h.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    time: Option<Duration>,
    /// No run begins once every subject has done N operations in all of its runs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    operations: Option<u64>,
    /// How many seeds (3, or as many as --time and --operations want).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// How long a run lasts that breaks no rule.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration::parse)]
    each: Duration,
    /// End a run after N operations of each process, too.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    ops: Option<u64>,
    /// Fail (exit 7) unless this subject breaks a rule in some run. Repeatable.
    #[arg(long, value_name = "NAME")]
    must_break: Vec<String>,
    /// End everything at the first broken rule.
    #[arg(long)]
    until_first: bool,
    /// How many processes work on a mount.
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u64).range(1..=256))]
    procs: u64,
    /// What they do: as for `btrfuse stress`.
    #[arg(long, value_name = "MIX", default_value = "empty-leaves", value_parser = Mix::parse)]
    mix: Mix,
    /// Bytes of a tree block; small ones empty more often.
    #[arg(long, value_name = "SIZE", default_value = "4K", value_parser = size::parse)]
    nodesize: u64,
    /// The size of the images, which are sparse.
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = size::parse)]
    size: u64,
    /// The bound of the tree block cache; small, so that reclaim runs.
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = size::parse)]
    cache: u64,
    /// Seconds between commits.
    #[arg(long, value_name = "S", default_value_t = 5)]
    commit: u64,
    /// More mount options. Repeatable.
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<String>,
    /// Where images lie while they are used; not in memory.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
    /// Keep images and logs of broken runs below DIR.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Don't ask the kernel, also as root.
    #[arg(long)]
    no_kernel: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Also write the JSON object to a file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Mount options that have an option of the command, and what that is.
const OWN_OPTIONS: [(&str, &str); 4] = [
    ("protocol", "--protocol"),
    ("delay", "--delay"),
    ("commit", "--commit"),
    ("metadata_cache", "--cache"),
];

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let plan = plan(&args)?;
    // Hours of work mustn't end at a folder that isn't there.
    if let Some(path) = &args.report {
        super::want_folder_of(path)?;
    }
    let stop = stress::stop_flag()?;
    let bar = bar(args.json);
    let began = Instant::now();
    let report = campaign::run(&plan, &mut |news| {
        match news {
            News::Working {
                subject,
                seed,
                progress,
            } => bar.set_message(format!(
                "{}, seed {seed}: {} operations in {} s ({} s in all)",
                subject.name,
                progress.operations,
                progress.elapsed.as_secs(),
                began.elapsed().as_secs()
            )),
            News::Over(run) => {
                if !args.json {
                    bar.suspend(|| crate::cli::print::say!("{}", in_a_line(run)));
                }
            }
        }
        bar.tick();
        // Relaxed: a plain flag.
        match stop.load(Ordering::Relaxed) {
            true => Order::Stop,
            false => Order::GoOn,
        }
    });
    bar.finish_and_clear();
    let json = serde_json::to_string_pretty(&report)
        .map_err(|error| Failure::new(Exit::Bug, error.to_string()))?;
    if args.json {
        crate::cli::print::say!("{json}");
    } else {
        crate::cli::print::say!("\n{}", report.text());
    }
    let written = match &args.report {
        Some(path) => super::write(path, &json),
        None => Ok(()),
    };
    let failures = failures(&args, &report);
    // What the runs have shown comes before what couldn't be written down.
    if failures.is_empty() {
        return written;
    }
    if let Err(why) = written {
        crate::cli::print::complain!("btrfuse: {why}");
    }
    match failures.first() {
        None => Ok(()),
        Some(first) => {
            let more = match failures.len() {
                1 => String::new(),
                len => format!(" (and {} failures more)", len - 1),
            };
            Err(Failure::new(Exit::Wrong, format!("{first}{more}")))
        }
    }
}

/// What isn't as it must be, or as it was wanted.
fn failures(args: &Args, report: &Report) -> Vec<String> {
    let mut failures = report.failures();
    failures.extend(report.unjudged());
    if report.runs.is_empty() && !report.interrupted {
        failures.push("no run was made".to_owned());
    }
    let row = |name: &String| report.rows.iter().find(|row| row.subject == *name);
    let ended_early = if report.interrupted {
        ", and was ended early"
    } else {
        ""
    };
    for name in &args.must_break {
        let runs = row(name).map_or(0, |row| row.runs);
        if row(name).is_none_or(|row| row.violations == 0) {
            failures.push(format!(
                "{name} must break a rule, and broke none in {runs} runs{ended_early}"
            ));
        }
    }
    if let Some(wanted) = args
        .operations
        .filter(|_| !args.until_first && !report.interrupted)
    {
        let short = report.rows.iter().filter(|row| row.operations < wanted);
        failures.extend(short.map(|row| {
            let (name, did) = (&row.subject, row.operations);
            format!("{name} did {did} of {wanted} operations: give it more time, or seeds")
        }));
    }
    failures
}

fn bar(quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg}");
    style.map_or(ProgressBar::hidden(), |style| {
        ProgressBar::new_spinner().with_style(style)
    })
}

fn in_a_line(run: &Run) -> String {
    let end = match &run.violation {
        Some(broken) => format!(
            "BROKEN after {:.2} s, {} operations: {}",
            broken.seconds, broken.operations, broken.what
        ),
        None if run.is_wrong() => "WRONG, without a broken rule".to_owned(),
        None if run.judgement.unchecked.is_some() => "held, its image unjudged".to_owned(),
        None => "held".to_owned(),
    };
    format!(
        "{:17} seed {:<4} {:>9} operations in {:>6.1} s  {end}",
        run.subject, run.seed, run.operations, run.seconds
    )
}

fn plan(args: &Args) -> Result<Plan, Failure> {
    let program = std::env::current_exe()
        .map_err(|why| Failure::failed(format!("can't find this program again: {why}")))?;
    let subjects = match args.binary.as_slice() {
        [] => protocols(&args.protocol, &program)?,
        binaries => binaries
            .iter()
            .map(|text| binary(text))
            .collect::<Result<_, _>>()?,
    };
    let mut names = std::collections::BTreeSet::new();
    if let Some(twice) = subjects.iter().find(|subject| !names.insert(&subject.name)) {
        return Err(Failure::usage(format!(
            "{} is named twice: each subject needs a name of its own",
            twice.name
        )));
    }
    check_delays(&args.delay)?;
    for list in &args.options {
        for option in list.split(',') {
            let name = option.split('=').next().unwrap_or(option);
            if let Some((_, own)) = OWN_OPTIONS.iter().find(|(own, _)| *own == name) {
                return Err(Failure::usage(format!(
                    "-o {option}: that is {own} here, so that the report can tell it"
                )));
            }
        }
    }
    if !args.dir.is_dir() {
        return Err(Failure::failed(format!(
            "{} isn't a directory",
            args.dir.display()
        )));
    }
    if let Some(stranger) = args.must_break.iter().find(|name| !names.contains(name)) {
        return Err(Failure::usage(format!(
            "--must-break {stranger}: nobody of that name is compared"
        )));
    }
    let nodesize = u32::try_from(args.nodesize)
        .map_err(|_| Failure::usage(format!("node size {} is too large", args.nodesize)))?;
    let mut plan = Plan::new(subjects, program, args.mix.clone());
    plan.delays = args.delay.clone();
    plan.seed = args.seed;
    let until_enough = args.time.is_some() || args.operations.is_some();
    plan.seeds = match args.seeds {
        Some(seeds) => seeds,
        None if until_enough => u64::MAX,
        None => plan.seeds,
    };
    plan.time = args.time;
    plan.operations = args.operations;
    plan.each = args.each;
    plan.steps = args.ops;
    plan.until_first = args.until_first;
    plan.processes = args.procs;
    plan.nodesize = nodesize;
    plan.size_bytes = args.size;
    plan.cache_bytes = args.cache;
    plan.commit_secs = args.commit;
    plan.options = args.options.clone();
    plan.folder = args.dir.clone();
    plan.keep = args.keep.clone();
    plan.kernel &= !args.no_kernel;
    // What every run would stumble over is said once, and before the first.
    mkfs::judge(plan.size_bytes, &plan.image_options())
        .map_err(|error| Failure::usage(error.to_string()))?;
    for subject in &plan.subjects {
        options::parse(&[plan.mount_options(subject)], false)?;
    }
    Ok(plan)
}

/// Protocols of this very build.
fn protocols(names: &[String], program: &Path) -> Result<Vec<Subject>, Failure> {
    if !cfg!(feature = "race-lab") {
        return Err(Failure::usage(format!(
            "this build has no race lab to compare protocols in{}; name builds to compare with \
             --binary NAME=PATH, or make one that has it: `cargo build --release --features race-lab`",
            match cfg!(feature = "protocols") {
                true => " (it can mount by each, -o protocol=)".to_owned(),
                false => format!(", and only the protocol {}", Kind::BUILD),
            }
        )));
    }
    let kinds = match names {
        [] => Kind::ALL.to_vec(),
        names => {
            let parsed: Result<Vec<Kind>, String> = names.iter().map(|name| name.parse()).collect();
            parsed.map_err(Failure::usage)?
        }
    };
    let subject = |kind: &Kind| Subject {
        name: kind.name().to_owned(),
        binary: program.to_owned(),
        protocol: Some(kind.name().to_owned()),
        version: None,
    };
    Ok(kinds.iter().map(subject).collect())
}

fn binary(text: &str) -> Result<Subject, Failure> {
    let Some((name, path)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
        return Err(Failure::usage(format!(
            "--binary {text}: write NAME=PATH, as in owned=target/release/btrfuse"
        )));
    };
    let binary =
        std::path::absolute(path).map_err(|why| Failure::failed(format!("{path}: {why}")))?;
    if !binary.is_file() {
        return Err(Failure::usage(format!(
            "--binary {text}: {path} isn't a program"
        )));
    }
    let version = version_of(&binary);
    let lives_by = version.as_deref().and_then(protocol_of);
    if let (Ok(named), Some(kind)) = (name.parse::<Kind>(), lives_by)
        && named != kind
    {
        return Err(Failure::usage(format!(
            "--binary {text}: that build mounts with protocol {kind}; call it so, or by no protocol's name"
        )));
    }
    Ok(Subject {
        name: name.to_owned(),
        binary,
        protocol: None,
        version,
    })
}

/// What a build says of itself: `btrfuse 0.1.0 (protocol: owned)`. `None` for what isn't one.
fn version_of(binary: &Path) -> Option<String> {
    let mut child = children::command(binary)
        .arg("--version")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    // Whatever it is, it may have no end.
    let deadline = Instant::now() + Duration::from_secs(10);
    while child.try_wait().ok()?.is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let mut said = String::new();
    child.stdout?.take(1 << 10).read_to_string(&mut said).ok()?;
    let line = said.lines().next()?;
    line.starts_with("btrfuse ").then(|| line.to_owned())
}

/// The protocol that a version names.
fn protocol_of(version: &str) -> Option<Kind> {
    let (_, rest) = version.split_once("(protocol: ")?;
    rest.split([',', ')']).next()?.parse().ok()
}

#[cfg(feature = "race-lab")]
fn check_delays(delays: &[String]) -> Result<(), Failure> {
    for text in delays {
        text.parse::<crate::sync::race_point::Delay>()
            .map_err(|why| Failure::usage(format!("--delay {text}: {why}")))?;
    }
    Ok(())
}

#[cfg(not(feature = "race-lab"))]
fn check_delays(delays: &[String]) -> Result<(), Failure> {
    match delays.first() {
        None => Ok(()),
        Some(text) => Err(Failure::usage(format!(
            "--delay {text}: only a build with `--features race-lab` has delay points"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::live::{again, run};
    use clap::Parser;
    use std::process::Command;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// It had a seed, and neither delays nor options, protocol, mix or sizes.
    #[test]
    fn the_command_line_of_a_run_makes_it_again() {
        let program = std::env::current_exe().unwrap();
        let binary = format!("the 'other' build={}", program.display());
        let words = [
            "live",
            "--binary",
            &binary,
            "--each",
            "7",
            "--ops",
            "9",
            "--procs",
            "3",
            "--mix",
            "data,write=0",
            "--nodesize",
            "16K",
            "--size",
            "1G",
            "--cache",
            "2M",
            "--commit",
            "9",
            "-o",
            "noatime,ro",
            "-o",
            "noatime",
            "--dir",
            "/tmp",
            "--no-kernel",
            "--seeds",
            "5",
        ];
        let first = plan(&Line::parse_from(words).args).unwrap();
        let line = again::command_line(&first, &first.subjects[0], 77);
        let script = format!("set -- {line}; printf '%s\\n' \"$@\"");
        let said = Command::new("sh").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let words: Vec<&str> = said.lines().collect();
        assert_eq!(words[..3], [program.to_str().unwrap(), "lab", "live"]);
        let again = plan(&Line::parse_from(&words[2..]).args).unwrap();
        let mut wanted = first;
        (wanted.seed, wanted.seeds) = (77, 1);
        assert_eq!(
            serde_json::to_value(&again).unwrap(),
            serde_json::to_value(&wanted).unwrap()
        );
    }

    #[cfg(feature = "race-lab")]
    #[test]
    fn a_protocol_and_its_delays_are_in_the_command_line() {
        let words = [
            "live",
            "--protocol",
            "unfixed",
            "--delay",
            "drop-tested:2000",
        ];
        let first = plan(&Line::parse_from(words).args).unwrap();
        let line = again::command_line(&first, &first.subjects[0], 1);
        assert!(line.contains("--protocol unfixed"), "{line}");
        assert!(line.contains("--delay drop-tested:2000"), "{line}");
        assert!(line.contains("--mix empty-leaves"), "{line}");
    }

    /// The lab is below the commands, and can't name their codes.
    #[test]
    fn the_lab_knows_the_code_of_a_failed_last_commit() {
        assert_eq!(run::LAST_COMMIT, Exit::LastCommit as i32);
    }
}
