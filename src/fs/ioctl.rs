//! ioctls that carry their size: bytes in, bytes out.
//!
//! Owns: the numbers, layouts and answers of the ones that work through FUSE. Never: file
//! descriptors in arguments; they mean nothing here.

use super::access::Who;
use super::filesystem::{Filesystem, Node};
use super::inode_ref;
use super::node_id::{Identity, NodeId};
use super::subvolume::{self, IoctlAnswer};
use super::trim::TrimRange;
use crate::error::{Error, Result};
use crate::ondisk::{RootItem, Timespec, ids};

/// The numbers, as `<linux/fs.h>` and `<linux/btrfs.h>` define them.
///
/// What changes an inode is in here only if the kernel looks at each call before it hands it on:
/// `FS_IOC_SETFLAGS` and `FS_IOC_FSSETXATTR` come from the inode's owner, who is privileged where
/// that is asked for, and through a writable mount. The 32-bit spellings of the flags' numbers
/// (`FS_IOC32_*`) are translated for 32-bit programs; what still carries one is a 64-bit program
/// that went past all of that with any descriptor.
mod number {
    pub const FS_IOC_GETFLAGS: u32 = 0x8008_6601;
    pub const FS_IOC_SETFLAGS: u32 = 0x4008_6602;
    pub const FS_IOC_GETVERSION: u32 = 0x8008_7601;
    pub const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
    pub const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;
    pub const FS_IOC_GETFSLABEL: u32 = 0x8100_9431;
    pub const FITRIM: u32 = 0xc018_5879;
    pub const BTRFS_IOC_INO_LOOKUP: u32 = 0xd000_9412;
    pub const BTRFS_IOC_FS_INFO: u32 = 0x8400_941f;
    pub const BTRFS_IOC_GET_SUBVOL_INFO: u32 = 0x81f8_943c;
}

/// What a subvolume is, for `BTRFS_IOC_GET_SUBVOL_INFO`.
#[derive(Clone, Debug)]
pub struct SubvolInfo {
    /// Its tree id.
    pub treeid: u64,
    /// Its name in its parent; empty at the top.
    pub name: Vec<u8>,
    /// The tree that holds its entry; 0 at the top.
    pub parent_id: u64,
    /// The directory that holds its entry.
    pub dirid: u64,
    /// Its root item.
    pub item: RootItem,
}

/// Whether a request changes what stat(2) shows of the inode that it is made on.
pub fn changes_attributes(number: u32) -> bool {
    [number::FS_IOC_SETFLAGS, number::FS_IOC_FSSETXATTR].contains(&number)
}

/// Whether what the process may has a say in the answer.
pub fn asks_for_rights(number: u32) -> bool {
    // Flags were judged by the kernel, and what merely tells is for everybody.
    let judged = [
        number::FS_IOC_GETFLAGS,
        number::FS_IOC_SETFLAGS,
        number::FS_IOC_GETVERSION,
        number::FS_IOC_FSGETXATTR,
        number::FS_IOC_FSSETXATTR,
        number::FS_IOC_GETFSLABEL,
        number::BTRFS_IOC_FS_INFO,
        number::BTRFS_IOC_GET_SUBVOL_INFO,
    ];
    !judged.contains(&number)
}

impl SubvolInfo {
    /// `struct btrfs_ioctl_get_subvol_info_args`.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(504);
        let item = &self.item;
        out.extend(self.treeid.to_ne_bytes());
        let mut name = self.name.clone();
        name.truncate(255);
        name.resize(256, 0);
        out.extend(name);
        // The root item's own, other bits than those of `BTRFS_IOC_SUBVOL_GETFLAGS`.
        let flags = item.flags.get();
        for word in [self.parent_id, self.dirid, item.generation.get(), flags] {
            out.extend(word.to_ne_bytes());
        }
        for uuid in [item.uuid, item.parent_uuid, item.received_uuid] {
            out.extend(uuid);
        }
        for transid in [item.ctransid, item.otransid, item.stransid, item.rtransid] {
            out.extend(transid.get().to_ne_bytes());
        }
        let time = |time: &Timespec| {
            let mut raw = [0; 16];
            raw[..8].copy_from_slice(&time.seconds().to_ne_bytes());
            raw[8..12].copy_from_slice(&time.nsec.get().to_ne_bytes());
            raw
        };
        for stamp in [&item.ctime, &item.otime, &item.stime, &item.rtime] {
            out.extend(time(stamp));
        }
        out.resize(504, 0);
        out
    }
}

impl Filesystem {
    /// Answers an ioctl whose number carries its sizes; `NoTty` for one that isn't known.
    pub fn ioctl(
        &self,
        who: &Who<'_>,
        node: NodeId,
        cmd: u32,
        input: &[u8],
    ) -> Result<IoctlAnswer> {
        if cmd == number::FITRIM {
            if !who.admin {
                return Err(Error::NotPermitted(
                    "only root and the mount's owner may trim",
                ));
            }
            let range = TrimRange::decode(&first(input)?);
            return Ok(range.encode(self.trim(range)?).into());
        }
        match self.plain_ioctl(who, node, cmd, input) {
            Err(Error::NoTty) => self.subvolume_ioctl(who, node, cmd, input),
            answer => answer.map(IoctlAnswer::from),
        }
    }

