//! What each protocol costs, as ratios to `owned` measured in one run.
//!
//! * [`lookups`]: a lookup and its release in the cache, 1 to 8 threads.
//! * [`mounts`]: operations of whole mounts, 1 to 8 processes.

pub mod lookups;
pub mod mounts;

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
    /// For a terminal.
    pub fn text(&self) -> String {
        use std::fmt::Write;
        let mut out = String::new();
        // Writing to a string can't fail, here and below.
        for shape in lookups::Shape::ALL {
            let _ = writeln!(out, "lookup and release, {}:", shape.words());
            let of = self.lookups.rows.iter().filter(|row| row.shape == shape);
            for row in of {
                let _ = writeln!(
                    out,
                    "  {} threads  {:<17} {:>7.1} ns  {:>5.2} x owned  ({:.2} to {:.2})",
                    row.threads,
                    row.protocol,
                    row.nanoseconds,
                    row.times_owned,
                    row.spread.0,
                    row.spread.1
                );
            }
        }
        if self.lookups.in_lab_build {
            out.push_str(
                "(in a lab build, whose points and events every lookup passes; a build with \
                 --features protocols has none)\n",
            );
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
                "  {} processes  {:<17} {:>8.0}/s  {ratio:>5} of owned's",
                row.processes, row.protocol, row.per_second
            );
        }
        out
    }
}
