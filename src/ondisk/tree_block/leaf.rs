//! A leaf's items: views, and the byte moves that insert, delete and resize them.

use super::{Header, Item, Key, header, nritems, set_nritems};

/// Byte offset of an item's entry in the block.
#[inline]
pub const fn item_at(slot: usize) -> usize {
    Header::SIZE + slot * Item::SIZE
}

/// The entry in `slot`, or `None` where the block is too short for it.
#[inline]
pub fn try_item(block: &[u8], slot: usize) -> Option<&Item> {
    Item::read(block.get(slot.checked_mul(Item::SIZE)?.checked_add(Header::SIZE)?..)?)
}

/// The data of `slot`, or `None` where the entry or the data is outside of the block.
pub fn try_item_data(block: &[u8], slot: usize) -> Option<&[u8]> {
    let item = try_item(block, slot)?;
    let start = Header::SIZE + item.offset.get() as usize;
    block.get(start..start.checked_add(item.size.get() as usize)?)
}

/// The entry in `slot`.
#[inline]
pub fn item(block: &[u8], slot: usize) -> &Item {
    Item::read(&block[item_at(slot)..]).expect("the slot is inside the block")
}

/// The entry in `slot`, to be changed in place.
#[inline]
pub fn item_mut(block: &mut [u8], slot: usize) -> &mut Item {
    Item::read_mut(&mut block[item_at(slot)..]).expect("the slot is inside the block")
}

/// The key in `slot`.
#[inline]
pub fn item_key(block: &[u8], slot: usize) -> Key {
    item(block, slot).key.get()
}

/// Changes the key in `slot`; the order among its neighbours must stay.
#[inline]
pub fn set_item_key(block: &mut [u8], slot: usize, key: &Key) {
    item_mut(block, slot).key = (*key).into();
}

/// Length of the data in `slot`.
#[inline]
pub fn item_size(block: &[u8], slot: usize) -> usize {
    item(block, slot).size.get() as usize
}

/// Range of the block's bytes that the data in `slot` has.
#[inline]
pub fn item_range(block: &[u8], slot: usize) -> std::ops::Range<usize> {
    let item = item(block, slot);
    let start = Header::SIZE + item.offset.get() as usize;
    start..start + item.size.get() as usize
}

/// The data in `slot`.
#[inline]
pub fn item_data(block: &[u8], slot: usize) -> &[u8] {
    &block[item_range(block, slot)]
}

/// The data in `slot`, to be changed in place.
#[inline]
pub fn item_data_mut(block: &mut [u8], slot: usize) -> &mut [u8] {
    let range = item_range(block, slot);
    &mut block[range]
}

/// Where the lowest data starts, counted from the end of the header: the next item's data ends
/// there.
#[inline]
pub fn data_end(block: &[u8]) -> usize {
    match nritems(block) {
        0 => block.len() - Header::SIZE,
        count => item(block, count - 1).offset.get() as usize,
    }
}

/// Bytes between the item array and the data.
#[inline]
pub fn free_space(block: &[u8]) -> usize {
    data_end(block).saturating_sub(nritems(block) * Item::SIZE)
}

/// Bytes that items `from..to` occupy: their entries and their data.
pub fn space_used(block: &[u8], from: usize, to: usize) -> usize {
    if from >= to {
        return 0;
    }
    let data = item_range(block, from).end - item_range(block, to - 1).start;
    data + (to - from) * Item::SIZE
}

/// Opens a gap for a new item in `slot` and fills it with `data`. The caller has seen that
/// `Item::SIZE + data.len()` bytes are free and that the key belongs there.
pub fn insert(block: &mut [u8], slot: usize, key: &Key, data: &[u8]) {
    insert_zeroed(block, slot, key, data.len()).copy_from_slice(data);
}

/// As [`insert`], with `size` zero bytes that the caller fills.
pub fn insert_zeroed<'b>(block: &'b mut [u8], slot: usize, key: &Key, size: usize) -> &'b mut [u8] {
    let count = nritems(block);
    assert!(slot <= count, "slot {slot} of {count} items");
    assert!(free_space(block) >= Item::SIZE + size, "the leaf has room");
    let low = data_end(block);
    let end = if slot == 0 {
        block.len() - Header::SIZE
    } else {
        item(block, slot - 1).offset.get() as usize
    };
    // Data of later items moves down, their entries move up by one.
    block.copy_within(
        Header::SIZE + low..Header::SIZE + end,
        Header::SIZE + low - size,
    );
    block.copy_within(item_at(slot)..item_at(count), item_at(slot + 1));
    for later in slot + 1..=count {
        let entry = item_mut(block, later);
        entry.offset.set(entry.offset.get() - size as u32);
    }
    *item_mut(block, slot) = Item {
        key: (*key).into(),
        offset: ((end - size) as u32).into(),
        size: (size as u32).into(),
    };
    set_nritems(block, count + 1);
    let data = item_data_mut(block, slot);
    data.fill(0);
    data
}

