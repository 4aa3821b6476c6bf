//! Finding, making and freeing one tree block.
//!
//! Owns: what a pointer promises about its child, and the order of steps in which a block is
//! given back. Invariant: nothing of a block is believed before its lock is held under the
//! lock of whatever points to it.

use super::TreeContext;
use super::roots::{Root, RootNode};
use crate::allocator::TreeSpace;
use crate::error::{Error, Result};
use crate::extent_buffer::{EbRef, WriteGuard};
use crate::ondisk::check::Expect;
use crate::ondisk::ids::CHUNK_TREE_OBJECTID;
use crate::ondisk::key::Key;
use crate::ondisk::tree_block::{self, HEADER_FLAG_RELOC, header, node};
use crate::transaction::{Dropped, RefKind, TransHandle};
use crate::units::Logical;

/// What the tree says about its root.
pub(super) fn expect_root(root: &Root, node: &RootNode) -> Expect {
    Expect {
        at: node.bytenr,
        level: Some(node.level),
        generation: Some(node.generation),
        owner: Some(root.objectid),
        first_key: None,
    }
}

/// What a node says about the child in `slot`.
pub(super) fn expect_child(root: &Root, parent: &[u8], slot: usize) -> Result<Expect> {
    let level = tree_block::level(parent);
    if level == 0 || slot >= tree_block::nritems(parent) {
        let at = Logical(header(parent).bytenr.get());
        return Err(Error::corrupt_block(at, Some(slot), "no child there"));
    }
    let (at, generation) = node::ptr(parent, slot);
    Ok(Expect {
        at,
        level: Some(level - 1),
        generation: Some(generation),
        owner: Some(root.objectid),
        first_key: Some(node::key(parent, slot)),
    })
}

/// Compares a locked block with what points to it. The cache has judged the bytes when they were
/// read; this catches a pointer to a block that is good, but another one's.
pub(super) fn check_child(expect: &Expect, block: &[u8]) -> Result<()> {
    let head = header(block);
    let wrong = if head.bytenr.get() != expect.at.get() {
        "another address"
    } else if expect.level.is_some_and(|level| level != head.level) {
        "another level"
    } else if expect
        .generation
        .is_some_and(|generation| generation.get() != head.generation.get())
    {
        "another generation"
    } else if !expect.fits_owner(head.owner.get()) {
        "another owner"
    } else if expect.first_key.is_some() && head.nritems.get() == 0 {
        "no items"
    } else if expect
        .first_key
        .is_some_and(|key| key != tree_block::key(block, 0))
    {
        "another first key"
    } else {
        return Ok(());
    };
    Err(Error::corrupt_block(
        expect.at,
        None,
        format!("has {wrong} than its parent says"),
    ))
}

impl TreeContext {
    /// Whether a locked block must be copied before this transaction may change it.
    pub(super) fn needs_cow(&self, trans: &TransHandle, root: &Root, block: &[u8]) -> bool {
        let head = header(block);
        head.generation.get() != trans.transid().get()
            || head.is_written()
            || head.has_flag(HEADER_FLAG_RELOC)
            || root.force_cow()
    }

    /// Makes an empty block of this transaction, locked, dirty and with its reference queued.
    /// Not linked anywhere yet: if the caller can't go on, [`TreeContext::free_block`] undoes it.
    pub(super) fn new_block(
        &self,
        trans: &TransHandle,
        root: &Root,
        level: u8,
        first_key: Key,
    ) -> Result<WriteGuard> {
        let kind = match root.objectid {
            CHUNK_TREE_OBJECTID => TreeSpace::System,
            _ => TreeSpace::Metadata,
        };
        let at = self.space.alloc_tree_block(kind)?;
        let guard = match self.cache.create(at, trans.transid(), root.objectid, level) {
            Ok(guard) => guard,
            Err(error) => {
                self.space.free_unwritten(at, u64::from(self.nodesize));
                return Err(error);
            }
        };
        let transaction = trans.transaction();
        transaction.dirty_blocks.insert(at);
        transaction.delayed_refs.add_new_tree_block(
            at,
            u64::from(self.nodesize),
            level,
            root.objectid,
            first_key,
        );
        Ok(guard)
    }

