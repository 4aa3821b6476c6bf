//! `btrfuse stress DIR`: several processes at work on a mounted directory, each sure of what it
//! must find.

use super::{Exit, Failure, duration};
use crate::lab::workload::conductor::{self, Order, Progress};
use crate::lab::workload::judge::{Finding, Loss};
use crate::lab::workload::mix::{self, Mix};
use crate::lab::workload::spec::{Spec, Summary};
use crate::lab::workload::{log, worker};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, thread};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Operations of each process, where neither a number nor a time is given.
const OPERATIONS: u64 = 2000;
/// Findings that are printed.
const SHOWN: usize = 20;

/// Work on a mounted directory with several processes, and check every answer.
///
/// Any filesystem will do, the kernel's btrfs too. Each process works on names of its own, knows
/// what every call must answer and what every file must hold, and compares all of it at the end;
/// and it disturbs the others in a folder that all share. Everything is in DIR/btrfuse-stress and
/// stays there; --judge compares it again on a later mount. All follows from the seed, but for
/// the order in which the processes run.
#[derive(clap::Args, Debug)]
#[command(after_long_help = format!("{}\n{EXAMPLES}", mix::help()))]
pub struct Args {
    /// A directory of the mount.
    dir: PathBuf,
    /// How many processes.
    #[arg(long, alias = "processes", value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u64).range(1..=256))]
    procs: u64,
    /// End after N operations of each process (2000, unless --time is given).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    ops: Option<u64>,
    /// End after this time: 90, 15m, 2h.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    time: Option<Duration>,
    /// What everything follows from; by chance if absent, and then printed.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// A mix (see --help), weights such as creat=10,unlink=20, or a mix with changes:
    /// fsstress,fsync=0.
    #[arg(long, value_name = "MIX", default_value = "fsstress", value_parser = Mix::parse)]
    mix: Mix,
    /// Write every operation to FILE before it is done.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Do the operations of a log again, with as many processes.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "mix", "ops", "procs"])]
    replay: Option<PathBuf>,
    /// Do them in the log's order, one at a time, in one process.
    #[arg(long, requires = "replay")]
    in_order: bool,
    /// Do nothing; compare what the last run left in DIR with what is there now.
    #[arg(long, conflicts_with_all = ["replay", "log", "fresh", "time", "ops", "seed", "mix", "procs"])]
    judge: bool,
    /// Remove what an earlier run left in DIR first.
    #[arg(long)]
    fresh: bool,
    /// Print one JSON object instead of sentences.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:\n  \
    btrfuse stress /data --procs 8 --time 15m\n  \
    btrfuse stress /data --fresh --seed 7 --mix fsstress,fsync=0 --log /tmp/steps\n  \
    btrfuse stress /data --fresh --replay /tmp/steps --in-order\n  \
    btrfuse stress /data --judge";

/// One process of a run.
#[derive(clap::Args, Debug)]
pub struct WorkerArgs {
    /// Which.
    process: u64,
    /// The run, as JSON.
    spec: String,
}

/// Runs the hidden command.
pub fn work(args: WorkerArgs) -> Result<(), Failure> {
    let spec: Spec = serde_json::from_str(&args.spec)
        .map_err(|error| Failure::usage(format!("not a run: {error}")))?;
    Ok(worker::run(&spec, args.process)?)
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    if args.judge {
        return judge(&args.dir, args.json);
    }
    if args.fresh {
        conductor::clean(&args.dir)?;
    }
    let spec = spec(&args)?;
    let stop = stop_flag()?;
    let program = std::env::current_exe()
        .map_err(|why| Failure::failed(format!("can't find this program again: {why}")))?;
    let bar = Bar::new(&spec, args.time, args.json);
    let summary = conductor::run(&spec, &program, args.time, &mut |progress| {
        bar.show(progress);
        // Relaxed: a plain flag.
        match stop.load(Ordering::Relaxed) {
            true => Order::Stop,
            false => Order::GoOn,
        }
    });
    bar.clear();
    let summary = summary?;
    let recorded = conductor::leave_record(&summary);
    report(&summary, args.json);
    match verdict(&summary) {
        Ok(()) => Ok(recorded?),
        Err(failure) => Err(failure),
    }
}

/// A signal sooner after the first than this is the same wish: `timeout` and terminals send one to a
/// process and to its group.
const SECOND: Duration = Duration::from_secs(1);

/// Set by the first Ctrl-C, SIGTERM or SIGHUP; a second one ends this process at once, and asks the
/// daemons that it has started to end by themselves.
pub fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let failed = |why: std::io::Error| Failure::failed(format!("can't watch for signals: {why}"));
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    // Who has started this with nohup wants it to outlive the terminal.
    if !is_ignored(SIGHUP) {
        signals.add_signal(SIGHUP).map_err(failed)?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let watch = move || {
        let mut first: Option<Instant> = None;
        for _ in signals.forever() {
            match first {
                None => {
                    first = Some(Instant::now());
                    // Relaxed: a plain flag.
                    flag.store(true, Ordering::Relaxed);
                }
                Some(first) if first.elapsed() < SECOND => {}
                Some(_) => {
                    crate::lab::live::children::end_daemons();
                    std::process::exit(130);
                }
            }
        }
    };
    let thread = thread::Builder::new().name("signals".into());
    thread.spawn(watch).map_err(failed)?;
    Ok(stop)
}

/// Whether whoever started this process has a signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    ignored.is_some_and(|set| set >> (signal - 1) & 1 == 1)
}

