//! A number for the judge of a model, which is no part of what is explored.

use std::sync::atomic::{AtomicU32, Ordering};

/// See the module.
#[derive(Debug)]
pub struct Tally(AtomicU32);

impl Tally {
    /// Zero.
    pub fn zero() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Counts one.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were counted.
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts from zero again.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
