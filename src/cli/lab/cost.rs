//! `btrfuse lab cost`: what each protocol costs a lookup, and a mount.

use super::{CostArgs, kinds, tell, want_writable};
use crate::cli::{Failure, stress};
use crate::extent_buffer::Kind;
use crate::lab::cost::{Costs, lookups, mounts};
use crate::lab::live::campaign::News;
use crate::lab::live::plan::Plan;
use crate::lab::workload::conductor::Order;
use crate::lab::workload::mix::Mix;
use crate::sync::atomic::{AtomicBool, Ordering};
use indicatif::{ProgressBar, ProgressStyle};

/// Measures, prints, writes.
pub fn cost(args: &CostArgs) -> Result<(), Failure> {
    want_writable(args.report.as_deref())?;
    let stop = stress::stop_flag()?;
    let costs = measure(args, &stop)?;
    if !args.json {
        crate::cli::print::say!("{}", costs.text());
    }
    let json = serde_json::to_value(&costs)
        .map_err(|why| Failure::new(crate::cli::Exit::Bug, why.to_string()))?;
    tell(args.json, args.report.as_deref(), &json)
}

fn measure(args: &CostArgs, stop: &AtomicBool) -> Result<Costs, Failure> {
    let bar = match args.json {
        true => ProgressBar::hidden(),
        false => ProgressBar::new_spinner(),
    };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    // Relaxed, here and below: a plain flag.
    let goes_on = || !stop.load(Ordering::Relaxed);
    let plan = lookups::Plan {
        kinds: with_owned(kinds(&args.protocols)?),
        threads: args.threads.iter().map(|n| *n as usize).collect(),
        rounds: args.rounds as usize,
        each: std::time::Duration::from_millis(args.each),
    };
    let lookups = lookups::lookups(&plan, &mut |done, all| {
        bar.set_message(format!("lookups: round {done} of {all}"));
        bar.tick();
        goes_on()
    });
    let lookups =
        lookups.map_err(|why| Failure::failed(format!("lookups can't be measured: {why}")))?;
    let mut costs = Costs {
        lookups,
        mounts: Vec::new(),
        interrupted: false,
    };
    if !args.no_mounts && goes_on() {
        let plan = mount_plan(args, &plan.kinds)?;
        let watched = &mut |processes: u64, news: &News<'_>| {
            if let News::Working { subject, seed, .. } = news {
                let name = &subject.name;
                bar.set_message(format!(
                    "mounts: {processes} processes, {name}, seed {seed}"
                ));
            }
            bar.tick();
            match goes_on() {
                true => Order::GoOn,
                false => Order::Stop,
            }
        };
        costs.mounts = mounts::measure(&plan, &args.threads, watched)?;
    }
    costs.interrupted = !goes_on();
    bar.finish_and_clear();
    Ok(costs)
}

/// Ratios are to `owned`, so it is always there.
fn with_owned(mut kinds: Vec<Kind>) -> Vec<Kind> {
    if !kinds.contains(&Kind::Owned) {
        kinds.push(Kind::Owned);
    }
    kinds
}

fn mount_plan(args: &CostArgs, kinds: &[Kind]) -> Result<Plan, Failure> {
    let program = std::env::current_exe()
        .map_err(|why| Failure::failed(format!("can't find this program again: {why}")))?;
    let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
    let mix = Mix::parse("empty-leaves").map_err(Failure::usage)?;
    let mut plan = Plan::new(mounts::subjects(&program, &names), program, mix);
    plan.each = args.each_mount;
    plan.seeds = args.seeds;
    plan.folder = args.dir.clone();
    // Whether images are sound is what `lab live` asks.
    plan.kernel = false;
    Ok(plan)
}
