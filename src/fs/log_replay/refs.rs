//! The names that an inode itself was logged with.
//!
//! Owns: INODE_REF and INODE_EXTREF items. The log has all names of the inode in the directories
//! that its items speak of, so the inode's other names there are gone, and whoever else has one of
//! its names has lost it.

use super::links;
use super::tree::{TreeReplay, is_dir};
use crate::error::{Error, Result};
use crate::fs::dir;
use crate::fs::inode_ref::{self, NameRef, Place};
use crate::ondisk::{DirEntries, InodeItem, Key, kind};

impl TreeReplay<'_> {
    /// An INODE_REF or INODE_EXTREF: the inode has these names.
    pub fn replay_names(&mut self, key: &Key, data: &[u8]) -> Result<()> {
        let inode = key.objectid;
        let item = self.want_inode(inode)?;
        let names = inode_ref::names_in(key, data);
        // The top directory's reference to itself.
        if names.iter().any(|name| name.parent == inode) {
            return Ok(());
        }
        // Not every directory of an inode is logged with it. One that isn't there was new, and not
        // fsynced; the name in it is lost, and the count of links says so.
        let mut present = Vec::with_capacity(names.len());
        for name in names {
            if let Some(parent) = self.inode(name.parent)? {
                if !is_dir(&parent) {
                    let parent = name.parent;
                    return Err(Error::corrupt(format!("inode {parent} is no directory")));
                }
                present.push(name);
            }
        }
        if present.is_empty() {
            return Ok(());
        }
        self.drop_unlogged_refs(inode, key)?;
        for name in present {
            self.replay_name(inode, &item, name)?;
        }
        Ok(())
    }

    fn replay_name(&mut self, inode: u64, item: &InodeItem, name: NameRef) -> Result<()> {
        let parent = name.parent;
        let known = inode_ref::find(self.ctx, &self.root, inode, parent, &name.name)?;
        if let Some(known) = known
            && self.is_listed(inode, &name)?
        {
            if known.place != name.place {
                inode_ref::remove(self.ctx, self.trans, &self.root, inode, &known)?;
                inode_ref::add(self.ctx, self.trans, &self.root, inode, &name)?;
            }
            return Ok(());
        }
        // Its other names in this directory that were not logged may be in the way.
        let other = match name.place {
            Place::Plain => Place::Extended,
            Place::Extended => Place::Plain,
        };
        let other = links::name_ref(parent, 0, &name.name, other);
        self.drop_unlogged_refs(inode, &other.key(inode))?;
        if dir::find_in(self.ctx, self.dir(parent), &name.name)?.is_some() {
            self.unlink(parent, &name.name)?;
        }
        self.link(inode, item, name)
    }

    /// Whether the directory has the name at this index, and both of its items lead to the inode.
    fn is_listed(&self, inode: u64, name: &NameRef) -> Result<bool> {
        let location = Key::new(inode, kind::INODE_ITEM, 0);
        let here = dir::find_in(self.ctx, self.dir(name.parent), &name.name)?;
        if here.is_none_or(|here| here.location != location) {
            return Ok(false);
        }
        let key = Key::new(name.parent, kind::DIR_INDEX, name.index);
        let listed = self.ctx.get_with(&self.root, &key, |bytes| {
            DirEntries::find_name(bytes, &name.name).is_some_and(|it| it.location == location)
        })?;
        Ok(listed == Some(true))
    }

    /// Takes away the names in an item of the subvolume that the log doesn't have. Both items of
    /// a directory are logged together, but a name may have moved from one to the other.
    fn drop_unlogged_refs(&mut self, inode: u64, key: &Key) -> Result<()> {
        let Some(bytes) = self.ctx.get(&self.root, key)? else {
            return Ok(());
        };
        for name in inode_ref::names_in(key, &bytes) {
            if !self.is_name_logged(inode, name.parent, &name.name)? {
                self.unlink(name.parent, &name.name)?;
            }
        }
        Ok(())
    }
}
