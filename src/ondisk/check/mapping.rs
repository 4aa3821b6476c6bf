//! Block groups, chunks, devices and their extents.

use super::{CheckContext, Place, Verdict, ensure};
use crate::ondisk::*;
use crate::units::Logical;

/// Checks a chunk of the superblock's array by the rules of the chunk tree's; the error is the
/// reason in words.
pub fn check_chunk(
    ctx: &CheckContext,
    logical: Logical,
    chunk: &Chunk,
    stripes: &[Stripe],
) -> Result<(), String> {
    judge_chunk(ctx, logical, chunk, stripes).map_err(|reason| format!("chunk {logical}: {reason}"))
}

fn judge_chunk(ctx: &CheckContext, logical: Logical, chunk: &Chunk, stripes: &[Stripe]) -> Verdict {
    let length = chunk.length.get();
    ensure!(
        ctx.is_aligned(logical.0),
        "the address is not a multiple of the sector size"
    );
    ensure!(
        length != 0 && ctx.is_aligned(length),
        "length {length} is no multiple of the sector size"
    );
    ensure!(
        logical.checked_add(length).is_some(),
        "ends behind the last possible address"
    );
    ensure!(
        length < STRIPE_LEN << 32,
        "length {length} is more than stripes can be counted for"
    );
    let sector = chunk.sector_size.get();
    ensure!(
        sector == ctx.sectorsize,
        "sector size {sector}, {} expected",
        ctx.sectorsize
    );
    let stripe_len = chunk.stripe_len.get();
    ensure!(
        stripe_len == STRIPE_LEN,
        "stripe length {stripe_len}, {STRIPE_LEN} expected"
    );
    let flags = chunk.kind.get();
    check_group_flags(ctx, flags)?;

    let count = stripes.len();
    let fits = match flags & BLOCK_GROUP_PROFILE_MASK {
        0 => count == 1,
        BLOCK_GROUP_DUP | BLOCK_GROUP_RAID1 => count == 2,
        BLOCK_GROUP_RAID1C3 => count == 3,
        BLOCK_GROUP_RAID1C4 => count == 4,
        BLOCK_GROUP_RAID5 => count >= 2,
        BLOCK_GROUP_RAID6 => count >= 3,
        BLOCK_GROUP_RAID10 => count >= 2 && count.is_multiple_of(2),
        _ => count >= 1,
    };
    ensure!(fits, "{count} stripes of {}", profile_name(flags));
    let sub_stripes = chunk.sub_stripes.get();
    ensure!(
        flags & BLOCK_GROUP_RAID10 == 0 || sub_stripes == 2,
        "{sub_stripes} sub stripes of RAID10"
    );
    for stripe in stripes {
        let start = stripe.offset.get();
        ensure!(
            ctx.is_aligned(start),
            "a stripe at {start}, no multiple of the sector size"
        );
        ensure!(
            start.checked_add(length).is_some(),
            "a stripe ends behind the last address"
        );
    }
    Ok(())
}

/// One profile at most, and what a group can hold.
fn check_group_flags(ctx: &CheckContext, flags: u64) -> Verdict {
    let words = || block_group_flags_words(flags);
    let unknown = flags & !(BLOCK_GROUP_TYPE_MASK | BLOCK_GROUP_PROFILE_MASK);
    ensure!(unknown == 0, "unknown type bits {unknown:#x}");
    ensure!(
        (flags & BLOCK_GROUP_PROFILE_MASK).count_ones() <= 1,
        "{}",
        words()
    );
    let fits = match flags & BLOCK_GROUP_TYPE_MASK {
        BLOCK_GROUP_DATA | BLOCK_GROUP_METADATA | BLOCK_GROUP_SYSTEM => true,
        both if both == BLOCK_GROUP_DATA | BLOCK_GROUP_METADATA => ctx.mixed_groups(),
        _ => false,
    };
    ensure!(fits, "type {} is none that a group can have here", words());
    Ok(())
}

pub(super) fn check_chunk_item(place: &Place) -> Verdict {
    let objectid = place.key.objectid;
    ensure!(
        objectid == ids::FIRST_CHUNK_TREE_OBJECTID,
        "a chunk under objectid {objectid}"
    );
    let (chunk, stripes) = Chunk::parse(place.data).ok_or("no stripe, or fewer than it says")?;
    place.has_size(Chunk::item_size(stripes.len()))?;
    judge_chunk(place.ctx, Logical(place.key.offset), chunk, stripes)
}

pub(super) fn check_block_group_item(place: &Place) -> Verdict {
    let length = place.key.offset;
    ensure!(length != 0, "a block group of no bytes");
    ensure!(
        place.key.objectid.checked_add(length).is_some(),
        "ends behind the last possible address"
    );
    place.has_size(BlockGroupItem::SIZE)?;
    let group = BlockGroupItem::read(place.data).ok_or("too short")?;
    let objectid = group.chunk_objectid.get();
    ensure!(
        objectid == ids::FIRST_CHUNK_TREE_OBJECTID,
        "chunk objectid {objectid}"
    );
    let used = group.used.get();
    ensure!(used <= length, "{used} bytes used of {length}");
    check_group_flags(place.ctx, group.flags.get())
}

pub(super) fn check_dev_item(place: &Place) -> Verdict {
    let objectid = place.key.objectid;
    ensure!(
        objectid == ids::DEV_ITEMS_OBJECTID,
        "a device under objectid {objectid}"
    );
    place.has_size(DevItem::SIZE)?;
    let device = DevItem::read(place.data).ok_or("too short")?;
    let devid = device.devid.get();
    ensure!(devid == place.key.offset, "says it is device {devid}");
    let (used, total) = (device.bytes_used.get(), device.total_bytes.get());
    ensure!(used <= total, "{used} bytes used of {total}");
    Ok(())
}

pub(super) fn check_dev_extent(place: &Place) -> Verdict {
    place.has_size(DevExtent::SIZE)?;
    let extent = DevExtent::read(place.data).ok_or("too short")?;
    let (tree, objectid) = (extent.chunk_tree.get(), extent.chunk_objectid.get());
    ensure!(tree == ids::CHUNK_TREE_OBJECTID, "chunk tree {tree}");
    ensure!(
        objectid == ids::FIRST_CHUNK_TREE_OBJECTID,
        "chunk objectid {objectid}"
    );
    place.aligned("start", place.key.offset)?;
    place.aligned("chunk", extent.chunk_offset.get())?;
    let length = extent.length.get();
    place.aligned("length", length)?;
    ensure!(length != 0, "an extent of no bytes");
    ensure!(
        place.key.offset.checked_add(length).is_some(),
        "ends behind the last address"
    );
    if let Some((key, data)) = place.previous
        && key.objectid == place.key.objectid
        && key.kind == kind::DEV_EXTENT
        && let Some(previous) = DevExtent::read(data)
    {
        let end = key.offset.saturating_add(previous.length.get());
        ensure!(
            end <= place.key.offset,
            "overlaps {key}, which ends at {end}"
        );
    }
    Ok(())
}
