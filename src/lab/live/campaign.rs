//! The same seeds for all subjects, interleaved, until seeds, time or patience are over.

use super::plan::{Plan, Subject};
use super::report::Report;
use super::run::{self, Run};
use crate::lab::workload::conductor::{Order, Progress};
use std::time::Instant;

/// Something to tell whoever watches.
pub enum News<'a> {
    /// A run is on.
    Working {
        /// Whose.
        subject: &'a Subject,
        /// Of the workload.
        seed: u64,
        /// How far.
        progress: &'a Progress,
    },
    /// A run is over.
    Over(&'a Run),
}

/// Does all runs. An order to stop ends the run in progress, which isn't counted.
pub fn run(plan: &Plan, watch: &mut dyn FnMut(&News<'_>) -> Order) -> anyhow::Result<Report> {
    let began = Instant::now();
    let (mut runs, mut interrupted) = (Vec::new(), false);
    'all: for seed in plan.seed..plan.seed.saturating_add(plan.seeds) {
        for subject in &plan.subjects {
            if plan.time.is_some_and(|time| began.elapsed() >= time) {
                break 'all;
            }
            let run = run::run(plan, subject, seed, &mut |progress| {
                watch(&News::Working {
                    subject,
                    seed,
                    progress,
                })
            })?;
            if run.interrupted {
                interrupted = true;
                break 'all;
            }
            let order = watch(&News::Over(&run));
            let broken = run.violation.is_some();
            runs.push(run);
            if order == Order::Stop {
                interrupted = true;
                break 'all;
            }
            if broken && plan.until_first {
                break 'all;
            }
        }
    }
    Ok(Report::new(
        plan,
        runs,
        interrupted,
        began.elapsed().as_secs_f64(),
    ))
}
