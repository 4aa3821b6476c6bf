//! References to extents that wait to reach the extent tree.
//!
//! Owns: one [`RefHead`] per extent, merging, and the right to run one. Never: the extent tree;
//! `commit` takes heads with [`DelayedRefs::take_batch`] and edits it.
//!
//! Invariants: a head is run by one thread at a time; changes that arrive meanwhile wait in the
//! map for the next run. A reader that adds [`DelayedRefs::peek`] to what the extent tree says
//! gets [`Pending::Running`] when the two can't be added up, and must look again after
//! [`DelayedRefs::wait_until_run`], holding no tree lock.

use super::head::{ExtentOp, RefHead, RefKind};
use crate::ondisk::key::Key;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex};
use crate::units::Logical;
use std::collections::BTreeMap;

const SHARDS: usize = 8;

/// What became of a dropped reference to a tree block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Dropped {
    /// The block's own allocation in this transaction was still waiting and the two cancelled:
    /// the extent tree never hears of it, and the caller gives the range back (or pins it when
    /// the block was written early).
    Cancelled,
    /// The extent tree will be told; whoever runs the head pins the range at the last reference.
    Queued,
}

/// What waits for an extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pending {
    /// Nothing: the extent tree has the whole truth.
    None,
    /// Add this to what the extent tree says.
    Waiting {
        /// Change of the reference count.
        delta: i64,
        /// Flags that the item will get.
        flags_to_set: u64,
        /// The item isn't in the extent tree yet.
        must_insert_reserved: bool,
        /// Each change.
        refs: Vec<(RefKind, i64)>,
    },
    /// The extent tree is being told just now: let go of its locks, wait and look again.
    Running,
}

struct Entry {
    head: RefHead,
    running: bool,
}

#[derive(Default)]
struct Shard {
    heads: Mutex<BTreeMap<Logical, Entry>>,
    run: Condvar,
}

/// The waiting references of one transaction.
#[derive(Default)]
pub struct DelayedRefs {
    shards: [Shard; SHARDS],
    /// Heads in the maps, also those being run.
    len: AtomicUsize,
    /// Where the next batch starts, so that all shards get their turn.
    turn: AtomicUsize,
}

impl DelayedRefs {
    fn shard(&self, bytenr: Logical) -> &Shard {
        // Neighbours stay together, so that a batch edits neighbouring extent items.
        &self.shards[(bytenr.get() >> 22) as usize % SHARDS]
    }

