//! Which inodes have content in memory, and how much that may be.
//!
//! Owns: the mount's bound on delayed bytes, and the inodes in the order in which they began to
//! gather. Invariant: an inode is in the queue, and kept alive by it, exactly while it has dirty
//! ranges or a flush of them is under way; so who waits for all flushes misses none. A writer
//! that finds the bound passed flushes the oldest ones itself: whoever writes faster than the
//! disk waits for the disk.

use super::data::State;
use super::flush::flush_inode;
use crate::btree::Root;
use crate::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::inode::Inode;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};
use std::collections::BTreeMap;

/// Inodes that may gather at once: each holds a reservation.
pub const INODES_MAX: usize = 4096;

/// The mount's delayed content.
pub struct DelayedData {
    bound_bytes: u64,
    bytes: AtomicU64,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    next_place: u64,
    /// With dirty ranges, oldest first.
    waiting: BTreeMap<u64, Arc<Inode>>,
    /// Taken up by a flush.
    flushing: BTreeMap<u64, Arc<Inode>>,
}

impl DelayedData {
    /// Nothing yet, and never much more than `bound_bytes`.
    pub fn new(bound_bytes: u64) -> Self {
        Self {
            bound_bytes,
            bytes: AtomicU64::new(0),
            queue: Mutex::default(),
        }
    }

    /// Bytes in memory that have no extents yet, over all inodes.
    pub fn bytes(&self) -> u64 {
        // Relaxed, here and below: a bound, not an account; nothing is published through it.
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn subtract_bytes(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The inode has dirty ranges; `state` is its own.
    pub(super) fn enter(&self, inode: &Arc<Inode>, state: &mut State) {
        if state.place.is_none() {
            let mut queue = self.queue.lock();
            queue.next_place += 1;
            let place = queue.next_place;
            queue.waiting.insert(place, inode.clone());
            state.place = Some(place);
        }
    }

    /// A flush has taken the dirty ranges; to be told to [`DelayedData::leave`] at its end.
    pub(super) fn take_up(&self, state: &mut State) -> Option<u64> {
        let place = state.place.take()?;
        let mut queue = self.queue.lock();
        if let Some(inode) = queue.waiting.remove(&place) {
            queue.flushing.insert(place, inode);
        }
        Some(place)
    }

    /// The flush is over.
    pub(super) fn leave(&self, place: Option<u64>) {
        let Some(place) = place else { return };
        let gone = self.queue.lock().flushing.remove(&place);
        // Its last user perhaps: dropped without the lock.
        drop(gone);
    }

    fn is_over(&self, share: u64) -> bool {
        self.bytes() > self.bound_bytes / share
            || self.queue.lock().waiting.len() > INODES_MAX / share as usize
    }

    fn oldest(&self) -> Option<Arc<Inode>> {
        self.queue
            .lock()
            .waiting
            .first_key_value()
            .map(|(_, inode)| inode.clone())
    }

    fn all(&self) -> Vec<Arc<Inode>> {
        let queue = self.queue.lock();
        queue
            .flushing
            .values()
            .chain(queue.waiting.values())
            .cloned()
            .collect()
    }
}

/// Flushes the oldest inodes while the bound is passed. Before any lock of the caller's.
///
/// # Errors
/// Only [`Error::NoSpace`]: what found none stays in memory, and no more can come.
pub(super) fn throttle(fs: &Filesystem) -> Result<()> {
    if !fs.delayed_data.is_over(1) {
        return Ok(());
    }
    while fs.delayed_data.is_over(2)
        && let Some(inode) = fs.delayed_data.oldest()
    {
        match flush_inode(fs, &inode) {
            Ok(()) => {}
            Err(Error::NoSpace) => return Err(Error::NoSpace),
            // A failure waits in the inode for its next fsync; this writer has no part in it.
            Err(error) => {
                log::error!("writing back inode {}: {error}", inode.objectid);
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Flushes every inode that had content in memory when it began, and waits for the flushes
/// that others do.
///
/// # Errors
/// The first failure; the others are flushed all the same.
pub fn flush_all(fs: &Filesystem) -> Result<()> {
    let mut first_error = Ok(());
    for inode in fs.delayed_data.all() {
        let flushed = flush_inode(fs, &inode);
        if first_error.is_ok() {
            first_error = flushed;
        }
    }
    first_error
}

/// As [`flush_all`], for who is to find all content in the tree `root`.
///
/// # Errors
/// [`Error::NoSpace`]: some of that content found none, and waits. Other failures are their files' to tell.
pub fn flush_into(fs: &Filesystem, root: &Root) -> Result<()> {
    let mut complete = Ok(());
    for inode in fs.delayed_data.all() {
        match flush_inode(fs, &inode) {
            Ok(()) => {}
            Err(Error::NoSpace) if inode.root.objectid == root.objectid => {
                complete = Err(Error::NoSpace);
            }
            Err(error) => log::warn!("writing back inode {}: {error}", inode.objectid),
        }
    }
    complete
}