    /// Those that answer bytes and change no names.
    fn plain_ioctl(&self, who: &Who<'_>, node: NodeId, cmd: u32, input: &[u8]) -> Result<Vec<u8>> {
        match cmd {
            number::FS_IOC_GETFLAGS => Ok(self.get_flags(node)?.to_ne_bytes().to_vec()),
            number::FS_IOC_SETFLAGS => {
                self.set_flags(&who.caller, node, u32::from_ne_bytes(first(input)?))?;
                Ok(Vec::new())
            }
            number::FS_IOC_GETVERSION => Ok((self.getattr(node)?.generation as u32)
                .to_ne_bytes()
                .to_vec()),
            number::FS_IOC_FSGETXATTR => Ok(self.get_fsxattr(node)?.to_vec()),
            number::FS_IOC_FSSETXATTR => {
                self.set_fsxattr(&who.caller, node, &first(input)?)?;
                Ok(Vec::new())
            }
            number::FS_IOC_GETFSLABEL => {
                let mut label = self.info().label;
                label.truncate(255);
                label.resize(256, 0);
                Ok(label)
            }
            number::BTRFS_IOC_INO_LOOKUP => self.ino_lookup_ioctl(who, node, input),
            number::BTRFS_IOC_FS_INFO => Ok(self.fs_info()),
            number::BTRFS_IOC_GET_SUBVOL_INFO => Ok(self.subvol_info(node)?.encode()),
            _ => Err(Error::NoTty),
        }
    }

    /// The subvolume of a node (for `treeid` 0), and the path of `objectid` in that tree, with
    /// a slash at its end; empty for the root directory.
    pub fn ino_lookup(&self, node: NodeId, treeid: u64, objectid: u64) -> Result<(u64, Vec<u8>)> {
        let treeid = match treeid {
            0 => self.subvol_of(node)?,
            given => given,
        };
        let root = subvolume::open(&self.ctx, treeid)?;
        let mut names = Vec::new();
        let mut at = objectid;
        while at != ids::FIRST_FREE_OBJECTID {
            let name = inode_ref::first(&self.ctx, &root, at)?.ok_or(Error::NotFound)?;
            at = name.parent;
            names.push(name.name);
            if names.iter().map(|name| name.len() + 1).sum::<usize>() > 4079 {
                return Err(Error::NameTooLong);
            }
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.extend_from_slice(name);
            path.push(b'/');
        }
        Ok((treeid, path))
    }

    fn ino_lookup_ioctl(&self, who: &Who<'_>, node: NodeId, input: &[u8]) -> Result<Vec<u8>> {
        let word = |at: usize| -> Result<u64> {
            Ok(u64::from_ne_bytes(first(
                input.get(at..).unwrap_or_default(),
            )?))
        };
        let (treeid, objectid) = (word(0)?, word(8)?);
        // Everybody may ask for the subvolume of what is open; paths lead past permissions.
        if objectid != ids::FIRST_FREE_OBJECTID && !who.admin {
            return Err(Error::NotPermitted(
                "only root and the mount's owner look up paths by inode number",
            ));
        }
        let (treeid, path) = self.ino_lookup(node, treeid, objectid)?;
        let mut out = Vec::with_capacity(4096);
        out.extend(treeid.to_ne_bytes());
        out.extend(objectid.to_ne_bytes());
        out.extend(path);
        out.resize(4096, 0);
        Ok(out)
    }

    /// `struct btrfs_ioctl_fs_info_args`.
    pub fn fs_info(&self) -> Vec<u8> {
        let superblock = self.engine.committer.superblock();
        let mut out = Vec::with_capacity(1024);
        let devices = superblock.num_devices.get();
        out.extend(devices.to_ne_bytes());
        out.extend(devices.to_ne_bytes());
        out.extend(superblock.fsid);
        let sectorsize = self.ctx.sectorsize;
        for word in [self.ctx.nodesize, sectorsize, sectorsize] {
            out.extend(word.to_ne_bytes());
        }
        let csum = self.engine.csums.csum_type();
        out.extend(superblock.csum_type.get().to_ne_bytes());
        out.extend((csum.size() as u16).to_ne_bytes());
        // Which of the fields that must be asked for are filled in: checksum and generation.
        out.extend(3u64.to_ne_bytes());
        out.extend(self.ctx.transactions.durable().get().to_ne_bytes());
        out.resize(1024, 0);
        out
    }

    /// What the node's subvolume is.
    pub fn subvol_info(&self, node: NodeId) -> Result<SubvolInfo> {
        let treeid = self.subvol_of(node)?;
        let root = subvolume::open(&self.ctx, treeid)?;
        let entry = subvolume::parent_entry(&self.ctx, treeid)?;
        let (parent_id, dirid, name) = entry.map_or_else(Default::default, |entry| {
            (entry.tree, entry.dirid, entry.name)
        });
        let item = *root.item();
        Ok(SubvolInfo {
            treeid,
            name,
            parent_id,
            dirid,
            item,
        })
    }

    pub(in crate::fs) fn subvol_of(&self, node: NodeId) -> Result<u64> {
        Ok(match self.node(node)? {
            Node::Inode(inode) => inode.root.objectid,
            Node::Stub(Identity::Stub { subvol, .. } | Identity::Inode { subvol, .. }) => subvol,
        })
    }
}

/// The first bytes of an argument.
fn first<const N: usize>(input: &[u8]) -> Result<[u8; N]> {
    input
        .get(..N)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(Error::Invalid("the ioctl's argument is too short"))
}