fn spec(args: &Args) -> Result<Spec, Failure> {
    let absolute = |path: &PathBuf| {
        std::path::absolute(path)
            .map_err(|why| Failure::failed(format!("{}: {why}", path.display())))
    };
    let dir = absolute(&args.dir)?;
    for path in args.log.iter().chain(&args.replay) {
        if absolute(path)?.starts_with(dir.join(crate::lab::workload::folder::TOP)) {
            return Err(Failure::usage(format!(
                "the log {} is in the run's own folder; keep it elsewhere, best on another \
                 filesystem",
                path.display()
            )));
        }
    }
    // What can be refused is, before anything is made.
    let replayed = args.replay.as_deref().map(log::read).transpose()?;
    if let (
        Some(path),
        Some(log::Read {
            torn: true, lines, ..
        }),
    ) = (&args.replay, &replayed)
    {
        super::print::complain!(
            "btrfuse: the last line of {} is cut short; the {} before it are done again",
            path.display(),
            lines.len()
        );
    }
    let features = conductor::prepare(&dir)?;
    let mut spec = match replayed {
        Some(log::Read { spec: logged, .. }) => Spec {
            replay: args.replay.as_ref().map(absolute).transpose()?,
            in_order: args.in_order,
            features: features.clone(),
            ..logged
        },
        None => Spec {
            dir: dir.clone(),
            processes: args.procs,
            steps: match (args.ops, args.time) {
                (Some(ops), _) => ops,
                (None, Some(_)) => 1 << 39,
                (None, None) => OPERATIONS,
            },
            seed: args.seed.unwrap_or_else(chance),
            mix: args.mix.clone(),
            features,
            log: None,
            replay: None,
            in_order: false,
            verify: true,
        },
    };
    spec.log = args.log.as_ref().map(absolute).transpose()?;
    spec.dir = dir;
    if spec.replay.is_none() && spec.features.restrict(&spec.mix).total() == 0 {
        return Err(Failure::usage(format!(
            "the filesystem of {} can do nothing of what the mix asks for",
            args.dir.display()
        )));
    }
    Ok(spec)
}

/// A short seed that nobody chose.
fn chance() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |now| u64::from(now.subsec_nanos()) / 1000)
}

struct Bar(ProgressBar);

impl Bar {
    fn new(spec: &Spec, time: Option<Duration>, quiet: bool) -> Self {
        if quiet {
            return Self(ProgressBar::hidden());
        }
        let (bar, template) = match time {
            Some(_) => (
                ProgressBar::new_spinner(),
                "{spinner} {pos} operations, {per_sec}, {elapsed} {msg}",
            ),
            None => (
                ProgressBar::new(spec.steps.saturating_mul(spec.processes)),
                "[{wide_bar}] {pos}/{len} operations, {per_sec}, {elapsed} {msg}",
            ),
        };
        let style = ProgressStyle::with_template(template);
        Self(style.map_or(ProgressBar::hidden(), |style| bar.with_style(style)))
    }

    fn show(&self, progress: &Progress) {
        self.0.set_position(progress.operations);
        self.0.set_message(match progress.stuck.first() {
            Some((process, operation, seconds)) => {
                format!("(process {process}: {seconds} s in {operation})")
            }
            None => String::new(),
        });
    }

    fn clear(&self) {
        self.0.finish_and_clear();
    }
}

