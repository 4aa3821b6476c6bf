//! Chunks, devices, block groups and free space of an image that is being opened.
//!
//! Owns: filling [`Space`](crate::allocator::Space), and believing the numbers only when they
//! agree with each other.

use super::block_groups::ChunkTrees;
use crate::allocator::FreeRanges;
use crate::btree::{Root, TreeContext};
use crate::error::{Error, Result};
use crate::ondisk::superblock::FEATURE_COMPAT_RO_FREE_SPACE_TREE_VALID;
use crate::ondisk::{BlockGroupItem, Chunk, DevExtent, DevItem, Key, Superblock, ids, kind};
use crate::sync::Arc;
use crate::units::{DevId, Logical, Physical};
use crate::volume::{ChunkMapping, Volume};
use std::collections::BTreeMap;

/// Makes every chunk known to the volume.
pub(super) fn learn_chunks(
    ctx: &TreeContext,
    volume: &Volume,
    superblock: &Superblock,
) -> Result<()> {
    let root = ctx.roots.get(ctx, ids::CHUNK_TREE_OBJECTID)?;
    let mut cursor = ctx.search(&root, &Key::MIN)?;
    let mut devices = 0;
    while let Some((key, data)) = cursor.item() {
        match key.kind {
            kind::CHUNK_ITEM => {
                let (chunk, stripes) = Chunk::parse(data)
                    .ok_or_else(|| Error::corrupt(format!("chunk item {key} is torn")))?;
                let mapping = ChunkMapping::from_item(chunk, stripes);
                volume.chunks().insert_chunk(Logical(key.offset), mapping)?;
            }
            kind::DEV_ITEM => {
                devices += 1;
                check_device(superblock, data)?;
            }
            _ => {}
        }
        if !cursor.next()? {
            break;
        }
    }
    if devices != superblock.num_devices.get() {
        log::warn!(
            "the superblock counts {} devices, the chunk tree {devices}",
            superblock.num_devices.get()
        );
    }
    Ok(())
}

fn check_device(superblock: &Superblock, data: &[u8]) -> Result<()> {
    let Some(item) = DevItem::read(data) else {
        return Ok(());
    };
    if item.devid == superblock.dev_item.devid && item.uuid != superblock.dev_item.uuid {
        return Err(Error::corrupt(format!(
            "device {} is another one than the chunk tree names: the uuids differ",
            item.devid.get()
        )));
    }
    Ok(())
}

/// Fills the space of `ctx`. When the numbers contradict each other and nothing else forbids
/// writing, `read_only` gets the reason. Who replays a log needs free addresses even if nothing is
/// written: with `log_waits` it is an error then.
pub(super) fn load(
    ctx: &TreeContext,
    volume: &Volume,
    superblock: &Superblock,
    trees: &ChunkTrees,
    extent_root: &Arc<Root>,
    log_waits: bool,
    read_only: &mut Option<String>,
) -> Result<()> {
    for (_, chunk) in volume.chunks().all() {
        if let Err(error) = chunk.copies() {
            read_only.get_or_insert(error.to_string());
        }
    }
    let result = load_devices(ctx, volume, superblock, trees)
        .and_then(|()| load_groups(ctx, volume, trees))
        .and_then(|()| match read_only {
            // Nothing will be allocated: the counters are enough.
            Some(_) if !log_waits => Ok(()),
            _ => load_free_space(ctx, superblock, trees, extent_root),
        });
    match result {
        Ok(()) => {}
        Err(error @ Error::Corrupt(_)) if log_waits => {
            return Err(Error::corrupt(format!(
                "{error}; over that the log tree can't be replayed: -o ro,nologreplay shows the \
                 last commit"
            )));
        }
        Err(error @ Error::Corrupt(_)) => {
            log::error!("{error}");
            read_only.get_or_insert(format!("{error}; check the image with `btrfs check`"));
        }
        Err(error) if read_only.is_some() => log::error!("{error}"),
        Err(error) => return Err(error),
    }
    let used = ctx.space.bytes_used();
    if used != superblock.bytes_used.get() {
        log::warn!(
            "the superblock counts {} used bytes, the block groups {used}",
            superblock.bytes_used.get()
        );
    }
    Ok(())
}

