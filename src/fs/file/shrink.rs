//! Dropping a file's items from its end, a bounded number in each transaction.
//!
//! Owns: the loop that truncation and the eviction of deleted inodes share. Invariant: after each
//! transaction the file on disk is a shorter, sound file; a crash in between loses nothing that
//! wasn't to be dropped.

use super::extent_edit::ExtentEdit;
use super::extents::{ExtentRecord, extent_key};
use crate::allocator::{FREED_WHEN_FULL, Steal};
use crate::btree::{Root, TreeContext};
use crate::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::ondisk::{InodeItem, Key, kind};
use crate::sync::Arc;
use crate::units::round_up;
use std::ops::Range;

/// Items dropped in one transaction.
const ITEMS_PER_TRANSACTION: usize = 256;

/// What the next transaction drops.
pub(in crate::fs) struct Tail {
    /// From here to the end of everything.
    pub range: Range<u64>,
    /// Nothing is left above the floor afterwards.
    pub last: bool,
}

/// How many items the next transaction may drop.
pub(super) fn items_at_once(roomy: bool) -> usize {
    match roomy {
        true => ITEMS_PER_TRANSACTION,
        false => FREED_WHEN_FULL,
    }
}

/// The last items of a file that reach over `floor`, `items_max` at most; `None` when there are
/// none.
pub(in crate::fs) fn next_tail(
    ctx: &TreeContext,
    root: &Arc<Root>,
    objectid: u64,
    floor: u64,
    items_max: usize,
) -> Result<Option<Tail>> {
    let mut cursor = ctx.search_back(root, &extent_key(objectid, u64::MAX))?;
    let mut start = None;
    for _ in 0..items_max {
        let Some((key, data)) = cursor.item() else {
            break;
        };
        if key.objectid != objectid || key.kind != kind::EXTENT_DATA {
            break;
        }
        let record = ExtentRecord::parse(&key, data, ctx.sectorsize)?;
        if record.file.end <= floor {
            break;
        }
        start = Some(record.file.start.max(floor));
        if record.file.start <= floor || !cursor.prev()? {
            break;
        }
    }
    let Some(start) = start else { return Ok(None) };
    // Whether more is left shows in the next look; the one saved look is for short files.
    Ok(Some(Tail {
        range: start..u64::MAX,
        last: start == floor,
    }))
}

/// Item changes to set aside for dropping a tail.
pub(super) fn tail_items() -> u64 {
    // Deleted items lie side by side: leaves, not items, are copied.
    16
}

/// Removes the extent items of an inode that nobody has loaded, from the end of `size`'s sector
/// on.
pub fn drop_items_from(fs: &Filesystem, root: &Arc<Root>, objectid: u64, size: u64) -> Result<()> {
    let sectorsize = u64::from(fs.ctx.sectorsize);
    let floor = round_up(size, sectorsize).ok_or(Error::FileTooBig)?;
    loop {
        let bytes = fs.ctx.space.item_bytes(tail_items());
        let (reservation, roomy) = fs.ctx.space.reserve_freeing(bytes, Steal::Yes)?;
        let Some(tail) = next_tail(&fs.ctx, root, objectid, floor, items_at_once(roomy))? else {
            return Ok(());
        };
        fs.with_trans(reservation, |trans| {
            let edit = ExtentEdit {
                ctx: &fs.ctx,
                trans,
                root,
                objectid,
            };
            let freed = edit.drop_range(&tail.range)?;
            let key = Key {
                objectid,
                kind: kind::INODE_ITEM,
                offset: 0,
            };
            fs.ctx.modify(trans, root, &key, |bytes| {
                if let Some(item) = InodeItem::read_mut(bytes) {
                    item.nbytes.set(item.nbytes.get().saturating_sub(freed));
                }
            })?;
            Ok(())
        })?;
        if tail.last {
            return Ok(());
        }
    }
}
