//! How full the filesystem is.

use super::filesystem::Filesystem;
use crate::error::Result;
use crate::ondisk::{CsumType, NAME_LEN_MAX};

/// What `statfs` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatFs {
    /// The unit of the block counts.
    pub block_size: u32,
    /// Size of the filesystem.
    pub blocks: u64,
    /// Free, also for what only root or the filesystem itself may use.
    pub free: u64,
    /// Free for file content.
    pub available: u64,
    /// Inodes; 0, since there is no fixed number of them.
    pub files: u64,
    /// Free inodes; 0 likewise.
    pub files_free: u64,
    /// The longest name.
    pub name_max: u32,
}

/// What is known about a mounted filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsInfo {
    /// The filesystem's id.
    pub fsid: [u8; 16],
    /// Its label; any bytes but zero.
    pub label: Vec<u8>,
    /// Bytes in a tree block.
    pub nodesize: u32,
    /// Bytes in a data block.
    pub sectorsize: u32,
    /// The last commit.
    pub generation: u64,
    /// The mounted subvolume's tree id.
    pub subvol: u64,
    /// The checksum.
    pub csum: CsumType,
}

impl Filesystem {
    /// How full it is, in sectors.
    pub fn statfs(&self) -> Result<StatFs> {
        let numbers = self.ctx.space.numbers();
        let sectorsize = u64::from(self.ctx.sectorsize);
        Ok(StatFs {
            block_size: self.ctx.sectorsize,
            blocks: numbers.size / sectorsize,
            free: numbers.free / sectorsize,
            available: numbers.available / sectorsize,
            files: 0,
            files_free: 0,
            name_max: NAME_LEN_MAX as u32,
        })
    }

    /// What it is.
    pub fn info(&self) -> FsInfo {
        let superblock = self.engine.committer.superblock();
        let label = superblock
            .label
            .iter()
            .copied()
            .take_while(|byte| *byte != 0)
            .collect();
        FsInfo {
            fsid: superblock.fsid,
            label,
            nodesize: self.ctx.nodesize,
            sectorsize: self.ctx.sectorsize,
            generation: self.ctx.transactions.durable().get(),
            subvol: self.ids.mounted(),
            csum: self.engine.csums.csum_type(),
        }
    }
}
