//! One operation of a run: what is asked of the filesystem, and what it may show.

use super::name::Name;
use super::stamp::Stamp;
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How rename(2) treats its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replace {
    /// An existing target is replaced.
    Plain,
    /// `RENAME_NOREPLACE`.
    Never,
    /// `RENAME_EXCHANGE`.
    Exchange,
    /// `RENAME_WHITEOUT`.
    Whiteout,
}

/// What fallocate(2) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allocate {
    /// Space, and the size grows.
    Grow,
    /// Space; the size stays.
    KeepSize,
    /// A hole.
    Punch,
    /// Zeros, and the size grows.
    Zero,
    /// Zeros, and the size stays.
    ZeroKeepSize,
}

/// How bytes get into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// pwrite(2).
    At,
    /// `O_APPEND`.
    Append,
    /// A shared mapping of the file, which is made longer first where needed.
    Mapped,
    /// pwritev(2) from several buffers.
    Vectored,
    /// `O_DIRECT`; offset and length are whole sectors.
    Direct,
    /// splice(2) out of a pipe.
    Spliced,
}

/// How bytes get out of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Look {
    /// pread(2).
    At,
    /// A shared mapping.
    Mapped,
    /// preadv(2) into several buffers.
    Vectored,
    /// `O_DIRECT`; offset and length are whole sectors.
    Direct,
}

/// What mknod(2) makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Special {
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    Character {
        /// Its number.
        major: u32,
        /// Its number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Its number.
        major: u32,
        /// Its number.
        minor: u32,
    },
}

impl Special {
    /// As stat(2) calls it.
    pub fn file_type(self) -> FileType {
        match self {
            Self::Fifo => FileType::Fifo,
            Self::Socket => FileType::Socket,
            Self::Character { .. } => FileType::CharacterDevice,
            Self::Block { .. } => FileType::BlockDevice,
        }
    }

    /// Its device number; 0 where it has none.
    pub fn device(self) -> (u32, u32) {
        match self {
            Self::Fifo | Self::Socket => (0, 0),
            Self::Character { major, minor } | Self::Block { major, minor } => (major, minor),
        }
    }
}

/// Seconds and nanoseconds.
pub type Time = (i64, u32);

/// One system call, or a few that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the fields are the system calls' arguments")]
pub enum Operation {
    Create {
        path: Name,
        mode: u32,
    },
    Mknod {
        path: Name,
        what: Special,
        mode: u32,
    },
    Mkdir {
        path: Name,
        mode: u32,
    },
    Symlink {
        path: Name,
        target: Name,
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
        replace: Replace,
    },
    /// The bytes are the stamp's.
    Write {
        path: Name,
        offset: u64,
        len: u64,
        stamp: Stamp,
        way: Way,
    },
    Read {
        path: Name,
        offset: u64,
        len: u64,
        look: Look,
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
    /// copy_file_range(2), until all is copied.
    Copy {
        from: Name,
        from_offset: u64,
        to: Name,
        offset: u64,
        len: u64,
    },
    /// `FICLONERANGE`: whole sectors, which the source has.
    Clone {
        from: Name,
        from_offset: u64,
        to: Name,
        offset: u64,
        len: u64,
    },
    /// `SEEK_DATA` and `SEEK_HOLE` from there.
    Seek {
        path: Name,
        offset: u64,
    },
    Fsync {
        path: Name,
        data_only: bool,
    },
    /// Everything becomes durable: syncfs(2), and what a btrfs has for it.
    Sync,
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
        atime: Time,
        mtime: Time,
    },
    SetXattr {
        path: Name,
        name: String,
        len: usize,
        stamp: Stamp,
    },
    GetXattr {
        path: Name,
        name: String,
    },
    ListXattr {
        path: Name,
    },
    RemoveXattr {
        path: Name,
        name: String,
    },
    ReadDir {
        path: Name,
    },
    Stat {
        path: Name,
    },
    ReadLink {
        path: Name,
    },
    /// A file loses its only name while it is open, is written and read, and closed.
    Orphan {
        path: Name,
        len: u64,
        stamp: Stamp,
    },
    /// A read-only snapshot of everything; this process's part of it is compared at once.
    Snapshot {
        name: String,
    },
    DropSnapshot {
        name: String,
    },
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The words of the log: the same for people.
        match serde_json::to_string(self) {
            Ok(words) => f.write_str(&words),
            Err(_) => write!(f, "{self:?}"),
        }
    }
}

/// Where an operation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arena {
    /// In the process's own names: every answer is known beforehand.
    Own,
    /// In the folder where anything may vanish at any time: only sane refusals are known.
    Shared,
}

/// What a successful operation showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing but success.
    Done,
    /// Contents, an attribute's value, a link's target.
    Bytes(Vec<u8>),
    /// The names of a directory or of attributes, sorted.
    Names(Vec<Vec<u8>>),
    /// How many bytes.
    Count(u64),
    /// Where data begins and where a hole does; `None`: nowhere.
    Sought {
        /// `SEEK_DATA`.
        data: Option<u64>,
        /// `SEEK_HOLE`.
        hole: Option<u64>,
    },
    /// An inode.
    Stat(Stat),
}

/// What stat(2) says, where that is known beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as stat(2) calls them")]
pub struct Stat {
    pub kind: FileType,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u64,
    pub size: u64,
    pub device: (u32, u32),
    pub mtime: Time,
}
