//! The one error of the library, and its errno.
//!
//! Owns: every way an operation can fail. Invariant: [`Error::errno`] is an exhaustive match,
//! so a new failure must say what programs will see.

use crate::sync::Arc;
use crate::units::Logical;
use std::io;

/// What every fallible function of the library returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, in words for people and with [`Error::errno`] for programs.
///
/// Cloneable, because one failed write-out answers every waiter.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Disk bytes contradict the format or each other: `EUCLEAN`.
    #[error("{0}")]
    Corrupt(Corrupt),
    /// A device refused a read, write or flush: `EIO`.
    #[error("{what}: {source}")]
    Device {
        /// What was tried: the verb, the device and the offset.
        what: String,
        /// What the system answered.
        source: Arc<io::Error>,
    },
    /// No copy of the block or data could be believed: `EIO`.
    #[error("{0}")]
    NoGoodCopy(String),
    /// The image needs something that this program doesn't do: `EOPNOTSUPP`. The text names
    /// the feature bit and what the user can do.
    #[error("{0}")]
    Unsupported(String),
    /// The image or mount can't be written; the text says why: `EROFS`.
    #[error("read-only: {0}")]
    ReadOnly(String),
    /// A transaction was aborted by an earlier error and the mount is read-only: `EROFS`.
    #[error("the filesystem turned read-only after an error: {0}")]
    Aborted(String),
    /// No space is left, decided before the first edit: `ENOSPC`.
    #[error("no space left")]
    NoSpace,
    /// No such entry, inode or item: `ENOENT`.
    #[error("not found")]
    NotFound,
    /// The name is taken: `EEXIST`.
    #[error("already exists")]
    Exists,
    /// A directory was needed: `ENOTDIR`.
    #[error("not a directory")]
    NotDir,
    /// A directory was not wanted: `EISDIR`.
    #[error("is a directory")]
    IsDir,
    /// The directory has entries: `ENOTEMPTY`.
    #[error("directory not empty")]
    NotEmpty,
    /// A name over 255 bytes: `ENAMETOOLONG`.
    #[error("name too long")]
    NameTooLong,
    /// The inode can't take one more hard link: `EMLINK`.
    #[error("too many links")]
    TooManyLinks,
    /// The request contradicts itself: `EINVAL`.
    #[error("invalid: {0}")]
    Invalid(&'static str),
    /// Not allowed, whoever asks (immutable, append-only, …): `EPERM`.
    #[error("not permitted: {0}")]
    NotPermitted(&'static str),
    /// Not allowed to this caller: `EACCES`.
    #[error("permission denied")]
    Access,
    /// Links and renames stay inside one subvolume: `EXDEV`.
    #[error("crosses a subvolume or filesystem")]
    CrossDevice,
    /// No such extended attribute: `ENODATA`.
    #[error("no such attribute")]
    NoData,
    /// The caller's buffer is too small: `ERANGE`.
    #[error("buffer too small")]
    Range,
    /// The file would be larger than the format or the caller's limit allows: `EFBIG`.
    #[error("file too large")]
    FileTooBig,
    /// A name-hash bucket or a number is full: `EOVERFLOW`.
    #[error("too large for the format")]
    Overflow,
    /// Nothing at or after that offset: `ENXIO`.
    #[error("no data or hole there")]
    NoSuchRange,
    /// Used by someone else: `EBUSY`. The text names whom, where known.
    #[error("{0}")]
    Busy(String),
    /// The operation isn't one of ours, though a filesystem may have it: `EOPNOTSUPP`.
    #[error("operation not supported")]
    NotSupported,
    /// The ioctl isn't known: `ENOTTY`.
    #[error("unknown ioctl")]
    NoTty,
    /// A handle whose inode is gone: `ESTALE`.
    #[error("stale handle")]
    Stale,
}

/// Where and why bytes of the disk weren't believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// The tree block or extent, where known.
    pub at: Option<Logical>,
    /// The slot in that block.
    pub slot: Option<usize>,
    /// What is wrong, in words, with the value found and the one expected.
    pub reason: String,
}

impl std::fmt::Display for Corrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("corrupt")?;
        if let Some(at) = self.at {
            write!(f, " block {at}")?;
        }
        if let Some(slot) = self.slot {
            write!(f, " slot {slot}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl Error {
    /// Corruption in a tree block.
    pub fn corrupt_block(at: Logical, slot: Option<usize>, reason: impl Into<String>) -> Self {
        Self::Corrupt(Corrupt {
            at: Some(at),
            slot,
            reason: reason.into(),
        })
    }

    /// Corruption that no block can be blamed for: superblock, relations between items.
    pub fn corrupt(reason: impl Into<String>) -> Self {
        Self::Corrupt(Corrupt {
            at: None,
            slot: None,
            reason: reason.into(),
        })
    }

    /// A failed device operation.
    pub fn device(what: impl Into<String>, source: io::Error) -> Self {
        Self::Device {
            what: what.into(),
            source: Arc::new(source),
        }
    }

    /// The number that a program sees (`errno(3)`).
    pub fn errno(&self) -> i32 {
        match self {
            Self::Corrupt(_) => libc::EUCLEAN,
            Self::Device { source, .. } => match source.raw_os_error() {
                // A sparse image on a full host: the one device error that has its own name.
                Some(libc::ENOSPC) => libc::ENOSPC,
                _ => libc::EIO,
            },
            Self::NoGoodCopy(_) => libc::EIO,
            Self::Unsupported(_) | Self::NotSupported => libc::EOPNOTSUPP,
            Self::ReadOnly(_) | Self::Aborted(_) => libc::EROFS,
            Self::NoSpace => libc::ENOSPC,
            Self::NotFound => libc::ENOENT,
            Self::Exists => libc::EEXIST,
            Self::NotDir => libc::ENOTDIR,
            Self::IsDir => libc::EISDIR,
            Self::NotEmpty => libc::ENOTEMPTY,
            Self::NameTooLong => libc::ENAMETOOLONG,
            Self::TooManyLinks => libc::EMLINK,
            Self::Invalid(_) => libc::EINVAL,
            Self::NotPermitted(_) => libc::EPERM,
            Self::Access => libc::EACCES,
            Self::CrossDevice => libc::EXDEV,
            Self::NoData => libc::ENODATA,
            Self::Range => libc::ERANGE,
            Self::FileTooBig => libc::EFBIG,
            Self::Overflow => libc::EOVERFLOW,
            Self::NoSuchRange => libc::ENXIO,
            Self::Busy(_) => libc::EBUSY,
            Self::NoTty => libc::ENOTTY,
            Self::Stale => libc::ESTALE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corruption_names_block_slot_and_reason() {
        let error = Error::corrupt_block(Logical(30408704), Some(3), "item ends at 16384");
        assert_eq!(
            error.to_string(),
            "corrupt block 30408704 slot 3: item ends at 16384"
        );
        assert_eq!(error.errno(), libc::EUCLEAN);
    }

    #[test]
    fn a_full_host_is_reported_as_no_space() {
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(Error::device("write", full).errno(), libc::ENOSPC);
        let broken = io::Error::from_raw_os_error(libc::EREMOTEIO);
        assert_eq!(Error::device("write", broken).errno(), libc::EIO);
    }
}
