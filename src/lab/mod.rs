//! The race lab: the reported interleaving, forced on the real cache and the real tree.
//!
//! * [`controller`]: threads with roles, held at the race points of one buffer.
//! * [`stage`]: a filesystem in memory, with a tree that has the leaf to fight for.
//! * [`replay`]: the schedule of 2015, and what each protocol must make of it.
//! * [`table`], [`drawing`]: who did what, for people.
//!
//! Only builds with `--features race-lab` have it. The races of the protocol alone are models in
//! [`crate::extent_buffer::scenarios`].

pub mod controller;
pub mod drawing;
pub mod replay;
pub mod stage;
pub mod table;

#[cfg(test)]
mod tests;
