//! The tree blocks that a transaction has changed.
//!
//! Owns: their addresses. Never: a reference to a buffer; what keeps a dirty buffer alive is the
//! lifetime protocol's business (docs/extent-buffer.md), and a list that held one would hide
//! its mistakes.

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::units::Logical;
use std::collections::BTreeSet;

const SHARDS: usize = 16;

/// A set of tree block addresses, sharded so that writers side by side don't meet.
#[derive(Default)]
pub struct DirtyBlocks {
    shards: [Mutex<BTreeSet<Logical>>; SHARDS],
    len: AtomicUsize,
}

impl DirtyBlocks {
    fn shard(&self, at: Logical) -> &Mutex<BTreeSet<Logical>> {
        // Blocks are at least 4 KiB apart; neighbours in 64 KiB share a shard.
        &self.shards[(at.get() >> 16) as usize % SHARDS]
    }

    /// Adds a block; true if it wasn't there.
    pub fn insert(&self, at: Logical) -> bool {
        let new = self.shard(at).lock().insert(at);
        if new {
            // Relaxed: a hint for throttling; the shard's lock orders the set itself.
            self.len.fetch_add(1, Ordering::Relaxed);
        }
        new
    }

    /// Takes a block out: it was freed, or written.
    pub fn remove(&self, at: Logical) -> bool {
        let found = self.shard(at).lock().remove(&at);
        if found {
            // Relaxed: see `insert`.
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        found
    }

    /// Whether a block is in the set.
    pub fn contains(&self, at: Logical) -> bool {
        self.shard(at).lock().contains(&at)
    }

    /// How many blocks there are: a hint while writers run.
    pub fn len(&self) -> usize {
        // Relaxed: see `insert`.
        self.len.load(Ordering::Relaxed)
    }

    /// Whether there are none: a hint while writers run.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All blocks by address, for write-out in large runs. The set keeps them.
    pub fn sorted(&self) -> Vec<Logical> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            all.extend(shard.lock().iter().copied());
        }
        all.sort_unstable();
        all
    }

    /// All blocks by address; the set is empty afterwards.
    pub fn take_sorted(&self) -> Vec<Logical> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let taken = std::mem::take(&mut *shard.lock());
            // Relaxed: see `insert`.
            self.len.fetch_sub(taken.len(), Ordering::Relaxed);
            all.extend(taken);
        }
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_sorted_and_once() {
        let set = DirtyBlocks::default();
        for at in [5u64, 3, 900, 3, 77] {
            set.insert(Logical(at << 14));
        }
        assert_eq!(set.len(), 4);
        assert!(set.remove(Logical(77 << 14)));
        assert!(!set.remove(Logical(77 << 14)));
        let want: Vec<_> = [3u64, 5, 900].iter().map(|at| Logical(at << 14)).collect();
        assert_eq!(set.sorted(), want);
        assert_eq!(set.take_sorted(), want);
        assert!(set.is_empty());
    }
}
