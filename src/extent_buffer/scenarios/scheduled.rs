//! The scenarios under shuttle: many schedules, chosen at random or by changing priorities.
//!
//! The explorer has each of their schedules, so this engine can find nothing new here; that it finds
//! what it must is why it may be believed about whole tree operations
//! ([`tree_plays`](crate::lab::tree_plays)), which nothing can go through one by one.

use super::{Play, World};
use crate::extent_buffer::lifetime::Profile;
use crate::extent_buffer::protocol::Protocol;
use crate::sync::{Arc, Scheduler, explore, thread};

/// Plays a scenario by these rules up to `executions` times, or until somebody loses: how many times,
/// and what broke. The same again for the same seed.
pub fn run(
    play: Play,
    rules: &'static dyn Protocol,
    scheduler: Scheduler,
    seed: u64,
    executions: usize,
) -> (u64, Option<String>) {
    explore(scheduler, seed, executions, move || {
        let world = Arc::new(World::new(rules, Profile::FullRmws, play.scenario.stage));
        play.setup(&world);
        let threads: Vec<_> = play
            .roles()
            .iter()
            .map(|role| {
                let world = world.clone();
                thread::spawn(move || (role.run)(&world))
            })
            .collect();
        for thread in threads {
            thread.join().expect("a role doesn't panic");
        }
        play.judge(&world)
    })
}
