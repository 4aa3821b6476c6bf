//! Subvolumes and snapshots, where the filesystem is a btrfs that can make them.
//!
//! The door to three ioctls; each names an entry of an open directory.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `struct btrfs_ioctl_vol_args_v2`: 4096 bytes.
#[repr(C)]
struct Arguments {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}
const _: () = assert!(size_of::<Arguments>() == 4096);

/// `struct btrfs_ioctl_vol_args`: 4096 bytes.
#[repr(C)]
struct OldArguments {
    fd: i64,
    name: [u8; 4088],
}
const _: () = assert!(size_of::<OldArguments>() == 4096);

/// Write, 4096 bytes, type 0x94.
const fn number(nr: libc::c_ulong) -> libc::c_ulong {
    (1 << 30) | (4096 << 16) | (0x94 << 8) | nr
}
const SNAP_DESTROY: libc::c_ulong = number(15);
const SNAP_CREATE_V2: libc::c_ulong = number(23);
const SUBVOL_CREATE_V2: libc::c_ulong = number(24);
const READ_ONLY: u64 = 1 << 1;

/// Makes an empty subvolume.
pub fn create(path: &Path) -> Result<(), Errno> {
    let (parent, name) = split(path)?;
    ask_v2(&parent, SUBVOL_CREATE_V2, 0, 0, name)
}

/// Makes a read-only snapshot of the subvolume `of` at `path`.
pub fn snapshot(of: &Path, path: &Path) -> Result<(), Errno> {
    let (parent, name) = split(path)?;
    let source = open(of)?;
    ask_v2(
        &parent,
        SNAP_CREATE_V2,
        source.as_raw_fd().into(),
        READ_ONLY,
        name,
    )
}

/// Removes a subvolume or snapshot with all that is in it.
pub fn destroy(path: &Path) -> Result<(), Errno> {
    let (parent, name) = split(path)?;
    let mut arguments = OldArguments {
        fd: 0,
        name: [0; 4088],
    };
    arguments.name[..name.len()].copy_from_slice(name);
    // SAFETY: the number says that 4096 bytes are read, which `arguments` has and which live
    // through the call. A filesystem that doesn't know the number refuses it.
    answer(unsafe { libc::ioctl(parent.as_raw_fd(), SNAP_DESTROY as _, &raw mut arguments) })
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

fn split(path: &Path) -> Result<(OwnedFd, &[u8]), Errno> {
    let parent = path.parent().ok_or(Errno::INVAL)?;
    let name = path.file_name().map(OsStr::as_bytes).ok_or(Errno::INVAL)?;
    if name.len() > 255 {
        return Err(Errno::NAMETOOLONG);
    }
    Ok((open(parent)?, name))
}

fn ask_v2(
    parent: &OwnedFd,
    number: libc::c_ulong,
    fd: i64,
    flags: u64,
    name: &[u8],
) -> Result<(), Errno> {
    let mut arguments = Arguments {
        fd,
        transid: 0,
        flags,
        unused: [0; 4],
        name: [0; 4040],
    };
    arguments.name[..name.len()].copy_from_slice(name);
    // SAFETY: as in `destroy`; the kernel may write `transid` back, which is ours too.
    answer(unsafe { libc::ioctl(parent.as_raw_fd(), number as _, &raw mut arguments) })
}

fn answer(result: libc::c_int) -> Result<(), Errno> {
    match result {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}
