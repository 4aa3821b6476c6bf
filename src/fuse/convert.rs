//! Between the words of `fuser` and those of [`crate::fs`]: attributes, times, kinds, errors.

use crate::error::Error;
use crate::fs::{Attr, FileKind, NodeId, SetTime, Timestamp};
use fuser::{Errno, FileAttr, FileType, INodeNo, TimeOrNow};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The engine's node behind a request's.
pub fn node(ino: INodeNo) -> NodeId {
    NodeId(ino.0)
}

/// What a program sees as `errno`.
pub fn errno(error: &Error) -> Errno {
    Errno::from_i32(error.errno())
}

/// Attributes as `stat` shows them.
pub fn attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: system_time(attr.btime),
        kind: kind(attr.kind),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        // makedev(3) and the kernel's 32-bit encoding agree for 12-bit majors and 20-bit
        // minors, and Linux has no others.
        rdev: attr.rdev as u32,
        blksize: attr.blksize,
        flags: 0,
    }
}

/// Attributes that belong to an entry, and whether the kernel may keep them.
///
/// fuser takes the node from the inode number, so the two can't differ in one reply. Where
/// they do (the mounted root, a stub of a subvolume), the reply carries the node and expires at
/// once: the kernel asks again for the attributes, and that answer has the inode number.
pub fn entry_attr(of: &Attr) -> (FileAttr, bool) {
    let shown = attr(of);
    if of.node.0 == of.ino {
        (shown, true)
    } else {
        (
            FileAttr {
                ino: INodeNo(of.node.0),
                ..shown
            },
            false,
        )
    }
}

/// The attributes of an entry that isn't there, or that the kernel won't look at.
pub fn no_attr(ino: u64, entry_kind: FileKind) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: kind(entry_kind),
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// A directory entry's type.
pub fn kind(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
    }
}

/// A time to hand to the kernel. Times outside of what the system can hold are clamped.
pub fn system_time(time: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(time.sec.unsigned_abs());
    let start = if time.sec < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    start
        .and_then(|start| start.checked_add(Duration::from_nanos(u64::from(time.nsec))))
        .unwrap_or(UNIX_EPOCH)
}

/// A time from a request, the inverse of what fuser 0.18 does with the kernel's two numbers:
/// before 1970 it counts the nanoseconds backwards too, though the kernel never does.
pub fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timestamp {
            sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            nsec: after.subsec_nanos(),
        },
        Err(before) => {
            let before = before.duration();
            Timestamp {
                sec: 0i64
                    .checked_sub_unsigned(before.as_secs())
                    .unwrap_or(i64::MIN),
                nsec: before.subsec_nanos(),
            }
        }
    }
}

/// A time to set, from a request.
pub fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::SpecificTime(time) => SetTime::At(timestamp(time)),
        TimeOrNow::Now => SetTime::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What fuser makes of a request's numbers.
    fn as_fuser_reads(sec: i64, nsec: u32) -> SystemTime {
        if sec >= 0 {
            UNIX_EPOCH + Duration::new(sec as u64, nsec)
        } else {
            UNIX_EPOCH - Duration::new(sec.unsigned_abs(), nsec)
        }
    }

    #[test]
    fn request_times_arrive_as_the_kernel_sent_them() {
        for (sec, nsec) in [(0, 0), (1, 5), (-1, 0), (-2, 500_000_000), (1 << 33, 1)] {
            let time = timestamp(as_fuser_reads(sec, nsec));
            assert_eq!((time.sec, time.nsec), (sec, nsec));
        }
    }

    #[test]
    fn reply_times_are_true_before_1970_too() {
        let time = system_time(Timestamp {
            sec: -2,
            nsec: 500_000_000,
        });
        assert_eq!(
            UNIX_EPOCH.duration_since(time).unwrap(),
            Duration::from_millis(1500)
        );
        let _ = system_time(Timestamp {
            sec: i64::MIN,
            nsec: 0,
        });
        let _ = system_time(Timestamp {
            sec: i64::MAX,
            nsec: 999_999_999,
        });
    }
}
