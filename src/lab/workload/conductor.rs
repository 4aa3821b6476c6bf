//! A whole run: folders, processes, their news, the end.
//!
//! Invariant: when `run` returns, no process of it is left, but for those that not even SIGKILL
//! ends because the filesystem doesn't answer; these are named in the result.

use super::features::Features;
use super::folder::Folder;
use super::judge::Finding;
use super::spec::{Ended, News, Played, Record, Spec, Summary};
use super::{log, probe, subvolume, verdict, worker};
use crate::sync::{mpsc, thread};
use anyhow::{Context, bail};
use rustix::fs::Mode;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// Between two looks at a run.
const LOOK: Duration = Duration::from_millis(50);
/// How long a process may take to end after it was asked to: an operation, and the comparison
/// of all that it made.
const PATIENCE: Duration = Duration::from_secs(120);
const RECORD_VERSION: u32 = 2;

/// A run in progress, for whoever watches.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Operations of all processes.
    pub operations: u64,
    /// Since the beginning.
    pub elapsed: Duration,
    /// Operations that take long: process, operation, seconds.
    pub stuck: Vec<(u64, String, u64)>,
}

/// What the watcher wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// More.
    GoOn,
    /// An early end.
    Stop,
}

/// Makes the folders of a run in its directory, and learns what the filesystem can do.
pub fn prepare(dir: &Path) -> anyhow::Result<Features> {
    if !dir.is_dir() {
        bail!("{} isn't a directory", dir.display());
    }
    let folder = Folder::new(dir, 0);
    if folder.top().exists() {
        bail!(
            "{} is there from an earlier run; judge it with --judge, or begin anew with --fresh",
            folder.top().display()
        );
    }
    let mkdir = |path: &Path| {
        rustix::fs::mkdir(path, Mode::from_raw_mode(0o755))
            .with_context(|| format!("can't make {}", path.display()))
    };
    let _mask = NoMask::new();
    mkdir(folder.top())?;
    // Below a directory that passes its group or its access list on, modes wouldn't be those
    // that are asked for. Most filesystems have no such list to remove.
    let _ = rustix::fs::lremovexattr(folder.top(), "system.posix_acl_default");
    rustix::fs::chmod(folder.top(), Mode::from_raw_mode(0o755))
        .with_context(|| format!("can't change the mode of {}", folder.top().display()))?;
    mkdir(&folder.snapshots())?;
    let subvolume =
        make_tree(&folder).with_context(|| format!("can't make {}", folder.tree().display()))?;
    for path in [folder.crowd(), folder.shared(), folder.own()] {
        mkdir(&path)?;
    }
    let place = folder.top().display();
    probe::probe(&folder, subvolume).map_err(|error| {
        anyhow::anyhow!(
            "a first try of everything in {place}: {}",
            verdict::errno(error)
        )
    })
}

/// While it lives, modes are those that are asked for; what this process writes later, reports and
/// logs, gets the mask that its user wants.
struct NoMask(Mode);

impl NoMask {
    fn new() -> Self {
        Self(rustix::process::umask(Mode::empty()))
    }
}

impl Drop for NoMask {
    fn drop(&mut self) {
        rustix::process::umask(self.0);
    }
}

/// Makes the folder `tree`: as a subvolume where that is possible; whether it was.
fn make_tree(folder: &Folder) -> Result<bool, Errno> {
    match subvolume::create(folder.tree()) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Err(Errno::EXIST),
        Err(_) => {
            rustix::fs::mkdir(folder.tree(), Mode::from_raw_mode(0o755))?;
            Ok(false)
        }
    }
}

/// Removes what an earlier run left, snapshots too.
pub fn clean(dir: &Path) -> anyhow::Result<()> {
    let folder = Folder::new(dir, 0);
    if !folder.top().exists() {
        return Ok(());
    }
    let failed = |path: &Path| format!("can't remove {}", path.display());
    if let Ok(entries) = std::fs::read_dir(folder.snapshots()) {
        for entry in entries {
            let path = entry?.path();
            subvolume::destroy(&path).with_context(|| failed(&path))?;
        }
    }
    // Where it is one, a subvolume goes at once; else as any folder.
    let _ = subvolume::destroy(folder.tree());
    std::fs::remove_dir_all(folder.top()).with_context(|| failed(folder.top()))
}

