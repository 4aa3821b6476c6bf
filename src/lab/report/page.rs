//! The report as one HTML page: nothing is loaded, nothing runs; it reads without colour, on a phone
//! and on paper.

use super::Report;
use super::charts;
use super::doubts::Doubt;
use super::matrix::{Cell, State, Table};
use super::mutants;
use super::shown::{self, Live, Over};
use crate::lab::cost::Costs;
use crate::lab::cost::lookups::Shape;
use crate::lab::explore::{MARKS, Mark};
use crate::lab::lanes::Lanes;
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("page.css");

/// The page.
pub fn html(report: &Report) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "The race lab of btrfuse" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(report))
                h2 #doubts { "The doubts of the mail" }
                @for (n, doubt) in report.doubts.iter().enumerate() { (one_doubt(n + 1, doubt)) }
                h2 #verdicts { "Who holds, by engine and scenario" }
                p {
                    "✓ holds, ✗ breaks a rule, n/a: the engine can say nothing here, with the \
                     reason below the table. A cell in [brackets] isn't the verdict that the \
                     registry expects."
                }
                @for table in &report.tables { (verdicts(report, table)) }
                (mutants(&report.mutants))
                h2 #live { "On live mounts" }
                @if report.live.is_empty() { p { "Left out of this run." } }
                @if !report.totals.is_empty() {
                    p { "All comparisons together:" }
                    ul { @for total in &report.totals { li { (total.words()) } } }
                }
                @for live in &report.live { (on_mounts(live)) }
                h2 #cost { "What each protocol costs" }
                @match &report.costs {
                    Some(costs) => (cost(costs)),
                    None => p { "Not measured in this run." },
                }
                h2 #schedules { "Schedules, step by step" }
                p {
                    "A lane a thread, time runs down. Refs and flags are the buffer's after the \
                     step: T tree ref, D dirty, S stale, W writeback, R being read. " (MARKS)
                }
                @for lanes in &report.lanes { (one_schedule(lanes)) }
            }
        }
    };
    page.into_string()
}

fn head(report: &Report) -> Markup {
    html! {
        h1 { "Who may free a buffer that somebody just found?" }
        p {
            "In 2015 a race in the kernel's btrfs freed tree blocks that another thread was about \
             to write. This page shows the race, the fix of that year, and four others, as every \
             engine of the lab found them. Comparisons on mounts that were made before say so."
        }
        nav { ul {
            @for (id, words) in [
                ("doubts", "The doubts"),
                ("verdicts", "The verdicts"),
                ("live", "Live mounts"),
                ("cost", "The cost"),
                ("schedules", "The schedules"),
            ] { li { a href={ "#" (id) } { (words) } } }
        } }
        table.facts {
            @for (name, value) in &report.made { tr { th scope="row" { (name) } td { (value) } } }
        }
        @match report.verdict() {
            Ok(words) => p.answer { (words) },
            Err(surprises) => {
                p.answer { "Not as expected:" }
                ul { @for words in surprises { li { (words) } } }
                @if report.ended_early { p.answer { "Ended early." } }
                @if !report.missing.is_empty() { p { "Not run: " (report.missing.join("; ")) "." } }
            }
        }
    }
}

fn one_doubt(n: usize, doubt: &Doubt) -> Markup {
    html! {
        section {
            h3 { (n) ". “" (doubt.claim) "”" }
            p { (doubt.experiment) }
            table.facts {
                @for (name, value) in &doubt.numbers {
                    tr { th scope="row" { (name) } td { (value) } }
                }
            }
            p.answer { (doubt.answer) }
        }
    }
}

fn mutants(rows: &[mutants::Row]) -> Markup {
    html! {
        section {
            h3 { "planted mutants" }
            p {
                "Rules with one thing wrong. An engine that lets one pass has checked nothing. One \
                 more, removal from the index by address, is a practice and not a rule: the tables \
                 have it as G', with the other practices that were wrong."
            }
            @for row in rows {
                h4 { (row.mutant) " (must lose " (row.label) ")" }
                table.facts {
                    @for cell in &row.cells {
                        tr { th scope="row" { (cell.engine) } td { (cell.marked()) } }
                    }
                }
            }
        }
    }
}

