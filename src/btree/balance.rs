//! Tidying up: merging leaves and nodes that have become small, lowering the root.
//!
//! Owns: the shape of the tree above a leaf that items were deleted from. What is emptied is
//! freed ([`TreeContext::free_block`]); others may still hold the buffer, which goes stale.
//!
//! Merging is a favour: a sibling is looked at only if it is in memory, and an error on the way
//! leaves the tree as it was.

use super::TreeContext;
use super::block::{check_child, expect_child};
use super::leaf::{move_items, used};
use super::node::move_ptrs;
use super::path::{Guard, Path};
use super::roots::{Root, RootNode};
use crate::error::{Error, Result};
use crate::extent_buffer::WriteGuard;
use crate::ondisk::tree_block::{self, leaf, leaf_data_size, node, node_ptrs_max, nritems};
use crate::transaction::TransHandle;

impl TreeContext {
    /// Bytes below which a leaf is offered to its siblings.
    pub(super) fn small_leaf_bytes(&self) -> usize {
        leaf_data_size(self.nodesize) as usize / 4
    }

    /// Takes the pointer that the path follows at `level` out of its node, after its child was
    /// emptied; a node that loses its last pointer is taken out as well. The caller frees what is
    /// `emptied` when it has let go of the path.
    pub(super) fn unlink_child(
        path: &mut Path,
        level: u8,
        emptied: &mut Vec<WriteGuard>,
    ) -> Result<()> {
        let is_root = level == path.root_level;
        let (block, slot) = path.writable(level)?;
        match (nritems(block), slot) {
            // A root with one child is lowered before anything below it is deleted.
            (1, _) if is_root => Err(Error::corrupt("the last pointer of a root")),
            (1, _) => {
                Self::unlink_child(path, level + 1, emptied)?;
                emptied.extend(path.take_write(level));
                Ok(())
            }
            (_, 0) => {
                node::delete(block, 0, 1);
                let low_key = node::key(block, 0);
                if is_root {
                    Ok(())
                } else {
                    Self::fix_low_keys(path, level + 1, &low_key)
                }
            }
            _ => {
                node::delete(block, slot, 1);
                Ok(())
            }
        }
    }

    /// Offers the items of a small leaf to its left sibling, or takes those of its right one.
    /// The parent is held; the path's leaf is used up. The caller frees what is `emptied` when it
    /// has let go of the path.
    pub(super) fn merge_leaf(
        &self,
        trans: &TransHandle,
        root: &Root,
        path: &mut Path,
        emptied: &mut Vec<WriteGuard>,
    ) -> Result<()> {
        let most = leaf_data_size(self.nodesize) as usize / 8 * 7;
        let (block, _) = path.leaf()?;
        let bytes = used(block);
        let (parent, slot) = path.writable(1)?;
        if slot > 0
            && let Some(left) = self.cached_sibling(root, parent, slot - 1)?
            && used(&left) + bytes <= most
        {
            let mut left = self.own_sibling(trans, root, path, slot - 1, left)?;
            let (block, _) = path.leaf()?;
            let (count, end) = (nritems(block), nritems(&left));
            move_items(block, 0, count, &mut left, end);
            let (parent, slot) = path.writable(1)?;
            node::delete(parent, slot, 1);
            emptied.extend(path.take_write(0));
            return Ok(());
        }
        let (parent, slot) = path.writable(1)?;
        if slot + 1 < nritems(parent)
            && let Some(right) = self.cached_sibling(root, parent, slot + 1)?
            && used(&right) + bytes <= most
        {
            let mut right = self.own_sibling(trans, root, path, slot + 1, right)?;
            let (block, _) = path.leaf()?;
            let (count, end) = (nritems(&right), nritems(block));
            move_items(&mut right, 0, count, block, end);
            let (parent, slot) = path.writable(1)?;
            node::delete(parent, slot + 1, 1);
            emptied.push(right);
        }
        Ok(())
    }

