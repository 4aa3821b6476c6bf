//! The replay's verdicts, for every protocol.

use super::replay::replay;
use crate::extent_buffer::Kind;

#[test]
fn the_report_kills_unfixed_and_no_other() {
    for kind in Kind::ALL {
        let outcome = replay(*kind).unwrap();
        println!("{}\n{}", outcome.table(), outcome.verdict());
        assert_eq!(outcome.judge(), Ok(()), "{kind}\n{}", outcome.table());
        assert_eq!(!outcome.violations.is_empty(), *kind == Kind::Unfixed);
        assert_eq!(outcome.finder_waited, *kind == Kind::Handshake);
        assert_eq!(outcome.dropper_took_tree_ref(), *kind != Kind::Owned);
    }
}

#[test]
fn the_replay_is_the_same_every_time() {
    let steps = |kind| {
        let outcome = replay(kind).unwrap();
        outcome
            .rows
            .into_iter()
            .map(|row| (row.role, row.what))
            .collect::<Vec<_>>()
    };
    for kind in Kind::ALL {
        let first = steps(*kind);
        for _ in 0..3 {
            assert_eq!(steps(*kind), first, "{kind}");
        }
    }
}

#[test]
fn a_report_of_a_broken_rule_names_buffer_and_roles() {
    let outcome = replay(Kind::Unfixed).unwrap();
    let report = outcome.violations[0].to_string();
    assert!(report.starts_with("BUG_ON"), "{report}");
    for words in [
        "DIRTY",
        "protocol unfixed",
        "CPU0",
        "CPU2",
        &outcome.bytenr.to_string(),
    ] {
        assert!(report.contains(words), "{words} is missing: {report}");
    }
    assert!(!outcome.table().contains("BUG_ON") && !outcome.verdict().contains("BUG_ON"));
}
