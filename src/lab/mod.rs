//! The race lab: the reported interleaving, forced on the real cache and the real tree; every
//! other one, of that race and its family; and the workload that looks for them on live mounts.
//!
//! * [`workload`]: several processes that know what a filesystem must answer.
//! * [`live`]: protocols or builds compared under it, on real mounts and images.
//! * `controller`: threads with roles, held at the race points of one buffer.
//! * `stage`: a filesystem in memory, with a tree that has the leaf to fight for.
//! * `replay`: the schedule of 2015, and what each protocol must make of it.
//! * `explore`: every interleaving of a scenario, counted.
//! * `table`, `drawing`: who did what, for people.
//!
//! The first two are in every build, the others in those with `--features race-lab`. The races are
//! in `crate::extent_buffer::scenarios`.

#[cfg(feature = "race-lab")]
pub mod controller;
#[cfg(feature = "race-lab")]
pub mod drawing;
#[cfg(feature = "race-lab")]
pub mod explore;
pub mod live;
#[cfg(feature = "race-lab")]
pub mod replay;
#[cfg(feature = "race-lab")]
pub mod stage;
#[cfg(feature = "race-lab")]
pub mod table;
pub mod workload;

#[cfg(all(test, feature = "race-lab"))]
mod tests;
