//! A table an engine: a row a scenario, a column a protocol, and no cell without a word.

use super::evidence::{Cell as Found, Evidence, is_unwidened};
use super::{grouped, mounts};
use crate::extent_buffer::Kind;
use crate::extent_buffer::lifetime::Profile;
use crate::extent_buffer::scenarios::Play;
use serde::Serialize;

/// What one engine says.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Which.
    pub engine: String,
    /// What it does, and what the numbers are.
    pub what: String,
    /// A scenario a row.
    pub rows: Vec<Row>,
}

/// What an engine says of a scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The play's letter.
    pub label: String,
    /// What meets what.
    pub title: String,
    /// In the order of [`protocols`].
    pub cells: Vec<Cell>,
}

/// What an engine says of a scenario under a protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// The verdict, or that there is none.
    pub state: State,
    /// What it rests on; why, where there is no verdict.
    pub words: String,
    /// Whether the registry says so too.
    pub as_expected: bool,
}

/// See [`Cell`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No rule was broken.
    Holds,
    /// A rule was broken.
    Breaks,
    /// The engine can say nothing here.
    NotApplicable,
    /// The engine was left out of this run.
    NotRun,
}

impl State {
    /// A sign that needs no colour.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Holds => "✓",
            Self::Breaks => "✗",
            Self::NotApplicable => "n/a",
            Self::NotRun => "not run",
        }
    }

    fn of(breaks: bool) -> Self {
        if breaks { Self::Breaks } else { Self::Holds }
    }
}

impl Cell {
    /// A verdict, what it rests on, and whether it is the registry's.
    pub(super) fn judged(breaks: bool, words: String, as_expected: bool) -> Self {
        Self {
            state: State::of(breaks),
            words,
            as_expected,
        }
    }

    /// Whether the words say why there is no verdict.
    pub fn is_silent(&self) -> bool {
        matches!(self.state, State::NotApplicable | State::NotRun)
    }

    /// No verdict, and why.
    pub(super) fn silent(state: State, why: &str) -> Self {
        Self {
            state,
            words: why.to_owned(),
            as_expected: true,
        }
    }
}

impl Table {
    /// Verdicts that aren't the registry's.
    pub fn surprises(&self) -> Vec<String> {
        let mut out = Vec::new();
        for row in &self.rows {
            for (cell, protocol) in row.cells.iter().zip(protocols()) {
                if !cell.as_expected {
                    let (engine, label) = (&self.engine, &row.label);
                    let (sign, words) = (cell.state.sign(), &cell.words);
                    out.push(format!(
                        "{engine}: {label} under {protocol}: {sign} {words}"
                    ));
                }
            }
        }
        out
    }
}

/// The columns.
pub fn protocols() -> Vec<String> {
    Kind::ALL
        .iter()
        .map(|kind| kind.name().to_owned())
        .collect()
}

/// All tables.
pub fn tables(evidence: &Evidence) -> Vec<Table> {
    let mut tables = vec![
        table(
            "explore",
            "Every interleaving of one-access steps under sequential consistency: failing schedules \
             / all schedules, counted exactly.",
            |play, kind| explored(evidence, play, kind),
        ),
        table(
            "replay",
            "The shortest schedule that breaks these rules, or else others', forced on real threads \
             that are held before each access; the race of 2015 also on the real tree. How many \
             steps it has, and whose it is.",
            |play, kind| replayed(evidence, play, kind),
        ),
    ];
    for profile in Profile::ALL {
        tables.push(table(
            &format!("model, {}", profile.name()),
            profile_words(*profile),
            |play, kind| modelled(evidence, play, kind, *profile),
        ));
    }
    tables.push(table(
        "schedules",
        "shuttle: schedules chosen at random, and by priorities that change now and then. Executions \
         without a broken rule, or the one that broke one: the same seed breaks it again.",
        |play, kind| scheduled(evidence, &play.label(), kind),
    ));
    tables.push(whole_operations(evidence));
    tables.push(table(
        "race",
        "Real threads on this processor, with the windows after decisions widened: rounds that \
         broke a rule / rounds. A loser may have luck.",
        |play, kind| raced(evidence, play, kind),
    ));
    tables.push(table(
        "live",
        "Whole mounts under several processes, a delay point widening the window of the scenario: \
         runs that broke a rule / runs. unfixed must break in A, and with handshake in C, unless the \
         report is a quick one; elsewhere a loser may have luck. Unwidened are the runs of \
         protocols that have no such point, as they test and act in one step: owned and packed-word \
         in A and B, packed-word in F.",
        |play, kind| mounts::cell(evidence, play, kind),
    ));
    tables
}

fn table(engine: &str, what: &str, cell: impl Fn(Play, Kind) -> Cell) -> Table {
    let row = |play: Play| Row {
        label: play.label(),
        title: title(play),
        cells: Kind::ALL
            .iter()
            .map(|kind| {
                let out = play.scenario.not_applicable.iter();
                let why = out.clone().find(|(other, _)| other == kind);
                match why {
                    Some((_, why)) => Cell::silent(State::NotApplicable, why),
                    None => cell(play, *kind),
                }
            })
            .collect(),
    };
    Table {
        engine: engine.to_owned(),
        what: what.to_owned(),
        rows: Play::all().map(row).collect(),
    }
}

/// What meets what, or how it was done.
fn title(play: Play) -> String {
    match &play.scenario.was {
        Some(was) if play.as_it_was => format!("as it was: {}", was.words),
        _ => play.scenario.title.to_owned(),
    }
}

