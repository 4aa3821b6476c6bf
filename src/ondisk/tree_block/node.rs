//! A node's key pointers: views, and the byte moves that insert and delete them.

use super::{Generation, Header, Key, KeyPtr, Logical, nritems, set_nritems};

/// Byte offset of a pointer in the block.
#[inline]
pub const fn ptr_at(slot: usize) -> usize {
    Header::SIZE + slot * KeyPtr::SIZE
}

/// The pointer in `slot`, or `None` where the block is too short for it.
#[inline]
pub fn try_key_ptr(block: &[u8], slot: usize) -> Option<&KeyPtr> {
    KeyPtr::read(block.get(slot.checked_mul(KeyPtr::SIZE)?.checked_add(Header::SIZE)?..)?)
}

/// The pointer in `slot`.
#[inline]
pub fn key_ptr(block: &[u8], slot: usize) -> &KeyPtr {
    KeyPtr::read(&block[ptr_at(slot)..]).expect("the slot is inside the block")
}

/// The pointer in `slot`, to be changed in place.
#[inline]
pub fn key_ptr_mut(block: &mut [u8], slot: usize) -> &mut KeyPtr {
    KeyPtr::read_mut(&mut block[ptr_at(slot)..]).expect("the slot is inside the block")
}

/// The key in `slot`.
#[inline]
pub fn key(block: &[u8], slot: usize) -> Key {
    key_ptr(block, slot).key.get()
}

/// Changes the key in `slot`; the order among its neighbours must stay.
#[inline]
pub fn set_key(block: &mut [u8], slot: usize, key: &Key) {
    key_ptr_mut(block, slot).key = (*key).into();
}

/// The child in `slot`.
#[inline]
pub fn ptr(block: &[u8], slot: usize) -> (Logical, Generation) {
    let ptr = key_ptr(block, slot);
    (
        Logical(ptr.blockptr.get()),
        Generation(ptr.generation.get()),
    )
}

/// Points `slot` to another copy of its child.
#[inline]
pub fn set_ptr(block: &mut [u8], slot: usize, child: Logical, generation: Generation) {
    let ptr = key_ptr_mut(block, slot);
    ptr.blockptr.set(child.0);
    ptr.generation.set(generation.0);
}

/// Inserts a pointer in `slot`. The caller has seen that there is room and that the key belongs
/// there.
pub fn insert(block: &mut [u8], slot: usize, key: &Key, child: Logical, generation: Generation) {
    let count = nritems(block);
    assert!(slot <= count, "slot {slot} of {count} pointers");
    assert!(ptr_at(count + 1) <= block.len(), "the node has room");
    block.copy_within(ptr_at(slot)..ptr_at(count), ptr_at(slot + 1));
    *key_ptr_mut(block, slot) = KeyPtr::new(*key, child, generation);
    set_nritems(block, count + 1);
}

/// Removes `count` pointers from `slot` on.
pub fn delete(block: &mut [u8], slot: usize, count: usize) {
    let total = nritems(block);
    assert!(
        slot + count <= total,
        "slots {slot}+{count} of {total} pointers"
    );
    block.copy_within(ptr_at(slot + count)..ptr_at(total), ptr_at(slot));
    set_nritems(block, total - count);
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    #[test]
    fn pointers_are_found_inserted_and_removed() {
        let mut block = vec![0; 4096];
        init(
            &mut block,
            Logical(65536),
            Generation(7),
            5,
            1,
            &[1; 16],
            &[2; 16],
        );
        let most = node_ptrs_max(4096);
        for id in (0..most as u64).rev() {
            insert(
                &mut block,
                0,
                &Key::new(id * 2, 1, 0),
                Logical(id * 4096),
                Generation(id),
            );
        }
        assert_eq!(nritems(&block), most);
        assert_eq!(search(&block, &Key::new(10, 1, 0)), Ok(5));
        assert_eq!(search(&block, &Key::new(11, 1, 0)), Err(6));
        delete(&mut block, 5, 2);
        assert_eq!(search(&block, &Key::new(10, 1, 0)), Err(5));
        assert_eq!(ptr(&block, 5), (Logical(7 * 4096), Generation(7)));
        assert_eq!(nritems(&block), most - 2);
    }
}
