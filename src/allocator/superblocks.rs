//! Superblock copies lie inside chunks: which logical bytes must never be handed out.
//!
//! Owns: the map from the fixed physical places to logical ranges.

use crate::units::{DevId, Physical};

/// The unit in which a chunk is laid out; the whole unit around a superblock stays unused, as
/// the kernel counts it.
pub const STRIPE_LEN: u64 = 64 * 1024;
/// A superblock's size.
pub const SUPERBLOCK_BYTES: u64 = 4096;
/// Where every device keeps its copies.
pub const SUPERBLOCK_PLACES: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];

/// The logical ranges (start, len) of a chunk under which a superblock copy lies.
pub fn superblock_ranges(start: u64, len: u64, stripes: &[(DevId, Physical)]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    // Old filesystems have a chunk at logical 0; an address below the first superblock's is
    // never handed out, so that 0 can mean "nowhere".
    if start < SUPERBLOCK_PLACES[0] {
        ranges.push((start, len.min(SUPERBLOCK_PLACES[0] - start)));
    }
    for &(_, Physical(physical)) in stripes {
        for place in SUPERBLOCK_PLACES {
            if place + SUPERBLOCK_BYTES <= physical || place >= physical + len {
                continue;
            }
            let offset = place.saturating_sub(physical) / STRIPE_LEN * STRIPE_LEN;
            let range = (start + offset, STRIPE_LEN.min(len - offset));
            if !ranges.contains(&range) {
                ranges.push(range);
            }
        }
    }
    ranges.sort_unstable();
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_copies_of_a_dup_chunk_are_looked_at() {
        let stripes = [
            (DevId(1), Physical(1 << 20)),
            (DevId(1), Physical(40 << 20)),
        ];
        assert_eq!(
            superblock_ranges(1 << 30, 39 << 20, &stripes),
            [((1 << 30) + (24 << 20), 65536)]
        );
        assert!(superblock_ranges(1 << 30, 1 << 20, &stripes[..1]).is_empty());
        assert_eq!(
            superblock_ranges(0, 4 << 20, &[(DevId(1), Physical(0))]),
            [(0, 65536), (65536, 65536)]
        );
    }
}
