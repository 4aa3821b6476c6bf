//! Back references from an inode to its names: `INODE_REF` items, one per parent directory, and
//! `INODE_EXTREF` items where the first is full.
//!
//! Owns: adding, finding and removing a reference. The index in it is the key of the directory's
//! `DIR_INDEX` item. Never: directory items. Callers hold the inode's `names` lock.

use crate::btree::{Root, TreeContext, Update};
use crate::error::{Error, Result};
use crate::ondisk::csum::extref_hash;
use crate::ondisk::{InodeExtref, InodeName, InodeNames, InodeRef, Key, kind};
use crate::sync::Arc;
use crate::transaction::TransHandle;

/// A name of an inode, and which item holds the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::fs) struct NameRef {
    /// The directory.
    pub parent: u64,
    /// Where the directory lists it.
    pub index: u64,
    pub name: Vec<u8>,
    pub place: Place,
}

/// Which item holds a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fs) enum Place {
    /// The `INODE_REF` item of the parent.
    Plain,
    /// The `INODE_EXTREF` item of the hash of parent and name.
    Extended,
}

impl NameRef {
    fn new(found: &InodeName<'_>, place: Place) -> Self {
        Self {
            parent: found.parent,
            index: found.index,
            name: found.name.to_vec(),
            place,
        }
    }

    /// The key of the item that holds the reference.
    pub fn key(&self, inode: u64) -> Key {
        match self.place {
            Place::Plain => plain_key(inode, self.parent),
            Place::Extended => extended_key(inode, self.parent, &self.name),
        }
    }

    /// The entry among an item's names.
    fn find_in<'d>(&self, bytes: &'d [u8]) -> Option<InodeName<'d>> {
        let mut names = match self.place {
            Place::Plain => InodeNames::of_ref(self.parent, bytes),
            Place::Extended => InodeNames::of_extref(bytes),
        };
        names.find(|it| it.parent == self.parent && it.name == self.name)
    }

    fn encode(&self) -> Vec<u8> {
        match self.place {
            Place::Plain => InodeRef::encode(self.index, &self.name),
            Place::Extended => InodeExtref::encode(self.parent, self.index, &self.name),
        }
    }

    fn size(&self) -> usize {
        self.name.len()
            + match self.place {
                Place::Plain => InodeRef::SIZE,
                Place::Extended => InodeExtref::SIZE,
            }
    }
}

fn plain_key(inode: u64, parent: u64) -> Key {
    Key::new(inode, kind::INODE_REF, parent)
}

fn extended_key(inode: u64, parent: u64, name: &[u8]) -> Key {
    Key::new(inode, kind::INODE_EXTREF, extref_hash(parent, name))
}

/// The names that an `INODE_REF` or `INODE_EXTREF` item holds.
pub(in crate::fs) fn names_in(key: &Key, bytes: &[u8]) -> Vec<NameRef> {
    let (names, place) = match key.kind {
        kind::INODE_REF => (InodeNames::of_ref(key.offset, bytes), Place::Plain),
        _ => (InodeNames::of_extref(bytes), Place::Extended),
    };
    names.map(|it| NameRef::new(&it, place)).collect()
}

/// How many names the inode has.
pub(in crate::fs) fn count(ctx: &TreeContext, root: &Arc<Root>, inode: u64) -> Result<u64> {
    let mut cursor = ctx.search(root, &plain_key(inode, 0))?;
    let mut count = 0;
    while let Some((key, bytes)) = cursor.item() {
        let is_ref = matches!(key.kind, kind::INODE_REF | kind::INODE_EXTREF);
        if key.objectid != inode || !is_ref {
            break;
        }
        count += names_in(&key, bytes).len() as u64;
        if !cursor.next()? {
            break;
        }
    }
    Ok(count)
}

/// What the filesystem allows items to be.
#[derive(Clone, Copy, Debug)]
pub(in crate::fs) struct ItemLimits {
    /// The largest item of a leaf.
    pub bytes_max: usize,
    /// Whether `EXTENDED_IREF` is on.
    pub extended_refs: bool,
}

/// Where a reference to one more name in `parent` fits; `TooManyLinks` when nowhere. `freed`
/// goes away in the same operation.
pub(in crate::fs) fn place_for(
    ctx: &TreeContext,
    root: &Arc<Root>,
    inode: u64,
    (parent, name): (u64, &[u8]),
    freed: Option<&NameRef>,
    limits: &ItemLimits,
) -> Result<Place> {
    let freed_in = |key: &Key| {
        freed
            .filter(|freed| freed.key(inode) == *key)
            .map_or(0, NameRef::size)
    };
    let key = plain_key(inode, parent);
    let used = ctx.get_with(root, &key, <[u8]>::len)?.unwrap_or(0);
    let used = used.saturating_sub(freed_in(&key));
    if used + InodeRef::SIZE + name.len() <= limits.bytes_max {
        return Ok(Place::Plain);
    }
    if !limits.extended_refs {
        return Err(Error::TooManyLinks);
    }
    let key = extended_key(inode, parent, name);
    let used = ctx.get_with(root, &key, <[u8]>::len)?.unwrap_or(0);
    let used = used.saturating_sub(freed_in(&key));
    if used + InodeExtref::SIZE + name.len() <= limits.bytes_max {
        return Ok(Place::Extended);
    }
    Err(Error::TooManyLinks)
}

