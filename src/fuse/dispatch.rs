//! One method a FUSE request: decode, call [`crate::fs`], reply.
//!
//! Never: decides what an operation means. Invariant: every request is answered exactly once,
//! also when its handler fails or panics.

use super::adapter::{Adapter, caller};
use super::answer::{self, TTL};
use super::{convert, negotiate};
use super::{ioctls, seeks};
use crate::fs::{FileKind, RenameFlags, SetAttr, WriteFlags, XattrMode};
use convert::{node, set_time, timestamp};
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, FopenFlags, Generation,
    INodeNo, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

impl fuser::Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        negotiate::agree(config);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let look = || self.fs.lookup(node(parent), name.as_bytes());
        match self.guard.run("lookup", look) {
            Err(errno) if errno.code() == libc::ENOENT && name != "." => {
                // Node 0 with a lifetime: the kernel remembers that the name is free.
                reply.entry(&TTL, &convert::no_attr(0, FileKind::Regular), Generation(0));
            }
            found => answer::entry(reply, found),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        let _ = self.guard.run("forget", || {
            self.late.forget_inode(ino.0);
            self.fs.forget(node(ino), nlookup);
            Ok(())
        });
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        // Through an open file the kernel asks only before it writes to its cache.
        if let Some(errno) = fh.and_then(|_| self.late_error(ino.0)) {
            return reply.error(errno);
        }
        match self.guard.run("getattr", || self.fs.getattr(node(ino))) {
            Ok(attr) => reply.attr(&TTL, &convert::attr(&attr)),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut change = SetAttr {
            mode,
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            ctime: ctime.map(timestamp),
            ..SetAttr::default()
        };
        // The kernel asks to clear set-id bits with a flag that fuser 0.18 drops: with a size,
        // and alone before a write through the cache, whose answer is what makes it forget the
        // old mode. It never asks for somebody with CAP_FSETID.
        let alone = change == SetAttr::default();
        change.kill_suidgid = (size.is_some() || alone) && req.uid() != 0;
        // chown(2) of neither owner nor group clears them for everybody. It comes with the change
        // time alone for a file, whose times the kernel keeps, and with nothing for others.
        let only_ctime = SetAttr {
            ctime: change.ctime,
            ..SetAttr::default()
        };
        let bare = change == only_ctime;
        let new_owner = uid.is_some() || gid.is_some();
        match self.guard.run("setattr", || {
            if bare {
                let kind = self.fs.getattr(node(ino))?.kind;
                change.kill_suidgid |= ctime.is_some() || kind != FileKind::Regular;
            }
            if change.kill_suidgid || new_owner {
                change.leaves_group = self.loses_set_group_id(req, node(ino))?;
            }
            change.by_descriptor = fh.is_some();
            self.fs.setattr(&caller(req, 0), node(ino), &change)
        }) {
            Ok(attr) => reply.attr(&TTL, &convert::attr(&attr)),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.guard.run("readlink", || self.fs.readlink(node(ino))) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (who, name) = (caller(req, umask), name.as_bytes());
        let made = self.guard.run("mknod", || {
            self.fs
                .mknod(&who, node(parent), name, mode, u64::from(rdev))
        });
        answer::entry(reply, made);
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let (who, name) = (caller(req, umask), name.as_bytes());
        answer::entry(
            reply,
            self.guard
                .run("mkdir", || self.fs.mkdir(&who, node(parent), name, mode)),
        );
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer::done(
            reply,
            self.guard
                .run("unlink", || self.fs.unlink(node(parent), name.as_bytes())),
        );
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer::done(
            reply,
            self.guard
                .run("rmdir", || self.fs.rmdir(node(parent), name.as_bytes())),
        );
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (name, target) = (name.as_bytes(), target.as_os_str().as_bytes());
        let made = self.guard.run("symlink", || {
            self.fs.symlink(&caller(req, 0), node(parent), name, target)
        });
        answer::entry(reply, made);
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: fuser::RenameFlags,
        reply: ReplyEmpty,
    ) {
        let done = self.guard.run("rename", || {
            let flags = RenameFlags::from_bits(flags.bits())?;
            let (name, newname) = (name.as_bytes(), newname.as_bytes());
            self.fs.rename(
                &caller(req, 0),
                node(parent),
                name,
                node(newparent),
                newname,
                flags,
            )
        });
        answer::done(reply, done);
    }

    fn link(
        &self,
        _req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let name = newname.as_bytes();
        answer::entry(
            reply,
            self.guard
                .run("link", || self.fs.link(node(ino), node(newparent), name)),
        );
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (who, name) = (caller(req, umask), name.as_bytes());
        match self.guard.run("create", || {
            self.fs.create(&who, node(parent), name, mode, flags)
        }) {
            Ok(attr) => {
                let (shown, _) = convert::entry_attr(&attr);
                let keep = FopenFlags::FOPEN_KEEP_CACHE;
                let handle = self.opened(shown.ino, flags);
                reply.created(&TTL, &shown, Generation(attr.generation), handle, keep);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.guard.run("open", || self.fs.open(node(ino), flags.0)) {
            Ok(()) => {
                let handle = self.opened(ino, flags.0);
                reply.opened(handle, FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let done = self.guard.run("release", || {
            self.hand_over.released(ino, flags.0);
            self.fs.release(node(ino));
            Ok(())
        });
        answer::done(reply, done);
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.guard.run("read", || {
            self.fs.read_opened(node(ino), offset, size, flags.0)
        }) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: fuser::WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut flags = WriteFlags {
            from_cache: write_flags.contains(fuser::WriteFlags::FUSE_WRITE_CACHE),
            kill_suidgid: write_flags.contains(fuser::WriteFlags::FUSE_WRITE_KILL_SUIDGID),
            ..WriteFlags::default()
        };
        let written = self.guard.run("write", || {
            if flags.kill_suidgid {
                flags.leaves_group = self.loses_set_group_id(req, node(ino))?;
            }
            self.fs.write(node(ino), offset, data, flags)
        });
        match written {
            Ok(bytes) => reply.written(bytes),
            Err(errno) => {
                if flags.from_cache {
                    self.late.mark(ino.0, errno);
                }
                reply.error(errno);
            }
        }
    }

    fn flush(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        answer::done(reply, self.guard.run("flush", || self.fs.flush(node(ino))));
    }

    fn fsync(&self, _: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let done = self
            .guard
            .run("fsync", || self.fs.fsync(node(ino), datasync));
        answer::done(reply, self.late.fsync(ino.0, fh.0, done));
    }

    fn fsyncdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        answer::done(
            reply,
            self.guard
                .run("fsyncdir", || self.fs.fsync(node(ino), datasync)),
        );
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.guard.run("opendir", || self.fs.opendir(node(ino))) {
            Ok(handle) => {
                let handle = handle.with_flags(flags.0);
                // Not FOPEN_CACHE_DIR: when a second reader finds the kernel's cache of a listing
                // still empty, it takes the directory's version anew, and the first reader's
                // older answer is then kept as that version's. Names that exist are missing.
                let flags = FopenFlags::empty();
                reply.opened(FileHandle(self.directories.add(handle)), flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let done = self.guard.run("readdir", || {
            let handle = self.directory(fh)?;
            self.fs.readdir(node(ino), &handle, offset, &mut |entry| {
                let name = OsStr::from_bytes(entry.name);
                !reply.add(
                    INodeNo(entry.ino),
                    entry.offset,
                    convert::kind(entry.kind),
                    name,
                )
            })
        });
        match done {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let done = self.guard.run("readdirplus", || {
            self.list_with_attributes(node(ino), fh, offset, &mut reply)
        });
        match done {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn releasedir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let done = self.guard.run("releasedir", || {
            self.directories.remove(fh.0);
            self.fs.releasedir(node(ino));
            Ok(())
        });
        answer::done(reply, done);
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match self.guard.run("statfs", || self.fs.statfs()) {
            Ok(s) => reply.statfs(
                s.blocks,
                s.free,
                s.available,
                s.files,
                s.files_free,
                s.block_size,
                s.name_max,
                s.block_size,
            ),
            Err(errno) => reply.error(errno),
        }
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let done = self.guard.run("setxattr", || {
            let mode = XattrMode::from_bits(flags)?;
            let (node, name) = (node(ino), name.as_bytes());
            let kill_sgid = name == b"system.posix_acl_access" && self.leaves_group(req, node)?;
            self.fs.setxattr(node, name, value, mode, kill_sgid)
        });
        answer::done(reply, done);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let found = self
            .guard
            .run("getxattr", || self.fs.getxattr(node(ino), name.as_bytes()));
        answer::xattr(reply, size, found);
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        answer::xattr(
            reply,
            size,
            self.guard.run("listxattr", || self.fs.listxattr(node(ino))),
        );
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.as_bytes();
        answer::done(
            reply,
            self.guard
                .run("removexattr", || self.fs.removexattr(node(ino), name)),
        );
    }

    fn ioctl(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        let question = ioctls::Question::new(req, ino, cmd, in_data, out_size, reply);
        self.ioctls.ask(question, &self.hand_over);
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let done = self.guard.run("fallocate", || {
            self.fs.fallocate(node(ino), mode, offset, length)
        });
        answer::done(reply, done);
    }

    fn lseek(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let question = seeks::Question {
            ino,
            offset,
            whence,
            reply,
        };
        let (fs, guard) = (self.fs.clone(), self.guard.clone());
        self.hand_over
            .file(ino, offset, move || question.answer(&fs, &guard));
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The reply holds 32 bits; a short copy is asked to go on.
        let len = len.min(1 << 30);
        let copied = self.guard.run("copy_file_range", || {
            self.fs
                .copy_file_range(node(ino_in), offset_in, node(ino_out), offset_out, len)
        });
        match copied {
            Ok(bytes) => reply.written(bytes as u32),
            Err(errno) => reply.error(errno),
        }
    }

    // What the kernel does by itself once it has heard that nobody here does.

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn bmap(&self, _req: &Request, _ino: INodeNo, _size: u32, _idx: u64, reply: ReplyBmap) {
        reply.error(Errno::ENOSYS);
    }

    fn poll(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _ph: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }
}
