//! Walking a tree item by item.
//!
//! Owns: a copy of one leaf, and a handle on its buffer. Never: a lock. So a walk may be
//! interleaved with edits, by the same thread too: each leaf is seen as it was when the cursor
//! came to it, and the way on is found by key, so nothing is seen twice and nothing that stays
//! is missed.

use super::TreeContext;
use super::roots::Root;
use super::search::LeafRead;
use crate::error::Result;
use crate::extent_buffer::EbRef;
use crate::ondisk::key::Key;
use crate::ondisk::tree_block::{self, leaf, nritems};

/// A place in a tree.
pub struct Cursor<'a> {
    ctx: &'a TreeContext,
    root: &'a Root,
    /// The leaf's bytes when the cursor came to it.
    block: Vec<u8>,
    /// The buffer, as a path would hold it.
    eb: Option<EbRef>,
    /// One past the last item: behind all.
    slot: usize,
    upper: Option<Key>,
    lower: Option<Key>,
}

impl TreeContext {
    /// A cursor on the first item whose key is not smaller than `key`; on none, if there is none.
    pub fn search<'a>(&'a self, root: &'a Root, key: &Key) -> Result<Cursor<'a>> {
        let mut cursor = Cursor::new(self, root);
        cursor.load(key, false)?;
        cursor.slot = tree_block::search(&cursor.block, key).unwrap_or_else(|slot| slot);
        cursor.skip_to_item()?;
        Ok(cursor)
    }

    /// A cursor on the last item whose key is not greater than `key`; on none, if there is none.
    pub fn search_back<'a>(&'a self, root: &'a Root, key: &Key) -> Result<Cursor<'a>> {
        let mut cursor = Cursor::new(self, root);
        cursor.load_back(*key)?;
        Ok(cursor)
    }
}

impl<'a> Cursor<'a> {
    fn new(ctx: &'a TreeContext, root: &'a Root) -> Self {
        Self {
            ctx,
            root,
            block: Vec::new(),
            eb: None,
            slot: 0,
            upper: None,
            lower: None,
        }
    }

    /// Whether the cursor stands on an item.
    pub fn is_valid(&self) -> bool {
        !self.block.is_empty() && self.slot < nritems(&self.block)
    }

    /// The item's key; `None` behind the last or before the first item.
    pub fn key(&self) -> Option<Key> {
        self.is_valid()
            .then(|| leaf::item_key(&self.block, self.slot))
    }

    /// The item's data; empty where there is no item.
    pub fn data(&self) -> &[u8] {
        if self.is_valid() {
            leaf::item_data(&self.block, self.slot)
        } else {
            &[]
        }
    }

    /// The item.
    pub fn item(&self) -> Option<(Key, &[u8])> {
        self.key().map(|key| (key, self.data()))
    }

    /// The buffer of the leaf that the cursor has looked at last; by now it may be another's.
    pub fn eb(&self) -> Option<&EbRef> {
        self.eb.as_ref()
    }

    /// Goes to the next item; false if there is none.
    #[expect(
        clippy::should_implement_trait,
        reason = "it can fail, and lends its item"
    )]
    pub fn next(&mut self) -> Result<bool> {
        if self.is_valid() {
            self.slot += 1;
        }
        self.skip_to_item()?;
        Ok(self.is_valid())
    }

    /// Goes to the item before; false if there is none, and then the cursor stands on none.
    pub fn prev(&mut self) -> Result<bool> {
        if self.slot > 0 && !self.block.is_empty() {
            self.slot -= 1;
            return Ok(self.is_valid());
        }
        match self.lower.and_then(Key::prev) {
            Some(below) => self.load_back(below)?,
            None => self.leave(),
        }
        Ok(self.is_valid())
    }

    fn load(&mut self, key: &Key, ahead: bool) -> Result<()> {
        // The old leaf's buffer first: a walk holds one.
        self.eb = None;
        let LeafRead {
            guard,
            upper,
            lower,
        } = self.ctx.read_leaf(self.root, key, ahead)?;
        self.block.clear();
        self.block.extend_from_slice(&guard);
        (self.upper, self.lower) = (upper, lower);
        self.eb = Some(guard.into_ref());
        Ok(())
    }

    /// Behind a leaf's last item the next leaf begins at the upper bound.
    fn skip_to_item(&mut self) -> Result<()> {
        while !self.is_valid() {
            let Some(upper) = self.upper else {
                return Ok(());
            };
            self.load(&upper, true)?;
            self.slot = tree_block::search(&self.block, &upper).unwrap_or_else(|slot| slot);
        }
        Ok(())
    }

    fn load_back(&mut self, mut key: Key) -> Result<()> {
        loop {
            self.load(&key, false)?;
            let end = match tree_block::search(&self.block, &key) {
                Ok(slot) => slot + 1,
                Err(slot) => slot,
            };
            if end > 0 {
                self.slot = end - 1;
                return Ok(());
            }
            match self.lower.and_then(Key::prev) {
                Some(below) if below < key => key = below,
                _ => {
                    self.leave();
                    return Ok(());
                }
            }
        }
    }

    /// Stands on nothing.
    fn leave(&mut self) {
        self.block.clear();
        self.eb = None;
        (self.slot, self.upper, self.lower) = (0, None, None);
    }
}
