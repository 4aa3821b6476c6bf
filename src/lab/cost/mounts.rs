//! What whole mounts do by each protocol's rules.
//!
//! Owns: live runs without delay points, for a growing number of processes: what an application
//! would notice of a protocol's cost. Same seeds for all, in turns.

use crate::lab::live::campaign::{self, News};
use crate::lab::live::plan::{Plan, Subject};
use crate::lab::workload::conductor::Order;
use serde::{Deserialize, Serialize};

/// One protocol's mounts with so many processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The rules.
    pub protocol: String,
    /// How many processes worked on a mount.
    pub processes: u64,
    /// Operations a second, of all of them, over all runs.
    pub per_second: f64,
    /// The rate as a share of `owned`'s on the same seed: the median seed's. A run that broke a
    /// rule says nothing about speed, and doesn't count.
    pub of_owned: Option<f64>,
    /// How many runs counted.
    pub runs: usize,
}

/// Measures, with what `plan` has beside the number of processes; `watch` as for a campaign.
///
/// Fails where a mount can't be made, or a subject that must hold breaks.
pub fn measure(
    plan: &Plan,
    processes: &[u64],
    watch: &mut dyn FnMut(u64, &News<'_>) -> Order,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &processes in processes {
        let plan = Plan {
            processes,
            ..plan.clone()
        };
        let report = campaign::run(&plan, &mut |news| watch(processes, news));
        if let Some(first) = report.failures().first() {
            anyhow::bail!("{first}");
        }
        rows.extend(report.rows.iter().map(|row| Row {
            protocol: row.subject.clone(),
            processes,
            per_second: row.rate,
            of_owned: row.relative_to_owned,
            runs: row.runs - row.violations,
        }));
        if report.interrupted {
            break;
        }
    }
    Ok(rows)
}

/// The same program by each of these rules.
pub fn subjects(program: &std::path::Path, protocols: &[&str]) -> Vec<Subject> {
    let subject = |name: &&str| Subject {
        name: (*name).to_owned(),
        binary: program.to_owned(),
        protocol: Some((*name).to_owned()),
        version: None,
    };
    protocols.iter().map(subject).collect()
}