/// Adds the reference where [`place_for`] said.
pub(in crate::fs) fn add(
    ctx: &TreeContext,
    trans: &TransHandle,
    root: &Arc<Root>,
    inode: u64,
    new: &NameRef,
) -> Result<()> {
    let entry = new.encode();
    ctx.update(trans, root, &new.key(inode), |old| {
        Ok(Update::Put([old.unwrap_or_default(), &entry].concat()))
    })
}

/// The reference of `name` in `parent`.
pub(in crate::fs) fn find(
    ctx: &TreeContext,
    root: &Arc<Root>,
    inode: u64,
    parent: u64,
    name: &[u8],
) -> Result<Option<NameRef>> {
    for place in [Place::Plain, Place::Extended] {
        let wanted = NameRef {
            parent,
            index: 0,
            name: name.to_vec(),
            place,
        };
        let found = ctx.get_with(root, &wanted.key(inode), |bytes| {
            wanted.find_in(bytes).map(|it| it.index)
        })?;
        if let Some(index) = found.flatten() {
            return Ok(Some(NameRef { index, ..wanted }));
        }
    }
    Ok(None)
}

/// Removes a reference that [`find`] found. From then on no log can tell the inode's names.
pub(in crate::fs) fn remove(
    ctx: &TreeContext,
    trans: &TransHandle,
    root: &Arc<Root>,
    inode: u64,
    found: &NameRef,
) -> Result<()> {
    trans.transaction().unlogged.add_inode(root.objectid, inode);
    ctx.update(trans, root, &found.key(inode), |old| {
        let bytes = old.unwrap_or_default();
        let Some(entry) = found.find_in(bytes) else {
            return Err(went_away(inode));
        };
        let (start, end) = (entry.at, entry.at + found.size());
        if end - start == bytes.len() {
            return Ok(Update::Delete);
        }
        Ok(Update::Put([&bytes[..start], &bytes[end..]].concat()))
    })
}

/// Puts `new` in the place of a reference that [`find`] found, in one step; both are in the same
/// item. What [`remove`] says of logs is true here.
pub(in crate::fs) fn replace(
    ctx: &TreeContext,
    trans: &TransHandle,
    root: &Arc<Root>,
    inode: u64,
    found: &NameRef,
    new: &NameRef,
) -> Result<()> {
    debug_assert_eq!(found.key(inode), new.key(inode));
    trans.transaction().unlogged.add_inode(root.objectid, inode);
    let put = new.encode();
    ctx.update(trans, root, &found.key(inode), |old| {
        let bytes = old.unwrap_or_default();
        let Some(entry) = found.find_in(bytes) else {
            return Err(went_away(inode));
        };
        let end = entry.at + found.size();
        Ok(Update::Put(
            [&bytes[..entry.at], &bytes[end..], &put].concat(),
        ))
    })
}

fn went_away(inode: u64) -> Error {
    Error::corrupt(format!("inode {inode}: a name's reference went away"))
}

/// Any one name of the inode: for a directory, its only one.
pub(in crate::fs) fn first(
    ctx: &TreeContext,
    root: &Arc<Root>,
    inode: u64,
) -> Result<Option<NameRef>> {
    let cursor = ctx.search(root, &plain_key(inode, 0))?;
    Ok(match cursor.item() {
        Some((key, bytes)) if key.objectid == inode && key.kind == kind::INODE_REF => {
            InodeNames::of_ref(key.offset, bytes)
                .next()
                .map(|it| NameRef::new(&it, Place::Plain))
        }
        Some((key, bytes)) if key.objectid == inode && key.kind == kind::INODE_EXTREF => {
            InodeNames::of_extref(bytes)
                .next()
                .map(|it| NameRef::new(&it, Place::Extended))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_among_its_neighbours() {
        let mut bytes = InodeRef::encode(2, b"a");
        bytes.extend(InodeRef::encode(9, b"long name"));
        let wanted = NameRef {
            parent: 256,
            index: 0,
            name: b"long name".to_vec(),
            place: Place::Plain,
        };
        let found = wanted.find_in(&bytes).unwrap();
        assert_eq!((found.index, found.at, wanted.size()), (9, 11, 19));
        let mut bytes = InodeExtref::encode(300, 2, b"same");
        bytes.extend(InodeExtref::encode(301, 3, b"same"));
        let wanted = NameRef {
            parent: 301,
            index: 0,
            name: b"same".to_vec(),
            place: Place::Extended,
        };
        assert_eq!(wanted.find_in(&bytes).unwrap().index, 3);
    }
}
