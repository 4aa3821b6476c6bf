//! The client's side of subvolumes: what a command asks of the filesystem below a directory,
//! through the ioctls that [`crate::fs::subvolume::ioctl`] answers.
//!
//! All but snapshots are the kernel's own, so its btrfs answers them too; and a snapshot is asked
//! for in the kernel's way where ours isn't known.

use crate::fs::subvolume::ioctl::{READ_ONLY, SNAPSHOT, SNAPSHOT_BYTES, SNAPSHOT_SOURCE};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Write, 4096 bytes, type 0x94.
const fn write_4096(nr: libc::c_ulong) -> libc::c_ulong {
    (1 << 30) | (4096 << 16) | (0x94 << 8) | nr
}
const SNAP_DESTROY: libc::c_ulong = write_4096(15);
const SNAP_CREATE_V2: libc::c_ulong = write_4096(23);
const SUBVOL_CREATE: libc::c_ulong = write_4096(14);
const GETFLAGS: libc::c_ulong = 0x8008_9419;
const SETFLAGS: libc::c_ulong = 0x4008_941a;
const GET_SUBVOL_INFO: libc::c_ulong = 0x81f8_943c;
const GET_SUBVOL_ROOTREF: libc::c_ulong = 0xd000_943d;
const INO_LOOKUP_USER: libc::c_ulong = 0xd000_943e;

/// Names are shorter.
const NAME_MAX: usize = 255;

/// What `BTRFS_IOC_GET_SUBVOL_INFO` says, the parts that are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its number.
    pub id: u64,
    /// The subvolume that it is in; 0 at the top.
    pub parent: u64,
    /// The transaction of its last change.
    pub generation: u64,
    /// The transaction that made it.
    pub made_in: u64,
    /// It can't be written.
    pub read_only: bool,
    /// Its uuid; zeros where it has none.
    pub uuid: [u8; 16],
    /// That of the subvolume that it is a snapshot of.
    pub parent_uuid: [u8; 16],
    /// That of the subvolume that was sent.
    pub received_uuid: [u8; 16],
    /// When it was made, in seconds since 1970.
    pub made_at: i64,
}

/// Opens a directory.
pub fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Makes an empty subvolume.
pub fn create(parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    ask(parent, SUBVOL_CREATE, &mut named(8, 0, name)?)
}

/// Snapshots the subvolume whose root directory `source` is. What programs have written to it
/// reaches the filesystem first, which a FUSE mount doesn't see to by itself.
pub fn snapshot(
    source: &OwnedFd,
    parent: &OwnedFd,
    name: &[u8],
    read_only: bool,
) -> Result<(), Errno> {
    let flags = if read_only { READ_ONLY } else { 0 };
    let mut proof = [0; 16];
    match ask(source, libc::c_ulong::from(SNAPSHOT_SOURCE), &mut proof) {
        Ok(()) => {}
        Err(Errno::NOTTY | Errno::OPNOTSUPP) => {
            let mut argument = named(56, i64::from(source.as_raw_fd()) as u64, name)?;
            argument[16..24].copy_from_slice(&flags.to_ne_bytes());
            return ask(parent, SNAP_CREATE_V2, &mut argument);
        }
        Err(other) => return Err(other),
    }
    if rustix::fs::fstat(source)?.st_dev != rustix::fs::fstat(parent)?.st_dev {
        return Err(Errno::XDEV);
    }
    // What it tells of writes that failed is for those who wrote.
    let _ = rustix::fs::syncfs(source);
    let mut argument = [0; SNAPSHOT_BYTES];
    argument[..16].copy_from_slice(&proof);
    argument[16..24].copy_from_slice(&flags.to_ne_bytes());
    if name.len() > NAME_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    argument[24..24 + name.len()].copy_from_slice(name);
    ask(parent, libc::c_ulong::from(SNAPSHOT), &mut argument)
}

/// Deletes a subvolume with all that is in it.
pub fn delete(parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    ask(parent, SNAP_DESTROY, &mut named(8, 0, name)?)
}

