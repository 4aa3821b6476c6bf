//! What stands between FUSE requests and [`crate::fs`]: open directories, who may ask what of
//! the daemon, what the kernel doesn't say. `dispatch.rs` has the requests themselves.

use super::answer::TTL;
use super::changes::Changes;
use super::control::{self, Watchers};
use super::convert::{self, node};
use super::guard::Guard;
use super::handles::Handles;
use super::late_errors::LateErrors;
use super::process;
use super::seeks::Seeks;
use crate::error::{Error, Result};
use crate::fs::subvolume::ioctl::{freezes, uses_umask};
use crate::fs::{self, Caller, DirHandle, Filesystem, IoctlAnswer, NodeId, Who};
use crate::sync::{Arc, RwLock};
use fuser::{Errno, FileHandle, Generation, INodeNo, ReplyDirectoryPlus, Request};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// With so much free space a file that met a full filesystem may be written again.
const ROOM_BYTES: u64 = 1 << 20;

/// The engine behind a FUSE session.
pub struct Adapter {
    pub(in crate::fuse) fs: Arc<Filesystem>,
    watchers: Arc<Watchers>,
    owner: u32,
    pub(in crate::fuse) guard: Arc<Guard>,
    pub(in crate::fuse) directories: Handles<DirHandle>,
    /// Held shared by writes: a full commit waits for those that have begun, because the
    /// kernel counts the pages of a syncfs(2) as written when it has only sent them.
    pub(in crate::fuse) writing: RwLock<()>,
    pub(in crate::fuse) late: Arc<LateErrors>,
    pub(in crate::fuse) seeks: Arc<Seeks>,
    pub(in crate::fuse) changes: Arc<Changes>,
}

impl Adapter {
    /// An adapter for a mount that belongs to the user `owner`.
    pub fn new(fs: Arc<Filesystem>, watchers: Arc<Watchers>, owner: u32) -> Self {
        Self {
            fs,
            watchers,
            owner,
            guard: Arc::default(),
            directories: Handles::new(),
            writing: RwLock::new(()),
            late: Arc::default(),
            seeks: Arc::default(),
            changes: Arc::default(),
        }
    }

    fn full_commit(&self) -> Result<()> {
        self.wait_for_writes();
        self.fs.sync()
    }

    /// A file was opened: its handle.
    pub(in crate::fuse) fn opened(&self, ino: INodeNo, flags: i32) -> FileHandle {
        self.seeks.opened(ino, flags);
        FileHandle(self.late.handle())
    }

    /// Returns when all writes that have begun are in the engine.
    fn wait_for_writes(&self) {
        drop(self.writing.write());
    }

    /// The error that a write through an open file gets, because those before it failed.
    pub(in crate::fuse) fn late_error(&self, node: u64) -> Option<Errno> {
        self.late.check(node, || {
            let space = self.fs.statfs();
            space.is_ok_and(|space| space.available * u64::from(space.block_size) >= ROOM_BYTES)
        })
    }

    /// Answers an ioctl: what the daemon itself is asked, or the filesystem.
    pub(in crate::fuse) fn control(
        &self,
        req: &Request,
        ino: INodeNo,
        cmd: u32,
        input: &[u8],
    ) -> Result<IoctlAnswer> {
        let owns_mount = req.uid() == 0 || req.uid() == self.owner;
        match cmd {
            control::SYNC | control::WAIT_SYNC => {
                self.full_commit().map(|()| IoctlAnswer::default())
            }
            control::START_SYNC => {
                self.full_commit()?;
                Ok(self.fs.info().generation.to_le_bytes().to_vec().into())
            }
            control::STATS => self.stats(),
            control::WATCH if owns_mount => {
                self.watchers.add(input).map(|()| IoctlAnswer::default())
            }
            control::WATCH => Err(Error::NotPermitted(
                "only root and the mount's owner may ask",
            )),
            _ => {
                if freezes(cmd) {
                    self.wait_for_writes();
                }
                let umask = match uses_umask(cmd) {
                    true => process::umask(req.pid()),
                    false => 0,
                };
                let who = Who {
                    caller: caller(req, umask),
                    admin: owns_mount,
                    groups: &|| process::groups(req.pid()),
                };
                let answer = self.fs.ioctl(&who, node(ino), cmd, input)?;
                if fs::changes_attributes(cmd) {
                    self.late.attributes_changed(ino.0);
                }
                Ok(answer)
            }
        }
    }

    fn stats(&self) -> Result<IoctlAnswer> {
        let json = serde_json::to_vec(&self.fs.stats());
        let mut bytes = json.map_err(|_| Error::Invalid("numbers that JSON can't hold"))?;
        if bytes.len() > control::STATS_BYTES {
            return Err(Error::Range);
        }
        bytes.resize(control::STATS_BYTES, 0);
        Ok(bytes.into())
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
