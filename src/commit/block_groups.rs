//! Chunks and block groups written down: new ones, changed ones, removed ones.
//!
//! Owns: CHUNK_ITEM, DEV_EXTENT, DEV_ITEM, BLOCK_GROUP_ITEM, and the group's part of the
//! free-space tree. Invariant: a chunk has all of them or none.

use super::free_space_delta::FreeSpaceDelta;
use super::free_space_tree::FreeSpaceTree;
use crate::allocator::{EmptyGroup, NewChunk, Space};
use crate::btree::{Root, TreeContext};
use crate::error::{Error, Result};
use crate::ondisk::{
    BLOCK_GROUP_SYSTEM, BlockGroupItem, Chunk, DevExtent, DevItem, Key, STRIPE_LEN, Stripe,
    Superblock, ids, kind,
};
use crate::sync::Arc;
use crate::transaction::TransHandle;
use crate::units::{DevId, Logical, Physical};

/// The trees that a chunk's items are in.
pub(super) struct ChunkTrees {
    pub(super) chunk: Arc<Root>,
    pub(super) dev: Arc<Root>,
    /// The extent tree, or the block-group tree.
    pub(super) groups: Arc<Root>,
    pub(super) free_space: Option<FreeSpaceTree>,
    /// The chunk tree's uuid, which every dev extent repeats.
    pub(super) chunk_tree_uuid: [u8; 16],
}

impl ChunkTrees {
    /// Writes the items of a new chunk, and its copy in the superblock if it is a system chunk.
    pub(super) fn insert(
        &self,
        ctx: &TreeContext,
        trans: &TransHandle,
        superblock: &mut Superblock,
        chunk: &NewChunk,
    ) -> Result<()> {
        let stripes: Vec<Stripe> = chunk
            .stripes
            .iter()
            .map(|&(devid, Physical(at))| Stripe {
                devid: devid.get().into(),
                offset: at.into(),
                dev_uuid: superblock.dev_item.uuid,
            })
            .collect();
        let head = Chunk {
            length: chunk.len.into(),
            owner: ids::EXTENT_TREE_OBJECTID.into(),
            stripe_len: STRIPE_LEN.into(),
            kind: chunk.flags.into(),
            io_align: (STRIPE_LEN as u32).into(),
            io_width: (STRIPE_LEN as u32).into(),
            sector_size: ctx.sectorsize.into(),
            sub_stripes: 1.into(),
            ..Chunk::default()
        };
        let item = head.encode(&stripes);
        ctx.insert(trans, &self.chunk, &chunk_key(chunk.logical), &item)?;
        if chunk.flags & BLOCK_GROUP_SYSTEM != 0 {
            superblock.push_sys_chunk(Logical(chunk.logical), &item)?;
        }
        for &(devid, Physical(at)) in &chunk.stripes {
            let extent = DevExtent {
                chunk_tree: ids::CHUNK_TREE_OBJECTID.into(),
                chunk_objectid: ids::FIRST_CHUNK_TREE_OBJECTID.into(),
                chunk_offset: chunk.logical.into(),
                length: chunk.len.into(),
                chunk_tree_uuid: self.chunk_tree_uuid,
            };
            ctx.insert(
                trans,
                &self.dev,
                &dev_extent_key(devid, at),
                extent.as_bytes(),
            )?;
        }
        let group = group_item(0, chunk.flags);
        ctx.insert(
            trans,
            &self.groups,
            &group_key(chunk.logical, chunk.len),
            &group,
        )?;
        if let Some(tree) = &self.free_space {
            tree.insert_group(ctx, trans, chunk.logical, chunk.len)?;
        }
        Ok(())
    }

    /// Deletes all items of an empty group and its chunk.
    pub(super) fn remove(
        &self,
        ctx: &TreeContext,
        trans: &TransHandle,
        superblock: &mut Superblock,
        delta: &FreeSpaceDelta,
        group: &EmptyGroup,
    ) -> Result<()> {
        let missing =
            |what: &str| Error::corrupt(format!("block group {} has no {what}", group.start));
        delta.forget(group.start);
        if let Some(tree) = &self.free_space {
            tree.remove_group(ctx, trans, group.start, group.len)?;
        }
        if !ctx.delete(trans, &self.groups, &group_key(group.start, group.len))? {
            return Err(missing("BLOCK_GROUP_ITEM"));
        }
        for &(devid, Physical(at)) in &group.stripes {
            if !ctx.delete(trans, &self.dev, &dev_extent_key(devid, at))? {
                return Err(missing("DEV_EXTENT"));
            }
        }
        if !ctx.delete(trans, &self.chunk, &chunk_key(group.start))? {
            return Err(missing("CHUNK_ITEM"));
        }
        superblock.remove_sys_chunk(Logical(group.start));
        log::debug!(
            "block group {} of {} bytes is given back",
            group.start,
            group.len
        );
        Ok(())
    }

    /// Writes `used` of groups whose extents changed.
    pub(super) fn update_used(
        &self,
        ctx: &TreeContext,
        trans: &TransHandle,
        space: &Space,
    ) -> Result<()> {
        for (start, used) in space.take_dirty_groups() {
            let Some((_, len, flags)) = space.group_range(Logical(start)) else {
                continue;
            };
            let key = group_key(start, len);
            let found = ctx.modify(trans, &self.groups, &key, |data| {
                let size = data.len().min(BlockGroupItem::SIZE);
                data[..size].copy_from_slice(&group_item(used, flags)[..size]);
            })?;
            if !found {
                return Err(Error::corrupt(format!("block group {start} has no item")));
            }
        }
        Ok(())
    }

    /// Writes the device's `bytes_used` where chunks came or went, and keeps the superblock's
    /// copy the same. `given_back` bytes leave it with this commit.
    pub(super) fn update_device(
        &self,
        ctx: &TreeContext,
        trans: &TransHandle,
        space: &Space,
        superblock: &mut Superblock,
        given_back: u64,
    ) -> Result<()> {
        let devid = DevId(superblock.dev_item.devid.get());
        let used = space
            .device_used(devid)
            .unwrap_or(superblock.dev_item.bytes_used.get());
        let used = used.saturating_sub(given_back);
        if superblock.dev_item.bytes_used.get() == used {
            return Ok(());
        }
        superblock.dev_item.bytes_used.set(used);
        let key = Key::new(ids::DEV_ITEMS_OBJECTID, kind::DEV_ITEM, devid.get());
        let found = ctx.modify(trans, &self.chunk, &key, |data| {
            if let Some(item) = DevItem::read_mut(data) {
                item.bytes_used.set(used);
            }
        })?;
        if !found {
            return Err(Error::corrupt(format!("device {devid} has no DEV_ITEM")));
        }
        Ok(())
    }
}

fn chunk_key(logical: u64) -> Key {
    Key::new(ids::FIRST_CHUNK_TREE_OBJECTID, kind::CHUNK_ITEM, logical)
}

fn dev_extent_key(devid: DevId, at: u64) -> Key {
    Key::new(devid.get(), kind::DEV_EXTENT, at)
}

fn group_key(start: u64, len: u64) -> Key {
    Key::new(start, kind::BLOCK_GROUP_ITEM, len)
}

fn group_item(used: u64, flags: u64) -> Vec<u8> {
    let item = BlockGroupItem {
        used: used.into(),
        chunk_objectid: ids::FIRST_CHUNK_TREE_OBJECTID.into(),
        flags: flags.into(),
    };
    item.as_bytes().to_vec()
}
