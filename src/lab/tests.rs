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
        let lockless = matches!(kind, Kind::Unfixed | Kind::Owned | Kind::PackedWord);
        assert_eq!(outcome.finder_waited, !lockless, "{kind}");
        let decides_in_steps = !matches!(kind, Kind::Owned | Kind::PackedWord);
        assert_eq!(outcome.dropper_took_tree_ref(), decides_in_steps, "{kind}");
    }
}

#[test]
fn the_replay_is_the_same_every_time() {
    let steps = |kind| {
        let outcome = replay(kind).unwrap();
        let rows = outcome.rows.into_iter().map(|row| (row.role, row.what));
        let mut rows = rows.collect::<Vec<_>>();
        // Its finder finds the buffer dead, and makes another while the dropper still takes the dead
        // one apart: which of the two is first, nobody decides.
        if kind == Kind::CountUnderLock {
            rows.sort_by_key(|(role, _)| role.name());
        }
        rows
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
