//! What a broken rule explains of a run, and what it does not.

use super::*;
use crate::lab::workload::features::Features;
use crate::lab::workload::mix::Mix;
use crate::lab::workload::operation::Operation;
use crate::lab::workload::spec::Wrong;
use std::os::unix::process::ExitStatusExt;

fn status(raw: i32) -> Result<ExitStatus, String> {
    Ok(ExitStatus::from_raw(raw))
}

/// A crash in the mount of a broken rule passed for what the rule explains.
#[test]
fn a_broken_rule_explains_a_failed_last_commit_and_no_other_end() {
    let last_commit = status(LAST_COMMIT << 8);
    assert_eq!(bad_end(&status(0), false), None);
    assert_eq!(bad_end(&status(0), true), None);
    assert_eq!(bad_end(&last_commit, true), None);
    assert!(bad_end(&last_commit, false).is_some());
    for raw in [libc::SIGSEGV, libc::SIGKILL, 101 << 8, 4 << 8] {
        assert!(bad_end(&status(raw), true).is_some(), "{raw}");
    }
    let hung = Err("it hadn't ended".to_owned());
    assert_eq!(bad_end(&hung, true).as_deref(), Some("it hadn't ended"));
}

#[test]
fn a_panic_that_a_guard_caught_is_seen_in_the_log() {
    let log = "[x ERROR btrfuse] BUG_ON refs == 0\n  buffer 1\n";
    assert_eq!(panicked(log), None);
    let log = format!("{log}[x ERROR btrfuse] bug: thread fuse: panicked at src/a.rs\n");
    assert!(panicked(&log).unwrap().contains("src/a.rs"));
}

#[test]
fn a_broken_rule_explains_refusals_and_neither_wrong_contents_nor_deaths() {
    let answer = |words: &str| Wrong {
        process: 0,
        step: 7,
        operation: Operation::Sync,
        words: words.into(),
        read_only: false,
        full: false,
    };
    let refusals = [
        "must be done, and was refused with EROFS",
        "must be refused with ENOENT, and was with EIO",
        "was refused with EROFS",
        "no race explains a refusal with EROFS",
    ];
    let faults = [
        "must be refused with ENOENT, and wasn't",
        "must read 7 bytes, and reads 6",
    ];
    let excused = ["process 3 died after 9 operations: exit status: 2"];
    let deaths = [
        "process 1 died after 9 operations: signal: 9 (SIGKILL)",
        "process 2 died after 9 operations: exit status: 101",
        "process 4 didn't end within 120 s",
    ];
    fn all<'a>(lists: [&[&'a str]; 2]) -> Vec<&'a str> {
        lists.concat()
    }
    let summary = Summary {
        spec: Spec {
            dir: "/".into(),
            processes: 5,
            steps: 9,
            seed: 1,
            mix: Mix::parse("empty-leaves").unwrap(),
            features: Features::default(),
            log: None,
            replay: None,
            in_order: false,
            verify: false,
        },
        operations: 9,
        seconds: 1.0,
        rate: 9.0,
        counts: Default::default(),
        lacking: Vec::new(),
        denied: Vec::new(),
        races: 0,
        wrong: all([&refusals, &faults]).into_iter().map(answer).collect(),
        findings: Vec::new(),
        deaths: all([&excused, &deaths])
            .into_iter()
            .map(str::to_owned)
            .collect(),
        interrupted: false,
        played: Vec::new(),
    };
    assert_eq!(
        wrong(&summary, false).len(),
        refusals.len() + faults.len() + excused.len() + deaths.len()
    );
    let left = wrong(&summary, true);
    let expected = all([&faults, &deaths]);
    assert_eq!(left.len(), expected.len(), "{left:?}");
    for (words, expected) in left.iter().zip(expected) {
        assert!(words.ends_with(expected), "{words}");
    }
}
