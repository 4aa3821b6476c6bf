//! Adding items.
//!
//! Owns: where a new item goes and what is done when its leaf is full. Invariant: an insert
//! either finds its key taken, or fails before anything moved, or is whole.

use super::TreeContext;
use super::descend::{Plan, Purpose};
use super::path::Path;
use super::roots::Root;
use super::split::Room;
use crate::error::{Error, Result};
use crate::ondisk::key::Key;
use crate::ondisk::tree_block::{self, item_size_max, leaf};
use crate::transaction::TransHandle;

impl TreeContext {
    /// Adds an item; [`Error::Exists`] if its key is taken.
    pub fn insert(&self, trans: &TransHandle, root: &Root, key: &Key, data: &[u8]) -> Result<()> {
        self.insert_many(trans, root, &[(*key, data)])
    }

    /// Adds items in ascending order of their keys, filling one leaf after the other. If one
    /// can't be added after others have been, the transaction aborts.
    pub fn insert_many(
        &self,
        trans: &TransHandle,
        root: &Root,
        items: &[(Key, &[u8])],
    ) -> Result<()> {
        debug_assert!(items.is_sorted_by(|a, b| a.0 < b.0), "items come in order");
        if items
            .iter()
            .any(|(_, data)| data.len() > item_size_max(self.nodesize) as usize)
        {
            return Err(Error::Overflow);
        }
        let mut done = 0;
        while done < items.len() {
            match self.insert_run(trans, root, &items[done..]) {
                Ok(count) => done += count,
                Err(error) if done > 0 => return Err(trans.abort(error)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Adds the first items, as many as one leaf takes; returns how many.
    fn insert_run(
        &self,
        trans: &TransHandle,
        root: &Root,
        items: &[(Key, &[u8])],
    ) -> Result<usize> {
        let (first, data) = &items[0];
        let mut plan = Plan::new(Purpose::Insert);
        loop {
            let mut path = self.descend(trans, root, first, &mut plan)?;
            let (block, _) = path.leaf()?;
            let slot = match tree_block::search(block, first) {
                Ok(_) => return Err(Error::Exists),
                Err(slot) => slot,
            };
            let room = Room {
                slot,
                is_new: true,
                bytes: data.len(),
            };
            if leaf::free_space(block) < room.needed() {
                if !plan.is_structural() {
                    drop(path);
                    plan.restructure();
                    continue;
                }
                self.make_room(trans, root, &mut path, first, room)?;
                put(&mut path, first, data)?;
                return Ok(1);
            }
            path.level(0).slot = slot;
            put(&mut path, first, data)?;
            return Ok(1 + fill(&mut path, slot + 1, &items[1..])?);
        }
    }
}

/// Adds an item at the path's slot, where there is room for it.
fn put(path: &mut Path, key: &Key, data: &[u8]) -> Result<()> {
    let (block, slot) = path.leaf()?;
    leaf::insert(block, slot, key, data);
    if slot == 0 && path.root_level > 0 {
        TreeContext::fix_low_keys(path, 1, key)?;
    }
    Ok(())
}

/// Adds items from `slot` on as long as they belong there and fit.
fn fill(path: &mut Path, mut slot: usize, items: &[(Key, &[u8])]) -> Result<usize> {
    let upper = path.upper;
    let (block, _) = path.leaf()?;
    // All of them go before the item that is behind the first one now.
    let behind = (slot < tree_block::nritems(block)).then(|| leaf::item_key(block, slot));
    let mut count = 0;
    for (key, data) in items {
        let belongs =
            upper.is_none_or(|upper| *key < upper) && behind.is_none_or(|behind| *key < behind);
        if !belongs || leaf::free_space(block) < tree_block::Item::SIZE + data.len() {
            break;
        }
        leaf::insert(block, slot, key, data);
        (slot, count) = (slot + 1, count + 1);
    }
    Ok(count)
}
