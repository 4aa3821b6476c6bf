//! The scenarios on real threads: what must win wins in every round that there is time for.

use super::*;
use crate::sync::thread;
use crate::sync::{Arc, Barrier};

#[test]
fn winners_win_on_this_processor_too() {
    for scenario in ALL {
        for kind in scenario.kinds() {
            if scenario.must_lose(kind, Cpu::NATIVE) {
                continue;
            }
            let rounds = if cfg!(miri) { 20 } else { 5_000 };
            if let Some(words) = race(scenario, kind, rounds) {
                panic!("{} {kind}: {words}", scenario.letter);
            }
        }
    }
}

/// Runs the roles side by side, round after round, and says what broke first.
fn race(scenario: &'static Scenario, kind: Kind, rounds: usize) -> Option<String> {
    let world = Arc::new(World::new(kind.rules(), Cpu::NATIVE));
    let barrier = Arc::new(Barrier::new(scenario.roles.len() + 1));
    let mut broken = None;
    thread::scope(|scope| {
        for role in scenario.roles {
            let (world, barrier) = (world.clone(), barrier.clone());
            scope.spawn(move || {
                for _ in 0..rounds {
                    barrier.wait();
                    (role.run)(&world);
                    barrier.wait();
                }
            });
        }
        for _ in 0..rounds {
            (scenario.setup)(&world);
            barrier.wait();
            barrier.wait();
            broken = broken.take().or(world.judge().err());
        }
    });
    broken
}
