//! Making room: pushing items to a sibling, splitting leaves and nodes, growing the root.
//!
//! Owns: the shape of the tree above a leaf that is too full. Invariant: new blocks are
//! allocated before the first byte moves, so a failure leaves the tree as it was.
//!
//! A leaf's sequence is looked at *as it will be*, with the new item in it ([`Room::size`]), so
//! that one decision covers an insert at any slot and an item that grows.

use super::TreeContext;
use super::block::{Found, check_child, expect_child};
use super::descend::SPLIT_PTRS_MAX;
use super::leaf::{move_items, used};
use super::node::{free_ptrs, move_ptrs};
use super::path::{Guard, Path};
use super::roots::{Root, RootNode};
use crate::error::{Error, Result};
use crate::extent_buffer::WriteGuard;
use crate::ondisk::key::Key;
use crate::ondisk::tree_block::{self, Item, LEVELS_MAX, leaf, leaf_data_size, node, nritems};
use crate::transaction::TransHandle;

/// Room that an edit wants in a leaf.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Where the new item goes, or which item grows.
    pub(super) slot: usize,
    /// A new item, or bytes for an old one.
    pub(super) is_new: bool,
    /// Bytes of data, without the item's entry.
    pub(super) bytes: usize,
}

impl Room {
    /// Bytes that the edit takes from the leaf.
    pub(super) fn needed(&self) -> usize {
        self.bytes + if self.is_new { Item::SIZE } else { 0 }
    }

    fn count(&self, block: &[u8]) -> usize {
        nritems(block) + usize::from(self.is_new)
    }

    /// Bytes of item `i` of the sequence as it will be.
    fn size(&self, block: &[u8], i: usize) -> usize {
        let have = |slot| Item::SIZE + leaf::item_size(block, slot);
        match (self.is_new, i.cmp(&self.slot)) {
            (true, std::cmp::Ordering::Equal) => self.needed(),
            (true, std::cmp::Ordering::Greater) => have(i - 1),
            (false, std::cmp::Ordering::Equal) => have(i) + self.bytes,
            _ => have(i),
        }
    }

    /// The slot of today that becomes item `i`.
    fn today(&self, i: usize) -> usize {
        if self.is_new && i > self.slot {
            i - 1
        } else {
            i
        }
    }
}

/// How a leaf falls apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Items from here on go to a new leaf.
    Two(usize),
    /// The item at the edit's slot is too large for either side: it gets a leaf of its own.
    Three,
}

fn choose_cut(block: &[u8], room: &Room, capacity: usize) -> Cut {
    let count = room.count(block);
    // Keys arrive in order more often than not: leave a full leaf behind.
    if room.is_new && room.slot + 1 == count {
        return Cut::Two(room.slot);
    }
    let total: usize = (0..count).map(|i| room.size(block, i)).sum();
    let mut best: Option<(usize, usize)> = None;
    let mut left = 0;
    for i in 1..count {
        left += room.size(block, i - 1);
        let right = total - left;
        if left <= capacity && right <= capacity {
            let uneven = left.abs_diff(right);
            if best.is_none_or(|(least, _)| uneven < least) {
                best = Some((uneven, i));
            }
        }
    }
    best.map_or(Cut::Three, |(_, i)| Cut::Two(i))
}

impl TreeContext {
    /// Makes room in the path's leaf for an edit at `room.slot` (of `key`, if the item is new).
    /// Afterwards the path leads to the leaf and slot where the edit goes. The plan was
    /// structural: the parent is held, with room for two pointers.
    pub(super) fn make_room(
        &self,
        trans: &TransHandle,
        root: &Root,
        path: &mut Path,
        key: &Key,
        mut room: Room,
    ) -> Result<()> {
        path.level(0).slot = room.slot;
        if leaf::free_space(path.leaf()?.0) >= room.needed() {
            return Ok(());
        }
        if path.root_level == 0 {
            self.grow_root(trans, root, path)?;
        }
        if self.push_left(trans, root, path, &mut room)?
            || self.push_right(trans, root, path, &room)?
        {
            return Ok(());
        }
        debug_assert!(
            path.get(1)
                .is_some_and(|parent| free_ptrs(&parent.guard) >= SPLIT_PTRS_MAX)
        );
        let capacity = leaf_data_size(self.nodesize) as usize;
        match choose_cut(&path.level(0).guard, &room, capacity) {
            Cut::Two(cut) => self.split_leaf(trans, root, path, key, &room, cut),
            Cut::Three => self.split_leaf_twice(trans, root, path, key, &room),
        }
    }

