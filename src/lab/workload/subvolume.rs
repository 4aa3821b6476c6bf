//! Subvolumes and snapshots by path, where the filesystem is a btrfs that can make them: the
//! kernel's, or ours.

use crate::fuse::subvolumes::{self, open};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Makes an empty subvolume.
pub fn create(path: &Path) -> Result<(), Errno> {
    let (parent, name) = split(path)?;
    subvolumes::create(&parent, name)
}

/// Makes a read-only snapshot of the subvolume `of` at `path`.
pub fn snapshot(of: &Path, path: &Path) -> Result<(), Errno> {
    let (parent, name) = split(path)?;
    subvolumes::snapshot(&open(of)?, &parent, name, true)
}

/// Removes a subvolume or snapshot with all that is in it.
pub fn destroy(path: &Path) -> Result<(), Errno> {
    let (parent, name) = split(path)?;
    subvolumes::delete(&parent, name)
}

fn split(path: &Path) -> Result<(OwnedFd, &[u8]), Errno> {
    let parent = path.parent().ok_or(Errno::INVAL)?;
    let name = path.file_name().map(OsStr::as_bytes).ok_or(Errno::INVAL)?;
    Ok((open(parent)?, name))
}
