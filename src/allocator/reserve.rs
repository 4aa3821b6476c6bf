//! Reservations: no space is said before the first edit, or never.
//!
//! Owns: what is promised to whom. Invariant: what is promised to metadata, with the global
//! reserve on top, fits into free metadata bytes plus chunks that can really still be made; so
//! a transaction that reserved never fails for space.
//! The exception is the very end of what somebody else has filled: there the first removal after a commit
//! counts on what commits are likely to take ([`super::estimate`]). Were that too little, the commit would
//! abort, and the last one stand.
//!
//! What the commit's own trees may still need is kept from everybody: nobody has reserved anything
//! for the extents whose changes wait for it. Operations that free space ([`Steal::Yes`]) get the
//! room above it that others leave, so that `rm` works on a full filesystem. docs/allocation.md
//! says why that is enough.

use super::state::{METADATA, State};
use super::{Kind, Space};
use crate::error::{Error, Result};
use crate::sync::{Arc, MutexGuard, Weak};
use crate::units::Logical;

/// Node changes counted for the first item of a reservation: a path of copies with a split on
/// the way.
const FIRST_ITEM_NODES: u64 = 8;
/// Node changes counted for each further item: mostly in leaves that the first one copied.
const NEXT_ITEM_NODES: u64 = 4;
/// Node changes counted for an item that is changed in place, later and with others.
const UPDATED_ITEM_NODES: u64 = 2;
/// What one stealing operation may need, with the inode items that wait because of it.
const STEAL_LEAST_NODES: u64 = 40;
/// Above this a filesystem has room enough for any number of removals between two commits.
const STEAL_MOST_BYTES: u64 = 16 << 20;
/// Right after a commit one removal, alone, leaves so many nodes beside what the commit copies: more than
/// [`LAST_NODES`] and what it takes itself in a subvolume that a snapshot shares.
const ALONE_NODES: u64 = 48;
/// Right after a commit dropping a subvolume leaves so many nodes beside what the commit copies.
const LAST_NODES: u64 = 8;

/// Extents that an operation may free after one reservation on a full filesystem: the commit finds
/// what they need in what even stealing operations leave to it.
pub const FREED_WHEN_FULL: usize = 32;

/// Item changes that such an operation gets: 28 nodes, which leaves some of [`STEAL_LEAST_NODES`] to the
/// inode items that wait because of it.
const ITEMS_WHEN_FULL: u64 = 6;

/// Whether the operation frees space in the end and may use the global reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steal {
    /// An ordinary operation.
    No,
    /// Unlink, truncate, orphan cleanup. Where a snapshot has the same blocks, these free nothing.
    Yes,
    /// Deleting a subvolume and dropping it, which always does in the end; and content that a program was
    /// told is written.
    Last,
}

/// How much the running transaction may have done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    /// Anything.
    Any,
    /// Next to nothing: it has just begun.
    Fresh,
}

/// Who can turn promised and pinned bytes into free ones: the committer.
pub trait Reclaim: Send + Sync {
    /// Writes what waits in memory for the commit into the trees, which takes a part of the space
    /// that is promised to it; commits nothing. False: there is nobody who could.
    fn settle(&self) -> bool {
        false
    }

    /// Commits, if that can free anything. False: trying again is useless.
    fn reclaim(&self) -> bool;
}

/// Metadata bytes promised to one operation; given back on drop.
#[must_use = "dropping it gives the bytes back"]
pub struct MetaReservation {
    space: Arc<Space>,
    bytes: u64,
}

impl MetaReservation {
    /// What is left of it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Splits `bytes` off, at most what is there.
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            space: self.space.clone(),
            bytes,
        }
    }

    /// Takes another one in.
    pub fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for MetaReservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.space.lock().pools[METADATA].may_use -= self.bytes;
        }
    }
}

impl std::fmt::Debug for MetaReservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MetaReservation({})", self.bytes)
    }
}

/// Data bytes promised to a range that isn't allocated yet; given back on drop.
#[must_use = "dropping it gives the bytes back"]
pub struct DataReservation {
    space: Arc<Space>,
    bytes: u64,
}

