//! Dropping a whole tree: a deleted subvolume or snapshot gives back all that it references.
//!
//! Owns: the walk, in steps of bounded work with a place from which it goes on, also after a
//! restart. Invariant: between two steps, blocks from the root down to the place (and everything
//! behind it) are still referenced by the tree; everything before it is not.
//!
//! A block that only this tree has is walked into and then freed. Of a shared one only the
//! tree's reference goes; but if this tree *made* it, its children are referenced by the tree's
//! number, which will mean nothing soon: first they pass to the block itself (FULL_BACKREF), all
//! the way down.
//!
//! Locks: one block at a time, while its count is read and its reference queued, so that a
//! writer of another tree that copies the same block sees either both or neither.

use super::TreeContext;
use super::block::{check_child, expect_child, expect_root};
use super::refs::Holder;
use super::roots::Root;
use crate::error::{Error, Result};
use crate::extent_buffer::WriteGuard;
use crate::ondisk::BLOCK_FLAG_FULL_BACKREF;
use crate::ondisk::check::Expect;
use crate::ondisk::key::Key;
use crate::ondisk::tree_block::{self, header, node};
use crate::sync::Arc;
use crate::transaction::{RefKind, TransHandle};
use crate::units::Logical;

/// A block on the way down. Its bytes don't change: nobody but the walk has it, or whoever has
/// it copies it.
struct Frame {
    at: Logical,
    level: u8,
    bytes: Vec<u8>,
    /// References of its children are counted for the block, not for the tree.
    full: bool,
    slot: usize,
}

impl Frame {
    fn new(block: &[u8], full: bool) -> Self {
        let head = header(block);
        Self {
            at: Logical(head.bytenr.get()),
            level: head.level,
            bytes: block.to_vec(),
            full,
            slot: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.level == 0 || self.slot >= tree_block::nritems(&self.bytes)
    }

    fn holder(&self, root: &Root) -> Holder {
        if self.full {
            Holder::Block(self.at)
        } else {
            Holder::Tree(root.objectid)
        }
    }

    /// The kind of the reference that this block has to its children.
    fn child_ref(&self, root: &Root) -> RefKind {
        if self.full {
            RefKind::SharedTree { parent: self.at }
        } else {
            RefKind::Tree {
                root: root.objectid,
            }
        }
    }
}

/// A tree being dropped.
pub struct TreeDrop {
    root: Arc<Root>,
    /// From the root down; empty before the first step and after the last.
    walk: Vec<Frame>,
    /// Inside a shared block whose subtree changes hands.
    passing_on: Vec<Frame>,
    /// The shared block of `walk`'s last slot was passed on.
    passed_on: bool,
    resume: Option<(Key, u8)>,
}

impl TreeDrop {
    /// Starts where the root item says that an earlier walk stopped.
    pub fn new(root: Arc<Root>) -> Self {
        let resume = {
            let item = root.item();
            let key = item.drop_progress.get();
            (key.objectid != 0).then_some((key, item.drop_level))
        };
        Self {
            root,
            walk: Vec::new(),
            passing_on: Vec::new(),
            passed_on: false,
            resume,
        }
    }

    /// The tree.
    pub fn root(&self) -> &Arc<Root> {
        &self.root
    }

    /// The place to go on from, for the root item: a key and the level of the node that it is in.
    pub fn progress(&self) -> Option<(Key, u8)> {
        let frame = self.walk.iter().rev().find(|frame| !frame.is_done())?;
        Some((node::key(&frame.bytes, frame.slot), frame.level))
    }

    /// Drops references of about `blocks_max` blocks; true when the tree is gone, its root node
    /// included. An error has aborted the transaction.
    pub fn step(
        &mut self,
        ctx: &TreeContext,
        trans: &TransHandle,
        blocks_max: usize,
    ) -> Result<bool> {
        self.try_step(ctx, trans, blocks_max)
            .map_err(|error| trans.abort(error))
    }

    fn try_step(
        &mut self,
        ctx: &TreeContext,
        trans: &TransHandle,
        blocks_max: usize,
    ) -> Result<bool> {
        if self.walk.is_empty() {
            self.enter(ctx, trans)?;
        }
        let mut blocks = 0;
        loop {
            let top = self
                .walk
                .last()
                .expect("the root leaves last, and ends the loop");
            let at_rest = !top.is_done();
            if blocks >= blocks_max && at_rest {
                return Ok(false);
            }
            blocks += 1;
            if !at_rest {
                self.leave(ctx, trans)?;
                if self.walk.is_empty() {
                    return Ok(true);
                }
            } else if self.passing_on.is_empty() {
                self.visit_child(ctx, trans)?;
            } else {
                self.pass_on(ctx, trans)?;
            }
        }
    }

    /// The way from the root to the place where the walk goes on.
    fn enter(&mut self, ctx: &TreeContext, trans: &TransHandle) -> Result<()> {
        let block = ctx
            .cache
            .read(&expect_root(&self.root, &self.root.node()))?
            .into_write();
        let full = self.flags(ctx, trans, &block)?.1;
        self.walk.push(Frame::new(&block, full));
        drop(block);
        let Some((key, level)) = self.resume.take() else {
            return Ok(());
        };
        loop {
            let frame = self.walk.last_mut().expect("pushed above");
            if frame.level < level {
                return Err(Error::corrupt(format!(
                    "tree {} was half dropped down to level {level}, but is {} high",
                    self.root.objectid, frame.level
                )));
            }
            frame.slot = match tree_block::search(&frame.bytes, &key) {
                Ok(slot) => slot,
                Err(slot) => slot.saturating_sub(1),
            };
            if frame.level == level {
                return Ok(());
            }
            let block = self.lock_child(ctx)?;
            let full = self.flags(ctx, trans, &block)?.1;
            self.walk.push(Frame::new(&block, full));
        }
    }

