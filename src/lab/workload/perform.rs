//! Does an operation on the mounted filesystem, and brings back what it showed.

use super::folder::Folder;
use super::mapping;
use super::name::{CROWD, Name};
use super::operation::{Allocate, Arena, Look, Operation, Replace, Seen, Stat, Way};
use super::stamp::Stamp;
use super::subvolume;
use super::ways;
use crate::fuse::control;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, SeekFrom, Timespec,
    Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What attributes of a run are called, after the namespace: others are the system's.
pub const XATTR_MARK: &str = ".s-";

type Answer = Result<Seen, Errno>;

/// Does it.
pub fn perform(folder: &Folder, arena: Arena, operation: &Operation) -> Answer {
    let at = |name: &Name| -> PathBuf { folder.path(arena, name) };
    if arena == Arena::Own {
        for path in operation.opened().into_iter().flatten() {
            may_open(&at(path), matches!(operation, Operation::Fsync { .. }))?;
        }
    }
    match operation {
        Operation::Create { path, mode } => {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            done(rustix::fs::open(at(path), flags, Mode::from_raw_mode(*mode)).map(drop))
        }
        Operation::Mkdir { path, mode } => {
            done(rustix::fs::mkdir(at(path), Mode::from_raw_mode(*mode)))
        }
        Operation::Mknod { path, what, mode } => {
            let (major, minor) = what.device();
            let device = rustix::fs::makedev(major, minor);
            let mode = Mode::from_raw_mode(*mode);
            done(rustix::fs::mknodat(
                CWD,
                at(path),
                what.file_type(),
                mode,
                device,
            ))
        }
        Operation::Symlink { path, target } => {
            done(rustix::fs::symlink(target.0.as_slice(), at(path)))
        }
        Operation::Link { from, to } => done(rustix::fs::linkat(
            CWD,
            at(from),
            CWD,
            at(to),
            AtFlags::empty(),
        )),
        Operation::Unlink { path } => done(rustix::fs::unlink(at(path))),
        Operation::Rmdir { path } => done(rustix::fs::rmdir(at(path))),
        Operation::Rename { from, to, replace } => {
            let flags = match replace {
                Replace::Plain => RenameFlags::empty(),
                Replace::Never => RenameFlags::NOREPLACE,
                Replace::Exchange => RenameFlags::EXCHANGE,
                Replace::Whiteout => RenameFlags::WHITEOUT,
            };
            done(rustix::fs::renameat_with(CWD, at(from), CWD, at(to), flags))
        }
        Operation::Write {
            path,
            offset,
            len,
            stamp,
            way,
        } => done(write(&at(path), *offset, *len, *stamp, *way)),
        Operation::Read {
            path,
            offset,
            len,
            look: Look::Mapped,
        } => mapping::read(&at(path), *offset, *len).map(Seen::Bytes),
        Operation::Read {
            path,
            offset,
            len,
            look: Look::Direct,
        } => ways::read_directly(&at(path), *offset, *len).map(Seen::Bytes),
        Operation::Read {
            path,
            offset,
            len,
            look,
        } => {
            let file = open(&at(path), OFlags::RDONLY)?;
            let bytes = match look {
                Look::Vectored => ways::read_vectored(&file, *offset, *len),
                _ => read(&file, *offset, *len),
            };
            bytes.map(Seen::Bytes)
        }
        Operation::Truncate { path, size } => done(rustix::fs::ftruncate(
            open(&at(path), OFlags::WRONLY)?,
            *size,
        )),
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
            let file = open(&at(path), OFlags::WRONLY)?;
            done(rustix::fs::fallocate(file, flags, *offset, *len))
        }
        Operation::Copy {
            from,
            from_offset,
            to,
            offset,
            len,
        }
        | Operation::Clone {
            from,
            from_offset,
            to,
            offset,
            len,
        } => {
            let (from, to) = (
                open(&at(from), OFlags::RDONLY)?,
                open(&at(to), OFlags::WRONLY)?,
            );
            match operation {
                Operation::Clone { .. } => {
                    done(ways::clone_range(&from, *from_offset, &to, *offset, *len))
                }
                _ => copy(&from, *from_offset, &to, *offset, *len).map(Seen::Count),
            }
        }
        Operation::Seek { path, offset } => {
            let file = open(&at(path), OFlags::RDONLY)?;
            Ok(Seen::Sought {
                data: seek(&file, SeekFrom::Data(*offset))?,
                hole: seek(&file, SeekFrom::Hole(*offset))?,
            })
        }
        Operation::Fsync { path, data_only } => {
            let file = open(&at(path), OFlags::RDONLY)?;
            done(if *data_only {
                rustix::fs::fdatasync(file)
            } else {
                rustix::fs::fsync(file)
            })
        }
        Operation::Sync => done(sync(folder.tree())),
        Operation::Chmod { path, mode } => {
            let mode = Mode::from_raw_mode(*mode);
            done(rustix::fs::chmodat(CWD, at(path), mode, AtFlags::empty()))
        }
        Operation::Chown { path, uid, gid } => {
            let (uid, gid) = (Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)));
            done(rustix::fs::chownat(
                CWD,
                at(path),
                uid,
                gid,
                AtFlags::SYMLINK_NOFOLLOW,
            ))
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
            done(rustix::fs::utimensat(
                CWD,
                at(path),
                &times,
                AtFlags::SYMLINK_NOFOLLOW,
            ))
        }
        Operation::SetXattr {
            path,
            name,
            len,
            stamp,
        } => {
            let mut value = vec![0; *len];
            stamp.fill(0, &mut value);
            done(rustix::fs::lsetxattr(
                at(path),
                name.as_str(),
                &value,
                XattrFlags::empty(),
            ))
        }
        Operation::GetXattr { path, name } => get_xattr(&at(path), name).map(Seen::Bytes),
        Operation::ListXattr { path } => list_xattrs(&at(path)).map(Seen::Names),
        Operation::RemoveXattr { path, name } => {
            done(rustix::fs::lremovexattr(at(path), name.as_str()))
        }
        Operation::ReadDir { path } => {
            let mark = folder.mark();
            let is_crowd = arena == Arena::Own && path.0 == CROWD;
            read_dir(&at(path), if is_crowd { &mark } else { b"" }).map(Seen::Names)
        }
        Operation::Stat { path } => stat(&at(path)).map(Seen::Stat),
        Operation::ReadLink { path } => {
            let target = rustix::fs::readlinkat(CWD, at(path), Vec::new())?;
            Ok(Seen::Bytes(target.into_bytes()))
        }
        Operation::Orphan { path, len, stamp } => done(orphan(&at(path), *len, *stamp)),
        Operation::Snapshot { name } => {
            done(subvolume::snapshot(folder.tree(), &folder.snapshot(name)))
        }
        Operation::DropSnapshot { name } => done(subvolume::destroy(&folder.snapshot(name))),
    }
}

