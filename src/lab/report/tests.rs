//! The report: no cell without a word, the same facts in each form, nothing from outside.

use super::evidence::{Evidence, Live, LivePlan};
use super::matrix::{State, Table, protocols};
use super::model::Model;
use super::schedules::Schedules;
use super::{Report, page, text};
use crate::extent_buffer::Kind;
use crate::extent_buffer::scenarios::Play;
use crate::extent_buffer::scenarios::native::Rounds;
use crate::lab::explore::{MARKS, Mark};
use crate::lab::live::report::Row;
use crate::lab::machine_code::Section;
use crate::sync::LazyLock;

/// What this build finds by itself in seconds.
static FOUND: LazyLock<Report> = LazyLock::new(|| {
    let mut evidence = Evidence::default();
    evidence.explore();
    evidence.replay().unwrap();
    evidence.race(100);
    evidence.schedules = Some(Schedules::parse(SCHEDULES).unwrap());
    evidence.section = Some(Ok(Section {
        program: "a <program> & its path".into(),
        code: vec!["lock cmpxchg %cl,0x10(%rdi)".into(); 2],
        takes: vec![0],
        gives_back: vec![1],
        lookups: vec!["cache::find".into()],
    }));
    Report::new(&evidence)
});

/// As the scheduler's own build writes it: a tree play that unfixed must lose, and lost.
const SCHEDULES: &str = r#"{ "engine": "schedules", "results": [
    { "label": "T1", "title": "three at once", "protocol": "unfixed", "mutant": false,
      "tried": [{ "scheduler": "pct-4", "seed": 1, "executions": 187, "failed_in": 187 }],
      "verdict": "loses", "as_expected": true },
    { "label": "T1", "title": "three at once", "protocol": "owned", "mutant": false,
      "tried": [{ "scheduler": "pct-4", "seed": 1, "executions": 100, "failed_in": null },
                { "scheduler": "random", "seed": 1, "executions": 100, "failed_in": null }],
      "verdict": "wins", "as_expected": true } ] }"#;

#[test]
fn whole_operations_have_a_row_each_and_their_losers_a_seed() {
    let is_it = |table: &&Table| table.engine == "schedules, whole operations";
    let table = FOUND.tables.iter().find(is_it).unwrap();
    let words: Vec<_> = table.rows[0].cells.iter().map(|cell| &cell.words).collect();
    assert_eq!(table.rows.len(), 1);
    assert_eq!(words[0], "execution 187 of pct-4, seed 1");
    assert_eq!(table.rows[0].cells[0].state, State::Breaks);
    assert_eq!(words[2], "200");
    assert!(Schedules::parse(&SCHEDULES.replace("\"schedules\"", "\"model\"")).is_err());
}

#[test]
fn every_cell_of_every_engine_says_something() {
    for table in &FOUND.tables {
        let whole = table.engine == "schedules, whole operations";
        let rows = if whole { 1 } else { Play::all().count() };
        assert_eq!(table.rows.len(), rows, "{}", table.engine);
        for row in &table.rows {
            assert_eq!(row.cells.len(), Kind::ALL.len());
            for cell in &row.cells {
                assert!(!cell.words.is_empty(), "{} {}", table.engine, row.label);
            }
        }
    }
    assert_eq!(FOUND.surprises, Vec::<String>::new());
}

#[test]
fn the_reported_race_has_its_verdicts_in_explore_and_replay() {
    let unfixed = Kind::ALL.iter().position(|kind| *kind == Kind::Unfixed);
    for engine in ["explore", "replay"] {
        let table = FOUND.tables.iter().find(|table| table.engine == engine);
        let row = table.unwrap().rows.iter().find(|row| row.label == "A");
        for (n, cell) in row.unwrap().cells.iter().enumerate() {
            let expected = match Some(n) == unfixed {
                true => State::Breaks,
                false => State::Holds,
            };
            assert_eq!(cell.state, expected, "{engine}, {}", protocols()[n]);
        }
    }
}

#[test]
fn doubts_are_answered_with_numbers_of_this_run() {
    assert_eq!(FOUND.doubts.len(), 4);
    let moved = &FOUND.doubts[0];
    assert!(moved.answer.starts_with("No:"), "{moved:?}");
    let feared = moved
        .numbers
        .iter()
        .find(|(name, _)| name.contains("feared"));
    assert!(feared.unwrap().1.starts_with("0 of "), "{moved:?}");
    assert!(FOUND.doubts[1].answer.starts_with("It doesn't"));
    assert!(FOUND.doubts[3].answer.contains("reclaim"));
}

