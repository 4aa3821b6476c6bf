//! Our mounts, as `/proc/self/mountinfo` shows them.

use super::Failure;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One btrfuse mount point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// `major:minor`: the same for all mount points of one mount.
    pub device: String,
    /// Where it is mounted.
    pub path: PathBuf,
    /// The image.
    pub source: PathBuf,
    /// `fuse.btrfuse` or `fuseblk.btrfuse`.
    pub kind: &'static str,
}

/// All mount points of btrfuse that this process can see, in mount order.
pub fn ours() -> Result<Vec<MountPoint>, Failure> {
    let bytes = std::fs::read("/proc/self/mountinfo")
        .map_err(|why| Failure::failed(format!("can't read /proc/self/mountinfo: {why}")))?;
    Ok(parse(&bytes))
}

/// The topmost of our mounts at exactly `path` (absolute), if there is one.
pub fn at(path: &Path) -> Result<Option<MountPoint>, Failure> {
    Ok(ours()?.into_iter().rev().find(|mount| mount.path == path))
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
    let (kind, source) = (*fields.get(dash + 1)?, *fields.get(dash + 2)?);
    let kind = match kind {
        b"fuse.btrfuse" => "fuse.btrfuse",
        b"fuseblk.btrfuse" => "fuseblk.btrfuse",
        _ => return None,
    };
    Some(MountPoint {
        device: String::from_utf8_lossy(fields.get(2)?).into_owned(),
        path: unescape(fields.get(4)?),
        source: unescape(source),
        kind,
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

    #[test]
    fn our_mounts_are_found_among_others() {
        let text = b"22 1 254:0 / / rw,relatime shared:1 - xfs /dev/vda rw\n\
            90 22 0:50 / /mnt/a\\040b rw,nosuid - fuse.btrfuse /img/my\\040disk.img rw,user_id=0\n\
            91 22 0:51 / /mnt/c rw shared:7 master:2 - fuseblk.btrfuse /dev/loop0 rw\n\
            92 22 0:52 / /mnt/d rw - fuse.sshfs host: rw\n";
        let found = parse(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].path, Path::new("/mnt/a b"));
        assert_eq!(found[0].source, Path::new("/img/my disk.img"));
        assert_eq!(
            (found[1].device.as_str(), found[1].source.to_str()),
            ("0:51", Some("/dev/loop0"))
        );
    }
}
