//! The writer's descent: lock coupling from the root, copying on the way.
//!
//! Owns: which levels are write-locked, and which stay locked on arrival. A descent starts
//! hopeful: everything read-locked but the leaf. What turns out to be needed raises
//! [`Plan::write_level`] or makes the plan *structural*, everything is let go, and the descent
//! starts again; each restart raises something, so there are few.
//!
//! * A block that must be copied needs its own and its parent's write lock.
//! * A structural plan prepares each write-locked node it passes: an insert splits one that
//!   couldn't take two more pointers, a delete merges one that is nearly empty and takes down a
//!   root with a single child. So the level above always has room, or something to spare.
//! * On arrival at a level, the levels above are let go unless the edit below can reach them: the
//!   first slot's key (which every ancestor repeats) and the last pointer of a node.

use super::TreeContext;
use super::block::{check_child, expect_child};
use super::node::free_ptrs;
use super::path::{Guard, Path};
use super::roots::Root;
use super::search::Fetched;
use crate::error::Result;
use crate::ondisk::key::Key;
use crate::ondisk::tree_block::{self, LEVELS_MAX, node, node_ptrs_max, nritems};
use crate::transaction::TransHandle;

/// Pointers that a leaf's split can add to its parent.
pub(super) const SPLIT_PTRS_MAX: usize = 2;

/// What the edit may do to the shape of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Change an item in place.
    Change,
    /// Add an item, or bytes to one.
    Insert,
    /// Take items away.
    Delete,
}

/// How the next descent goes.
pub(super) struct Plan {
    purpose: Purpose,
    /// Levels up to this one are write-locked.
    write_level: u8,
    /// The leaf's edit changes the nodes above.
    structural: bool,
    /// The key is smaller than any in the tree: all levels repeat the new first key.
    low_key: bool,
    pub(super) fetched: Fetched,
}

impl Plan {
    pub(super) fn new(purpose: Purpose) -> Self {
        Self {
            purpose,
            write_level: 0,
            structural: false,
            low_key: false,
            fetched: Fetched::default(),
        }
    }

    /// The leaf can't be edited without its parent: the next descent keeps it.
    pub(super) fn restructure(&mut self) {
        self.structural = true;
        self.write_level = self.write_level.max(1);
    }

    pub(super) fn is_structural(&self) -> bool {
        self.structural
    }

    pub(super) fn is_for(&self, purpose: Purpose) -> bool {
        self.purpose == purpose
    }

    pub(super) fn is_structural_for(&self, purpose: Purpose) -> bool {
        self.structural && self.purpose == purpose
    }

    fn raise(&mut self, level: u8) {
        self.write_level = self.write_level.max(level);
    }
}

/// What became of a node that a structural plan passes.
pub(super) enum Prepared {
    /// Go on below it.
    Ready,
    /// The root is one level lower now.
    Lower,
    /// Start again with this level write-locked.
    Raise(u8),
}

