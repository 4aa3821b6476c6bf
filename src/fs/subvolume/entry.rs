//! The items that tie a subvolume to its name in another one: `ROOT_REF` and `ROOT_BACKREF`.
//!
//! Owns: both, which always say the same. The directory entry itself is [`super::super::dir`]'s.

use crate::btree::TreeContext;
use crate::error::{Error, Result};
use crate::fs::dir;
use crate::fs::inode::Inode;
use crate::ondisk::{Key, RootRef, ids, kind};
use crate::transaction::TransHandle;

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

/// The entry `name` of `dir` for the subvolume `child`, as it is to be removed: with both references
/// and its index, which say the same.
///
/// # Errors
/// `Corrupt` where one is missing or says something else: half of it must not be removed.
pub(in crate::fs) fn removable_entry(
    ctx: &TreeContext,
    dir: &Inode,
    name: &[u8],
    child: u64,
) -> Result<ParentEntry> {
    let wrong = |what: &str| {
        Err(Error::corrupt(format!(
            "subvolume {child} and its entry in directory {} of tree {}: {what}",
            dir.objectid, dir.root.objectid
        )))
    };
    if !ids::is_subvolume(child) {
        return wrong("only the top level has this number");
    }
    let parent = dir.root.objectid;
    let Some(entry) = entry_in(ctx, parent, child)? else {
        return wrong("the root reference is missing");
    };
    if entry.dirid != dir.objectid || entry.name != name {
        return wrong("the root reference names another entry");
    }
    let tree = ctx.roots.get(ctx, ids::ROOT_TREE_OBJECTID)?;
    let up = Key {
        objectid: child,
        kind: kind::ROOT_BACKREF,
        offset: parent,
    };
    let back = ctx.get(&tree, &up)?;
    if back.and_then(|bytes| decode_ref(parent, &bytes)).as_ref() != Some(&entry) {
        return wrong("the reference back says something else");
    }
    if dir::name_at(ctx, dir, entry.sequence)?.as_deref() != Some(name) {
        return wrong("there is something else at its place in the listing");
    }
    Ok(entry)
}

/// Whether `parent` could list the subvolume `child`, which doesn't exist yet.
pub(in crate::fs) fn want_no_entry(ctx: &TreeContext, parent: u64, child: u64) -> Result<()> {
    let tree = ctx.roots.get(ctx, ids::ROOT_TREE_OBJECTID)?;
    let down = Key {
        objectid: parent,
        kind: kind::ROOT_REF,
        offset: child,
    };
    match ctx.get(&tree, &down)? {
        None => Ok(()),
        Some(_) => Err(Error::corrupt(format!(
            "tree {parent} has a reference to subvolume {child}, which doesn't exist"
        ))),
    }
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

/// The subvolumes listed in the tree `parent`, from number `from` on, at most `max`: number and
/// directory of each.
pub(in crate::fs) fn children(
    ctx: &TreeContext,
    parent: u64,
    from: u64,
    max: usize,
) -> Result<Vec<(u64, u64)>> {
    let tree = ctx.roots.get(ctx, ids::ROOT_TREE_OBJECTID)?;
    let mut cursor = ctx.search(&tree, &Key::new(parent, kind::ROOT_REF, from))?;
    let mut found = Vec::new();
    while let Some((key, bytes)) = cursor.item() {
        if (key.objectid, key.kind) != (parent, kind::ROOT_REF) || found.len() == max {
            break;
        }
        if let Some((head, _)) = RootRef::parse(bytes) {
            found.push((key.offset, head.dirid.get()));
        }
        if !cursor.next()? {
            break;
        }
    }
    Ok(found)
}
