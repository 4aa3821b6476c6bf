//! One block group in memory.
//!
//! Owns: its free ranges and counters. Invariant: `len = used + reserved + pinned +
//! superblocks + free.bytes()` once its free space is loaded.

use super::{FreeRanges, Kind, Profile};
use crate::units::{DevId, Physical};

/// The counters of a block group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupUsage {
    /// Bytes of extents in the extent tree: what the block-group item says.
    pub used: u64,
    /// Handed out, with an extent item still to be written.
    pub reserved: u64,
    /// Freed, but reachable from the last durable superblock.
    pub pinned: u64,
    /// Under superblock copies.
    pub superblocks: u64,
}

/// A block group: a chunk's logical range with its kind, counters and free ranges.
#[derive(Clone, Debug)]
pub struct BlockGroup {
    /// First logical byte.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// The flags as stored in the block-group item.
    pub flags: u64,
    /// What it holds.
    pub kind: Kind,
    /// How many copies it keeps; `None` for profiles that need several devices.
    pub profile: Option<Profile>,
    /// Where its stripes lie.
    pub stripes: Vec<(DevId, Physical)>,
    /// The counters.
    pub usage: GroupUsage,
    pub(super) free: FreeRanges,
    pub(super) superblocks: Vec<(u64, u64)>,
    /// Nothing may be allocated: being removed, or its bytes can't be trusted.
    pub(super) closed: bool,
    /// `used` changed since the last [`Space::take_dirty_groups`](super::Space::take_dirty_groups).
    pub(super) dirty: bool,
    /// Where the last tree block was placed.
    pub(super) cursor: u64,
}

impl BlockGroup {
    /// First byte after the group.
    pub fn end(&self) -> u64 {
        self.start + self.len
    }

    /// Its free ranges.
    pub fn free(&self) -> &FreeRanges {
        &self.free
    }

    /// No extent lives here, none is on its way, none waits to be unpinned.
    pub fn is_empty(&self) -> bool {
        self.usage.used == 0 && self.usage.reserved == 0 && self.usage.pinned == 0
    }

    /// The invariant of the module; `Err` says the sum.
    pub fn balance(&self) -> Result<(), String> {
        let GroupUsage {
            used,
            reserved,
            pinned,
            superblocks,
        } = self.usage;
        let sum = used + reserved + pinned + superblocks + self.free.bytes();
        if sum == self.len {
            return Ok(());
        }
        Err(format!(
            "block group {} of {} bytes adds up to {sum}: used {used}, reserved {reserved}, \
             pinned {pinned}, superblocks {superblocks}, free {}",
            self.start,
            self.len,
            self.free.bytes()
        ))
    }
}
