//! One run of one subject: an image from mkfs to the judges.

use super::again;
use super::children;
use super::judges::{self, Judgement};
use super::mount::Mounted;
use super::plan::{Plan, Subject};
use crate::commit::mkfs::{self, MkfsOptions};
use crate::lab::workload::conductor::{self, Order, Progress};
use crate::lab::workload::spec::{Record, Spec, Summary};
use crate::volume::FileDevice;
use anyhow::Context;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How the log begins when a rule was broken.
const BROKEN: &str = "BUG_ON";

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Whose.
    pub subject: String,
    /// Of the workload.
    pub seed: u64,
    /// The command line that makes it again.
    pub again: String,
    /// Operations of all processes.
    pub operations: u64,
    /// Wall time of them.
    pub seconds: f64,
    /// The first broken rule.
    pub violation: Option<Broken>,
    /// Answers that were wrong while no rule was seen broken, processes that died.
    pub wrong: Vec<String>,
    /// The daemon died, hung, or ended with a failure that a broken rule doesn't explain.
    pub daemon: Option<String>,
    /// What was left.
    pub judgement: Judgement,
    /// Kinds that the mount can't do.
    pub lacking: Vec<&'static str>,
    /// What this user may not do.
    pub denied: Vec<&'static str>,
    /// Where its image and log were kept.
    pub kept: Option<PathBuf>,
    /// Somebody ended it early.
    pub interrupted: bool,
}

/// A broken rule, as the log tells it.
#[derive(Clone, Debug, Serialize)]
pub struct Broken {
    /// Operations until all processes had noticed: a few more than until then.
    pub operations: u64,
    /// Seconds until then.
    pub seconds: f64,
    /// The first line.
    pub what: String,
    /// All of it.
    pub report: String,
}

impl Run {
    /// Something is wrong that no violation explains.
    pub fn is_wrong(&self) -> bool {
        let lost = self.violation.is_none() && !self.judgement.losses.is_empty();
        !self.wrong.is_empty() || self.daemon.is_some() || self.lost_what_was_durable() || lost
    }

    /// The image is damaged, or lacks what a sync had promised: no broken rule may do that.
    pub fn lost_what_was_durable(&self) -> bool {
        let promised = self.judgement.losses.values().any(|lost| lost.promised > 0);
        !self.judgement.is_sound() || promised
    }
}

/// Files of a run that go with it.
struct Place {
    folder: PathBuf,
}

impl Place {
    fn new(plan: &Plan, name: &str) -> anyhow::Result<Self> {
        let id = std::process::id();
        let folder = plan.folder.join(format!("btrfuse-live-{id}-{name}"));
        std::fs::create_dir_all(folder.join("mount"))
            .with_context(|| format!("can't make {}", folder.display()))?;
        Ok(Self { folder })
    }

    fn image(&self) -> PathBuf {
        self.folder.join("image.btrfs")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("mount.log")
    }

    fn dir(&self) -> PathBuf {
        self.folder.join("mount")
    }

