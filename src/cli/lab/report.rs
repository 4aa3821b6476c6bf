//! `btrfuse lab report`: every engine, on one page.

use super::{ReportArgs, want_folder, want_writable, write};
use crate::cli::print::say;
use crate::cli::{Exit, Failure, stress};
use crate::extent_buffer::Kind;
use crate::extent_buffer::scenarios::Play;
use crate::lab::cost::{Costs, lookups, mounts};
use crate::lab::live::campaign::{self, News};
use crate::lab::live::plan::Plan;
use crate::lab::machine_code;
use crate::lab::report::evidence::{Evidence, Live};
use crate::lab::report::model::Model;
use crate::lab::report::schedules::Schedules;
use crate::lab::report::{Report, mounts as table, page, text};
use crate::lab::workload::conductor::Order;
use crate::lab::workload::mix::Mix;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::race_point::Point;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long threads sleep at the point that a run on mounts widens.
const WIDENED_US: u32 = 2000;

/// Runs, writes, and judges.
pub fn report(args: &ReportArgs) -> Result<(), Failure> {
    let began = Instant::now();
    // Minutes of work mustn't end at a folder that isn't there.
    want_writable(Some(&args.html))?;
    want_writable(args.json.as_deref())?;
    want_folder(&args.dir)?;
    let stop = stress::stop_flag()?;
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    let mut evidence = read(args)?;
    let go = Go {
        args,
        bar,
        stop: &stop,
    };
    go.engines(&mut evidence)?;
    go.bar.finish_and_clear();
    evidence.seconds = began.elapsed().as_secs_f64();
    let report = Report::new(&evidence);
    if args.text {
        say!("{}", text::text(&report));
    }
    write(&args.html, &page::html(&report))?;
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report)
            .map_err(|why| Failure::new(Exit::Bug, why.to_string()))?;
        write(path, &format!("{json}\n"))?;
    }
    say!("{} has all of it", args.html.display());
    match report.failures(args.whole).as_slice() {
        [] => Ok(()),
        failures => Err(Failure::new(Exit::Wrong, failures.join("; "))),
    }
}

/// What other builds found.
fn read(args: &ReportArgs) -> Result<Evidence, Failure> {
    let mut evidence = Evidence {
        quick: args.quick,
        ..Evidence::default()
    };
    if let Some(path) = &args.model {
        let model = Model::parse(&text_of(path)?).map_err(|why| unreadable(path, &why))?;
        evidence.model = Some(model);
    }
    if let Some(path) = &args.schedules {
        let schedules = Schedules::parse(&text_of(path)?).map_err(|why| unreadable(path, &why))?;
        evidence.schedules = Some(schedules);
    }
    if let Some(path) = &args.costs {
        let costs: Costs = parse(path)?;
        evidence.costs = Some(costs);
    }
    for path in &args.live {
        let live: Live = parse(path)?;
        evidence.live.push(Live {
            earlier: true,
            ..live
        });
    }
    let program = args.program.as_deref().filter(|_| machine_code::IS_READ);
    evidence.section = program.map(machine_code::look);
    Ok(evidence)
}

fn text_of(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|why| Failure::failed(format!("{} can't be read: {why}", path.display())))
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    serde_json::from_str(&text_of(path)?).map_err(|why| unreadable(path, &why.to_string()))
}

fn unreadable(path: &Path, why: &str) -> Failure {
    Failure::failed(format!(
        "{} isn't what this command reads: {why}; make it anew with this version",
        path.display()
    ))
}

fn failed(engine: &str, why: &Failure) -> String {
    format!("{engine}: {}", why.sentence)
}

struct Go<'a> {
    args: &'a ReportArgs,
    bar: ProgressBar,
    stop: &'a AtomicBool,
}

