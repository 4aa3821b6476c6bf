//! The door to locks, atomics and threads: no other file names `parking_lot`, `std::sync` or a
//! model checker.
//!
//! Normal builds get `parking_lot` and the standard library; a build under
//! `--cfg btrfuse_model` gets loom's, and then only the layers that the models cover exist.

pub mod race_point;
#[cfg(all(feature = "race-lab", not(btrfuse_model)))]
pub mod stepped;

#[cfg(not(btrfuse_model))]
mod native;
#[cfg(not(btrfuse_model))]
pub use native::*;

#[cfg(btrfuse_model)]
mod modelled;
#[cfg(btrfuse_model)]
pub use modelled::*;
