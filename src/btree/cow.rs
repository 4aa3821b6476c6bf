//! Copy-on-write: a block of an older transaction gets a new address before it changes.
//!
//! Owns: the copy, and who references the children of the old and the new block afterwards.
//!
//! A block that a snapshot may share is looked up in the extent tree. The cases, with *old* the
//! block and *new* its copy:
//!
//! | references | backrefs of old's children | what is queued |
//! |---|---|---|
//! | one | by tree | nothing: new takes old's place; old is freed |
//! | one | by block (FULL_BACKREF) | children: + tree for new, − block for old; old is freed |
//! | several, this tree made it | by tree | the tree's references pass to new; children: + block for old; old gets FULL_BACKREF |
//! | several, otherwise | either | children: + tree for new |
//!
//! and always − tree for old itself, + tree for new.

use super::TreeContext;
use super::refs::Holder;
use super::roots::{Root, RootNode};
use crate::error::{Error, Result};
use crate::extent_buffer::WriteGuard;
use crate::ondisk::BLOCK_FLAG_FULL_BACKREF;
use crate::ondisk::tree_block::{
    self, BACKREF_REV_SHIFT, HEADER_FLAG_RELOC, Header, MIXED_BACKREF_REV, header, header_mut, node,
};
use crate::transaction::TransHandle;
use crate::units::Logical;

/// Who else has a block that is being copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    Sole,
    SoleFullBackref,
    SharedByOwner,
    Shared,
}

impl TreeContext {
    /// Copies the root node; the tree's root pointer then names the copy. Root nodes are never
    /// shared: a snapshot starts with a copy of its own.
    pub(super) fn cow_root(
        &self,
        trans: &TransHandle,
        root: &Root,
        old: WriteGuard,
    ) -> Result<WriteGuard> {
        let new = self.copy(trans, root, &old)?;
        root.set_node(RootNode {
            bytenr: new.bytenr(),
            generation: trans.transid(),
            level: tree_block::level(&new),
        });
        trans.transaction().add_dirty_root(root.objectid);
        self.free_block(trans, root, old, true);
        Ok(new)
    }

    /// Copies the child in `slot` of `parent`, which then names the copy.
    pub(super) fn cow_child(
        &self,
        trans: &TransHandle,
        root: &Root,
        parent: &mut WriteGuard,
        slot: usize,
        old: WriteGuard,
    ) -> Result<WriteGuard> {
        let sharing = self.sharing(trans, root, &old)?;
        let new = self.copy(trans, root, &old)?;
        let transaction = trans.transaction();
        let by_tree = Holder::Tree(root.objectid);
        let by_old = Holder::Block(old.bytenr());
        match sharing {
            Sharing::Sole => {}
            Sharing::SoleFullBackref => {
                self.add_child_refs(transaction, root, &new, by_tree);
                self.drop_child_refs(transaction, root, &old, by_old);
            }
            Sharing::SharedByOwner => {
                self.add_child_refs(transaction, root, &old, by_old);
                transaction.delayed_refs.set_flags(
                    old.bytenr(),
                    u64::from(self.nodesize),
                    tree_block::level(&old),
                    BLOCK_FLAG_FULL_BACKREF,
                );
            }
            Sharing::Shared => self.add_child_refs(transaction, root, &new, by_tree),
        }
        node::set_ptr(parent, slot, new.bytenr(), trans.transid());
        let last = matches!(sharing, Sharing::Sole | Sharing::SoleFullBackref);
        self.free_block(trans, root, old, last);
        Ok(new)
    }

    fn sharing(&self, trans: &TransHandle, root: &Root, block: &[u8]) -> Result<Sharing> {
        let head = header(block);
        let may_be_shared = root.is_shareable()
            && (head.generation.get() <= root.last_snapshot().get()
                || head.has_flag(HEADER_FLAG_RELOC));
        if !may_be_shared {
            return Ok(match head.backref_rev() {
                MIXED_BACKREF_REV.. => Sharing::Sole,
                _ => Sharing::SoleFullBackref,
            });
        }
        let at = Logical(head.bytenr.get());
        let info = self
            .tree_block_info(trans, at, head.level)?
            .filter(|info| info.refs > 0)
            .ok_or_else(|| Error::corrupt_block(at, None, "in a tree, but without references"))?;
        let full = info.flags & BLOCK_FLAG_FULL_BACKREF != 0;
        Ok(match (info.refs, full) {
            (1, false) => Sharing::Sole,
            (1, true) => Sharing::SoleFullBackref,
            (_, false) if head.owner.get() == root.objectid => Sharing::SharedByOwner,
            _ => Sharing::Shared,
        })
    }

    /// A new block with the contents of `old`.
    pub(super) fn copy(
        &self,
        trans: &TransHandle,
        root: &Root,
        old: &WriteGuard,
    ) -> Result<WriteGuard> {
        let level = tree_block::level(old);
        let first_key = match tree_block::nritems(old) {
            0 => Default::default(),
            _ => tree_block::key(old, 0),
        };
        let mut new = self.new_block(trans, root, level, first_key)?;
        new[Header::SIZE..].copy_from_slice(&old[Header::SIZE..]);
        tree_block::set_nritems(&mut new, tree_block::nritems(old));
        let head = header_mut(&mut new);
        head.flags.set(MIXED_BACKREF_REV << BACKREF_REV_SHIFT);
        Ok(new)
    }
}