/// The fourth of what the thread didn't see was left out.
#[test]
fn a_late_stale_has_its_numbers_in_the_doubts() {
    let numbers = |report: &Report| -> Vec<_> {
        let numbers = report.doubts[3].numbers.iter();
        let of_i = numbers.filter(|(name, _)| name.starts_with("I, "));
        of_i.map(|(_, value)| value.clone()).collect()
    };
    let found = numbers(&FOUND);
    assert!(found[0].starts_with("0 of ") && found[0].ends_with("fail"));
    assert_eq!(found[1], "not run");
    assert!(found[2].contains("full-rmws: holds"), "{found:?}");
    assert!(found[2].contains("relaxed-flags: loses"), "{found:?}");
    let json = r#"{ "engine": "model", "results": [
        { "label": "I", "protocol": "handshake", "profile": "full-rmws", "executions": 1234,
          "verdict": "wins", "as_expected": true },
        { "label": "I", "protocol": "handshake", "profile": "relaxed-flags", "executions": 77,
          "verdict": "loses", "as_expected": true } ] }"#;
    let evidence = Evidence {
        model: Some(Model::parse(json).unwrap()),
        ..Evidence::default()
    };
    let report = Report::new(&evidence);
    let modelled = &numbers(&report)[1];
    let expected = "full-rmws: wins, 1,234 executions; relaxed-flags: loses, 77 executions";
    assert_eq!(modelled, expected);
    let answer = &report.doubts[3].answer;
    assert!(answer.contains("STALE"), "{answer}");
}

#[test]
fn a_verdict_that_the_registry_does_not_expect_is_a_surprise() {
    let mut evidence = Evidence::default();
    evidence.explore();
    for cell in &mut evidence.explored {
        if cell.kind == Kind::Owned && cell.play.label() == "A" {
            cell.found.by_preemptions[0].failing += 1;
        }
    }
    let report = Report::new(&evidence);
    assert_eq!(report.surprises.len(), 1, "{:?}", report.surprises);
    assert!(report.surprises[0].contains("A under owned"));
    assert!(page::html(&report).contains("[✗ 1 / "));
    assert!(text::text(&report).contains("NOT AS EXPECTED"));
}

/// Every engine of this build has every mutant, and catches it.
#[test]
fn mutants_are_caught_by_all_engines_of_this_build() {
    for row in &FOUND.mutants {
        let judged: Vec<_> = row
            .cells
            .iter()
            .filter(|cell| cell.caught.is_some())
            .collect();
        let engines: Vec<_> = judged.iter().map(|cell| cell.engine).collect();
        assert_eq!(engines, ["explore", "replay", "race on threads"], "{row:?}");
        assert!(
            judged.iter().all(|cell| cell.caught == Some(true)),
            "{row:?}"
        );
    }
    let text = text::text(&FOUND);
    assert!(text.contains("owned, flag before count (must lose F)"));
    assert!(page::html(&FOUND).contains("owned, flag before count (must lose F)"));
}

/// Neither has a cell in a table.
#[test]
fn a_mutant_that_survives_and_a_mount_that_breaks_are_surprises_too() {
    let mut evidence = Evidence::default();
    evidence.explore();
    for counts in &mut evidence.mutants[0].explored.by_preemptions {
        counts.failing = 0;
    }
    let row = |subject: &str, violations, images_damaged| Row {
        subject: subject.into(),
        runs: 3,
        violations,
        images_damaged,
        ..Row::default()
    };
    evidence.live.push(Live {
        plan: LivePlan {
            subjects: Vec::new(),
            delays: Vec::new(),
            options: Vec::new(),
            processes: 8,
            cache_bytes: 1 << 20,
            nodesize: 4096,
            mix: None,
            commit_secs: None,
            each: None,
        },
        rows: vec![
            row("unfixed", 2, 0),
            row("handshake", 2, 1),
            row("owned", 1, 0),
            row("packed-word", 0, 0),
        ],
        interrupted: false,
        runs: Vec::new(),
        earlier: false,
    });
    let surprises = Report::new(&evidence).surprises;
    let expected = ["survives", "handshake: 1 of 3 images", "owned: 1 of 3 runs"];
    assert_eq!(surprises.len(), expected.len(), "{surprises:?}");
    for (words, expected) in surprises.iter().zip(expected) {
        assert!(words.contains(expected), "{words}");
    }
}

