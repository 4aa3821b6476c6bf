//! The door to locks, atomics and threads: no other file names `parking_lot`, `std::sync` or a
//! model checker.
//!
//! Normal builds get `parking_lot` and the standard library. A build under `--cfg btrfuse_model`
//! gets loom's, and then only the layers that its models cover exist; one under
//! `--cfg btrfuse_shuttle` gets shuttle's, with the layers up to commits.

pub mod race_point;
#[cfg(all(feature = "race-lab", not(btrfuse_model)))]
pub mod stepped;

#[cfg(any(btrfuse_model, btrfuse_shuttle))]
mod tally;

#[cfg(not(any(btrfuse_model, btrfuse_shuttle)))]
mod native;
#[cfg(not(any(btrfuse_model, btrfuse_shuttle)))]
pub use native::*;

#[cfg(btrfuse_model)]
mod modelled;
#[cfg(btrfuse_model)]
pub use modelled::*;

#[cfg(btrfuse_shuttle)]
mod scheduled;
#[cfg(btrfuse_shuttle)]
pub use scheduled::*;
