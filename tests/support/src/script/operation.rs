//! One operation of a script, and how it is done on a mounted filesystem.

use crate::Rng;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps,
    Uid, XattrFlags,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A path below the story's folder.
pub type Name = Vec<u8>;

/// How rename(2) treats its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameKind {
    /// An existing target is replaced.
    Plain,
    /// `RENAME_NOREPLACE`.
    NoReplace,
    /// `RENAME_EXCHANGE`.
    Exchange,
    /// `RENAME_WHITEOUT`.
    Whiteout,
}

/// What fallocate(2) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Space, and the size grows.
    Grow,
    /// Space beyond the end is kept.
    KeepSize,
    /// A hole.
    Punch,
    /// Zeros, and the size grows.
    Zero,
    /// Zeros, and the size stays.
    ZeroKeepSize,
}

/// One system call.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the system calls' arguments")]
pub enum Operation {
    Create {
        path: Name,
        mode: u32,
    },
    Mkdir {
        path: Name,
        mode: u32,
    },
    Mknod {
        path: Name,
        kind: FileType,
        mode: u32,
        device: (u32, u32),
    },
    Symlink {
        path: Name,
        target: Vec<u8>,
    },
    Link {
        from: Name,
        to: Name,
    },
    Unlink {
        path: Name,
    },
    Rmdir {
        path: Name,
    },
    Rename {
        from: Name,
        to: Name,
        kind: RenameKind,
    },
    Write {
        path: Name,
        offset: u64,
        len: usize,
        seed: u64,
    },
    Append {
        path: Name,
        len: usize,
        seed: u64,
    },
    Truncate {
        path: Name,
        size: u64,
    },
    Fallocate {
        path: Name,
        what: Allocate,
        offset: u64,
        len: u64,
    },
    SetXattr {
        path: Name,
        name: String,
        value: Vec<u8>,
    },
    RemoveXattr {
        path: Name,
        name: String,
    },
    Chmod {
        path: Name,
        mode: u32,
    },
    Chown {
        path: Name,
        uid: u32,
        gid: u32,
    },
    SetTimes {
        path: Name,
        atime: (i64, u32),
        mtime: (i64, u32),
    },
    Fsync {
        path: Name,
    },
}

/// The bytes of a write: both the model and the filesystem get them from the seed.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    Rng::new(seed).bytes(len)
}

/// Does it below `folder`.
pub fn apply(folder: &Path, operation: &Operation) -> Result<(), Errno> {
    let at = |path: &Name| -> PathBuf { folder.join(OsStr::from_bytes(path)) };
    let writable = |path: &Name, more: OFlags| {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::open(at(path), flags | more, Mode::empty())
    };
    match operation {
        Operation::Create { path, mode } => {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            rustix::fs::open(at(path), flags, Mode::from_raw_mode(*mode)).map(drop)
        }
        Operation::Mkdir { path, mode } => rustix::fs::mkdir(at(path), Mode::from_raw_mode(*mode)),
        Operation::Mknod {
            path,
            kind,
            mode,
            device,
        } => {
            let device = rustix::fs::makedev(device.0, device.1);
            rustix::fs::mknodat(CWD, at(path), *kind, Mode::from_raw_mode(*mode), device)
        }
        Operation::Symlink { path, target } => {
            rustix::fs::symlink(OsStr::from_bytes(target), at(path))
        }
        Operation::Link { from, to } => {
            rustix::fs::linkat(CWD, at(from), CWD, at(to), AtFlags::empty())
        }
        Operation::Unlink { path } => rustix::fs::unlink(at(path)),
        Operation::Rmdir { path } => rustix::fs::rmdir(at(path)),
        Operation::Rename { from, to, kind } => {
            let flags = match kind {
                RenameKind::Plain => RenameFlags::empty(),
                RenameKind::NoReplace => RenameFlags::NOREPLACE,
                RenameKind::Exchange => RenameFlags::EXCHANGE,
                RenameKind::Whiteout => RenameFlags::WHITEOUT,
            };
            rustix::fs::renameat_with(CWD, at(from), CWD, at(to), flags)
        }
        Operation::Write {
            path,
            offset,
            len,
            seed,
        } => {
            let file = writable(path, OFlags::empty())?;
            write_all(&bytes(*seed, *len), |part, done| {
                rustix::io::pwrite(&file, part, offset + done)
            })
        }
        Operation::Append { path, len, seed } => {
            let file = writable(path, OFlags::APPEND)?;
            write_all(&bytes(*seed, *len), |part, _| {
                rustix::io::write(&file, part)
            })
        }
        Operation::Truncate { path, size } => {
            rustix::fs::ftruncate(writable(path, OFlags::empty())?, *size)
        }
        Operation::Fallocate {
            path,
            what,
            offset,
            len,
        } => {
            let flags = match what {
                Allocate::Grow => FallocateFlags::empty(),
                Allocate::KeepSize => FallocateFlags::KEEP_SIZE,
                Allocate::Punch => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                Allocate::Zero => FallocateFlags::ZERO_RANGE,
                Allocate::ZeroKeepSize => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            };
            rustix::fs::fallocate(writable(path, OFlags::empty())?, flags, *offset, *len)
        }
        Operation::SetXattr { path, name, value } => {
            rustix::fs::lsetxattr(at(path), name.as_str(), value, XattrFlags::empty())
        }
        Operation::RemoveXattr { path, name } => rustix::fs::lremovexattr(at(path), name.as_str()),
        Operation::Chmod { path, mode } => {
            rustix::fs::chmodat(CWD, at(path), Mode::from_raw_mode(*mode), AtFlags::empty())
        }
        Operation::Chown { path, uid, gid } => {
            let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
            rustix::fs::chownat(
                CWD,
                at(path),
                Some(uid),
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            )
        }
        Operation::SetTimes { path, atime, mtime } => {
            let spec = |(tv_sec, nsec): (i64, u32)| Timespec {
                tv_sec,
                tv_nsec: nsec.into(),
            };
            let times = Timestamps {
                last_access: spec(*atime),
                last_modification: spec(*mtime),
            };
            rustix::fs::utimensat(CWD, at(path), &times, AtFlags::SYMLINK_NOFOLLOW)
        }
        Operation::Fsync { path } => {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            rustix::fs::fsync(rustix::fs::open(at(path), flags, Mode::empty())?)
        }
    }
}

fn write_all(
    bytes: &[u8],
    mut write: impl FnMut(&[u8], u64) -> Result<usize, Errno>,
) -> Result<(), Errno> {
    let mut done = 0;
    while done < bytes.len() {
        done += write(&bytes[done..], done as u64)?;
    }
    Ok(())
}