    /// Puts a node with one pointer above the root.
    pub(super) fn grow_root(
        &self,
        trans: &TransHandle,
        root: &Root,
        path: &mut Path,
    ) -> Result<()> {
        let level = path.root_level + 1;
        if level >= LEVELS_MAX {
            return Err(Error::Overflow);
        }
        let (old, _) = path.writable(path.root_level)?;
        let first_key = match nritems(old) {
            0 => Key::MIN,
            _ => tree_block::key(old, 0),
        };
        let old_at = old.bytenr();
        let mut new = self.new_block(trans, root, level, first_key)?;
        node::insert(&mut new, 0, &first_key, old_at, trans.transid());
        root.set_node(RootNode {
            bytenr: new.bytenr(),
            generation: trans.transid(),
            level,
        });
        trans.transaction().add_dirty_root(root.objectid);
        root.add_used(u64::from(self.nodesize));
        path.hold(Guard::Write(new));
        path.root_level = level;
        Ok(())
    }

    /// Splits a node that a descent for `key` passes; the path then holds the half for `key`.
    pub(super) fn split_node(
        &self,
        trans: &TransHandle,
        root: &Root,
        key: &Key,
        path: &mut Path,
        level: u8,
    ) -> Result<()> {
        // The parent is looked at first: after that only the allocation can fail.
        path.writable(level + 1)?;
        let (left, _) = path.writable(level)?;
        let count = nritems(left);
        // Keys that arrive in order split off little, so that full nodes stay behind.
        let at_end = key >= &node::key(left, count - 1);
        let cut = if at_end {
            count - count / 8 - 1
        } else {
            count / 2
        };
        let first_key = node::key(left, cut);
        let mut right = self.new_block(trans, root, level, first_key)?;
        let (left, _) = path.writable(level)?;
        move_ptrs(left, cut, count - cut, &mut right, 0);
        let at = right.bytenr();
        let (parent, slot) = path.writable(level + 1)?;
        node::insert(parent, slot + 1, &first_key, at, trans.transid());
        root.add_used(u64::from(self.nodesize));
        if *key >= first_key {
            path.level(level + 1).slot += 1;
            path.hold(Guard::Write(right));
        } else {
            path.upper = Some(first_key);
        }
        Ok(())
    }

    fn split_leaf(
        &self,
        trans: &TransHandle,
        root: &Root,
        path: &mut Path,
        key: &Key,
        room: &Room,
        cut: usize,
    ) -> Result<()> {
        path.writable(1)?;
        let (left, _) = path.leaf()?;
        let from = room.today(cut);
        let first_key = if room.is_new && cut == room.slot {
            *key
        } else {
            leaf::item_key(left, from)
        };
        let mut right = self.new_block(trans, root, 0, first_key)?;
        let (left, _) = path.leaf()?;
        let count = nritems(left);
        move_items(left, from, count - from, &mut right, 0);
        let at = right.bytenr();
        let (parent, slot) = path.writable(1)?;
        node::insert(parent, slot + 1, &first_key, at, trans.transid());
        root.add_used(u64::from(self.nodesize));
        if room.slot >= cut {
            path.level(1).slot += 1;
            path.hold(Guard::Write(right));
            path.level(0).slot = room.slot - cut;
        }
        Ok(())
    }

