//! Inode flags as `chattr` and `FS_IOC_FSSETXATTR` know them.
//!
//! Owns: the translation between the three spellings of the same bits, and which changes are
//! possible. Who may set immutable and append-only was checked by the kernel.

use super::attr::{FileKind, Timestamp};
use super::filesystem::{Filesystem, Node};
use super::inode::{Inode, has_unknown_flags};
use super::node_id::NodeId;
use super::request::Caller;
use super::xattr::{self, COMPRESSION_NAME};
use crate::allocator::Steal;
use crate::error::{Error, Result};
use crate::ondisk::{
    INODE_APPEND, INODE_COMPRESS, INODE_DIRSYNC, INODE_IMMUTABLE, INODE_NOATIME, INODE_NOCOMPRESS,
    INODE_NODATACOW, INODE_NODATASUM, INODE_NODUMP, INODE_RO_VERITY, INODE_SYNC,
};
use crate::sync::Arc;

const FS_COMPR: u32 = 0x4;
const FS_SYNC: u32 = 0x8;
const FS_IMMUTABLE: u32 = 0x10;
const FS_APPEND: u32 = 0x20;
const FS_NODUMP: u32 = 0x40;
const FS_NOATIME: u32 = 0x80;
const FS_NOCOMP: u32 = 0x400;
const FS_DIRSYNC: u32 = 0x1_0000;
const FS_VERITY: u32 = 0x10_0000;
const FS_NOCOW: u32 = 0x80_0000;

const SETTABLE: u32 = FS_COMPR
    | FS_SYNC
    | FS_IMMUTABLE
    | FS_APPEND
    | FS_NODUMP
    | FS_NOATIME
    | FS_NOCOMP
    | FS_DIRSYNC
    | FS_NOCOW;

/// (`FS_*_FL`, `FS_XFLAG_*`, `BTRFS_INODE_*`) of the flags that all three know.
const SIMPLE: [(u32, u32, u64); 5] = [
    (FS_IMMUTABLE, 0x8, INODE_IMMUTABLE),
    (FS_APPEND, 0x10, INODE_APPEND),
    (FS_SYNC, 0x20, INODE_SYNC),
    (FS_NOATIME, 0x40, INODE_NOATIME),
    (FS_NODUMP, 0x80, INODE_NODUMP),
];

/// Bytes of `struct fsxattr`.
const FSXATTR_SIZE: usize = 28;

fn to_fs(flags: u64) -> u32 {
    let mut fs = 0;
    for (bit, _, inode) in SIMPLE {
        fs |= if flags & inode != 0 { bit } else { 0 };
    }
    for (bit, inode) in [
        (FS_DIRSYNC, INODE_DIRSYNC),
        (FS_NOCOW, INODE_NODATACOW),
        (FS_VERITY, INODE_RO_VERITY),
    ] {
        fs |= if flags & inode != 0 { bit } else { 0 };
    }
    if flags & INODE_NOCOMPRESS != 0 {
        fs |= FS_NOCOMP;
    } else if flags & INODE_COMPRESS != 0 {
        fs |= FS_COMPR;
    }
    fs
}

/// The part of the flags that means something for an inode of this kind.
fn meaningful(kind: FileKind, fs: u32) -> u32 {
    match kind {
        FileKind::Directory => fs,
        FileKind::Regular => fs & !FS_DIRSYNC,
        _ => fs & (FS_NODUMP | FS_NOATIME),
    }
}

/// The inode flags after `fs` was asked for.
fn from_fs(kind: FileKind, old: u64, size: u64, fs: u32) -> Result<u64> {
    if fs & FS_NOCOMP != 0 && fs & FS_COMPR != 0 {
        return Err(Error::Invalid(
            "compress and don't compress exclude each other",
        ));
    }
    if fs & FS_COMPR != 0 && fs & FS_NOCOW != 0 {
        return Err(Error::Invalid(
            "content that is overwritten in place can't be compressed",
        ));
    }
    // From one to the other by neither: so says the kernel, which lets "don't compress" and
    // "overwrite in place" be set at once.
    let (choice, had) = (FS_COMPR | FS_NOCOMP, to_fs(old));
    if had & FS_NOCOW != 0 && fs & choice != 0 || had & choice != 0 && fs & FS_NOCOW != 0 {
        return Err(Error::Invalid(
            "a choice of compression and overwriting in place exclude each other",
        ));
    }
    let mut new = old;
    for (bit, _, inode) in SIMPLE {
        new = if fs & bit != 0 {
            new | inode
        } else {
            new & !inode
        };
    }
    new = if fs & FS_DIRSYNC != 0 {
        new | INODE_DIRSYNC
    } else {
        new & !INODE_DIRSYNC
    };
    let nocow = INODE_NODATACOW | INODE_NODATASUM;
    match kind {
        // Content that exists has checksums or not; only an empty file may change sides.
        FileKind::Regular if size == 0 => {
            new = if fs & FS_NOCOW != 0 {
                new | nocow
            } else {
                new & !nocow
            };
        }
        FileKind::Directory => {
            new = if fs & FS_NOCOW != 0 {
                new | INODE_NODATACOW
            } else {
                new & !INODE_NODATACOW
            };
        }
        _ => {}
    }
    new &= !(INODE_COMPRESS | INODE_NOCOMPRESS);
    if fs & FS_NOCOMP != 0 {
        new |= INODE_NOCOMPRESS;
    } else if fs & FS_COMPR != 0 {
        new |= INODE_COMPRESS;
    }
    Ok(new)
}

impl Filesystem {
    /// `FS_IOC_GETFLAGS`: what `lsattr` shows.
    pub fn get_flags(&self, node: NodeId) -> Result<u32> {
        let Node::Inode(inode) = self.node(node)? else {
            return Ok(0);
        };
        let flags = inode.meta.lock().flags;
        Ok(to_fs(flags))
    }