fn profile_words(profile: Profile) -> &'static str {
    match profile {
        Profile::FullRmws => {
            "loom, as on x86-64: every atomic write is a full barrier. Executions explored, up to \
             the first failure."
        }
        Profile::RelaxedFlags => {
            "loom, the primitives of 2015 on arm64: set_bit and atomic_inc order nothing. \
             Executions explored, up to the first failure."
        }
        Profile::AcquireRelease => {
            "loom, nothing is a full barrier: writes release, reads acquire. Executions explored, \
             up to the first failure."
        }
        Profile::UnorderedIncrement => {
            "loom, counting unless 0 only acquires, and the setter of STALE has a full barrier \
             behind it. Executions explored, up to the first failure."
        }
    }
}

fn explored(evidence: &Evidence, play: Play, kind: Kind) -> Cell {
    let Some(found) = evidence.explored(&play.label(), kind) else {
        return Cell::silent(State::NotRun, "exploring was left out");
    };
    let total = found.total();
    let breaks = total.failing > 0;
    let words = format!("{} / {}", grouped(total.failing), grouped(total.explored));
    let must = play.must_lose(kind, Profile::FullRmws);
    Cell::judged(breaks, words, found.complete && breaks == must)
}

fn replayed(evidence: &Evidence, play: Play, kind: Kind) -> Cell {
    let is_it = |cell: &&Found<_>| cell.kind == kind && cell.play.label() == play.label();
    let forced = match evidence.forced.iter().find(is_it) {
        None => return Cell::silent(State::NotRun, "replaying was left out"),
        Some(cell) => &cell.found,
    };
    let (forced, source) = match forced {
        Ok(forced) => forced,
        Err(why) => return Cell::judged(false, format!("didn't come about: {why}"), false),
    };
    let must = play.must_lose(kind, Profile::FullRmws);
    let mut words = match source == kind.name() {
        true => format!("{} steps", forced.trace.steps.len()),
        false => format!("{} steps, of {source}", forced.trace.steps.len()),
    };
    let mut as_expected = forced.broken == must;
    // The reported race is replayed on the real tree as well.
    let on_tree = evidence.replayed.iter().find(|one| one.protocol == kind);
    if let Some(outcome) = on_tree.filter(|_| play.label() == "A") {
        let tree = match (outcome.violations.is_empty(), outcome.finder_waited) {
            (false, _) => "freed while dirty",
            (true, true) => "the finder waited",
            (true, false) => "nobody waited",
        };
        words = format!("{words}; on the tree: {tree}");
        as_expected &= outcome.judge().is_ok() && outcome.violations.is_empty() != must;
    }
    Cell::judged(forced.broken, words, as_expected)
}

fn modelled(evidence: &Evidence, play: Play, kind: Kind, profile: Profile) -> Cell {
    let Some(model) = &evidence.model else {
        let why = "the model checker needs a build of its own (scripts/report makes it, --model \
                   takes its result)";
        return Cell::silent(State::NotRun, why);
    };
    let label = play.label();
    if let Some(why) = model.silent(&label) {
        return Cell::silent(State::NotApplicable, why);
    }
    match model.cell(&label, kind.name(), profile.name()) {
        None => Cell::silent(State::NotRun, "it isn't in the model's result"),
        Some(cell) => {
            let breaks = cell.verdict == "loses";
            let as_expected = breaks == play.must_lose(kind, profile);
            Cell::judged(breaks, grouped(cell.executions), as_expected)
        }
    }
}

fn scheduled(evidence: &Evidence, label: &str, kind: Kind) -> Cell {
    let Some(schedules) = &evidence.schedules else {
        let why = "the scheduler needs a build of its own (scripts/report makes it, --schedules \
                   takes its result)";
        return Cell::silent(State::NotRun, why);
    };
    match schedules.cell(label, kind.name()) {
        None => Cell::silent(State::NotRun, "it isn't in the schedules' result"),
        Some(cell) => Cell::judged(cell.loses(), cell.words(), cell.as_expected),
    }
}

/// What shuttle says of whole tree operations, which are no scenarios of one buffer.
fn whole_operations(evidence: &Evidence) -> Table {
    let plays = match &evidence.schedules {
        Some(schedules) => schedules.tree_plays(),
        None => vec![("T", "whole tree operations side by side")],
    };
    let row = |(label, title): (&str, &str)| Row {
        label: label.to_owned(),
        title: title.to_owned(),
        cells: Kind::ALL
            .iter()
            .map(|kind| scheduled(evidence, label, *kind))
            .collect(),
    };
    Table {
        engine: "schedules, whole operations".to_owned(),
        what: "shuttle on the real trees, allocator and commits over a device in memory: no rule \
               broken, no deadlock, trees whole, contents right, and right again on a later mount."
            .to_owned(),
        rows: plays.into_iter().map(row).collect(),
    }
}

fn raced(evidence: &Evidence, play: Play, kind: Kind) -> Cell {
    let is_it = |cell: &&Found<_>| cell.kind == kind && cell.play.label() == play.label();
    let Some(cell) = evidence.raced.iter().find(is_it) else {
        return Cell::silent(State::NotRun, "racing was left out");
    };
    let (broken, run) = (cell.found.broken, cell.found.run);
    let must = play.must_lose(kind, Profile::NATIVE);
    if must && broken == 0 && is_unwidened(play) {
        let why = "no delay point is in the window of this practice, so that threads meet there by luck \
                   alone, and didn't; explore, replay and the models don't need luck";
        return Cell::silent(State::NotApplicable, why);
    }
    let words = format!("{} / {}", grouped(broken), grouped(run));
    let lucky = must && broken == 0 && run < PROOF_ROUNDS;
    Cell::judged(broken > 0, words, lucky || must == (broken > 0))
}

/// Luck comes in streaks: threads that fall into a rhythm may miss each other for a thousand rounds. A
/// loser is given several times so many before it is said to hold.
const PROOF_ROUNDS: u64 = 5_000;
