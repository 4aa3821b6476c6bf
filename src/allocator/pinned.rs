//! Ranges freed in a transaction that the last durable superblock still reaches.
//!
//! Owns: one transaction's set. Invariant: nothing in it is handed out before
//! [`Space::unpin`](super::Space::unpin).

use super::FreeRanges;

/// What becomes free when the transaction that pinned it is durable.
#[derive(Debug, Default)]
pub struct PinnedSet {
    ranges: FreeRanges,
}

impl PinnedSet {
    /// The pinned ranges as (start, len), ascending and merged.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter()
    }

    /// The sum of the ranges.
    pub fn bytes(&self) -> u64 {
        self.ranges.bytes()
    }

    /// Nothing is pinned.
    pub fn is_empty(&self) -> bool {
        self.ranges.bytes() == 0
    }

    pub(super) fn insert(&mut self, at: u64, len: u64) {
        let added = self.ranges.insert(at, len);
        debug_assert_eq!(added, len, "a range is pinned once");
    }
}
