//! A locked extent buffer: its bytes to read, or to change.
//!
//! Owns: the lock, and the count that keeps the buffer. Invariants: DIRTY is set and cleared
//! only under the write lock; the lock goes before the count does.

use std::ops::{Deref, DerefMut};

use super::buffer::EbRef;
use super::cache;
use super::flags::UPTODATE;
use super::protocol::Protocol;
use crate::ondisk::tree_block::{self, Header};
use crate::sync::{RwLockReadGuard, RwLockWriteGuard};
use crate::units::{Generation, Logical};

/// A tree block, locked to be read. Dereferences to its bytes.
#[derive(Debug)]
pub struct ReadGuard {
    // Fields drop in this order: first the lock, then the count.
    bytes: RwLockReadGuard<'static, Box<[u8]>>,
    eb: EbRef,
}

impl ReadGuard {
    #[inline]
    pub(super) fn new(bytes: RwLockReadGuard<'static, Box<[u8]>>, eb: EbRef) -> Self {
        Self { bytes, eb }
    }

    /// The buffer.
    #[inline]
    pub fn eb(&self) -> &EbRef {
        &self.eb
    }

    /// The block's address.
    #[inline]
    pub fn bytenr(&self) -> Logical {
        self.eb.bytenr()
    }

    /// The block's header.
    #[inline]
    pub fn header(&self) -> &Header {
        tree_block::header(&self.bytes)
    }

    /// Unlocks, and keeps the count.
    #[inline]
    pub fn into_ref(self) -> EbRef {
        self.eb
    }
}

impl Deref for ReadGuard {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A tree block, locked to be changed. Dereferences to its bytes.
#[derive(Debug)]
pub struct WriteGuard {
    // Fields drop in this order: first the lock, then the count.
    bytes: RwLockWriteGuard<'static, Box<[u8]>>,
    eb: EbRef,
}

impl WriteGuard {
    #[inline]
    pub(super) fn new(bytes: RwLockWriteGuard<'static, Box<[u8]>>, eb: EbRef) -> Self {
        Self { bytes, eb }
    }

    /// The buffer.
    #[inline]
    pub fn eb(&self) -> &EbRef {
        &self.eb
    }

    /// The block's address.
    #[inline]
    pub fn bytenr(&self) -> Logical {
        self.eb.bytenr()
    }

    /// The block's header.
    #[inline]
    pub fn header(&self) -> &Header {
        tree_block::header(&self.bytes)
    }

    /// The block's header, to be changed.
    #[inline]
    pub fn header_mut(&mut self) -> &mut Header {
        tree_block::header_mut(&mut self.bytes)
    }

    /// Unlocks, and keeps the count.
    #[inline]
    pub fn into_ref(self) -> EbRef {
        self.eb
    }

    /// Lets readers in without a moment in which another writer could come first.
    #[inline]
    pub fn downgrade(self) -> ReadGuard {
        ReadGuard::new(RwLockWriteGuard::downgrade(self.bytes), self.eb)
    }

    /// The block is newer than the disk and goes there with its transaction
    /// (`btrfs_mark_buffer_dirty`). The transaction remembers the address, not a count.
    #[inline]
    pub fn mark_dirty(&mut self) {
        let slot = self.eb.slot();
        if slot.rules().set_dirty(&slot.life) {
            cache::account_dirty(slot);
        }
    }

    /// The block needn't be written after all, if it was made in the `running` transaction
    /// (`btrfs_clean_tree_block`); true when it was dirty. A block of the transaction before,
    /// which is being committed, stays dirty: the committed trees need it.
    pub fn clear_dirty(&mut self, running: Generation) -> bool {
        if self.header().generation.get() != running.0 {
            return false;
        }
        let slot = self.eb.slot();
        let was_dirty = slot.rules().clear_dirty(&slot.life);
        if was_dirty {
            cache::account_clean(slot);
        }
        was_dirty
    }

    /// Unlocks; the block was freed, and its buffer goes when nobody uses it
    /// (`free_extent_buffer_stale`).
    pub fn free_stale(self) {
        self.into_ref().free_stale();
    }

    /// The bytes as a whole, for whoever fills or copies them.
    #[inline]
    pub(super) fn bytes_mut(&mut self) -> &mut Box<[u8]> {
        &mut self.bytes
    }

    /// Publishes the bytes as the block's.
    pub(super) fn set_uptodate(&mut self) {
        let slot = self.eb.slot();
        slot.set_header(self.header());
        // A full barrier: pairs with the Acquire of is_uptodate.
        slot.life.test_and_set(UPTODATE);
    }
}

impl Deref for WriteGuard {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for WriteGuard {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}
