//! The report for a terminal.

use super::Report;
use super::matrix::{Cell, State, Table};
use super::shown::{self, Over};
use crate::lab::explore::{MARKS, Mark};
use std::fmt::Write;

/// The same facts as the page has.
pub fn text(report: &Report) -> String {
    let mut out = String::from("The race lab: what every engine says\n\n");
    // Writing to a string can't fail, here and below.
    for (name, value) in &report.made {
        let _ = writeln!(out, "{name}: {value}");
    }
    let _ = writeln!(out, "\nTHE DOUBTS OF THE MAIL");
    for (n, doubt) in report.doubts.iter().enumerate() {
        let _ = writeln!(out, "\n{}. {}\n   {}", n + 1, doubt.claim, doubt.experiment);
        for (name, value) in &doubt.numbers {
            let _ = writeln!(out, "     {name:<28} {value}");
        }
        let _ = writeln!(out, "   => {}", doubt.answer);
    }
    out.push_str(
        "\nWHO HOLDS, BY ENGINE AND SCENARIO\n\
         ✓ holds, ✗ breaks a rule, n/a: the engine can say nothing here, with the reason below the \
         table. A cell with ! isn't the verdict that the registry expects.\n",
    );
    for table in &report.tables {
        verdicts(report, table, &mut out);
    }
    out.push_str(
        "\nPLANTED MUTANTS\n\
         Rules with one thing wrong. An engine that lets one pass has checked nothing. One more, \
         removal from the index by address, is a practice and not a rule: the tables have it as G', \
         with the other practices that were wrong.\n",
    );
    for row in &report.mutants {
        let _ = writeln!(out, "\n  {} (must lose {})", row.mutant, row.label);
        for cell in &row.cells {
            let _ = writeln!(out, "    {:<16} {}", cell.engine, cell.marked());
        }
    }
    match report.verdict() {
        Ok(words) => {
            let _ = writeln!(out, "\n{words}");
        }
        Err(surprises) => {
            let _ = writeln!(out, "\nNOT AS EXPECTED:\n{}", surprises.join("\n"));
            if report.ended_early {
                out.push_str("Ended early.\n");
            }
            if !report.missing.is_empty() {
                let _ = writeln!(out, "Not run: {}.", report.missing.join("; "));
            }
        }
    }
    let _ = writeln!(out, "\nSCHEDULES, STEP BY STEP\n{MARKS}");
    for lanes in &report.lanes {
        let _ = writeln!(out, "\n{}", lanes.title);
        let width = lanes.names.iter().map(|name| name.chars().count()).max();
        let width = width.unwrap_or(0);
        for (n, step) in lanes.steps.iter().enumerate() {
            let refs = step.refs.map_or(String::new(), |refs| refs.to_string());
            let mark = Mark::margin(step.mark);
            let remarks = step.remarks.join("; ");
            let _ = writeln!(
                out,
                "{:>4}  {:<width$}  {:<46} refs {refs:<2} {:<8} {remarks}{mark}",
                n + 1,
                lanes.names[step.lane],
                step.what,
                step.flags
            );
        }
        let _ = writeln!(out, "    {} {}", lanes.sign(), lanes.ending);
    }
    for live in &report.live {
        let _ = writeln!(out, "\nON LIVE MOUNTS, {}", live.title);
        for row in &live.rows {
            let facts = shown::facts(row);
            let facts: Vec<_> = facts
                .iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            let _ = writeln!(out, "  {}: {}", row.subject, facts.join(", "));
        }
        for words in live.rows.iter().flat_map(shown::damage) {
            let _ = writeln!(out, "  {words}");
        }
        for over in Over::ALL {
            let _ = writeln!(out, "  runs in which no rule was broken yet:");
            for curve in live.curves(over) {
                let _ = writeln!(out, "    {}", curve.words(over));
            }
        }
        for broken in &live.broken {
            let _ = writeln!(out, "  {}", broken.words());
            for line in broken.report.lines() {
                let _ = writeln!(out, "    {line}");
            }
        }
    }
    if !report.totals.is_empty() {
        let _ = writeln!(out, "\nON LIVE MOUNTS, all comparisons together");
        for total in &report.totals {
            let _ = writeln!(out, "  {}", total.words());
        }
    }
    if let Some(costs) = &report.costs {
        let _ = writeln!(out, "\nWHAT EACH PROTOCOL COSTS\n{}", costs.text());
    }
    out
}

fn verdicts(report: &Report, table: &Table, out: &mut String) {
    let _ = writeln!(out, "\n{}: {}", table.engine.to_uppercase(), table.what);
    let cells = table.rows.iter().flat_map(|row| &row.cells);
    if let Some(left_out) = cells.clone().find(|cell| cell.state == State::NotRun)
        && cells.clone().all(Cell::is_silent)
    {
        let _ = writeln!(out, "\n     not run: {}", left_out.words);
        return;
    }
    let width = 2 + cells
        .map(|cell| words(cell, 0).chars().count())
        .max()
        .unwrap_or(0);
    let width = width.max(18);
    let _ = write!(out, "\n     ");
    for name in &report.protocols {
        let _ = write!(out, "{name:>width$}");
    }
    out.push('\n');
    let mut reasons: Vec<&str> = Vec::new();
    for row in &table.rows {
        let _ = write!(out, "{:<5}", row.label);
        for cell in &row.cells {
            let known = reasons.iter().position(|why| *why == cell.words);
            let reason = known.unwrap_or(reasons.len());
            if cell.is_silent() && known.is_none() {
                reasons.push(&cell.words);
            }
            let _ = write!(out, "{:>width$}", words(cell, reason));
        }
        let _ = writeln!(out, "  {}", row.title);
    }
    for (n, why) in reasons.iter().enumerate() {
        let _ = writeln!(out, "  ({}) {why}", n + 1);
    }
}

/// A cell, its reason as a number.
fn words(cell: &Cell, reason: usize) -> String {
    let mark = if cell.as_expected { "" } else { " !" };
    match cell.is_silent() {
        true => format!("{} ({}){mark}", cell.state.sign(), reason + 1),
        false => format!("{} {}{mark}", cell.state.sign(), cell.words),
    }
}
