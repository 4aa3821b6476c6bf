//! Directory entries and extended attributes.

use super::{Place, Verdict, ensure, inode, root};
use crate::ondisk::csum::name_hash;
use crate::ondisk::tree_block::item_size_max;
use crate::ondisk::*;

pub(super) fn check_dir_item(place: &Place) -> Verdict {
    place.follows_its_inode()?;
    ensure!(!place.data.is_empty(), "no entry");
    let is_xattr = place.key.kind == kind::XATTR_ITEM;
    let hashed = place.key.kind != kind::DIR_INDEX;
    let mut entries = DirEntries::new(place.data);
    for entry in entries.by_ref() {
        let (name, data) = (entry.name.len(), entry.data.len());
        ensure!((1..=NAME_LEN_MAX).contains(&name), "a name of {name} bytes");
        let file_type = entry.kind & !FT_ENCRYPTED;
        ensure!(
            file_type != FT_UNKNOWN && file_type < FT_MAX,
            "type {} is no type of file",
            entry.kind
        );
        ensure!(
            (file_type == FT_XATTR) == is_xattr,
            "type {file_type}, which is not one of this kind of item"
        );
        if is_xattr {
            let most = item_size_max(place.ctx.nodesize) as usize - DirItem::SIZE;
            ensure!(
                name + data <= most,
                "{} bytes of attribute, {most} fit",
                name + data
            );
            ensure!(
                entry.location == Key::MIN,
                "an attribute that leads to {}",
                entry.location
            );
        } else {
            ensure!(data == 0, "an entry with {data} bytes of data");
            check_location(&entry.location)?;
        }
        if hashed {
            let hash = u64::from(name_hash(entry.name));
            ensure!(
                place.key.offset == hash,
                "the name's hash is {hash}, the key says {}",
                place.key.offset
            );
        }
    }
    ensure!(
        entries.rest().is_empty(),
        "{} bytes hold no whole entry",
        entries.rest().len()
    );
    Ok(())
}

/// What a name leads to: an inode, or a subvolume.
fn check_location(location: &Key) -> Verdict {
    match location.kind {
        kind::ROOT_ITEM => root::check_subvolume_location(location),
        kind::INODE_ITEM | kind::UNTYPED => inode::check_inode_key(location),
        other => Err(format!("leads to an item of kind {other}")),
    }
}
