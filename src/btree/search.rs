//! Reading: from the root to one leaf, two read locks at a time.
//!
//! Owns: the reader's descent, which writers share for the root and for missing blocks.
//! Invariant: no I/O under a lock but for the last resort: a missing block is read with nothing
//! locked, then the descent starts again; only if it is missing again (or couldn't be believed)
//! is it read under its parent's lock, where the answer is final.

use super::TreeContext;
use super::block::{Found, check_child, expect_child, expect_root};
use super::path::Guard;
use super::roots::Root;
use crate::error::Result;
use crate::extent_buffer::{EbRef, ReadGuard};
use crate::ondisk::check::Expect;
use crate::ondisk::key::Key;
use crate::ondisk::tree_block::{self, LEVELS_MAX, leaf, node};

/// Siblings that are read ahead when a walk misses its next leaf.
const READAHEAD_BLOCKS: usize = 16;

/// Blocks that a descent keeps alive at most: a path, and another when the tree has changed.
const FETCHED_MAX: usize = 2 * LEVELS_MAX as usize;

/// What a descent has read from disk, kept alive until it comes by again: all of it, as one level
/// may push another out of a small cache.
#[derive(Default)]
pub(super) struct Fetched {
    blocks: Vec<EbRef>,
    /// Reading without locks didn't help: read under the parent's lock.
    insist: bool,
}

/// A read-locked leaf and the bounds of what belongs in it.
pub(super) struct LeafRead {
    pub(super) guard: ReadGuard,
    /// Keys in it are below this one; `None`: it is the tree's last leaf.
    pub(super) upper: Option<Key>,
    /// Keys in it are at least this one; `None`: it is the tree's first leaf.
    pub(super) lower: Option<Key>,
}

/// The slot to descend into for `key`.
pub(super) fn child_slot(block: &[u8], key: &Key) -> usize {
    match tree_block::search(block, key) {
        Ok(slot) => slot,
        Err(slot) => slot.saturating_sub(1),
    }
}

impl TreeContext {
    /// Locks the root node, for writing if its level is at most `write_level`.
    pub(super) fn lock_root(&self, root: &Root, write_level: Option<u8>) -> Result<Guard> {
        loop {
            let node = root.node();
            let expect = expect_root(root, &node);
            let eb = match self.cache.read(&expect) {
                Ok(eb) => eb,
                // The root may have moved and the block been reused meanwhile.
                Err(_) if root.node() != node => continue,
                Err(error) => return Err(error),
            };
            // The root may move while its lock is waited for, and its block become one of
            // another tree whose holder waits for what our caller holds.
            let still_root = |_: &EbRef| root.node() == node;
            let guard = match write_level {
                Some(level) if node.level <= level => {
                    eb.into_write_while(still_root).map(Guard::Write)
                }
                _ => eb.into_read_while(still_root).map(Guard::Read),
            };
            let Some(guard) = guard else { continue };
            // Whoever moves the root holds this lock: still named means still the root.
            if root.node() == node {
                check_child(&expect, &guard)?;
                return Ok(guard);
            }
        }
    }

    /// The child that a locked parent names. `None`: it wasn't cached; the caller lets go of its
    /// locks, calls [`TreeContext::fetch`] and starts again.
    pub(super) fn child(&self, expect: &Expect, fetched: &Fetched) -> Result<Option<EbRef>> {
        match self.look(expect) {
            Found::Ready(eb) => Ok(Some(eb)),
            _ if fetched.insist => self.child_now(expect).map(Some),
            _ => Ok(None),
        }
    }

    /// Reads a missing block with nothing locked. Errors wait: the pointer may have been changed
    /// by now, and the descent will see.
    pub(super) fn fetch(&self, expect: &Expect, fetched: &mut Fetched) {
        let blocks = &mut fetched.blocks;
        let again = blocks.iter().any(|eb| eb.bytenr() == expect.at);
        match self.cache.read(expect) {
            Ok(eb) if !again && blocks.len() < FETCHED_MAX => blocks.push(eb),
            _ => fetched.insist = true,
        }
    }

    /// The leaf that `key` belongs in, read-locked.
    pub(super) fn read_leaf(&self, root: &Root, key: &Key, ahead: bool) -> Result<LeafRead> {
        let mut fetched = Fetched::default();
        'again: loop {
            let mut guard = match self.lock_root(root, None)? {
                Guard::Read(guard) => guard,
                Guard::Write(_) => unreachable!("no write level was asked for"),
            };
            let (mut upper, mut lower) = (None, None);
            while tree_block::level(&guard) > 0 {
                let slot = child_slot(&guard, key);
                if slot + 1 < tree_block::nritems(&guard) {
                    upper = Some(node::key(&guard, slot + 1));
                }
                if slot > 0 {
                    lower = Some(node::key(&guard, slot));
                }
                let expect = expect_child(root, &guard, slot)?;
                let Some(eb) = self.child(&expect, &fetched)? else {
                    let siblings = match ahead {
                        true => siblings_after(root, &guard, slot),
                        false => Vec::new(),
                    };
                    drop(guard);
                    if !siblings.is_empty() {
                        self.cache.readahead(&siblings);
                    }
                    self.fetch(&expect, &mut fetched);
                    continue 'again;
                };
                let child = eb.read();
                check_child(&expect, &child)?;
                // Assigning lets go of the parent only after the child is locked.
                guard = child;
            }
            return Ok(LeafRead {
                guard,
                upper,
                lower,
            });
        }
    }

    /// The data of the item at `key`, copied; `None` if there is none.
    pub fn get(&self, root: &Root, key: &Key) -> Result<Option<Vec<u8>>> {
        self.get_with(root, key, <[u8]>::to_vec)
    }

    /// Looks at the data of the item at `key` under its leaf's lock. `look` must not call any
    /// tree function.
    pub fn get_with<T>(
        &self,
        root: &Root,
        key: &Key,
        look: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>> {
        let found = self.read_leaf(root, key, false)?;
        Ok(match tree_block::search(&found.guard, key) {
            Ok(slot) => Some(look(leaf::item_data(&found.guard, slot))),
            Err(_) => None,
        })
    }

    /// The item with the largest key that is not greater than `key`, copied.
    pub fn find_last_before(&self, root: &Root, key: &Key) -> Result<Option<(Key, Vec<u8>)>> {
        let mut key = *key;
        loop {
            let found = self.read_leaf(root, &key, false)?;
            let slot = match tree_block::search(&found.guard, &key) {
                Ok(slot) => slot + 1,
                Err(slot) => slot,
            };
            if slot > 0 {
                let key = leaf::item_key(&found.guard, slot - 1);
                return Ok(Some((
                    key,
                    leaf::item_data(&found.guard, slot - 1).to_vec(),
                )));
            }
            match found.lower.and_then(Key::prev) {
                Some(below) if below < key => key = below,
                _ => return Ok(None),
            }
        }
    }
}

/// What `parent` says about the children after `slot`, for readahead.
fn siblings_after(root: &Root, parent: &[u8], slot: usize) -> Vec<Expect> {
    if tree_block::level(parent) != 1 {
        return Vec::new();
    }
    let end = tree_block::nritems(parent).min(slot + 1 + READAHEAD_BLOCKS);
    (slot + 1..end)
        .filter_map(|slot| expect_child(root, parent, slot).ok())
        .collect()
}
