//! What a comparison says: sums, the time to the first broken rule, what it cost.

use super::judges::Lost;
use super::plan::{self, Plan};
use super::run::Run;
use crate::lab::workload::judge::Loss;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A share of the runs that still hold after so much work.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Seconds or operations.
    pub at: f64,
    /// The share, by Kaplan and Meier: runs that ended sound count until their end.
    pub surviving: f64,
}

/// One subject's sums.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub subject: String,
    /// Runs.
    pub runs: usize,
    /// Operations of all of them.
    pub operations: u64,
    /// Seconds of all of them.
    pub seconds: f64,
    /// Runs in which a rule was broken.
    pub violations: usize,
    /// The fewest operations to one.
    pub first_operations: Option<u64>,
    /// And seconds.
    pub first_seconds: Option<f64>,
    /// Where half of the runs are broken; `None`: more than half held.
    pub median_operations: Option<f64>,
    /// The same in seconds.
    pub median_seconds: Option<f64>,
    /// Over operations.
    pub survival_operations: Vec<Point>,
    /// Over seconds.
    pub survival_seconds: Vec<Point>,
    /// Operations a second.
    pub rate: f64,
    /// The rate as a share of `owned`'s on the same seeds: the median of the seeds.
    pub relative_to_owned: Option<f64>,
    /// Runs that left an image that `btrfs check` or the kernel refuses.
    pub images_damaged: usize,
    /// Images that `btrfs check` didn't judge, so that nobody knows whether they are sound.
    pub images_unjudged: usize,
    /// How, in words, and how often.
    pub damage: BTreeMap<String, usize>,
    /// What a user lost, in all runs.
    pub lost: BTreeMap<Loss, Lost>,
    /// Names lost in runs in which no rule was broken.
    #[serde(default)]
    pub lost_unexplained: u64,
    /// Wrong answers, deaths and bad ends that no broken rule explains.
    pub wrong: usize,
}

impl Row {
    /// What must not come of this subject's runs, if anything did. Some may break rules; but then
    /// the mount turns read-only at once, and what was durable is whole.
    pub fn failure(&self) -> Option<String> {
        let may_break = plan::may_break(&self.subject);
        let promised = self.losses(|lost| lost.promised);
        let names = self.losses(|lost| lost.names);
        Some(if self.violations > 0 && !may_break {
            format!("{} of {} runs broke a rule", self.violations, self.runs)
        } else if self.images_damaged > 0 {
            format!("{} of {} images damaged", self.images_damaged, self.runs)
        } else if !promised.is_empty() {
            format!("{promised}, which were durable")
        } else if self.wrong > 0 {
            // What a broken rule explains isn't among them.
            format!("{} wrong answers, deaths or bad ends", self.wrong)
        } else if self.lost_unexplained > 0 {
            names
        } else if self.images_unjudged > 0 {
            format!("{} of {} images unjudged", self.images_unjudged, self.runs)
        } else {
            return None;
        })
    }

    /// What was lost, each kind by itself; `count` says how many of it.
    fn losses(&self, count: impl Fn(&Lost) -> u64) -> String {
        let losses = self.lost.iter().map(|(loss, lost)| (loss, count(lost)));
        let words = losses
            .filter(|(_, count)| *count > 0)
            .map(|(loss, count)| format!("{count} {}", loss.words()));
        words.collect::<Vec<_>>().join(", ")
    }
}

/// The whole.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was compared, and how.
    pub plan: Plan,
    /// In the plan's order.
    pub rows: Vec<Row>,
    /// What the mounts couldn't do, so that it wasn't part of the workload.
    pub not_applicable: Vec<String>,
    /// Every run.
    pub runs: Vec<Run>,
    /// Somebody ended it early; the last run counts only if something is wrong with it.
    pub interrupted: bool,
    /// Why it ended before all runs were made, though nobody asked for that.
    pub gave_up: Option<String>,
    /// Of the whole comparison.
    pub seconds: f64,
}

/// `(time, was it broken then)` of each run, to the share that survives.
pub fn survival(times: &[(f64, bool)]) -> Vec<Point> {
    let mut times = times.to_vec();
    // Who was seen until the same moment was still there when the other broke.
    times.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
    let mut surviving = 1.0;
    let mut points = vec![Point { at: 0.0, surviving }];
    for (n, (at, broken)) in times.iter().enumerate() {
        if *broken {
            surviving *= 1.0 - 1.0 / (times.len() - n) as f64;
            points.push(Point { at: *at, surviving });
        }
    }
    points
}

/// The first place where at most half survive.
pub fn median(points: &[Point]) -> Option<f64> {
    // Halves are sums of rounded numbers.
    let half = points.iter().find(|point| point.surviving <= 0.5 + 1e-9);
    half.map(|point| point.at)
}

