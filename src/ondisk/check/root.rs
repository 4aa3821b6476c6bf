//! Root items, the names of subvolumes, and UUIDs.

use super::{Place, Verdict, ensure};
use crate::ondisk::tree_block::LEVELS_MAX;
use crate::ondisk::*;

pub(super) fn check_root_item(place: &Place) -> Verdict {
    ensure!(place.key.objectid != 0, "a tree without number");
    let is_reloc = place.key.objectid == ids::TREE_RELOC_OBJECTID;
    ensure!(
        !is_reloc || place.key.offset != 0,
        "a relocation tree of no tree"
    );
    let size = place.data.len();
    ensure!(
        size == RootItem::SIZE || size == ROOT_ITEM_LEGACY_SIZE,
        "{size} bytes, {ROOT_ITEM_LEGACY_SIZE} or {} expected",
        RootItem::SIZE
    );
    let root = RootItem::from_item(place.data).ok_or("too short")?;
    place.not_from_the_future("generation", root.generation.get())?;
    place.not_from_the_future("generation_v2", root.generation_v2.get())?;
    place.not_from_the_future("last_snapshot", root.last_snapshot.get())?;
    place.aligned("root block", root.bytenr.get())?;
    ensure!(root.level < LEVELS_MAX, "level {} is over 7", root.level);
    ensure!(
        root.drop_level < LEVELS_MAX,
        "drop level {} is over 7",
        root.drop_level
    );
    let progress = root.drop_progress.get();
    ensure!(
        progress.objectid == 0 || root.drop_level > 0,
        "the drop has come to {progress}, but at no level"
    );
    let unknown = root.flags.get() & !(ROOT_SUBVOL_RDONLY | ROOT_SUBVOL_DEAD);
    ensure!(unknown == 0, "unknown root flags {unknown:#x}");
    Ok(())
}

/// The key that a directory entry of a subvolume holds.
pub(super) fn check_subvolume_location(location: &Key) -> Verdict {
    ensure!(
        ids::is_fs_tree(location.objectid),
        "leads to tree {}, which holds no files",
        location.objectid
    );
    Ok(())
}

pub(super) fn check_root_ref(place: &Place) -> Verdict {
    place.has_size_from(RootRef::SIZE + 1)?;
    let (_, name) = RootRef::parse(place.data).ok_or("the name is longer than the item")?;
    let length = name.len();
    ensure!(
        (1..=NAME_LEN_MAX).contains(&length),
        "a name of {length} bytes"
    );
    place.has_size(RootRef::SIZE + length)
}

pub(super) fn check_uuid_item(place: &Place) -> Verdict {
    let size = place.data.len();
    ensure!(
        size > 0 && size.is_multiple_of(8),
        "{size} bytes, numbers of 8 expected"
    );
    Ok(())
}
