//! Is what was seen what had to be?

use super::model::{Model, Node, Wanted};
use super::operation::{Seen, Stat, Time};
use rustix::fs::FileType;
use rustix::io::Errno;

/// In words what is wrong with an answer, if anything is.
pub fn judge(
    model: &Model,
    wanted: &Result<Wanted, Errno>,
    seen: &Result<Seen, Errno>,
) -> Result<(), String> {
    match (wanted, seen) {
        (Ok(wanted), Ok(seen)) => shown(model, wanted, seen),
        (Err(wanted), Err(seen)) if wanted == seen => Ok(()),
        (Err(wanted), Err(seen)) => Err(format!(
            "must be refused with {}, and was with {}",
            errno(*wanted),
            errno(*seen)
        )),
        (Err(wanted), Ok(_)) => Err(format!(
            "must be refused with {}, and wasn't",
            errno(*wanted)
        )),
        (Ok(_), Err(seen)) => Err(format!(
            "must be done, and was refused with {}",
            errno(*seen)
        )),
    }
}

fn shown(model: &Model, wanted: &Wanted, seen: &Seen) -> Result<(), String> {
    match (wanted, seen) {
        (Wanted::Done, Seen::Done) => Ok(()),
        (Wanted::Contents(id, offset, len), Seen::Bytes(bytes)) => {
            let Node::File(content) = &model.inode(*id).node else {
                return Err("bytes were read of what is no file".into());
            };
            let end = content.size().min(offset.saturating_add(*len));
            let must = end.saturating_sub(*offset);
            if bytes.len() as u64 != must {
                return Err(format!("must read {must} bytes, and reads {}", bytes.len()));
            }
            match content.compare(*offset, bytes) {
                None => Ok(()),
                Some(mismatch) => Err(mismatch.to_string()),
            }
        }
        (Wanted::Bytes(wanted), Seen::Bytes(seen)) if wanted == seen => Ok(()),
        (Wanted::Bytes(wanted), Seen::Bytes(seen)) => Err(format!(
            "must show other bytes ({} of them, not {})",
            wanted.len(),
            seen.len()
        )),
        (Wanted::Names(wanted), Seen::Names(seen)) => names(wanted, seen),
        (Wanted::Count(wanted), Seen::Count(seen)) if wanted == seen => Ok(()),
        (Wanted::Count(wanted), Seen::Count(seen)) => {
            Err(format!("must be {wanted} bytes, and is {seen}"))
        }
        (Wanted::Sought(id, offset), Seen::Sought { data, hole }) => {
            sought(model, *id, *offset, *data, *hole)
        }
        (Wanted::Stat(wanted, mtime), Seen::Stat(seen)) => stat(wanted, *mtime, seen),
        (wanted, seen) => Err(format!("must show {wanted:?}, and shows {seen:?}")),
    }
}

/// Both are sorted.
fn names(wanted: &[Vec<u8>], seen: &[Vec<u8>]) -> Result<(), String> {
    let words = |name: &Vec<u8>| super::name::Name(name.clone()).to_string();
    if let Some(missing) = wanted.iter().find(|name| seen.binary_search(name).is_err()) {
        return Err(format!("{} must be listed, and isn't", words(missing)));
    }
    if let Some(extra) = seen.iter().find(|name| wanted.binary_search(name).is_err()) {
        return Err(format!("{} is listed, and mustn't be", words(extra)));
    }
    if wanted.len() != seen.len() {
        return Err(format!(
            "{} names must be listed, not {}",
            wanted.len(),
            seen.len()
        ));
    }
    Ok(())
}

