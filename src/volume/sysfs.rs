//! What /sys and /proc tell about a block device or an image: what is below it, who uses it.
//!
//! Never an error: where the system doesn't say, the answer is "nothing known", and the locks
//! stand alone.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file below a loop device.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BackingFile {
    /// Its path, as the loop driver remembers it.
    pub path: PathBuf,
    /// The bytes of it that the device shows, when these aren't all.
    pub range: Option<Range<u64>>,
}

/// A loop device over an image.
#[derive(Debug)]
pub(super) struct AttachedLoop {
    /// `/dev/loopN`
    pub path: PathBuf,
    /// Its device number.
    pub rdev: u64,
    /// It can't write to the image.
    pub read_only: bool,
}

/// A mount of the kernel's.
#[derive(Debug)]
pub(super) struct KernelMount {
    /// Where, if it is in our mount namespace.
    pub mount_point: Option<PathBuf>,
    /// It may write.
    pub writable: bool,
}

fn major_minor(dev: u64) -> (u32, u32) {
    (rustix::fs::major(dev), rustix::fs::minor(dev))
}

/// `/sys/dev/block/MAJ:MIN`, with the link resolved.
fn block_directory(rdev: u64) -> Option<PathBuf> {
    let (major, minor) = major_minor(rdev);
    fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()
}

fn read_number(path: PathBuf) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The file below a loop device or a partition of one.
pub(super) fn backing_files(rdev: u64) -> Vec<BackingFile> {
    block_directory(rdev)
        .and_then(|dir| backing_of(&dir))
        .into_iter()
        .collect()
}

fn backing_of(dir: &Path) -> Option<BackingFile> {
    const SECTOR: u64 = 512;
    let (disk, first) = match dir.join("partition").exists() {
        true => (dir.parent()?.to_owned(), read_number(dir.join("start"))?),
        false => (dir.to_owned(), 0),
    };
    let named = fs::read_to_string(disk.join("loop/backing_file")).ok()?;
    let named = named.strip_suffix('\n').unwrap_or(&named);
    let offset = read_number(disk.join("loop/offset")).unwrap_or(0);
    let sizelimit = read_number(disk.join("loop/sizelimit")).unwrap_or(0);
    let start = offset.saturating_add(first.saturating_mul(SECTOR));
    let len = read_number(dir.join("size"))?.saturating_mul(SECTOR);
    let whole = dir == disk && offset == 0 && sizelimit == 0;
    let range = (!whole).then(|| start..start.saturating_add(len));
    Some(BackingFile {
        path: PathBuf::from(named),
        range,
    })
}

/// Every loop device whose backing file is the inode `ino` on device `dev`.
pub(super) fn loops_over(dev: u64, ino: u64) -> Vec<AttachedLoop> {
    let Ok(entries) = fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let dir = entry.path();
            let named = fs::read_to_string(dir.join("loop/backing_file")).ok()?;
            let below = fs::metadata(named.strip_suffix('\n').unwrap_or(&named)).ok()?;
            if (below.dev(), below.ino()) != (dev, ino) {
                return None;
            }
            let number = fs::read_to_string(dir.join("dev")).ok()?;
            let (major, minor) = number.trim().split_once(':')?;
            Some(AttachedLoop {
                path: Path::new("/dev").join(entry.file_name()),
                rdev: rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?),
                read_only: read_number(dir.join("ro")) == Some(1),
            })
        })
        .collect()
}

/// The kernel's mount of a block device, if there is one.
pub(super) fn kernel_mount(rdev: u64) -> Option<KernelMount> {
    let known_to_btrfs = used_by_kernel_btrfs(rdev);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let seen = table.lines().filter_map(parse_mountinfo).find(|mount| {
        // Our own mount of the device has it as its source too.
        !mount.fstype.starts_with("fuse")
            && fs::metadata(&mount.source).is_ok_and(|meta| {
                use std::os::unix::fs::FileTypeExt;
                meta.file_type().is_block_device() && meta.rdev() == rdev
            })
    });
    match seen {
        Some(mount) => Some(KernelMount {
            mount_point: Some(mount.target),
            writable: mount.writable,
        }),
        None if known_to_btrfs => Some(KernelMount {
            mount_point: None,
            writable: true,
        }),
        None => None,
    }
}

