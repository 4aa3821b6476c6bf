//! What readers are shown of a comparison on live mounts, in the same words on the page and in a
//! terminal.

use super::evidence;
use super::grouped;
use crate::lab::live::report::{Point, Row};
use serde::Serialize;

/// Falls of a survival curve that are told in words.
const FALLS: usize = 12;
/// Lines of a log that are shown.
const LINES: usize = 30;

/// A comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Live {
    /// What was widened, if anything.
    pub title: String,
    /// A subject a row.
    pub rows: Vec<Row>,
    /// How long each row's longest run was: there its curve ends.
    pub longest: Vec<Longest>,
    /// The first broken rule of each subject that broke one.
    pub broken: Vec<Broken>,
    /// Somebody ended it early.
    pub ended_early: bool,
}

/// A subject's longest run, up to its end or the broken rule.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Longest {
    /// Operations of all processes.
    pub operations: f64,
    /// Wall time of a run.
    pub seconds: f64,
}

/// A broken rule.
#[derive(Clone, Debug, Serialize)]
pub struct Broken {
    /// Who broke it.
    pub subject: String,
    /// Of the workload, to have it again.
    pub seed: u64,
    /// Operations until then.
    pub operations: u64,
    /// Seconds until then.
    pub seconds: f64,
    /// What the log says, its first lines, and how to have such a run again.
    pub report: String,
}

/// What a curve of survival is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Operations of a run.
    Operations,
    /// Its time.
    Seconds,
}

/// A curve.
pub struct Curve<'a> {
    /// Whose.
    pub name: &'a str,
    /// Where it falls.
    pub points: &'a [Point],
    /// Where the longest run ended: nobody was seen later.
    pub end: f64,
}

impl Over {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Operations, Self::Seconds];

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Operations => "operations",
            Self::Seconds => "seconds",
        }
    }

    /// So many of them.
    pub fn number(self, at: f64) -> String {
        match self {
            Self::Operations => grouped(at as u64),
            Self::Seconds => format!("{at:.2}"),
        }
    }
}

impl Live {
    /// What readers see of a comparison.
    pub fn of(live: &evidence::Live) -> Self {
        let mut rows = live.rows.clone();
        if !live.plan.delays.is_empty() {
            // Files of earlier versions have it.
            for row in &mut rows {
                row.relative_to_owned = None;
            }
        }
        Self {
            title: live.title(),
            longest: rows.iter().map(|row| longest(live, row)).collect(),
            broken: rows.iter().filter_map(|row| broken(live, row)).collect(),
            rows,
            ended_early: live.interrupted,
        }
    }

    /// The curves of all who ran.
    pub fn curves(&self, over: Over) -> Vec<Curve<'_>> {
        let rows = self.rows.iter().zip(&self.longest);
        rows.filter(|(row, _)| row.runs > 0)
            .map(|(row, longest)| {
                let (points, end) = match over {
                    Over::Operations => (&row.survival_operations, longest.operations),
                    Over::Seconds => (&row.survival_seconds, longest.seconds),
                };
                Curve {
                    name: &row.subject,
                    points,
                    end,
                }
            })
            .collect()
    }
}

impl Curve<'_> {
    /// `owned: 100 % until 1,234 operations`; where it falls, if it does.
    pub fn words(&self, over: Over) -> String {
        let falls: Vec<_> = self.points.iter().filter(|p| p.surviving < 1.0).collect();
        // Of a long comparison every n-th, and the last.
        let nth = falls.len().div_ceil(FALLS).max(1);
        let is_told = |n: usize| n.is_multiple_of(nth) || n + 1 == falls.len();
        let mut words = vec![format!("{}: 100 %", self.name)];
        let told = falls.iter().enumerate().filter(|(n, _)| is_told(*n));
        words.extend(told.map(|(_, point)| {
            let (share, at) = (100.0 * point.surviving, over.number(point.at));
            format!("{share:.0} % from {at} on")
        }));
        let (end, unit) = (over.number(self.end), over.words());
        format!("{}; until {end} {unit}", words.join(", "))
    }
}