struct Member {
    process: u64,
    child: Child,
    stdin: Option<ChildStdin>,
    steps: u64,
    stuck: Option<(String, u64)>,
    ended: Option<Ended>,
    over: bool,
}

/// Runs all processes of a prepared run. `program` with `stress-worker` is one of them. `watch`
/// is called all the time.
pub fn run(
    spec: &Spec,
    program: &Path,
    time: Option<Duration>,
    watch: &mut dyn FnMut(&Progress) -> Order,
) -> anyhow::Result<Summary> {
    for process in 1..spec.processes {
        let own = Folder::new(&spec.dir, process).own();
        rustix::fs::mkdir(&own, Mode::from_raw_mode(0o755))
            .with_context(|| format!("can't make {}", own.display()))?;
    }
    if let Some(path) = &spec.log {
        log::create(path, spec)?;
    }
    let began = Instant::now();
    let (sender, news) = mpsc::channel();
    let mut members = Vec::new();
    for process in 0..if spec.in_order { 1 } else { spec.processes } {
        members.push(start(spec, program, process, sender.clone())?);
    }
    drop(sender);
    let (mut interrupted, mut asked_to_end, mut working) = (false, None::<Instant>, None);
    let mut deaths = Vec::new();
    while members.iter().any(|member| !member.over) {
        match news.recv_timeout(LOOK) {
            Ok((process, told)) => hear(&mut members, process, told, &mut deaths),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => thread::sleep(LOOK),
        }
        let progress = progress(&members, began.elapsed());
        let wrong = |member: &Member| member.ended.as_ref().is_some_and(|e| e.wrong.is_some());
        let failed = members.iter().any(wrong) || !deaths.is_empty();
        let order = watch(&progress);
        let late = time.is_some_and(|time| began.elapsed() >= time);
        if asked_to_end.is_none() && (order == Order::Stop || failed || late) {
            interrupted = order == Order::Stop;
            asked_to_end = Some(Instant::now());
            working = Some(began.elapsed());
            // The end of its stdin ends a process.
            members.iter_mut().for_each(|member| member.stdin = None);
        }
        if asked_to_end.is_some_and(|since| since.elapsed() > PATIENCE) {
            members
                .iter_mut()
                .filter(|m| !m.over)
                .for_each(|m| deaths.push(kill(m)));
        }
    }
    // A run that isn't cut short works until the first process compares.
    let seconds = working.unwrap_or_else(|| began.elapsed()).as_secs_f64();
    Ok(summary(spec, members, deaths, seconds, interrupted))
}

type Told = Option<News>;

fn start(
    spec: &Spec,
    program: &Path,
    process: u64,
    sender: mpsc::Sender<(u64, Told)>,
) -> anyhow::Result<Member> {
    let mut child = Command::new(program)
        .arg("stress-worker")
        .arg(process.to_string())
        .arg(serde_json::to_string(spec)?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // A Ctrl-C is the conductor's: it ends the others in good order.
        .process_group(0)
        .spawn()
        .with_context(|| format!("can't start {}", program.display()))?;
    let stdout = child.stdout.take().context("a pipe")?;
    thread::Builder::new()
        .name(format!("news of {process}"))
        .spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(news) = serde_json::from_str(&line) {
                    let _ = sender.send((process, Some(news)));
                }
            }
            let _ = sender.send((process, None));
        })?;
    Ok(Member {
        process,
        stdin: child.stdin.take(),
        child,
        steps: 0,
        stuck: None,
        ended: None,
        over: false,
    })
}

fn hear(members: &mut [Member], process: u64, told: Told, deaths: &mut Vec<String>) {
    let Some(member) = members.iter_mut().find(|member| member.process == process) else {
        return;
    };
    match told {
        Some(News::Progress { steps, stuck }) => {
            member.steps = steps;
            member.stuck = stuck;
        }
        Some(News::End(ended)) => {
            member.steps = ended.steps;
            member.stuck = None;
            member.ended = Some(*ended);
        }
        None if member.over => {}
        None => {
            member.over = true;
            let status = member.child.wait();
            if member.ended.is_none() {
                let how = match status {
                    Ok(status) => status.to_string(),
                    Err(error) => error.to_string(),
                };
                let steps = member.steps;
                deaths.push(format!(
                    "process {process} died after {steps} operations: {how}"
                ));
            }
        }
    }
}