/// Whether the subvolume whose root directory this is can't be written.
pub fn is_read_only(subvolume: &OwnedFd) -> Result<bool, Errno> {
    let mut flags = [0; 8];
    ask(subvolume, GETFLAGS, &mut flags)?;
    Ok(u64::from_ne_bytes(flags) & READ_ONLY != 0)
}

/// Makes it so, or writable. What programs have written reaches it before.
pub fn set_read_only(subvolume: &OwnedFd, read_only: bool) -> Result<(), Errno> {
    if read_only {
        let _ = rustix::fs::syncfs(subvolume);
    }
    let flags = if read_only { READ_ONLY } else { 0 };
    ask(subvolume, SETFLAGS, &mut flags.to_ne_bytes())
}

/// About the subvolume that a directory is in.
pub fn info(dir: &OwnedFd) -> Result<Info, Errno> {
    let mut bytes = [0; 504];
    ask(dir, GET_SUBVOL_INFO, &mut bytes)?;
    Ok(Info {
        id: word(&bytes, 0),
        parent: word(&bytes, 264),
        generation: word(&bytes, 280),
        read_only: word(&bytes, 288) & 1 != 0,
        uuid: uuid(&bytes, 296),
        parent_uuid: uuid(&bytes, 312),
        received_uuid: uuid(&bytes, 328),
        made_in: word(&bytes, 352),
        made_at: word(&bytes, 392) as i64,
    })
}

/// The subvolumes directly in the one that a directory is in: number, and directory there.
pub fn nested(dir: &OwnedFd) -> Result<Vec<(u64, u64)>, Errno> {
    let mut found = Vec::new();
    loop {
        let mut bytes = [0; 4096];
        let from = found.last().map_or(0, |(id, _): &(u64, u64)| id + 1);
        bytes[..8].copy_from_slice(&from.to_ne_bytes());
        let more = match ask(dir, GET_SUBVOL_ROOTREF, &mut bytes) {
            Ok(()) => false,
            Err(Errno::OVERFLOW) => true,
            Err(other) => return Err(other),
        };
        let count = usize::from(bytes[4088]).min(255);
        found.extend((0..count).map(|i| (word(&bytes, 8 + 16 * i), word(&bytes, 16 + 16 * i))));
        if !more || count == 0 {
            return Ok(found);
        }
    }
}

/// Where a subvolume that [`nested`] named is below `dir`: the path, name included.
pub fn place(dir: &OwnedFd, id: u64, dirid: u64) -> Result<Vec<u8>, Errno> {
    let mut bytes = [0; 4096];
    bytes[..8].copy_from_slice(&dirid.to_ne_bytes());
    bytes[8..16].copy_from_slice(&id.to_ne_bytes());
    ask(dir, INO_LOOKUP_USER, &mut bytes)?;
    let until_zero = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0);
        bytes[..end.unwrap_or(bytes.len())].to_vec()
    };
    let (name, path) = (until_zero(&bytes[16..272]), until_zero(&bytes[272..]));
    Ok([path, name].concat())
}

/// 4096 bytes that begin with a descriptor, with a name somewhere behind.
fn named(at: usize, descriptor: u64, name: &[u8]) -> Result<[u8; 4096], Errno> {
    if name.len() > NAME_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    let mut argument = [0; 4096];
    argument[..8].copy_from_slice(&descriptor.to_ne_bytes());
    argument[at..at + name.len()].copy_from_slice(name);
    Ok(argument)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn uuid(bytes: &[u8], at: usize) -> [u8; 16] {
    bytes[at..at + 16].try_into().expect("16 bytes")
}

/// Asks with an argument that is as long as the number says.
fn ask<const N: usize>(
    dir: &OwnedFd,
    number: libc::c_ulong,
    argument: &mut [u8; N],
) -> Result<(), Errno> {
    assert_eq!(
        (number >> 16 & 0x3fff) as usize,
        N,
        "the number says how much"
    );
    // SAFETY: the kernel reads and writes as many bytes as the number says, which `argument` has;
    // a filesystem that doesn't know the number refuses it.
    let result = unsafe { libc::ioctl(dir.as_raw_fd(), number as _, argument.as_mut_ptr()) };
    match result {
        // The kernel's btrfs answers 1 to BTRFS_IOC_GET_SUBVOL_INFO when all went well.
        0.. => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}
