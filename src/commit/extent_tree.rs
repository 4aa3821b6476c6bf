//! Delayed refs reach the extent tree: one head at a time.
//!
//! Owns: extent items and keyed references, skinny and old. Invariant: an extent's `refs` is the
//! sum of its inline and keyed references; an extent without references has no item, no
//! checksums, and is free in the free-space tree.

use super::csums::Csums;
use super::extent_record::ExtentRecord;
use super::free_space_delta::FreeSpaceDelta;
use super::keyed_refs;
use crate::allocator::Space;
use crate::btree::{Root, TreeContext, Update};
use crate::error::{Error, Result};
use crate::ondisk::{
    BackRef, DiskKey, EXTENT_FLAG_DATA, EXTENT_FLAG_TREE_BLOCK, Key, TreeBlockInfo, kind,
};
use crate::sync::Arc;
use crate::transaction::{RefHead, RefKind, TransHandle};
use crate::units::Logical;

/// Where extents are written down.
pub(super) struct ExtentTree<'a> {
    pub(super) ctx: &'a TreeContext,
    pub(super) root: &'a Arc<Root>,
    pub(super) space: &'a Space,
    pub(super) csums: &'a Csums,
    pub(super) delta: &'a FreeSpaceDelta,
    /// SKINNY_METADATA: new tree blocks get METADATA_ITEMs.
    pub(super) skinny: bool,
}

/// How the change of an existing item ended.
enum Changed {
    /// There is no item under this key.
    Missing,
    /// References are left.
    Kept(Vec<(BackRef, i64)>),
    /// It was the last reference: the item is gone.
    Gone(Vec<(BackRef, i64)>),
}

