//! What a file looks like from outside: kinds, times, attributes and the changes to them.

use super::NodeId;

/// A point in time with nanoseconds, as inode items hold it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since 1970; negative before it.
    pub sec: i64,
    /// Nanoseconds after `sec`, below 1,000,000,000.
    pub nsec: u32,
}

impl Timestamp {
    /// How long after `earlier` this is; `None` when it is before that.
    pub fn nanoseconds_after(self, earlier: Self) -> Option<u128> {
        let total = |time: Self| i128::from(time.sec) * 1_000_000_000 + i128::from(time.nsec);
        u128::try_from(total(self) - total(earlier)).ok()
    }

    /// The clock's time, as coarse as the kernel stamps files: times that it keeps and times
    /// that we set must not run past each other.
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        Self {
            sec: now.tv_sec,
            nsec: now.tv_nsec as u32,
        }
    }
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory, also the root of a subvolume.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device node.
    CharDevice,
    /// A block device node.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl FileKind {
    /// The kind in the file-type bits of a mode.
    pub fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & libc::S_IFMT {
            libc::S_IFREG => Self::Regular,
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFCHR => Self::CharDevice,
            libc::S_IFBLK => Self::BlockDevice,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            _ => return None,
        })
    }

    /// The file-type bits of a mode.
    pub fn mode_bits(self) -> u32 {
        match self {
            Self::Regular => libc::S_IFREG,
            Self::Directory => libc::S_IFDIR,
            Self::Symlink => libc::S_IFLNK,
            Self::CharDevice => libc::S_IFCHR,
            Self::BlockDevice => libc::S_IFBLK,
            Self::Fifo => libc::S_IFIFO,
            Self::Socket => libc::S_IFSOCK,
        }
    }

    /// The type byte of a directory entry (`BTRFS_FT_*`).
    pub(in crate::fs) fn entry_type(self) -> u8 {
        match self {
            Self::Regular => 1,
            Self::Directory => 2,
            Self::CharDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Symlink => 7,
        }
    }

    /// The kind behind the type byte of a directory entry.
    pub(in crate::fs) fn from_entry_type(byte: u8) -> Option<Self> {
        Some(match byte & 0x7f {
            1 => Self::Regular,
            2 => Self::Directory,
            3 => Self::CharDevice,
            4 => Self::BlockDevice,
            5 => Self::Fifo,
            6 => Self::Socket,
            7 => Self::Symlink,
            _ => return None,
        })
    }
}

/// Everything that `stat` shows, and what else the format keeps about an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attr {
    /// The node to name in later requests.
    pub node: NodeId,
    /// The inode number that programs see.
    pub ino: u64,
    /// The subvolume's tree id.
    pub subvol: u64,
    /// The inode's number inside its subvolume.
    pub objectid: u64,
    /// The transaction that made the inode.
    pub generation: u64,
    /// What it is.
    pub kind: FileKind,
    /// Type and permission bits (`st_mode`).
    pub mode: u32,
    /// Hard links; always 1 for a directory.
    pub nlink: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The device of a device node, as `makedev(3)` packs it; else 0.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Space used, in 512-byte units.
    pub blocks: u64,
    /// The preferred I/O size.
    pub blksize: u32,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Birth.
    pub btime: Timestamp,
    /// The inode item's flags (`BTRFS_INODE_*`).
    pub flags: u64,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The clock's time.
    Now,
    /// This time.
    At(Timestamp),
}

impl SetTime {
    /// The time that is meant, with `now` as the clock's.
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Now => now,
            Self::At(time) => time,
        }
    }
}

/// Changes to an inode; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// New permission bits; file-type bits are ignored.
    pub mode: Option<u32>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New size.
    pub size: Option<u64>,
    /// New access time.
    pub atime: Option<SetTime>,
    /// New modification time.
    pub mtime: Option<SetTime>,
    /// New change time: the kernel's writeback cache tells it with flushed times.
    pub ctime: Option<Timestamp>,
    /// Clear set-user-id and set-group-id bits and file capabilities, as a write by an
    /// unprivileged process does.
    pub kill_suidgid: bool,
    /// Whoever asks is neither in the file's group nor may keep its set-group-id bit: that bit goes
    /// with the others even where the group may not execute.
    pub leaves_group: bool,
    /// Through a descriptor: one that is open for writing may still change the size of a file that
    /// has become immutable since.
    pub by_descriptor: bool,
}
