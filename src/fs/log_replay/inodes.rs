//! Inode items and attributes.
//!
//! Owns: which fields of a logged item count. Two of them the replay keeps by itself, from what the
//! subvolume says and what each further item changes: a file's `nbytes`, a directory's size.

use super::tree::{TreeReplay, is_dir, type_of};
use crate::btree::Update;
use crate::error::{Error, Result};
use crate::fs::file::{ExtentEdit, next_tail};
use crate::ondisk::{DirEntries, InodeItem, Key, ids, kind};
use crate::units::round_up;

/// Extent items dropped at once.
const ITEMS_AT_ONCE: usize = 256;

impl TreeReplay<'_> {
    /// An INODE_ITEM: the inode becomes what was logged, and loses what wasn't.
    pub fn replay_inode(&mut self, key: &Key, data: &[u8]) -> Result<()> {
        let objectid = key.objectid;
        let logged = InodeItem::read(data).ok_or_else(|| Error::corrupt("too short"))?;
        if !ids::is_file(objectid) {
            return Err(Error::corrupt("not an inode of a file"));
        }
        if let Some(old) = self.inode(objectid)? {
            if type_of(&old) != type_of(logged) {
                let (old, new) = (old.mode.get(), logged.mode.get());
                let reason = format!("mode {new:o}, but the subvolume's inode has {old:o}");
                return Err(Error::corrupt(reason));
            }
            self.drop_unlogged_xattrs(objectid)?;
            if is_dir(logged) {
                self.drop_unlogged_names(objectid)?;
            }
        }
        // Read again: the size of a directory has changed with its names.
        let item = merged(
            self.inode(objectid)?.as_ref(),
            logged,
            self.trans.transid().get(),
        );
        self.put_inode(objectid, &item)?;
        if type_of(&item) == libc::S_IFREG {
            self.cut_behind(objectid, item.size.get())?;
        }
        self.recount.insert(objectid);
        Ok(())
    }

    /// Drops the extents behind the end. Before logged extents come: there may be preallocated ones
    /// among those.
    fn cut_behind(&self, objectid: u64, size: u64) -> Result<()> {
        let floor = round_up(size, u64::from(self.ctx.sectorsize))
            .ok_or_else(|| Error::corrupt(format!("a size of {size} bytes")))?;
        let edit = ExtentEdit {
            ctx: self.ctx,
            trans: self.trans,
            root: &self.root,
            objectid,
        };
        let mut freed = 0u64;
        while let Some(tail) = next_tail(self.ctx, &self.root, objectid, floor, ITEMS_AT_ONCE)? {
            freed = freed.saturating_add(edit.drop_range(&tail.range)?);
            if tail.last {
                break;
            }
        }
        if freed == 0 {
            return Ok(());
        }
        self.change_inode(objectid, |item| {
            item.nbytes.set(item.nbytes.get().saturating_sub(freed));
        })
    }

    /// An XATTR_ITEM: all attributes whose names have this hash.
    pub fn replay_xattrs(&mut self, key: &Key, data: &[u8]) -> Result<()> {
        self.want_inode(key.objectid)?;
        self.ctx.upsert(self.trans, &self.root, key, data)
    }

    /// All attributes of a logged inode are in the log: the others were removed.
    fn drop_unlogged_xattrs(&self, objectid: u64) -> Result<()> {
        let (ctx, root) = (self.ctx, self.root.clone());
        let mut cursor = ctx.search(&root, &Key::new(objectid, kind::XATTR_ITEM, 0))?;
        while let Some((key, data)) = cursor.item() {
            if (key.objectid, key.kind) != (objectid, kind::XATTR_ITEM) {
                break;
            }
            let logged = ctx.get(&self.log.root, &key)?.unwrap_or_default();
            let kept: Vec<u8> = DirEntries::new(data)
                .filter(|entry| DirEntries::find_name(&logged, entry.name).is_some())
                .flat_map(|entry| &data[entry.range()])
                .copied()
                .collect();
            if kept.len() < data.len() {
                ctx.update(self.trans, &root, &key, |_| {
                    Ok(match kept.is_empty() {
                        true => Update::Delete,
                        false => Update::Put(kept.clone()),
                    })
                })?;
            }
            if !cursor.next()? {
                break;
            }
        }
        Ok(())
    }
}

/// The item that an inode gets: `old` is the subvolume's.
///
/// A logged generation of 0 says that the inode was logged only so that it exists, for a name that
/// leads to it: what the subvolume has stays, but for a file's size, unless that is 0 as well.
fn merged(old: Option<&InodeItem>, logged: &InodeItem, transid: u64) -> InodeItem {
    let only_exists = logged.generation.get() == 0;
    let Some(old) = old else {
        let mut item = *logged;
        item.nbytes.set(0);
        if is_dir(&item) {
            item.size.set(0);
        }
        if only_exists {
            item.generation.set(transid);
        }
        return item;
    };
    if only_exists {
        let mut item = *old;
        if type_of(logged) == libc::S_IFREG && logged.size.get() != 0 {
            item.size = logged.size;
        }
        return item;
    }
    let mut item = *logged;
    item.nbytes = old.nbytes;
    if is_dir(old) {
        item.size = old.size;
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(mode: u32, generation: u64, size: u64, nbytes: u64) -> InodeItem {
        let mut item = InodeItem::zeroed();
        item.mode.set(mode);
        item.generation.set(generation);
        item.size.set(size);
        item.nbytes.set(nbytes);
        item
    }

    #[test]
    fn what_was_only_logged_to_exist_keeps_its_fields() {
        let old = item(libc::S_IFREG | 0o644, 5, 4096, 8192);
        let logged = item(libc::S_IFREG | 0o600, 0, 0, 0);
        let same = merged(Some(&old), &logged, 9);
        assert_eq!(same.as_bytes(), old.as_bytes());
        let longer = merged(Some(&old), &item(libc::S_IFREG, 0, 10_000, 0), 9);
        assert_eq!((longer.size.get(), longer.mode.get()), (10_000, 0o100644));
        let new = merged(None, &logged, 9);
        assert_eq!((new.generation.get(), new.mode.get()), (9, 0o100600));
    }

    #[test]
    fn bytes_and_sizes_that_items_change_begin_with_the_subvolumes() {
        let logged = item(libc::S_IFREG, 7, 100, 4096);
        assert_eq!(merged(None, &logged, 9).nbytes.get(), 0);
        let old = item(libc::S_IFREG, 7, 50, 12_288);
        let both = merged(Some(&old), &logged, 9);
        assert_eq!((both.size.get(), both.nbytes.get()), (100, 12_288));
        let dir = item(libc::S_IFDIR, 7, 20, 0);
        assert_eq!(merged(None, &dir, 9).size.get(), 0);
        let old = item(libc::S_IFDIR, 7, 44, 0);
        assert_eq!(merged(Some(&old), &dir, 9).size.get(), 44);
    }
}