/// Never opens a device: a log that somebody thinned out may ask for it. What isn't opened is
/// refused as the model says.
fn may_open(path: &Path, directories: bool) -> Result<(), Errno> {
    match stat(path)?.kind {
        FileType::RegularFile => Ok(()),
        FileType::Directory if directories => Ok(()),
        FileType::Directory => Err(Errno::ISDIR),
        FileType::Symlink => Err(Errno::LOOP),
        _ => Err(Errno::NXIO),
    }
}

impl Operation {
    /// The paths whose contents it opens.
    fn opened(&self) -> [Option<&Name>; 2] {
        match self {
            Self::Write { path, .. }
            | Self::Read { path, .. }
            | Self::Truncate { path, .. }
            | Self::Fallocate { path, .. }
            | Self::Seek { path, .. }
            | Self::Fsync { path, .. } => [Some(path), None],
            Self::Copy { from, to, .. } | Self::Clone { from, to, .. } => [Some(from), Some(to)],
            _ => [None, None],
        }
    }
}

fn done(answer: Result<(), Errno>) -> Answer {
    answer.map(|()| Seen::Done)
}

/// Never follows a link, never waits for the other end of a pipe.
fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, Mode::empty())
}

fn write(path: &Path, offset: u64, len: u64, stamp: Stamp, way: Way) -> Result<(), Errno> {
    let mut bytes = vec![0; len as usize];
    let append = match way {
        Way::Mapped => {
            stamp.fill(offset, &mut bytes);
            return mapping::write(path, offset, &bytes);
        }
        Way::Direct => {
            stamp.fill(offset, &mut bytes);
            return ways::write_directly(path, offset, &bytes);
        }
        Way::Append => OFlags::APPEND,
        Way::At | Way::Vectored | Way::Spliced => OFlags::empty(),
    };
    let file = open(path, OFlags::WRONLY | append)?;
    let offset = match way {
        // The bytes say where they are; only this process appends to its own files.
        Way::Append => u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0),
        _ => offset,
    };
    stamp.fill(offset, &mut bytes);
    let mut done = 0;
    while done < bytes.len() {
        done += match way {
            Way::Append => rustix::io::write(&file, &bytes[done..])?,
            Way::Vectored => ways::write_vectored(&file, &bytes[done..], offset + done as u64)?,
            Way::Spliced => ways::splice(&file, &bytes[done..], offset + done as u64)?,
            _ => rustix::io::pwrite(&file, &bytes[done..], offset + done as u64)?,
        };
    }
    Ok(())
}