impl DataReservation {
    /// What is left of it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Splits `bytes` off, at most what is there.
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            space: self.space.clone(),
            bytes,
        }
    }

    /// Takes another one in.
    pub fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// `bytes` were allocated (or aren't needed): they leave the promise.
    fn consume(&mut self, bytes: u64) {
        drop(self.split(bytes));
    }
}

impl Drop for DataReservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let mut state = self.space.lock();
            let pool = state.pool_of(Kind::Data);
            state.pools[pool].may_use -= self.bytes;
        }
    }
}

impl std::fmt::Debug for DataReservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataReservation({})", self.bytes)
    }
}

impl Space {
    /// Installs the one who can free pinned bytes.
    pub fn set_reclaim(&self, reclaim: Weak<dyn Reclaim>) {
        *self.reclaim.write() = Some(reclaim);
    }

    /// Says how to learn how many extents wait for a commit to write their changes down. Only the
    /// first call counts. `count` is called without a lock of the allocator.
    pub fn count_waiting_extents_with(&self, count: impl Fn() -> usize + Send + Sync + 'static) {
        let _only_the_first = self.waiting_extents.set(Box::new(count));
    }

    /// The state, with the extents that wait counted.
    pub(super) fn lock_counted(&self) -> MutexGuard<'_, State> {
        let waiting = self.waiting_extents.get().map_or(0, |count| count());
        let mut state = self.lock();
        state.waiting_extents = waiting as u64;
        state
    }

    /// What to keep for the commit's own trees, and how large they are.
    pub fn set_global_reserve(&self, bytes: u64, trees_bytes: u64) {
        let mut state = self.lock();
        state.global_reserve = bytes;
        state.commit_trees_bytes = trees_bytes;
    }

    /// The bytes to reserve for `items` item changes.
    pub fn item_bytes(&self, items: u64) -> u64 {
        match items {
            0 => 0,
            items => self.nodesize() * (FIRST_ITEM_NODES + NEXT_ITEM_NODES * (items - 1)),
        }
    }

    /// The bytes to reserve for `items` changes in place that wait for a commit: each copies a
    /// leaf at most, and a leaf's ancestors are shared by hundreds.
    pub fn item_update_bytes(&self, items: u64) -> u64 {
        self.nodesize() * UPDATED_ITEM_NODES * items
    }

    /// The bytes to reserve for `extents` changes of extents that come up in a commit's critical
    /// section, where nobody looks again whether the commit's part suffices: so much it can grow by
    /// them, whatever waits already. docs/allocation.md says why.
    pub fn late_extents_bytes(&self, extents: u64) -> u64 {
        self.lock_counted().late_bytes(extents, self.nodesize())
    }

    /// Promises metadata bytes, or says that there is no space.
    ///
    /// A refusal comes only after a commit has made pinned bytes free, so the caller holds no
    /// transaction handle and no lock that the commit needs.
    pub fn reserve_metadata(self: &Arc<Self>, bytes: u64, steal: Steal) -> Result<MetaReservation> {
        let commits = match steal {
            Steal::No => 1,
            Steal::Yes | Steal::Last => COMMITS_TO_STEAL,
        };
        self.with_reclaim(METADATA, commits, |age| self.reserve_now(bytes, steal, age))
    }

    /// As [`Space::reserve_metadata`], from what is free now: nothing is written to find more.
    pub fn try_reserve_metadata(
        self: &Arc<Self>,
        bytes: u64,
        steal: Steal,
    ) -> Result<MetaReservation> {
        self.reserve_now(bytes, steal, Age::Any)
    }

    fn reserve_now(
        self: &Arc<Self>,
        bytes: u64,
        steal: Steal,
        age: Age,
    ) -> Result<MetaReservation> {
        let mut state = self.lock_counted();
        if !state.metadata_fits(bytes, steal, age, self.nodesize()) {
            return Err(Error::NoSpace);
        }
        state.pools[METADATA].may_use += bytes;
        drop(state);
        Ok(MetaReservation {
            space: self.clone(),
            bytes,
        })
    }

    /// For an operation that removes items or frees extents: true when the commit could write down the
    /// change of every extent there is, so that the operation may free as many as it likes at once. Else
    /// it frees a few ([`FREED_WHEN_FULL`], of items that lie side by side), for which it gets no more than
    /// others leave, and asks again.
    pub fn reserve_freeing(
        self: &Arc<Self>,
        bytes: u64,
        steal: Steal,
    ) -> Result<(MetaReservation, bool)> {
        match self.try_reserve_metadata(bytes, Steal::No) {
            Ok(reservation) => Ok((reservation, true)),
            Err(_) => {
                let bytes = bytes.min(self.item_bytes(ITEMS_WHEN_FULL));
                Ok((self.reserve_metadata(bytes, steal)?, false))
            }
        }
    }

    /// Whether anybody has a metadata reservation.
    pub fn is_promised(&self) -> bool {
        self.lock().pools[METADATA].may_use > 0
    }

    /// An empty reservation, for callers that need nothing but a handle.
    pub fn no_metadata(self: &Arc<Self>) -> MetaReservation {
        MetaReservation {
            space: self.clone(),
            bytes: 0,
        }
    }

    /// Promises data bytes, rounded up to sectors; makes a chunk when that helps. See
    /// [`Space::reserve_metadata`] about locks.
    pub fn reserve_data(self: &Arc<Self>, bytes: u64) -> Result<DataReservation> {
        let pool = self.lock().pool_of(Kind::Data);
        self.with_reclaim(pool, 1, |_| self.try_reserve_data(bytes))
    }

    /// As [`Space::reserve_data`], from what is free now and chunks that can be made.
    pub fn try_reserve_data(self: &Arc<Self>, bytes: u64) -> Result<DataReservation> {
        let bytes = bytes
            .checked_next_multiple_of(self.sectorsize())
            .ok_or(Error::NoSpace)?;
        let mut state = self.lock_counted();
        let pool = state.pool_of(Kind::Data);
        let wanted = state.pools[pool].may_use.saturating_add(bytes);
        // Before the first chunk: what can't fit must not turn all that is left into data
        // chunks. In a mixed filesystem those that can still be made count as free.
        let fits = match state.mixed {
            true => state.metadata_fits(bytes, Steal::No, Age::Any, self.nodesize()),
            false => {
                wanted <= state.pools[pool].free || state.data_can_reach(wanted, self.nodesize())
            }
        };
        if !fits {
            return Err(Error::NoSpace);
        }
        while !state.mixed && wanted > state.pools[pool].free {
            self.allocate_data_chunk_locked(&mut state, Kind::Data)?;
        }
        state.pools[pool].may_use += bytes;
        drop(state);
        Ok(DataReservation {
            space: self.clone(),
            bytes,
        })
    }

    /// A data extent of at most `want` and at least `min` bytes out of a reservation, at `hint`
    /// if that is free.
    pub fn alloc_data(
        &self,
        reservation: &mut DataReservation,
        want: u64,
        min: u64,
        hint: Option<Logical>,
    ) -> Result<(Logical, u64)> {
        debug_assert!(want <= reservation.bytes && min <= want);
        let (at, len) = self.alloc_data_unreserved(want, min, hint)?;
        reservation.consume(len);
        Ok((at, len))
    }

    /// Asks now, and when what waits has been written, and after each of up to `commits` commits.
    fn with_reclaim<T>(
        &self,
        pool: usize,
        commits: u32,
        attempt: impl Fn(Age) -> Result<T>,
    ) -> Result<T> {
        match attempt(Age::Any) {
            Err(Error::NoSpace) => {}
            other => return other,
        }
        let (hopeful, waiting) = {
            let state = self.lock_counted();
            // Promises for inode items that wait for a commit count many nodes each.
            let waiting = state.waiting_extents > 0
                || state.pools[METADATA].may_use > WAITING_FLOOR_NODES * self.nodesize();
            let hopeful = waiting
                || state.pools[pool].usage.pinned > 0
                || state.groups.values().any(|group| group.usage.used == 0)
                || state.pools.iter().any(|pool| pool.usage.pinned > 0);
            (hopeful, waiting)
        };
        let reclaim = self.reclaim.read().as_ref().and_then(Weak::upgrade);
        let Some(reclaim) = reclaim.filter(|_| hopeful) else {
            // Nothing was changed since the last commit.
            return attempt(Age::Fresh);
        };
        // Written items need a fraction of what was promised to them or counted for them, and a
        // commit is dear.
        if waiting && reclaim.settle() {
            match attempt(Age::Any) {
                Err(Error::NoSpace) => {}
                other => return other,
            }
        }
        for _ in 0..commits {
            if !reclaim.reclaim() {
                return Err(Error::NoSpace);
            }
            match attempt(Age::Fresh) {
                Err(Error::NoSpace) => {}
                other => return other,
            }
            // Others' commits hold the space of their copies, and what others free meanwhile waits for one:
            // without any of that another commit changes nothing.
            let state = self.lock_counted();
            if state.pools[METADATA].usage.pinned == 0 && state.waiting_extents == 0 {
                break;
            }
        }
        Err(Error::NoSpace)
    }
}

