//! getattr and setattr.
//!
//! Owns: what may be changed about an inode itself and which other fields follow. Invariant:
//! mode and access list agree; set-id bits and file capabilities don't survive a new owner.

use super::acl::{self, Acl};
use super::attr::{Attr, FileKind, SetAttr, SetTime, Timestamp};
use super::delayed::DirtyTicket;
use super::filesystem::{Filesystem, Node};
use super::inode::{Inode, InodeMeta, has_unknown_flags, is_frozen};
use super::node_id::NodeId;
use super::options::AtimeMode;
use super::request::Caller;
use super::{file, subvolume, xattr};
use crate::allocator::Steal;
use crate::error::{Error, Result};
use crate::ondisk::{INODE_APPEND, INODE_NOATIME, INODE_RO_VERITY};
use crate::sync::Arc;

impl Filesystem {
    /// What `stat` shows.
    pub fn getattr(&self, node: NodeId) -> Result<Attr> {
        Ok(match self.node(node)? {
            Node::Inode(inode) => self.attr_of(&inode),
            Node::Stub(stub) => self.stub_attr(stub),
        })
    }

    /// Changes what `changes` names; the caller's rights were checked by the kernel.
    pub fn setattr(&self, _caller: &Caller, node: NodeId, changes: &SetAttr) -> Result<Attr> {
        match changes.size {
            Some(_) => self.freeing(|| self.try_setattr(node, changes)),
            None => self.try_setattr(node, changes),
        }
    }

    fn try_setattr(&self, node: NodeId, changes: &SetAttr) -> Result<Attr> {
        let inode = self.inode(node)?;
        if *changes != SetAttr::default() {
            // What was written before the subvolume became read-only is accepted when it comes; so
            // are its times, once. By themselves they can't be told from utimensat(2) of now.
            let late = is_from_cache(changes) && std::mem::take(&mut inode.meta.lock().times_due);
            self.want_writable_mount()?;
            if !late {
                subvolume::want_writable(&inode.root)?;
            }
            check_flags(inode.meta.lock().flags, changes)?;
            // The kernel sends the times along with a size. Nothing may be refused when that is set.
            let ticket = match changes.size {
                Some(_) => Some(self.ticket(Steal::Yes)?),
                None => None,
            };
            if let Some(size) = changes.size {
                self.resize(&inode, size, changes)?;
            } else if changes.kill_suidgid {
                self.kill_privileges(&inode)?;
            }
            let rest = SetAttr {
                size: None,
                kill_suidgid: false,
                ..*changes
            };
            if rest != SetAttr::default() {
                self.change(&inode, &rest, ticket)?;
            }
            self.after_change();
        }
        Ok(self.attr_of(&inode))
    }

