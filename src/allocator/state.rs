//! What the allocator's one lock guards: groups, pools, devices.
//!
//! Owns: keeping sums and indexes true while a group changes, and choosing a place. Invariant:
//! pool sums equal the sums over their groups.

use super::chunk::{self, NewChunk};
use super::superblocks::{STRIPE_LEN, superblock_ranges};
use super::{BlockGroup, DeviceSpace, FreeRanges, GroupUsage, Kind, PinnedSet, Profile};
use crate::units::{DevId, Logical, Physical};
use std::collections::{BTreeMap, BTreeSet};

/// How many small ranges the cursor passes before a group is searched by size.
const CURSOR_TRIES: usize = 32;

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

#[derive(Default)]
pub(super) struct State {
    pub(super) groups: BTreeMap<u64, BlockGroup>,
    pub(super) pools: [Pool; 3],
    /// Open groups of each pool by their longest free range.
    pub(super) by_longest: [BTreeSet<(u64, u64)>; 3],
    pub(super) devices: Vec<DeviceSpace>,
    pub(super) mixed: bool,
    pub(super) global_reserve: u64,
    /// Bytes of the trees that the global reserve is for.
    pub(super) commit_trees_bytes: u64,
    /// Extents whose changes wait for the commit, as of the last [`super::Space::lock_counted`].
    pub(super) waiting_extents: u64,
    pub(super) pinned: PinnedSet,
    pub(super) new_chunks: Vec<NewChunk>,
    /// The group that served last, for each pool.
    pub(super) last: [u64; 3],
    pub(super) next_logical: u64,
}

pub(super) fn add(pool: &mut Pool, group: &BlockGroup) {
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

/// Logical bytes that chunks of `copies` copies could still get on these devices.
pub(super) fn room_on(devices: &[DeviceSpace], copies: u64) -> u64 {
    devices
        .iter()
        .map(|device| device.logical_room(copies, chunk::CHUNK_LEAST_BYTES))
        .sum()
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
        room_on(&self.devices, self.profile_for(kind).copies())
    }

    pub(super) fn group_at(&self, at: u64) -> Option<u64> {
        let (&start, group) = self.groups.range(..=at).next_back()?;
        (at < group.end()).then_some(start)
    }

    pub(super) fn insert_group(
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

    pub(super) fn remove_group(&mut self, start: u64) -> BlockGroup {
        let group = self.groups.remove(&start).expect("the caller found it");
        let pool = self.pool_of(group.kind);
        subtract(&mut self.pools[pool], &group);
        self.by_longest[pool].remove(&(group.free.longest(), start));
        group
    }

    /// Changes a group and keeps sums and indexes true.
    pub(super) fn change<R>(&mut self, start: u64, change: impl FnOnce(&mut BlockGroup) -> R) -> R {
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
    pub(super) fn change_at(&mut self, at: u64, change: impl FnOnce(&mut BlockGroup)) {
        if let Some(start) = self.group_at(at) {
            self.change(start, change);
        } else {
            debug_assert!(false, "{at} lies in no block group");
        }
    }

    pub(super) fn reserve_range(&mut self, group: u64, at: u64, len: u64) {
        self.change(group, |group| {
            let taken = group.free.remove(at, len);
            debug_assert_eq!(taken, len, "an allocated range was free");
            group.usage.reserved += len;
        });
    }

    pub(super) fn take_tree_block(&mut self, pool: usize, nodesize: u64) -> Option<Logical> {
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

    pub(super) fn data_at(&mut self, hint: u64, want: u64, min: u64) -> Option<(u64, u64)> {
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

    pub(super) fn take_data(&mut self, want: u64, min: u64) -> Option<(u64, u64)> {
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