/// Runs tell; without them the mean, which is all that sums have.
fn longest(live: &evidence::Live, row: &Row) -> Longest {
    let runs = live.runs.iter().filter(|run| run.subject == row.subject);
    let ends = runs.map(|run| match &run.violation {
        Some(broken) => (broken.operations as f64, broken.seconds),
        None => (run.operations as f64, run.seconds),
    });
    let last = |points: &[Point]| points.last().map_or(0.0, |point| point.at);
    let known = (last(&row.survival_operations), last(&row.survival_seconds));
    let longest = |(operations, seconds): (f64, f64), end: (f64, f64)| {
        (operations.max(end.0), seconds.max(end.1))
    };
    let (operations, seconds) = match ends.reduce(longest) {
        Some(ends) => longest(known, ends),
        None => {
            let runs = row.runs.max(1) as f64;
            longest(known, (row.operations as f64 / runs, row.seconds / runs))
        }
    };
    Longest {
        operations,
        seconds,
    }
}

fn broken(live: &evidence::Live, row: &Row) -> Option<Broken> {
    let runs = live.runs.iter().filter(|run| run.subject == row.subject);
    let mut broken = runs.filter_map(|run| Some((run, run.violation.as_ref()?)));
    let (run, broken) = broken.next()?;
    let seed = run.seed;
    let again = format!("  again: {}", run.again);
    let mut lines: Vec<_> = broken.report.lines().take(LINES).collect();
    if !run.again.is_empty() {
        lines.push(&again);
    }
    Some(Broken {
        subject: row.subject.clone(),
        seed,
        operations: broken.operations,
        seconds: broken.seconds,
        report: lines.join("\n"),
    })
}

impl Broken {
    /// Whose, when, and how to have it again.
    pub fn words(&self) -> String {
        format!(
            "{}: the broken rule of its first run that broke one, with seed {}, after {} operations and {:.2} s:",
            self.subject,
            self.seed,
            grouped(self.operations),
            self.seconds
        )
    }
}

/// The columns of the table and a row's values.
pub fn facts(row: &Row) -> Vec<(&'static str, String)> {
    let or_dash = |words: Option<String>| words.unwrap_or_else(|| "–".into());
    // No median is another thing where some broke.
    let held = |median: Option<String>| match (median, row.violations) {
        (Some(median), _) => median,
        (None, 0) => "–".to_owned(),
        (None, _) => "most held".to_owned(),
    };
    let seconds = |s: f64| format!("{s:.2} s");
    let (names, durable) = row.lost.values().fold((0, 0), |(names, durable), lost| {
        (names + lost.names, durable + lost.promised)
    });
    vec![
        ("runs", row.runs.to_string()),
        ("operations", grouped(row.operations)),
        ("broke a rule", row.violations.to_string()),
        ("first after", or_dash(row.first_seconds.map(seconds))),
        (
            "first operations",
            or_dash(row.first_operations.map(grouped)),
        ),
        (
            "median operations",
            held(row.median_operations.map(|n| grouped(n as u64))),
        ),
        ("median time", held(row.median_seconds.map(seconds))),
        ("operations a second", format!("{:.0}", row.rate)),
        (
            "of owned's",
            or_dash(row.relative_to_owned.map(|ratio| format!("{ratio:.2}"))),
        ),
        ("images damaged", row.images_damaged.to_string()),
        ("images unjudged", row.images_unjudged.to_string()),
        ("names lost", names.to_string()),
        ("of them durable", durable.to_string()),
        ("wrong answers or ends", row.wrong.to_string()),
    ]
}

/// How images are damaged, and what was lost, by kinds: a line each.
pub fn damage(row: &Row) -> Vec<String> {
    let name = &row.subject;
    let damage = row.damage.iter();
    let damage = damage.map(|(words, count)| format!("{name}: damaged: {count} × {words}"));
    let lost = row.lost.iter().map(|(loss, lost)| {
        let (names, words, promised) = (lost.names, loss.words(), lost.promised);
        format!("{name}: lost: {names} {words}, {promised} of them durable before")
    });
    damage.chain(lost).collect()
}

#[cfg(test)]
mod tests;