    /// Changes one head under its shard's lock, making it first if needed; a head with nothing
    /// left to do disappears.
    fn with_head<T>(
        &self,
        fresh: impl FnOnce() -> RefHead,
        bytenr: Logical,
        change: impl FnOnce(&mut Entry) -> T,
    ) -> T {
        let mut heads = self.shard(bytenr).heads.lock();
        let entry = heads.entry(bytenr).or_insert_with(|| {
            // Relaxed: a hint while writers run, exact once they have drained.
            self.len.fetch_add(1, Ordering::Relaxed);
            Entry {
                head: fresh(),
                running: false,
            }
        });
        let answer = change(entry);
        if entry.head.is_void() && !entry.running {
            heads.remove(&bytenr);
            // Relaxed: as above.
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        answer
    }

    /// A tree block was just allocated for tree `root`: its extent item will be inserted.
    pub fn add_new_tree_block(
        &self,
        bytenr: Logical,
        nodesize: u64,
        level: u8,
        root: u64,
        first_key: Key,
    ) {
        self.with_head(
            || RefHead::new(bytenr, nodesize, false, level),
            bytenr,
            |entry| {
                entry.head.must_insert_reserved = true;
                entry.head.level = level;
                entry.head.merge_op(ExtentOp {
                    flags_to_set: 0,
                    first_key: Some(first_key),
                });
                entry.head.merge(RefKind::Tree { root }, 1);
            },
        );
    }

    /// One more reference to an existing tree block.
    pub fn add_tree_ref(&self, bytenr: Logical, nodesize: u64, level: u8, kind: RefKind) {
        debug_assert!(!kind.is_data());
        self.with_head(
            || RefHead::new(bytenr, nodesize, false, level),
            bytenr,
            |entry| entry.head.merge(kind, 1),
        );
    }

    /// One reference less to a tree block.
    pub fn drop_tree_ref(
        &self,
        bytenr: Logical,
        nodesize: u64,
        level: u8,
        kind: RefKind,
    ) -> Dropped {
        debug_assert!(!kind.is_data());
        self.with_head(
            || RefHead::new(bytenr, nodesize, false, level),
            bytenr,
            |entry| {
                entry.head.merge(kind, -1);
                // While it is being run, `must_insert_reserved` is false here: the runner has it.
                if entry.head.must_insert_reserved && entry.head.refs.is_empty() {
                    entry.head.must_insert_reserved = false;
                    entry.head.extent_op = None;
                    Dropped::Cancelled
                } else {
                    Dropped::Queued
                }
            },
        )
    }

    /// A data extent was just allocated: its item will be inserted with this first reference.
    pub fn add_new_data_extent(&self, bytenr: Logical, num_bytes: u64, kind: RefKind) {
        debug_assert!(kind.is_data());
        self.with_head(
            || RefHead::new(bytenr, num_bytes, true, 0),
            bytenr,
            |entry| {
                entry.head.must_insert_reserved = true;
                entry.head.merge(kind, 1);
            },
        );
    }

    /// One more reference to a data extent.
    pub fn add_data_ref(&self, bytenr: Logical, num_bytes: u64, kind: RefKind) {
        debug_assert!(kind.is_data());
        self.with_head(
            || RefHead::new(bytenr, num_bytes, true, 0),
            bytenr,
            |entry| entry.head.merge(kind, 1),
        );
    }

    /// One reference less to a data extent. If that was the last one of an extent allocated in
    /// this transaction, the head stays, empty and with `must_insert_reserved`: the runner
    /// deletes its checksums and pins the range.
    pub fn drop_data_ref(&self, bytenr: Logical, num_bytes: u64, kind: RefKind) {
        debug_assert!(kind.is_data());
        self.with_head(
            || RefHead::new(bytenr, num_bytes, true, 0),
            bytenr,
            |entry| entry.head.merge(kind, -1),
        );
    }

    /// Sets flags of a tree block's extent item (FULL_BACKREF).
    pub fn set_flags(&self, bytenr: Logical, nodesize: u64, level: u8, flags_to_set: u64) {
        self.with_head(
            || RefHead::new(bytenr, nodesize, false, level),
            bytenr,
            |entry| {
                entry.head.merge_op(ExtentOp {
                    flags_to_set,
                    first_key: None,
                })
            },
        );
    }

    /// What waits for an extent.
    pub fn peek(&self, bytenr: Logical) -> Pending {
        match self.shard(bytenr).heads.lock().get(&bytenr) {
            None => Pending::None,
            Some(entry) if entry.running => Pending::Running,
            Some(Entry { head, .. }) => Pending::Waiting {
                delta: head.delta(),
                flags_to_set: head.extent_op.map_or(0, |op| op.flags_to_set),
                must_insert_reserved: head.must_insert_reserved,
                refs: head.refs.clone(),
            },
        }
    }

    /// Waits until nobody runs this extent's head. The caller holds no tree lock: the runner
    /// needs the extent tree.
    pub fn wait_until_run(&self, bytenr: Logical) {
        let shard = self.shard(bytenr);
        let mut heads = shard.heads.lock();
        while heads.get(&bytenr).is_some_and(|entry| entry.running) {
            shard.run.wait(&mut heads);
        }
    }

    /// Takes up to `heads_max` heads to be run, neighbours by address. Empty when nothing waits
    /// that isn't being run already.
    pub fn take_batch(&self, heads_max: usize) -> Vec<RunningHead<'_>> {
        let mut batch = Vec::new();
        // Relaxed: only fairness between shards hangs on it.
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        for i in 0..SHARDS {
            let mut heads = self.shards[first.wrapping_add(i) % SHARDS].heads.lock();
            for (&bytenr, entry) in heads.iter_mut() {
                if batch.len() == heads_max {
                    return batch;
                }
                if !entry.running && !entry.head.is_void() {
                    entry.running = true;
                    let mut head = RefHead::new(
                        bytenr,
                        entry.head.num_bytes,
                        entry.head.is_data,
                        entry.head.level,
                    );
                    std::mem::swap(&mut head, &mut entry.head);
                    batch.push(RunningHead { owner: self, head });
                }
            }
        }
        batch
    }

    /// How many heads there are, also those being run: a hint while writers run.
    pub fn len(&self) -> usize {
        // Relaxed: see `with_head`.
        self.len.load(Ordering::Relaxed)
    }

    /// Whether nothing waits and nothing is being run.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn finished(&self, bytenr: Logical) {
        let shard = self.shard(bytenr);
        let mut heads = shard.heads.lock();
        if let Some(entry) = heads.get_mut(&bytenr) {
            entry.running = false;
            if entry.head.is_void() {
                heads.remove(&bytenr);
                // Relaxed: see `with_head`.
                self.len.fetch_sub(1, Ordering::Relaxed);
            }
        }
        drop(heads);
        shard.run.notify_all();
    }
}

/// The right to tell the extent tree about one head; dropping it says that it is done (after
/// an error the transaction aborts, so there is no giving back).
pub struct RunningHead<'a> {
    owner: &'a DelayedRefs,
    /// The changes to apply.
    pub head: RefHead,
}

impl Drop for RunningHead<'_> {
    fn drop(&mut self) {
        self.owner.finished(self.head.bytenr);
    }
}

#[cfg(test)]
#[path = "delayed_refs/tests.rs"]
mod tests;
