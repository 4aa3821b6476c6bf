//! What all engines say about all scenarios, for a reader: a page, JSON, or a terminal.
//!
//! * [`evidence`]: runs the engines, and keeps what they found.
//! * [`model`]: reads what the model checker's own build found.
//! * [`schedules`]: reads what the build with a scheduler of its own found.
//! * [`matrix`]: a table an engine, a cell for each protocol and scenario, none of them empty.
//! * [`doubts`]: the mail's doubts, the numbers that speak to them, and the answers.
//! * [`page`], [`charts`], [`text`]: the same facts as HTML and for a terminal.
//!
//! No number here is written by hand: each comes from an engine in the run that is reported.

pub mod charts;
pub mod doubts;
pub mod evidence;
pub mod matrix;
pub mod model;
pub mod page;
pub mod schedules;
pub mod text;

#[cfg(test)]
mod tests;

use super::cost::Costs;
use super::lanes::Lanes;
use super::live::report::Row;
use doubts::Doubt;
use evidence::Evidence;
use matrix::Table;
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
    /// Verdicts that aren't the registry's, in words.
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

/// A comparison on live mounts.
#[derive(Clone, Debug, Serialize)]
pub struct Live {
    /// What was widened, if anything.
    pub title: String,
    /// A subject a row.
    pub rows: Vec<Row>,
}

impl Report {
    /// Puts together what the engines found.
    pub fn new(evidence: &Evidence) -> Self {
        let tables = matrix::tables(evidence);
        let surprises = tables.iter().flat_map(Table::surprises).collect();
        let live = evidence.live.iter().map(|live| Live {
            title: live.title(),
            rows: live.rows.clone(),
        });
        Self {
            made: evidence.made(),
            protocols: matrix::protocols(),
            surprises,
            lanes: evidence.lanes(),
            live: live.collect(),
            costs: evidence.costs.clone(),
            doubts: doubts::all(evidence),
            tables,
        }
    }
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