    fn resize(&self, inode: &Arc<Inode>, size: u64, changes: &SetAttr) -> Result<()> {
        match inode.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Error::IsDir),
            _ => return Err(Error::Invalid("only files have a size to set")),
        }
        if size > i64::MAX as u64 {
            return Err(Error::FileTooBig);
        }
        let old = inode.meta.lock().size;
        if changes.kill_suidgid {
            self.kill_privileges(inode)?;
        }
        let ticket = self.ticket(Steal::Yes)?;
        // Also where the size stays: preallocated space behind the end goes.
        let steal = if size < old { Steal::Yes } else { Steal::No };
        self.with_room_for(steal, || file::truncate(self, inode, size))?;
        if old == size {
            return Ok(());
        }
        let mut meta = inode.meta.lock();
        meta.touch_content(Timestamp::now());
        self.mark_dirty(inode, &mut meta, ticket);
        Ok(())
    }

    /// Everything but the size, after which `ticket` is there already.
    fn change(
        &self,
        inode: &Arc<Inode>,
        changes: &SetAttr,
        ticket: Option<DirtyTicket>,
    ) -> Result<()> {
        let ticket = || ticket.map_or_else(|| self.ticket(Steal::No), Ok);
        let new_owner = changes.uid.is_some() || changes.gid.is_some();
        if changes.mode.is_none() && !new_owner {
            // Times only: nothing in the tree changes before the commit.
            //
            // The kernel writes back the times of what it has just removed. An inode that is going
            // to be deleted doesn't need them on disk, nor space: on a full filesystem each
            // removal would wait for a commit to find some.
            let mut meta = inode.meta.lock();
            // Neither does one whose item waits for the commit: its space is set aside.
            if meta.orphan || meta.dirty.is_some() {
                apply(&mut meta, changes);
                return Ok(());
            }
            drop(meta);
            let ticket = ticket()?;
            let mut meta = inode.meta.lock();
            apply(&mut meta, changes);
            if !meta.orphan {
                self.mark_dirty(inode, &mut meta, ticket);
            }
            return Ok(());
        }
        let _names = inode.names.write();
        let list = match changes.mode {
            Some(mode) if inode.kind != FileKind::Symlink => {
                let list = xattr::read(&self.ctx, inode, acl::ACCESS_NAME)?;
                list.map(|value| Acl::parse(&value))
                    .transpose()?
                    .flatten()
                    .map(|mut list| {
                        list.set_mode(mode);
                        list.encode()
                    })
            }
            _ => None,
        };
        let drop_capability = new_owner
            && inode.kind == FileKind::Regular
            && xattr::read(&self.ctx, inode, xattr::CAPABILITY_NAME)?.is_some();
        let ticket = ticket()?;
        if list.is_none() && !drop_capability {
            let mut meta = inode.meta.lock();
            apply(&mut meta, changes);
            self.mark_dirty(inode, &mut meta, ticket);
            return Ok(());
        }
        let reservation = self.reserve(2, Steal::No)?;
        self.with_trans(reservation, |trans| {
            if let Some(list) = &list {
                xattr::write(&self.ctx, trans, inode, acl::ACCESS_NAME, Some(list))?;
            }
            if drop_capability {
                xattr::write(&self.ctx, trans, inode, xattr::CAPABILITY_NAME, None)?;
            }
            let mut meta = inode.meta.lock();
            apply(&mut meta, changes);
            self.mark_dirty(inode, &mut meta, ticket);
            Ok(())
        })
    }

    /// Clears set-id bits and file capabilities, as a write or truncate by somebody without
    /// the privilege to keep them does.
    pub(in crate::fs) fn kill_privileges(&self, inode: &Arc<Inode>) -> Result<()> {
        let has_bits = inode.meta.lock().mode & (libc::S_ISUID | libc::S_ISGID) != 0;
        if has_bits {
            let ticket = self.ticket(Steal::No)?;
            let mut meta = inode.meta.lock();
            if meta.clear_set_id() {
                meta.touch(Timestamp::now());
                self.mark_dirty(inode, &mut meta, ticket);
            }
        }
        let _names = inode.names.write();
        if xattr::read(&self.ctx, inode, xattr::CAPABILITY_NAME)?.is_some() {
            let ticket = self.ticket(Steal::No)?;
            let reservation = self.reserve(1, Steal::No)?;
            self.with_trans(reservation, |trans| {
                xattr::write(&self.ctx, trans, inode, xattr::CAPABILITY_NAME, None)?;
                let mut meta = inode.meta.lock();
                meta.touch(Timestamp::now());
                self.mark_dirty(inode, &mut meta, ticket);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Moves the access time after a read, where the mount and the inode want that. A time that
    /// finds no space to be written is left as it is.
    pub(in crate::fs) fn touch_atime(&self, inode: &Arc<Inode>) {
        const DAY: i64 = 24 * 60 * 60;
        if self.read_only.is_some()
            || self.options.atime == AtimeMode::Off
            || inode.root.item().is_read_only()
        {
            return;
        }
        let now = Timestamp::now();
        let due = |meta: &InodeMeta| {
            meta.flags & INODE_NOATIME == 0
                && !has_unknown_flags(meta.flags)
                && match self.options.atime {
                    AtimeMode::Off => false,
                    AtimeMode::Strict => true,
                    AtimeMode::Relatime => {
                        meta.atime <= meta.mtime
                            || meta.atime <= meta.ctime
                            || now.sec - meta.atime.sec >= DAY
                    }
                }
        };
        if !due(&inode.meta.lock()) {
            return;
        }
        if let Ok(ticket) = self.prepare_dirty(inode) {
            let mut meta = inode.meta.lock();
            meta.atime = now;
            self.mark_dirty(inode, &mut meta, ticket);
            drop(meta);
            self.help_writer();
        }
    }
}

/// Refuses what immutable, append-only and verity inodes refuse.
fn check_flags(flags: u64, changes: &SetAttr) -> Result<()> {
    let locked = is_frozen(flags) || flags & INODE_APPEND != 0;
    if changes.size.is_some() {
        if locked {
            return Err(Error::NotPermitted("the inode is immutable or append-only"));
        }
        if flags & INODE_RO_VERITY != 0 {
            return Err(Error::NotPermitted("fs-verity protects the file's content"));
        }
    }
    let from_cache = is_from_cache(changes);
    let set_times = matches!(changes.atime, Some(SetTime::At(_)))
        || matches!(changes.mtime, Some(SetTime::At(_)));
    let owner = changes.mode.is_some() || changes.uid.is_some() || changes.gid.is_some();
    if locked && (owner || set_times && !from_cache) {
        return Err(Error::NotPermitted("the inode is immutable or append-only"));
    }
    let touch = changes.atime.is_some() || changes.mtime.is_some();
    if is_frozen(flags) && touch && !from_cache {
        return Err(Error::NotPermitted("the inode is immutable"));
    }
    Ok(())
}

/// The kernel's cache being written back is no request. It brings a modification and a change time;
/// utimensat(2) through the writeback cache brings the access time as well.
fn is_from_cache(changes: &SetAttr) -> bool {
    let owner = changes.mode.is_some() || changes.uid.is_some() || changes.gid.is_some();
    changes.ctime.is_some() && changes.atime.is_none() && changes.size.is_none() && !owner
}

fn apply(meta: &mut InodeMeta, changes: &SetAttr) {
    let now = Timestamp::now();
    if changes.uid.is_some() || changes.gid.is_some() {
        meta.clear_set_id();
    }
    meta.uid = changes.uid.unwrap_or(meta.uid);
    meta.gid = changes.gid.unwrap_or(meta.gid);
    if let Some(mode) = changes.mode {
        meta.mode = meta.mode & libc::S_IFMT | mode & 0o7777;
    }
    meta.atime = changes.atime.map_or(meta.atime, |time| time.resolve(now));
    meta.mtime = changes.mtime.map_or(meta.mtime, |time| time.resolve(now));
    meta.touch(changes.ctime.unwrap_or(now));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ondisk::INODE_IMMUTABLE;

    #[test]
    fn a_new_owner_takes_the_set_id_bits_away() {
        let mut meta = InodeMeta::fresh(0o106755, 1, 1, Timestamp::default());
        apply(
            &mut meta,
            &SetAttr {
                uid: Some(7),
                ..SetAttr::default()
            },
        );
        assert_eq!((meta.mode, meta.uid, meta.gid), (0o100755, 7, 1));
        // Without group execution the bit once meant mandatory locking; it stays.
        let mut meta = InodeMeta::fresh(0o102644, 1, 1, Timestamp::default());
        apply(
            &mut meta,
            &SetAttr {
                gid: Some(7),
                ..SetAttr::default()
            },
        );
        assert_eq!(meta.mode, 0o102644);
        let mut meta = InodeMeta::fresh(0o042755, 1, 1, Timestamp::default());
        apply(
            &mut meta,
            &SetAttr {
                gid: Some(7),
                ..SetAttr::default()
            },
        );
        assert_eq!(meta.mode, 0o042755);
    }

    #[test]
    fn flags_refuse_requests_but_not_the_cache() {
        let chmod = SetAttr {
            mode: Some(0o600),
            ..SetAttr::default()
        };
        let touch = SetAttr {
            mtime: Some(SetTime::Now),
            ..SetAttr::default()
        };
        let cache = SetAttr {
            mtime: Some(SetTime::At(Timestamp::default())),
            ctime: Some(Timestamp::default()),
            ..SetAttr::default()
        };
        assert!(check_flags(INODE_APPEND, &chmod).is_err());
        assert!(check_flags(INODE_APPEND, &touch).is_ok());
        assert!(check_flags(INODE_IMMUTABLE, &touch).is_err());
        assert!(check_flags(INODE_IMMUTABLE, &cache).is_ok());
        let touch_through_cache = SetAttr {
            atime: Some(SetTime::At(Timestamp::default())),
            ..cache
        };
        assert!(check_flags(INODE_IMMUTABLE, &touch_through_cache).is_err());
        let truncate = SetAttr {
            size: Some(0),
            ..SetAttr::default()
        };
        assert!(check_flags(INODE_APPEND, &truncate).is_err());
        assert!(check_flags(INODE_RO_VERITY, &truncate).is_err());
    }
}
