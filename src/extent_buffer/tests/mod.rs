//! Tests of the cache over a disk in memory.

mod broken;
mod disk;
mod states;
mod stress;
#[cfg(feature = "race-lab")]
mod windows;