#[test]
fn a_loser_that_does_not_lose_on_threads_is_a_surprise_where_threads_are_held_in_its_window() {
    let mut evidence = Evidence::default();
    for (label, run) in [("A", 5_000), ("G'", 5_000), ("B", 20)] {
        let play = Play::all().find(|play| play.label() == label).unwrap();
        evidence.raced.push(super::evidence::Cell {
            play,
            kind: Kind::Unfixed,
            found: Rounds {
                run,
                ..Rounds::default()
            },
        });
    }
    let report = Report::new(&evidence);
    assert_eq!(report.surprises, ["race: A under unfixed: ✓ 0 / 5,000"]);
    let race = report.tables.iter().find(|table| table.engine == "race");
    let row = race.unwrap().rows.iter().find(|row| row.label == "G'");
    assert!(row.unwrap().cells[0].state == State::NotApplicable);
}

#[test]
fn the_page_needs_nothing_else_and_its_words_are_escaped() {
    let page = page::html(&FOUND);
    for outside in [
        "<script", "<link", "<img", "@import", "url(", "http:", "https:",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(!page.contains("<program>"));
    let is_balanced = |tag: &str| {
        page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count()
            == page.matches(&format!("</{tag}>")).count()
    };
    for tag in [
        "table", "section", "tr", "svg", "ul", "ol", "div", "html", "body",
    ] {
        assert!(is_balanced(tag), "{tag}");
    }
    assert!(page.contains("@media print") && page.contains("max-width: 40rem"));
}

#[test]
fn page_terminal_and_json_have_the_same_facts() {
    let (page, text) = (page::html(&FOUND), text::text(&FOUND));
    let json = serde_json::to_value(&*FOUND).unwrap();
    for doubt in &FOUND.doubts {
        assert!(page.contains(&doubt.answer), "{}", doubt.answer);
        assert!(text.contains(&doubt.answer), "{}", doubt.answer);
    }
    for lanes in &FOUND.lanes {
        assert!(text.contains(&lanes.title), "{}", lanes.title);
        assert!(
            page.contains(&lanes.title.replace('&', "&amp;")),
            "{}",
            lanes.title
        );
    }
    let tables = json["tables"].as_array().unwrap();
    assert_eq!(tables.len(), FOUND.tables.len());
    assert_eq!(json["lanes"].as_array().unwrap().len(), FOUND.lanes.len());
    for (table, json) in FOUND.tables.iter().zip(tables) {
        let part = |of: &str, from: &str, to: &str| {
            let at = of.find(from).unwrap_or_else(|| panic!("no {from}"));
            of[at..].split(to).next().unwrap().to_owned()
        };
        let on_page = part(&page, &format!("<h3>{}</h3>", table.engine), "</section>");
        let heading = format!("\n{}: ", table.engine.to_uppercase());
        // A paragraph of the heading, and one of the rows.
        let in_text = text[text.find(&heading).unwrap() + 1..].split("\n\n");
        let in_text = in_text.take(2).collect::<String>();
        for (row, json) in table.rows.iter().zip(json["rows"].as_array().unwrap()) {
            let judged = row.cells.iter().filter(|cell| !cell.is_silent());
            let words: Vec<_> = judged
                .map(|cell| format!("{} {}", cell.state.sign(), cell.words))
                .collect();
            let head = format!("<th scope=\"row\">{}</th>", row.label);
            let of_page = part(&on_page, &head, "</tr>");
            let of_page = of_page.replace("&amp;", "&");
            assert!(of_page.contains(&row.title), "{}: {of_page}", row.title);
            let mut lines = in_text.lines();
            let line = lines.find(|line| line.starts_with(&format!("{:<5}", row.label)));
            // A table that wasn't run at all is one line.
            if let Some(line) = line {
                assert!(line.contains(&row.title), "{}: {line}", row.title);
            }
            for words in words {
                assert!(of_page.contains(&words), "{words}: {of_page}");
                assert!(line.unwrap().contains(&words), "{words}: {line:?}");
            }
            let cells = json["cells"].as_array().unwrap();
            for (cell, json) in row.cells.iter().zip(cells) {
                assert_eq!(json["words"], cell.words.as_str());
            }
        }
    }
}

/// Letters of a chart that is shrunk to a phone can't be read: charts scroll as tables do.
#[test]
fn every_chart_scrolls_on_a_phone() {
    let page = page::html(&FOUND);
    let scrolling = page.matches("<div class=\"wide\"><figure>").count();
    assert_eq!(page.matches("<figure>").count(), scrolling);
    assert!(page.contains(".wide svg { min-width: 40rem }"));
}

/// Planted faults of the other builds have no cell; whoever reads that all is well believes them too.
#[test]
fn mutants_that_survive_in_other_builds_are_surprises() {
    let name = "handshake, lock section deleted";
    let model = |verdict: &str, as_expected: bool| {
        let json = format!(
            r#"{{ "engine": "model", "results": [{{ "label": "A", "protocol": "{name}",
            "mutant": true, "profile": "full-rmws", "executions": 9, "verdict": "{verdict}",
            "as_expected": {as_expected} }}] }}"#
        );
        let schedules = json.replace("\"model\"", "\"schedules\"").replace(
            "\"mutant\"",
            "\"title\": \"a dropper meets a reuser\", \"tried\": [], \"mutant\"",
        );
        Evidence {
            model: Some(Model::parse(&json).unwrap()),
            schedules: Some(Schedules::parse(&schedules).unwrap()),
            ..Evidence::default()
        }
    };
    assert_eq!(Report::new(&model("loses", true)).surprises, [""; 0]);
    let surprises = Report::new(&model("wins", false)).surprises;
    assert_eq!(surprises.len(), 2, "{surprises:?}");
    for (words, engine) in surprises.iter().zip(["model", "schedules"]) {
        assert!(words.starts_with(engine) && words.contains(name), "{words}");
    }
}

