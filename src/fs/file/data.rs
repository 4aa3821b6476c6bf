//! What an inode keeps of its content in memory.
//!
//! Owns: [`FileData`]: written ranges that have no extents yet (`dirty`), those that a flush is
//! moving to the disk (`flushing`, readable until their items are in the tree), and the space
//! promised to them. Invariant: data space is promised for every dirty byte, so a flush never
//! fails for want of it.
//!
//! Lock order: `flush` before `content` before `meta` before `state`. `flush` is held by
//! whatever changes extent items of the inode, so these stand still for its holder; `content`
//! is held exclusively only while items and memory change together.

use super::ranges::Ranges;
use crate::allocator::{DataReservation, MetaReservation};
use crate::error::Error;
use crate::fs::inode::Inode;
use crate::sync::{Arc, Mutex};
use crate::units::Logical;
use std::ops::Range;

/// An inode's content in memory.
#[derive(Debug, Default)]
pub struct FileData {
    /// Held by a flush, a truncation, a fallocate: one at a time.
    pub(super) flush: Mutex<()>,
    pub(super) state: Mutex<State>,
}

/// See [`FileData`].
#[derive(Debug, Default)]
pub(super) struct State {
    pub dirty: Ranges,
    pub flushing: Option<Arc<Ranges>>,
    /// For the dirty bytes; where it is short, the range lies in space that is already the
    /// file's (preallocated).
    pub data_space: Option<DataReservation>,
    /// For the items that the flush will write.
    pub item_space: Option<MetaReservation>,
    /// The first failure since the last fsync.
    pub error: Option<Error>,
    /// Its place in the mount's queue.
    pub place: Option<u64>,
    /// Where the last extent ended: the next one is best there.
    pub next_extent: Option<Logical>,
}

impl FileData {
    /// Nothing in memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies what is in memory of `at..at + buf.len()`, newest first, and returns the gaps.
    pub(super) fn read_delayed(&self, at: u64, buf: &mut [u8]) -> Vec<Range<u64>> {
        let state = self.state.lock();
        let gaps = state.dirty.read(at, buf);
        let Some(flushing) = &state.flushing else {
            return gaps;
        };
        gaps.into_iter()
            .flat_map(|gap| {
                let part = (gap.start - at) as usize..(gap.end - at) as usize;
                flushing.read(gap.start, &mut buf[part])
            })
            .collect()
    }
}

impl State {
    /// The first byte at or behind `at` that memory doesn't hold.
    pub fn next_gap(&self, at: u64) -> u64 {
        let mut here = at;
        loop {
            let flushing = self
                .flushing
                .as_ref()
                .map_or(here, |ranges| ranges.next_gap(here));
            let next = self.dirty.next_gap(flushing);
            if next == here {
                return here;
            }
            here = next;
        }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        self.dirty.bytes()
            + self
                .flushing
                .as_ref()
                .map_or(0, |flushing| flushing.bytes())
    }

    /// The first byte in memory at or behind `at`.
    pub fn next_held(&self, at: u64) -> Option<u64> {
        let flushing = self
            .flushing
            .as_ref()
            .and_then(|ranges| ranges.next_held(at));
        match (self.dirty.next_held(at), flushing) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// Bytes that were written and aren't on disk yet: part of what `st_blocks` shows.
pub fn delayed_bytes(inode: &Inode) -> u64 {
    inode.data.state.lock().bytes()
}

/// The failure that the next fsync has to tell, once.
pub fn take_error(inode: &Inode) -> Option<Error> {
    inode.data.state.lock().error.take()
}
