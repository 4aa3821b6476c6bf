//! The verdicts of the scenarios under loom.
//!
//! `RUSTFLAGS="--cfg btrfuse_model" cargo test --release --lib --target-dir target/model`

use super::model::{PREEMPTIONS, bound, not_applicable, run};
use super::mutants::MUTANTS;
use super::*;
use crate::extent_buffer::index::{Index, Occupant};
use crate::sync::{Arc, explore, thread};

/// Explores a scenario under all protocols and profiles and compares with its verdicts.
fn verdicts(name: &str) {
    let mut wrong = Vec::new();
    let plays = Play::named(name).into_iter();
    for play in plays.filter(|play| not_applicable(*play).is_none()) {
        for kind in play.kinds() {
            for profile in profiles(play, kind) {
                let explored = run(play, kind.rules(), *profile, bound(play));
                let line = format!(
                    "{:<2} {:<16} {:<19} {:>7} executions: {}",
                    play.label(),
                    kind,
                    profile.name(),
                    explored.executions,
                    explored.failure.as_deref().unwrap_or("no rule broken")
                );
                println!("{line}");
                if explored.failure.is_some() != play.must_lose(kind, *profile) {
                    wrong.push(line);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "wrong verdicts:\n{}", wrong.join("\n"));
}

/// All, but the largest models of what nobody mounts: `examples/model.rs` has those.
fn profiles(play: Play, kind: Kind) -> &'static [Profile] {
    let mounted = matches!(kind, Kind::Unfixed | Kind::Handshake | Kind::Owned);
    match play.scenario.letter {
        'D' | 'E' | 'I' if !mounted => &[Profile::FullRmws],
        _ => Profile::ALL,
    }
}

macro_rules! scenarios {
    ($($test:ident = $letter:literal,)*) => {
        $(#[test]
        fn $test() {
            verdicts($letter);
        })*

        #[test]
        fn every_scenario_is_here() {
            let letters = [$($letter),*];
            assert!(ALL.iter().all(|scenario| letters.contains(&&*scenario.letter.to_string())));
        }
    };
}

scenarios! {
    a_dropper_and_reuser = "A",
    b_setter_and_reuser = "B",
    c_reclaim_and_reuser = "C",
    d_setter_dropper_and_reuser = "D",
    e_two_droppers_and_reuser = "E",
    f_writeout_and_writer = "F",
    g_last_put_and_recache = "G",
    h_insert_collision = "H",
    i_late_stale = "I",
    j_read_and_reclaim = "J",
    k_half_built = "K",
    l_dirty_across_commit = "L",
    m_reading_and_uptodate = "M",
    n_end_of_io_and_last_free = "N",
    o_reread_over_new = "O",
    p_use_after_last_put = "P",
}

#[test]
fn every_mutant_is_noticed() {
    for mutant in MUTANTS {
        let play = mutant.play();
        let explored = run(play, mutant.rules, Profile::FullRmws, PREEMPTIONS);
        let (name, letter) = (mutant.rules.name(), play.label());
        println!("{letter} {name}: {explored:?}");
        assert!(explored.failure.is_some(), "{name} survived {letter}");
    }
}

/// Slot 1 is dead and being taken out of the index while slot 2 is inserted for its address.
fn release_and_insert(remove: fn(&Index)) -> Option<String> {
    let (_, failure) = explore(PREEMPTIONS, move || {
        let index = Arc::new(Index::new(1));
        let dead = |_| Occupant::<()>::Dead;
        index.insert(BYTENR, 1, dead).expect("the index is empty");
        let (releasing, inserting) = (index.clone(), index.clone());
        let release = thread::spawn(move || remove(&releasing));
        let insert = thread::spawn(move || inserting.insert(BYTENR, 2, dead).expect("dead"));
        release.join().expect("a role doesn't panic");
        insert.join().expect("a role doesn't panic");
        let found = index.lookup(BYTENR, Some);
        assert_eq!(found, Some(2), "the new buffer can't be found");
    });
    failure
}

const BYTENR: u64 = super::world::BYTENR;

#[test]
fn a_late_release_leaves_the_next_buffer_in_the_index() {
    let failure = release_and_insert(|index| {
        index.remove(BYTENR, 1);
    });
    assert_eq!(failure, None);
}

#[test]
fn removal_without_a_look_at_the_slot_is_noticed() {
    let failure = release_and_insert(|index| {
        // Whatever stands for the address goes.
        if let Some(there) = index.lookup(BYTENR, Some) {
            index.remove(BYTENR, there);
        }
    });
    assert!(failure.is_some());
}
