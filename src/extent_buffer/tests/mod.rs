//! Tests of the cache over a disk in memory.

mod disk;
mod states;
mod stress;
