//! What a whole report has and this one lacks, so that nothing passes for a verdict by being left out.

use super::evidence::Evidence;
use super::matrix::{Row, State, Table, protocols};
use crate::extent_buffer::scenarios::mutants::MUTANTS;
use crate::lab::machine_code;

/// Everything that wasn't run, in words: cells, and what has no cell.
pub fn missing(evidence: &Evidence, tables: &[Table]) -> Vec<String> {
    let mut out: Vec<String> = tables.iter().flat_map(of_table).collect();
    if let Some(model) = &evidence.model {
        let ran = |name: &str| model.results.iter().any(|cell| cell.protocol == name);
        out.extend(without("the model", ran));
    }
    if let Some(schedules) = &evidence.schedules {
        let ran = |name: &str| schedules.results.iter().any(|cell| cell.protocol == name);
        out.extend(without("the schedules", ran));
    }
    if evidence.section.is_none() && machine_code::IS_READ {
        out.push("machine code: no program was named".into());
    }
    match &evidence.costs {
        None => out.push("costs".into()),
        Some(costs) if costs.lookups.rows.is_empty() => out.push("costs of lookups".into()),
        Some(costs) if costs.mounts.is_empty() => out.push("costs of mounts".into()),
        Some(costs) if costs.interrupted => {
            out.push("costs: what was left when they were ended".into())
        }
        Some(_) => {}
    }
    let early = evidence.live.iter().filter(|live| live.interrupted);
    out.extend(early.map(|live| format!("live mounts, {}", live.title())));
    out
}

/// Planted mutants that an engine of another build didn't run.
fn without(engine: &str, ran: impl Fn(&str) -> bool) -> Vec<String> {
    let names = MUTANTS.iter().map(|mutant| mutant.rules.name());
    let left_out = names.filter(|name| !ran(name));
    left_out
        .map(|name| format!("{engine}: the planted mutant {name}"))
        .collect()
}

/// The cells of a table that weren't run; the table or the row, where that is all of it.
fn of_table(table: &Table) -> Vec<String> {
    let engine = &table.engine;
    let mut rows = table.rows.iter();
    if rows.all(|row| not_run(row).len() == judgeable(row)) {
        // Without rows too: a file may have none of them.
        return vec![format!("{engine}: all of it")];
    }
    let of_row = |row: &Row| {
        let (label, cells) = (&row.label, not_run(row));
        match cells.len() {
            0 => Vec::new(),
            n if n == judgeable(row) => vec![format!("{engine}: {label}")],
            _ => cells
                .into_iter()
                .map(|protocol| format!("{engine}: {label} under {protocol}"))
                .collect(),
        }
    };
    table.rows.iter().flat_map(of_row).collect()
}

/// The protocols whose cells weren't run.
fn not_run(row: &Row) -> Vec<String> {
    let cells = row.cells.iter().zip(protocols());
    cells
        .filter(|(cell, _)| cell.state == State::NotRun)
        .map(|(_, protocol)| protocol)
        .collect()
}

/// How many cells of a row the engine can say something in.
fn judgeable(row: &Row) -> usize {
    let is_silent = |state| state == State::NotApplicable;
    row.cells
        .iter()
        .filter(|cell| !is_silent(cell.state))
        .count()
}