    /// The item at the edit's slot goes to a leaf of its own, the items behind it to another.
    fn split_leaf_twice(
        &self,
        trans: &TransHandle,
        root: &Root,
        path: &mut Path,
        key: &Key,
        room: &Room,
    ) -> Result<()> {
        path.writable(1)?;
        let (left, _) = path.leaf()?;
        let behind = room.today(room.slot + 1);
        let behind_key = leaf::item_key(left, behind);
        let own_key = if room.is_new {
            *key
        } else {
            leaf::item_key(left, room.slot)
        };
        let mut own = self.new_block(trans, root, 0, own_key)?;
        let mut right = match self.new_block(trans, root, 0, behind_key) {
            Ok(right) => right,
            Err(error) => {
                self.free_block(trans, root, own, true);
                return Err(error);
            }
        };
        let (left, _) = path.leaf()?;
        let count = nritems(left);
        move_items(left, behind, count - behind, &mut right, 0);
        if !room.is_new {
            move_items(left, room.slot, 1, &mut own, 0);
        }
        let (own_at, right_at) = (own.bytenr(), right.bytenr());
        let (parent, slot) = path.writable(1)?;
        node::insert(parent, slot + 1, &own_key, own_at, trans.transid());
        node::insert(parent, slot + 2, &behind_key, right_at, trans.transid());
        root.add_used(2 * u64::from(self.nodesize));
        path.level(1).slot += 1;
        path.hold(Guard::Write(own));
        path.level(0).slot = 0;
        Ok(())
    }

    /// Moves items in front of the edit to the left sibling, if it is in memory and has a good
    /// part free. True: there is room now.
    fn push_left(
        &self,
        trans: &TransHandle,
        root: &Root,
        path: &mut Path,
        room: &mut Room,
    ) -> Result<bool> {
        let (parent, slot) = path.writable(1)?;
        let Some(left) = slot.checked_sub(1) else {
            return Ok(false);
        };
        let Some(sibling) = self.roomy_sibling(root, parent, left)? else {
            return Ok(false);
        };
        let (block, _) = path.leaf()?;
        let limit = leaf::free_space(&sibling).min(used(block) / 2);
        let (mut count, mut bytes) = (0, 0);
        while count < room.slot && count + 1 < nritems(block) {
            let size = Item::SIZE + leaf::item_size(block, count);
            if bytes + size > limit {
                break;
            }
            (count, bytes) = (count + 1, bytes + size);
        }
        if leaf::free_space(block) + bytes < room.needed() {
            return Ok(false);
        }
        let mut sibling = self.own_sibling(trans, root, path, left, sibling)?;
        let (block, _) = path.leaf()?;
        let end = nritems(&sibling);
        move_items(block, 0, count, &mut sibling, end);
        let low_key = leaf::item_key(block, 0);
        let (parent, slot) = path.writable(1)?;
        // Not slot 0, so no other level repeats this key. If the new item goes to the leaf's
        // front, the caller sets it again.
        node::set_key(parent, slot, &low_key);
        room.slot -= count;
        path.level(0).slot = room.slot;
        Ok(true)
    }

    /// The same with items behind the edit and the right sibling.
    fn push_right(
        &self,
        trans: &TransHandle,
        root: &Root,
        path: &mut Path,
        room: &Room,
    ) -> Result<bool> {
        let right = path.writable(1)?.1 + 1;
        let (block, _) = path.leaf()?;
        let count = nritems(block);
        let first = if room.is_new {
            room.slot
        } else {
            room.slot + 1
        }
        .max(1);
        if first >= count {
            return Ok(false);
        }
        let (parent, _) = path.writable(1)?;
        if right >= nritems(parent) {
            return Ok(false);
        }
        let Some(sibling) = self.roomy_sibling(root, parent, right)? else {
            return Ok(false);
        };
        let (block, _) = path.leaf()?;
        let limit = leaf::free_space(&sibling).min(used(block) / 2);
        let (mut from, mut bytes) = (count, 0);
        while from > first {
            let size = Item::SIZE + leaf::item_size(block, from - 1);
            if bytes + size > limit {
                break;
            }
            (from, bytes) = (from - 1, bytes + size);
        }
        if leaf::free_space(block) + bytes < room.needed() {
            return Ok(false);
        }
        let mut sibling = self.own_sibling(trans, root, path, right, sibling)?;
        let (block, _) = path.leaf()?;
        move_items(block, from, count - from, &mut sibling, 0);
        let low_key = leaf::item_key(&sibling, 0);
        let (parent, _) = path.writable(1)?;
        node::set_key(parent, right, &low_key);
        Ok(true)
    }

