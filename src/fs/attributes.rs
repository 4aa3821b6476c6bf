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
    pub fn setattr(&self, caller: &Caller, node: NodeId, changes: &SetAttr) -> Result<Attr> {
        match changes.size {
            Some(_) => self.freeing(|| self.try_setattr(caller, node, changes)),
            None => self.try_setattr(caller, node, changes),
        }
    }

    fn try_setattr(&self, caller: &Caller, node: NodeId, changes: &SetAttr) -> Result<Attr> {
        let inode = self.inode(node)?;
        if *changes != SetAttr::default() {
            // What was written before the subvolume became read-only is accepted when it comes; so
            // are its times, once. By themselves they can't be told from utimensat(2) of now.
            let late = is_from_cache(changes) && std::mem::take(&mut inode.meta.lock().times_due);
            self.want_writable_mount()?;
            if !late {
                subvolume::want_writable(&inode.root)?;
            }
            {
                let meta = inode.meta.lock();
                check_flags(&meta, changes, late)?;
                check_owner(&meta, caller, changes)?;
            }
            // The kernel sends the times along with a size. Nothing may be refused when that is set.
            let ticket = match changes.size {
                Some(_) => Some(self.ticket(Steal::Yes)?),
                None => None,
            };
            if let Some(size) = changes.size {
                self.resize(&inode, size, changes)?;
            } else if changes.kill_suidgid {
                self.kill_privileges(&inode, changes.leaves_group)?;
            }
            let rest = SetAttr {
                size: None,
                kill_suidgid: false,
                ..*changes
            };
            let nothing = SetAttr {
                leaves_group: rest.leaves_group,
                by_descriptor: rest.by_descriptor,
                ..SetAttr::default()
            };
            if rest != nothing {
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
            self.kill_privileges(inode, changes.leaves_group)?;
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
    pub(in crate::fs) fn kill_privileges(
        &self,
        inode: &Arc<Inode>,
        leaves_group: bool,
    ) -> Result<()> {
        let has_bits = inode.meta.lock().set_id_to_clear(leaves_group) != 0;
        if has_bits {
            let ticket = self.ticket(Steal::No)?;
            let mut meta = inode.meta.lock();
            if meta.clear_set_id(leaves_group) {
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
            || self.options.nodiratime && inode.is_dir()
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

/// Refuses what immutable, append-only and verity inodes refuse. `late`: the kernel owes the times
/// of what was written.
fn check_flags(meta: &InodeMeta, changes: &SetAttr, late: bool) -> Result<()> {
    const LOCKED: &str = "the inode is immutable or append-only";
    let flags = meta.flags;
    let appends = flags & INODE_APPEND != 0;
    if changes.size.is_some() {
        let opened_before = changes.by_descriptor && !has_unknown_flags(flags);
        if appends || is_frozen(flags) && !opened_before {
            return Err(Error::NotPermitted(LOCKED));
        }
        if flags & INODE_RO_VERITY != 0 {
            return Err(Error::NotPermitted("fs-verity protects the file's content"));
        }
    }
    if !appends && !is_frozen(flags) {
        return Ok(());
    }
    if changes.mode.is_some() || changes.uid.is_some() || changes.gid.is_some() {
        return Err(Error::NotPermitted(LOCKED));
    }
    let touches = changes.atime.is_some() || changes.mtime.is_some();
    // The times of a new size come with it.
    if !touches || changes.size.is_some() {
        return Ok(());
    }
    if is_from_cache(changes) && (late || is_plausible(meta, changes)) {
        return Ok(());
    }
    // utimensat(2) with no times is as a write of nothing, which an append-only file takes.
    if is_frozen(flags) || !is_touch(changes) {
        return Err(Error::NotPermitted(LOCKED));
    }
    Ok(())
}

/// The kernel's cache being written back is no request. It brings a modification and a change time;
/// utimensat(2) through the writeback cache brings the access time as well.
fn is_from_cache(changes: &SetAttr) -> bool {
    let owner = changes.mode.is_some() || changes.uid.is_some() || changes.gid.is_some();
    changes.ctime.is_some() && changes.atime.is_none() && changes.size.is_none() && !owner
}

/// Whether times may have come from the kernel's cache though nothing was written: it also keeps a
/// change time alone, of a new link or attribute, and brings the modification time that is there.
/// And fallocate(2), say, moves its times before we refuse; those come through a descriptor, and
/// from the clock.
fn is_plausible(meta: &InodeMeta, changes: &SetAttr) -> bool {
    let (Some(SetTime::At(mtime)), Some(ctime)) = (changes.mtime, changes.ctime) else {
        return false;
    };
    mtime == meta.mtime || changes.by_descriptor && (meta.mtime..=ctime).contains(&mtime)
}

/// Both times become the time of now, which for a file the kernel's cache tells us as a value.
fn is_touch(changes: &SetAttr) -> bool {
    let mtime_is_now = match changes.mtime {
        Some(SetTime::Now) => true,
        Some(SetTime::At(time)) => changes.ctime == Some(time),
        None => false,
    };
    changes.atime == Some(SetTime::Now) && mtime_is_now
}

/// chown(2) of neither owner nor group is nobody's right alone, but taking set-id bits away by it
/// is the owner's. The kernel lets it through because it leaves those bits to us.
fn check_owner(meta: &InodeMeta, caller: &Caller, changes: &SetAttr) -> Result<()> {
    let of_nothing = SetAttr {
        ctime: changes.ctime,
        kill_suidgid: true,
        leaves_group: changes.leaves_group,
        by_descriptor: changes.by_descriptor,
        ..SetAttr::default()
    };
    let is_chown = changes.ctime.is_some() && *changes == of_nothing;
    let owns = caller.uid == 0 || caller.uid == meta.uid;
    if is_chown && !owns && meta.set_id_to_clear(changes.leaves_group) != 0 {
        return Err(Error::NotPermitted("only the owner clears set-id bits"));
    }
    Ok(())
}

fn apply(meta: &mut InodeMeta, changes: &SetAttr) {
    let now = Timestamp::now();
    if changes.uid.is_some() || changes.gid.is_some() {
        meta.clear_set_id(changes.leaves_group);
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
        // Without group execution the bit stays for who is in the group, or may keep it.
        for (leaves_group, mode) in [(false, 0o102644), (true, 0o100644)] {
            let mut meta = InodeMeta::fresh(0o102644, 1, 1, Timestamp::default());
            apply(
                &mut meta,
                &SetAttr {
                    gid: Some(7),
                    leaves_group,
                    ..SetAttr::default()
                },
            );
            assert_eq!(meta.mode, mode);
        }
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
        let with = |flags| {
            let mut meta = InodeMeta::fresh(0o100644, 1, 1, Timestamp::now());
            meta.flags = flags;
            meta
        };
        let refused =
            |flags, changes: &SetAttr, late| check_flags(&with(flags), changes, late).is_err();
        for flags in [INODE_APPEND, INODE_IMMUTABLE] {
            assert!(refused(flags, &chmod, true) && refused(flags, &touch, true));
            // Only what is owed, or changes nothing but the change time.
            assert!(!refused(flags, &cache, true) && refused(flags, &cache, false));
            let known = with(flags);
            let link = SetAttr {
                mtime: Some(SetTime::At(known.mtime)),
                ..cache
            };
            assert!(check_flags(&known, &link, false).is_ok());
            let after = Timestamp {
                sec: known.mtime.sec + 1,
                ..known.mtime
            };
            for by_descriptor in [false, true] {
                let refused_before = SetAttr {
                    mtime: Some(SetTime::At(after)),
                    ctime: Some(after),
                    by_descriptor,
                    ..SetAttr::default()
                };
                let accepted = check_flags(&known, &refused_before, false).is_ok();
                assert_eq!(accepted, by_descriptor);
            }
            let touch_through_cache = SetAttr {
                atime: Some(SetTime::At(Timestamp::default())),
                ..cache
            };
            assert!(refused(flags, &touch_through_cache, true));
            let both = SetAttr {
                atime: Some(SetTime::Now),
                ..cache
            };
            assert_eq!(refused(flags, &both, false), flags == INODE_IMMUTABLE);
        }
        let truncate = SetAttr {
            size: Some(0),
            ..cache
        };
        let ftruncate = SetAttr {
            by_descriptor: true,
            ..truncate
        };
        assert!(refused(INODE_APPEND, &truncate, true) && refused(INODE_APPEND, &ftruncate, true));
        assert!(refused(INODE_IMMUTABLE, &truncate, true));
        assert!(!refused(INODE_IMMUTABLE, &ftruncate, true));
        assert!(refused(INODE_RO_VERITY, &ftruncate, true));
        assert!(refused(1 << 60, &ftruncate, true));
    }
}
