//! A whole tree's invariants, for tests and checks of a tree at rest.
//!
//! Owns: the list of what must hold between blocks; inside a block `ondisk::check` judges.

use super::TreeContext;
use super::block::{check_child, expect_child, expect_root};
use super::roots::Root;
use crate::error::{Error, Result};
use crate::extent_buffer::ReadGuard;
use crate::ondisk::key::Key;
use crate::ondisk::tree_block::{self, leaf, node, nritems};

/// What a tree consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeSummary {
    /// Levels, 1 for a single leaf.
    pub levels: u8,
    /// Nodes.
    pub nodes: u64,
    /// Leaves.
    pub leaves: u64,
    /// Items.
    pub items: u64,
    /// Free bytes in all leaves.
    pub leaf_bytes_free: u64,
}

impl TreeContext {
    /// Walks a whole tree and compares each block with its parent: address, level, generation,
    /// first key, order within and across blocks, no empty block but an empty root leaf. Writers
    /// must rest, or they are waited for block by block.
    pub fn verify_tree(&self, root: &Root) -> Result<TreeSummary> {
        self.verify_each(root, &mut |_| Ok(()))
    }

    /// As [`TreeContext::verify_tree`], and shows each block to `visit`, parents first. No block
    /// comes twice, whatever the pointers say: keys go up, and a block begins with the key of its
    /// pointer.
    pub fn verify_each(
        &self,
        root: &Root,
        visit: &mut dyn FnMut(&ReadGuard) -> Result<()>,
    ) -> Result<TreeSummary> {
        let node = root.node();
        let guard = self.cache.read(&expect_root(root, &node))?.into_read();
        check_child(&expect_root(root, &node), &guard)?;
        let mut summary = TreeSummary {
            levels: node.level + 1,
            ..TreeSummary::default()
        };
        let mut last = None;
        self.verify_block(root, &guard, (&mut last, None), &mut summary, visit)?;
        Ok(summary)
    }

    fn verify_block(
        &self,
        root: &Root,
        block: &ReadGuard,
        (last, upper): (&mut Option<Key>, Option<Key>),
        summary: &mut TreeSummary,
        visit: &mut dyn FnMut(&ReadGuard) -> Result<()>,
    ) -> Result<()> {
        visit(block)?;
        let at = block.bytenr();
        let wrong = |slot, reason: String| Err(Error::corrupt_block(at, Some(slot), reason));
        let count = nritems(block);
        if tree_block::level(block) == 0 {
            summary.leaves += 1;
            summary.items += count as u64;
            summary.leaf_bytes_free += leaf::free_space(block) as u64;
            for slot in 0..count {
                let key = leaf::item_key(block, slot);
                if last.is_some_and(|last| last >= key) {
                    return wrong(slot, format!("key {key} after {last:?}"));
                }
                if upper.is_some_and(|upper| key >= upper) {
                    return wrong(slot, format!("key {key} is not below {upper:?}"));
                }
                *last = Some(key);
            }
            return Ok(());
        }
        summary.nodes += 1;
        if count == 0 {
            return wrong(0, "a node without pointers".into());
        }
        for slot in 0..count {
            let next = (slot + 1 < count)
                .then(|| node::key(block, slot + 1))
                .or(upper);
            if next.is_some_and(|next| node::key(block, slot) >= next) {
                return wrong(
                    slot,
                    format!("key {} is not below {next:?}", node::key(block, slot)),
                );
            }
            let expect = expect_child(root, block, slot)?;
            let child = self.child_now(&expect)?.into_read();
            check_child(&expect, &child)?;
            self.verify_block(root, &child, (&mut *last, next), summary, visit)?;
        }
        Ok(())
    }
}
