//! Taking items away.
//!
//! Owns: when a delete reaches beyond its leaf: the first item went (every ancestor repeats its
//! key), the last item went (the leaf is freed), or the leaf has become small (its siblings are
//! asked). Only then is the parent held.

use super::TreeContext;
use super::balance::becomes_small;
use super::descend::{Plan, Purpose};
use super::leaf::used;
use super::path::Path;
use super::roots::Root;
use crate::error::Result;
use crate::ondisk::key::Key;
use crate::ondisk::tree_block::{self, leaf, nritems};
use crate::transaction::TransHandle;
use std::ops::RangeInclusive;

/// What one leaf's part of a delete has found.
struct Removed {
    count: usize,
    /// Where the next leaf begins.
    upper: Option<Key>,
}

impl TreeContext {
    /// Deletes the item at `key`; false if there is none.
    pub fn delete(&self, trans: &TransHandle, root: &Root, key: &Key) -> Result<bool> {
        Ok(self.remove_run(trans, root, key, key)?.count > 0)
    }

    /// Deletes all items in a range of keys, leaf by leaf; returns how many. Others see the range
    /// go in steps; an error after the first step aborts the transaction.
    pub fn delete_range(
        &self,
        trans: &TransHandle,
        root: &Root,
        range: RangeInclusive<Key>,
    ) -> Result<u64> {
        let mut first = *range.start();
        let last = range.end();
        let mut total = 0;
        while first <= *last {
            let removed = match self.remove_run(trans, root, &first, last) {
                Ok(removed) => removed,
                Err(error) if total > 0 => return Err(trans.abort(error)),
                Err(error) => return Err(error),
            };
            total += removed.count as u64;
            match removed.upper {
                // Merging may have changed the bounds: what was deleted is gone, so starting
                // again at the same key finds what is left.
                Some(upper) if removed.count == 0 => first = upper,
                Some(_) => {}
                None if removed.count == 0 => break,
                None => {}
            }
        }
        Ok(total)
    }

    /// Deletes the items from `first` to `last` that one leaf has.
    fn remove_run(
        &self,
        trans: &TransHandle,
        root: &Root,
        first: &Key,
        last: &Key,
    ) -> Result<Removed> {
        let mut plan = Plan::new(Purpose::Delete);
        loop {
            let mut path = self.descend(trans, root, first, &mut plan)?;
            let upper = path.upper;
            let is_root = path.root_level == 0;
            let (block, _) = path.leaf()?;
            let slot = tree_block::search(block, first).unwrap_or_else(|slot| slot);
            let total = nritems(block);
            let count = (slot..total)
                .take_while(|&i| leaf::item_key(block, i) <= *last)
                .count();
            if count == 0 {
                return Ok(Removed { count, upper });
            }
            let reaches_up = !is_root
                && (slot == 0
                    || count == total
                    || becomes_small(block, slot, count, self.small_leaf_bytes()));
            if reaches_up && !plan.is_structural() {
                drop(path);
                plan.restructure();
                continue;
            }
            leaf::delete(block, slot, count);
            if reaches_up {
                // The items are gone: whatever fails now leaves the nodes above behind.
                self.after_delete(trans, root, path, slot)
                    .map_err(|error| trans.abort(error))?;
            }
            return Ok(Removed { count, upper });
        }
    }

    /// Brings the levels above a leaf in line after items from `slot` on were deleted.
    pub(super) fn after_delete(
        &self,
        trans: &TransHandle,
        root: &Root,
        mut path: Path,
        slot: usize,
    ) -> Result<()> {
        let mut emptied = Vec::new();
        let (block, _) = path.leaf()?;
        if nritems(block) == 0 {
            Self::unlink_child(&mut path, 1, &mut emptied)?;
            emptied.extend(path.take_write(0));
        } else {
            let small = used(block) < self.small_leaf_bytes();
            if slot == 0 {
                let low_key = leaf::item_key(block, 0);
                Self::fix_low_keys(&mut path, 1, &low_key)?;
            }
            if small && let Err(error) = self.merge_leaf(trans, root, &mut path, &mut emptied) {
                log::warn!("leaves of tree {} stay small: {error}", root.objectid);
            }
        }
        // Nothing leads to them any more. As in `btrfs_del_leaf`, the levels above are let go
        // first: others go on there while the blocks are given back.
        drop(path);
        for block in emptied {
            self.free_emptied(trans, root, block);
        }
        Ok(())
    }
}
