//! Extent items with their inline references, and references in items of their own.

use super::{Place, Verdict, ensure};
use crate::ondisk::tree_block::LEVELS_MAX;
use crate::ondisk::*;

pub(super) fn check_extent_item(place: &Place) -> Verdict {
    let ctx = place.ctx;
    let skinny = place.key.kind == kind::METADATA_ITEM;
    ensure!(
        !skinny || ctx.skinny_metadata(),
        "SKINNY_METADATA is not on"
    );
    place.aligned("address", place.key.objectid)?;
    if skinny {
        let level = place.key.offset;
        ensure!(level < u64::from(LEVELS_MAX), "level {level} is over 7");
    }
    place.has_size_from(ExtentItem::SIZE)?;
    let entry = ExtentEntry::parse(&place.key, place.data)
        .ok_or("too short for the first key and level of a tree block")?;
    place.not_from_the_future("generation", entry.head.generation.get())?;
    check_flags(place, &entry, skinny)?;
    let length = if entry.is_tree_block() {
        u64::from(ctx.nodesize)
    } else {
        place.key.offset
    };
    ensure!(
        place.key.objectid.checked_add(length).is_some(),
        "ends behind the last possible address"
    );
    if let Some(info) = entry.info {
        ensure!(info.level < LEVELS_MAX, "level {} is over 7", info.level);
    }
    check_inline_refs(place, entry)?;
    check_overlap(place)
}

fn check_flags(place: &Place, entry: &ExtentEntry, skinny: bool) -> Verdict {
    let flags = entry.head.flags.get();
    let what = flags & (EXTENT_FLAG_DATA | EXTENT_FLAG_TREE_BLOCK);
    ensure!(
        what.count_ones() == 1,
        "flags {flags:#x}, either data or tree block expected"
    );
    let length = place.key.offset;
    if entry.is_tree_block() {
        let nodesize = u64::from(place.ctx.nodesize);
        ensure!(
            skinny || length == nodesize,
            "a tree block of {length} bytes"
        );
    } else {
        ensure!(!skinny, "data in an item for tree blocks");
        ensure!(length != 0, "an extent of no bytes");
        place.aligned("length", length)?;
        ensure!(
            flags & BLOCK_FLAG_FULL_BACKREF == 0,
            "data with a tree block's flag FULL_BACKREF"
        );
    }
    Ok(())
}

/// Kinds ascend; within a kind, what orders the keys descends. Counts fit the item's total.
fn check_inline_refs(place: &Place, entry: ExtentEntry) -> Verdict {
    let is_tree_block = entry.is_tree_block();
    let total = entry.head.refs.get();
    let mut counted = 0u64;
    let mut previous: Option<(u8, u64)> = None;
    let mut refs = entry.refs;
    for inline in refs.by_ref() {
        let back_ref = inline.back_ref;
        check_target(place, &back_ref, inline.count)?;
        let fits = match back_ref {
            BackRef::TreeBlock { .. } | BackRef::SharedBlock { .. } => is_tree_block,
            BackRef::Data { .. } | BackRef::SharedData { .. } => !is_tree_block,
            BackRef::Owner { .. } => true,
        };
        ensure!(fits, "{back_ref:?} is no reference of such an extent");
        let (kind, sequence) = (back_ref.kind(), back_ref.sequence());
        if let Some((last_kind, last_sequence)) = previous {
            ensure!(
                kind > last_kind || (kind == last_kind && sequence <= last_sequence),
                "inline reference {back_ref:?} is out of order"
            );
        }
        previous = Some((kind, sequence));
        counted = counted.saturating_add(u64::from(inline.count));
    }
    let rest = refs.rest().len();
    ensure!(rest == 0, "{rest} bytes hold no whole reference");
    ensure!(
        counted <= total,
        "{counted} inline references, the total is {total}"
    );
    Ok(())
}

fn check_target(place: &Place, back_ref: &BackRef, count: u32) -> Verdict {
    match *back_ref {
        BackRef::TreeBlock { .. } => Ok(()),
        BackRef::SharedBlock { parent } => place.aligned("parent", parent),
        BackRef::SharedData { parent } => {
            ensure!(count != 0, "a reference that counts 0");
            place.aligned("parent", parent)
        }
        BackRef::Data {
            root,
            objectid,
            offset,
        } => {
            ensure!(count != 0, "a reference that counts 0");
            // The root tree has files too: the old free space cache's.
            ensure!(
                ids::is_fs_tree(root) || root == ids::ROOT_TREE_OBJECTID,
                "a file of tree {root}, which holds no files"
            );
            // The inode cache of old images is a file as well; Linux took it for damage once.
            ensure!(
                ids::is_file(objectid) || objectid == ids::FREE_INO_OBJECTID,
                "a reference by inode {objectid}, which is none of a file"
            );
            place.aligned("offset of a data reference", offset)
        }
        BackRef::Owner { .. } => {
            ensure!(
                place.ctx.simple_quota(),
                "an owner reference, but SIMPLE_QUOTA is not on"
            );
            Ok(())
        }
    }
}

fn check_overlap(place: &Place) -> Verdict {
    let Some((key, _)) = place.previous else {
        return Ok(());
    };
    let length = match key.kind {
        kind::EXTENT_ITEM => key.offset,
        kind::METADATA_ITEM => u64::from(place.ctx.nodesize),
        _ => return Ok(()),
    };
    let end = key
        .objectid
        .checked_add(length)
        .ok_or("follows an extent without an end")?;
    ensure!(
        end <= place.key.objectid,
        "overlaps {key}, which ends at {end}"
    );
    Ok(())
}

pub(super) fn check_keyed_ref(place: &Place) -> Verdict {
    place.aligned("address", place.key.objectid)?;
    let size = match place.key.kind {
        kind::SHARED_DATA_REF => SharedDataRef::SIZE,
        _ => 0,
    };
    place.has_size(size)?;
    let (back_ref, count) =
        BackRef::from_keyed(&place.key, place.data).ok_or("holds no reference")?;
    check_target(place, &back_ref, count)
}

pub(super) fn check_keyed_data_refs(place: &Place) -> Verdict {
    place.aligned("address", place.key.objectid)?;
    let size = place.data.len();
    ensure!(
        size > 0 && size.is_multiple_of(ExtentDataRef::SIZE),
        "{size} bytes, references have {} each",
        ExtentDataRef::SIZE
    );
    for bytes in place.data.chunks_exact(ExtentDataRef::SIZE) {
        let (back_ref, count) =
            BackRef::from_keyed(&place.key, bytes).ok_or("holds no reference")?;
        check_target(place, &back_ref, count)?;
    }
    Ok(())
}
