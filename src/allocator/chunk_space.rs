//! Chunks come and go: device bytes become block groups, and empty groups device bytes again.
//!
//! Owns: when a chunk is made, and which groups are given back. Invariant: the system pool keeps
//! room to write the next chunk down.

use super::chunk::{self, NewChunk};
use super::space::Space;
use super::state::{DATA, METADATA, SYSTEM, State, room_on};
use super::superblocks::STRIPE_LEN;
use super::{BlockGroup, DeviceSpace, Kind};
use crate::error::{Error, Result};
use crate::units::{DevId, Physical};

/// Free tree blocks that the chunk tree always keeps, so that a new chunk can be written down.
const SYSTEM_SPARE_BLOCKS: u64 = 32;

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

impl Space {
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
            if !state.can_spare(&state.groups[&start], self.nodesize()) {
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
        if kind == Kind::Data && !state.metadata_can_spare_chunk(&state.devices, self.nodesize()) {
            return Err(Error::NoSpace);
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
        let (len, stripes) =
            chunk::place_on(&state.devices, profile, want).ok_or(Error::NoSpace)?;
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
        take_stripes(&mut state.devices, &chunk.stripes, len);
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
}

impl State {
    /// With these holes, what metadata is promised still fits after one more data chunk.
    fn metadata_can_spare_chunk(&self, devices: &[DeviceSpace], nodesize: u64) -> bool {
        let short = self
            .metadata_promised(nodesize)
            .saturating_sub(self.pools[METADATA].free);
        if short == 0 {
            return true;
        }
        let copies = self.profile_for(Kind::Metadata).copies();
        let want = chunk::wanted_len(Kind::Data, self.devices_bytes());
        room_on(devices, copies) >= short + want.div_ceil(copies)
    }

    /// Whether new chunks can bring the data pool's free bytes up to `wanted`.
    pub(super) fn data_can_reach(&self, wanted: u64, nodesize: u64) -> bool {
        let mut free = self.pools[DATA].free;
        let profile = self.profile_for(Kind::Data);
        if wanted > free.saturating_add(room_on(&self.devices, profile.copies())) {
            return false;
        }
        // As the chunks would be made, one after the other.
        let mut devices = self.devices.clone();
        let want = chunk::wanted_len(Kind::Data, self.devices_bytes());
        while free < wanted {
            if !self.metadata_can_spare_chunk(&devices, nodesize) {
                return false;
            }
            let Some((len, stripes)) = chunk::place_on(&devices, profile, want) else {
                return false;
            };
            take_stripes(&mut devices, &stripes, len);
            free += len;
        }
        true
    }

    /// This empty group may go.
    fn can_spare(&self, group: &BlockGroup, nodesize: u64) -> bool {
        // The system group stays: it is small, and the superblock names it. Of the others one
        // stays that the next chunk takes its profile from.
        let profile = Some(self.profile_for(group.kind));
        let stays = |other: &BlockGroup| {
            other.start != group.start
                && other.kind == group.kind
                && other.profile == profile
                && !other.closed
        };
        if group.kind == Kind::System || !self.groups.values().any(stays) {
            return false;
        }
        let pool = self.pool_of(group.kind);
        let mut promised = self.pools[pool].usage.reserved;
        promised += match pool {
            // This commit goes on to write trees, and the group's bytes come back after it.
            METADATA => self.metadata_promised(nodesize),
            _ => self.pools[pool].may_use,
        };
        self.pools[pool].free.saturating_sub(group.free.bytes()) >= promised
    }
}

fn take_stripes(devices: &mut [DeviceSpace], stripes: &[(DevId, Physical)], len: u64) {
    for &(devid, Physical(at)) in stripes {
        if let Some(device) = devices.iter_mut().find(|it| it.devid() == devid) {
            device.take(at, len);
        }
    }
}
