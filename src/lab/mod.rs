//! The race lab: the reported interleaving, forced on the real cache and the real tree; every
//! other one, of that race and its family; and the workload that looks for them on live mounts.
//!
//! * [`workload`]: several processes that know what a filesystem must answer.
//! * [`live`]: protocols or builds compared under it, on real mounts and images.
//! * `controller`: threads with roles, held at the race points of one buffer.
//! * `stage`: a filesystem in memory, with a tree that has the leaf to fight for.
//! * `replay`: the schedule of 2015, and what each protocol must make of it.
//! * `explore`: every interleaving of a scenario, counted.
//! * `schedule`: one that breaks somebody, forced on real threads.
//! * `tree_plays`: whole tree operations under many schedules, in builds of their own.
//! * `table`, `lanes`, `drawing`: who did what, for people.
//! * `machine_code`: whether the lock section of 2015 is in a built program.
//! * `cost`: what a lookup costs under each protocol, and a whole mount.
//! * `report`: everything that the engines say, on one page.
//!
//! The first two are in every build, `stage` and `cost` in those with every protocol (`--features
//! protocols`), the others in those with `--features race-lab`. The races are in
//! `crate::extent_buffer::scenarios`.

#[cfg(feature = "race-lab")]
pub mod controller;
#[cfg(all(feature = "protocols", not(btrfuse_shuttle)))]
pub mod cost;
#[cfg(feature = "race-lab")]
pub mod drawing;
#[cfg(feature = "race-lab")]
pub mod explore;
#[cfg(feature = "race-lab")]
pub mod lanes;
#[cfg(not(btrfuse_shuttle))]
pub mod live;
#[cfg(feature = "race-lab")]
pub mod machine_code;
#[cfg(feature = "race-lab")]
pub mod replay;
#[cfg(feature = "race-lab")]
pub mod report;
#[cfg(feature = "race-lab")]
pub mod schedule;
#[cfg(feature = "protocols")]
pub mod stage;
#[cfg(feature = "race-lab")]
pub mod table;
#[cfg(btrfuse_shuttle)]
pub mod tree_plays;
#[cfg(not(btrfuse_shuttle))]
pub mod workload;

/// `1 thread`, `2 threads`: a thing has its plural with an s, or an es after another s.
#[cfg(all(feature = "protocols", not(btrfuse_shuttle)))]
pub fn counted(count: usize, thing: &str) -> String {
    let end = match (count, thing.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{count} {thing}{end}")
}

#[cfg(all(test, feature = "race-lab"))]
mod tests;
