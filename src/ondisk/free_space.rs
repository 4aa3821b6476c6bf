//! The free space tree, and the headers of the old free space cache.

use super::{DiskKey, U32, U64, disk_struct};

/// The block group's free space is kept as bitmaps (`BTRFS_FREE_SPACE_USING_BITMAPS`).
pub const FREE_SPACE_USING_BITMAPS: u32 = 1 << 0;
/// Bytes of a full bitmap item (`BTRFS_FREE_SPACE_BITMAP_SIZE`).
pub const FREE_SPACE_BITMAP_SIZE: usize = 256;
/// Sectors that a full bitmap item speaks for.
pub const FREE_SPACE_BITMAP_BITS: u64 = FREE_SPACE_BITMAP_SIZE as u64 * 8;

disk_struct! {
    /// `struct btrfs_free_space_info`: how a block group's free space is kept. The key is (start,
    /// FREE_SPACE_INFO, length of the block group).
    #[derive(Copy, Debug)]
    pub struct FreeSpaceInfo, 8 bytes {
        /// Free ranges, counted in extents whichever way they are kept.
        0 => extent_count: U32,
        /// [`FREE_SPACE_USING_BITMAPS`].
        4 => flags: U32,
    }
}

disk_struct! {
    /// `struct btrfs_free_space_header`: of the old cache, in the root tree.
    #[derive(Copy, Debug)]
    pub struct FreeSpaceHeader, 41 bytes {
        /// The inode that holds the cache.
        0 => location: DiskKey,
        /// The transaction that wrote it.
        17 => generation: U64,
        /// Its entries.
        25 => num_entries: U64,
        /// Its bitmaps.
        33 => num_bitmaps: U64,
    }
}

disk_struct! {
    /// `struct btrfs_free_space_entry`: of the old cache, in its file.
    #[derive(Copy, Debug)]
    pub struct FreeSpaceEntry, 17 bytes {
        /// Where the range starts.
        0 => offset: U64,
        /// Its length.
        8 => bytes: U64,
        /// 1 extent, 2 bitmap (`type` in the uapi).
        16 => kind: u8,
    }
}

/// Bytes of a bitmap item that speaks for `sectors` sectors.
pub const fn bitmap_size(sectors: u64) -> u64 {
    sectors.div_ceil(8)
}

/// Whether a bit is set, which means free. Bits behind the end are not.
#[inline]
pub fn bitmap_is_free(bitmap: &[u8], bit: usize) -> bool {
    bitmap
        .get(bit / 8)
        .is_some_and(|byte| byte & (1 << (bit % 8)) != 0)
}

/// Sets bits `from..to` to free or used.
pub fn bitmap_set(bitmap: &mut [u8], from: usize, to: usize, free: bool) {
    for bit in from..to.min(bitmap.len() * 8) {
        let mask = 1 << (bit % 8);
        if free {
            bitmap[bit / 8] |= mask;
        } else {
            bitmap[bit / 8] &= !mask;
        }
    }
}

/// The free runs of a bitmap as (first bit, bits), in order.
#[derive(Clone, Debug)]
pub struct BitmapRuns<'b> {
    bitmap: &'b [u8],
    at: usize,
    end: usize,
}

impl<'b> BitmapRuns<'b> {
    /// Runs of the first `bits` bits.
    pub fn new(bitmap: &'b [u8], bits: usize) -> Self {
        Self {
            bitmap,
            at: 0,
            end: bits.min(bitmap.len() * 8),
        }
    }

    fn skip_while(&mut self, free: bool) {
        let whole = if free { 0xff } else { 0 };
        while self.at < self.end {
            if self.at.is_multiple_of(8) && self.bitmap[self.at / 8] == whole {
                self.at = (self.at + 8).min(self.end);
            } else if bitmap_is_free(self.bitmap, self.at) == free {
                self.at += 1;
            } else {
                return;
            }
        }
    }
}

impl Iterator for BitmapRuns<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        self.skip_while(false);
        if self.at == self.end {
            return None;
        }
        let start = self.at;
        self.skip_while(true);
        Some((start, self.at - start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn runs_are_what_bits_say(
            ranges in prop::collection::vec((0usize..200, 0usize..60, any::<bool>()), 0..20),
            bits in 0usize..210,
        ) {
            let mut bitmap = [0u8; 25];
            let mut model = [false; 200];
            for (from, length, free) in ranges {
                bitmap_set(&mut bitmap, from, from + length, free);
                model[from..(from + length).min(200)].fill(free);
            }
            let mut from_runs = [false; 200];
            let mut last_end = None;
            for (start, length) in BitmapRuns::new(&bitmap, bits) {
                prop_assert!(length > 0 && last_end.is_none_or(|end| start > end));
                from_runs[start..start + length].fill(true);
                last_end = Some(start + length);
            }
            let bits = bits.min(200);
            prop_assert_eq!(&from_runs[..bits], &model[..bits]);
            prop_assert!(from_runs[bits..].iter().all(|bit| !bit));
        }
    }
}
