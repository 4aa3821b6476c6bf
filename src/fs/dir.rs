//! Directory entries in the tree: each name is a `DIR_ITEM` under its hash and a `DIR_INDEX`
//! under its place in the listing.
//!
//! Owns: finding, adding and removing entries, and the counter of indexes. Invariant: both items
//! of a name change in one transaction, and the directory's size is twice the sum of its name
//! lengths. Callers hold the directory's `names` lock; to change something, exclusively.

use super::inode::{Inode, InodeMeta};
use super::inode_ref::ItemLimits;
use crate::btree::{Root, TreeContext, Update};
use crate::error::{Error, Result};
use crate::ondisk::csum::name_hash;
use crate::ondisk::{DirEntries, DirItem, Key, NAME_LEN_MAX, kind};
use crate::sync::Arc;
use crate::transaction::TransHandle;

/// The first index; the two before it stand for "." and "..".
pub(in crate::fs) const FIRST_INDEX: u64 = 2;
/// Indexes are the cookies of readdir(3), which are signed.
const LAST_INDEX: u64 = i64::MAX as u64;

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fs) struct Target {
    /// An inode item's key, or a subvolume's root item's.
    pub location: Key,
    /// The type byte.
    pub kind: u8,
}

impl Target {
    /// The subvolume that the entry stands for.
    pub fn subvolume(&self) -> Option<u64> {
        (self.location.kind == kind::ROOT_ITEM).then_some(self.location.objectid)
    }
}

/// `Err` for what can't be a new name.
pub(in crate::fs) fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_LEN_MAX {
        return Err(Error::NameTooLong);
    }
    if name.is_empty() || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(Error::Invalid(
            "a name is not empty and has no slash or zero byte",
        ));
    }
    if name == b"." || name == b".." {
        return Err(Error::Exists);
    }
    Ok(())
}

/// A directory by its place in the trees, whether or not anybody uses it.
#[derive(Clone, Copy)]
pub(in crate::fs) struct DirPlace<'a> {
    pub root: &'a Arc<Root>,
    pub objectid: u64,
}

impl<'a> DirPlace<'a> {
    pub fn of(dir: &'a Inode) -> Self {
        Self {
            root: &dir.root,
            objectid: dir.objectid,
        }
    }

    fn item_key(&self, name: &[u8]) -> Key {
        Key::new(self.objectid, kind::DIR_ITEM, u64::from(name_hash(name)))
    }

    fn index_key(&self, index: u64) -> Key {
        Key::new(self.objectid, kind::DIR_INDEX, index)
    }
}

fn item_key(dir: &Inode, name: &[u8]) -> Key {
    DirPlace::of(dir).item_key(name)
}

fn index_key(dir: &Inode, index: u64) -> Key {
    DirPlace::of(dir).index_key(index)
}

/// The entry called `name`.
pub(in crate::fs) fn find(ctx: &TreeContext, dir: &Inode, name: &[u8]) -> Result<Option<Target>> {
    find_in(ctx, DirPlace::of(dir), name)
}

/// As [`find`].
pub(in crate::fs) fn find_in(
    ctx: &TreeContext,
    dir: DirPlace<'_>,
    name: &[u8],
) -> Result<Option<Target>> {
    if name.len() > NAME_LEN_MAX {
        return Err(Error::NameTooLong);
    }
    let found = ctx.get_with(dir.root, &dir.item_key(name), |bytes| {
        DirEntries::find_name(bytes, name).map(|entry| Target {
            location: entry.location,
            kind: entry.kind,
        })
    })?;
    Ok(found.flatten())
}

/// The name at a place in the listing.
pub(in crate::fs) fn name_at(
    ctx: &TreeContext,
    dir: &Inode,
    index: u64,
) -> Result<Option<Vec<u8>>> {
    ctx.get_with(&dir.root, &index_key(dir, index), |bytes| {
        DirEntries::new(bytes)
            .next()
            .map(|entry| entry.name.to_vec())
    })
    .map(Option::flatten)
}

/// Whether the names that share a hash with `name` leave room for it in one item. `freed` goes
/// away in the same operation.
pub(in crate::fs) fn check_room(
    ctx: &TreeContext,
    dir: &Inode,
    name: &[u8],
    freed: &[&[u8]],
    limits: &ItemLimits,
) -> Result<()> {
    let used = ctx.get_with(&dir.root, &item_key(dir, name), |bytes| {
        DirEntries::new(bytes)
            .filter(|entry| !freed.contains(&entry.name))
            .map(|entry| entry.size())
            .sum::<usize>()
    })?;
    if used.unwrap_or(0) + DirItem::SIZE + name.len() > limits.bytes_max {
        return Err(Error::Overflow);
    }
    Ok(())
}