impl TreeContext {
    /// Write-locks the leaf that `key` belongs in, copied if need be, with the levels above that
    /// the plan keeps. The leaf's slot is not set.
    pub(super) fn descend(
        &self,
        trans: &TransHandle,
        root: &Root,
        key: &Key,
        plan: &mut Plan,
    ) -> Result<Path> {
        trans.check()?;
        'again: loop {
            let mut path = Path::new();
            let mut guard = self.lock_root(root, Some(plan.write_level))?;
            let mut level = tree_block::level(&guard);
            if self.needs_cow(trans, root, &guard) {
                guard = match guard {
                    Guard::Write(old) => Guard::Write(self.cow_root(trans, root, old)?),
                    Guard::Read(_) => {
                        plan.raise(level);
                        continue 'again;
                    }
                };
            }
            path.root_level = level;
            path.hold(guard);
            loop {
                if plan.structural && level > 0 && path.holds_write(level) {
                    match self.prepare(trans, root, key, &mut path, level, plan.purpose)? {
                        Prepared::Ready => {}
                        Prepared::Lower => {
                            level -= 1;
                            continue;
                        }
                        Prepared::Raise(to) => {
                            plan.raise(to);
                            continue 'again;
                        }
                    }
                }
                if level == 0 {
                    if !plan.structural && !plan.low_key {
                        path.release_above(0);
                    }
                    return Ok(path);
                }
                if !self.choose_child(key, plan, &mut path, level) {
                    continue 'again;
                }
                let held = path.level(level);
                let expect = expect_child(root, &held.guard, held.slot)?;
                let Some(eb) = self.child(&expect, &plan.fetched)? else {
                    drop(path);
                    self.fetch(&expect, &mut plan.fetched);
                    continue 'again;
                };
                let mut child = match level - 1 <= plan.write_level {
                    true => Guard::Write(eb.into_write()),
                    false => Guard::Read(eb.into_read()),
                };
                check_child(&expect, &child)?;
                if self.needs_cow(trans, root, &child) {
                    child = match child {
                        Guard::Write(old) if path.holds_write(level) => {
                            let (parent, slot) = path.writable(level)?;
                            Guard::Write(self.cow_child(trans, root, parent, slot, old)?)
                        }
                        _ => {
                            plan.raise(level);
                            continue 'again;
                        }
                    };
                }
                path.hold(child);
                level -= 1;
            }
        }
    }

    /// Chooses the slot at `level` and lets go of the levels above that nothing below can reach.
    /// False: the plan was raised, start again.
    fn choose_child(&self, key: &Key, plan: &mut Plan, path: &mut Path, level: u8) -> bool {
        let root_level = path.root_level;
        let held = path.level(level);
        let (slot, below_all) = match tree_block::search(&held.guard, key) {
            Ok(slot) => (slot, false),
            Err(0) => (0, true),
            Err(slot) => (slot - 1, false),
        };
        held.slot = slot;
        let (count, upper) = {
            let count = nritems(&held.guard);
            (
                count,
                (slot + 1 < count).then(|| node::key(&held.guard, slot + 1)),
            )
        };
        if upper.is_some() {
            path.upper = upper;
        }
        if below_all && plan.purpose == Purpose::Insert && !plan.low_key {
            plan.low_key = true;
            plan.raise(LEVELS_MAX - 1);
            return false;
        }
        let reachable = plan.low_key
            || (plan.structural && plan.purpose == Purpose::Delete && (slot == 0 || count < 2));
        if !reachable {
            path.release_above(level);
        } else if level < root_level && !path.holds_write(level + 1) {
            plan.raise(level + 1);
            return false;
        }
        true
    }

    /// Makes a write-locked node fit for what the edit below may do to it.
    fn prepare(
        &self,
        trans: &TransHandle,
        root: &Root,
        key: &Key,
        path: &mut Path,
        level: u8,
        purpose: Purpose,
    ) -> Result<Prepared> {
        let is_root = level == path.root_level;
        let has_parent = path.holds_write(level + 1);
        let block = &path.level(level).guard;
        let count = nritems(block);
        let capacity = node_ptrs_max(self.nodesize);
        match purpose {
            Purpose::Change => {}
            Purpose::Insert if free_ptrs(block) >= SPLIT_PTRS_MAX => {}
            Purpose::Insert if is_root => {
                self.grow_root(trans, root, path)?;
                self.split_node(trans, root, key, path, level)?;
            }
            Purpose::Insert if !has_parent => return Ok(Prepared::Raise(level + 1)),
            Purpose::Insert => self.split_node(trans, root, key, path, level)?,
            Purpose::Delete if is_root && count == 1 => {
                self.collapse_root(trans, root, path)?;
                return Ok(Prepared::Lower);
            }
            Purpose::Delete if is_root => {}
            Purpose::Delete if has_parent && count < capacity / 3 => {
                self.balance_node(trans, root, path, level)?;
            }
            Purpose::Delete if count < (capacity / 8).max(2) && !has_parent => {
                return Ok(Prepared::Raise(level + 1));
            }
            Purpose::Delete => {}
        }
        Ok(Prepared::Ready)
    }
}