/// As far as the file goes.
pub fn read(file: &OwnedFd, offset: u64, len: u64) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::io::pread(file, &mut bytes[filled..], offset + filled as u64)? {
            0 => break,
            more => filled += more,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn copy(
    from: &OwnedFd,
    from_offset: u64,
    to: &OwnedFd,
    offset: u64,
    len: u64,
) -> Result<u64, Errno> {
    let (mut source, mut target) = (from_offset, offset);
    let end = from_offset + len;
    while source < end {
        let len = (end - source) as usize;
        let copied =
            rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), len)?;
        if copied == 0 {
            break;
        }
    }
    Ok(source - from_offset)
}

/// `None`: beyond the last.
pub fn seek(file: &OwnedFd, to: SeekFrom) -> Result<Option<u64>, Errno> {
    match rustix::fs::seek(file, to) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Everything on the filesystem of `dir` becomes durable.
pub fn sync(dir: &Path) -> Result<(), Errno> {
    let dir = open(dir, OFlags::RDONLY | OFlags::DIRECTORY)?;
    rustix::fs::syncfs(&dir)?;
    // SAFETY: BTRFS_IOC_SYNC takes no argument, so whatever file this is, none of our memory is
    // touched.
    let answer =
        unsafe { rustix::ioctl::ioctl(&dir, rustix::ioctl::NoArg::<{ control::SYNC }>::new()) };
    match answer {
        // Not a btrfs: syncfs was all.
        Err(Errno::NOTTY | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        answer => answer,
    }
}

/// An attribute's value.
pub fn get_xattr(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; 65_536];
    let len = rustix::fs::lgetxattr(path, name, &mut value[..])?;
    value.truncate(len);
    Ok(value)
}

/// The run's own attributes, sorted.
pub fn list_xattrs(path: &Path) -> Result<Vec<Vec<u8>>, Errno> {
    let mut list = vec![0; 65_536];
    let len = rustix::fs::llistxattr(path, &mut list[..])?;
    let names = list[..len].split(|&byte| byte == 0).filter(|name| {
        let mark = XATTR_MARK.as_bytes();
        name.windows(mark.len()).any(|part| part == mark)
    });
    let mut names: Vec<Vec<u8>> = names.map(<[u8]>::to_vec).collect();
    names.sort();
    Ok(names)
}

/// The names of a directory that begin with `mark`, without it, sorted.
pub fn read_dir(path: &Path, mark: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    let dir = open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if let Some(rest) = name.strip_prefix(mark)
            && name != b"."
            && name != b".."
        {
            names.push(rest.to_vec());
        }
    }
    names.sort();
    Ok(names)
}

/// An inode, of whatever kind.
pub fn stat(path: &Path) -> Result<Stat, Errno> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(Stat {
        kind: FileType::from_raw_mode(stat.st_mode),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        #[allow(clippy::unnecessary_cast, reason = "not 64 bits on every machine")]
        links: stat.st_nlink as u64,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        device: (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        ),
        mtime: (
            stat.st_mtime,
            u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        ),
    })
}

/// Anything but the bytes that were written is an I/O error.
fn orphan(path: &Path, len: u64, stamp: Stamp) -> Result<(), Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?;
    let mut bytes = vec![0; len as usize];
    stamp.fill(0, &mut bytes);
    let half = bytes.len() / 2;
    rustix::io::pwrite(&file, &bytes[..half], 0)?;
    rustix::fs::unlink(path)?;
    rustix::io::pwrite(&file, &bytes[half..], half as u64)?;
    if read(&file, 0, len + 1)? != bytes || rustix::fs::fstat(&file)?.st_nlink != 0 {
        return Err(Errno::IO);
    }
    Ok(())
}
