//! The planted mutants, engine by engine. An engine that lets them pass has checked nothing.

use super::evidence::Evidence;
use super::{grouped, mounts};
use crate::extent_buffer::scenarios::mutants::{MUTANTS, Mutant};
use crate::extent_buffer::scenarios::native::Rounds;
use crate::lab::explore::Exploration;
use crate::lab::schedule::Forced;
use serde::Serialize;

/// What this build's engines found of a mutant.
pub struct Planted {
    /// Which.
    pub mutant: &'static Mutant,
    /// Every interleaving.
    pub explored: Exploration,
    /// Its own shortest failing schedule on real threads; in words, where it didn't come about.
    pub forced: Option<Result<Forced, String>>,
    /// Real threads, with its window widened.
    pub raced: Option<Rounds>,
}

/// A mutant by all engines.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub mutant: &'static str,
    /// The scenario that must notice.
    pub label: String,
    /// An engine each.
    pub cells: Vec<Cell>,
}

/// A mutant by one engine.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The engine.
    pub engine: &'static str,
    /// Whether it was noticed; `None` where the engine says nothing.
    pub caught: Option<bool>,
    /// How, or why not.
    pub words: String,
}

impl Cell {
    fn judged(engine: &'static str, caught: bool, words: String) -> Self {
        Self {
            engine,
            caught: Some(caught),
            words,
        }
    }

    fn silent(engine: &'static str, why: &str) -> Self {
        Self {
            engine,
            caught: None,
            words: why.to_owned(),
        }
    }

    /// `✓ 450 of 3,174 schedules fail`.
    pub fn marked(&self) -> String {
        match self.caught {
            Some(true) => format!("✓ {}", self.words),
            Some(false) => format!("[✗ survives: {}]", self.words),
            None => format!("n/a: {}", self.words),
        }
    }
}

/// All mutants, in the order in which they are planted.
pub fn rows(evidence: &Evidence) -> Vec<Row> {
    MUTANTS.iter().map(|mutant| row(evidence, mutant)).collect()
}

/// Mutants that an engine let pass, in words.
pub fn surprises(rows: &[Row]) -> Vec<String> {
    let survives = |row: &Row, cell: &Cell| {
        let (engine, mutant, label) = (cell.engine, row.mutant, &row.label);
        format!("{engine}: the planted mutant {mutant} survives in {label}")
    };
    let judged = rows
        .iter()
        .flat_map(|row| row.cells.iter().map(move |cell| (row, cell)));
    judged
        .filter(|(_, cell)| cell.caught == Some(false))
        .map(|(row, cell)| survives(row, cell))
        .collect()
}

fn row(evidence: &Evidence, mutant: &'static Mutant) -> Row {
    let (name, label) = (mutant.rules.name(), mutant.play().label());
    let planted = evidence
        .mutants
        .iter()
        .find(|planted| planted.mutant.rules.name() == name);
    Row {
        mutant: name,
        cells: vec![
            explored(planted),
            forced(planted),
            raced(planted),
            modelled(evidence, name),
            scheduled(evidence, &label, name),
            on_mounts(evidence, name),
        ],
        label,
    }
}

const NOT_RUN: &str = "not run";

fn explored(planted: Option<&Planted>) -> Cell {
    let Some(found) = planted.map(|planted| planted.explored.total()) else {
        return Cell::silent("explore", NOT_RUN);
    };
    let words = format!(
        "{} of {} schedules fail",
        grouped(found.failing),
        grouped(found.explored)
    );
    Cell::judged("explore", found.failing > 0, words)
}

fn forced(planted: Option<&Planted>) -> Cell {
    match planted.and_then(|planted| planted.forced.as_ref()) {
        None => Cell::silent("replay", NOT_RUN),
        Some(Ok(forced)) => {
            let words = format!("its schedule, {} steps", forced.trace.steps.len());
            Cell::judged("replay", forced.broken, words)
        }
        Some(Err(why)) => Cell::judged("replay", false, why.clone()),
    }
}

fn raced(planted: Option<&Planted>) -> Cell {
    let Some(rounds) = planted.and_then(|planted| planted.raced.as_ref()) else {
        return Cell::silent("race on threads", NOT_RUN);
    };
    let words = format!(
        "{} of {} rounds",
        grouped(rounds.broken),
        grouped(rounds.run)
    );
    Cell::judged("race on threads", rounds.broken > 0, words)
}

fn modelled(evidence: &Evidence, name: &str) -> Cell {
    let cells = evidence.model.iter().flat_map(|model| &model.results);
    let of_mutant = |cell: &&super::model::Explored| cell.mutant && cell.protocol == name;
    let Some(cell) = cells.clone().find(of_mutant) else {
        return Cell::silent("model", NOT_RUN);
    };
    let lost = cells
        .filter(of_mutant)
        .all(|cell| cell.verdict == "loses" && cell.as_expected);
    let words = format!("execution {}", grouped(cell.executions));
    Cell::judged("model", lost, words)
}

fn scheduled(evidence: &Evidence, label: &str, name: &str) -> Cell {
    let cell = evidence
        .schedules
        .as_ref()
        .and_then(|schedules| schedules.cell(label, name));
    let Some(cell) = cell else {
        return Cell::silent("schedules", NOT_RUN);
    };
    let words = cell.tried.iter().find_map(|tried| {
        let execution = grouped(tried.failed_in?);
        Some(format!("execution {execution} of {}", tried.scheduler))
    });
    let lost = cell.loses() && cell.as_expected;
    Cell::judged("schedules", lost, words.unwrap_or_else(|| "none".into()))
}

/// A mount lives by its build's rules, and one of those is this mutant: the lookup of 2013 is the
/// handshake's without the section.
fn on_mounts(evidence: &Evidence, name: &str) -> Cell {
    let section = crate::extent_buffer::scenarios::mutants::LockSectionDeleted;
    if name != crate::extent_buffer::protocol::Protocol::name(&section) {
        return Cell::silent("mounts", "a mount lives by the rules of its build");
    }
    let Some(row) = mounts::of_report(evidence) else {
        return Cell::silent("mounts", NOT_RUN);
    };
    let (runs, broke) = (row.runs, row.violations);
    let words = format!("there it is unfixed: {broke} of {runs} runs broke a rule");
    // One that holds where it mustn't is what A's own cell says.
    match broke > 0 {
        true => Cell::judged("mounts", true, words),
        false => Cell::silent("mounts", &words),
    }
}
