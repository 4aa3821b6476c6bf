//! Leaves: entries in order and inside the block, then each item by its kind.

use super::{CheckContext, Place, Verdict, dir, ensure, extent, file_extent, free_space, inode};
use super::{mapping, root};
use crate::error::{Error, Result};
use crate::ondisk::tree_block::{self, HEADER_FLAG_RELOC, Header, Item, leaf, leaf_data_size};
use crate::ondisk::*;
use crate::units::Logical;

/// Checks the items of a block of level 0.
pub(super) fn check(ctx: &CheckContext, at: Logical, block: &[u8]) -> Result<()> {
    let refuse = |slot, reason: String| Error::corrupt_block(at, slot, reason);
    let header = tree_block::header(block);
    let (owner, count) = (header.owner.get(), tree_block::nritems(block));
    if owner == 0 {
        return Err(refuse(None, "belongs to no tree".into()));
    }
    if count == 0 && never_empty(owner) && !header.has_flag(HEADER_FLAG_RELOC) {
        return Err(refuse(None, format!("an empty leaf of tree {owner}")));
    }
    let most = leaf_data_size(ctx.nodesize) as usize / Item::SIZE;
    if count > most {
        return Err(refuse(None, format!("{count} items, {most} fit")));
    }
    check_layout(ctx, block, count).map_err(|(slot, reason)| refuse(Some(slot), reason))?;

    let mut place = Place {
        ctx,
        generation: header.generation.get(),
        owner,
        key: Key::MIN,
        data: &[],
        previous: None,
    };
    for slot in 0..count {
        place.key = leaf::item_key(block, slot);
        place.data = leaf::item_data(block, slot);
        check_item(&place)
            .map_err(|reason| refuse(Some(slot), format!("{}: {reason}", place.key)))?;
        place.previous = Some((place.key, place.data));
    }
    Ok(())
}

/// Trees that hold something from the first commit to the last.
fn never_empty(owner: u64) -> bool {
    matches!(
        owner,
        ids::ROOT_TREE_OBJECTID
            | ids::EXTENT_TREE_OBJECTID
            | ids::CHUNK_TREE_OBJECTID
            | ids::DEV_TREE_OBJECTID
            | ids::FS_TREE_OBJECTID
            | ids::DATA_RELOC_TREE_OBJECTID
    )
}

/// Keys ascend; data is packed from the block's end down, without gaps, and ends before it meets
/// the entries.
fn check_layout(
    ctx: &CheckContext,
    block: &[u8],
    count: usize,
) -> std::result::Result<(), (usize, String)> {
    let mut end = u64::from(leaf_data_size(ctx.nodesize));
    let entries_end = (count * Item::SIZE) as u64;
    let mut previous: Option<Key> = None;
    for slot in 0..count {
        let item = leaf::item(block, slot);
        let key = item.key.get();
        if let Some(previous) = previous
            && previous >= key
        {
            return Err((slot, format!("key {key} after {previous}")));
        }
        previous = Some(key);
        let (offset, size) = (u64::from(item.offset.get()), u64::from(item.size.get()));
        if offset + size != end {
            let found = offset + size;
            return Err((slot, format!("{key}: data ends at {found}, {end} expected")));
        }
        if offset < entries_end {
            let head = Header::SIZE;
            let reason = format!(
                "{key}: data starts at {offset}, inside of the entries, which end at \
                 {entries_end} (after the header of {head} bytes)"
            );
            return Err((slot, reason));
        }
        end = offset;
    }
    Ok(())
}

fn check_item(place: &Place) -> Verdict {
    match place.key.kind {
        kind::INODE_ITEM => inode::check_inode_item(place),
        kind::INODE_REF => inode::check_inode_ref(place),
        kind::INODE_EXTREF => inode::check_inode_extref(place),
        kind::ORPHAN_ITEM => inode::check_orphan_item(place),
        kind::DIR_ITEM | kind::DIR_INDEX | kind::XATTR_ITEM => dir::check_dir_item(place),
        kind::DIR_LOG_INDEX => place.has_size_from(DirLogItem::SIZE),
        kind::EXTENT_DATA => file_extent::check_file_extent(place),
        kind::EXTENT_CSUM => file_extent::check_csums(place),
        kind::ROOT_ITEM => root::check_root_item(place),
        kind::ROOT_REF | kind::ROOT_BACKREF => root::check_root_ref(place),
        kind::UUID_KEY_SUBVOL | kind::UUID_KEY_RECEIVED_SUBVOL => root::check_uuid_item(place),
        kind::EXTENT_ITEM | kind::METADATA_ITEM => extent::check_extent_item(place),
        kind::TREE_BLOCK_REF | kind::SHARED_BLOCK_REF | kind::SHARED_DATA_REF => {
            extent::check_keyed_ref(place)
        }
        kind::EXTENT_DATA_REF => extent::check_keyed_data_refs(place),
        kind::EXTENT_REF_V0 => Err("a reference of the format before 2009".into()),
        kind::BLOCK_GROUP_ITEM => mapping::check_block_group_item(place),
        kind::CHUNK_ITEM => mapping::check_chunk_item(place),
        kind::DEV_ITEM => mapping::check_dev_item(place),
        kind::DEV_EXTENT => mapping::check_dev_extent(place),
        kind::FREE_SPACE_INFO => free_space::check_info(place),
        kind::FREE_SPACE_EXTENT => free_space::check_extent(place),
        kind::FREE_SPACE_BITMAP => free_space::check_bitmap(place),
        _ => check_rare_item(place),
    }
}

/// Items that this program only looks at: long enough is good enough. Unknown kinds pass, as
/// they pass in the kernel: feature bits say what may be there.
fn check_rare_item(place: &Place) -> Verdict {
    let key = &place.key;
    match key.kind {
        kind::QGROUP_STATUS => place.has_size_from(QgroupStatusItem::SIZE),
        kind::QGROUP_INFO => place.has_size_from(QgroupInfoItem::SIZE),
        kind::QGROUP_LIMIT => place.has_size_from(QgroupLimitItem::SIZE),
        kind::DEV_REPLACE => place.has_size_from(DevReplaceItem::SIZE),
        kind::TEMPORARY_ITEM if key.objectid == ids::BALANCE_OBJECTID => {
            place.has_size_from(BalanceItem::SIZE)
        }
        kind::PERSISTENT_ITEM if key.objectid == ids::DEV_STATS_OBJECTID => {
            ensure!(
                place.data.len().is_multiple_of(8),
                "{} bytes",
                place.data.len()
            );
            Ok(())
        }
        kind::VERITY_DESC_ITEM if key.offset == 0 => {
            place.has_size_from(VerityDescriptorItem::SIZE)
        }
        kind::UNTYPED if key.objectid == ids::FREE_SPACE_OBJECTID => {
            place.has_size_from(FreeSpaceHeader::SIZE)
        }
        _ => Ok(()),
    }
}
