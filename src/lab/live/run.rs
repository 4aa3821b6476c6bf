//! One run of one subject: an image from mkfs to the judges.
//!
//! Invariant: whatever fails is in the [`Run`]; the runs before it aren't lost with it.

use super::again;
use super::judges::{self, Judgement};
use super::mount::Mounted;
use super::place::Place;
use super::plan::{Plan, Subject};
use crate::commit::mkfs;
use crate::lab::workload::conductor::{self, Order, Progress};
use crate::lab::workload::spec::{Record, Spec, Summary};
use crate::volume::FileDevice;
use anyhow::Context;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Instant;

/// How the log begins when a rule was broken.
const BROKEN: &str = "BUG_ON";
/// How a line of the log goes on that tells of a panic, also of one that was caught.
const PANIC: &str = "bug: ";
/// What a mount exits with that turned read-only: the last commit failed (docs/usage.md).
pub const LAST_COMMIT: i32 = 5;

/// What came of a run.
#[derive(Clone, Debug, Default, Serialize)]
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
    /// Wrong answers and deaths that no broken rule explains, and what kept the run from its end.
    pub wrong: Vec<String>,
    /// The daemon didn't begin, died, hung, or ended in a way that a broken rule doesn't explain.
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
#[derive(Clone, Debug, Default, Serialize)]
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

    /// It ended before there was anything to see.
    pub fn got_nowhere(&self) -> bool {
        self.operations == 0 && self.violation.is_none()
    }
}

/// Does it. `watch` sees the progress, and may end it.
pub fn run(
    plan: &Plan,
    subject: &Subject,
    seed: u64,
    watch: &mut dyn FnMut(&Progress) -> Order,
) -> Run {
    let mut run = Run {
        subject: subject.name.clone(),
        seed,
        again: again::command_line(plan, subject, seed),
        ..Run::default()
    };
    let name = format!("{}-{seed}", subject.name);
    let made = Place::new(plan, &name).and_then(|place| {
        make_image(plan, &place.image())?;
        Ok(place)
    });
    let mut place = match made {
        Ok(place) => place,
        Err(error) => {
            run.wrong.push(format!("no image can be made: {error:#}"));
            return run;
        }
    };
    let record = work(plan, subject, &place, &mut run, watch);
    judge(plan, &place, record.as_ref(), &mut run);
    if run.violation.is_some() || run.is_wrong() {
        let (kept, copied) = place.keep(plan, &name);
        run.kept = kept;
        run.wrong
            .extend(copied.err().map(|error| format!("{error:#}")));
    }
    run
}

/// Mounts, works, unmounts; what the processes remember, if they came so far.
fn work(
    plan: &Plan,
    subject: &Subject,
    place: &Place,
    run: &mut Run,
    watch: &mut dyn FnMut(&Progress) -> Order,
) -> Option<Record> {
    let began = Instant::now();
    let mut mounted = match Mounted::new(
        &subject.binary,
        &place.image(),
        &place.dir(),
        &place.log(),
        &plan.mount_options(subject),
        &format!("seed {}; again: {}", run.seed, run.again),
    ) {
        Ok(mounted) => mounted,
        Err(refusal) => {
            run.seconds = began.elapsed().as_secs_f64();
            let log = place.log_text();
            // The mount itself may break a rule: recovery and the first commit are work, too.
            run.violation = log.contains(BROKEN).then(|| broken(&log, 0, run.seconds));
            // Then it refuses, as any mount does, and nothing else.
            let refused = refusal
                .ended
                .is_some_and(|status| matches!(status.code(), Some(2 | 3 | LAST_COMMIT)));
            if run.violation.is_none() || !refused {
                run.daemon = Some(refusal.words);
            }
            return None;
        }
    };
    let began = Instant::now();
    let mut told = String::new();
    let mut first = None;
    let worked = spec(plan, mounted.dir(), run.seed).and_then(|spec| {
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
    run.seconds = match &worked {
        Ok(summary) => summary.seconds,
        Err(_) => began.elapsed().as_secs_f64(),
    };
    run.operations = worked.as_ref().map_or(0, |summary| summary.operations);
    let ended = mounted.unmount();
    // The last commit may have met one.
    let log = place.log_text();
    if log.contains(BROKEN) {
        let seconds = first.unwrap_or(run.seconds);
        run.violation = Some(broken(&log, run.operations, seconds));
    }
    run.daemon = bad_end(&ended, run.violation.is_some()).or_else(|| panicked(&log));
    match worked {
        Ok(summary) => {
            run.wrong = wrong(&summary, run.violation.is_some());
            run.interrupted = summary.interrupted && run.violation.is_none();
            run.lacking = summary.lacking;
            run.denied = summary.denied;
            Some(Record {
                version: 0,
                spec: summary.spec,
                played: summary.played,
            })
        }
        Err(error) => {
            // Already the folders to work in may meet the race, and are refused then.
            if run.violation.is_none() {
                run.wrong.push(format!("{error:#}"));
            }
            None
        }
    }
}

fn judge(plan: &Plan, place: &Place, record: Option<&Record>, run: &mut Run) {
    let (image, judgement) = (place.image(), &mut run.judgement);
    judges::check(&image, judgement);
    let Some(record) = record else {
        let words = "nobody compared the files: it ended before the processes had begun";
        judgement.not_asked.push(words.into());
        return;
    };
    let compared = judges::compare(
        &image,
        &place.dir(),
        record,
        plan.kernel,
        &plan.worker,
        judgement,
    );
    if let Err(error) = compared {
        run.wrong
            .push(format!("the files can't be compared: {error:#}"));
    }
}

/// How the daemon ended, if it mustn't end so. After a broken rule the last commit fails; what
/// crashes, panics or hangs does that for a reason of its own.
fn bad_end(ended: &Result<ExitStatus, String>, violated: bool) -> Option<String> {
    match ended {
        Ok(status) if status.success() => None,
        Ok(status) if violated && status.code() == Some(LAST_COMMIT) => None,
        Ok(status) => Some(format!("the daemon ended with {status}")),
        Err(words) => Some(words.clone()),
    }
}

fn panicked(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains(PANIC))?;
    Some(format!("the log tells of a panic: {}", line.trim()))
}

fn make_image(plan: &Plan, image: &Path) -> anyhow::Result<()> {
    let device = FileDevice::create(image, plan.size_bytes)?;
    mkfs::make(&device, &plan.image_options()).with_context(|| format!("{}", image.display()))?;
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

/// Wrong answers and deaths in words; after a broken rule refusals are what must come, and nothing
/// else: not wrong contents, nor what should have been refused and wasn't.
fn wrong(summary: &Summary, violated: bool) -> Vec<String> {
    let refusal = |words: &str| words.contains("refused with") || words.contains("refusal with");
    let refused = |words: &str| refusal(words) && !words.ends_with("and wasn't");
    // A process that is refused what it needs itself says so and ends.
    let gave_up = |words: &str| words.ends_with(": exit status: 2");
    let answers = summary
        .wrong
        .iter()
        .filter(|wrong| !(violated && refused(&wrong.words)));
    let mut words: Vec<String> = answers
        .map(|wrong| {
            let (process, step) = (wrong.process, wrong.step);
            format!(
                "process {process} step {step}: {}: {}",
                wrong.operation, wrong.words
            )
        })
        .collect();
    let deaths = summary.deaths.iter();
    words.extend(
        deaths
            .filter(|death| !(violated && gave_up(death)))
            .cloned(),
    );
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

#[cfg(test)]
mod tests;
