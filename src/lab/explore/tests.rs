//! The explorer's verdicts and counts, and checks of the explorer itself.

use super::*;
use crate::extent_buffer::flags::TREE_REF;
use crate::extent_buffer::protocol::Kind;
use crate::extent_buffer::scenarios::mutants::MUTANTS;
use crate::extent_buffer::scenarios::{Role, Scenario, Stage};

fn explored(play: Play, kind: Kind) -> Exploration {
    explore(play, kind.rules(), Limits::default(), None)
}

#[test]
fn every_scenario_has_its_verdict_under_every_protocol() {
    let mut wrong = Vec::new();
    for play in Play::all() {
        for kind in play.kinds() {
            let found = explored(play, kind);
            let total = found.total();
            let line = format!(
                "{:<2} {kind:<16} {:>12} / {:<14} {:>7} states {:>6} ms, {}",
                play.label(),
                total.failing,
                total.explored,
                found.states,
                found.took.as_millis(),
                found.failure.as_ref().map_or("", |trace| &trace.words)
            );
            println!("{line}");
            let must_lose = play.must_lose(kind, Profile::FullRmws);
            if !found.complete || (total.failing > 0) != must_lose {
                let trace = found.failure.as_ref().map(Trace::table);
                wrong.push(format!("{line}\n{}", trace.unwrap_or_default()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn play(letter: &str) -> Play {
    Play::named(letter)[0]
}

/// The counts don't depend on how they are come by.
#[test]
fn merged_states_and_single_schedules_count_the_same() {
    for letter in ["A", "B", "C", "J", "N", "O"] {
        for kind in play(letter).kinds() {
            let watch = feared(play(letter));
            let merged = explore(play(letter), kind.rules(), Limits::default(), watch);
            let single = Limits {
                merge: false,
                ..Limits::default()
            };
            let single = explore(play(letter), kind.rules(), single, watch);
            assert_eq!(
                merged.by_preemptions, single.by_preemptions,
                "{letter} {kind}"
            );
            assert_eq!(merged.watched, single.watched);
            assert!(merged.steps <= single.steps);
        }
    }
}

#[test]
fn a_bound_finds_what_the_whole_search_counts_within_it() {
    for (letter, kind) in [
        ("B", Kind::Unfixed),
        ("D", Kind::Unfixed),
        ("C", Kind::Handshake),
    ] {
        let all = explored(play(letter), kind);
        for preemptions in 0..5 {
            let limits = Limits {
                preemptions: Some(preemptions),
                ..Limits::default()
            };
            let bounded = explore(play(letter), kind.rules(), limits, None);
            assert_eq!(
                bounded.total(),
                all.within(preemptions),
                "{letter} {preemptions}"
            );
        }
    }
}

/// What the model checker's bound of three rests on. One is enough where the reuser's own drop waits
/// for the dropper's lock: to leave a thread that can't go on is no preemption.
#[test]
fn no_failure_of_a_protocol_needs_more_than_two_preemptions_or_does_without() {
    for play in Play::all().filter(|play| !play.as_it_was) {
        for kind in play.kinds() {
            if play.must_lose(kind, Profile::FullRmws) {
                let needed = explored(play, kind).preemptions_needed();
                println!("{} {kind}: {needed:?}", play.label());
                assert!(matches!(needed, Some(1 | 2)), "{} {kind}", play.label());
            }
        }
    }
}

/// The schedule that the mail fears comes about, and breaks nothing.
#[test]
fn a_dropper_between_the_finder_s_test_and_its_lock_does_no_harm() {
    for letter in ["A", "D", "E"] {
        let play = play(letter);
        let limits = Limits::default();
        let found = explore(play, Kind::Handshake.rules(), limits, feared(play));
        let counts = found.watched.unwrap();
        println!("{letter}: {counts:?} of {:?}", found.total());
        assert!(counts.explored > 0);
        assert_eq!(counts.failing, 0);
    }
}

#[test]
fn every_mutant_is_caught() {
    for mutant in MUTANTS {
        let found = explore(mutant.play(), mutant.rules, Limits::default(), None);
        let (total, name) = (found.total(), mutant.rules.name());
        println!("{name}: {} / {}", total.failing, total.explored);
        assert!(total.failing > 0, "{name} survived");
    }
}

#[test]
fn the_shortest_failure_is_told_step_by_step() {
    let found = explored(play("A"), Kind::Unfixed);
    let trace = found.failure.unwrap();
    let table = trace.table();
    println!("{table}{}", trace.words);
    assert!(trace.words.starts_with("freed under IO"));
    let marked: Vec<_> = trace
        .steps
        .iter()
        .filter(|step| step.mark.is_some())
        .collect();
    assert_eq!(marked.len(), 1, "{table}");
    assert_eq!(marked[0].mark, Some(Mark::Breaks));
    assert_eq!(trace.roles[marked[0].role], "reuser");
    assert_eq!(marked[0].what, "refs: 1 → 0", "{table}");
    assert!(
        table.contains("dropper: dropped the tree's count"),
        "{table}"
    );
    let switches = trace
        .steps
        .windows(2)
        .filter(|two| two[0].role != two[1].role);
    assert_eq!(
        switches.count(),
        3,
        "dropper, reuser, dropper, reuser: {table}"
    );
}

const fn plain(roles: &'static [Role]) -> Scenario {
    Scenario {
        letter: '?',
        name: "of-a-test",
        title: "a scenario of a test",
        origin: None,
        stage: Stage::Buffer,
        setup: |world| world.begin(0, TREE_REF),
        roles,
        holds: |_| Ok(()),
        loses: &[],
        not_applicable: &[],
        was: None,
    }
}

const fn role(run: fn(&World)) -> Role {
    Role { name: "role", run }
}

fn two_reads(world: &World) {
    world.read_contents();
    world.read_contents();
}

#[test]
fn two_threads_of_two_steps_have_six_schedules() {
    static SCENARIO: Scenario = plain(&[role(two_reads), role(two_reads)]);
    let play = Play {
        scenario: &SCENARIO,
        as_it_was: false,
    };
    let found = explored(play, Kind::Owned);
    let counts: Vec<_> = found
        .by_preemptions
        .iter()
        .map(|counts| counts.explored)
        .collect();
    assert_eq!(counts, [2, 2, 2]);
}

#[test]
fn roles_that_wait_for_each_other_are_a_failure() {
    static SCENARIO: Scenario = plain(&[
        role(|world| {
            let _block = world.block.lock();
            drop(world.life.lock());
        }),
        role(|world| {
            let _refs_lock = world.life.lock();
            drop(world.block.lock());
        }),
    ]);
    let play = Play {
        scenario: &SCENARIO,
        as_it_was: false,
    };
    let found = explored(play, Kind::Owned);
    assert!(found.total().failing > 0);
    assert_eq!(found.failure.unwrap().words, "roles wait for each other");
}

/// Where the end alone is judged (a block that was never written, say), nothing was marked once.
#[test]
fn every_failing_schedule_has_one_step_marked() {
    let mut judged_at_the_end = 0;
    for play in Play::all() {
        for kind in play.kinds() {
            let Some(trace) = explored(play, kind).failure else {
                continue;
            };
            let marked: Vec<_> = trace
                .steps
                .iter()
                .filter(|step| step.mark.is_some())
                .collect();
            let label = play.label();
            assert_eq!(marked.len(), 1, "{label} under {kind}:\n{}", trace.table());
            judged_at_the_end += usize::from(marked[0].mark == Some(Mark::Decided));
            // Who finds a freed buffer dirty comes later than who freed it.
            if trace.words.starts_with("freed under IO") {
                assert!(
                    marked[0].empties,
                    "{label} under {kind}:\n{}",
                    trace.table()
                );
                assert_eq!(marked[0].mark, Some(Mark::Breaks), "{label} under {kind}");
            }
        }
    }
    assert!(judged_at_the_end > 0);
}

/// L' goes wrong where the freer cleans a block that the commit has yet to write, and not at its end.
#[test]
fn the_marked_step_is_where_nothing_can_be_saved_any_more() {
    let trace = explored(play("L'"), Kind::Owned).failure.unwrap();
    let decided = |step: &Step| step.mark == Some(Mark::Decided);
    let at = trace.steps.iter().position(decided).unwrap();
    let table = trace.table();
    assert!(!table.contains("breaks the rule"), "{table}");
    assert_eq!(trace.roles[trace.steps[at].role], "freer", "{table}");
    assert!(at + 1 < trace.steps.len(), "{table}");
}
