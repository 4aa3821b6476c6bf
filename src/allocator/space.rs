//! The allocator's verbs: loading, allocation, and the life of a range.
//!
//! Owns: which group serves a request. Never: waits for a commit while the lock is held (see
//! `reserve.rs` for the one place that waits at all).

use super::chunk::NewChunk;
use super::reserve::Reclaim;
use super::state::{DATA, METADATA, Pool, SYSTEM, State, add};
use super::{BlockGroup, DeviceSpace, Kind, PinnedSet, TreeSpace};
use crate::error::{Error, Result};
use crate::sync::{Mutex, MutexGuard, OnceLock, RwLock, Weak};
use crate::units::{DevId, Logical, MIB, Physical};

/// Makes a new chunk's mapping known to the volume.
pub type MapChunk = Box<dyn Fn(&NewChunk) -> Result<()> + Send + Sync>;

/// What a [`Space`] must know of the filesystem.
pub struct SpaceConfig {
    /// Allocation unit of data.
    pub sectorsize: u32,
    /// Size of a tree block.
    pub nodesize: u32,
    /// Makes a new chunk's mapping known to the volume.
    pub map_chunk: MapChunk,
}

/// The space of one mounted filesystem.
pub struct Space {
    pub(super) config: SpaceConfig,
    state: Mutex<State>,
    pub(super) reclaim: RwLock<Option<Weak<dyn Reclaim>>>,
    pub(super) waiting_extents: OnceLock<Box<dyn Fn() -> usize + Send + Sync>>,
}

