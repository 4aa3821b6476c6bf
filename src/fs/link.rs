//! Names of inodes that exist: link, unlink, rmdir.
//!
//! Owns: the count of links and what happens when it reaches zero. Invariant: entry, reference
//! and count change in one transaction, which also writes the orphan item when the last name
//! goes. Locks: the directory's names, then the inode's.

use super::attr::{Attr, Timestamp};
use super::delayed::DirtyTicket;
use super::dir::{self, DirPlace, Target};
use super::filesystem::{Filesystem, Node};
use super::inode::{Inode, want_mutable_flags};
use super::inode_ref::{self, NameRef};
use super::node_id::NodeId;
use super::{file, orphan};
use crate::allocator::Steal;
use crate::error::{Error, Result};
use crate::ondisk::{DirEntries, Key, kind};
use crate::sync::Arc;
use crate::transaction::TransHandle;

/// The most names that an inode can have (`BTRFS_LINK_MAX`).
const LINKS_MAX: u32 = 65535;

/// Item changes of taking a name away: entry, index, reference, inode, orphan.
pub(in crate::fs) const UNLINK_ITEMS: u64 = 5;

/// A name on its way out, with everything that its removal needs.
pub(in crate::fs) struct Removal {
    pub inode: Arc<Inode>,
    pub name: NameRef,
    ticket: DirtyTicket,
}

/// Why a name goes away.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::fs) enum Gone {
    /// Nobody wants it any more.
    Unlinked,
    /// Another inode takes it: after a crash it has to lead to one of the two.
    Replaced,
}

impl Filesystem {
    /// Gives the inode one more name. Counts a lookup.
    pub fn link(&self, node: NodeId, parent: NodeId, name: &[u8]) -> Result<Attr> {
        let (inode, dir) = (self.inode(node)?, self.inode(parent)?);
        dir::check_name(name)?;
        self.want_new_entries(&dir)?;
        if inode.root.objectid != dir.root.objectid {
            return Err(Error::CrossDevice);
        }
        let dir_names = dir.names.write();
        self.want_alive(&dir)?;
        if dir::find(&self.ctx, &dir, name)?.is_some() {
            return Err(Error::Exists);
        }
        if inode.is_dir() {
            return Err(Error::NotPermitted("directories have one name"));
        }
        let names = inode.names.write();
        inode.want_mutable()?;
        let (links, linkable) = {
            let meta = inode.meta.lock();
            (meta.nlink, meta.linkable)
        };
        if links == 0 && !linkable {
            return Err(Error::NotFound);
        }
        if links >= LINKS_MAX {
            return Err(Error::TooManyLinks);
        }
        dir::check_room(&self.ctx, &dir, name, &[], &self.limits)?;
        dir::load_index(&self.ctx, &dir)?;
        let place = inode_ref::place_for(
            &self.ctx,
            &dir.root,
            inode.objectid,
            (dir.objectid, name),
            None,
            &self.limits,
        )?;
        let (ticket, dir_ticket) = (self.ticket(Steal::No)?, self.ticket(Steal::No)?);
        let reservation = self.reserve(UNLINK_ITEMS, Steal::No)?;
        self.with_trans(reservation, |trans| {
            let now = Timestamp::now();
            let index = dir::take_index(&mut dir.meta.lock());
            let new = NameRef {
                parent: dir.objectid,
                index,
                name: name.to_vec(),
                place,
            };
            inode_ref::add(&self.ctx, trans, &dir.root, inode.objectid, &new)?;
            let unlogged = &trans.transaction().unlogged;
            unlogged.add_inode(inode.root.objectid, inode.objectid);
            let target = Target {
                location: inode.item_key(),
                kind: inode.kind.entry_type(),
            };
            dir::add(&self.ctx, trans, &dir, index, name, target)?;
            if links == 0 {
                orphan::remove(&self.ctx, trans, &dir.root, inode.objectid)?;
            }
            let mut meta = inode.meta.lock();
            meta.nlink += 1;
            meta.orphan = false;
            meta.linkable = false;
            meta.touch(now);
            self.mark_dirty(&inode, &mut meta, ticket);
            drop(meta);
            let mut meta = dir.meta.lock();
            meta.size = meta.size.saturating_add(dir::size_of(name));
            meta.touch_content(now);
            self.mark_dirty(&dir, &mut meta, dir_ticket);
            Ok(())
        })?;
        if links == 0 {
            self.home.table.linked(&inode);
        }
        let attr = self.hand_out(&inode);
        drop((names, dir_names));
        self.after_change();
        Ok(attr)
    }

