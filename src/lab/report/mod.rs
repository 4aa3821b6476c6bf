//! What all engines say about all scenarios, for a reader: a page, JSON, or a terminal.
//!
//! * [`evidence`]: runs the engines, and keeps what they found.
//! * [`model`]: reads what the model checker's own build found.
//! * [`schedules`]: reads what the build with a scheduler of its own found.
//! * [`matrix`]: a table an engine, a cell for each protocol and scenario, none of them empty.
//! * [`mounts`]: which comparison on live mounts stands in which cell, and what of it is shown.
//! * [`doubts`]: the mail's doubts, the numbers that speak to them, and the answers.
//! * [`page`], [`charts`], [`text`]: the same facts as HTML and for a terminal.
//!
//! No number here is written by hand: each comes from an engine in the run that is reported.

pub mod charts;
pub mod doubts;
pub mod evidence;
pub mod matrix;
pub mod model;
pub mod mounts;
pub mod page;
pub mod schedules;
pub mod text;

#[cfg(test)]
mod tests;

use super::cost::Costs;
use super::explore::Exploration;
use super::lanes::Lanes;
use doubts::Doubt;
use evidence::Evidence;
use matrix::Table;
use mounts::Live;
use serde::Serialize;

/// The whole.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where and how it was made.
    pub made: Vec<(String, String)>,
    /// The protocols: the columns of all tables.
    pub protocols: Vec<String>,
    /// A table an engine.
    pub tables: Vec<Table>,
    /// Verdicts that aren't the registry's, in words, and what else must not be: a planted mutant
    /// that survives, a lock section that isn't in the program, a failure on mounts that no table
    /// has.
    pub surprises: Vec<String>,
    /// The race of 2015 on the real tree, and failing schedules.
    pub lanes: Vec<Lanes>,
    /// Comparisons on live mounts.
    pub live: Vec<Live>,
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
        surprises.extend(others(evidence));
        Self {
            made: evidence.made(),
            protocols: matrix::protocols(),
            surprises,
            lanes: evidence.lanes(),
            live: evidence.live.iter().map(Live::of).collect(),
            costs: evidence.costs.clone(),
            doubts: doubts::all(evidence),
            tables,
        }
    }
}

/// Surprises that no table has.
fn others(evidence: &Evidence) -> Vec<String> {
    let survives = |(name, found): &(&str, Exploration)| {
        (found.total().failing == 0).then(|| format!("explore: the planted mutant {name} survives"))
    };
    let mut out: Vec<String> = evidence.mutants.iter().filter_map(survives).collect();
    if let Some(Ok(section)) = &evidence.section
        && !section.is_there()
    {
        let program = &section.program;
        out.push(format!("machine code: no whole lock section in {program}"));
    }
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
