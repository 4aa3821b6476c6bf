//! A block group's free space as the items of the free-space tree, and back.
//!
//! Owns: both forms (a range an item, or bitmaps) and the thresholds between them, which are
//! the kernel's. Never: a tree.

use crate::allocator::FreeRanges;
use crate::error::{Error, Result};
use crate::ondisk::{
    BitmapRuns, FREE_SPACE_BITMAP_BITS, FREE_SPACE_BITMAP_SIZE, Key, bitmap_set, bitmap_size, kind,
};
use crate::units::Logical;
use std::collections::BTreeMap;

/// Bytes that an item's head takes in a leaf, which the thresholds count with.
const ITEM_HEAD_BYTES: u64 = 25;
/// Between the thresholds nothing is converted, so that one more range doesn't flip the form.
const SLACK_ITEMS: u64 = 100;

/// The block group whose free space is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupShape {
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) sectorsize: u64,
}

impl GroupShape {
    /// Key of its FREE_SPACE_INFO.
    pub(super) fn info_key(&self) -> Key {
        Key::new(self.start, kind::FREE_SPACE_INFO, self.len)
    }

    fn bitmap_range(&self) -> u64 {
        FREE_SPACE_BITMAP_BITS * self.sectorsize
    }

    /// The form for `extents` free ranges, coming from the form `bitmaps`.
    pub(super) fn choose(&self, extents: u64, bitmaps: bool) -> bool {
        let bitmaps_bytes = self.len.div_ceil(self.bitmap_range())
            * (ITEM_HEAD_BYTES + FREE_SPACE_BITMAP_SIZE as u64);
        let high = bitmaps_bytes / ITEM_HEAD_BYTES;
        let low = high.saturating_sub(SLACK_ITEMS);
        if bitmaps {
            extents >= low
        } else {
            extents > high
        }
    }

    /// The items that say what `free` says.
    pub(super) fn items(&self, free: &FreeRanges, bitmaps: bool) -> BTreeMap<Key, Vec<u8>> {
        if !bitmaps {
            let range = |(at, len)| (Key::new(at, kind::FREE_SPACE_EXTENT, len), Vec::new());
            return free.iter().map(range).collect();
        }
        let mut items = BTreeMap::new();
        let mut at = 0;
        while at < self.len {
            let len = self.bitmap_range().min(self.len - at);
            let mut bits = vec![0; bitmap_size(len / self.sectorsize) as usize];
            for (free_at, free_len) in free.intersection(self.start + at, len) {
                let from = (free_at - self.start - at) / self.sectorsize;
                let to = from + free_len / self.sectorsize;
                bitmap_set(&mut bits, from as usize, to as usize, true);
            }
            items.insert(
                Key::new(self.start + at, kind::FREE_SPACE_BITMAP, len),
                bits,
            );
            at += len;
        }
        items
    }

    /// Adds what one item says is free.
    pub(super) fn read_item(&self, key: &Key, data: &[u8], free: &mut FreeRanges) -> Result<()> {
        let bad = |what: &str| {
            let words = format!("free space of block group {}: {what} at {key}", self.start);
            Err(Error::corrupt_block(Logical(key.objectid), None, words))
        };
        let end = key.objectid.checked_add(key.offset);
        if key.objectid < self.start || end.is_none_or(|end| end > self.start + self.len) {
            return bad("range outside the group");
        }
        match key.kind {
            kind::FREE_SPACE_EXTENT => {
                if free.insert(key.objectid, key.offset) != key.offset {
                    return bad("overlapping range");
                }
            }
            kind::FREE_SPACE_BITMAP => {
                let sectors = key.offset / self.sectorsize;
                if data.len() as u64 != bitmap_size(sectors) {
                    return bad("bitmap of a wrong size");
                }
                for (from, count) in BitmapRuns::new(data, sectors as usize) {
                    let at = key.objectid + from as u64 * self.sectorsize;
                    let len = count as u64 * self.sectorsize;
                    if free.insert(at, len) != len {
                        return bad("overlapping bitmap");
                    }
                }
            }
            _ => return bad("unknown item"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECTOR: u64 = 4096;

    #[test]
    fn thresholds_are_the_kernels() {
        let group = GroupShape {
            start: 1 << 30,
            len: 1 << 30,
            sectorsize: SECTOR,
        };
        // 128 bitmaps of 281 bytes against ranges of 25.
        assert!(!group.choose(1438, false));
        assert!(group.choose(1439, false));
        assert!(group.choose(1338, true));
        assert!(!group.choose(1337, true));
        let small = GroupShape {
            len: 8 << 20,
            ..group
        };
        assert!(!small.choose(11, false));
        assert!(small.choose(12, false));
        assert!(small.choose(0, true));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn both_forms_say_the_same(
            ranges in prop::collection::vec((0_u64..6000, 1_u64..50), 0..60),
            sectors in 6050_u64..6200,
        ) {
            let group = GroupShape { start: 1 << 30, len: sectors * SECTOR, sectorsize: SECTOR };
            let mut free = FreeRanges::new();
            for (at, len) in ranges {
                free.insert(group.start + at * SECTOR, len * SECTOR);
            }
            for bitmaps in [false, true] {
                let mut read = FreeRanges::new();
                for (key, data) in group.items(&free, bitmaps) {
                    group.read_item(&key, &data, &mut read).unwrap();
                }
                prop_assert_eq!(read.iter().collect::<Vec<_>>(), free.iter().collect::<Vec<_>>());
            }
        }
    }
}
