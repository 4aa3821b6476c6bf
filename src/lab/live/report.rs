//! What a comparison says: sums, the time to the first broken rule, what it cost.

use super::judges::Lost;
use super::plan::{self, Plan};
use super::run::Run;
use crate::lab::workload::judge::Loss;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

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
    /// How, in words, and how often.
    pub damage: BTreeMap<String, usize>,
    /// What a user lost, in all runs.
    pub lost: BTreeMap<Loss, Lost>,
    /// Wrong answers and deaths that no broken rule explains.
    pub wrong: usize,
}

impl Row {
    /// What must not come of this subject's runs, if anything did. Some may break rules; but then
    /// the mount turns read-only at once, and what was durable is whole.
    pub fn failure(&self) -> Option<String> {
        let may_break = plan::may_break(&self.subject);
        let promised: u64 = self.lost.values().map(|lost| lost.promised).sum();
        let names: u64 = self.lost.values().map(|lost| lost.names).sum();
        let explained = may_break && self.violations > 0;
        Some(if self.violations > 0 && !may_break {
            format!("{} of {} runs broke a rule", self.violations, self.runs)
        } else if self.images_damaged > 0 {
            format!("{} of {} images damaged", self.images_damaged, self.runs)
        } else if promised > 0 {
            format!("{promised} names lost that were durable")
        } else if self.wrong > 0 && !explained {
            format!("{} wrong answers, deaths or bad ends", self.wrong)
        } else if names > 0 && !explained {
            format!("{names} names lost")
        } else {
            return None;
        })
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
    /// Somebody ended it early; the last run isn't counted.
    pub interrupted: bool,
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
        if !run.judgement.is_sound() {
            row.images_damaged += 1;
            for words in &run.judgement.damage {
                *row.damage.entry(words.clone()).or_default() += 1;
            }
        }
        for (loss, lost) in &run.judgement.losses {
            let sum = row.lost.entry(*loss).or_default();
            sum.names += lost.names;
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
        .filter(|run| run.violation.is_none())
        .filter_map(|run| {
            let owned = all
                .iter()
                .find(|other| other.subject == "owned" && other.seed == run.seed)?;
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
            .collect();
        let lacking = runs.iter().flat_map(|run| &run.lacking);
        let denied = runs.iter().flat_map(|run| &run.denied);
        let not_applicable: BTreeSet<String> = lacking
            .map(|kind| format!("{kind}: not applicable, the mount can't do it yet"))
            .chain(denied.map(|kind| format!("{kind}: not done, this user may not")))
            .collect();
        Self {
            plan: plan.clone(),
            rows,
            not_applicable: not_applicable.into_iter().collect(),
            runs,
            interrupted,
            seconds,
        }
    }

    /// Subjects that must hold and didn't, in words; and whoever lost what was durable.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for run in &self.runs {
            let subject = self.plan.subjects.iter().find(|s| s.name == run.subject);
            let may_break = subject.is_some_and(|subject| subject.may_break());
            if may_break && run.violation.is_some() && !run.lost_what_was_durable() {
                continue;
            }
            let (name, seed) = (&run.subject, run.seed);
            if let Some(broken) = run.violation.as_ref().filter(|_| !may_break) {
                failures.push(format!("{name}, seed {seed}: {}", broken.what));
            } else if run.is_wrong() {
                failures.push(format!("{name}, seed {seed}: {}", first_wrong(run)));
            }
        }
        failures
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string can't fail, here and below.
        let _ = writeln!(
            out,
            "{:17} {:>4} {:>12} {:>7} {:>10} {:>12} {:>12} {:>8} {:>7}",
            "",
            "runs",
            "operations",
            "broken",
            "first at",
            "median ops",
            "median time",
            "ops/s",
            "/owned"
        );
        for row in &self.rows {
            let or_dash = |words: Option<String>| words.unwrap_or_else(|| "-".into());
            let held = |median: Option<String>| match (median, row.violations) {
                (Some(median), _) => median,
                (None, 0) => "-".into(),
                (None, _) => "most held".into(),
            };
            let _ = writeln!(
                out,
                "{:17} {:>4} {:>12} {:>7} {:>10} {:>12} {:>12} {:>8.0} {:>7}",
                row.subject,
                row.runs,
                row.operations,
                row.violations,
                or_dash(row.first_seconds.map(|s| format!("{s:.2} s"))),
                held(row.median_operations.map(|n| format!("{n:.0}"))),
                held(row.median_seconds.map(|s| format!("{s:.2} s"))),
                row.rate,
                or_dash(row.relative_to_owned.map(|ratio| format!("{ratio:.2}"))),
            );
        }
        for row in &self.rows {
            self.losses(row, &mut out);
        }
        for words in &self.not_applicable {
            let _ = writeln!(out, "{words}");
        }
        if self.interrupted {
            let _ = writeln!(out, "ended early: the run in progress isn't counted");
        }
        out
    }

    fn losses(&self, row: &Row, out: &mut String) {
        let name = &row.subject;
        if row.images_damaged > 0 {
            let _ = writeln!(out, "{name}: {} images damaged:", row.images_damaged);
            for (words, count) in row.damage.iter().take(8) {
                let _ = writeln!(out, "    {count} x {words}");
            }
        } else if row.violations > 0 {
            let _ = writeln!(
                out,
                "{name}: no image is damaged; the mounts turned read-only"
            );
        }
        for (loss, lost) in &row.lost {
            let _ = writeln!(
                out,
                "{name}: {} {}, {} of them durable before",
                lost.names,
                loss.words(),
                lost.promised
            );
        }
        let runs = || self.runs.iter().filter(|run| run.subject == *name);
        let broke = |run: &'_ Run| Some((run.again.clone(), run.violation.clone()?));
        if let Some((again, broken)) = runs().find_map(broke) {
            let _ = writeln!(out, "{name}: the first, as its log has it:");
            for line in broken.report.lines().take(30) {
                let _ = writeln!(out, "    {line}");
            }
            let _ = writeln!(out, "  again: {again}");
        }
        for run in runs()
            .filter(|run| run.is_wrong() && run.violation.is_none())
            .take(3)
        {
            let _ = writeln!(out, "{name}, seed {}: {}", run.seed, first_wrong(run));
            let _ = writeln!(out, "  again: {}", run.again);
        }
        for kept in runs().filter_map(|run| run.kept.as_ref()).take(8) {
            let _ = writeln!(out, "{name}: kept {}", kept.display());
        }
    }
}

fn first_wrong(run: &Run) -> String {
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
mod tests {
    use super::*;

    /// The textbook: 6 of 10 broken, 4 seen only until some time.
    #[test]
    fn survival_counts_a_sound_run_until_its_end() {
        let points = survival(&[(1.0, true), (2.0, false), (3.0, true), (4.0, false)]);
        let shares: Vec<f64> = points.iter().map(|point| point.surviving).collect();
        assert_eq!(shares, [1.0, 0.75, 0.375]);
        assert_eq!(median(&points), Some(3.0));
        // One broke when the other's work was over: half of two, whoever comes first in the list.
        for order in [[true, false], [false, true]] {
            let points = survival(&order.map(|broken| (5.0, broken)));
            assert_eq!(points.last().map(|point| point.surviving), Some(0.5));
        }
        assert_eq!(
            median(&survival(&[(1.0, true), (9.0, false), (9.0, false)])),
            None
        );
        assert_eq!(median(&survival(&[(5.0, true), (7.0, true)])), Some(5.0));
        assert_eq!(median(&survival(&[])), None);
    }
}
