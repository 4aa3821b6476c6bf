//! Races on the life of one buffer, each written once: run by the model checker, and natively.
//!
//! A [`Scenario`] is a start, two or three roles, and what must come of it under each protocol;
//! [`World`] has the buffer and the judge of the end. A scenario whose broken protocol doesn't
//! fail, or whose right one does, fails its test: both outcomes are part of what is claimed.
//!
//! Accesses to the [`Lifetime`](super::lifetime::Lifetime) are what a model explores; the tree
//! lock between users of the contents is left out where only one role takes it.

mod dropper_and_reuser;
mod reclaim_and_reuser;
mod setter_and_reuser;
mod setter_dropper_and_reuser;
mod two_droppers_and_reuser;
mod world;
mod writeout_and_writer;

#[cfg(all(test, btrfuse_model))]
mod model;
#[cfg(any(feature = "race-lab", btrfuse_model))]
pub mod mutants;
#[cfg(all(test, not(btrfuse_model)))]
mod native;
pub use dropper_and_reuser::DROPPER_AND_REUSER;
pub use reclaim_and_reuser::RECLAIM_AND_REUSER;
pub use setter_and_reuser::SETTER_AND_REUSER;
pub use setter_dropper_and_reuser::SETTER_DROPPER_AND_REUSER;
pub use two_droppers_and_reuser::TWO_DROPPERS_AND_REUSER;
pub use world::World;
pub use writeout_and_writer::WRITEOUT_AND_WRITER;

use super::lifetime::Cpu;
use super::protocol::Kind;

/// Every scenario.
pub const ALL: &[&Scenario] = &[
    &DROPPER_AND_REUSER,
    &SETTER_AND_REUSER,
    &RECLAIM_AND_REUSER,
    &SETTER_DROPPER_AND_REUSER,
    &TWO_DROPPERS_AND_REUSER,
    &WRITEOUT_AND_WRITER,
];

/// A race, and what must come of it.
#[derive(Debug)]
pub struct Scenario {
    /// A letter, as reports call it.
    pub letter: char,
    /// What meets what.
    pub title: &'static str,
    /// Where it was seen: year, upstream commit and its subject; `None` when it is our own.
    pub origin: Option<Origin>,
    /// Makes the buffer as it is when the roles begin.
    pub setup: fn(&World),
    /// What each thread does.
    pub roles: &'static [Role],
    /// Who loses, and on which processors; whoever isn't named wins everywhere.
    pub loses: &'static [(Kind, Where)],
    /// For whom the start can't come about, and why.
    pub not_applicable: &'static [(Kind, &'static str)],
}

/// The commit that tells a race's story.
#[derive(Debug)]
pub struct Origin {
    /// The year of the commit.
    pub year: u16,
    /// Its upstream id.
    pub commit: &'static str,
    /// Its subject, or the race in a few words where the subject speaks of something else.
    pub subject: &'static str,
}

/// One thread's part.
#[derive(Debug)]
pub struct Role {
    /// Whom it stands for.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&World),
}

/// On which processors a protocol loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// On all of them.
    Everywhere,
    /// Only where an atomic write orders nothing else.
    WeaklyOrdered,
}

impl Scenario {
    /// The protocols that the scenario says something about.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        let is_out = |kind| self.not_applicable.iter().any(|(out, _)| *out == kind);
        Kind::ALL.iter().copied().filter(move |kind| !is_out(*kind))
    }

    /// Whether `kind` has a schedule on `cpu` that breaks a rule.
    pub fn must_lose(&self, kind: Kind, cpu: Cpu) -> bool {
        self.loses
            .iter()
            .any(|(loser, at)| *loser == kind && (*at == Where::Everywhere || cpu == Cpu::Weak))
    }
}