fn sought(
    model: &Model,
    id: u64,
    offset: u64,
    data: Option<u64>,
    hole: Option<u64>,
) -> Result<(), String> {
    let Node::File(content) = &model.inode(id).node else {
        return Err("data was sought in what is no file".into());
    };
    let size = content.size();
    if offset >= size {
        return match (data, hole) {
            (None, None) => Ok(()),
            _ => Err(format!(
                "there is nothing to find at {offset} of {size} bytes"
            )),
        };
    }
    match data {
        None if !content.is_zero(offset, size) => {
            return Err(format!(
                "SEEK_DATA from {offset} finds none, and there is some"
            ));
        }
        Some(at) if at < offset || at >= size => {
            return Err(format!(
                "SEEK_DATA from {offset} finds {at} of {size} bytes"
            ));
        }
        Some(at) if !content.is_zero(offset, at) => {
            return Err(format!(
                "SEEK_DATA from {offset} finds {at}, and there is some before"
            ));
        }
        _ => {}
    }
    match hole {
        None => Err(format!(
            "SEEK_HOLE from {offset} finds nothing, not even the end"
        )),
        Some(at) if at < offset || at > size => Err(format!(
            "SEEK_HOLE from {offset} finds {at} of {size} bytes"
        )),
        Some(at) if at < size && !content.is_zero(at, at + 1) => {
            Err(format!("SEEK_HOLE from {offset} finds {at}, where data is"))
        }
        Some(_) => Ok(()),
    }
}

/// What of an inode isn't as it must be.
pub fn stat(wanted: &Stat, mtime: Option<Time>, seen: &Stat) -> Result<(), String> {
    let is_directory = wanted.kind == FileType::Directory;
    let mut wrong = Vec::new();
    let mut must = |what: &str, same: bool, wanted: String, seen: String| {
        if !same {
            wrong.push(format!("{what} must be {wanted}, and is {seen}"));
        }
    };
    let words = |kind: FileType| format!("{kind:?}");
    must(
        "the type",
        wanted.kind == seen.kind,
        words(wanted.kind),
        words(seen.kind),
    );
    let (mode, shown) = (format!("{:o}", wanted.mode), format!("{:o}", seen.mode));
    must("the mode", wanted.mode == seen.mode, mode, shown);
    for (what, wanted, seen) in [
        ("the owner", wanted.uid.into(), seen.uid.into()),
        ("the group", wanted.gid.into(), seen.gid.into()),
        // Filesystems count a directory's links and bytes as they like.
        (
            "the link count",
            wanted.links,
            if is_directory {
                wanted.links
            } else {
                seen.links
            },
        ),
        (
            "the size",
            wanted.size,
            if is_directory { wanted.size } else { seen.size },
        ),
        ("the device", pair(wanted.device), pair(seen.device)),
    ] {
        must(what, wanted == seen, wanted.to_string(), seen.to_string());
    }
    if let Some(mtime) = mtime {
        must(
            "mtime",
            mtime == seen.mtime,
            format!("{mtime:?}"),
            format!("{:?}", seen.mtime),
        );
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("; "))
    }
}

fn pair((major, minor): (u32, u32)) -> u64 {
    u64::from(major) << 32 | u64::from(minor)
}

/// As headers call it where that is common, else in the system's words.
pub fn errno(errno: Errno) -> String {
    let name = match errno {
        Errno::NOENT => "ENOENT",
        Errno::EXIST => "EEXIST",
        Errno::NOTEMPTY => "ENOTEMPTY",
        Errno::ISDIR => "EISDIR",
        Errno::NOTDIR => "ENOTDIR",
        Errno::INVAL => "EINVAL",
        Errno::PERM => "EPERM",
        Errno::ACCESS => "EACCES",
        Errno::NODATA => "ENODATA",
        Errno::LOOP => "ELOOP",
        Errno::NXIO => "ENXIO",
        Errno::IO => "EIO",
        Errno::ROFS => "EROFS",
        Errno::NOSPC => "ENOSPC",
        Errno::UCLEAN => "EUCLEAN",
        Errno::NOTCONN => "ENOTCONN",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::MLINK => "EMLINK",
        Errno::STALE => "ESTALE",
        Errno::XDEV => "EXDEV",
        other => return other.to_string(),
    };
    name.to_owned()
}
