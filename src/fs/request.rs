//! Who asks, and the small choices that requests carry.

use crate::error::{Error, Result};

/// Who asks. New inodes belong to `uid` and `gid`, never to the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The effective user id for file access.
    pub uid: u32,
    /// The effective group id for file access.
    pub gid: u32,
    /// The process's umask; it applies where no default ACL does.
    pub umask: u32,
    /// The process.
    pub pid: u32,
}

/// How `rename` treats an existing target (`renameat2(2)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenameFlags {
    /// Fail when the target exists.
    pub no_replace: bool,
    /// Swap the two names.
    pub exchange: bool,
    /// Leave a whiteout (a character device 0:0) at the old name.
    pub whiteout: bool,
}

impl RenameFlags {
    /// The flags of `renameat2(2)`.
    pub fn from_bits(bits: u32) -> Result<Self> {
        let known = libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE | libc::RENAME_WHITEOUT;
        if bits & !known != 0 {
            return Err(Error::Invalid("unknown rename flag"));
        }
        let flags = Self {
            no_replace: bits & libc::RENAME_NOREPLACE != 0,
            exchange: bits & libc::RENAME_EXCHANGE != 0,
            whiteout: bits & libc::RENAME_WHITEOUT != 0,
        };
        if flags.exchange && (flags.no_replace || flags.whiteout) {
            return Err(Error::Invalid(
                "RENAME_EXCHANGE excludes the other rename flags",
            ));
        }
        Ok(flags)
    }
}

/// How a write reached the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteFlags {
    /// Pages of the kernel's cache, acknowledged to the program earlier: no flag of the inode
    /// may refuse them any more.
    pub from_cache: bool,
    /// Clear set-id bits and file capabilities.
    pub kill_suidgid: bool,
    /// Set-group-id too where the group may not execute.
    pub leaves_group: bool,
}

/// What `seek` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// The next byte that may be data (`SEEK_DATA`).
    Data,
    /// The next hole, at the latest the end of the file (`SEEK_HOLE`).
    Hole,
}

/// Whether an extended attribute must exist before it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Either way.
    Any,
    /// It must not exist (`XATTR_CREATE`).
    Create,
    /// It must exist (`XATTR_REPLACE`).
    Replace,
}

impl XattrMode {
    /// The flags of `setxattr(2)`.
    pub fn from_bits(bits: i32) -> Result<Self> {
        match bits {
            0 => Ok(Self::Any),
            libc::XATTR_CREATE => Ok(Self::Create),
            libc::XATTR_REPLACE => Ok(Self::Replace),
            _ => Err(Error::Invalid("unknown setxattr flags")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchange_stands_alone() {
        assert!(RenameFlags::from_bits(libc::RENAME_EXCHANGE).is_ok());
        assert!(RenameFlags::from_bits(libc::RENAME_EXCHANGE | libc::RENAME_NOREPLACE).is_err());
        assert!(RenameFlags::from_bits(libc::RENAME_NOREPLACE | libc::RENAME_WHITEOUT).is_ok());
        assert!(RenameFlags::from_bits(8).is_err());
    }
}
