//! From a uuid to the subvolumes that have it.
//!
//! Owns: the items of the UUID tree. It is an index: the kernel makes it anew where it is missing
//! or old, so an image without one is left so, and a list without room for one more stays as it is.

use crate::btree::{Root, TreeContext, Update};
use crate::error::{Error, Result};
use crate::ondisk::tree_block::item_size_max;
use crate::ondisk::{RootItem, Uuid, ids, kind, uuid_item_subvolumes, uuid_key};
use crate::sync::Arc;
use crate::transaction::TransHandle;

/// Items that a subvolume can have there.
pub(super) const ITEMS: u64 = 2;

fn tree(ctx: &TreeContext) -> Result<Option<Arc<Root>>> {
    match ctx.roots.get(ctx, ids::UUID_TREE_OBJECTID) {
        Ok(tree) => Ok(Some(tree)),
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn keys(item: &RootItem) -> impl Iterator<Item = (Uuid, u8)> {
    [
        (item.uuid, kind::UUID_KEY_SUBVOL),
        (item.received_uuid, kind::UUID_KEY_RECEIVED_SUBVOL),
    ]
    .into_iter()
    .filter(|(uuid, _)| *uuid != Uuid::default())
}

/// Asks for the tree, which may have to be read, before the first edit.
pub(super) fn prepare(ctx: &TreeContext) -> Result<()> {
    tree(ctx).map(drop)
}

/// Lists the subvolume under its uuids.
pub(super) fn add(
    ctx: &TreeContext,
    trans: &TransHandle,
    subvol: u64,
    item: &RootItem,
) -> Result<()> {
    let Some(tree) = tree(ctx)? else {
        return Ok(());
    };
    let max = item_size_max(ctx.nodesize) as usize;
    for (uuid, kind) in keys(item) {
        ctx.update(trans, &tree, &uuid_key(&uuid, kind), |old| {
            let bytes = old.unwrap_or_default();
            let known = uuid_item_subvolumes(bytes).any(|id| id == subvol);
            if known || bytes.len() + size_of::<u64>() > max {
                return Ok(Update::Keep);
            }
            Ok(Update::Put([bytes, &subvol.to_le_bytes()].concat()))
        })?;
    }
    Ok(())
}

/// Takes it out again.
pub(super) fn remove(
    ctx: &TreeContext,
    trans: &TransHandle,
    subvol: u64,
    item: &RootItem,
) -> Result<()> {
    let Some(tree) = tree(ctx)? else {
        return Ok(());
    };
    for (uuid, kind) in keys(item) {
        ctx.update(trans, &tree, &uuid_key(&uuid, kind), |old| {
            let Some(bytes) = old else {
                return Ok(Update::Keep);
            };
            let left: Vec<u8> = uuid_item_subvolumes(bytes)
                .filter(|id| *id != subvol)
                .flat_map(u64::to_le_bytes)
                .collect();
            Ok(match left.len() {
                0 => Update::Delete,
                same if same == bytes.len() => Update::Keep,
                _ => Update::Put(left),
            })
        })?;
    }
    Ok(())
}