    /// `FS_IOC_SETFLAGS`: what `chattr` sets.
    pub fn set_flags(&self, _caller: &Caller, node: NodeId, flags: u32) -> Result<()> {
        let inode = self.inode(node)?;
        self.want_writable(&inode.root)?;
        // Verity is shown, and may be handed back unchanged.
        let flags = flags & !FS_VERITY;
        if flags & !SETTABLE != 0 {
            return Err(Error::NotSupported);
        }
        self.change_flags(&inode, |old, size| {
            from_fs(inode.kind, old, size, meaningful(inode.kind, flags))
        })
    }

    /// `FS_IOC_FSGETXATTR`: a `struct fsxattr`.
    pub fn get_fsxattr(&self, node: NodeId) -> Result<[u8; FSXATTR_SIZE]> {
        let mut raw = [0; FSXATTR_SIZE];
        if let Node::Inode(inode) = self.node(node)? {
            let flags = inode.meta.lock().flags;
            let mut xflags: u32 = 0;
            for (_, bit, inode) in SIMPLE {
                xflags |= if flags & inode != 0 { bit } else { 0 };
            }
            raw[..4].copy_from_slice(&xflags.to_ne_bytes());
        }
        Ok(raw)
    }

    /// `FS_IOC_FSSETXATTR`: only the flags can be set.
    pub fn set_fsxattr(
        &self,
        _caller: &Caller,
        node: NodeId,
        raw: &[u8; FSXATTR_SIZE],
    ) -> Result<()> {
        let inode = self.inode(node)?;
        self.want_writable(&inode.root)?;
        let word = |at: usize| u32::from_ne_bytes(raw[at..at + 4].try_into().expect("4 bytes"));
        let xflags = word(0);
        let known = SIMPLE.iter().fold(0, |all, (_, bit, _)| all | bit);
        if xflags & !known != 0 {
            return Err(Error::NotSupported);
        }
        if [word(4), word(12), word(16)]
            .iter()
            .any(|value| *value != 0)
        {
            // btrfs has no extent sizes and no projects.
            return Err(Error::NotSupported);
        }
        self.change_flags(&inode, |old, _| {
            Ok(SIMPLE.iter().fold(old, |flags, (_, bit, inode)| {
                if xflags & bit != 0 {
                    flags | inode
                } else {
                    flags & !inode
                }
            }))
        })
    }

    fn change_flags(
        &self,
        inode: &Arc<Inode>,
        change: impl Fn(u64, u64) -> Result<u64>,
    ) -> Result<()> {
        let _names = inode.names.write();
        let (old, size) = {
            let meta = inode.meta.lock();
            (meta.flags, meta.size)
        };
        if has_unknown_flags(old) {
            return Err(Error::NotPermitted("the inode has flags from the future"));
        }
        let new = change(old, size)?;
        if new == old {
            return Ok(());
        }
        let choice = INODE_COMPRESS | INODE_NOCOMPRESS;
        let property = (new & choice != old & choice)
            .then(|| (new & INODE_COMPRESS != 0).then_some(&b"zlib"[..]));
        let had_property = xattr::read(&self.ctx, inode, COMPRESSION_NAME)?.is_some();
        let ticket = self.ticket(Steal::No)?;
        let reservation = self.reserve(1, Steal::No)?;
        // From here on nothing is written, written back or preallocated: whether content has
        // checksums is asked of an empty file and stays true, and no flag is lost.
        let _content = inode.content.write();
        let new = {
            let meta = inode.meta.lock();
            change(meta.flags, meta.size)?
        };
        self.with_trans(reservation, |trans| {
            match property {
                Some(None) if !had_property => {}
                Some(value) => xattr::write(&self.ctx, trans, inode, COMPRESSION_NAME, value)?,
                None => {}
            }
            let mut meta = inode.meta.lock();
            meta.flags = new;
            meta.inheritance = None;
            meta.touch(Timestamp::now());
            self.mark_dirty(inode, &mut meta, ticket);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_lead_back() {
        for fs in [
            FS_IMMUTABLE | FS_NODUMP,
            FS_COMPR,
            FS_NOCOMP | FS_SYNC,
            FS_NOCOW,
            FS_DIRSYNC,
        ] {
            let flags = from_fs(FileKind::Directory, 0, 0, fs).unwrap();
            assert_eq!(to_fs(flags), fs);
            assert_eq!(from_fs(FileKind::Directory, flags, 0, 0).unwrap(), 0);
        }
        assert!(from_fs(FileKind::Regular, 0, 0, FS_COMPR | FS_NOCOMP).is_err());
        assert!(from_fs(FileKind::Regular, 0, 0, FS_COMPR | FS_NOCOW).is_err());
        for (had, wanted) in [(INODE_NODATACOW, FS_COMPR), (INODE_NODATACOW, FS_NOCOMP)] {
            assert!(from_fs(FileKind::Directory, had, 0, wanted).is_err());
        }
        for had in [INODE_COMPRESS, INODE_NOCOMPRESS] {
            assert!(from_fs(FileKind::Regular, had, 0, FS_NOCOW).is_err());
        }
        assert!(from_fs(FileKind::Regular, 0, 0, FS_NOCOMP | FS_NOCOW).is_ok());
    }

    #[test]
    fn only_an_empty_file_turns_nocow() {
        assert_eq!(
            from_fs(FileKind::Regular, 0, 0, FS_NOCOW).unwrap(),
            INODE_NODATACOW | INODE_NODATASUM
        );
        assert_eq!(from_fs(FileKind::Regular, 0, 1, FS_NOCOW).unwrap(), 0);
    }
}
