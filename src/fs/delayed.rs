//! Inode items that wait: changes gather in memory and reach the tree in batches.
//!
//! Owns: the list of dirty inodes and the space set aside for each. Invariant: an inode whose
//! item in the tree is older than its fields is in the list, and stays in memory until it was
//! written. A commit writes all of them in its critical section, where nobody edits; so a tree
//! edit and the fields that belong to it become durable together. Never: a join while an
//! inode's `meta` is locked.

use super::attr::Timestamp;
use super::inode::{Inode, InodeMeta, to_disk};
use crate::allocator::{MetaReservation, Steal};
use crate::btree::TreeContext;
use crate::error::{Error, Result};
use crate::sync::{Arc, Mutex};
use crate::transaction::TransHandle;
use std::collections::BTreeMap;

/// Space set aside for writing one inode item later.
#[derive(Debug)]
pub struct DirtyTicket {
    /// Given back when the item was written.
    _reservation: MetaReservation,
}

/// More dirty inodes than this are written before the next commit.
pub(in crate::fs) const DIRTY_INODES_MAX: usize = 8192;

/// See the module.
pub(in crate::fs) struct DelayedItems {
    ctx: Arc<TreeContext>,
    dirty: Mutex<BTreeMap<(u64, u64), Arc<Inode>>>,
}

impl DelayedItems {
    pub fn new(ctx: Arc<TreeContext>) -> Self {
        Self {
            ctx,
            dirty: Mutex::new(BTreeMap::new()),
        }
    }

    /// Sets space aside for one inode item. Before locks that a commit takes, and before joining.
    pub fn prepare(&self, steal: Steal) -> Result<DirtyTicket> {
        let bytes = self.ctx.space.item_update_bytes(1);
        Ok(DirtyTicket {
            _reservation: self.ctx.space.reserve_metadata(bytes, steal)?,
        })
    }

    /// As [`DelayedItems::prepare`], from what is free now.
    pub fn prepare_now(&self, steal: Steal) -> Result<DirtyTicket> {
        let bytes = self.ctx.space.item_update_bytes(1);
        Ok(DirtyTicket {
            _reservation: self.ctx.space.try_reserve_metadata(bytes, steal)?,
        })
    }

    /// Puts the inode on the list; `meta` is the inode's own.
    pub fn mark(&self, inode: &Arc<Inode>, meta: &mut InodeMeta, ticket: DirtyTicket) {
        if meta.dirty.is_none() {
            meta.dirty = Some(ticket);
            self.dirty
                .lock()
                .insert((inode.root.objectid, inode.objectid), inode.clone());
        }
    }

    /// Writes the inode's item now, as part of the caller's edit.
    pub fn write_now(
        &self,
        trans: &TransHandle,
        inode: &Inode,
        meta: &mut InodeMeta,
    ) -> Result<()> {
        meta.transid = trans.transid().get();
        let item = meta.to_item();
        let found = self
            .ctx
            .modify(trans, &inode.root, &inode.item_key(), |bytes| {
                let len = bytes.len().min(item.as_bytes().len());
                bytes[..len].copy_from_slice(&item.as_bytes()[..len]);
            })?;
        if !found {
            return Err(Error::corrupt(format!(
                "inode {} of tree {} has no inode item",
                inode.objectid, inode.root.objectid
            )));
        }
        inode.root.set_changed(trans, to_disk(Timestamp::now()));
        if meta.dirty.take().is_some() {
            self.dirty
                .lock()
                .remove(&(inode.root.objectid, inode.objectid));
        }
        Ok(())
    }

    /// Whether so many wait that the operation that just ended should write some.
    pub fn is_crowded(&self) -> bool {
        self.dirty.lock().len() > DIRTY_INODES_MAX
    }

    /// Writes up to `max` items in key order.
    pub fn flush(&self, trans: &TransHandle, max: usize) -> Result<()> {
        for _ in 0..max {
            // The guard must be gone before `meta` is locked: `mark` takes them the other way.
            let first = self.dirty.lock().pop_first();
            let Some((_, inode)) = first else {
                return Ok(());
            };
            let mut meta = inode.meta.lock();
            // Someone else wrote it in between; a later change has put it on the list again.
            if meta.dirty.is_some() {
                self.write_now(trans, &inode, &mut meta)?;
            }
            drop(meta);
        }
        Ok(())
    }
}
