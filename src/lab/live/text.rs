//! A comparison for a terminal: the facts of its JSON, without the single runs that held.

use super::report::{Point, Report, Row, first_wrong};
use super::run::Run;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Steps of a survival curve that a line shows; of more, as many in even distances.
const STEPS: usize = 8;

impl Report {
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
            self.images(row, &mut out);
            survivors(row, &mut out);
            self.broken_runs(row, &mut out);
        }
        let not_asked = self.runs.iter().flat_map(|run| &run.judgement.not_asked);
        for words in not_asked.collect::<BTreeSet<_>>() {
            let _ = writeln!(out, "{words}");
        }
        for words in &self.not_applicable {
            let _ = writeln!(out, "{words}");
        }
        if self.interrupted {
            let _ = writeln!(
                out,
                "ended early: a run in progress counts only if something is wrong with it"
            );
        }
        if let Some(why) = &self.gave_up {
            let _ = writeln!(out, "ended early: {why}");
        }
        out
    }

    fn runs_of<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = &'a Run> {
        let name = &row.subject;
        self.runs.iter().filter(move |run| run.subject == *name)
    }

    fn images(&self, row: &Row, out: &mut String) {
        let name = &row.subject;
        if row.images_damaged > 0 {
            let _ = writeln!(out, "{name}: {} images damaged:", row.images_damaged);
            for (words, count) in row.damage.iter().take(8) {
                let _ = writeln!(out, "    {count} x {words}");
            }
        }
        if row.images_unjudged > 0 {
            let why = self
                .runs_of(row)
                .find_map(|run| run.judgement.unchecked.as_ref());
            let why = why.map_or("", String::as_str);
            let _ = writeln!(
                out,
                "{name}: {} of {} images unjudged, nobody knows whether they are sound: {why}",
                row.images_unjudged, row.runs
            );
        } else if row.violations > 0 && row.images_damaged == 0 {
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
    }

    fn broken_runs(&self, row: &Row, out: &mut String) {
        let name = &row.subject;
        let broke = |run: &'_ Run| Some((run.again.clone(), run.violation.clone()?));
        if let Some((again, broken)) = self.runs_of(row).find_map(broke) {
            let _ = writeln!(out, "{name}: the first, as its log has it:");
            for line in broken.report.lines().take(30) {
                let _ = writeln!(out, "    {line}");
            }
            let _ = writeln!(out, "  again: {again}");
        }
        for run in self.runs_of(row).filter(|run| run.is_wrong()).take(3) {
            let _ = writeln!(out, "{name}, seed {}: {}", run.seed, first_wrong(run));
            let _ = writeln!(out, "  again: {}", run.again);
        }
        for kept in self
            .runs_of(row)
            .filter_map(|run| run.kept.as_ref())
            .take(8)
        {
            let _ = writeln!(out, "{name}: kept {}", kept.display());
        }
    }
}

/// When rules broke: the first time, half of the runs, and the curve.
fn survivors(row: &Row, out: &mut String) {
    let name = &row.subject;
    let (Some(operations), Some(seconds)) = (row.first_operations, row.first_seconds) else {
        return;
    };
    let half = match (row.median_operations, row.median_seconds) {
        (None, None) => "most runs held".to_owned(),
        (operations, seconds) => {
            let or_held = |words: Option<String>| words.unwrap_or_else(|| "most held".into());
            format!(
                "half of the runs within {} operations, {} s",
                or_held(operations.map(|n| format!("{n:.0}"))),
                or_held(seconds.map(|s| format!("{s:.2}")))
            )
        }
    };
    let _ = writeln!(
        out,
        "{name}: the first rule broke after {operations} operations, {seconds:.2} s; {half}"
    );
    let by_seconds = curve(&row.survival_seconds, |at| format!("{at:.2} s"));
    let by_operations = curve(&row.survival_operations, |at| format!("{at:.0}"));
    let _ = writeln!(out, "{name}: surviving by time: {by_seconds}");
    let _ = writeln!(out, "{name}: surviving by operations: {by_operations}");
}

/// The steps of a curve, the last always among them: it says who is left.
fn curve(points: &[Point], place: impl Fn(f64) -> String) -> String {
    let steps: Vec<&Point> = points
        .iter()
        .filter(|point| point.surviving < 1.0)
        .collect();
    let shown = steps.len().min(STEPS);
    let words = (1..=shown).map(|n| {
        let step = steps[n * steps.len() / shown - 1];
        format!("{:.0} % from {}", step.surviving * 100.0, place(step.at))
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(number: usize) -> Vec<Point> {
        let point = |n: usize| Point {
            at: n as f64,
            surviving: 1.0 - n as f64 / number as f64,
        };
        (0..=number).map(point).collect()
    }

    #[test]
    fn a_curve_shows_some_steps_and_always_the_last() {
        let show = |number| curve(&points(number), |at| format!("{at:.0} s"));
        assert_eq!(show(2), "50 % from 1 s, 0 % from 2 s");
        assert_eq!(show(0), "");
        let many = show(100);
        assert_eq!(many.split(", ").count(), STEPS);
        assert!(many.starts_with("88 % from 12 s"), "{many}");
        assert!(many.ends_with("0 % from 100 s"), "{many}");
    }
}
