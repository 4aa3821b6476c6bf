//! Work on an image that was begun and not ended: only the program that began it can go on.
//!
//! Owns: which items in the root tree and the device tree tell of it, and what the user can do.
//! Together with the superblock's [`gates`](super::gates) it decides whether an image may be written.

use super::gates::Reason;
use super::{
    DEV_REPLACE_STATE_STARTED, DEV_REPLACE_STATE_SUSPENDED, DevReplaceItem, Key, ids, kind,
};

/// Where the item of a balance is, in the root tree.
pub const BALANCE_KEY: Key = Key::new(ids::BALANCE_OBJECTID, kind::TEMPORARY_ITEM, 0);
/// Where the first tree of a relocation would be, in the root tree.
pub const RELOCATION_KEY: Key = Key::new(ids::TREE_RELOC_OBJECTID, kind::ROOT_ITEM, 0);
/// Where the item of a device replacement is, in the device tree; it stays there afterwards.
pub const REPLACE_KEY: Key = Key::new(0, kind::DEV_REPLACE, 0);

/// Why an image with this item in its root tree can be read but not written.
pub fn in_root_tree(key: &Key) -> Option<Reason> {
    if *key == BALANCE_KEY {
        return Some(Reason::new(
            "BALANCE_ITEM",
            "a balance is under way",
            "let the Linux kernel finish or cancel it (btrfs balance resume or cancel)",
        ));
    }
    let relocates = key.objectid == ids::TREE_RELOC_OBJECTID && key.kind == kind::ROOT_ITEM;
    relocates.then(|| {
        Reason::new(
            "TREE_RELOC",
            "a relocation was interrupted",
            "mount it once with the Linux kernel",
        )
    })
}

/// Why an image with this item in its device tree can be read but not written.
pub fn in_device_tree(key: &Key, data: &[u8]) -> Option<Reason> {
    if *key != REPLACE_KEY {
        return None;
    }
    let state = DevReplaceItem::read(data)?.replace_state.get();
    let goes_on = [DEV_REPLACE_STATE_STARTED, DEV_REPLACE_STATE_SUSPENDED].contains(&state);
    goes_on.then(|| {
        Reason::new(
            "DEV_REPLACE",
            "a device replacement is under way",
            "let the Linux kernel finish or cancel it (btrfs replace)",
        )
    })
}
