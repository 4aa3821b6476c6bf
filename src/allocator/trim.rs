//! Free bytes shown to somebody who wants to discard them, while nobody can be given them.
//!
//! Owns: the walk over free ranges of groups and holes of devices, piece by piece. The space's lock is
//! held while a piece is looked at, so pieces are small, and everybody gets a turn between two. Taking
//! a piece out of the free space instead would break promises: what is reserved must stay free.

use super::superblocks::{SUPERBLOCK_BYTES, SUPERBLOCK_PLACES};
use super::{FreeRanges, Space};
use crate::error::Result;
use crate::units::{DevId, MIB};
use std::ops::Range;

/// Bytes that are discarded under one lock.
const PIECE_BYTES: u64 = 16 * MIB;

/// Where a walk goes on, and what was looked at.
pub type Piece = Range<u64>;

impl Space {
    /// Shows `discard` the next piece of free space inside `within` (logical bytes) of a free range of
    /// at least `least` bytes. Returns it, or `None` when there is none left.
    pub fn discard_free(
        &self,
        within: Range<u64>,
        least: u64,
        discard: impl FnOnce(&Piece) -> Result<()>,
    ) -> Option<Result<Piece>> {
        let state = self.lock();
        // The group that `within` begins in comes first.
        let first = state.group_at(within.start).unwrap_or(within.start);
        let mut groups = state.groups.range(first..within.end);
        let piece = groups.find_map(|(_, group)| next_piece(group.free(), &within, least))?;
        Some(discard(&piece).map(|()| piece))
    }

    /// The same for a device's bytes that no chunk uses (physical bytes), but superblock copies.
    pub fn discard_hole(
        &self,
        devid: DevId,
        within: Range<u64>,
        least: u64,
        discard: impl FnOnce(&Piece) -> Result<()>,
    ) -> Option<Result<Piece>> {
        let state = self.lock();
        let mut devices = state.devices.iter();
        let device = devices.find(|device| device.devid() == devid)?;
        let mut holes = device.holes().clone();
        for place in SUPERBLOCK_PLACES {
            holes.remove(place, SUPERBLOCK_BYTES);
        }
        let piece = next_piece(&holes, &within, least)?;
        Some(discard(&piece).map(|()| piece))
    }

    /// The numbers of all devices.
    pub fn device_numbers(&self) -> Vec<DevId> {
        let state = self.lock();
        state
            .devices
            .iter()
            .map(super::DeviceSpace::devid)
            .collect()
    }
}

fn next_piece(free: &FreeRanges, within: &Range<u64>, least: u64) -> Option<Piece> {
    // From where the last piece ended: the lock is held, and there may be many ranges.
    free.iter_from(within.start).find_map(|(at, len)| {
        let start = at.max(within.start);
        let end = at.saturating_add(len).min(within.end);
        let is_wanted = start < end && len >= least;
        is_wanted.then(|| start..end.min(start.saturating_add(PIECE_BYTES)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(free: &FreeRanges, within: Range<u64>, least: u64) -> Vec<Piece> {
        let mut out = Vec::new();
        let mut from = within.start;
        while let Some(piece) = next_piece(free, &(from..within.end), least) {
            from = piece.end;
            out.push(piece);
        }
        out
    }

    #[test]
    fn a_walk_sees_every_free_byte_once_and_only_those_inside() {
        let mut free = FreeRanges::new();
        free.insert(MIB, 40 * MIB);
        free.insert(100 * MIB, 4096);
        free.insert(200 * MIB, MIB);
        let all = pieces(&free, 0..u64::MAX, 0);
        let ends: Vec<_> = all.iter().map(|piece| piece.end / MIB).collect();
        assert_eq!(ends, [17, 33, 41, 100, 201]);
        assert_eq!(
            all.iter().map(|it| it.end - it.start).sum::<u64>(),
            free.bytes()
        );
        assert_eq!(pieces(&free, 0..u64::MAX, MIB).len(), 4);
        let one = pieces(&free, 2 * MIB..3 * MIB, 0);
        assert_eq!((one.len(), &one[0]), (1, &(2 * MIB..3 * MIB)));
        assert!(pieces(&free, 42 * MIB..99 * MIB, 0).is_empty());
    }
}