/// It once read like a run to which no program was given.
#[test]
fn a_program_that_cannot_be_judged_is_a_surprise() {
    let evidence = Evidence {
        section: Some(Err("its symbols are gone".into())),
        ..Evidence::default()
    };
    let report = Report::new(&evidence);
    assert_eq!(report.surprises.len(), 1, "{:?}", report.surprises);
    let answer = &report.doubts[1].answer;
    assert!(report.surprises[0].contains("its symbols are gone"));
    assert!(answer.contains("its symbols are gone") && !answer.contains("no release build"));
}

#[test]
fn what_was_not_run_is_named_and_fails_a_whole_report() {
    let named = FOUND.failures(true).join("\n");
    for words in [
        "model, full-rmws: all of it",
        "live: all of it",
        // Of T1 two protocols were run.
        "schedules, whole operations: T1 under handshake",
        "schedules: all of it",
        "the planted mutant",
        "costs",
    ] {
        assert!(named.contains(words), "{words}:\n{named}");
        assert!(page::html(&FOUND).contains(words) && text::text(&FOUND).contains(words));
    }
    assert!(!named.contains("T1 under unfixed") && !named.contains("explore"));
    assert_eq!(FOUND.failures(false), [""; 0]);
}

#[test]
fn a_report_that_was_ended_early_says_so_and_is_not_whole() {
    let evidence = Evidence {
        interrupted: true,
        ..Evidence::default()
    };
    let report = Report::new(&evidence);
    let failures = report.failures(true).join("\n");
    assert!(failures.contains("ended early"), "{failures}");
    assert!(page::html(&report).contains("Ended early."));
    assert!(text::text(&report).contains("Ended early."));
    assert_eq!(serde_json::to_value(&report).unwrap()["ended_early"], true);
}

#[test]
fn marks_and_the_spread_of_costs_are_told_in_each_form() {
    let costs = r#"{ "lookups": { "in_lab_build": true, "rounds": 7, "rows": [
        { "protocol": "unfixed", "shape": "apart", "threads": 1, "per_second": 1.0,
          "nanoseconds": 2.0, "times_owned": 3.0, "spread": [1.25, 4.5] } ] }, "mounts": [] }"#;
    let evidence = Evidence {
        costs: Some(serde_json::from_str(costs).unwrap()),
        ..Evidence::default()
    };
    let report = Report::new(&evidence);
    for form in [
        page::html(&report).replace("&quot;", "\""),
        text::text(&report),
    ] {
        for words in ["(1.25 to 4.50)", "within 7 rounds", MARKS, "as G'"] {
            assert!(form.contains(words), "{words}:\n{form}");
        }
    }
    let decided = Mark::Decided.words();
    assert!(page::html(&FOUND).contains(decided) && text::text(&FOUND).contains(decided));
    for doubt in &FOUND.doubts {
        assert!(doubt.answer.matches(". ").count() < 2, "{}", doubt.answer);
    }
}

#[test]
fn every_loser_is_drawn_with_a_mark() {
    for lanes in FOUND.lanes.iter().filter(|lanes| lanes.broken) {
        let marked = lanes
            .steps
            .iter()
            .filter(|step| step.mark.is_some())
            .count();
        assert_eq!(marked, 1, "{}", lanes.title);
    }
}
