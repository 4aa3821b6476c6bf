//! Runs the engines, and keeps what they found.

use super::model::Model;
use super::mutants::Planted;
use super::schedules::Schedules;
use super::{grouped, mounts};
use crate::extent_buffer::Kind;
use crate::extent_buffer::lifetime::Profile;
use crate::extent_buffer::scenarios::mutants::{MUTANTS, Mutant};
use crate::extent_buffer::scenarios::native::{self, Rounds};
use crate::extent_buffer::scenarios::{Play, Practice};
use crate::lab::cost::Costs;
use crate::lab::explore::{Exploration, Limits, explore, feared};
use crate::lab::lanes::Lanes;
use crate::lab::live::{self, report::Row};
use crate::lab::machine_code::Section;
use crate::lab::replay::{self, Outcome};
use crate::lab::schedule::{self, Forced};
use crate::lab::workload::mix::Mix;
use crate::sync::race_point::{Delay, Point, install_delays};
use serde::Deserialize;
use std::time::Duration;

/// What real threads sleep at between a decision and what follows from it.
const WINDOWS: [Point; 3] = [Point::DropTested, Point::StaleTested, Point::ReclaimTested];
const WINDOW_US: u32 = 50;
/// How often a loser races that hasn't lost: threads in a rhythm miss each other.
const TRIES: usize = 4;

/// Practices in whose windows nobody sleeps. In all others a loser that never loses is a surprise.
pub fn is_unwidened(play: Play) -> bool {
    play.as_it_was && ['G', 'K', 'M', 'N'].contains(&play.scenario.letter)
}

/// What there is; what wasn't run is `None` or empty.
#[derive(Default)]
pub struct Evidence {
    /// Every interleaving, for each play and protocol.
    pub explored: Vec<Cell<Exploration>>,
    /// What this build's engines found of the planted mutants.
    pub mutants: Vec<Planted>,
    /// The race of 2015 on the real tree.
    pub replayed: Vec<Outcome>,
    /// Each scenario's written schedule on real threads; in words, where it didn't come about.
    pub forced: Vec<Cell<Result<(Forced, String), String>>>,
    /// Real threads, with the decisions' windows widened.
    pub raced: Vec<Cell<Rounds>>,
    /// The model checker's.
    pub model: Option<Model>,
    /// Those of random schedules.
    pub schedules: Option<Schedules>,
    /// On mounts.
    pub live: Vec<Live>,
    /// What lookups and mounts cost.
    pub costs: Option<Costs>,
    /// The empty lock section of the handshake, in a build that people mount.
    pub section: Option<Result<Section, String>>,
    /// Runs on mounts were short, so that a loser may have luck.
    pub quick: bool,
    /// Engines that couldn't do their work, and why.
    pub failed: Vec<String>,
    /// Somebody ended it early; what was left to do is missing.
    pub interrupted: bool,
    /// How long all took.
    pub seconds: f64,
}

/// What an engine found in a play by the rules of a protocol.
pub struct Cell<T> {
    /// The race.
    pub play: Play,
    /// The rules.
    pub kind: Kind,
    /// What came of it.
    pub found: T,
}

/// A comparison on mounts, made now or read from what `lab live --report` wrote.
#[derive(Clone, Debug, Deserialize)]
pub struct Live {
    /// How.
    pub plan: LivePlan,
    /// A subject a row.
    pub rows: Vec<Row>,
    /// Somebody ended it early; the last run isn't counted.
    #[serde(default)]
    pub interrupted: bool,
    /// Every run; none where a file has only sums.
    #[serde(default)]
    pub runs: Vec<LiveRun>,
    /// It was made before this report, and read from a file.
    #[serde(skip)]
    pub earlier: bool,
}

/// What is shown of a run.
#[derive(Clone, Debug, Deserialize)]
pub struct LiveRun {
    /// Whose.
    pub subject: String,
    /// Of the workload.
    pub seed: u64,
    /// Operations of all processes.
    pub operations: u64,
    /// Wall time of them.
    pub seconds: f64,
    /// The first broken rule.
    pub violation: Option<LiveViolation>,
    /// The command line that makes such a run again.
    #[serde(default)]
    pub again: String,
}

/// A broken rule.
#[derive(Clone, Debug, Deserialize)]
pub struct LiveViolation {
    /// Operations until then.
    pub operations: u64,
    /// Seconds until then.
    pub seconds: f64,
    /// What the log says of it.
    pub report: String,
}

/// What a reader must know of a live comparison's plan.
#[derive(Clone, Debug, Deserialize)]
pub struct LivePlan {
    /// Who was compared, and by which program.
    #[serde(default)]
    pub subjects: Vec<LiveSubject>,
    /// `POINT:µs`, where threads slept.
    pub delays: Vec<String>,
    /// Mount options beside those.
    pub options: Vec<String>,
    /// How many processes worked on a mount.
    pub processes: u64,
    /// The bound of the tree block cache.
    pub cache_bytes: u64,
    /// Of the images.
    pub nodesize: u32,
    /// What processes do.
    #[serde(default)]
    pub mix: Option<Mix>,
    /// Seconds between commits.
    #[serde(default)]
    pub commit_secs: Option<u64>,
    /// How long a run lasts that breaks no rule.
    #[serde(default)]
    pub each: Option<Duration>,
}

