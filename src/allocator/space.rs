//! All block groups and devices behind one lock: allocation and the life of a range.
//!
//! Owns: which group serves a request. Never: waits for a commit while the lock is held (see
//! `reserve.rs` for the one place that waits at all). Invariant: pool sums equal the sums over
//! their groups.

use super::chunk::{self, NewChunk};
use super::reserve::Reclaim;
use super::superblocks::{STRIPE_LEN, superblock_ranges};
use super::{BlockGroup, DeviceSpace, FreeRanges, GroupUsage, Kind, PinnedSet, Profile, TreeSpace};
use crate::error::{Error, Result};
use crate::sync::{Mutex, MutexGuard, RwLock, Weak};
use crate::units::{DevId, Logical, MIB, Physical};
use std::collections::{BTreeMap, BTreeSet};

/// Free tree blocks that the chunk tree always keeps, so that a new chunk can be written down.
const SYSTEM_SPARE_BLOCKS: u64 = 32;
/// How many small ranges the cursor passes before a group is searched by size.
const CURSOR_TRIES: usize = 32;

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

/// A block group without extents, to be removed: the commit deletes its items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmptyGroup {
    /// First logical byte.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// Its flags.
    pub flags: u64,
    /// Its dev extents: device and first byte, each `len` long.
    pub stripes: Vec<(DevId, Physical)>,
}

/// The sums over the groups that serve one use.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pool {
    pub(super) total: u64,
    pub(super) usage: GroupUsage,
    pub(super) free: u64,
    /// Promised to reservations that haven't allocated yet.
    pub(super) may_use: u64,
}

pub(super) const DATA: usize = 0;
pub(super) const METADATA: usize = 1;
pub(super) const SYSTEM: usize = 2;

pub(super) struct State {
    pub(super) groups: BTreeMap<u64, BlockGroup>,
    pub(super) pools: [Pool; 3],
    /// Open groups of each pool by their longest free range.
    by_longest: [BTreeSet<(u64, u64)>; 3],
    pub(super) devices: Vec<DeviceSpace>,
    pub(super) mixed: bool,
    pub(super) global_reserve: u64,
    pinned: PinnedSet,
    new_chunks: Vec<NewChunk>,
    /// The group that served last, for each pool.
    last: [u64; 3],
    next_logical: u64,
}

/// The space of one mounted filesystem.
pub struct Space {
    pub(super) config: SpaceConfig,
    state: Mutex<State>,
    pub(super) reclaim: RwLock<Option<Weak<dyn Reclaim>>>,
}