    fn keep(&self, plan: &Plan, name: &str) -> anyhow::Result<Option<PathBuf>> {
        let Some(keep) = &plan.keep else {
            return Ok(None);
        };
        let target = keep.join(name);
        std::fs::create_dir_all(&target)
            .with_context(|| format!("can't make {}", target.display()))?;
        // Sparse as it was; cp knows how.
        let copied = children::command("cp")
            .arg("--sparse=always")
            .args([self.image(), self.log()])
            .arg(&target)
            .output()?;
        anyhow::ensure!(
            copied.status.success(),
            "can't keep {}: {}",
            target.display(),
            String::from_utf8_lossy(&copied.stderr).trim()
        );
        Ok(Some(target))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Never into a mount that is still there: the rmdir of a mount point fails.
        if std::fs::remove_dir(self.dir()).is_ok() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Does it. `watch` sees the progress, and may end it.
pub fn run(
    plan: &Plan,
    subject: &Subject,
    seed: u64,
    watch: &mut dyn FnMut(&Progress) -> Order,
) -> anyhow::Result<Run> {
    let name = format!("{}-{seed}", subject.name);
    let place = Place::new(plan, &name)?;
    make_image(plan, &place.image())?;
    let mut mounted = Mounted::new(
        &subject.binary,
        &place.image(),
        &place.dir(),
        &place.log(),
        &plan.mount_options(subject),
    )?;
    let began = Instant::now();
    let mut told = String::new();
    let mut first = None;
    let worked = spec(plan, mounted.dir(), seed).and_then(|spec| {
        conductor::run(&spec, &plan.worker, Some(plan.each), &mut |progress| {
            told += &mounted.news();
            if first.is_none() && told.contains(BROKEN) {
                first = Some(progress.elapsed.as_secs_f64());
            }
            match first {
                Some(_) => Order::Stop,
                None => watch(progress),
            }
        })
    });
    told += &mounted.news();
    let summary = match worked {
        Ok(summary) => summary,
        // Already the folders to work in may meet the race.
        Err(_) if told.contains(BROKEN) => {
            let seconds = began.elapsed().as_secs_f64();
            return broken_at_once(plan, subject, seed, &place, mounted, seconds);
        }
        Err(error) => return Err(error),
    };
    if told.contains(BROKEN) {
        first = first.or(Some(summary.seconds));
    }
    let ended = mounted.unmount();
    // The last commit may have met one.
    let after = std::fs::read_to_string(place.log()).unwrap_or_default();
    if after.contains(BROKEN) {
        first = first.or(Some(summary.seconds));
    }
    let violation = first.map(|seconds| broken(&after, summary.operations, seconds));
    let daemon = match ended {
        Ok(status) if status.success() || violation.is_some() => None,
        Ok(status) => Some(format!("the daemon ended with {status}")),
        Err(words) => Some(words),
    };
    let mut judgement = Judgement::default();
    judges::check(&place.image(), &mut judgement);
    let record = Record {
        version: 0,
        spec: summary.spec.clone(),
        played: summary.played.clone(),
    };
    let (image, dir) = (place.image(), place.dir());
    judges::compare(
        &image,
        &dir,
        &record,
        plan.kernel,
        &plan.worker,
        &mut judgement,
    )?;
    let mut run = Run {
        subject: subject.name.clone(),
        seed,
        again: again::command_line(plan, subject, seed),
        operations: summary.operations,
        seconds: summary.seconds,
        wrong: wrong(&summary, violation.is_some()),
        interrupted: summary.interrupted && violation.is_none(),
        violation,
        daemon,
        judgement,
        lacking: summary.lacking,
        denied: summary.denied,
        kept: None,
    };
    if run.violation.is_some() || run.is_wrong() {
        run.kept = place.keep(plan, &name)?;
    }
    Ok(run)
}

/// A rule was broken before the processes had begun: there is nothing to compare.
fn broken_at_once(
    plan: &Plan,
    subject: &Subject,
    seed: u64,
    place: &Place,
    mounted: Mounted,
    seconds: f64,
) -> anyhow::Result<Run> {
    // It ends badly, as it should after a broken rule.
    let _ = mounted.unmount();
    let log = std::fs::read_to_string(place.log()).unwrap_or_default();
    let mut judgement = Judgement::default();
    judges::check(&place.image(), &mut judgement);
    Ok(Run {
        subject: subject.name.clone(),
        seed,
        again: again::command_line(plan, subject, seed),
        operations: 0,
        seconds,
        wrong: Vec::new(),
        interrupted: false,
        violation: Some(broken(&log, 0, seconds)),
        daemon: None,
        judgement,
        lacking: Vec::new(),
        denied: Vec::new(),
        kept: place.keep(plan, &format!("{}-{seed}", subject.name))?,
    })
}

fn make_image(plan: &Plan, image: &Path) -> anyhow::Result<()> {
    let options = MkfsOptions {
        nodesize: plan.nodesize,
        owner: (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        ),
        ..MkfsOptions::default()
    };
    let device = FileDevice::create(image, plan.size_bytes)?;
    mkfs::make(&device, &options).with_context(|| format!("{}", image.display()))?;
    Ok(())
}

fn spec(plan: &Plan, dir: &Path, seed: u64) -> anyhow::Result<Spec> {
    let features = conductor::prepare(dir)?;
    Ok(Spec {
        dir: dir.to_owned(),
        processes: plan.processes,
        steps: plan.steps.unwrap_or(1 << 39),
        seed,
        mix: plan.mix.clone(),
        features,
        log: None,
        replay: None,
        in_order: false,
        // The judges compare everything on the image itself.
        verify: false,
    })
}

/// Wrong answers in words; after a broken rule refusals are what must come.
fn wrong(summary: &Summary, violated: bool) -> Vec<String> {
    let mut words: Vec<String> = summary
        .wrong
        .iter()
        .filter(|wrong| !(violated && wrong.words.contains("refused with")))
        .map(|wrong| {
            let (process, step) = (wrong.process, wrong.step);
            format!(
                "process {process} step {step}: {}: {}",
                wrong.operation, wrong.words
            )
        })
        .collect();
    words.extend(summary.deaths.iter().cloned());
    words
}

fn broken(log: &str, operations: u64, seconds: f64) -> Broken {
    let from = log.find(BROKEN).unwrap_or(0);
    let mut lines = log[from..].lines();
    let what = lines.next().unwrap_or(BROKEN).to_owned();
    // The report's other lines are indented.
    let rest: Vec<&str> = lines.take_while(|line| line.starts_with(' ')).collect();
    let report = [&[what.as_str()], rest.as_slice()].concat().join("\n");
    Broken {
        operations,
        seconds,
        what,
        report,
    }
}