impl Space {
    /// No group and no device yet.
    pub fn new(config: SpaceConfig) -> Self {
        Self {
            config,
            state: Mutex::new(State::default()),
            reclaim: RwLock::new(None),
            waiting_extents: OnceLock::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Size of a tree block.
    pub fn nodesize(&self) -> u64 {
        u64::from(self.config.nodesize)
    }

    /// Allocation unit of data.
    pub fn sectorsize(&self) -> u64 {
        u64::from(self.config.sectorsize)
    }

    /// Adds a device with its dev extents (start, len).
    pub fn add_device(
        &self,
        devid: DevId,
        total_bytes: u64,
        extents: impl IntoIterator<Item = (u64, u64)>,
    ) {
        let mut device = DeviceSpace::new(devid, total_bytes);
        for (at, len) in extents {
            device.take(at, len);
        }
        self.lock().devices.push(device);
    }

    /// Bytes in dev extents of a device: its item's `bytes_used`.
    pub fn device_used(&self, devid: DevId) -> Option<u64> {
        self.lock()
            .devices
            .iter()
            .find(|device| device.devid() == devid)
            .map(DeviceSpace::used)
    }

    /// Adds a block group. Nothing is allocated from it before [`Space::load_free`].
    pub fn add_group(
        &self,
        start: u64,
        len: u64,
        flags: u64,
        used: u64,
        stripes: Vec<(DevId, Physical)>,
    ) -> Result<()> {
        let kind = Kind::from_flags(flags).ok_or_else(|| {
            Error::corrupt(format!(
                "block group {start} has no usable type: flags {flags:#x}"
            ))
        })?;
        let mut state = self.lock();
        let has_apart =
            state.pools[DATA].total > 0 || !state.mixed && state.pools[METADATA].total > 0;
        let clash = match kind {
            Kind::Data | Kind::Metadata => state.mixed,
            Kind::Mixed => has_apart,
            Kind::System => false,
        };
        if clash {
            // They would be counted in one pool, and some are counted in others already.
            return Err(Error::corrupt(format!(
                "block group {start}: data and metadata have groups in common and groups of their own"
            )));
        }
        state.mixed |= kind == Kind::Mixed;
        state.insert_group(start, len, flags, kind, used, stripes);
        Ok(())
    }

    /// Opens a group for allocation with these free ranges; those under superblock copies are
    /// left out. Returns the free bytes without regard to superblocks.
    pub fn load_free(&self, group: u64, ranges: impl IntoIterator<Item = (u64, u64)>) -> u64 {
        let mut state = self.lock();
        state.change(group, |group| {
            for (at, len) in ranges {
                group.free.insert(at, len);
            }
            let bytes = group.free.bytes();
            group.usage.superblocks = 0;
            for &(at, len) in &group.superblocks {
                group.usage.superblocks += group.free.remove(at, len);
            }
            // Bytes that no list calls free and no counter calls used stay out of reach; so does
            // all that we can't write.
            group.closed = group.profile.is_none();
            bytes
        })
    }

    /// Allocates nothing more from this group: its numbers contradict each other.
    pub fn close_group(&self, group: u64) {
        self.lock().change(group, |group| group.closed = true);
    }

    /// A place for one tree block.
    pub fn alloc_tree_block(&self, space: TreeSpace) -> Result<Logical> {
        let pool = match space {
            TreeSpace::Metadata => METADATA,
            TreeSpace::System => SYSTEM,
        };
        let nodesize = self.nodesize();
        let mut state = self.lock();
        if let Some(at) = state.take_tree_block(pool, nodesize) {
            return Ok(at);
        }
        let kind = match (space, state.mixed) {
            (TreeSpace::System, _) => Kind::System,
            (TreeSpace::Metadata, true) => Kind::Mixed,
            (TreeSpace::Metadata, false) => Kind::Metadata,
        };
        self.allocate_chunk_locked(&mut state, kind)?;
        state.take_tree_block(pool, nodesize).ok_or(Error::NoSpace)
    }

    /// A data extent of at most `want` and at least `min` bytes, at `hint` if that is free.
    pub(super) fn alloc_data_unreserved(
        &self,
        want: u64,
        min: u64,
        hint: Option<Logical>,
    ) -> Result<(Logical, u64)> {
        let mut state = self.lock_counted();
        if let Some(Logical(hint)) = hint
            && let Some((at, len)) = state.data_at(hint, want, min)
        {
            return Ok((Logical(at), len));
        }
        let pool = state.pool_of(Kind::Data);
        let longest = state.by_longest[pool]
            .last()
            .map_or(0, |&(longest, _)| longest);
        let scattered = longest < want.min(MIB) && {
            let sums = state.pools[pool];
            sums.free < sums.total / 5
        };
        if longest < min || scattered {
            let kind = if state.mixed { Kind::Mixed } else { Kind::Data };
            let grown = self.allocate_data_chunk_locked(&mut state, kind);
            if longest < min {
                grown?;
            }
        }
        let (at, len) = state.take_data(want, min).ok_or(Error::NoSpace)?;
        Ok((Logical(at), len))
    }

    /// Takes exactly this range, if it is free.
    pub fn alloc_exact(&self, at: Logical, len: u64) -> bool {
        let mut state = self.lock();
        let Some(group) = state.group_at(at.0) else {
            return false;
        };
        if !state.groups[&group].free.covers(at.0, len) || state.groups[&group].closed {
            return false;
        }
        state.reserve_range(group, at.0, len);
        true
    }

    /// Gives back a range whose extent item was never queued, or whose queued item was
    /// cancelled, and that was never written: it is free at once.
    pub fn free_unwritten(&self, at: Logical, len: u64) {
        self.lock().change_at(at.0, |group| {
            group.usage.reserved -= len;
            group.free.insert(at.0, len);
            // The next tree block lands here, so that the dirty range stays dense.
            group.cursor = group.cursor.min(at.0);
        });
    }

    /// As [`Space::free_unwritten`], but something was written there, or a log refers to it:
    /// reusable when this transaction is durable.
    pub fn pin(&self, at: Logical, len: u64) {
        let mut state = self.lock();
        state.change_at(at.0, |group| {
            group.usage.reserved -= len;
            group.usage.pinned += len;
        });
        state.pinned.insert(at.0, len);
    }

    /// The extent item of an allocated range was written.
    pub fn settle_alloc(&self, at: Logical, len: u64) {
        self.lock().change_at(at.0, |group| {
            group.usage.reserved -= len;
            group.usage.used += len;
            group.dirty = true;
        });
    }

    /// The extent item of a range was deleted: it is pinned until this transaction is durable.
    pub fn settle_free(&self, at: Logical, len: u64) -> Result<()> {
        let mut state = self.lock();
        let group = state
            .group_at(at.0)
            .ok_or_else(|| Error::corrupt(format!("the extent at {at} lies in no block group")))?;
        if state.groups[&group].usage.used < len {
            return Err(Error::corrupt(format!(
                "block group {group} would use less than nothing without the extent at {at}"
            )));
        }
        state.change(group, |group| {
            group.usage.used -= len;
            group.usage.pinned += len;
            group.dirty = true;
        });
        state.pinned.insert(at.0, len);
        Ok(())
    }

    /// The ranges pinned since the last call: those of the transaction that commits now.
    /// Called when nobody can pin for it any more and nobody pins for the next one yet.
    pub fn take_pinned(&self) -> PinnedSet {
        std::mem::take(&mut self.lock().pinned)
    }

    /// The transaction of this set is durable: its ranges are free.
    pub fn unpin(&self, set: &PinnedSet) {
        let mut state = self.lock();
        for (at, len) in set.iter() {
            let mut at = at;
            let end = at + len;
            while at < end {
                let Some(start) = state.group_at(at) else {
                    // A group that was removed; its neighbour's bytes may be in the same range.
                    let next = state.groups.range(at..).next();
                    at = next.map_or(end, |(&start, _)| start);
                    continue;
                };
                let until = end.min(state.groups[&start].end());
                state.change(start, |group| {
                    group.usage.pinned -= until - at;
                    group.free.insert(at, until - at);
                    for &(reserved_at, reserved_len) in &group.superblocks {
                        group.usage.superblocks += group.free.remove(reserved_at, reserved_len);
                    }
                });
                at = until;
            }
        }
    }

    /// Block groups whose `used` changed since the last call, as (start, used); those that have
    /// no item yet come later.
    pub fn take_dirty_groups(&self) -> Vec<(u64, u64)> {
        let state = &mut *self.lock();
        let mut dirty = Vec::new();
        for group in state.groups.values_mut().filter(|group| group.dirty) {
            if state
                .new_chunks
                .iter()
                .all(|chunk| chunk.logical != group.start)
            {
                group.dirty = false;
                dirty.push((group.start, group.usage.used));
            }
        }
        dirty
    }

    /// Some group's `used` is still to be written.
    pub fn has_dirty_groups(&self) -> bool {
        self.lock().groups.values().any(|group| group.dirty)
    }

    /// Chunks made since the last call, whose items must be written.
    pub fn take_new_chunks(&self) -> Vec<NewChunk> {
        std::mem::take(&mut self.lock().new_chunks)
    }

    /// Chunks wait to be written down.
    pub fn has_new_chunks(&self) -> bool {
        !self.lock().new_chunks.is_empty()
    }

    /// The sum of `used` over all groups: the superblock's `bytes_used`.
    pub fn bytes_used(&self) -> u64 {
        self.lock().pools.iter().map(|pool| pool.usage.used).sum()
    }

    /// A copy of the group around `at`.
    pub fn group(&self, at: Logical) -> Option<BlockGroup> {
        let state = self.lock();
        state
            .group_at(at.0)
            .map(|start| state.groups[&start].clone())
    }

    /// The range (start, len) and flags of the group around `at`.
    pub fn group_range(&self, at: Logical) -> Option<(u64, u64, u64)> {
        let state = self.lock();
        let group = &state.groups[&state.group_at(at.0)?];
        Some((group.start, group.len, group.flags))
    }

    /// The starts of all groups.
    pub fn group_starts(&self) -> Vec<u64> {
        self.lock().groups.keys().copied().collect()
    }

    /// Every group's counters add up, and every pool's to its groups'; for tests and `check`.
    pub fn verify(&self) -> Result<(), String> {
        let state = self.lock();
        let mut sums = [Pool::default(); 3];
        for group in state.groups.values() {
            group.balance()?;
            add(&mut sums[state.pool_of(group.kind)], group);
        }
        for (sum, pool) in sums.iter().zip(&state.pools) {
            if sum.usage != pool.usage || sum.free != pool.free || sum.total != pool.total {
                return Err(format!(
                    "a pool's sums {pool:?} differ from its groups' {sum:?}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "space_tests.rs"]
mod tests;