/// One of those that are compared.
#[derive(Clone, Debug, Deserialize)]
pub struct LiveSubject {
    /// What its row is called.
    pub name: String,
    /// What a lab build was told to live by; a build that was given has rules of its own.
    pub protocol: Option<String>,
    /// What a build that was given says of itself.
    #[serde(default)]
    pub version: Option<String>,
}

impl Live {
    /// What a comparison says that was made now.
    pub fn of(report: &live::report::Report) -> Self {
        Self {
            plan: LivePlan {
                subjects: report.plan.subjects.iter().map(LiveSubject::of).collect(),
                delays: report.plan.delays.clone(),
                options: report.plan.options.clone(),
                processes: report.plan.processes,
                cache_bytes: report.plan.cache_bytes,
                nodesize: report.plan.nodesize,
                mix: Some(report.plan.mix.clone()),
                commit_secs: Some(report.plan.commit_secs),
                each: Some(report.plan.each),
            },
            rows: report.rows.clone(),
            interrupted: report.interrupted,
            runs: report.runs.iter().map(LiveRun::of).collect(),
            earlier: false,
        }
    }

    /// What it found of a protocol, if it ran that.
    pub fn row(&self, kind: Kind) -> Option<&Row> {
        let mut rows = self.rows.iter();
        rows.find(|row| row.subject == kind.name() && row.runs > 0)
    }

    /// Whether it had the options without which nobody comes to this window.
    pub fn meets(&self, point: Point) -> bool {
        let has = |wanted: &&str| self.plan.options.iter().any(|option| option == *wanted);
        mounts::meetings(Some(point)).iter().all(has)
    }

    /// Whether threads slept at this point and nowhere else.
    pub fn widens(&self, point: Point) -> bool {
        let at = |delay: &String| delay.split(':').next() == Some(point.name());
        matches!(self.plan.delays.as_slice(), [one] if at(one))
    }

    /// Whether all its programs were given, as people mount them: not told their protocol, and no
    /// builds of the lab.
    pub fn is_of_builds(&self) -> bool {
        let subjects = &self.plan.subjects;
        let is_plain = |subject: &LiveSubject| {
            let version = subject.version.as_deref();
            subject.protocol.is_none() && !version.is_some_and(|words| words.contains("race-lab"))
        };
        !subjects.is_empty() && subjects.iter().all(is_plain)
    }

    /// How it was done, in words.
    pub fn title(&self) -> String {
        let plan = &self.plan;
        let delays = match plan.delays.as_slice() {
            [] if self.is_of_builds() => "builds that people mount".to_owned(),
            [] => "without delay points".to_owned(),
            delays => format!("threads sleep at {} µs", delays.join(", ")),
        };
        let options = match plan.options.as_slice() {
            [] => String::new(),
            options => format!(" -o {};", options.join(",")),
        };
        let mut more = String::new();
        if let Some(mix) = &plan.mix {
            more += match Mix::parse("empty-leaves").as_ref() == Ok(mix) {
                true => ", mix empty-leaves",
                false => ", a mix of its own",
            };
        }
        if let Some(seconds) = plan.commit_secs {
            more += &format!(", a commit each {seconds} s");
        }
        if let Some(each) = plan.each {
            more += &format!(", runs of up to {} s", each.as_secs_f64());
        }
        if self.earlier {
            more += "; made before this report";
        }
        if self.interrupted {
            more += "; ended early";
        }
        format!(
            "{delays};{options} {} processes, {} KiB nodes, {} KiB of cache{more}",
            plan.processes,
            plan.nodesize / 1024,
            plan.cache_bytes / 1024
        )
    }
}

impl LiveSubject {
    fn of(subject: &live::plan::Subject) -> Self {
        Self {
            name: subject.name.clone(),
            protocol: subject.protocol.clone(),
            version: subject.version.clone(),
        }
    }
}

impl LiveRun {
    fn of(run: &live::run::Run) -> Self {
        Self {
            subject: run.subject.clone(),
            seed: run.seed,
            operations: run.operations,
            seconds: run.seconds,
            again: run.again.clone(),
            violation: run.violation.as_ref().map(|broken| LiveViolation {
                operations: broken.operations,
                seconds: broken.seconds,
                report: broken.report.clone(),
            }),
        }
    }
}

impl Evidence {
    /// Explores everything, mutants too.
    pub fn explore(&mut self) {
        for (play, kind) in plays() {
            let found = explore(play, kind.rules(), Limits::default(), feared(play));
            self.explored.push(Cell { play, kind, found });
        }
        self.mutants = MUTANTS
            .iter()
            .map(|mutant| Planted {
                mutant,
                explored: explore(mutant.play(), mutant.rules, Limits::default(), None),
                forced: None,
                raced: None,
            })
            .collect();
    }

