//! What stands between FUSE requests and [`crate::fs`]: open directories, who asks, what the kernel
//! doesn't say. `dispatch.rs` has the requests themselves.

use super::answer::TTL;
use super::control::Watchers;
use super::convert;
use super::guard::Guard;
use super::hand_over::HandOver;
use super::handles::Handles;
use super::ioctls::{Ioctls, Owner};
use super::late_errors::LateErrors;
use super::process;
use crate::error::{Error, Result};
use crate::fs::{Caller, DirHandle, Filesystem, NodeId};
use crate::sync::Arc;
use fuser::{Errno, FileHandle, Generation, INodeNo, ReplyDirectoryPlus, Request};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// With so much free space a file that met a full filesystem may be written again.
const ROOM_BYTES: u64 = 1 << 20;

/// The engine behind a FUSE session.
pub struct Adapter {
    pub(in crate::fuse) fs: Arc<Filesystem>,
    pub(in crate::fuse) guard: Arc<Guard>,
    pub(in crate::fuse) directories: Handles<DirHandle>,
    pub(in crate::fuse) late: Arc<LateErrors>,
    pub(in crate::fuse) hand_over: Arc<HandOver>,
    pub(in crate::fuse) ioctls: Arc<Ioctls>,
}

impl Adapter {
    /// An adapter for a mount that belongs to the user `owner`.
    pub fn new(fs: Arc<Filesystem>, watchers: Arc<Watchers>, owner: u32) -> Self {
        let (guard, late) = (Arc::<Guard>::default(), Arc::<LateErrors>::default());
        let ioctls = Ioctls {
            fs: fs.clone(),
            watchers,
            owner: Owner::new(owner),
            guard: guard.clone(),
            late: late.clone(),
            changes: Arc::default(),
        };
        Self {
            fs,
            guard,
            directories: Handles::new(),
            late,
            hand_over: Arc::default(),
            ioctls: Arc::new(ioctls),
        }
    }

    /// A file was opened: its handle.
    pub(in crate::fuse) fn opened(&self, ino: INodeNo, flags: i32) -> FileHandle {
        self.hand_over.opened(ino, flags);
        FileHandle(self.late.handle())
    }

    /// The error that a write through an open file gets, because those before it failed.
    pub(in crate::fuse) fn late_error(&self, node: u64) -> Option<Errno> {
        self.late.check(node, || {
            let space = self.fs.statfs();
            space.is_ok_and(|space| space.available * u64::from(space.block_size) >= ROOM_BYTES)
        })
    }

    /// The open directory behind a handle number.
    pub(in crate::fuse) fn directory(&self, fh: FileHandle) -> Result<Arc<DirHandle>> {
        self.directories.get(fh.0).ok_or(Error::Stale)
    }

    /// Lists a directory with the attributes of its entries.
    pub(in crate::fuse) fn list_with_attributes(
        &self,
        dir: NodeId,
        fh: FileHandle,
        offset: u64,
        reply: &mut ReplyDirectoryPlus,
    ) -> Result<()> {
        let handle = self.directory(fh)?;
        self.fs
            .readdirplus(dir, &handle, offset, &mut |entry, attr| {
                let name = OsStr::from_bytes(entry.name);
                let (shown, keep, generation) = match attr {
                    Some(attr) => {
                        let (shown, keep) = convert::entry_attr(attr);
                        (shown, keep, attr.generation)
                    }
                    // "." and "..": the kernel takes the number and the type, nothing else.
                    None => (convert::no_attr(entry.ino, entry.kind), false, 0),
                };
                let ttl = if keep { TTL } else { Duration::ZERO };
                let generation = Generation(generation);
                !reply.add(shown.ino, entry.offset, name, &ttl, &shown, generation)
            })
    }

    /// True when the caller isn't in the file's group: setting an ACL then clears set-group-id.
    /// The kernel says so in a flag that fuser 0.18 doesn't carry.
    pub(in crate::fuse) fn leaves_group(&self, req: &Request, node: NodeId) -> Result<bool> {
        if req.uid() == 0 {
            return Ok(false);
        }
        let gid = self.fs.getattr(node)?.gid;
        Ok(gid != req.gid() && !process::groups(req.pid()).contains(&gid))
    }

    /// The same for a write or a new owner, where the bit doesn't go anyway: without group
    /// execution it stays for who is in the group.
    pub(in crate::fuse) fn loses_set_group_id(&self, req: &Request, node: NodeId) -> Result<bool> {
        let mode = self.fs.getattr(node)?.mode;
        let bare = mode & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID;
        Ok(bare && self.leaves_group(req, node)?)
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        // Their jobs hold the filesystem.
        self.hand_over.stop();
    }
}

/// Who asks.
pub(in crate::fuse) fn caller(req: &Request, umask: u32) -> Caller {
    Caller {
        uid: req.uid(),
        gid: req.gid(),
        umask,
        pid: req.pid(),
    }
}
