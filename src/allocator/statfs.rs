//! Numbers for `df`: what could still be written, not what isn't used.
//!
//! Owns: the sums as the kernel's `statfs` forms them.

use super::state::{DATA, METADATA, SYSTEM};
use super::{GroupUsage, Kind, Space};
use crate::units::MIB;

/// One use's sums, in logical bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolNumbers {
    /// Bytes of all its block groups.
    pub total: u64,
    /// The counters.
    pub usage: GroupUsage,
    /// Bytes of free ranges.
    pub free: u64,
    /// Bytes promised to reservations.
    pub promised: u64,
}

/// The whole filesystem's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceNumbers {
    /// Data groups; in a mixed filesystem all but the system's.
    pub data: PoolNumbers,
    /// Metadata groups; zero in a mixed filesystem.
    pub metadata: PoolNumbers,
    /// The chunk tree's groups.
    pub system: PoolNumbers,
    /// All devices' bytes.
    pub devices_total: u64,
    /// Device bytes in no chunk.
    pub unallocated: u64,
    /// Kept for commits.
    pub global_reserve: u64,
    /// What `df` shows as size.
    pub size: u64,
    /// What `df` shows as free, for root: without what is kept for commits.
    pub free: u64,
    /// What can be written as file contents: free data bytes and chunks that can still be made.
    pub available: u64,
}

impl Space {
    /// The numbers now.
    pub fn numbers(&self) -> SpaceNumbers {
        let state = self.lock();
        let pool = |index: usize| {
            let pool = &state.pools[index];
            PoolNumbers {
                total: pool.total,
                usage: pool.usage,
                free: pool.free,
                promised: pool.may_use,
            }
        };
        let (data, metadata) = if state.mixed {
            (pool(METADATA), PoolNumbers::default())
        } else {
            (pool(DATA), pool(METADATA))
        };
        let system = pool(SYSTEM);
        let data_kind = if state.mixed { Kind::Mixed } else { Kind::Data };
        let factor = state.profile_for(data_kind).copies();
        let devices_total = state.devices_bytes();
        let mut raw_used = 0;
        let mut data_free = 0;
        for group in state.groups.values() {
            let copies = copies_of(group.flags);
            raw_used += group.usage.used * copies;
            if group.kind.takes_data() {
                data_free += group.len - group.usage.used - group.usage.superblocks;
            }
        }
        let size = devices_total / factor;
        // The reserve counts as used: nobody gets it.
        let free = size.saturating_sub(raw_used / factor + state.global_reserve);
        let room = state.room(data_kind);
        let mut available = data_free.saturating_sub(data.promised) + room;
        // Without metadata no file can be made, however much room there is for contents.
        let usage = metadata.usage;
        let metadata_taken = usage.used + usage.reserved + usage.pinned + usage.superblocks;
        let metadata_left = metadata.total - metadata_taken + state.room(Kind::Metadata);
        if !state.mixed && metadata_left < state.global_reserve + MIB {
            available = 0;
        }
        SpaceNumbers {
            data,
            metadata,
            system,
            devices_total,
            unallocated: state
                .devices
                .iter()
                .map(|device| device.unallocated())
                .sum(),
            global_reserve: state.global_reserve,
            size,
            free,
            available: available.min(free),
        }
    }
}

/// Device bytes for one logical byte, for every profile that keeps whole copies.
fn copies_of(flags: u64) -> u64 {
    const TWO: u64 = (1 << 4) | (1 << 5) | (1 << 6);
    match flags {
        flags if flags & TWO != 0 => 2,
        flags if flags & (1 << 9) != 0 => 3,
        flags if flags & (1 << 10) != 0 => 4,
        _ => 1,
    }
}
