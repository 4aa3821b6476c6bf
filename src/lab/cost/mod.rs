//! What each protocol costs, as ratios to `owned` measured in one run.
//!
//! * [`lookups`]: a lookup and its release in the cache, 1 to 8 threads.
//! * [`mounts`]: operations of whole mounts, 1 to 8 processes.

pub mod lookups;
pub mod mounts;

use super::counted;
use serde::{Deserialize, Serialize};

/// All that was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Costs {
    /// In the cache.
    pub lookups: lookups::Lookups,
    /// On mounts; none where they were left out.
    pub mounts: Vec<mounts::Row>,
    /// Somebody ended it early.
    #[serde(default)]
    pub interrupted: bool,
}

impl Costs {
    /// How they were measured.
    pub fn manner(&self) -> String {
        let build = match self.lookups.in_lab_build {
            true => {
                "Measured in a lab build: its points and events are in every number; a build with \
                 --features protocols has none."
            }
            false => "Measured in a build without points and events.",
        };
        format!(
            "Ratios to owned, measured in turns within {} of one run; the median round's, and in \
             brackets the smallest and the largest. {build}",
            counted(self.lookups.rounds, "round")
        )
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        use std::fmt::Write;
        let mut out = self.manner();
        out.push('\n');
        // Writing to a string can't fail, here and below.
        for shape in lookups::Shape::ALL {
            let _ = writeln!(out, "lookup and release, {}:", shape.words());
            let of = self.lookups.rows.iter().filter(|row| row.shape == shape);
            for row in of {
                let _ = writeln!(
                    out,
                    "  {:<10}  {:<17} {:>7.1} ns  {:>5.2} x owned  {}",
                    counted(row.threads, "thread"),
                    row.protocol,
                    row.nanoseconds,
                    row.times_owned,
                    row.between()
                );
            }
        }
        if self.interrupted {
            out.push_str("(ended early: not all of it was measured)\n");
        }
        if !self.mounts.is_empty() {
            out.push_str("operations a second of whole mounts:\n");
        }
        for row in &self.mounts {
            let ratio = row
                .of_owned
                .map_or("-".into(), |ratio| format!("{ratio:.2}"));
            let _ = writeln!(
                out,
                "  {:<13}  {:<17} {:>8.0}/s  {ratio:>5} of owned's",
                counted(row.processes as usize, "process"),
                row.protocol,
                row.per_second
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural_and_the_spread_and_the_rounds_are_told() {
        let row = |threads| lookups::Row {
            protocol: "unfixed".into(),
            shape: lookups::Shape::Apart,
            threads,
            per_second: 1e7,
            nanoseconds: 100.0,
            times_owned: 1.5,
            spread: (1.25, 2.0),
        };
        let mounts = [1, 2].map(|processes| mounts::Row {
            protocol: "owned".into(),
            processes,
            per_second: 10.0,
            of_owned: Some(1.0),
            runs: 1,
        });
        let costs = Costs {
            lookups: lookups::Lookups {
                in_lab_build: true,
                rounds: 9,
                rows: vec![row(1), row(2)],
            },
            mounts: mounts.to_vec(),
            ..Costs::default()
        };
        let text = costs.text();
        for words in [
            "  1 thread ",
            "  2 threads ",
            "  1 process ",
            "  2 processes ",
            "within 9 rounds",
            "(1.25 to 2.00)",
            "in a lab build",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
