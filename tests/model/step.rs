//! One step of a case: a system call in words that can be printed, kept in a list and read again.
//!
//! A name is text; `{255}`, `{256}`, `{ff}` and `{long}` stand for what doesn't print: names of so many
//! bytes, one that isn't UTF-8, and a path that is longer than any may be. A [`Target`] is such a path, or
//! `#2`: what slot 2 has open.

use serde::{Deserialize, Serialize};

/// How many files a case can have open.
pub const SLOTS: usize = 4;

/// A path below the case's folder.
pub type Path = String;

/// A path that is opened for this one step, or an open slot.
pub type Target = String;

/// A time to set, as utimensat(2) takes it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Time {
    /// `UTIME_OMIT`.
    Omit,
    /// `UTIME_NOW`.
    Now,
    /// Seconds and nanoseconds.
    At(i64, i64),
}

/// What mknod(2) makes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "as stat(2) calls them")]
pub enum Special {
    File,
    Fifo,
    Socket,
    Character,
    Block,
    Directory,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the fields are the system calls' arguments")]
pub enum Step {
    /// The slot's old file is closed first, as by dup2(2).
    Open {
        slot: usize,
        path: Path,
        flags: i32,
        mode: u32,
    },
    Close {
        slot: usize,
    },
    Mkdir {
        path: Path,
        mode: u32,
    },
    Mknod {
        path: Path,
        what: Special,
        mode: u32,
    },
    Symlink {
        target: Path,
        path: Path,
    },
    Link {
        from: Path,
        to: Path,
        follow: bool,
    },
    Unlink {
        path: Path,
    },
    Rmdir {
        path: Path,
    },
    Rename {
        from: Path,
        to: Path,
        flags: u32,
    },
    /// pwrite(2): on a slot with `O_APPEND` that is an append.
    Write {
        on: Target,
        offset: i64,
        len: usize,
        seed: u64,
    },
    Append {
        path: Path,
        len: usize,
        seed: u64,
    },
    Read {
        on: Target,
        offset: i64,
        len: usize,
    },
    /// A shared mapping is written and given to msync(2); not beyond the end.
    Mapped {
        on: Target,
        offset: u64,
        len: usize,
        seed: u64,
    },
    Truncate {
        on: Target,
        size: i64,
    },
    Fallocate {
        on: Target,
        mode: i32,
        offset: i64,
        len: i64,
    },
    SeekData {
        on: Target,
        offset: i64,
    },
    SeekHole {
        on: Target,
        offset: i64,
    },
    /// copy_file_range(2), until all is copied.
    Copy {
        from: Target,
        from_offset: i64,
        to: Target,
        offset: i64,
        len: usize,
    },
    Chmod {
        on: Target,
        mode: u32,
    },
    Chown {
        on: Target,
        uid: Option<u32>,
        gid: Option<u32>,
        follow: bool,
    },
    SetTimes {
        on: Target,
        atime: Time,
        mtime: Time,
        follow: bool,
    },
    SetXattr {
        on: Target,
        name: String,
        len: usize,
        seed: u64,
        flags: u32,
        follow: bool,
    },
    GetXattr {
        on: Target,
        name: String,
        follow: bool,
    },
    ListXattr {
        on: Target,
        follow: bool,
    },
    RemoveXattr {
        on: Target,
        name: String,
        follow: bool,
    },
    Stat {
        on: Target,
        follow: bool,
    },
    ReadDir {
        path: Path,
    },
    ReadLink {
        path: Path,
    },
    Fsync {
        on: Target,
        data_only: bool,
    },
    /// `O_TMPFILE`: a file without a name is made, written, read and given up.
    Tmpfile {
        path: Path,
        flags: i32,
        mode: u32,
        len: usize,
        seed: u64,
    },
    Statfs {
        path: Path,
    },
    /// Everything becomes durable.
    Sync,
    /// All slots are closed, and what is mounted is unmounted and mounted again.
    Remount,
}

impl Step {
    /// What the figures call it: calls that differ in a flag are different operations.
    pub fn kind(&self) -> String {
        let word = match self {
            Self::Open { flags, .. } => {
                let has = |flag: i32| flags & flag != 0;
                return match () {
                    () if has(libc::O_CREAT) && has(libc::O_EXCL) => "open O_CREAT|O_EXCL",
                    () if has(libc::O_CREAT) && has(libc::O_TRUNC) => "open O_CREAT|O_TRUNC",
                    () if has(libc::O_CREAT) => "open O_CREAT",
                    () if has(libc::O_TRUNC) => "open O_TRUNC",
                    () if has(libc::O_DIRECTORY) => "open O_DIRECTORY",
                    () if has(libc::O_NOFOLLOW) => "open O_NOFOLLOW",
                    () => "open",
                }
                .into();
            }
            Self::Rename { flags, .. } => match flags {
                0 => "rename",
                1 => "rename NOREPLACE",
                2 => "rename EXCHANGE",
                4 => "rename WHITEOUT",
                5 => "rename NOREPLACE|WHITEOUT",
                _ => "rename, other flags",
            },
            Self::Fallocate { mode, .. } => match mode {
                0 => "fallocate",
                1 => "fallocate KEEP_SIZE",
                3 => "fallocate PUNCH_HOLE",
                16 | 17 => "fallocate ZERO_RANGE",
                _ => "fallocate, other modes",
            },
            _ => {
                let value = serde_json::to_value(self).expect("steps are words");
                return value["do"].as_str().expect("the tag").replace('-', " ");
            }
        };
        word.into()
    }

    /// The step in one line, as the list of regressions has it.
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("steps are words")
    }
}

/// A list as it is kept: a step a line.
pub fn to_lines(steps: &[Step]) -> String {
    steps.iter().map(|step| step.line() + "\n").collect()
}

/// The slot that a target names.
pub fn slot_of(target: &str) -> Option<usize> {
    target.strip_prefix('#')?.parse().ok()
}

/// The bytes that a path in words stands for.
pub fn path_bytes(words: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = words;
    while let Some(start) = rest.find('{') {
        out.extend(&rest.as_bytes()[..start]);
        let end = rest[start..].find('}').expect("a closed brace") + start;
        match &rest[start + 1..end] {
            "ff" => out.extend([b'f', 0xff, 0xfe]),
            "long" => out.extend(b"./".repeat(2100)),
            count => {
                let count = count.parse().expect("a count of bytes");
                out.extend(std::iter::repeat_n(b'n', count));
            }
        }
        rest = &rest[end + 1..];
    }
    out.extend(rest.as_bytes());
    out
}
