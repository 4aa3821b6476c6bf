//! The unallocated bytes of one device.
//!
//! Owns: which physical ranges no chunk uses. Never hands out the first MiB (a boot loader's)
//! nor a byte past the device's end.

use super::{FreeRanges, superblocks::STRIPE_LEN};
use crate::units::{DevId, MIB, round_down};

/// Bytes at a device's start that no chunk uses.
const HEAD_BYTES: u64 = MIB;

/// One device's size and holes.
#[derive(Clone, Debug)]
pub struct DeviceSpace {
    devid: DevId,
    total_bytes: u64,
    /// Bytes in dev extents.
    used: u64,
    holes: FreeRanges,
}

impl DeviceSpace {
    /// A device without chunks.
    pub fn new(devid: DevId, total_bytes: u64) -> Self {
        let mut holes = FreeRanges::new();
        holes.insert(HEAD_BYTES, total_bytes.saturating_sub(HEAD_BYTES));
        Self {
            devid,
            total_bytes,
            used: 0,
            holes,
        }
    }

    /// Its number.
    pub fn devid(&self) -> DevId {
        self.devid
    }

    /// Its size as the device item says.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Bytes in dev extents: the device item's `bytes_used`.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Bytes in holes.
    pub fn unallocated(&self) -> u64 {
        self.holes.bytes()
    }

    /// What no dev extent uses.
    pub fn holes(&self) -> &FreeRanges {
        &self.holes
    }

    /// A dev extent is (or becomes) used.
    pub fn take(&mut self, at: u64, len: u64) {
        self.holes.remove(at, len);
        self.used += len;
    }

    /// A dev extent's chunk is gone.
    pub fn give_back(&mut self, at: u64, len: u64) {
        let head = HEAD_BYTES.saturating_sub(at).min(len);
        let end = (at + len).min(self.total_bytes);
        if end > at + head {
            self.holes.insert(at + head, end - at - head);
        }
        self.used -= len;
    }

    /// The first hole that holds `want` bytes; without one, the longest. As (start, len).
    pub fn find(&self, want: u64) -> Option<(u64, u64)> {
        self.holes
            .iter()
            .find(|&(_, len)| len >= want)
            .map(|(start, _)| (start, want))
            .or_else(|| self.holes.longest_range())
    }

    /// Logical bytes that chunks of `copies` copies, none below `least` bytes, could still get.
    pub fn logical_room(&self, copies: u64, least: u64) -> u64 {
        self.holes
            .iter()
            .map(|(_, len)| round_down(len / copies, STRIPE_LEN))
            .filter(|&len| len >= least)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mib_is_never_found() {
        let mut device = DeviceSpace::new(DevId(1), 16 * MIB);
        assert_eq!(device.find(8 * MIB), Some((MIB, 8 * MIB)));
        device.take(MIB, 8 * MIB);
        assert_eq!(device.find(8 * MIB), Some((9 * MIB, 7 * MIB)));
        // A dev extent of an old mkfs may start at 0.
        device.take(0, MIB);
        device.give_back(0, MIB);
        device.give_back(MIB, 8 * MIB);
        assert_eq!(device.find(16 * MIB), Some((MIB, 15 * MIB)));
        assert_eq!(device.used(), 0);
    }
}