impl ExtentTree<'_> {
    /// Applies everything that waits for one extent.
    pub(super) fn run(&self, trans: &TransHandle, head: &RefHead) -> Result<()> {
        let changes: Vec<(BackRef, i64)> = head
            .refs
            .iter()
            .map(|&(kind, change)| (back_ref(kind), change))
            .collect();
        if !head.must_insert_reserved {
            return self.change(trans, head, &changes);
        }
        if changes.is_empty() {
            // Written and dropped in one transaction: it never had an item.
            if head.is_data {
                self.csums.delete(trans, head.bytenr, head.num_bytes)?;
            }
            self.space.pin(head.bytenr, head.num_bytes);
            return Ok(());
        }
        self.insert(trans, head, &changes)
    }

    fn insert(
        &self,
        trans: &TransHandle,
        head: &RefHead,
        changes: &[(BackRef, i64)],
    ) -> Result<()> {
        let op = head.extent_op.unwrap_or_default();
        let skinny = !head.is_data && self.skinny;
        let info = (!head.is_data && !skinny).then(|| TreeBlockInfo {
            key: DiskKey::from(op.first_key.unwrap_or(Key::MIN)),
            level: head.level,
        });
        let flags = if head.is_data {
            EXTENT_FLAG_DATA
        } else {
            EXTENT_FLAG_TREE_BLOCK
        };
        let generation = trans.transid().get();
        let mut record = ExtentRecord::new(generation, flags | op.flags_to_set, info);
        let keyed = record.apply(changes, self.ctx.nodesize)?;
        let key = self.key(head, skinny);
        self.ctx.insert(trans, self.root, &key, &record.encode())?;
        self.change_keyed(trans, head.bytenr, &keyed.changes)?;
        self.delta.take(self.space, head.bytenr, head.num_bytes)?;
        self.space.settle_alloc(head.bytenr, head.num_bytes);
        Ok(())
    }

    fn change(
        &self,
        trans: &TransHandle,
        head: &RefHead,
        changes: &[(BackRef, i64)],
    ) -> Result<()> {
        let mut outcome = Changed::Missing;
        if !head.is_data && self.skinny {
            outcome = self.change_item(trans, head, &self.key(head, true), changes)?;
        }
        if matches!(outcome, Changed::Missing) {
            // Data, an image without skinny items, or one that got them later.
            outcome = self.change_item(trans, head, &self.key(head, false), changes)?;
        }
        match outcome {
            Changed::Missing => Err(Error::corrupt_block(
                head.bytenr,
                None,
                format!(
                    "the extent tree doesn't know this extent; changes {:?}",
                    head.refs
                ),
            )),
            Changed::Kept(keyed) => self.change_keyed(trans, head.bytenr, &keyed),
            Changed::Gone(keyed) => {
                self.change_keyed(trans, head.bytenr, &keyed)?;
                if head.is_data {
                    self.csums.delete(trans, head.bytenr, head.num_bytes)?;
                }
                self.delta.free(self.space, head.bytenr, head.num_bytes)?;
                self.space.settle_free(head.bytenr, head.num_bytes)
            }
        }
    }

    fn key(&self, head: &RefHead, skinny: bool) -> Key {
        if skinny {
            Key::new(head.bytenr.get(), kind::METADATA_ITEM, head.level.into())
        } else {
            Key::new(head.bytenr.get(), kind::EXTENT_ITEM, head.num_bytes)
        }
    }

    fn change_item(
        &self,
        trans: &TransHandle,
        head: &RefHead,
        key: &Key,
        changes: &[(BackRef, i64)],
    ) -> Result<Changed> {
        let mut outcome = Changed::Missing;
        self.ctx.update(trans, self.root, key, |data| {
            let Some(data) = data else {
                outcome = Changed::Missing;
                return Ok(Update::Keep);
            };
            let mut record = ExtentRecord::parse(key, data)?;
            let keyed = record.apply(changes, self.ctx.nodesize)?.changes;
            if record.refs == 0 {
                outcome = Changed::Gone(keyed);
                return Ok(Update::Delete);
            }
            if let Some(op) = head.extent_op {
                record.flags |= op.flags_to_set;
                if let (Some(info), Some(first)) = (&mut record.info, op.first_key) {
                    info.key = first.into();
                }
            }
            outcome = Changed::Kept(keyed);
            Ok(Update::Put(record.encode()))
        })?;
        Ok(outcome)
    }

    /// Changes references that have items of their own.
    fn change_keyed(
        &self,
        trans: &TransHandle,
        at: Logical,
        changes: &[(BackRef, i64)],
    ) -> Result<()> {
        for &(back_ref, change) in changes {
            let mut left = change;
            while left != 0 {
                let place = keyed_refs::find(self.ctx, self.root, at, &back_ref, left > 0)?;
                let Some(key) = place else {
                    let what = format!("no item counts {back_ref:?}, which should go by {left}");
                    return Err(Error::corrupt_block(at, None, what));
                };
                left -= self.change_item_of_one(trans, at, &key, &back_ref, left)?;
            }
        }
        Ok(())
    }

    /// Changes the count of one keyed reference, as far as its item goes: Linux may have
    /// left a second one behind it. Returns what was done of the change.
    fn change_item_of_one(
        &self,
        trans: &TransHandle,
        at: Logical,
        key: &Key,
        back_ref: &BackRef,
        change: i64,
    ) -> Result<i64> {
        let (mut before, mut after) = (0, 0);
        self.ctx.update(trans, self.root, key, |data| {
            let counted = data.and_then(|data| BackRef::from_keyed(key, data));
            before = counted.map_or(0, |(_, count)| i64::from(count));
            after = (before + change).max(0);
            if after > 1 && !back_ref.is_data() {
                // A tree block is referenced by one tree, or one parent, once.
                after = before;
            }
            match u32::try_from(after) {
                _ if after == before => Ok(Update::Keep),
                Ok(0) => Ok(Update::Delete),
                Ok(count) => Ok(Update::Put(back_ref.encode_keyed(count))),
                Err(_) => Ok(Update::Keep),
            }
        })?;
        // Nothing done would have the caller look for ever.
        if before == after || u32::try_from(after).is_err() {
            let what = format!("{back_ref:?} counts {before} and should change by {change}");
            return Err(Error::corrupt_block(at, None, what));
        }
        Ok(after - before)
    }
}

fn back_ref(kind: RefKind) -> BackRef {
    match kind {
        RefKind::Tree { root } => BackRef::TreeBlock { root },
        RefKind::SharedTree { parent } => BackRef::SharedBlock {
            parent: parent.get(),
        },
        RefKind::Data {
            root,
            objectid,
            offset,
        } => BackRef::Data {
            root,
            objectid,
            offset,
        },
        RefKind::SharedData { parent } => BackRef::SharedData {
            parent: parent.get(),
        },
    }
}
