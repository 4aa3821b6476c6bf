//! The race lab: the reported interleaving, forced on the real cache and the real tree; and every
//! other one, of that race and its family.
//!
//! * [`controller`]: threads with roles, held at the race points of one buffer.
//! * [`stage`]: a filesystem in memory, with a tree that has the leaf to fight for.
//! * [`replay`]: the schedule of 2015, and what each protocol must make of it.
//! * [`explore`]: every interleaving of a scenario, counted.
//! * [`table`], [`drawing`]: who did what, for people.
//!
//! Only builds with `--features race-lab` have it. The races are in
//! [`crate::extent_buffer::scenarios`].

pub mod controller;
pub mod drawing;
pub mod explore;
pub mod replay;
pub mod stage;
pub mod table;

#[cfg(test)]
mod tests;