/// Asks the tree for the directory's next index, unless it is known. `NoSpace` when there is none
/// left, which only a tree that wasn't made by use can bring about.
pub(in crate::fs) fn load_index(ctx: &TreeContext, dir: &Inode) -> Result<()> {
    let known = dir.meta.lock().index_next;
    let next = match known {
        Some(next) => next,
        None => next_index(ctx, dir)?,
    };
    if next >= LAST_INDEX {
        return Err(Error::NoSpace);
    }
    dir.meta.lock().index_next = Some(next);
    Ok(())
}

/// One more than the highest index in the tree.
pub(in crate::fs) fn next_index(ctx: &TreeContext, dir: &Inode) -> Result<u64> {
    next_index_in(ctx, DirPlace::of(dir))
}

/// As [`next_index`].
pub(in crate::fs) fn next_index_in(ctx: &TreeContext, dir: DirPlace<'_>) -> Result<u64> {
    let last = ctx.find_last_before(dir.root, &dir.index_key(u64::MAX))?;
    Ok(match last {
        Some((key, _)) if key.objectid == dir.objectid && key.kind == kind::DIR_INDEX => {
            key.offset.saturating_add(1).max(FIRST_INDEX)
        }
        _ => FIRST_INDEX,
    })
}

/// Takes the next index; [`load_index`] came before.
pub(in crate::fs) fn take_index(meta: &mut InodeMeta) -> u64 {
    let index = meta.index_next.unwrap_or(FIRST_INDEX);
    meta.index_next = Some(index.saturating_add(1));
    index
}

/// Adds both items of an entry.
pub(in crate::fs) fn add(
    ctx: &TreeContext,
    trans: &TransHandle,
    dir: &Inode,
    index: u64,
    name: &[u8],
    target: Target,
) -> Result<()> {
    add_to(ctx, trans, DirPlace::of(dir), index, name, target)
}

/// As [`add`].
pub(in crate::fs) fn add_to(
    ctx: &TreeContext,
    trans: &TransHandle,
    dir: DirPlace<'_>,
    index: u64,
    name: &[u8],
    target: Target,
) -> Result<()> {
    let entry = DirItem::encode(
        &target.location,
        trans.transid().get(),
        target.kind,
        name,
        &[],
    );
    ctx.update(trans, dir.root, &dir.item_key(name), |old| {
        Ok(Update::Put([old.unwrap_or_default(), &entry].concat()))
    })?;
    ctx.insert(trans, dir.root, &dir.index_key(index), &entry)
}

/// Removes both items of an entry. From then on no log may give the place to another.
pub(in crate::fs) fn remove(
    ctx: &TreeContext,
    trans: &TransHandle,
    dir: &Inode,
    index: u64,
    name: &[u8],
) -> Result<()> {
    let unlogged = &trans.transaction().unlogged;
    unlogged.add_place(dir.root.objectid, dir.objectid, index, name);
    remove_items(ctx, trans, DirPlace::of(dir), index, name)
}

/// As [`remove`], where neither the last commit nor a log that is still to be written knows of the entry.
pub(in crate::fs) fn remove_items(
    ctx: &TreeContext,
    trans: &TransHandle,
    dir: DirPlace<'_>,
    index: u64,
    name: &[u8],
) -> Result<()> {
    let what = |item: &str| {
        Error::corrupt(format!(
            "directory {} of tree {}: the {item} of an entry is missing",
            dir.objectid, dir.root.objectid
        ))
    };
    ctx.update(trans, dir.root, &dir.item_key(name), |old| {
        let bytes = old.unwrap_or_default();
        let entry = DirEntries::find_name(bytes, name).ok_or_else(|| what("DIR_ITEM"))?;
        let range = entry.range();
        if range.len() == bytes.len() {
            return Ok(Update::Delete);
        }
        Ok(Update::Put(
            [&bytes[..range.start], &bytes[range.end..]].concat(),
        ))
    })?;
    if !ctx.delete(trans, dir.root, &dir.index_key(index))? {
        return Err(what("DIR_INDEX"));
    }
    Ok(())
}

/// What an entry adds to the size of its directory.
pub(in crate::fs) fn size_of(name: &[u8]) -> u64 {
    2 * name.len() as u64
}
