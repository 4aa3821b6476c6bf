//! Which inodes have content in memory, and how much that may be.
//!
//! Owns: the mount's bound on delayed bytes, and the queue of inodes in the order in which they
//! began to gather. An inode with content in memory is in the queue, and the queue keeps it
//! alive. A writer that finds the bound passed flushes the oldest ones itself: whoever writes
//! faster than the disk waits for the disk.

use super::flush::flush_inode;
use crate::error::Result;
use crate::fs::filesystem::Filesystem;
use crate::fs::inode::Inode;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};
use std::collections::VecDeque;

/// Inodes that may gather at once: each holds a reservation.
const INODES_MAX: usize = 4096;

/// The mount's delayed content.
pub struct DelayedData {
    bound_bytes: u64,
    bytes: AtomicU64,
    queue: Mutex<VecDeque<Arc<Inode>>>,
}

impl DelayedData {
    /// Nothing yet, and never much more than `bound_bytes`.
    pub fn new(bound_bytes: u64) -> Self {
        Self {
            bound_bytes,
            bytes: AtomicU64::new(0),
            queue: Mutex::new(VecDeque::new()),
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

    /// Puts an inode at the end. The caller has just set its `queued`.
    pub(super) fn push(&self, inode: Arc<Inode>) {
        self.queue.lock().push_back(inode);
    }

    fn is_over(&self, share: u64) -> bool {
        self.bytes() > self.bound_bytes / share || self.queue.lock().len() > INODES_MAX
    }

    /// Takes the oldest one out.
    fn pop(&self) -> Option<Arc<Inode>> {
        let inode = self.queue.lock().pop_front()?;
        inode.data.state.lock().queued = false;
        Some(inode)
    }
}

/// Flushes the oldest inodes while the bound is passed. Before any lock of the caller's.
pub(super) fn throttle(fs: &Filesystem) {
    if !fs.delayed_data.is_over(1) {
        return;
    }
    while fs.delayed_data.is_over(2) {
        let Some(inode) = fs.delayed_data.pop() else {
            return;
        };
        // A failure waits in the inode for its next fsync; this writer has no part in it.
        if let Err(error) = flush_inode(fs, &inode) {
            log::error!("writing back inode {}: {error}", inode.objectid);
        }
    }
}

/// Flushes every inode that had content in memory when it began.
///
/// # Errors
/// The first failure; the others are flushed all the same.
pub fn flush_all(fs: &Filesystem) -> Result<()> {
    let mut first_error = Ok(());
    let waiting = fs.delayed_data.queue.lock().len();
    for _ in 0..waiting {
        let Some(inode) = fs.delayed_data.pop() else {
            break;
        };
        let flushed = flush_inode(fs, &inode);
        if first_error.is_ok() {
            first_error = flushed;
        }
    }
    first_error
}