    /// The child in the current slot, locked.
    fn lock_child(&self, ctx: &TreeContext) -> Result<WriteGuard> {
        let frame = self.walk.last().expect("there is a parent");
        lock(ctx, &expect_child(&self.root, &frame.bytes, frame.slot)?)
    }

    fn flags(&self, ctx: &TreeContext, trans: &TransHandle, block: &[u8]) -> Result<(u64, bool)> {
        let head = header(block);
        let at = Logical(head.bytenr.get());
        let info = ctx
            .tree_block_info(trans, at, head.level)?
            .filter(|info| info.refs > 0)
            .ok_or_else(|| Error::corrupt_block(at, None, "in a tree, but without references"))?;
        Ok((info.refs, info.flags & BLOCK_FLAG_FULL_BACKREF != 0))
    }

    fn visit_child(&mut self, ctx: &TreeContext, trans: &TransHandle) -> Result<()> {
        self.read_ahead(ctx);
        let block = self.lock_child(ctx)?;
        let (refs, full) = self.flags(ctx, trans, &block)?;
        if refs == 1 {
            self.passed_on = false;
            self.walk.push(Frame::new(&block, full));
            return Ok(());
        }
        // Older blocks than the tree itself were made by the one that it is a snapshot of.
        let made_here = header(&block).owner.get() == self.root.objectid
            && header(&block).generation.get() > self.root.key.offset;
        if made_here && !std::mem::take(&mut self.passed_on) {
            self.pass_block_on(ctx, trans, &block, full);
            self.passing_on.push(Frame::new(&block, true));
            return Ok(());
        }
        self.passed_on = false;
        let frame = self.walk.last_mut().expect("there is a parent");
        let kind = frame.child_ref(&self.root);
        frame.slot += 1;
        ctx.drop_block_ref(trans, block, kind, false);
        Ok(())
    }

    /// The references of a block's children pass from the tree to the block.
    fn pass_block_on(&self, ctx: &TreeContext, trans: &TransHandle, block: &[u8], full: bool) {
        if full {
            return;
        }
        let at = Logical(header(block).bytenr.get());
        let transaction = trans.transaction();
        ctx.add_child_refs(transaction, &self.root, block, Holder::Block(at));
        let by_tree = Holder::Tree(self.root.objectid);
        ctx.drop_child_refs(transaction, &self.root, block, by_tree);
        transaction.delayed_refs.set_flags(
            at,
            u64::from(ctx.nodesize),
            header(block).level,
            BLOCK_FLAG_FULL_BACKREF,
        );
    }

    /// One block of a shared subtree. It may be walked again after a restart: what was passed on
    /// already has the flag.
    fn pass_on(&mut self, ctx: &TreeContext, trans: &TransHandle) -> Result<()> {
        let frame = self.passing_on.last_mut().expect("the caller looked");
        if frame.is_done() {
            self.passing_on.pop();
            match self.passing_on.last_mut() {
                Some(parent) => parent.slot += 1,
                None => self.passed_on = true,
            }
            return Ok(());
        }
        let expect = expect_child(&self.root, &frame.bytes, frame.slot)?;
        if expect
            .generation
            .is_some_and(|it| it.get() <= self.root.key.offset)
        {
            frame.slot += 1;
            return Ok(());
        }
        let block = lock(ctx, &expect)?;
        if header(&block).owner.get() != self.root.objectid {
            frame.slot += 1;
            return Ok(());
        }
        let (_, full) = self.flags(ctx, trans, &block)?;
        self.pass_block_on(ctx, trans, &block, full);
        self.passing_on.push(Frame::new(&block, true));
        Ok(())
    }

    /// The last block of the walk has no children left: it goes.
    fn leave(&mut self, ctx: &TreeContext, trans: &TransHandle) -> Result<()> {
        let frame = self.walk.pop().expect("the caller looked");
        if frame.level == 0 {
            let holder = frame.holder(&self.root);
            ctx.drop_child_refs(trans.transaction(), &self.root, &frame.bytes, holder);
        }
        let head = header(&frame.bytes);
        let block = lock(
            ctx,
            &Expect {
                level: Some(frame.level),
                generation: Some(head.generation.get().into()),
                ..Expect::at(frame.at)
            },
        )?;
        let kind = match self.walk.last_mut() {
            Some(parent) => {
                parent.slot += 1;
                parent.child_ref(&self.root)
            }
            None if frame.full => RefKind::SharedTree { parent: frame.at },
            None => RefKind::Tree {
                root: self.root.objectid,
            },
        };
        ctx.drop_block_ref(trans, block, kind, true);
        Ok(())
    }

    fn read_ahead(&self, ctx: &TreeContext) {
        const AHEAD: usize = 16;
        let frame = self.walk.last().expect("the caller looked");
        if !frame.slot.is_multiple_of(AHEAD) {
            return;
        }
        let end = tree_block::nritems(&frame.bytes).min(frame.slot + AHEAD);
        let next: Vec<Expect> = (frame.slot..end)
            .filter_map(|slot| expect_child(&self.root, &frame.bytes, slot).ok())
            .collect();
        ctx.cache.readahead(&next);
    }
}

fn lock(ctx: &TreeContext, expect: &Expect) -> Result<WriteGuard> {
    let block = ctx.cache.read(expect)?.into_write();
    check_child(expect, &block)?;
    Ok(block)
}