impl Go<'_> {
    fn engines(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        self.say("exploring every interleaving");
        evidence.explore();
        self.say("replaying 2015 on the real tree");
        evidence.replay()?;
        if self.goes_on() {
            let rounds = if self.args.quick { 500 } else { 5_000 };
            self.say("racing on threads");
            evidence.race(rounds);
        }
        // What can't be done on mounts is a finding: the page has all the rest.
        for point in self.points() {
            if self.goes_on() {
                match self.mounts(point) {
                    Ok(live) => evidence.live.push(live),
                    Err(why) => evidence.failed.push(failed("live mounts", &why)),
                }
            }
        }
        if evidence.costs.is_none() && self.goes_on() {
            match self.costs() {
                Ok(costs) => evidence.costs = Some(costs),
                Err(why) => evidence.failed.push(failed("costs", &why)),
            }
        }
        evidence.interrupted = !self.goes_on();
        Ok(())
    }

    fn say(&self, words: impl Into<std::borrow::Cow<'static, str>>) {
        self.bar.set_message(words);
        self.bar.tick();
    }

    /// Until somebody wants the report as it is so far.
    fn goes_on(&self) -> bool {
        // Relaxed: a plain flag.
        !self.stop.load(Ordering::Relaxed)
    }

    fn order(&self) -> Order {
        match self.goes_on() {
            true => Order::GoOn,
            false => Order::Stop,
        }
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let program = std::env::current_exe()
            .map_err(|why| Failure::failed(format!("can't find this program again: {why}")))?;
        let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        let mix = Mix::parse("empty-leaves").map_err(Failure::usage)?;
        let mut plan = Plan::new(mounts::subjects(&program, &names), program, mix);
        plan.folder = self.args.dir.clone();
        plan.each = Duration::from_secs(if self.args.quick { 2 } else { 6 });
        plan.seeds = if self.args.quick { 1 } else { 3 };
        Ok(plan)
    }

    fn mounts(&self, point: Option<Point>) -> Result<Live, Failure> {
        let mut plan = self.plan()?;
        plan.delays = point
            .map(|point| format!("{point}:{WIDENED_US}"))
            .into_iter()
            .collect();
        plan.options = table::meetings(point)
            .iter()
            .map(|option| (*option).to_owned())
            .collect();
        let words = point.map_or("no point", Point::name);
        let report = campaign::run(&plan, &mut |news| {
            if let News::Working { subject, seed, .. } = news {
                let name = &subject.name;
                self.say(format!("mounts, {words} widened: {name}, seed {seed}"));
            }
            self.order()
        });
        Ok(Live::of(&report))
    }

    fn costs(&self) -> Result<Costs, Failure> {
        let plan = lookups::Plan {
            kinds: Kind::ALL.to_vec(),
            threads: vec![1, 2, 4, 8],
            rounds: if self.args.quick { 3 } else { 9 },
            each: Duration::from_millis(20),
        };
        let lookups = lookups::lookups(&plan, &mut |done, all| {
            self.say(format!("cost of lookups: round {done} of {all}"));
            self.goes_on()
        })?;
        let (mut plan, mut rows) = (self.plan()?, Vec::new());
        if self.goes_on() {
            plan.kernel = false;
            plan.each = plan.each.min(Duration::from_secs(2));
            let processes: &[u64] = if self.args.quick {
                &[1, 2]
            } else {
                &[1, 2, 4, 8]
            };
            rows = mounts::measure(&plan, processes, &mut |processes, _| {
                self.say(format!("cost on mounts: {processes} processes"));
                self.order()
            })?;
        }
        Ok(Costs {
            lookups,
            mounts: rows,
            interrupted: !self.goes_on(),
        })
    }

    /// What runs on mounts widen: every point that has a scenario, or only those of the reported race
    /// and of reclaim; and nothing.
    fn points(&self) -> Vec<Option<Point>> {
        let mut points: Vec<_> = Play::all()
            .filter_map(|play| table::widened(play).ok())
            .map(Some)
            .collect();
        points.dedup();
        if self.args.quick {
            points.retain(|point| matches!(point, Some(Point::DropTested | Point::ReclaimTested)));
        }
        points.push(None);
        points
    }
}
