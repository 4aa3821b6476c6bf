//! What a transaction did that a log of single inodes can't tell.
//!
//! Owns: the inodes whose names or sharing changed, and the places in directories that were taken away
//! from something. Whoever makes such an edit says so here, under the edit's handle; an fsync that
//! would contradict one commits instead. Invariant: bounded; what doesn't fit any more makes
//! everything unloggable until the next transaction, which begins with an empty list.

use crate::ondisk::csum::name_hash;
use crate::sync::Mutex;
use std::collections::{BTreeMap, BTreeSet};

/// Entries of all lists together.
const ENTRIES_MAX: usize = 1 << 14;

/// See the module.
#[derive(Default)]
pub struct Unlogged {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    inodes: BTreeSet<(u64, u64)>,
    places: BTreeMap<(u64, u64), Places>,
    entries: usize,
    /// The lists are no longer whole.
    overflown: bool,
}

/// What a directory has lost.
#[derive(Default)]
struct Places {
    /// Names with one hash share an item: in the last commit it may be full of what was removed since.
    hashes: BTreeSet<u32>,
    indexes: BTreeSet<u64>,
}

impl Unlogged {
    /// The inode got, lost or changed a name, or has extents that were another's before.
    pub fn add_inode(&self, tree: u64, objectid: u64) {
        let mut state = self.state.lock();
        if state.has_room() && state.inodes.insert((tree, objectid)) {
            state.entries += 1;
        }
    }

    /// Whether [`Unlogged::add_inode`] was called for it.
    pub fn has_inode(&self, tree: u64, objectid: u64) -> bool {
        let state = self.state.lock();
        state.overflown || state.inodes.contains(&(tree, objectid))
    }

    /// An entry of a directory went away, and what it led to may still have it in the last commit or
    /// in the log: whoever takes the name, or the place in the listing, must not be replayed
    /// over it.
    pub fn add_place(&self, tree: u64, dir: u64, index: u64, name: &[u8]) {
        let mut state = self.state.lock();
        if state.has_room() {
            let places = state.places.entry((tree, dir)).or_default();
            places.indexes.insert(index);
            places.hashes.insert(name_hash(name));
            state.entries += 1;
        }
    }

    /// Whether the name, the room for it or the place in the listing was somebody's.
    pub fn has_place(&self, tree: u64, dir: u64, index: u64, name: &[u8]) -> bool {
        let state = self.state.lock();
        let places = state.places.get(&(tree, dir));
        state.overflown
            || places.is_some_and(|it| {
                it.indexes.contains(&index) || it.hashes.contains(&name_hash(name))
            })
    }
}

impl State {
    fn has_room(&mut self) -> bool {
        self.overflown |= self.entries >= ENTRIES_MAX;
        !self.overflown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_indexes_are_each_taken() {
        let unlogged = Unlogged::default();
        unlogged.add_place(5, 256, 7, b"a");
        assert!(unlogged.has_place(5, 256, 8, b"a"));
        assert!(unlogged.has_place(5, 256, 7, b"b"));
        assert!(!unlogged.has_place(5, 256, 8, b"b"));
        assert!(!unlogged.has_place(5, 257, 7, b"a"));
        assert!(!unlogged.has_place(6, 256, 7, b"a"));
    }

    #[test]
    fn more_than_fits_makes_everything_unloggable() {
        let unlogged = Unlogged::default();
        for objectid in 0..ENTRIES_MAX as u64 {
            unlogged.add_inode(5, objectid);
        }
        assert!(!unlogged.has_inode(6, 1));
        unlogged.add_inode(5, 1 << 40);
        assert!(unlogged.has_inode(6, 1) && unlogged.has_place(6, 1, 1, b"x"));
    }
}