fn verdicts(report: &Report, table: &Table) -> Markup {
    let mut reasons: Vec<&str> = Vec::new();
    let cells = table.rows.iter().flat_map(|row| &row.cells);
    for cell in cells.filter(|cell| cell.is_silent()) {
        if !reasons.contains(&cell.words.as_str()) {
            reasons.push(&cell.words);
        }
    }
    html! {
        section {
            h3 { (table.engine) }
            p { (table.what) }
            div.wide { table.matrix {
                thead { tr {
                    th { }
                    th { "scenario" }
                    @for name in &report.protocols { th scope="col" { (name) } }
                } }
                tbody {
                    @for row in &table.rows { tr {
                        th scope="row" { (row.label) }
                        td.title { (row.title) }
                        @for one in &row.cells { (cell(one, &reasons)) }
                    } }
                }
            } }
            @if !reasons.is_empty() {
                ol.reasons { @for why in &reasons { li { (why) } } }
            }
        }
    }
}

fn cell(cell: &Cell, reasons: &[&str]) -> Markup {
    let class = match cell.state {
        State::Holds => "holds",
        State::Breaks => "breaks",
        State::NotApplicable | State::NotRun => "silent",
    };
    let words = match cell.is_silent() {
        true => {
            let number = reasons.iter().position(|why| *why == cell.words);
            format!("{} ({})", cell.state.sign(), number.unwrap_or(0) + 1)
        }
        false => format!("{} {}", cell.state.sign(), cell.words),
    };
    html! {
        td class=(class) {
            @if cell.as_expected { (words) } @else { strong { "[" (words) "]" } }
        }
    }
}

fn on_mounts(live: &Live) -> Markup {
    let columns = live.rows.first().map(shown::facts).unwrap_or_default();
    let damage: Vec<_> = live.rows.iter().flat_map(shown::damage).collect();
    html! {
        section {
            h3 { (live.title) }
            @for over in Over::ALL {
                @let curves = live.curves(over);
                div.wide { figure { (PreEscaped(charts::survival(&curves, over))) } }
                ul.reasons { @for curve in &curves { li { (curve.words(over)) } } }
            }
            div.wide { table.matrix {
                thead { tr { th { } @for (name, _) in &columns { th scope="col" { (name) } } } }
                tbody { @for row in &live.rows { tr {
                    th scope="row" { (row.subject) }
                    @for (_, value) in shown::facts(row) { td { (value) } }
                } } }
            } }
            @if !damage.is_empty() { ul { @for words in &damage { li { (words) } } } }
            @for broken in &live.broken {
                p { (broken.words()) }
                div.wide { pre { (broken.report) } }
            }
        }
    }
}

fn cost(costs: &Costs) -> Markup {
    let lookups = &costs.lookups;
    html! {
        p { (costs.manner()) }
        @for shape in Shape::ALL {
            h3 { "A lookup and its release, " (shape.words()) }
            div.wide { figure { (PreEscaped(charts::lookups(&lookups.rows, shape))) } }
            div.wide { table.matrix {
                thead { tr {
                    @for name in ["threads", "protocol", "ns", "x owned", "smallest to largest"] {
                        th scope="col" { (name) }
                    }
                } }
                tbody { @for row in lookups.rows.iter().filter(|row| row.shape == shape) { tr {
                    th scope="row" { (row.threads) }
                    td { (row.protocol) }
                    td { (format!("{:.1}", row.nanoseconds)) }
                    td { (format!("{:.2}", row.times_owned)) }
                    td { (row.between()) }
                } } }
            } }
        }
        h3 { "Whole mounts" }
        @if costs.mounts.is_empty() {
            p { "Not measured in this run." }
        } @else {
            div.wide { figure { (PreEscaped(charts::mounts(&costs.mounts))) } }
        }
    }
}

fn one_schedule(lanes: &Lanes) -> Markup {
    html! {
        section.schedule {
            h3 { (lanes.title) }
            div.wide { table.lanes {
                thead { tr {
                    th { }
                    @for name in &lanes.names { th scope="col" { (name) } }
                    th { "refs" }
                    th { "flags" }
                } }
                tbody { @for (n, step) in lanes.steps.iter().enumerate() {
                    tr.fatal[step.mark.is_some()] {
                        td.number { (n + 1) }
                        @for lane in 0..lanes.names.len() {
                            td.lane {
                                @if lane == step.lane {
                                    @match step.mark {
                                        Some(mark) => {
                                            strong { (mark.sign()) " " (step.what) }
                                            @if mark != Mark::Breaks { br; em { (mark.words()) } }
                                        }
                                        None => (step.what),
                                    }
                                    @for words in &step.remarks { br; em { (words) } }
                                }
                            }
                        }
                        td { @if let Some(refs) = step.refs { (refs) } }
                        td.flags { (step.flags) }
                    }
                } }
            } }
            p.answer { (lanes.sign()) " " (lanes.ending) }
        }
    }
}