fn report(summary: &Summary, json: bool) {
    if json {
        let mut object = serde_json::to_value(summary).unwrap_or_default();
        object["right"] = summary.is_right().into();
        crate::cli::print::say!("{object:#}");
        return;
    }
    crate::cli::print::say!(
        "stress: {} processes, seed {}, {} operations in {:.1} s ({:.0} a second), {} refusals \
         explained by races",
        summary.spec.processes,
        summary.spec.seed,
        summary.operations,
        summary.seconds,
        summary.rate,
        summary.races,
    );
    if !summary.lacking.is_empty() {
        crate::cli::print::say!(
            "stress: not done, as this filesystem can't: {}",
            summary.lacking.join(", ")
        );
    }
    if !summary.denied.is_empty() {
        crate::cli::print::say!(
            "stress: not done, as this user may not: {}",
            summary.denied.join(", ")
        );
    }
    for wrong in &summary.wrong {
        crate::cli::print::say!(
            "stress: process {} step {}: {}: {}",
            wrong.process,
            wrong.step,
            wrong.operation,
            wrong.words
        );
    }
    for death in &summary.deaths {
        crate::cli::print::say!("stress: {death}");
    }
    print_findings(&summary.findings);
    if summary.interrupted {
        crate::cli::print::say!("stress: ended early; what was done until then is reported");
    }
    if summary.is_right() {
        crate::cli::print::say!("stress: every answer was right, and everything is as it was left");
    }
}

fn print_findings(findings: &[Finding]) {
    for (loss, (count, promised)) in sums(findings) {
        crate::cli::print::say!(
            "stress: {count} {} ({promised} of them were durable)",
            loss.words()
        );
    }
    for finding in findings.iter().take(SHOWN) {
        crate::cli::print::say!("stress: {finding}");
    }
    if findings.len() > SHOWN {
        crate::cli::print::say!(
            "stress: … and {} more (--json has all)",
            findings.len() - SHOWN
        );
    }
}

/// How many of each kind, and how many of those were durable.
fn sums(findings: &[Finding]) -> BTreeMap<Loss, (u64, u64)> {
    let mut sums = BTreeMap::<Loss, (u64, u64)>::new();
    for finding in findings {
        let (count, promised) = sums.entry(finding.loss).or_default();
        *count += 1;
        *promised += u64::from(finding.promised);
    }
    sums
}

fn verdict(summary: &Summary) -> Result<(), Failure> {
    let dir = summary.spec.dir.display();
    let again = match &summary.spec.log {
        Some(log) => format!("--replay {} does it again", log.display()),
        None => format!(
            "seed {} does the same again, and --log keeps it",
            summary.spec.seed
        ),
    };
    if let Some(wrong) = summary.wrong.iter().find(|wrong| !wrong.full) {
        let what = if wrong.read_only {
            "the filesystem turned read-only"
        } else {
            "a wrong answer"
        };
        return Err(Failure::new(
            Exit::Wrong,
            format!(
                "{dir}: {what} in step {} of process {}; {again}",
                wrong.step, wrong.process
            ),
        ));
    }
    if summary.wrong.iter().any(|wrong| wrong.full) {
        return Err(Failure::failed(format!(
            "{dir}: the filesystem is full after {} operations; {} processes need some hundred \
             megabytes",
            summary.operations, summary.spec.processes
        )));
    }
    if !summary.deaths.is_empty() {
        return Err(Failure::new(
            Exit::Wrong,
            format!("{dir}: a process died; {again}"),
        ));
    }
    found(&summary.spec.dir, &summary.findings)
}

fn found(dir: &Path, findings: &[Finding]) -> Result<(), Failure> {
    if findings.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Wrong,
        format!(
            "{}: {} names aren't as they were left",
            dir.display(),
            findings.len()
        ),
    ))
}

fn judge(dir: &Path, json: bool) -> Result<(), Failure> {
    let record = conductor::read_record(dir)?;
    let findings = conductor::judge(&record, dir)?;
    let steps: u64 = record.played.iter().map(|played| played.steps).sum();
    if json {
        let object = serde_json::json!({
            "seed": record.spec.seed,
            "processes": record.spec.processes,
            "operations": steps,
            "right": findings.is_empty(),
            "findings": findings,
        });
        crate::cli::print::say!("{object:#}");
    } else {
        print_findings(&findings);
        if findings.is_empty() {
            crate::cli::print::say!(
                "stress: everything is as {} processes left it after {steps} operations, seed {}",
                record.spec.processes,
                record.spec.seed
            );
        }
    }
    found(dir, &findings)
}
