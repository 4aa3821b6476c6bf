//! The scenarios on real threads: many rounds, whatever the scheduler makes of them.

use super::{Play, World};
use crate::extent_buffer::lifetime::Profile;
use crate::extent_buffer::protocol::Protocol;
use crate::sync::thread;
use crate::sync::{Arc, Barrier, Mutex};

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    /// How many were run.
    pub run: u64,
    /// How many broke a rule.
    pub broken: u64,
    /// What broke first.
    pub words: Option<String>,
}

impl Rounds {
    /// Adds what more rounds came to.
    pub fn add(&mut self, more: Self) {
        self.run += more.run;
        self.broken += more.broken;
        self.words = self.words.take().or(more.words);
    }
}

/// Runs the roles side by side, round after round, each in a new world.
pub fn race(play: Play, rules: &'static dyn Protocol, rounds: u64) -> Rounds {
    let world = || Arc::new(World::new(rules, Profile::NATIVE, play.scenario.stage));
    let stage = Mutex::new(world());
    let barrier = Barrier::new(play.roles().len() + 1);
    let mut result = Rounds::default();
    thread::scope(|scope| {
        for role in play.roles() {
            let (stage, barrier) = (&stage, &barrier);
            scope.spawn(move || {
                for _ in 0..rounds {
                    barrier.wait();
                    let world = stage.lock().clone();
                    (role.run)(&world);
                    drop(world);
                    barrier.wait();
                }
            });
        }
        for _ in 0..rounds {
            let next = world();
            play.setup(&next);
            *stage.lock() = next.clone();
            barrier.wait();
            barrier.wait();
            result.run += 1;
            if let Err(words) = play.judge(&next) {
                result.broken += 1;
                result.words.get_or_insert(words);
            }
        }
    });
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn winners_win_on_this_processor_too() {
        for play in Play::all() {
            for kind in play.kinds() {
                if play.must_lose(kind, Profile::NATIVE) {
                    continue;
                }
                let rounds = if cfg!(miri) { 20 } else { 1_000 };
                let result = race(play, kind.rules(), rounds);
                assert_eq!(result.words, None, "{} {kind}", play.label());
            }
        }
    }
}
