//! A snapshot: a tree that begins as another one's copy.
//!
//! Owns: the copy of the root node, and who references what both nodes point to. Invariant: the
//! two trees share everything below their root nodes, which nobody else ever points to.
//!
//! The source's root node belongs to the running transaction first, as if it had been changed.
//! Its copy references every child (or, where the root is a leaf, every data extent) once more,
//! by the new tree's number. `last_snapshot` of both trees says from then on that blocks of up to
//! this generation have to be looked up before they are copied.
//!
//! That isn't enough for the rest of this transaction, whose own blocks are changed in place
//! everywhere else: they are shared now. So the source copies every block again that it changes,
//! until [`TreeContext::end_snapshots`].

use super::TreeContext;
use super::path::Guard;
use super::refs::Holder;
use super::roots::{Root, RootNode};
use crate::error::Result;
use crate::extent_buffer::WriteGuard;
use crate::ondisk::RootItem;
use crate::ondisk::key::Key;
use crate::ondisk::tree_block::{self, LEVELS_MAX};
use crate::sync::Arc;
use crate::transaction::TransHandle;

/// What an extent's item takes in a leaf.
const FILE_EXTENT_BYTES: usize = 53 + 25;

impl TreeContext {
    /// Makes and registers the tree `key` with everything that `source` holds. `describe` gets
    /// the source's root item, and makes it the new tree's. The caller is alone with the trees,
    /// as a commit's critical section is.
    ///
    /// # Errors
    /// Leave references behind that nothing holds: the caller aborts the transaction.
    pub fn copy_tree(
        &self,
        trans: &TransHandle,
        source: &Arc<Root>,
        key: Key,
        describe: impl FnOnce(&mut RootItem),
    ) -> Result<Arc<Root>> {
        let from = self.own_root_node(trans, source)?;
        source.set_last_snapshot(trans.transid());
        trans.transaction().add_dirty_root(source.objectid);
        let mut item = *source.item();
        describe(&mut item);
        let nowhere = RootNode {
            generation: trans.transid(),
            ..source.node()
        };
        let copy = Root::new(key, nowhere, item);
        let block = self.copy(trans, &copy, &from)?;
        let holder = Holder::Tree(copy.objectid);
        self.add_child_refs(trans.transaction(), &copy, &block, holder);
        copy.set_node(RootNode {
            bytenr: block.bytenr(),
            ..nowhere
        });
        source.set_force_cow(true);
        self.roots.insert(copy.clone());
        trans.transaction().add_dirty_root(copy.objectid);
        Ok(copy)
    }

    /// How much the root node points to: what a snapshot references once more.
    pub fn root_fanout(&self, root: &Root) -> Result<u64> {
        let node = self.lock_root(root, None)?;
        Ok(tree_block::nritems(&node) as u64)
    }

    /// How many extents one change in a tree that was just snapshotted touches at most, beside its
    /// copies: below the root node everything is shared, so whatever a copied block points to is
    /// referenced once more, and its original is marked. One level may come before it happens.
    pub fn path_refs_max(&self, root: &Root) -> u64 {
        let nodes = u64::from((root.node().level + 1).min(LEVELS_MAX) - 1);
        let extents = tree_block::leaf_data_size(self.nodesize) as usize / FILE_EXTENT_BYTES;
        nodes * (tree_block::node_ptrs_max(self.nodesize) as u64 + 1) + extents as u64 + 1
    }

    /// No block is shared any more that this transaction will change: its own may be changed in
    /// place again, by who comes in the next one and copies all of them anyway.
    pub fn end_snapshots(&self) {
        for root in self.roots.loaded() {
            root.set_force_cow(false);
        }
    }

    /// The root node, locked, as a block of this transaction.
    fn own_root_node(&self, trans: &TransHandle, root: &Root) -> Result<WriteGuard> {
        match self.lock_root(root, Some(LEVELS_MAX))? {
            Guard::Write(node) if self.needs_cow(trans, root, &node) => {
                self.cow_root(trans, root, node)
            }
            Guard::Write(node) => Ok(node),
            Guard::Read(_) => unreachable!("no root is above the highest level"),
        }
    }
}
