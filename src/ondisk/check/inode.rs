//! Inode items and the names that lead back to directories.

use super::{Place, Verdict, ensure};
use crate::ondisk::*;

/// Whether a key names an inode: a file's number, the root tree's directory, or the old inode
/// cache's.
pub(super) fn check_inode_key(key: &Key) -> Verdict {
    let number = key.objectid;
    ensure!(
        ids::is_file(number)
            || number == ids::ROOT_TREE_DIR_OBJECTID
            || number == ids::FREE_INO_OBJECTID,
        "inode number {number} is none of a file"
    );
    ensure!(
        key.offset == 0,
        "the key of an inode has offset {}, 0 expected",
        key.offset
    );
    Ok(())
}

pub(super) fn check_inode_item(place: &Place) -> Verdict {
    check_inode_key(&place.key)?;
    place.has_size(InodeItem::SIZE)?;
    let inode = InodeItem::read(place.data).ok_or("too short")?;
    place.not_from_the_future("generation", inode.generation.get())?;
    place.not_from_the_future("transid", inode.transid.get())?;
    let mode = inode.mode.get();
    ensure!(mode & !0o177777 == 0, "mode {mode:#o} has unknown bits");
    ensure!(
        file_type_of_mode(mode) != FT_UNKNOWN,
        "mode {mode:#o} is no type of file"
    );
    let nlink = inode.nlink.get();
    let is_dir = file_type_of_mode(mode) == FT_DIR;
    ensure!(!is_dir || nlink <= 1, "a directory with {nlink} links");
    let unknown = inode.flags.get() & 0xffff_ffff & !INODE_FLAGS_MASK;
    ensure!(unknown == 0, "unknown inode flags {unknown:#x}");
    Ok(())
}

pub(super) fn check_inode_ref(place: &Place) -> Verdict {
    place.follows_its_inode()?;
    check_names(InodeNames::of_ref(place.key.offset, place.data))
}

pub(super) fn check_inode_extref(place: &Place) -> Verdict {
    place.follows_its_inode()?;
    check_names(InodeNames::of_extref(place.data))
}

fn check_names(mut names: InodeNames) -> Verdict {
    ensure!(!names.rest().is_empty(), "no name");
    for name in names.by_ref() {
        let length = name.name.len();
        ensure!(
            (1..=NAME_LEN_MAX).contains(&length),
            "a name of {length} bytes"
        );
    }
    ensure!(
        names.rest().is_empty(),
        "{} bytes hold no whole name",
        names.rest().len()
    );
    Ok(())
}

pub(super) fn check_orphan_item(place: &Place) -> Verdict {
    ensure!(
        place.key.objectid == ids::ORPHAN_OBJECTID,
        "an orphan under objectid {}",
        place.key.objectid
    );
    place.has_size(0)
}