/// Removes `count` items from `slot` on.
pub fn delete(block: &mut [u8], slot: usize, count: usize) {
    let total = nritems(block);
    assert!(
        slot + count <= total,
        "slots {slot}+{count} of {total} items"
    );
    if count == 0 {
        return;
    }
    let low = data_end(block);
    let gap_start = item(block, slot + count - 1).offset.get() as usize;
    let gap_end = item_range(block, slot).end - Header::SIZE;
    let gap = gap_end - gap_start;
    block.copy_within(
        Header::SIZE + low..Header::SIZE + gap_start,
        Header::SIZE + low + gap,
    );
    block.copy_within(item_at(slot + count)..item_at(total), item_at(slot));
    set_nritems(block, total - count);
    for later in slot..total - count {
        let entry = item_mut(block, later);
        entry.offset.set(entry.offset.get() + gap as u32);
    }
}

/// Changes the length of the data in `slot`: bytes are added as zeroes at its end, or cut off
/// there. Growth must fit [`free_space`].
pub fn resize(block: &mut [u8], slot: usize, size: usize) {
    let old = item_size(block, slot);
    let low = data_end(block);
    let start = item(block, slot).offset.get() as usize;
    if size > old {
        let growth = size - old;
        assert!(free_space(block) >= growth, "the leaf has room");
        let end = start + old;
        block.copy_within(
            Header::SIZE + low..Header::SIZE + end,
            Header::SIZE + low - growth,
        );
        shift_offsets(block, slot, |offset| offset - growth as u32);
        let entry = item_mut(block, slot);
        entry.size.set(size as u32);
        item_data_mut(block, slot)[old..].fill(0);
    } else if size < old {
        let cut = old - size;
        let end = start + size;
        block.copy_within(
            Header::SIZE + low..Header::SIZE + end,
            Header::SIZE + low + cut,
        );
        shift_offsets(block, slot, |offset| offset + cut as u32);
        item_mut(block, slot).size.set(size as u32);
    }
}

fn shift_offsets(block: &mut [u8], from: usize, shift: impl Fn(u32) -> u32) {
    for slot in from..nritems(block) {
        let entry = item_mut(block, slot);
        entry.offset.set(shift(entry.offset.get()));
    }
}

/// The items of a leaf in order, with their data.
pub fn items(block: &[u8]) -> impl DoubleEndedIterator<Item = (Key, &[u8])> + ExactSizeIterator {
    debug_assert_eq!(header(block).level, 0);
    (0..nritems(block)).map(move |slot| (item_key(block, slot), item_data(block, slot)))
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn empty() -> Vec<u8> {
        let mut block = vec![0xaa; 4096];
        init(
            &mut block,
            Logical(65536),
            Generation(7),
            5,
            0,
            &[1; 16],
            &[2; 16],
        );
        block
    }

    fn contents(block: &[u8]) -> Vec<(Key, Vec<u8>)> {
        items(block)
            .map(|(key, data)| (key, data.to_vec()))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn random_edits_keep_a_leaf_equal_to_a_map(
            steps in prop::collection::vec((0u8..3, 0u64..24, 0usize..300, any::<u8>()), 1..120)
        ) {
            let mut block = empty();
            let mut model: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
            for (verb, id, size, fill) in steps {
                let key = Key::new(id, 1, 0);
                match (verb, search(&block, &key)) {
                    (0, Err(slot)) if free_space(&block) >= Item::SIZE + size => {
                        insert(&mut block, slot, &key, &vec![fill; size]);
                        model.insert(key, vec![fill; size]);
                    }
                    (1, Ok(slot)) => {
                        delete(&mut block, slot, 1);
                        model.remove(&key);
                    }
                    (2, Ok(slot)) if size <= item_size(&block, slot) + free_space(&block) => {
                        resize(&mut block, slot, size);
                        model.get_mut(&key).expect("searched").resize(size, 0);
                    }
                    _ => {}
                }
                prop_assert_eq!(contents(&block), model.clone().into_iter().collect::<Vec<_>>());
                let used: usize = model.values().map(|data| data.len() + Item::SIZE).sum();
                prop_assert_eq!(free_space(&block), 4096 - Header::SIZE - used);
                prop_assert_eq!(space_used(&block, 0, model.len()), used);
            }
        }
    }

    #[test]
    fn deleting_a_run_keeps_both_sides() {
        let mut block = empty();
        for id in 0..10u64 {
            insert(&mut block, id as usize, &Key::new(id, 1, 0), &[id as u8; 9]);
        }
        delete(&mut block, 3, 4);
        let ids: Vec<u64> = items(&block).map(|(key, _)| key.objectid).collect();
        assert_eq!(ids, [0, 1, 2, 7, 8, 9]);
        assert!(items(&block).all(|(key, data)| data == [key.objectid as u8; 9]));
    }
}
