//! Which mount is on top at a directory, asked without a word to the daemon behind it.
//!
//! A path leads to whatever was mounted there last. Who takes a mount out of the tree compares
//! first, or a mount of somebody else's goes in its place.

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use std::io;
use std::path::Path;

/// `STATX_MNT_ID`, in an answer: the kernel tells the mount's number.
const TELLS_ID: u32 = 0x1000;

/// One mount, as the kernel numbers them. Both numbers are given again once their mount is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountId {
    /// `major:minor` of what is mounted.
    device: (u32, u32),
    /// The number in `/proc/self/mountinfo`; kernels before 5.8 don't tell it here.
    number: Option<u64>,
}

impl MountId {
    /// The mount that a path leads to.
    pub fn top_at(path: &Path) -> io::Result<Self> {
        // The last two: of a FUSE mount the kernel's own knowledge, so that neither a daemon that
        // doesn't answer nor another user's mount is in the way.
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        let found = statx(CWD, path, flags, StatxFlags::empty())?;
        let told = found.stx_mask & TELLS_ID != 0;
        Ok(Self {
            device: (found.stx_dev_major, found.stx_dev_minor),
            number: told.then_some(found.stx_mnt_id),
        })
    }

    /// `major:minor`.
    pub fn device(&self) -> String {
        format!("{}:{}", self.device.0, self.device.1)
    }

    /// Whether this is the mount of a line in mountinfo.
    pub fn is(&self, number: u64, device: &str) -> bool {
        self.device() == device && self.number.is_none_or(|ours| ours == number)
    }

    /// Whether the mount is in this process's tree, wherever.
    pub fn is_in_tree(&self) -> bool {
        table(|number, _, device| self.is(number, device))
    }

    /// Whether something is mounted on it: over its root, or on a directory in it.
    pub fn carries_others(&self) -> bool {
        table(|_, parent, _| self.number == Some(parent))
    }
}

/// Whether `wanted` takes a line of `/proc/self/mountinfo`: a mount's number, its parent's, and
/// `major:minor`.
fn table(wanted: impl Fn(u64, u64, &str) -> bool) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().any(|line| {
        let mut fields = line.split(' ');
        let mut number = || fields.next().and_then(|field| field.parse().ok());
        let (own, parent) = (number(), number());
        own.zip(parent)
            .zip(fields.next())
            .is_some_and(|((own, parent), device)| wanted(own, parent, device))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_numbers() {
        let proc = MountId::top_at(Path::new("/proc")).unwrap();
        assert_eq!(proc, MountId::top_at(Path::new("/proc")).unwrap());
        assert_ne!(proc, MountId::top_at(Path::new("/")).unwrap());
        assert!(proc.is_in_tree());
        assert!(MountId::top_at(Path::new("/")).unwrap().carries_others());
        let number = proc.number.expect("a kernel since 5.8");
        assert!(proc.is(number, &proc.device()));
        assert!(!proc.is(number + 1, &proc.device()));
        assert!(!proc.is(number, "1:2"));
        let gone = MountId {
            number: Some(u64::MAX),
            ..proc
        };
        assert!(!gone.is_in_tree() && !gone.carries_others());
    }
}
