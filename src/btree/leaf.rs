//! Moving items between leaves.
//!
//! Owns: byte moves only. The caller holds both leaves' write locks and has counted the room.

use crate::ondisk::tree_block::leaf::{self, item, item_at, item_mut, item_range};
use crate::ondisk::tree_block::{Header, nritems, set_nritems};

/// Bytes that all items of a leaf occupy.
pub(super) fn used(block: &[u8]) -> usize {
    block.len() - Header::SIZE - leaf::free_space(block)
}

/// Moves items `from..from + count` of `source` to `slot` of `target`.
pub(super) fn move_items(
    source: &mut [u8],
    from: usize,
    count: usize,
    target: &mut [u8],
    slot: usize,
) {
    if count == 0 {
        return;
    }
    let have = nritems(target);
    assert!(
        slot <= have && from + count <= nritems(source),
        "slots inside the leaves"
    );
    let data = item_range(source, from + count - 1).start..item_range(source, from).end;
    assert!(
        leaf::free_space(target) >= data.len() + count * crate::ondisk::tree_block::Item::SIZE,
        "the target leaf has room"
    );
    // A gap in the target: later items' data moves down, their entries move up.
    let low = Header::SIZE + leaf::data_end(target);
    let end = match slot {
        0 => target.len(),
        _ => item_range(target, slot - 1).start,
    };
    target.copy_within(low..end, low - data.len());
    target.copy_within(item_at(slot)..item_at(have), item_at(slot + count));
    for later in slot + count..have + count {
        let entry = item_mut(target, later);
        entry.offset.set(entry.offset.get() - data.len() as u32);
    }
    target[end - data.len()..end].copy_from_slice(&source[data.clone()]);
    for i in 0..count {
        let mut entry = *item(source, from + i);
        let below_end = data.end - Header::SIZE - entry.offset.get() as usize;
        entry.offset.set((end - Header::SIZE - below_end) as u32);
        *item_mut(target, slot + i) = entry;
    }
    set_nritems(target, have + count);
    leaf::delete(source, from, count);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ondisk::key::Key;
    use crate::ondisk::tree_block::init;
    use crate::units::{Generation, Logical};
    use proptest::prelude::*;

    fn leaf_of(ids: std::ops::Range<u64>, size: usize) -> Vec<u8> {
        let mut block = vec![0; 4096];
        init(
            &mut block,
            Logical(4096),
            Generation(1),
            5,
            0,
            &[0; 16],
            &[0; 16],
        );
        for (slot, id) in ids.enumerate() {
            let data = vec![id as u8; size + id as usize % 7];
            leaf::insert(&mut block, slot, &Key::new(id, 1, 0), &data);
        }
        block
    }

    proptest! {
        #[test]
        fn moved_items_arrive_whole_and_in_order(
            left in 0u64..20, right in 1u64..20, from in 0u64..20, count in 0u64..20, slot in 0u64..20
        ) {
            let mut target = leaf_of(0..left, 40);
            let mut source = leaf_of(100..100 + right, 30);
            let from = from.min(right) as usize;
            let count = (count as usize).min(right as usize - from);
            let slot = slot.min(left) as usize;
            let items = |b: &[u8]| -> Vec<(Key, Vec<u8>)> {
                leaf::items(b).map(|(k, d)| (k, d.to_vec())).collect()
            };
            let mut want_source = items(&source);
            let mut want_target = items(&target);
            let moved: Vec<_> = want_source.drain(from..from + count).collect();
            want_target.splice(slot..slot, moved);
            move_items(&mut source, from, count, &mut target, slot);
            prop_assert_eq!(items(&source), want_source);
            prop_assert_eq!(items(&target), want_target.clone());
            let bytes: usize = want_target.iter().map(|(_, d)| d.len() + 25).sum();
            prop_assert_eq!(used(&target), bytes);
        }
    }
}