    /// A leaf's sibling, locked, if looking costs no I/O and a quarter of it is free.
    fn roomy_sibling(&self, root: &Root, parent: &[u8], slot: usize) -> Result<Option<WriteGuard>> {
        let Some(sibling) = self.cached_sibling(root, parent, slot)? else {
            return Ok(None);
        };
        let roomy = leaf::free_space(&sibling) >= leaf_data_size(self.nodesize) as usize / 4;
        Ok(roomy.then_some(sibling))
    }

    /// The child in `slot` of a write-locked parent, write-locked, if that needs neither I/O nor
    /// waiting: siblings are only ever tried for.
    pub(super) fn cached_sibling(
        &self,
        root: &Root,
        parent: &[u8],
        slot: usize,
    ) -> Result<Option<WriteGuard>> {
        let expect = expect_child(root, parent, slot)?;
        let Found::Ready(eb) = self.look(&expect) else {
            return Ok(None);
        };
        let Some(guard) = eb.try_write() else {
            return Ok(None);
        };
        check_child(&expect, &guard)?;
        Ok(Some(guard))
    }

    /// Copies a leaf's sibling if this transaction hasn't yet.
    pub(super) fn own_sibling(
        &self,
        trans: &TransHandle,
        root: &Root,
        path: &mut Path,
        slot: usize,
        sibling: WriteGuard,
    ) -> Result<WriteGuard> {
        if !self.needs_cow(trans, root, &sibling) {
            return Ok(sibling);
        }
        let level = tree_block::level(&sibling);
        let (parent, _) = path.writable(level + 1)?;
        self.cow_child(trans, root, parent, slot, sibling)
    }

    /// After an edit of a leaf's first item: the levels above repeat its key.
    pub(super) fn fix_low_keys(path: &mut Path, from_level: u8, key: &Key) -> Result<()> {
        for level in from_level..=path.root_level {
            let (block, slot) = path.writable(level)?;
            node::set_key(block, slot, key);
            if slot > 0 {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ondisk::tree_block::init;
    use crate::units::{Generation, Logical};
    use proptest::prelude::*;

    fn leaf_with(sizes: &[usize]) -> Vec<u8> {
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
        for (slot, size) in sizes.iter().enumerate() {
            leaf::insert(
                &mut block,
                slot,
                &Key::new(slot as u64, 1, 0),
                &vec![1; *size],
            );
        }
        block
    }

    proptest! {
        #[test]
        fn every_side_of_a_cut_fits(
            sizes in prop::collection::vec(0usize..400, 1..12),
            slot in 0usize..12, is_new in any::<bool>(), bytes in 0usize..3970
        ) {
            let capacity = leaf_data_size(4096) as usize;
            prop_assume!(sizes.iter().sum::<usize>() + sizes.len() * Item::SIZE <= capacity);
            let block = leaf_with(&sizes);
            let slot = slot.min(sizes.len() - usize::from(!is_new));
            let room = Room { slot, is_new, bytes };
            let own = room.size(&block, slot);
            prop_assume!(own <= capacity && room.needed() > leaf::free_space(&block));
            let count = room.count(&block);
            let bytes = |range: std::ops::Range<usize>| -> usize {
                range.map(|i| room.size(&block, i)).sum()
            };
            match choose_cut(&block, &room, capacity) {
                Cut::Two(cut) => {
                    prop_assert!(cut > 0 && cut < count);
                    prop_assert!(bytes(0..cut) <= capacity && bytes(cut..count) <= capacity);
                }
                Cut::Three => {
                    prop_assert!(slot > 0 && slot + 1 < count);
                    prop_assert!(bytes(0..slot) <= capacity && bytes(slot + 1..count) <= capacity);
                }
            }
        }
    }

    #[test]
    fn keys_in_order_leave_full_leaves_behind() {
        let block = leaf_with(&[900; 4]);
        let room = Room {
            slot: 4,
            is_new: true,
            bytes: 900,
        };
        assert_eq!(choose_cut(&block, &room, 3995), Cut::Two(4));
    }
}