fn used_by_kernel_btrfs(rdev: u64) -> bool {
    let Some(dir) = block_directory(rdev) else {
        return false;
    };
    let Some(name) = dir.file_name() else {
        return false;
    };
    let Ok(filesystems) = fs::read_dir("/sys/fs/btrfs") else {
        return false;
    };
    filesystems
        .flatten()
        .any(|entry| entry.path().join("devices").join(name).exists())
}

struct MountLine {
    target: PathBuf,
    fstype: String,
    source: PathBuf,
    writable: bool,
}

/// `36 35 98:0 /mnt1 /mnt/parent rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_mountinfo(line: &str) -> Option<MountLine> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let target = mount.split(' ').nth(4)?;
    let mut fields = filesystem.split(' ');
    let (fstype, source, options) = (fields.next()?, fields.next()?, fields.next()?);
    Some(MountLine {
        target: unescape(target),
        fstype: fstype.to_owned(),
        source: unescape(source),
        writable: options.split(',').next() == Some("rw"),
    })
}

/// Space, tab, newline and backslash stand as `\ooo` in mountinfo.
fn unescape(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\')
            .then(|| bytes.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(octal.unwrap_or(bytes[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    std::ffi::OsString::from_vec(plain).into()
}

/// The processes that hold a lock on an inode.
pub(super) fn lock_holders(dev: u64, ino: u64) -> Vec<u32> {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let (major, minor) = major_minor(dev);
    let file = format!("{major:02x}:{minor:02x}:{ino}");
    let holders = locks.lines().filter_map(|line| {
        // `1: FLOCK  ADVISORY  WRITE 708 08:01:131090 0 EOF`
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&file.as_str()))
            .then(|| fields[4].parse().ok())?
    });
    holders.collect()
}

/// A process, in words.
pub(super) fn process(pid: u32) -> String {
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(command) => format!("process {pid}, {}", command.trim()),
        Err(_) => format!("process {pid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mountinfo_line_gives_target_source_and_mode() {
        let line = r"36 35 98:0 / /mnt/a\040b rw,noatime master:1 - btrfs /dev/loop3 ro,ssd";
        let mount = parse_mountinfo(line).unwrap();
        assert_eq!(mount.target, Path::new("/mnt/a b"));
        assert_eq!(mount.source, Path::new("/dev/loop3"));
        assert!(!mount.writable);
        assert!(parse_mountinfo("garbage").is_none());
        assert!(parse_mountinfo("a - b").is_none());
    }

    #[test]
    fn a_partition_of_a_loop_device_names_its_range_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("loop9");
        let part = disk.join("loop9p2");
        fs::create_dir_all(disk.join("loop")).unwrap();
        fs::create_dir_all(&part).unwrap();
        fs::write(disk.join("loop/backing_file"), "/images/a b.raw\n").unwrap();
        fs::write(disk.join("loop/offset"), "1048576\n").unwrap();
        fs::write(disk.join("size"), "1000\n").unwrap();
        fs::write(part.join("partition"), "2\n").unwrap();
        fs::write(part.join("start"), "8\n").unwrap();
        fs::write(part.join("size"), "16\n").unwrap();
        let found = backing_of(&part).unwrap();
        assert_eq!(found.path, Path::new("/images/a b.raw"));
        assert_eq!(found.range, Some(1048576 + 4096..1048576 + 4096 + 8192));
        fs::write(disk.join("loop/offset"), "0\n").unwrap();
        assert_eq!(backing_of(&disk).unwrap().range, None);
    }
}
