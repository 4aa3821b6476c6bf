//! Subvolumes: which may be written, who holds whom, and new inode numbers.
//!
//! Owns: the next free objectid of each tree, and the items that tie a subvolume to the entry
//! in its parent (`ROOT_REF`, `ROOT_BACKREF`). Never: creates or deletes a subvolume.

use crate::btree::{Root, TreeContext};
use crate::error::{Error, Result};
use crate::ondisk::{Key, ROOT_SUBVOL_DEAD, RootRef, ids, kind};
use crate::sync::{Arc, Mutex};
use crate::transaction::TransHandle;
use std::collections::HashMap;

/// `Err(ReadOnly)` for a subvolume that is marked so.
pub(in crate::fs) fn want_writable(root: &Root) -> Result<()> {
    if root.item().is_read_only() {
        return Err(Error::ReadOnly(format!(
            "subvolume {} is a read-only snapshot (`btrfs property set … ro false` changes that)",
            root.objectid
        )));
    }
    Ok(())
}

/// A subvolume's tree; `NotFound` also when it is being deleted.
pub(in crate::fs) fn open(ctx: &TreeContext, objectid: u64) -> Result<Arc<Root>> {
    if objectid != ids::FS_TREE_OBJECTID && !ids::is_subvolume(objectid) {
        return Err(Error::NotFound);
    }
    let root = ctx.roots.get(ctx, objectid)?;
    let gone = {
        let item = root.item();
        item.refs.get() == 0 || item.flags.get() & ROOT_SUBVOL_DEAD != 0
    };
    if gone { Err(Error::NotFound) } else { Ok(root) }
}

/// The entry of a subvolume in its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::fs) struct ParentEntry {
    /// The tree that holds the entry.
    pub tree: u64,
    /// The directory in that tree.
    pub dirid: u64,
    /// The entry's directory index.
    pub sequence: u64,
    pub name: Vec<u8>,
}

fn decode_ref(tree: u64, bytes: &[u8]) -> Option<ParentEntry> {
    let (head, name) = RootRef::parse(bytes)?;
    Some(ParentEntry {
        tree,
        dirid: head.dirid.get(),
        sequence: head.sequence.get(),
        name: name.to_vec(),
    })
}

/// What tree `parent` says about its entry for the subvolume `child` (`ROOT_REF`).
pub(in crate::fs) fn entry_in(
    ctx: &TreeContext,
    parent: u64,
    child: u64,
) -> Result<Option<ParentEntry>> {
    let tree = ctx.roots.get(ctx, ids::ROOT_TREE_OBJECTID)?;
    let key = Key {
        objectid: parent,
        kind: kind::ROOT_REF,
        offset: child,
    };
    Ok(ctx
        .get(&tree, &key)?
        .and_then(|bytes| decode_ref(parent, &bytes)))
}

/// Where the subvolume `child` is listed (`ROOT_BACKREF`); `None` at the top.
pub(in crate::fs) fn parent_entry(ctx: &TreeContext, child: u64) -> Result<Option<ParentEntry>> {
    let tree = ctx.roots.get(ctx, ids::ROOT_TREE_OBJECTID)?;
    let cursor = ctx.search(
        &tree,
        &Key {
            objectid: child,
            kind: kind::ROOT_BACKREF,
            offset: 0,
        },
    )?;
    Ok(match cursor.item() {
        Some((key, bytes)) if key.objectid == child && key.kind == kind::ROOT_BACKREF => {
            decode_ref(key.offset, bytes)
        }
        _ => None,
    })
}

/// Removes both items of an entry; `child` is the subvolume.
pub(in crate::fs) fn remove_entry(
    ctx: &TreeContext,
    trans: &TransHandle,
    child: u64,
    entry: &ParentEntry,
) -> Result<()> {
    let tree = ctx.roots.get(ctx, ids::ROOT_TREE_OBJECTID)?;
    let down = Key {
        objectid: entry.tree,
        kind: kind::ROOT_REF,
        offset: child,
    };
    let up = Key {
        objectid: child,
        kind: kind::ROOT_BACKREF,
        offset: entry.tree,
    };
    let removed = ctx.delete(trans, &tree, &up)? & ctx.delete(trans, &tree, &down)?;
    if removed {
        Ok(())
    } else {
        Err(Error::corrupt(format!(
            "subvolume {child} lacks a root reference"
        )))
    }
}

/// Writes both items of an entry.
pub(in crate::fs) fn add_entry(
    ctx: &TreeContext,
    trans: &TransHandle,
    child: u64,
    entry: &ParentEntry,
) -> Result<()> {
    let tree = ctx.roots.get(ctx, ids::ROOT_TREE_OBJECTID)?;
    let bytes = RootRef::encode(entry.dirid, entry.sequence, &entry.name);
    let up = Key {
        objectid: child,
        kind: kind::ROOT_BACKREF,
        offset: entry.tree,
    };
    let down = Key {
        objectid: entry.tree,
        kind: kind::ROOT_REF,
        offset: child,
    };
    ctx.insert(trans, &tree, &up, &bytes)?;
    ctx.insert(trans, &tree, &down, &bytes)
}

/// The next free inode number of each tree that was asked for one.
pub(in crate::fs) struct ObjectIds {
    next: Mutex<HashMap<u64, u64>>,
}

impl ObjectIds {
    pub fn new() -> Self {
        Self {
            next: Mutex::new(HashMap::new()),
        }
    }

    /// A number that no inode of the tree has, nor had since the mount.
    pub fn allocate(&self, ctx: &TreeContext, root: &Arc<Root>) -> Result<u64> {
        let mut next = self.next.lock();
        let free = match next.get(&root.objectid) {
            Some(free) => *free,
            None => {
                let last = Key {
                    objectid: ids::LAST_FREE_OBJECTID,
                    kind: u8::MAX,
                    offset: u64::MAX,
                };
                let highest = ctx
                    .find_last_before(root, &last)?
                    .map_or(0, |(key, _)| key.objectid);
                highest.max(ids::FIRST_FREE_OBJECTID) + 1
            }
        };
        if free > ids::LAST_FREE_OBJECTID {
            return Err(Error::NoSpace);
        }
        next.insert(root.objectid, free + 1);
        Ok(free)
    }
}