/// Commits that somebody who frees space waits for, before there is none: next to others who commit for
/// space as well, one of them is always in the middle.
const COMMITS_TO_STEAL: u32 = 16;

/// With fewer promised nodes than this a commit wouldn't give back enough to be worth it: a
/// full filesystem must not commit for each refused operation.
const WAITING_FLOOR_NODES: u64 = 256;

impl State {
    /// What those leave free who don't steal: the commit's part, and room for stealing.
    fn kept_from_others(&self, commit: u64, nodesize: u64) -> u64 {
        let least = STEAL_LEAST_NODES * nodesize;
        let room = (self.pools[METADATA].total / 64).clamp(least, STEAL_MOST_BYTES.max(least));
        (commit + room).max(self.global_reserve + self.waiting_bytes())
    }

    /// Bytes that metadata is promised: reservations, and what is kept from them.
    pub(super) fn metadata_promised(&self, nodesize: u64) -> u64 {
        let commit = self.commit_bytes(0, nodesize);
        self.pools[METADATA].may_use + self.kept_from_others(commit, nodesize)
    }

    fn metadata_fits(&self, bytes: u64, steal: Steal, age: Age, nodesize: u64) -> bool {
        let pool = &self.pools[METADATA];
        let kind = if self.mixed {
            Kind::Mixed
        } else {
            Kind::Metadata
        };
        let promised = pool.may_use.saturating_add(bytes);
        let commit = self.commit_bytes(promised / nodesize, nodesize);
        let first = || self.first_commit_nodes(promised, nodesize);
        let kept = match (steal, age) {
            (Steal::No, _) => self.kept_from_others(commit, nodesize),
            (_, Age::Any) => commit,
            // Alone it frees so few extents that hardly anything is split.
            (Steal::Yes, Age::Fresh)
                if promised <= STEAL_LEAST_NODES * nodesize
                    && self.waiting_extents <= FREED_WHEN_FULL as u64 =>
            {
                commit.min((first() + ALONE_NODES) * nodesize)
            }
            (Steal::Yes, Age::Fresh) => {
                let copies = self.copied_whole_nodes(nodesize);
                commit.min((copies + copies / 8) * nodesize + self.beside_bytes(nodesize))
            }
            (Steal::Last, Age::Fresh) => commit.min((first() + LAST_NODES) * nodesize),
        };
        let wanted = promised.saturating_add(kept);
        // Looking at the devices' holes costs more, and is rarely needed.
        let fits = wanted <= pool.free || wanted <= pool.free + self.room(kind);
        if !fits && age == Age::Fresh {
            log::debug!(
                "no space for {bytes} bytes of metadata: {} promised, {kept} kept for the commit and others, \
                 {} free, {} extents wait, {steal:?}",
                pool.may_use,
                pool.free,
                self.waiting_extents
            );
        }
        fits
    }
}
