//! Mounts, ours and others', as `/proc/self/mountinfo` shows them.

use super::Failure;
use crate::fuse::MountId;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// The kernel's number for it; given again once it is gone.
    pub number: u64,
    /// `major:minor`: the same for all mount points of one mount; given again once it is gone.
    pub device: String,
    /// Where it is mounted.
    pub path: PathBuf,
    /// The image.
    pub source: PathBuf,
    /// `fuse.btrfuse`, `fuseblk.btrfuse`, or of somebody else's.
    pub kind: String,
}

impl MountPoint {
    /// A mount of btrfuse.
    pub fn is_ours(&self) -> bool {
        ["fuse.btrfuse", "fuseblk.btrfuse"].contains(&self.kind.as_str())
    }
}

/// What is mounted at a directory.
#[derive(Debug, PartialEq, Eq)]
pub enum At {
    /// A mount of ours, and the directory leads to it.
    Ours(MountPoint),
    /// A mount of ours, but the directory leads to something else: to what was mounted there
    /// later, or what a mount further up hides it with.
    Covered(Option<MountPoint>),
    /// None of ours.
    Nothing,
}

/// All mount points of btrfuse that this process can see, in mount order.
pub fn ours() -> Result<Vec<MountPoint>, Failure> {
    Ok(all()?.into_iter().filter(MountPoint::is_ours).collect())
}

/// What is mounted at exactly `path` (absolute).
pub fn at(path: &Path) -> Result<At, Failure> {
    Ok(choose(all()?, path, MountId::top_at(path).ok()))
}

/// Mount points below `path`, of whatever kind.
pub fn inside(path: &Path) -> Result<Vec<MountPoint>, Failure> {
    let below = |mount: &MountPoint| mount.path != path && mount.path.starts_with(path);
    Ok(all()?.into_iter().filter(below).collect())
}

/// The user whose mount a directory is in, where it is one of ours.
pub fn owner_of(dir: impl AsFd) -> Option<u32> {
    let device = rustix::fs::fstat(dir).ok()?.st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let table = std::fs::read("/proc/self/mountinfo").ok()?;
    owner(&table, &format!("{major}:{minor}"))
}

fn owner(table: &[u8], device: &str) -> Option<u32> {
    let is_there = |line: &&[u8]| {
        parse_line(line).is_some_and(|mount| mount.is_ours() && mount.device == device)
    };
    let line = table.split(|&byte| byte == b'\n').find(is_there)?;
    let options = line.rsplit(|&byte| byte == b' ').next()?;
    String::from_utf8_lossy(options)
        .split(',')
        .find_map(|option| option.strip_prefix("user_id=")?.parse().ok())
}

fn all() -> Result<Vec<MountPoint>, Failure> {
    let bytes = std::fs::read("/proc/self/mountinfo")
        .map_err(|why| Failure::failed(format!("can't read /proc/self/mountinfo: {why}")))?;
    Ok(parse(&bytes))
}

/// `top`: what the path leads to, if that is known; else it is what was mounted last.
fn choose(mounts: Vec<MountPoint>, path: &Path, top: Option<MountId>) -> At {
    let top_first = mounts.into_iter().rev();
    let here: Vec<MountPoint> = top_first.filter(|mount| mount.path == path).collect();
    let leads_to = here
        .iter()
        .find(|mount| top.is_none_or(|top| top.is(mount.number, &mount.device)));
    match leads_to {
        Some(mount) if mount.is_ours() => At::Ours(mount.clone()),
        other if here.iter().any(MountPoint::is_ours) => At::Covered(other.cloned()),
        _ => At::Nothing,
    }
}

/// The path made absolute, with links resolved except that the last name is only looked at
/// through its parent: a mount whose daemon is gone can't be asked for its own attributes.
pub fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    if let Ok(full) = path.canonicalize() {
        return Ok(full);
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name();
    match (parent.canonicalize(), name) {
        (Ok(parent), Some(name)) => Ok(parent.join(name)),
        (Err(why), _) => Err(Failure::failed(format!("{}: {why}", path.display()))),
        (_, None) => Err(Failure::failed(format!(
            "{}: no such directory",
            path.display()
        ))),
    }
}

fn parse(bytes: &[u8]) -> Vec<MountPoint> {
    bytes
        .split(|&b| b == b'\n')
        .filter_map(parse_line)
        .collect()
}

fn parse_line(line: &[u8]) -> Option<MountPoint> {
    let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    // id parent major:minor root path options [optional…] - type source super-options
    let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    let text = |index: usize| Some(String::from_utf8_lossy(fields.get(index)?).into_owned());
    Some(MountPoint {
        number: text(0)?.parse().ok()?,
        device: text(2)?,
        path: unescape(fields.get(4)?),
        source: unescape(fields.get(dash + 2)?),
        kind: text(dash + 1)?,
    })
}

/// `\040` and the like back to bytes.
fn unescape(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|digits| digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match (byte, octal) {
            (b'\\', Some(digits)) => {
                let value = digits
                    .iter()
                    .fold(0u32, |sum, d| sum * 8 + u32::from(d - b'0'));
                plain.push(value as u8);
                rest = &tail[3..];
            }
            _ => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - xfs /dev/vda rw\n\
        90 22 0:50 / /mnt/a\\040b rw,nosuid - fuse.btrfuse /img/my\\040disk.img rw,user_id=0\n\
        91 22 0:51 / /mnt/c rw shared:7 master:2 - fuseblk.btrfuse /dev/loop0 rw\n\
        92 22 0:52 / /mnt/d rw - fuse.sshfs host: rw\n\
        93 91 0:53 / /mnt/c rw - tmpfs precious rw\n\
        94 92 0:54 / /mnt/d rw - fuse.btrfuse /img/other.img rw\n";

    #[test]
    fn our_mounts_are_found_among_others() {
        let mut found = parse(TABLE);
        found.retain(MountPoint::is_ours);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].path, Path::new("/mnt/a b"));
        assert_eq!(found[0].source, Path::new("/img/my disk.img"));
        assert_eq!((found[1].number, found[1].device.as_str()), (91, "0:51"));
        assert_eq!(found[1].source, Path::new("/dev/loop0"));
    }

    #[test]
    fn the_owner_of_a_mount_is_the_user_who_mounted() {
        assert_eq!(owner(TABLE, "0:50"), Some(0));
        assert_eq!(owner(TABLE, "0:52"), None);
    }

    #[test]
    fn a_mount_below_another_is_not_taken_for_the_one_on_top() {
        let at = |path: &str| choose(parse(TABLE), Path::new(path), None);
        assert!(matches!(at("/mnt/a b"), At::Ours(mount) if mount.number == 90));
        assert!(matches!(at("/mnt/c"), At::Covered(Some(by)) if by.kind == "tmpfs"));
        assert!(matches!(at("/mnt/d"), At::Ours(mount) if mount.number == 94));
        assert_eq!(at("/"), At::Nothing);
        assert_eq!(at("/mnt"), At::Nothing);
        // The path leads into another mount altogether: one further up covers all of these.
        let elsewhere = MountId::top_at(Path::new("/proc")).ok();
        assert!(elsewhere.is_some());
        let hidden = choose(parse(TABLE), Path::new("/mnt/a b"), elsewhere);
        assert_eq!(hidden, At::Covered(None));
    }
}
