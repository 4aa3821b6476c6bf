//! The same seeds for all subjects, interleaved, until seeds, time or patience are over.

use super::plan::{Plan, Subject};
use super::report::Report;
use super::run::{self, Run};
use crate::lab::workload::conductor::{Order, Progress};
use std::time::Instant;

/// So many runs in a row that got nowhere end everything: a full disk or a program that isn't one
/// says the same each time, and at once, until the time is over.
const NOWHERE_MAX: usize = 3;

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

/// Does all runs. What fails is in the report, with all runs before it. An order to stop ends the
/// run in progress, which isn't counted unless something is wrong with it.
pub fn run(plan: &Plan, watch: &mut dyn FnMut(&News<'_>) -> Order) -> Report {
    let began = Instant::now();
    let (mut runs, mut interrupted, mut nowhere) = (Vec::new(), false, 0);
    let mut gave_up = None;
    'all: for seed in plan.seed..plan.seed.saturating_add(plan.seeds) {
        if plan
            .operations
            .is_some_and(|wanted| all_did(plan, &runs, wanted))
        {
            break;
        }
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
            });
            interrupted |= run.interrupted;
            if run.interrupted && !run.is_wrong() {
                break 'all;
            }
            interrupted |= watch(&News::Over(&run)) == Order::Stop;
            let broken = run.violation.is_some();
            nowhere = match run.got_nowhere() {
                true => nowhere + 1,
                false => 0,
            };
            runs.push(run);
            if interrupted || broken && plan.until_first {
                break 'all;
            }
            if nowhere == NOWHERE_MAX {
                gave_up = Some(format!("{nowhere} runs in a row got nowhere"));
                break 'all;
            }
        }
    }
    let mut report = Report::new(plan, runs, interrupted, began.elapsed().as_secs_f64());
    report.gave_up = gave_up;
    report
}

/// Whether each subject has done so many operations in all of its runs.
fn all_did(plan: &Plan, runs: &[Run], wanted: u64) -> bool {
    plan.subjects.iter().all(|subject| {
        let own = runs.iter().filter(|run| run.subject == subject.name);
        own.map(|run| run.operations).sum::<u64>() >= wanted
    })
}