impl Space {
    /// No group and no device yet.
    pub fn new(config: SpaceConfig) -> Self {
        let state = State {
            groups: BTreeMap::new(),
            pools: [Pool::default(); 3],
            by_longest: Default::default(),
            devices: Vec::new(),
            mixed: false,
            global_reserve: 0,
            pinned: PinnedSet::default(),
            new_chunks: Vec::new(),
            last: [0; 3],
            next_logical: 0,
        };
        Self {
            config,
            state: Mutex::new(state),
            reclaim: RwLock::new(None),
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
            // Bytes that no list calls free and no counter calls used stay out of reach.
            group.closed = false;
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
        let mut state = self.lock();
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
                    break;
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

    /// Block groups whose `used` changed since the last call, as (start, used).
    pub fn take_dirty_groups(&self) -> Vec<(u64, u64)> {
        let mut state = self.lock();
        let dirty = state.groups.values_mut().filter(|group| group.dirty);
        dirty
            .map(|group| {
                group.dirty = false;
                (group.start, group.usage.used)
            })
            .collect()
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

    /// Takes out groups without extents, all but one of each kind and never one that has no
    /// items yet. Called in a commit's critical section; the ranges they pinned are safe, as
    /// their devices' bytes come back only with [`Space::release_chunks`].
    pub fn take_empty_groups(&self) -> Vec<EmptyGroup> {
        let mut state = self.lock();
        let mut taken = Vec::new();
        let mut candidates: Vec<u64> = state
            .groups
            .values()
            .filter(|group| group.usage.used == 0 && group.usage.reserved == 0)
            .filter(|group| {
                state
                    .new_chunks
                    .iter()
                    .all(|chunk| chunk.logical != group.start)
            })
            .map(|group| group.start)
            .collect();
        // The largest go first: the one that stays is the smallest.
        candidates.sort_by_key(|start| std::cmp::Reverse(state.groups[start].len));
        for start in candidates {
            let group = &state.groups[&start];
            let same = |other: &&BlockGroup| other.kind == group.kind && !other.closed;
            let pool = state.pool_of(group.kind);
            // The system group stays: it is small, and the superblock names it.
            let spare =
                group.kind != Kind::System && state.groups.values().filter(same).count() > 1;
            let promised = state.pools[pool].may_use + state.pools[pool].usage.reserved;
            if !spare || state.pools[pool].free.saturating_sub(group.free.bytes()) < promised {
                continue;
            }
            let group = state.remove_group(start);
            taken.push(EmptyGroup {
                start,
                len: group.len,
                flags: group.flags,
                stripes: group.stripes,
            });
        }
        taken
    }

    /// The commit that removed these groups is durable: their devices' bytes are free.
    pub fn release_chunks(&self, removed: &[EmptyGroup]) {
        let mut state = self.lock();
        for group in removed {
            for &(devid, Physical(at)) in &group.stripes {
                if let Some(device) = state.devices.iter_mut().find(|it| it.devid() == devid) {
                    device.give_back(at, group.len);
                }
            }
        }
    }

    /// Makes a chunk of this kind now.
    pub fn allocate_chunk(&self, kind: Kind) -> Result<NewChunk> {
        self.allocate_chunk_locked(&mut self.lock(), kind)
    }

    /// As [`Space::allocate_chunk`], but keeps enough device bytes for what metadata is
    /// promised.
    pub(super) fn allocate_data_chunk_locked(
        &self,
        state: &mut State,
        kind: Kind,
    ) -> Result<NewChunk> {
        if kind == Kind::Data {
            let short = state
                .metadata_promised()
                .saturating_sub(state.pools[METADATA].free);
            let copies = state.profile_for(Kind::Metadata).copies();
            let room = state.room(Kind::Metadata);
            let want = chunk::wanted_len(kind, state.devices_bytes());
            if short > 0 && room < short + want.div_ceil(copies) {
                return Err(Error::NoSpace);
            }
        }
        self.allocate_chunk_locked(state, kind)
    }

    pub(super) fn allocate_chunk_locked(&self, state: &mut State, kind: Kind) -> Result<NewChunk> {
        if kind != Kind::System && state.pools[SYSTEM].free < SYSTEM_SPARE_BLOCKS * self.nodesize()
        {
            // Without it there would be no room to write this chunk down. A failure here shows
            // up as a full system group only when that is really used up.
            match self.allocate_chunk_locked(state, Kind::System) {
                Err(Error::NoSpace) if state.pools[SYSTEM].free >= 8 * self.nodesize() => {}
                other => {
                    other?;
                }
            }
        }
        let profile = state.profile_for(kind);
        let want = chunk::wanted_len(kind, state.devices_bytes());
        let (len, stripes) = state
            .devices
            .iter()
            .filter_map(|device| chunk::place(device, profile, want))
            .max_by_key(|&(len, _)| len)
            .ok_or(Error::NoSpace)?;
        let flags = kind.flags() | profile.flags();
        let logical = state.next_logical;
        let chunk = NewChunk {
            logical,
            len,
            flags,
            stripe_len: STRIPE_LEN,
            stripes,
        };
        (self.config.map_chunk)(&chunk)?;
        for &(devid, Physical(at)) in &chunk.stripes {
            if let Some(device) = state.devices.iter_mut().find(|it| it.devid() == devid) {
                device.take(at, len);
            }
        }
        state.insert_group(logical, len, flags, kind, 0, chunk.stripes.clone());
        state.change(logical, |group| {
            group.free.insert(logical, len);
            for &(at, len) in &group.superblocks {
                group.usage.superblocks += group.free.remove(at, len);
            }
            group.closed = false;
            group.dirty = true;
        });
        state.new_chunks.push(chunk.clone());
        log::debug!("new chunk {logical} of {len} bytes, flags {flags:#x}");
        Ok(chunk)
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

fn add(pool: &mut Pool, group: &BlockGroup) {
    pool.total += group.len;
    pool.usage.used += group.usage.used;
    pool.usage.reserved += group.usage.reserved;
    pool.usage.pinned += group.usage.pinned;
    pool.usage.superblocks += group.usage.superblocks;
    if !group.closed {
        pool.free += group.free.bytes();
    }
}

fn subtract(pool: &mut Pool, group: &BlockGroup) {
    pool.total -= group.len;
    pool.usage.used -= group.usage.used;
    pool.usage.reserved -= group.usage.reserved;
    pool.usage.pinned -= group.usage.pinned;
    pool.usage.superblocks -= group.usage.superblocks;
    if !group.closed {
        pool.free -= group.free.bytes();
    }
}

impl State {
    /// The pool that serves a kind. In a mixed filesystem data and metadata share one.
    pub(super) fn pool_of(&self, kind: Kind) -> usize {
        match kind {
            Kind::Data if !self.mixed => DATA,
            Kind::System => SYSTEM,
            Kind::Data | Kind::Metadata | Kind::Mixed => METADATA,
        }
    }

    pub(super) fn devices_bytes(&self) -> u64 {
        self.devices.iter().map(DeviceSpace::total_bytes).sum()
    }

    /// The profile for a new chunk: what the groups of that kind have, with copies if any has.
    pub(super) fn profile_for(&self, kind: Kind) -> Profile {
        let dup = self
            .groups
            .values()
            .any(|group| group.kind == kind && group.profile == Some(Profile::Dup));
        if dup { Profile::Dup } else { Profile::Single }
    }

    /// Logical bytes that new chunks of this kind could still get.
    pub(super) fn room(&self, kind: Kind) -> u64 {
        let copies = self.profile_for(kind).copies();
        self.devices
            .iter()
            .map(|device| device.logical_room(copies, chunk::CHUNK_LEAST_BYTES))
            .sum()
    }

    /// Bytes that metadata is promised: reservations and the global reserve.
    pub(super) fn metadata_promised(&self) -> u64 {
        self.pools[METADATA].may_use + self.global_reserve
    }

    pub(super) fn group_at(&self, at: u64) -> Option<u64> {
        let (&start, group) = self.groups.range(..=at).next_back()?;
        (at < group.end()).then_some(start)
    }

    fn insert_group(
        &mut self,
        start: u64,
        len: u64,
        flags: u64,
        kind: Kind,
        used: u64,
        stripes: Vec<(DevId, Physical)>,
    ) {
        let group = BlockGroup {
            start,
            len,
            flags,
            kind,
            profile: Profile::from_flags(flags),
            superblocks: superblock_ranges(start, len, &stripes),
            stripes,
            usage: GroupUsage {
                used,
                ..GroupUsage::default()
            },
            free: FreeRanges::new(),
            closed: true,
            dirty: false,
            cursor: start,
        };
        self.next_logical = self.next_logical.max(
            group
                .end()
                .checked_next_multiple_of(STRIPE_LEN)
                .unwrap_or(u64::MAX),
        );
        let pool = self.pool_of(kind);
        add(&mut self.pools[pool], &group);
        self.groups.insert(start, group);
    }

    fn remove_group(&mut self, start: u64) -> BlockGroup {
        let group = self.groups.remove(&start).expect("the caller found it");
        let pool = self.pool_of(group.kind);
        subtract(&mut self.pools[pool], &group);
        self.by_longest[pool].remove(&(group.free.longest(), start));
        group
    }

    /// Changes a group and keeps sums and indexes true.
    fn change<R>(&mut self, start: u64, change: impl FnOnce(&mut BlockGroup) -> R) -> R {
        let pool = self.pool_of(self.groups[&start].kind);
        let group = self.groups.get_mut(&start).expect("indexed above");
        subtract(&mut self.pools[pool], group);
        self.by_longest[pool].remove(&(group.free.longest(), start));
        let result = change(group);
        add(&mut self.pools[pool], group);
        if !group.closed {
            self.by_longest[pool].insert((group.free.longest(), start));
        }
        result
    }

    /// Changes the group around `at`, which the caller got from this allocator.
    fn change_at(&mut self, at: u64, change: impl FnOnce(&mut BlockGroup)) {
        if let Some(start) = self.group_at(at) {
            self.change(start, change);
        } else {
            debug_assert!(false, "{at} lies in no block group");
        }
    }

    fn reserve_range(&mut self, group: u64, at: u64, len: u64) {
        self.change(group, |group| {
            let taken = group.free.remove(at, len);
            debug_assert_eq!(taken, len, "an allocated range was free");
            group.usage.reserved += len;
        });
    }

    fn take_tree_block(&mut self, pool: usize, nodesize: u64) -> Option<Logical> {
        let last = self.last[pool];
        let fitting = |state: &Self, start: u64| {
            let group = state.groups.get(&start).filter(|group| !group.closed)?;
            group
                .free
                .next_fit(group.cursor, nodesize, nodesize, CURSOR_TRIES)
                .or_else(|| {
                    group
                        .free
                        .next_fit(group.start, nodesize, nodesize, CURSOR_TRIES)
                })
                .or_else(|| group.free.any_fit(nodesize, nodesize))
        };
        let (group, at) = fitting(self, last).map(|at| (last, at)).or_else(|| {
            let others = self.by_longest[pool].range((nodesize, 0)..).rev();
            others
                .map(|&(_, start)| start)
                .find_map(|start| fitting(self, start).map(|at| (start, at)))
        })?;
        self.last[pool] = group;
        self.reserve_range(group, at, nodesize);
        self.change(group, |group| group.cursor = at + nodesize);
        Some(Logical(at))
    }

    fn data_at(&mut self, hint: u64, want: u64, min: u64) -> Option<(u64, u64)> {
        let start = self.group_at(hint)?;
        let group = &self.groups[&start];
        if group.closed || !group.kind.takes_data() {
            return None;
        }
        let (free_at, free_len) = group.free.containing(hint)?;
        let len = want.min(free_at + free_len - hint);
        if len < min {
            return None;
        }
        self.reserve_range(start, hint, len);
        Some((hint, len))
    }

    fn take_data(&mut self, want: u64, min: u64) -> Option<(u64, u64)> {
        let pool = self.pool_of(Kind::Data);
        let last = self.last[pool];
        let good = |state: &Self, start: &u64| {
            state
                .groups
                .get(start)
                .is_some_and(|it| !it.closed && it.free.longest() >= want)
        };
        let start = Some(last).filter(|start| good(self, start)).or_else(|| {
            let sets = &self.by_longest[pool];
            sets.range((want, 0)..)
                .next()
                .or_else(|| sets.last())
                .map(|&(_, start)| start)
        })?;
        let free = &self.groups[&start].free;
        let (at, have) = free.best_fit(want).or_else(|| free.longest_range())?;
        let len = want.min(have);
        if len < min {
            return None;
        }
        self.last[pool] = start;
        self.reserve_range(start, at, len);
        Some((at, len))
    }
}

#[cfg(test)]
#[path = "space_tests.rs"]
mod tests;