    /// Takes a name away from anything but a directory.
    pub fn unlink(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        self.freeing(|| self.try_unlink(parent, name))
    }

    fn try_unlink(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        let dir = self.inode(parent)?;
        self.want_writable(&dir.root)?;
        dir.want_dir()?;
        {
            let _names = dir.names.write();
            let target = dir::find(&self.ctx, &dir, name)?.ok_or(Error::NotFound)?;
            let Node::Inode(inode) = self.follow(&dir, target, name)? else {
                return Err(Error::IsDir);
            };
            if inode.is_dir() {
                return Err(Error::IsDir);
            }
            want_removable(&dir, Some(&inode))?;
            let _inode_names = inode.names.write();
            self.remove_name(&dir, inode.clone(), name)?;
            if inode.meta.lock().nlink == 0 && !self.home.table.unlinked(&inode) {
                file::discard_delayed(self, &inode);
            }
        }
        self.after_change();
        Ok(())
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        self.freeing(|| self.try_rmdir(parent, name))
    }

    fn try_rmdir(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        match name {
            b"." => return Err(Error::Invalid("\".\" can't be removed")),
            b".." => return Err(Error::NotEmpty),
            _ => {}
        }
        let dir = self.inode(parent)?;
        self.want_writable(&dir.root)?;
        dir.want_dir()?;
        {
            let _names = dir.names.write();
            let target = dir::find(&self.ctx, &dir, name)?.ok_or(Error::NotFound)?;
            let inode = match self.follow(&dir, target, name)? {
                Node::Inode(inode) => inode,
                Node::Stub(_) => return self.remove_stub(&dir, target, name),
            };
            inode.want_dir()?;
            want_removable(&dir, Some(&inode))?;
            let _inode_names = inode.names.write();
            self.want_empty(&inode)?;
            match target.subvolume() {
                // As since Linux 4.18: for whoever may remove the name.
                Some(_) => self.take_subvolume_out(&dir, &inode, target, name)?,
                None => self.remove_name(&dir, inode.clone(), name)?,
            }
        }
        self.after_change();
        Ok(())
    }

    /// `Err(NotEmpty)` for a directory with entries.
    pub(in crate::fs) fn want_empty(&self, dir: &Inode) -> Result<()> {
        let first = Key::new(dir.objectid, kind::DIR_ITEM, 0);
        let cursor = self.ctx.search(&dir.root, &first)?;
        match cursor.key() {
            Some(key)
                if key.objectid == dir.objectid
                    && matches!(key.kind, kind::DIR_ITEM | kind::DIR_INDEX) =>
            {
                Err(Error::NotEmpty)
            }
            _ => Ok(()),
        }
    }

    fn remove_name(&self, dir: &Arc<Inode>, inode: Arc<Inode>, name: &[u8]) -> Result<()> {
        let removal = self.prepare_removal(dir, inode, name)?;
        let ticket = self.ticket(Steal::Yes)?;
        let reservation = self.reserve(UNLINK_ITEMS, Steal::Yes)?;
        self.with_trans(reservation, |trans| {
            let now = Timestamp::now();
            self.remove_prepared(trans, dir, removal, now, Gone::Unlinked)?;
            let mut meta = dir.meta.lock();
            meta.size = meta.size.saturating_sub(dir::size_of(name));
            meta.touch_content(now);
            self.mark_dirty(dir, &mut meta, ticket);
            Ok(())
        })
    }

    /// Everything that taking `name` away can ask or refuse.
    pub(in crate::fs) fn prepare_removal(
        &self,
        dir: &Inode,
        inode: Arc<Inode>,
        name: &[u8],
    ) -> Result<Removal> {
        let found = self.reference_of(dir, &inode, name)?;
        let ticket = self.ticket(Steal::Yes)?;
        Ok(Removal {
            inode,
            name: found,
            ticket,
        })
    }

