//! [`EbRef`]: one user's count on an extent buffer, dropped when it goes out of scope.
//!
//! Owns: the count. Never: the lock on the bytes, which the guards hold.

use std::fmt;
use std::time::Duration;

use super::cache;
use super::events::Event;
use super::flags::{DIRTY, Flags, STALE, UPTODATE, WRITEBACK};
use super::guards::{ReadGuard, WriteGuard};
use super::lifetime::Lifetime;
use super::protocol::{Protocol, Put};
use super::slots::Slot;
use crate::sync::race_point::Point;
use crate::units::{Generation, Logical};

/// How long a lock is waited for before the reason to want it is looked at again.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// A counted handle on a tree block in the cache. While it exists, the buffer keeps its
/// address; the contents are read and written under the buffer's lock.
pub struct EbRef {
    slot: &'static Slot,
}

impl EbRef {
    /// Wraps a count that the caller owns.
    #[inline]
    pub(super) fn from_count(slot: &'static Slot) -> Self {
        Self { slot }
    }

    /// The memory.
    #[inline]
    pub(super) fn slot(&self) -> &'static Slot {
        self.slot
    }

    /// The block's address.
    #[inline]
    pub fn bytenr(&self) -> Logical {
        Logical(self.slot.life.bytenr())
    }

    /// The generation of the block, as of just now; only meaningful when [`Self::is_uptodate`].
    #[inline]
    pub fn generation(&self) -> Generation {
        Generation(self.slot.generation())
    }

    /// The level of the block, as of just now; only meaningful when [`Self::is_uptodate`].
    #[inline]
    pub fn level(&self) -> u8 {
        self.slot.level()
    }

    /// The tree that the block was made for, as of just now; only meaningful when
    /// [`Self::is_uptodate`].
    #[inline]
    pub fn owner(&self) -> u64 {
        self.slot.owner()
    }

    /// Whether the bytes are the block's.
    #[inline]
    pub fn is_uptodate(&self) -> bool {
        self.slot.life.has_acquire(UPTODATE)
    }

    /// Whether the block is newer than the disk, as of just now. Final under its write lock.
    #[inline]
    pub fn is_dirty(&self) -> bool {
        self.slot.life.has(DIRTY)
    }

    /// Whether the block was freed and not allocated again.
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.slot.life.has(STALE)
    }

    /// Whether a copy of the block is on its way to the disk.
    #[inline]
    pub fn is_under_writeback(&self) -> bool {
        self.slot.life.has(WRITEBACK)
    }

    /// The count as of just now, for reports and tests.
    pub fn refs(&self) -> u32 {
        self.slot.refs()
    }

    /// The flags as of just now, for reports and tests.
    pub fn flags(&self) -> Flags {
        self.slot.life.flags()
    }

    /// Whether both handles are of one buffer.
    #[inline]
    pub fn same(&self, other: &Self) -> bool {
        std::ptr::eq(self.slot, other.slot)
    }

    /// Waits for the lock to read the block.
    #[inline]
    pub fn read(&self) -> ReadGuard {
        self.clone().into_read()
    }

    /// Waits for the lock to change the block.
    #[inline]
    pub fn write(&self) -> WriteGuard {
        self.clone().into_write()
    }

    /// [`Self::read`] with this handle's own count.
    #[inline]
    pub fn into_read(self) -> ReadGuard {
        ReadGuard::new(self.slot.bytes.read(), self)
    }

    /// [`Self::write`] with this handle's own count.
    #[inline]
    pub fn into_write(self) -> WriteGuard {
        WriteGuard::new(self.slot.bytes.write(), self)
    }

    /// [`Self::into_read`] for a caller who holds other locks and found the buffer by a pointer
    /// that may be out of date: `wanted` is asked again and again while the lock is taken, so
    /// that a wait for somebody who waits for the caller ends. `None`: no longer wanted.
    pub fn into_read_while(self, wanted: impl Fn(&Self) -> bool) -> Option<ReadGuard> {
        loop {
            if let Some(bytes) = self.slot.bytes.try_read_for(ASK_AGAIN) {
                return Some(ReadGuard::new(bytes, self));
            }
            if !wanted(&self) {
                return None;
            }
        }
    }

    /// [`Self::into_write`] in the same way.
    pub fn into_write_while(self, wanted: impl Fn(&Self) -> bool) -> Option<WriteGuard> {
        loop {
            if let Some(bytes) = self.slot.bytes.try_write_for(ASK_AGAIN) {
                return Some(WriteGuard::new(bytes, self));
            }
            if !wanted(&self) {
                return None;
            }
        }
    }

    /// [`Self::read`] if nobody writes just now.
    pub fn try_read(&self) -> Option<ReadGuard> {
        self.slot
            .bytes
            .try_read()
            .map(|bytes| ReadGuard::new(bytes, self.clone()))
    }

    /// [`Self::write`] if nobody holds the lock just now.
    pub fn try_write(&self) -> Option<WriteGuard> {
        self.slot
            .bytes
            .try_write()
            .map(|bytes| WriteGuard::new(bytes, self.clone()))
    }

    /// The block was freed: its buffer goes when nobody uses it (`free_extent_buffer_stale`).
    pub fn free_stale(self) {
        let slot = self.slot;
        std::mem::forget(self);
        let put = slot.rules().put_stale(&slot.life);
        settle(slot, put);
    }

    pub(super) fn life(&self) -> &'static Lifetime {
        &self.slot.life
    }
}

/// Does what a drop owes.
#[inline]
pub(super) fn settle(slot: &'static Slot, put: Put) {
    match put {
        Put::Shared => {}
        Put::Last => cache::release(slot),
        Put::Underflow => cache::report_underflow(slot),
    }
}

impl Clone for EbRef {
    #[inline]
    fn clone(&self) -> Self {
        self.slot.rules().get(&self.slot.life);
        self.slot.life.note(Event::Got);
        Self { slot: self.slot }
    }
}

impl Drop for EbRef {
    #[inline]
    fn drop(&mut self) {
        self.slot.life.stand_at(Point::DropEnter);
        let put = self.slot.rules().put(&self.slot.life);
        settle(self.slot, put);
    }
}

impl fmt::Debug for EbRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "EbRef({}, refs {}, {})",
            self.bytenr(),
            self.refs(),
            self.flags()
        )
    }
}
