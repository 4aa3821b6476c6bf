//! The blocks that one edit holds, from the leaf up.
//!
//! Owns: guards and the slot taken in each. Invariant: a level that is held was copied in this
//! transaction if it is write-locked, and its slot leads to the level below.

use crate::error::{Error, Result};
use crate::extent_buffer::{ReadGuard, WriteGuard};
use crate::ondisk::key::Key;
use crate::ondisk::tree_block::{self, LEVELS_MAX};
use std::ops::Deref;

/// A locked block.
pub(super) enum Guard {
    Read(ReadGuard),
    Write(WriteGuard),
}

impl Guard {
    /// The write guard; a descent that needs one has locked that way.
    pub(super) fn writable(&mut self) -> Result<&mut WriteGuard> {
        match self {
            Self::Write(guard) => Ok(guard),
            Self::Read(_) => Err(Error::corrupt(
                "tree edit: a block is not locked for writing",
            )),
        }
    }

    pub(super) fn is_write(&self) -> bool {
        matches!(self, Self::Write(_))
    }
}

impl Deref for Guard {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Read(guard) => guard,
            Self::Write(guard) => guard,
        }
    }
}

/// One held level.
pub(super) struct Level {
    pub(super) guard: Guard,
    pub(super) slot: usize,
}

/// A descent's held levels.
pub(super) struct Path {
    levels: [Option<Level>; LEVELS_MAX as usize],
    /// Where the tree's root is now; its level may not be held any more.
    pub(super) root_level: u8,
    /// The leaf holds keys below this one; `None`: it is the last leaf. Not kept up to date by
    /// splits.
    pub(super) upper: Option<Key>,
}

impl Path {
    pub(super) fn new() -> Self {
        Self {
            levels: [const { None }; LEVELS_MAX as usize],
            root_level: 0,
            upper: None,
        }
    }

    pub(super) fn hold(&mut self, guard: Guard) -> u8 {
        let level = tree_block::level(&guard);
        self.levels[level as usize] = Some(Level { guard, slot: 0 });
        level
    }

    pub(super) fn take(&mut self, level: u8) -> Option<Level> {
        self.levels.get_mut(level as usize)?.take()
    }

    /// Takes a write-locked block out.
    pub(super) fn take_write(&mut self, level: u8) -> Option<WriteGuard> {
        match self.take(level)?.guard {
            Guard::Write(guard) => Some(guard),
            Guard::Read(_) => None,
        }
    }

    pub(super) fn get(&self, level: u8) -> Option<&Level> {
        self.levels.get(level as usize)?.as_ref()
    }

    /// A level that must be held.
    pub(super) fn level(&mut self, level: u8) -> &mut Level {
        self.levels[level as usize]
            .as_mut()
            .expect("the descent holds this level")
    }

    /// The write guard and slot of a level that must be held for writing.
    pub(super) fn writable(&mut self, level: u8) -> Result<(&mut WriteGuard, usize)> {
        match self.levels.get_mut(level as usize).and_then(Option::as_mut) {
            Some(held) => Ok((held.guard.writable()?, held.slot)),
            None => Err(Error::corrupt(format!(
                "tree edit: level {level} is not held"
            ))),
        }
    }

    pub(super) fn holds_write(&self, level: u8) -> bool {
        self.get(level).is_some_and(|held| held.guard.is_write())
    }

    /// Lets go of every level above.
    pub(super) fn release_above(&mut self, level: u8) {
        for held in &mut self.levels[level as usize + 1..] {
            *held = None;
        }
    }

    /// The leaf and the slot in it.
    pub(super) fn leaf(&mut self) -> Result<(&mut WriteGuard, usize)> {
        self.writable(0)
    }
}
