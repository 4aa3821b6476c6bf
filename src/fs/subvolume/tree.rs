//! A subvolume's tree: whether it is there, whether it may be written, and new numbers in it.
//!
//! Owns: the next free objectid of each tree, the root tree included, whose objects are the
//! subvolumes themselves.

use crate::btree::{Root, TreeContext};
use crate::error::{Error, Result};
use crate::ondisk::{Key, ids};
use crate::sync::{Arc, Mutex};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// `Err(ReadOnly)` for a subvolume that is marked so.
pub(in crate::fs) fn want_writable(root: &Root) -> Result<()> {
    if root.item().is_read_only() {
        return Err(Error::ReadOnly(format!(
            "subvolume {} is read-only (`btrfuse subvolume read-only DIR no` changes that)",
            root.objectid
        )));
    }
    Ok(())
}

/// A subvolume's tree; `NotFound` also when it was deleted, though it may still be used: see
/// [`super::dying`].
pub(in crate::fs) fn open(ctx: &TreeContext, objectid: u64) -> Result<Arc<Root>> {
    if objectid != ids::FS_TREE_OBJECTID && !ids::is_subvolume(objectid) {
        return Err(Error::NotFound);
    }
    let root = ctx.roots.get(ctx, objectid)?;
    match root.is_dead() {
        true => Err(Error::NotFound),
        false => Ok(root),
    }
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
            None => first_free(ctx, root)?,
        };
        if free > ids::LAST_FREE_OBJECTID {
            return Err(Error::NoSpace);
        }
        next.insert(root.objectid, free + 1);
        Ok(free)
    }

    /// From here on no number is given out that an inode of the tree has now.
    pub fn remember(&self, ctx: &TreeContext, root: &Arc<Root>) -> Result<()> {
        let mut next = self.next.lock();
        if let Entry::Vacant(unknown) = next.entry(root.objectid) {
            unknown.insert(first_free(ctx, root)?);
        }
        Ok(())
    }
}

/// One more than the highest number in the tree.
fn first_free(ctx: &TreeContext, root: &Arc<Root>) -> Result<u64> {
    let last = Key {
        objectid: ids::LAST_FREE_OBJECTID,
        kind: u8::MAX,
        offset: u64::MAX,
    };
    let highest = ctx
        .find_last_before(root, &last)?
        .map_or(0, |(key, _)| key.objectid);
    Ok(highest.max(ids::FIRST_FREE_OBJECTID - 1) + 1)
}
