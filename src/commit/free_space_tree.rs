//! The free-space tree: loading a block group, and writing net changes.
//!
//! Owns: which items change. A group's items are read, the change is applied to the ranges that
//! they say, and only items that differ afterwards are touched; so the two forms and the
//! conversions between them are one path.

use super::free_space_delta::GroupDelta;
use super::free_space_items::GroupShape;
use crate::allocator::FreeRanges;
use crate::btree::{Root, TreeContext};
use crate::error::{Error, Result};
use crate::ondisk::{FREE_SPACE_USING_BITMAPS, FreeSpaceInfo, Key, kind};
use crate::sync::Arc;
use crate::transaction::TransHandle;
use std::collections::BTreeMap;

/// The tree with its sector size.
#[derive(Clone)]
pub(super) struct FreeSpaceTree {
    pub(super) root: Arc<Root>,
}

/// What the tree says about a block group.
pub(super) struct GroupFreeSpace {
    pub(super) free: FreeRanges,
    pub(super) bitmaps: bool,
    pub(super) extent_count: u32,
    items: BTreeMap<Key, Vec<u8>>,
}

impl FreeSpaceTree {
    fn shape(ctx: &TreeContext, start: u64, len: u64) -> GroupShape {
        GroupShape {
            start,
            len,
            sectorsize: u64::from(ctx.sectorsize),
        }
    }

    /// Reads a block group's free space.
    pub(super) fn load(&self, ctx: &TreeContext, start: u64, len: u64) -> Result<GroupFreeSpace> {
        let shape = Self::shape(ctx, start, len);
        let missing = || {
            Error::corrupt(format!(
                "the free-space tree doesn't know block group {start}"
            ))
        };
        let info = ctx
            .get(&self.root, &shape.info_key())?
            .ok_or_else(missing)?;
        let info = FreeSpaceInfo::read(&info).ok_or_else(missing)?;
        let mut group = GroupFreeSpace {
            free: FreeRanges::new(),
            bitmaps: info.flags.get() & FREE_SPACE_USING_BITMAPS != 0,
            extent_count: info.extent_count.get(),
            items: BTreeMap::new(),
        };
        let mut cursor = ctx.search(&self.root, &Key::new(start, 0, 0))?;
        while let Some((key, data)) = cursor.item() {
            if key.objectid >= start + len {
                break;
            }
            // Leftovers of groups that were never used have an info inside other groups.
            if key.kind != kind::FREE_SPACE_INFO {
                let wanted = if group.bitmaps {
                    kind::FREE_SPACE_BITMAP
                } else {
                    kind::FREE_SPACE_EXTENT
                };
                if key.kind == wanted {
                    shape.read_item(&key, data, &mut group.free)?;
                }
                group.items.insert(key, data.to_vec());
            }
            if !cursor.next()? {
                break;
            }
        }
        Ok(group)
    }

    /// Writes a block group's net change.
    pub(super) fn apply(
        &self,
        ctx: &TreeContext,
        trans: &TransHandle,
        start: u64,
        delta: &GroupDelta,
    ) -> Result<()> {
        let shape = Self::shape(ctx, start, delta.len);
        let group = self.load(ctx, start, delta.len)?;
        let mut free = group.free.clone();
        for (at, len) in delta.taken.iter() {
            if free.remove(at, len) != len {
                return Err(Error::corrupt(format!(
                    "{len} bytes at {at} are in use, but weren't free in the free-space tree"
                )));
            }
        }
        for (at, len) in delta.freed.iter() {
            if free.insert(at, len) != len {
                return Err(Error::corrupt(format!(
                    "{len} bytes at {at} were in use, but free in the free-space tree"
                )));
            }
        }
        let bitmaps = shape.choose(free.count() as u64, group.bitmaps);
        let items = shape.items(&free, bitmaps);
        self.replace_items(ctx, trans, &group.items, &items)?;
        if (free.count() as u32, bitmaps) != (group.extent_count, group.bitmaps) {
            let info = info_bytes(free.count(), bitmaps);
            ctx.upsert(trans, &self.root, &shape.info_key(), &info)?;
        }
        Ok(())
    }

    fn replace_items(
        &self,
        ctx: &TreeContext,
        trans: &TransHandle,
        old: &BTreeMap<Key, Vec<u8>>,
        new: &BTreeMap<Key, Vec<u8>>,
    ) -> Result<()> {
        for key in old.keys().filter(|key| !new.contains_key(key)) {
            ctx.delete(trans, &self.root, key)?;
        }
        for (key, data) in new {
            if old.get(key) != Some(data) {
                ctx.upsert(trans, &self.root, key, data)?;
            }
        }
        Ok(())
    }

    /// A new block group, all free.
    pub(super) fn insert_group(
        &self,
        ctx: &TreeContext,
        trans: &TransHandle,
        start: u64,
        len: u64,
    ) -> Result<()> {
        let shape = Self::shape(ctx, start, len);
        // Leftovers of a group that never was must not be taken for this one's.
        self.remove_group(ctx, trans, start, len)?;
        ctx.insert(trans, &self.root, &shape.info_key(), &info_bytes(1, false))?;
        let key = Key::new(start, kind::FREE_SPACE_EXTENT, len);
        ctx.insert(trans, &self.root, &key, &[])
    }

    /// A block group is gone.
    pub(super) fn remove_group(
        &self,
        ctx: &TreeContext,
        trans: &TransHandle,
        start: u64,
        len: u64,
    ) -> Result<()> {
        let last = Key::new(start + len - 1, u8::MAX, u64::MAX);
        ctx.delete_range(trans, &self.root, Key::new(start, 0, 0)..=last)?;
        Ok(())
    }
}

fn info_bytes(extents: usize, bitmaps: bool) -> Vec<u8> {
    let flags = if bitmaps { FREE_SPACE_USING_BITMAPS } else { 0 };
    let info = FreeSpaceInfo {
        extent_count: (extents as u32).into(),
        flags: flags.into(),
    };
    info.as_bytes().to_vec()
}
