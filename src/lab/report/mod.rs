//! What all engines say about all scenarios, for a reader: a page, JSON, or a terminal.
//!
//! * [`evidence`]: runs the engines, and keeps what they found.
//! * [`model`]: reads what the model checker's own build found.
//! * [`schedules`]: reads what the build with a scheduler of its own found.
//! * [`matrix`]: a table an engine, a cell for each protocol and scenario, none of them empty.
//! * [`mounts`]: which comparison on live mounts stands in which cell.
//! * [`shown`]: what readers see of a comparison on live mounts, and [`totals`] of all.
//! * [`doubts`]: the mail's doubts, the numbers that speak to them, and the answers.
//! * [`whole`]: what wasn't run, by name.
//! * [`page`], [`charts`], [`text`]: the same facts as HTML and for a terminal.
//!
//! No number here is written by hand: each comes from an engine in the run that is reported.

pub mod charts;
pub mod doubts;
pub mod evidence;
pub mod matrix;
pub mod model;
pub mod mounts;
pub mod mutants;
pub mod page;
pub mod schedules;
pub mod shown;
pub mod text;
pub mod totals;
pub mod whole;

#[cfg(test)]
mod tests;

use super::cost::Costs;
use super::lanes::Lanes;
use doubts::Doubt;
use evidence::Evidence;
use matrix::Table;

use serde::Serialize;
use shown::Live;
use totals::Total;

/// The whole.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where and how it was made.
    pub made: Vec<(String, String)>,
    /// The protocols: the columns of all tables.
    pub protocols: Vec<String>,
    /// A table an engine.
    pub tables: Vec<Table>,
    /// The planted mutants, a row each.
    pub mutants: Vec<mutants::Row>,
    /// Verdicts that aren't the registry's, in words, and what else must not be: a planted mutant
    /// that survives, a lock section that isn't in the program, a failure on mounts that no table
    /// has.
    pub surprises: Vec<String>,
    /// What a whole report has and this one lacks, in words.
    pub missing: Vec<String>,
    /// Somebody ended it early; it has what was found until then.
    pub ended_early: bool,
    /// The race of 2015 on the real tree, and failing schedules.
    pub lanes: Vec<Lanes>,
    /// Comparisons on live mounts.
    pub live: Vec<Live>,
    /// What each subject did in all of these.
    pub totals: Vec<Total>,
    /// What each protocol costs.
    pub costs: Option<Costs>,
    /// The doubts of the mail.
    pub doubts: Vec<Doubt>,
}

impl Report {
    /// Puts together what the engines found.
    pub fn new(evidence: &Evidence) -> Self {
        let tables = matrix::tables(evidence);
        let mut surprises: Vec<String> = tables.iter().flat_map(Table::surprises).collect();
        let mutants = mutants::rows(evidence);
        surprises.extend(mutants::surprises(&mutants));
        surprises.extend(others(evidence));
        Self {
            made: evidence.made(),
            protocols: matrix::protocols(),
            surprises,
            missing: whole::missing(evidence, &tables),
            ended_early: evidence.interrupted,
            lanes: evidence.lanes(),
            live: evidence.live.iter().map(Live::of).collect(),
            totals: Total::of(&evidence.live),
            mutants,
            costs: evidence.costs.clone(),
            doubts: doubts::all(evidence),
            tables,
        }
    }
}

impl Report {
    /// What follows, in words: `Err` when a verdict isn't the registry's.
    pub fn verdict(&self) -> Result<String, &[String]> {
        let words = match (self.surprises.as_slice(), self.missing.as_slice()) {
            ([], []) => "Every verdict is the registry's.".to_owned(),
            ([], missing) => format!(
                "Every verdict that was reached is the registry's. Not run: {}.",
                missing.join("; ")
            ),
            (surprises, _) => return Err(surprises),
        };
        Ok(match self.ended_early {
            true => format!("Ended early. {words}"),
            false => words,
        })
    }

    /// Why it isn't what it should be, if it isn't; whoever asks for a whole one wants nothing left
    /// out of it.
    pub fn failures(&self, whole: bool) -> Vec<String> {
        let mut out = Vec::new();
        if !self.surprises.is_empty() {
            let surprises = self.surprises.join("; ");
            out.push(format!("not the expected verdict: {surprises}"));
        }
        if whole && self.ended_early {
            out.push("it was ended early".to_owned());
        }
        if whole && !self.missing.is_empty() {
            out.push(format!("not run: {}", self.missing.join("; ")));
        }
        out
    }
}

/// Surprises that no table has.
fn others(evidence: &Evidence) -> Vec<String> {
    let mut out = Vec::new();
    match &evidence.section {
        Some(Ok(section)) if !section.is_there() => {
            let program = &section.program;
            out.push(format!("machine code: no whole lock section in {program}"));
        }
        Some(Err(why)) => out.push(format!("machine code: not judged: {why}")),
        Some(Ok(_)) | None => {}
    }
    out.extend(evidence.failed.iter().cloned());
    out.extend(mounts::surprises(evidence));
    out
}

/// A number as people read it: 1,165,466.
pub fn grouped(number: impl Into<u128>) -> String {
    let digits = number.into().to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
