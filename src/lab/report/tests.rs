//! The report: no cell without a word, the same facts in each form, nothing from outside.

use super::evidence::Evidence;
use super::matrix::{State, protocols};
use super::{Report, page, text};
use crate::extent_buffer::Kind;
use crate::extent_buffer::scenarios::Play;
use crate::lab::machine_code::Section;
use crate::sync::LazyLock;

/// What this build finds by itself in seconds.
static FOUND: LazyLock<Report> = LazyLock::new(|| {
    let mut evidence = Evidence::default();
    evidence.explore();
    evidence.replay().unwrap();
    evidence.race(20);
    evidence.section = Some(Ok(Section {
        program: "a <program> & its path".into(),
        code: vec!["lock cmpxchg %cl,0x10(%rdi)".into(); 2],
        takes: vec![0],
        gives_back: vec![1],
    }));
    Report::new(&evidence)
});

#[test]
fn every_cell_of_every_engine_says_something() {
    for table in &FOUND.tables {
        assert_eq!(table.rows.len(), Play::all().count(), "{}", table.engine);
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
}
