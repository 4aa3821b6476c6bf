//! Moving key pointers between nodes.
//!
//! Owns: byte moves only. The caller holds both nodes' write locks and has counted the room.

use crate::ondisk::tree_block::node::{delete, ptr_at};
use crate::ondisk::tree_block::{node_ptrs_max, nritems, set_nritems};

/// Pointers that still fit.
pub(super) fn free_ptrs(block: &[u8]) -> usize {
    node_ptrs_max(block.len() as u32).saturating_sub(nritems(block))
}

/// Moves pointers `from..from + count` of `source` to `slot` of `target`.
pub(super) fn move_ptrs(
    source: &mut [u8],
    from: usize,
    count: usize,
    target: &mut [u8],
    slot: usize,
) {
    let have = nritems(target);
    assert!(
        slot <= have && from + count <= nritems(source),
        "slots inside the nodes"
    );
    assert!(count <= free_ptrs(target), "the target node has room");
    target.copy_within(ptr_at(slot)..ptr_at(have), ptr_at(slot + count));
    target[ptr_at(slot)..ptr_at(slot + count)]
        .copy_from_slice(&source[ptr_at(from)..ptr_at(from + count)]);
    set_nritems(target, have + count);
    delete(source, from, count);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ondisk::key::Key;
    use crate::ondisk::tree_block::{init, node};
    use crate::units::{Generation, Logical};

    fn node_of(ids: std::ops::Range<u64>) -> Vec<u8> {
        let mut block = vec![0; 4096];
        init(
            &mut block,
            Logical(4096),
            Generation(1),
            5,
            1,
            &[0; 16],
            &[0; 16],
        );
        for (slot, id) in ids.enumerate() {
            node::insert(
                &mut block,
                slot,
                &Key::new(id, 1, 0),
                Logical(id << 12),
                Generation(id),
            );
        }
        block
    }

    #[test]
    fn moved_pointers_arrive_in_order() {
        let mut left = node_of(0..10);
        let mut right = node_of(10..30);
        move_ptrs(&mut right, 0, 5, &mut left, 10);
        let ids = |b: &[u8]| -> Vec<u64> {
            (0..nritems(b))
                .map(|slot| node::key(b, slot).objectid)
                .collect()
        };
        assert_eq!(ids(&left), (0..15).collect::<Vec<_>>());
        assert_eq!(ids(&right), (15..30).collect::<Vec<_>>());
        move_ptrs(&mut left, 12, 3, &mut right, 0);
        assert_eq!(ids(&right), (12..30).collect::<Vec<_>>());
        assert_eq!(node::ptr(&right, 0), (Logical(12 << 12), Generation(12)));
    }
}
