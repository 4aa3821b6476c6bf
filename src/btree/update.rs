//! Changing items: in place, to another size, or under another key.
//!
//! Owns: read-modify-write of one item under its leaf's lock.

use super::TreeContext;
use super::balance::becomes_small;
use super::descend::{Plan, Purpose};
use super::roots::Root;
use super::split::Room;
use crate::error::{Error, Result};
use crate::ondisk::key::Key;
use crate::ondisk::tree_block::{self, item_size_max, leaf, nritems};
use crate::transaction::TransHandle;

/// What an item becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// As it is, also if it isn't there.
    Keep,
    /// This data; the item is added if it isn't there.
    Put(Vec<u8>),
    /// Gone.
    Delete,
}

impl TreeContext {
    /// Changes the bytes of the item at `key` in place; false if there is none. `change` must
    /// not call any tree function.
    pub fn modify(
        &self,
        trans: &TransHandle,
        root: &Root,
        key: &Key,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<bool> {
        let mut plan = Plan::new(Purpose::Change);
        let mut path = self.descend(trans, root, key, &mut plan)?;
        let (block, _) = path.leaf()?;
        match tree_block::search(block, key) {
            Ok(slot) => {
                change(leaf::item_data_mut(block, slot));
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    /// Puts `data` at `key`, whatever was there before.
    pub fn upsert(&self, trans: &TransHandle, root: &Root, key: &Key, data: &[u8]) -> Result<()> {
        self.put_sized(trans, root, key, data, true).map(|_| ())
    }

    /// Puts `data`, of any size, at `key` if there is an item; false if there is none.
    pub fn replace(
        &self,
        trans: &TransHandle,
        root: &Root,
        key: &Key,
        data: &[u8],
    ) -> Result<bool> {
        self.put_sized(trans, root, key, data, false)
    }

    fn put_sized(
        &self,
        trans: &TransHandle,
        root: &Root,
        key: &Key,
        data: &[u8],
        add: bool,
    ) -> Result<bool> {
        let mut found = true;
        self.change_item(trans, root, key, |old| {
            found = old.is_some();
            Ok(if found || add {
                Change::Put(data)
            } else {
                Change::Keep
            })
        })?;
        Ok(found)
    }

    /// Lets `decide` look at the item at `key` (`None`: there is none) and say what it becomes,
    /// in one step for all others. `decide` may be called again when the leaf had no room, with
    /// what is there by then; it must not call the btree on this tree or one that comes later
    /// in the lock order.
    pub fn update(
        &self,
        trans: &TransHandle,
        root: &Root,
        key: &Key,
        mut decide: impl FnMut(Option<&[u8]>) -> Result<Update>,
    ) -> Result<()> {
        self.change_item(trans, root, key, |old| {
            Ok(match decide(old)? {
                Update::Keep => Change::Keep,
                Update::Put(data) => Change::Put(data),
                Update::Delete => Change::Delete,
            })
        })
    }

    fn change_item<B: AsRef<[u8]>>(
        &self,
        trans: &TransHandle,
        root: &Root,
        key: &Key,
        mut decide: impl FnMut(Option<&[u8]>) -> Result<Change<B>>,
    ) -> Result<()> {
        let mut plan = Plan::new(Purpose::Change);
        loop {
            let mut path = self.descend(trans, root, key, &mut plan)?;
            let is_root = path.root_level == 0;
            let (block, _) = path.leaf()?;
            let place = tree_block::search(block, key);
            let old = place.ok().map(|slot| leaf::item_data(block, slot));
            let old_len = old.map(<[u8]>::len);
            let data = match (decide(old)?, place) {
                (Change::Keep, _) | (Change::Delete, Err(_)) => return Ok(()),
                (Change::Put(data), _) => data,
                (Change::Delete, Ok(slot)) => {
                    let reaches_up = !is_root
                        && (slot == 0
                            || nritems(block) == 1
                            || becomes_small(block, slot, 1, self.small_leaf_bytes()));
                    if reaches_up && !plan.is_structural_for(Purpose::Delete) {
                        drop(path);
                        plan = Plan::new(Purpose::Delete);
                        plan.restructure();
                        continue;
                    }
                    leaf::delete(block, slot, 1);
                    if reaches_up {
                        self.after_delete(trans, root, path, slot)
                            .map_err(|error| trans.abort(error))?;
                    }
                    return Ok(());
                }
            };
            let data = data.as_ref();
            if data.len() > item_size_max(self.nodesize) as usize {
                return Err(Error::Overflow);
            }
            let (slot, is_new) = match place {
                Ok(slot) => (slot, false),
                Err(slot) => (slot, true),
            };
            let bytes = data.len().saturating_sub(old_len.unwrap_or(0));
            let room = Room {
                slot,
                is_new,
                bytes,
            };
            let full = leaf::free_space(block) < room.needed();
            let below_all = is_new && slot == 0 && !is_root;
            if full && !plan.is_structural_for(Purpose::Insert) {
                drop(path);
                plan = Plan::new(Purpose::Insert);
                plan.restructure();
                continue;
            }
            if below_all && !plan.is_for(Purpose::Insert) {
                drop(path);
                plan = Plan::new(Purpose::Insert);
                continue;
            }
            self.make_room(trans, root, &mut path, key, room)?;
            let root_level = path.root_level;
            let (block, slot) = path.leaf()?;
            if is_new {
                leaf::insert(block, slot, key, data);
            } else {
                leaf::resize(block, slot, data.len());
                leaf::item_data_mut(block, slot).copy_from_slice(data);
            }
            if is_new && slot == 0 && root_level > 0 {
                Self::fix_low_keys(&mut path, 1, key)?;
            }
            return Ok(());
        }
    }

    /// Gives the item at `old` the key `new`, in place: no other key may lie between the two.
    /// False if there is no item at `old`; [`Error::Exists`] if `new` would pass a neighbour.
    pub fn rekey(&self, trans: &TransHandle, root: &Root, old: &Key, new: &Key) -> Result<bool> {
        let mut plan = Plan::new(Purpose::Delete);
        loop {
            let mut path = self.descend(trans, root, old, &mut plan)?;
            let (upper, root_level) = (path.upper, path.root_level);
            let (block, _) = path.leaf()?;
            let Ok(slot) = tree_block::search(block, old) else {
                return Ok(false);
            };
            let count = nritems(block);
            let above = if slot + 1 < count {
                Some(leaf::item_key(block, slot + 1))
            } else {
                upper
            };
            let below = slot.checked_sub(1).map(|slot| leaf::item_key(block, slot));
            // Downwards from the first slot the neighbour is in another leaf: refuse, the caller
            // deletes and inserts.
            let fits = above.is_none_or(|above| *new < above)
                && below.map_or(*new >= *old || root_level == 0, |below| *new > below);
            if !fits {
                return Err(Error::Exists);
            }
            // As for a delete of the first item: the levels above repeat its key.
            if slot == 0 && root_level > 0 && !plan.is_structural() {
                drop(path);
                plan.restructure();
                continue;
            }
            leaf::set_item_key(block, slot, new);
            if slot == 0 && root_level > 0 {
                Self::fix_low_keys(&mut path, 1, new)?;
            }
            return Ok(true);
        }
    }
}

enum Change<B> {
    Keep,
    Put(B),
    Delete,
}