    /// Replays 2015 on the tree, and every scenario's schedule, by every protocol.
    pub fn replay(&mut self) -> crate::Result<()> {
        for kind in Kind::ALL {
            self.replayed.push(replay::replay(*kind)?);
        }
        for (play, kind) in plays() {
            let found = match schedule::written(play, kind) {
                None => Err("no schedule breaks anybody".to_owned()),
                Some(written) => schedule::force(play, kind.rules(), &written)
                    .map(|forced| (forced, written.source)),
            };
            self.forced.push(Cell { play, kind, found });
        }
        for planted in &mut self.mutants {
            let failure = planted.explored.failure.as_ref();
            planted.forced = failure.map(|trace| {
                let Mutant { rules, .. } = planted.mutant;
                let own = schedule::of(trace, rules.name());
                schedule::force(planted.mutant.play(), *rules, &own)
            });
        }
        Ok(())
    }

    /// Races on real threads, `rounds` rounds each.
    pub fn race(&mut self, rounds: u64) {
        let delays = |delay_us| WINDOWS.map(|point| Delay { point, delay_us });
        // What decides there is DIRTY, and only a mutant sleeps behind it.
        let behind_dirty = |delay_us| Delay {
            point: Point::BeforeDirty,
            delay_us,
        };
        install_delays(&delays(WINDOW_US));
        for (play, kind) in plays() {
            let mut found = native::race(play, kind.rules(), rounds);
            let loses = play.must_lose(kind, Profile::NATIVE) && !is_unwidened(play);
            for _ in 1..TRIES {
                if loses && found.broken == 0 {
                    found.add(native::race(play, kind.rules(), rounds));
                }
            }
            self.raced.push(Cell { play, kind, found });
        }
        install_delays(&[behind_dirty(WINDOW_US)]);
        for planted in &mut self.mutants {
            let mut found = Rounds::default();
            for _ in 0..TRIES {
                if found.broken == 0 {
                    let mutant = planted.mutant;
                    found.add(native::race(mutant.play(), mutant.rules, rounds));
                }
            }
            planted.raced = Some(found);
        }
        install_delays(&[&delays(0)[..], &[behind_dirty(0)]].concat());
    }

    /// What exploring found.
    pub fn explored(&self, label: &str, kind: Kind) -> Option<&Exploration> {
        let is_it = |cell: &&Cell<Exploration>| cell.kind == kind && cell.play.label() == label;
        self.explored.iter().find(is_it).map(|cell| &cell.found)
    }

    /// Where and how all this was found.
    pub fn made(&self) -> Vec<(String, String)> {
        let processors =
            crate::sync::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let words = |name: &str, value: String| (name.to_owned(), value);
        let mut made = vec![
            words("program", format!("btrfuse {}", env!("CARGO_PKG_VERSION"))),
            words(
                "machine",
                format!("{}, {processors} processors", std::env::consts::ARCH),
            ),
            words("took", format!("{:.0} s", self.seconds)),
        ];
        if self.interrupted {
            made.push(words("ended early", "what was left isn't in it".into()));
        }
        // A winner has one try.
        if let Some(rounds) = self.raced.iter().map(|cell| cell.found.run).min() {
            let points: Vec<_> = WINDOWS.iter().map(|point| point.name()).collect();
            let value = format!(
                "{} rounds a cell, as often again up to {TRIES} times while a loser holds; \
                 {WINDOW_US} µs at {}; of mutants at {}",
                grouped(rounds),
                points.join(", "),
                Point::BeforeDirty
            );
            made.push(words("races on threads", value));
        }
        made
    }

    /// The replays on the real tree, and the shortest failing schedule of each loser that isn't a
    /// practice which everybody loses.
    pub fn lanes(&self) -> Vec<Lanes> {
        let replays = self.replayed.iter().map(Lanes::of_replay);
        let lost = self.explored.iter().filter_map(|cell| {
            // One of those that all lose is enough.
            let is_shown = !cell.play.as_it_was || cell.kind == Kind::Owned;
            let trace = cell.found.failure.as_ref().filter(|_| is_shown)?;
            let was = match (&cell.play.scenario.was, cell.play.as_it_was) {
                (Some(Practice { words, .. }), true) => format!(", as it was ({words})"),
                _ => String::new(),
            };
            let title = format!(
                "{}: {}{was}, protocol {}",
                cell.play.label(),
                cell.play.scenario.title,
                cell.kind
            );
            Some(Lanes::of_trace(title, trace))
        });
        let mutants = self.mutants.iter().filter_map(|planted| {
            let trace = planted.explored.failure.as_ref()?;
            let name = planted.mutant.rules.name();
            Some(Lanes::of_trace(format!("planted mutant: {name}"), trace))
        });
        replays.chain(lost).chain(mutants).collect()
    }
}

fn plays() -> impl Iterator<Item = (Play, Kind)> {
    Play::all().flat_map(|play| play.kinds().map(move |kind| (play, kind)))
}
