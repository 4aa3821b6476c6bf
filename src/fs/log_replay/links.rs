//! One name: put in, taken out.
//!
//! Owns: the items of a name and the directory's size, together. Times stay: the log says them.

use super::tree::{TreeReplay, is_dir};
use crate::error::{Error, Result};
use crate::fs::dir::{self, DirPlace, FIRST_INDEX, Target};
use crate::fs::inode_ref::{self, NameRef, Place};
use crate::fs::node_id::ROOT_DIR_OBJECTID;
use crate::ondisk::{InodeItem, Key, file_type_of_mode, kind};

impl TreeReplay<'_> {
    pub fn dir(&self, objectid: u64) -> DirPlace<'_> {
        DirPlace {
            root: &self.root,
            objectid,
        }
    }

    /// Takes the name out of the directory. Whoever it led to is recounted at the end.
    pub fn unlink(&mut self, parent: u64, name: &[u8]) -> Result<()> {
        let wrong = |what: &str| {
            let name = name.escape_ascii();
            Error::corrupt(format!("directory {parent}, name {name}: {what}"))
        };
        let target = dir::find_in(self.ctx, self.dir(parent), name)?;
        let target = target.ok_or_else(|| wrong("it has no DIR_ITEM"))?;
        if target.subvolume().is_some() {
            return Err(wrong("a subvolume is in the way of a file"));
        }
        let inode = target.location.objectid;
        let found = inode_ref::find(self.ctx, &self.root, inode, parent, name)?;
        let found = found.ok_or_else(|| wrong("its inode has no reference to it"))?;
        dir::remove_items(self.ctx, self.trans, self.dir(parent), found.index, name)?;
        inode_ref::remove(self.ctx, self.trans, &self.root, inode, &found)?;
        self.change_inode(parent, |item| {
            let size = item.size.get().saturating_sub(dir::size_of(name));
            item.size.set(size);
        })?;
        self.recount.insert(inode);
        Ok(())
    }

    /// Puts a name in that the directory doesn't have. It gets another index if that one is taken:
    /// its holder's own log may not have been written, so it must not be lost.
    pub fn link(&mut self, inode: u64, item: &InodeItem, mut new: NameRef) -> Result<()> {
        if dir::check_name(&new.name).is_err() {
            let name = new.name.escape_ascii();
            return Err(Error::corrupt(format!("{name} can't be a name")));
        }
        if inode == ROOT_DIR_OBJECTID || new.index < FIRST_INDEX || new.index > i64::MAX as u64 {
            let index = new.index;
            return Err(Error::corrupt(format!(
                "inode {inode} can't have a name with index {index}"
            )));
        }
        let place = self.dir(new.parent);
        let index_key = Key::new(new.parent, kind::DIR_INDEX, new.index);
        if self.ctx.get_with(&self.root, &index_key, |_| ())?.is_some() {
            new.index = dir::next_index_in(self.ctx, place)?;
        }
        let target = Target {
            location: Key::new(inode, kind::INODE_ITEM, 0),
            kind: file_type_of_mode(item.mode.get()),
        };
        dir::add_to(self.ctx, self.trans, place, new.index, &new.name, target)?;
        inode_ref::add(self.ctx, self.trans, &self.root, inode, &new)?;
        self.change_inode(new.parent, |item| {
            let size = item.size.get().saturating_add(dir::size_of(&new.name));
            item.size.set(size);
        })?;
        self.recount.insert(inode);
        if is_dir(item) {
            self.moved_dirs.insert(inode);
        }
        Ok(())
    }
}

/// A reference to a name in `parent`.
pub(super) fn name_ref(parent: u64, index: u64, name: &[u8], place: Place) -> NameRef {
    NameRef {
        parent,
        index,
        name: name.to_vec(),
        place,
    }
}