    /// The reference behind an entry of `dir`.
    pub(in crate::fs) fn reference_of(
        &self,
        dir: &Inode,
        inode: &Inode,
        name: &[u8],
    ) -> Result<NameRef> {
        inode_ref::find(&self.ctx, &dir.root, inode.objectid, dir.objectid, name)?.ok_or_else(
            || {
                Error::corrupt(format!(
                    "inode {} of tree {} has no reference to its name in directory {}",
                    inode.objectid, inode.root.objectid, dir.objectid
                ))
            },
        )
    }

    /// Takes the name away, and with the last one writes the inode down for deletion.
    pub(in crate::fs) fn remove_prepared(
        &self,
        trans: &TransHandle,
        dir: &Inode,
        removal: Removal,
        now: Timestamp,
        gone: Gone,
    ) -> Result<()> {
        let Removal {
            inode,
            name,
            ticket,
        } = removal;
        inode_ref::remove(&self.ctx, trans, &dir.root, inode.objectid, &name)?;
        if gone == Gone::Unlinked && self.unlog(trans, &inode) {
            dir::remove_items(&self.ctx, trans, DirPlace::of(dir), name.index, &name.name)?;
        } else {
            dir::remove(&self.ctx, trans, dir, name.index, &name.name)?;
        }
        let mut meta = inode.meta.lock();
        meta.nlink = meta.nlink.saturating_sub(1);
        if inode.is_dir() {
            meta.nlink = 0;
        }
        meta.touch(now);
        if meta.nlink > 0 {
            self.mark_dirty(&inode, &mut meta, ticket);
            return Ok(());
        }
        meta.orphan = true;
        if inode.is_dir() {
            meta.size = 0;
        }
        orphan::add(&self.ctx, trans, &inode.root, inode.objectid)?;
        // Not left to the commit: the inode would have to stay in memory until then.
        self.delayed.write_now(trans, &inode, &mut meta)?;
        drop(meta);
        self.home.table.unlinked(&inode);
        Ok(())
    }

    /// Takes an inode that loses its last name out of the log, if no commit has it: then nobody
    /// has the name after a crash. False: it stays there.
    fn unlog(&self, trans: &TransHandle, inode: &Inode) -> bool {
        let transid = trans.transid();
        let gone = {
            let meta = inode.meta.lock();
            meta.generation == transid.get() && (meta.nlink == 1 || inode.is_dir())
        };
        if gone {
            let committer = &self.engine.committer;
            committer.forget_logged(trans, inode.root.objectid, inode.objectid);
        }
        gone
    }

    /// Removes the entry of a subvolume that isn't there. It has no reference, so the listing
    /// is searched for it.
    fn remove_stub(&self, dir: &Arc<Inode>, target: Target, name: &[u8]) -> Result<()> {
        want_removable(dir, None)?;
        let first = Key::new(dir.objectid, kind::DIR_INDEX, 0);
        let mut cursor = self.ctx.search(&dir.root, &first)?;
        let index = loop {
            let Some((key, bytes)) = cursor.item() else {
                return Err(Error::NotFound);
            };
            if (key.objectid, key.kind) != (dir.objectid, kind::DIR_INDEX) {
                return Err(Error::NotFound);
            }
            let entry = DirEntries::find_name(bytes, name);
            if entry.is_some_and(|entry| entry.location == target.location) {
                break key.offset;
            }
            cursor.next()?;
        };
        let ticket = self.ticket(Steal::Yes)?;
        let reservation = self.reserve(3, Steal::Yes)?;
        self.with_trans(reservation, |trans| {
            dir::remove(&self.ctx, trans, dir, index, name)?;
            let mut meta = dir.meta.lock();
            meta.size = meta.size.saturating_sub(dir::size_of(name));
            meta.touch_content(Timestamp::now());
            self.mark_dirty(dir, &mut meta, ticket);
            Ok(())
        })
    }
}

/// `Err(NotPermitted)` when flags protect the entries of `dir`, or the inode behind one.
pub(in crate::fs) fn want_removable(dir: &Inode, inode: Option<&Inode>) -> Result<()> {
    want_mutable_flags(dir.meta.lock().flags)?;
    inode.map_or(Ok(()), |inode| want_mutable_flags(inode.meta.lock().flags))
}
