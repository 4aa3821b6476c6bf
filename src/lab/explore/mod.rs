//! Every interleaving of a scenario under sequential consistency.
//!
//! A step is one access to something shared: a read, a write, a change of a number, a lock taken or
//! given back ([`turn`](crate::sync::stepped::turn)). A schedule is an order of all steps of all
//! roles. [`search`] visits every *state* that some schedule reaches, once, and counts the schedules
//! through it, so that the counts are exact and still cheap: two schedules that led to the same
//! state have the same future. [`trace`] plays one schedule again and writes down every step.
//!
//! Here is no memory model: what loom finds under weaker ones is in
//! [`model`](crate::extent_buffer::scenarios).

pub mod search;
pub mod trace;

#[cfg(test)]
mod tests;

use crate::extent_buffer::lifetime::Profile;
use crate::extent_buffer::protocol::Protocol;
use crate::extent_buffer::scenarios::{Play, World};
use crate::sync::race_point::Point;
use crate::sync::stepped::turn::{self, Memory, Names};
use std::time::{Duration, Instant};

pub use search::{Counts, Limits};
pub use trace::{MARKS, Mark, Step, Trace};

/// A world that roles can be stepped through.
pub struct Theatre {
    play: Play,
    world: World,
    /// The cells as the roles begin.
    start: Memory,
    names: Names,
}

impl Theatre {
    /// Builds the world of `play` and sets it up.
    pub fn new(play: Play, rules: &'static dyn Protocol) -> Self {
        let (world, mut start, names) = turn::build(|| {
            let world = World::new(rules, Profile::FullRmws, play.scenario.stage);
            world.call_cells();
            world
        });
        turn::directly(&mut start, || play.setup(&world));
        Self {
            play,
            world,
            start,
            names,
        }
    }
}

/// What is known of a scenario under one set of rules.
#[derive(Clone, Debug)]
pub struct Exploration {
    /// All schedules, and the failing ones, by the number of preemptions in them.
    pub by_preemptions: Vec<Counts>,
    /// Schedules in which one role ran wholly while another stood at a point, and the failing ones
    /// among them ([`Watch`]).
    pub watched: Option<Counts>,
    /// States that were visited.
    pub states: usize,
    /// Steps that were done to visit them.
    pub steps: u64,
    /// Whether the search gave up at its limit; then the counts are lower bounds.
    pub complete: bool,
    /// The shortest failing schedule: fewest preemptions, then fewest steps.
    pub failure: Option<Trace>,
    /// How long it took.
    pub took: Duration,
}

impl Exploration {
    /// All schedules, and the failing ones.
    pub fn total(&self) -> Counts {
        self.within(usize::MAX)
    }

    /// Those with at most so many preemptions.
    pub fn within(&self, preemptions: usize) -> Counts {
        let upto = preemptions.saturating_add(1).min(self.by_preemptions.len());
        self.by_preemptions[..upto]
            .iter()
            .fold(Counts::default(), |sum, counts| sum.plus(*counts))
    }

    /// How many preemptions the simplest failing schedule needs.
    pub fn preemptions_needed(&self) -> Option<usize> {
        self.by_preemptions
            .iter()
            .position(|counts| counts.failing > 0)
    }
}

/// The schedules in which every step of one role happens while another stands at a point.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Who runs.
    pub inner: usize,
    /// Who stands.
    pub outer: usize,
    /// Where.
    pub at: Point,
}

/// The schedules that the mail of 2015 fears, where a play has them: the dropper runs wholly between
/// the finder's test of STALE and its lock.
pub fn feared(play: Play) -> Option<Watch> {
    let (inner, outer) = match play.scenario.letter {
        'A' => (0, 1),
        'D' => (1, 2),
        'E' => (0, 2),
        _ => return None,
    };
    Some(Watch {
        inner,
        outer,
        at: Point::LookupStale,
    })
}

/// Explores `play` by these rules.
pub fn explore(
    play: Play,
    rules: &'static dyn Protocol,
    limits: Limits,
    watch: Option<Watch>,
) -> Exploration {
    let started = Instant::now();
    let theatre = Theatre::new(play, rules);
    let found = search::search(&theatre, limits, watch);
    let failure = found
        .failing
        .map(|failing| trace::play_again(&theatre, &failing));
    Exploration {
        by_preemptions: found.by_preemptions,
        watched: watch.map(|_| found.watched),
        states: found.states,
        steps: found.steps,
        complete: found.complete,
        failure,
        took: started.elapsed(),
    }
}
