//! One transaction: everything changed under one generation.
//!
//! Owns: the lists that `btree` and `fs` fill and `commit` drains. Never: who may enter; that is
//! `join.rs`.

use super::delayed_refs::DelayedRefs;
use super::dirty::DirtyBlocks;
use super::unlogged::Unlogged;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::units::Generation;
use std::collections::BTreeSet;

/// A running or committing transaction.
pub struct Transaction {
    transid: Generation,
    /// Extent references to be written.
    pub delayed_refs: DelayedRefs,
    /// Tree blocks to be written.
    pub dirty_blocks: DirtyBlocks,
    /// Edits that an fsync can't log.
    pub unlogged: Unlogged,
    /// Trees whose root node moved, by objectid: their root items are to be written.
    dirty_roots: Mutex<BTreeSet<u64>>,
    joined: AtomicU64,
}

impl Transaction {
    pub(super) fn new(transid: Generation) -> Self {
        Self {
            transid,
            delayed_refs: DelayedRefs::default(),
            dirty_blocks: DirtyBlocks::default(),
            unlogged: Unlogged::default(),
            dirty_roots: Mutex::default(),
            joined: AtomicU64::new(0),
        }
    }

    /// The generation of everything that is written in it.
    pub fn transid(&self) -> Generation {
        self.transid
    }

    /// Remembers that a tree's root node or item changed; true if that is news.
    pub fn add_dirty_root(&self, objectid: u64) -> bool {
        self.dirty_roots.lock().insert(objectid)
    }

    /// The trees whose root items are to be written, by objectid; the list is empty afterwards.
    pub fn take_dirty_roots(&self) -> BTreeSet<u64> {
        std::mem::take(&mut *self.dirty_roots.lock())
    }

    /// Whether a tree's root item is to be written.
    pub fn is_dirty_root(&self, objectid: u64) -> bool {
        self.dirty_roots.lock().contains(&objectid)
    }

    /// How often writers have joined.
    pub fn joined(&self) -> u64 {
        // Relaxed: a statistic.
        self.joined.load(Ordering::Relaxed)
    }

    pub(super) fn count_join(&self) {
        // Relaxed: a statistic.
        self.joined.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a commit would have nothing to write: nobody changed a tree.
    pub fn is_unchanged(&self) -> bool {
        self.dirty_blocks.is_empty()
            && self.delayed_refs.is_empty()
            && self.dirty_roots.lock().is_empty()
    }
}
