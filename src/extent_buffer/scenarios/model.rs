//! The scenarios under loom: every schedule within three preemptions, and every value that a
//! relaxed load may still see.
//!
//! `RUSTFLAGS="--cfg btrfuse_model" cargo test --release --lib --target-dir target/model`

use super::mutants::{FlagBeforeCount, LockSectionDeleted, TreeRefNotTakenAgain};
use super::*;
use crate::extent_buffer::index::{Index, Occupant};
use crate::extent_buffer::protocol::Protocol;
use crate::sync::{Arc, explore, thread};

fn explore_scenario(
    scenario: &'static Scenario,
    rules: &'static dyn Protocol,
    cpu: Cpu,
) -> (u64, Option<String>) {
    explore(move || {
        let world = Arc::new(World::new(rules, cpu));
        (scenario.setup)(&world);
        let threads: Vec<_> = scenario
            .roles
            .iter()
            .map(|role| {
                let world = world.clone();
                thread::spawn(move || (role.run)(&world))
            })
            .collect();
        for thread in threads {
            thread.join().expect("a role doesn't panic");
        }
        if let Err(words) = world.judge() {
            panic!("{words}");
        }
    })
}

/// Explores a scenario under all protocols and processors and compares with its verdicts.
fn verdicts(scenario: &'static Scenario) {
    let mut wrong = Vec::new();
    for kind in scenario.kinds() {
        for cpu in [Cpu::Strong, Cpu::Weak] {
            let (executions, failure) = explore_scenario(scenario, kind.rules(), cpu);
            let line = format!(
                "{} {:<16} {:<6} {:>7} executions: {}",
                scenario.letter,
                kind,
                format!("{cpu:?}"),
                executions,
                failure.as_deref().unwrap_or("no rule broken")
            );
            println!("{line}");
            if failure.is_some() != scenario.must_lose(kind, cpu) {
                wrong.push(line);
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "not the verdicts of {}:\n{}",
        scenario.title,
        wrong.join("\n")
    );
}

fn must_lose(scenario: &'static Scenario, mutant: &'static dyn Protocol) {
    let (executions, failure) = explore_scenario(scenario, mutant, Cpu::Strong);
    let words = failure.unwrap_or_else(|| {
        panic!(
            "{} survived {executions} executions of {}",
            mutant.name(),
            scenario.letter
        )
    });
    println!(
        "{} {}: {words} after {executions} executions",
        scenario.letter,
        mutant.name()
    );
}

#[test]
fn a_dropper_and_reuser() {
    verdicts(&DROPPER_AND_REUSER);
}

#[test]
fn b_setter_and_reuser() {
    verdicts(&SETTER_AND_REUSER);
}

#[test]
fn c_reclaim_and_reuser() {
    verdicts(&RECLAIM_AND_REUSER);
}

#[test]
fn d_setter_dropper_and_reuser() {
    verdicts(&SETTER_DROPPER_AND_REUSER);
}

#[test]
fn e_two_droppers_and_reuser() {
    verdicts(&TWO_DROPPERS_AND_REUSER);
}

#[test]
fn f_writeout_and_writer() {
    verdicts(&WRITEOUT_AND_WRITER);
}

#[test]
fn a_deleted_lock_section_is_noticed() {
    must_lose(&DROPPER_AND_REUSER, &LockSectionDeleted);
}

#[test]
fn a_tree_ref_that_is_not_taken_again_is_noticed() {
    must_lose(&DROPPER_AND_REUSER, &TreeRefNotTakenAgain);
}

#[test]
fn a_flag_published_before_its_count_is_noticed() {
    must_lose(&WRITEOUT_AND_WRITER, &FlagBeforeCount);
}

/// Slot 1 is dead and being taken out of the index while slot 2 is inserted for its address.
fn release_and_insert(remove: fn(&Index)) -> (u64, Option<String>) {
    explore(move || {
        let index = Arc::new(Index::new(1));
        let dead = |_| Occupant::<()>::Dead;
        index.insert(BYTENR, 1, dead).expect("the index is empty");
        let (releasing, inserting) = (index.clone(), index.clone());
        let release = thread::spawn(move || remove(&releasing));
        let insert = thread::spawn(move || inserting.insert(BYTENR, 2, dead).expect("dead"));
        release.join().expect("a role doesn't panic");
        insert.join().expect("a role doesn't panic");
        assert_eq!(
            index.lookup(BYTENR, Some),
            Some(2),
            "the new buffer can't be found"
        );
    })
}

const BYTENR: u64 = super::world::BYTENR;

#[test]
fn a_late_release_leaves_the_next_buffer_in_the_index() {
    let (executions, failure) = release_and_insert(|index| {
        index.remove(BYTENR, 1);
    });
    assert_eq!(failure, None, "after {executions} executions");
}

#[test]
fn removal_without_a_look_at_the_slot_is_noticed() {
    let (_, failure) = release_and_insert(|index| {
        // Whatever stands for the address goes.
        if let Some(there) = index.lookup(BYTENR, Some) {
            index.remove(BYTENR, there);
        }
    });
    assert!(failure.is_some());
}