fn kill(member: &mut Member) -> String {
    member.over = true;
    let _ = member.child.kill();
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline && matches!(member.child.try_wait(), Ok(None)) {
        thread::sleep(LOOK);
    }
    let left = matches!(member.child.try_wait(), Ok(None));
    let doing = match &member.stuck {
        Some((operation, seconds)) => format!(", {seconds} s in {operation}"),
        None => String::new(),
    };
    format!(
        "process {} didn't end within {} s{doing}{}",
        member.process,
        PATIENCE.as_secs(),
        if left {
            "; not even SIGKILL ended it"
        } else {
            ""
        }
    )
}

fn progress(members: &[Member], elapsed: Duration) -> Progress {
    let stuck = |member: &Member| {
        let (operation, seconds) = member.stuck.clone()?;
        Some((member.process, operation, seconds))
    };
    Progress {
        operations: members.iter().map(|member| member.steps).sum(),
        elapsed,
        stuck: members.iter().filter_map(stuck).collect(),
    }
}

fn summary(
    spec: &Spec,
    members: Vec<Member>,
    deaths: Vec<String>,
    seconds: f64,
    interrupted: bool,
) -> Summary {
    let operations: u64 = members.iter().map(|member| member.steps).sum();
    let mut counts = BTreeMap::new();
    let (mut races, mut wrong, mut findings) = (0, Vec::new(), Vec::new());
    let mut played = Vec::new();
    for member in members {
        match member.ended {
            Some(ended) => {
                for (kind, count) in ended.counts {
                    *counts.entry(kind.name()).or_default() += count;
                }
                races += ended.races;
                wrong.extend(ended.wrong);
                findings.extend(ended.findings);
                played.extend(ended.played);
            }
            None => played.push(Played {
                process: member.process,
                steps: member.steps,
                durable: None,
            }),
        }
    }
    Summary {
        spec: spec.clone(),
        operations,
        seconds,
        rate: operations as f64 / seconds.max(1e-3),
        counts,
        lacking: spec
            .features
            .lacking
            .iter()
            .map(|kind| kind.name())
            .collect(),
        denied: spec.features.denials(),
        races,
        wrong,
        findings,
        deaths,
        interrupted,
        played,
    }
}

/// Leaves word of a run beside its files.
pub fn leave_record(summary: &Summary) -> anyhow::Result<()> {
    let path = Folder::new(&summary.spec.dir, 0).top().join("run.json");
    let record = Record {
        version: RECORD_VERSION,
        spec: summary.spec.clone(),
        played: summary.played.clone(),
    };
    std::fs::write(&path, serde_json::to_vec_pretty(&record)?)
        .with_context(|| format!("can't write {}", path.display()))
}

/// Reads it.
pub fn read_record(dir: &Path) -> anyhow::Result<Record> {
    let path = Folder::new(dir, 0).top().join("run.json");
    let text = std::fs::read(&path).with_context(|| {
        format!(
            "{} can't be read, so there is no run to judge there",
            path.display()
        )
    })?;
    let record: Record = serde_json::from_slice(&text)
        .with_context(|| format!("{} isn't the record of a run", path.display()))?;
    if record.version != RECORD_VERSION {
        bail!(
            "{} was written by another version of btrfuse",
            path.display()
        );
    }
    Ok(record)
}

/// Compares what a run left with what is in `dir` now.
pub fn judge(record: &Record, dir: &Path) -> anyhow::Result<Vec<Finding>> {
    let spec = Spec {
        dir: dir.to_owned(),
        ..record.spec.clone()
    };
    let mut findings = Vec::new();
    for played in &record.played {
        findings.extend(worker::judge_process(
            &spec,
            played.process,
            played.steps,
            played.durable,
        )?);
    }
    refuse_strangers(record, dir, &findings)?;
    Ok(findings)
}

/// What permissions keep from whoever judges isn't the filesystem's fault.
fn refuse_strangers(record: &Record, dir: &Path, findings: &[Finding]) -> anyhow::Result<()> {
    let (euid, features) = (rustix::process::geteuid(), &record.spec.features);
    let may_read_all = features.owner.0 == euid.as_raw() && !features.any_mode;
    if !euid.is_root() && !may_read_all && findings.iter().any(Finding::is_denial) {
        bail!(
            "{}: user {} made these files, and this user may not read all of them; judge them as \
             that user or as root",
            dir.display(),
            features.owner.0
        );
    }
    Ok(())
}