    /// Gives back this tree's reference to a block that nothing of the tree points to any more.
    /// `last`: nobody else has one.
    ///
    /// For a block that this transaction made and nobody wrote, the steps are those of 2015: the
    /// buffer is no longer dirty, the range is reusable *at once*, then the buffer goes stale
    /// while others may still hold it, and only then its lock is let go.
    pub(super) fn free_block(
        &self,
        trans: &TransHandle,
        root: &Root,
        block: WriteGuard,
        last: bool,
    ) {
        let kind = RefKind::Tree {
            root: root.objectid,
        };
        self.drop_block_ref(trans, block, kind, last);
    }

    /// As [`TreeContext::free_block`], for a reference of any kind.
    pub(super) fn drop_block_ref(
        &self,
        trans: &TransHandle,
        mut block: WriteGuard,
        kind: RefKind,
        last: bool,
    ) {
        let (at, level, written, own) = {
            let head = header(&block);
            let own = head.generation.get() == trans.transid().get();
            (
                Logical(head.bytenr.get()),
                head.level,
                head.is_written(),
                own,
            )
        };
        let len = u64::from(self.nodesize);
        let transaction = trans.transaction();
        if own && last {
            block.clear_dirty(trans.transid());
            transaction.dirty_blocks.remove(at);
        }
        match transaction.delayed_refs.drop_tree_ref(at, len, level, kind) {
            Dropped::Cancelled if written => self.space.pin(at, len),
            Dropped::Cancelled => self.space.free_unwritten(at, len),
            Dropped::Queued => {}
        }
        if last {
            block.eb().clone().free_stale();
        }
    }

    /// Frees a block that the tree has no use for any more.
    pub(super) fn free_emptied(&self, trans: &TransHandle, root: &Root, block: WriteGuard) {
        self.free_block(trans, root, block, true);
        root.sub_used(u64::from(self.nodesize));
    }

    /// What memory has of the block that a pointer names.
    ///
    /// The caller holds a lock, so nothing may be waited for that isn't below it: a pointer that
    /// lies may lead back to a block that the caller, or someone who waits for the caller, holds.
    /// A block's level, generation and owner are therefore compared before its lock is asked for:
    /// levels only go down, and an edit of one tree that looks something up in another can't meet
    /// its own blocks there, so no circle of waiting can close.
    pub(super) fn look(&self, expect: &Expect) -> Found {
        match self.cache.find(expect.at) {
            Some(eb) if !eb.is_uptodate() => Found::Missing,
            Some(eb) if expect.level.is_some_and(|level| level != eb.level()) => Found::Another,
            Some(eb)
                if expect
                    .generation
                    .is_some_and(|generation| generation != eb.generation()) =>
            {
                Found::Another
            }
            Some(eb) if !expect.fits_owner(eb.owner()) => Found::Another,
            Some(eb) => Found::Ready(eb),
            None => Found::Missing,
        }
    }

    /// The child that a locked parent names, read under the parent's lock if need be.
    pub(super) fn child_now(&self, expect: &Expect) -> Result<EbRef> {
        match self.look(expect) {
            Found::Ready(eb) => Ok(eb),
            Found::Missing => self.cache.read(expect),
            Found::Another => Err(Error::corrupt_block(
                expect.at,
                None,
                "has another level, generation or owner than its parent says",
            )),
        }
    }
}

/// See [`TreeContext::look`].
pub(super) enum Found {
    /// The block, by its level and generation.
    Ready(EbRef),
    /// Nothing, or a block that is being read.
    Missing,
    /// Another block.
    Another,
}