    /// Gives a nearly empty node company: merges it with a sibling, or, if it is down to one
    /// pointer, takes half of the sibling's. The path then holds the node that has the pointers.
    pub(super) fn balance_node(
        &self,
        trans: &TransHandle,
        root: &Root,
        path: &mut Path,
        level: u8,
    ) -> Result<()> {
        let capacity = node_ptrs_max(self.nodesize);
        let (block, _) = path.writable(level)?;
        let count = nritems(block);
        let (parent, slot) = path.writable(level + 1)?;
        let siblings = [
            slot.checked_sub(1),
            (slot + 1 < nritems(parent)).then_some(slot + 1),
        ];
        for sibling_slot in siblings.into_iter().flatten() {
            let (parent, _) = path.writable(level + 1)?;
            let mut found = self.cached_sibling(root, parent, sibling_slot)?;
            if found.is_none() && count < 2 {
                // A node with one pointer can't give one up: this sibling is worth a read.
                self.child_now(&expect_child(root, parent, sibling_slot)?)?;
                found = self.cached_sibling(root, parent, sibling_slot)?;
            }
            let Some(sibling) = found else { continue };
            let theirs = nritems(&sibling);
            let merge = theirs + count <= capacity / 8 * 7;
            if !merge && count >= 2 {
                continue;
            }
            let mut sibling = self.own_sibling(trans, root, path, sibling_slot, sibling)?;
            let is_left = sibling_slot < slot;
            let (block, _) = path.writable(level)?;
            match (merge, is_left) {
                (true, true) => {
                    move_ptrs(block, 0, count, &mut sibling, theirs);
                    let (parent, _) = path.writable(level + 1)?;
                    node::delete(parent, slot, 1);
                    path.level(level + 1).slot = sibling_slot;
                    if let Some(emptied) = path.take_write(level) {
                        self.free_emptied(trans, root, emptied);
                    }
                    path.hold(Guard::Write(sibling));
                }
                (true, false) => {
                    move_ptrs(&mut sibling, 0, theirs, block, count);
                    let (parent, _) = path.writable(level + 1)?;
                    node::delete(parent, sibling_slot, 1);
                    self.free_emptied(trans, root, sibling);
                }
                (false, true) => {
                    move_ptrs(&mut sibling, theirs / 2, theirs - theirs / 2, block, 0);
                    let low_key = node::key(block, 0);
                    let (parent, _) = path.writable(level + 1)?;
                    node::set_key(parent, slot, &low_key);
                }
                (false, false) => {
                    move_ptrs(&mut sibling, 0, theirs / 2, block, count);
                    let low_key = node::key(&sibling, 0);
                    let (parent, _) = path.writable(level + 1)?;
                    node::set_key(parent, sibling_slot, &low_key);
                }
            }
            return Ok(());
        }
        Ok(())
    }

    /// The root has a single child: the child becomes the root.
    pub(super) fn collapse_root(
        &self,
        trans: &TransHandle,
        root: &Root,
        path: &mut Path,
    ) -> Result<()> {
        let level = path.root_level;
        let (top, _) = path.writable(level)?;
        let expect = expect_child(root, top, 0)?;
        let mut child = self.child_now(&expect)?.into_write();
        check_child(&expect, &child)?;
        if self.needs_cow(trans, root, &child) {
            child = self.cow_child(trans, root, top, 0, child)?;
        }
        root.set_node(RootNode {
            bytenr: child.bytenr(),
            generation: trans.transid(),
            level: tree_block::level(&child),
        });
        trans.transaction().add_dirty_root(root.objectid);
        if let Some(top) = path.take_write(level) {
            self.free_emptied(trans, root, top);
        }
        path.root_level = path.hold(Guard::Write(child));
        Ok(())
    }
}

/// Whether deleting `count` items from `slot` on leaves a leaf small that wasn't.
pub(super) fn becomes_small(block: &[u8], slot: usize, count: usize, small: usize) -> bool {
    let before = used(block);
    let after = before - leaf::space_used(block, slot, slot + count);
    before >= small && after < small
}