/// The device's extents, which must be the chunks' stripes and nothing else: whoever allocates
/// believes them.
fn load_devices(
    ctx: &TreeContext,
    volume: &Volume,
    superblock: &Superblock,
    trees: &ChunkTrees,
) -> Result<()> {
    let devid = superblock.dev_item.devid.get();
    let total = superblock.dev_item.total_bytes.get();
    let mut stripes = stripes_of(volume)?;
    let mut extents: Vec<(u64, u64)> = Vec::new();
    let mut cursor = ctx.search(&trees.dev, &Key::new(devid, kind::DEV_EXTENT, 0))?;
    while let Some((key, data)) = cursor.item() {
        if (key.objectid, key.kind) != (devid, kind::DEV_EXTENT) {
            break;
        }
        let extent = DevExtent::read(data)
            .ok_or_else(|| Error::corrupt(format!("dev extent {key} is torn")))?;
        let len = extent.length.get();
        let overlaps = extents
            .last()
            .is_some_and(|&(at, len)| at + len > key.offset);
        if overlaps || key.offset.checked_add(len).is_none_or(|end| end > total) {
            return Err(Error::corrupt(format!(
                "dev extent {key} of {len} bytes overlaps another or leaves the device"
            )));
        }
        let place = (devid, key.offset);
        if stripes.remove(&place) != Some((extent.chunk_offset.get(), len)) {
            return Err(Error::corrupt(format!(
                "dev extent {key} of {len} bytes belongs to no chunk's stripe"
            )));
        }
        extents.push((key.offset, len));
        if !cursor.next()? {
            break;
        }
    }
    if let Some(((devid, at), (chunk, _))) = stripes.pop_first() {
        return Err(Error::corrupt(format!(
            "a stripe of chunk {chunk} at {at} of device {devid} has no dev extent"
        )));
    }
    ctx.space.add_device(DevId(devid), total, extents);
    Ok(())
}

/// Every stripe by its place: the chunk and the stripe's length.
fn stripes_of(volume: &Volume) -> Result<BTreeMap<(u64, u64), (u64, u64)>> {
    let mut stripes = BTreeMap::new();
    for (Logical(start), chunk) in volume.chunks().all() {
        for &(DevId(devid), Physical(at)) in &chunk.stripes {
            if let Some((other, _)) = stripes.insert((devid, at), (start, chunk.len)) {
                return Err(Error::corrupt(format!(
                    "chunks {other} and {start} both have a stripe at {at} of device {devid}"
                )));
            }
        }
    }
    Ok(stripes)
}

fn load_groups(ctx: &TreeContext, volume: &Volume, trees: &ChunkTrees) -> Result<()> {
    for (Logical(start), chunk) in volume.chunks().all() {
        let key = Key::new(start, kind::BLOCK_GROUP_ITEM, chunk.len);
        let item = ctx
            .get(&trees.groups, &key)?
            .ok_or_else(|| Error::corrupt(format!("chunk {start} has no block group item")))?;
        let item = BlockGroupItem::read(&item)
            .ok_or_else(|| Error::corrupt(format!("block group item {key} is torn")))?;
        let (used, flags) = (item.used.get(), item.flags.get());
        if flags != chunk.flags {
            return Err(Error::corrupt(format!(
                "block group {start} has flags {flags:#x}, its chunk {:#x}",
                chunk.flags
            )));
        }
        if used > chunk.len {
            return Err(Error::corrupt(format!(
                "block group {start} uses {used} of {} bytes",
                chunk.len
            )));
        }
        ctx.space
            .add_group(start, chunk.len, flags, used, chunk.stripes.clone())?;
    }
    Ok(())
}

fn load_free_space(
    ctx: &TreeContext,
    superblock: &Superblock,
    trees: &ChunkTrees,
    extent_root: &Arc<Root>,
) -> Result<()> {
    // One that is out of date keeps the image read-only, but a log may be replayed in memory.
    let valid = superblock.has_compat_ro(FEATURE_COMPAT_RO_FREE_SPACE_TREE_VALID);
    for start in ctx.space.group_starts() {
        let Some(group) = ctx.space.group(Logical(start)) else {
            continue;
        };
        let free = match trees.free_space.as_ref().filter(|_| valid) {
            Some(tree) => tree.load(ctx, start, group.len)?.free,
            None => unused_ranges(ctx, extent_root, start, group.len)?,
        };
        if group.usage.used + free.bytes() != group.len {
            return Err(Error::corrupt(format!(
                "block group {start} of {} bytes uses {} and has {} free",
                group.len,
                group.usage.used,
                free.bytes()
            )));
        }
        ctx.space.load_free(start, free.iter());
    }
    Ok(())
}

/// What no extent item of a block group covers.
fn unused_ranges(
    ctx: &TreeContext,
    extent_root: &Arc<Root>,
    start: u64,
    len: u64,
) -> Result<FreeRanges> {
    let mut free = FreeRanges::new();
    free.insert(start, len);
    let mut cursor = ctx.search(extent_root, &Key::new(start, 0, 0))?;
    while let Some((key, _)) = cursor.item() {
        if key.objectid >= start + len {
            break;
        }
        let bytes = match key.kind {
            kind::EXTENT_ITEM => key.offset,
            kind::METADATA_ITEM => u64::from(ctx.nodesize),
            _ => 0,
        };
        if bytes > 0 && free.remove(key.objectid, bytes) != bytes {
            return Err(Error::corrupt(format!("extent {key} overlaps another one")));
        }
        if !cursor.next()? {
            break;
        }
    }
    Ok(free)
}