/// Sums the runs of one subject.
pub fn row(name: &str, all: &[Run]) -> Row {
    let runs: Vec<&Run> = all.iter().filter(|run| run.subject == name).collect();
    let mut row = Row {
        subject: name.to_owned(),
        runs: runs.len(),
        ..Row::default()
    };
    let (mut by_operations, mut by_seconds) = (Vec::new(), Vec::new());
    for run in &runs {
        row.operations += run.operations;
        row.seconds += run.seconds;
        row.wrong += run.wrong.len() + usize::from(run.daemon.is_some());
        row.images_unjudged += usize::from(run.judgement.unchecked.is_some());
        if !run.judgement.is_sound() {
            row.images_damaged += 1;
            for words in &run.judgement.damage {
                *row.damage.entry(words.clone()).or_default() += 1;
            }
        }
        for (loss, lost) in &run.judgement.losses {
            let sum = row.lost.entry(*loss).or_default();
            sum.names += lost.names;
            if run.violation.is_none() {
                row.lost_unexplained += lost.names;
            }
            sum.promised += lost.promised;
        }
        match &run.violation {
            Some(broken) => {
                row.violations += 1;
                by_operations.push((broken.operations as f64, true));
                by_seconds.push((broken.seconds, true));
            }
            None => {
                by_operations.push((run.operations as f64, false));
                by_seconds.push((run.seconds, false));
            }
        }
    }
    let broken = || runs.iter().filter_map(|run| run.violation.as_ref());
    row.first_operations = broken().map(|broken| broken.operations).min();
    row.first_seconds = broken().map(|broken| broken.seconds).min_by(f64::total_cmp);
    row.survival_operations = survival(&by_operations);
    row.survival_seconds = survival(&by_seconds);
    row.median_operations = median(&row.survival_operations);
    row.median_seconds = median(&row.survival_seconds);
    row.rate = row.operations as f64 / row.seconds.max(1e-3);
    row.relative_to_owned = relative(&runs, all);
    row
}

/// The median over the seeds that both have.
fn relative(runs: &[&Run], all: &[Run]) -> Option<f64> {
    let rate = |run: &Run| run.operations as f64 / run.seconds.max(1e-3);
    let mut ratios: Vec<f64> = runs
        .iter()
        // A run that ended at once says nothing about speed.
        .filter(|run| run.violation.is_none() && run.operations > 0)
        .filter_map(|run| {
            let owned = all
                .iter()
                .find(|other| other.subject == "owned" && other.seed == run.seed)
                .filter(|owned| owned.operations > 0)?;
            Some(rate(run) / rate(owned).max(1e-3))
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let middle = ratios.len() / 2;
    match ratios.len() {
        0 => None,
        len if len % 2 == 1 => Some(ratios[middle]),
        _ => Some((ratios[middle - 1] + ratios[middle]) / 2.0),
    }
}

impl Report {
    /// Sums all runs.
    pub fn new(plan: &Plan, runs: Vec<Run>, interrupted: bool, seconds: f64) -> Self {
        let rows = plan
            .subjects
            .iter()
            .map(|subject| row(&subject.name, &runs))
            .map(|row| match plan.delays.is_empty() {
                true => row,
                // Some sleep at the point and some never come to it: that is no speed.
                false => Row {
                    relative_to_owned: None,
                    ..row
                },
            })
            .collect();
        let lacking = runs.iter().flat_map(|run| &run.lacking);
        let denied = runs.iter().flat_map(|run| &run.denied);
        let not_applicable: BTreeSet<String> = lacking
            .map(|kind| format!("{kind}: not applicable, the mount can't do it"))
            .chain(denied.map(|kind| format!("{kind}: not done, this user may not")))
            .collect();
        Self {
            plan: plan.clone(),
            rows,
            not_applicable: not_applicable.into_iter().collect(),
            runs,
            interrupted,
            gave_up: None,
            seconds,
        }
    }

    /// Subjects that must hold and didn't, in words; and whatever no broken rule explains, whoever
    /// broke it: hangs, crashes, wrong contents, and the loss of what was durable.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for run in &self.runs {
            let (name, seed) = (&run.subject, run.seed);
            let broken = run.violation.as_ref().filter(|_| !plan::may_break(name));
            if let Some(broken) = broken {
                failures.push(format!("{name}, seed {seed}: {}", broken.what));
            } else if run.is_wrong() {
                failures.push(format!("{name}, seed {seed}: {}", first_wrong(run)));
            }
        }
        failures.extend(self.gave_up.clone());
        failures
    }

    /// Whose images nobody has judged, in words: they mustn't pass for sound ones.
    pub fn unjudged(&self) -> Vec<String> {
        let why = |row: &Row| {
            let mut runs = self.runs.iter().filter(|run| run.subject == row.subject);
            let why = runs.find_map(|run| run.judgement.unchecked.clone())?;
            let (name, unjudged, runs) = (&row.subject, row.images_unjudged, row.runs);
            Some(format!(
                "{name}: {unjudged} of {runs} images unjudged: {why}"
            ))
        };
        self.rows.iter().filter_map(why).collect()
    }
}

/// The first thing that is wrong with a run, in words.
pub(super) fn first_wrong(run: &Run) -> String {
    let judgement = &run.judgement;
    let words = run
        .wrong
        .first()
        .or(run.daemon.as_ref())
        .or(judgement.damage.first());
    let words = words.or(judgement.examples.first());
    words.cloned().unwrap_or_else(|| "names are lost".into())
}

#[cfg(test)]
mod tests;
