//! What is under the cache: where blocks are read from and written to, and who judges them.
//!
//! Owns: the seam between the cache and the volume, so that the cache can be tested without
//! one. Invariant: bytes that come out of `read` have been judged, and bytes that go in have
//! been judged and sealed.

use crate::error::Result;
use crate::ondisk::check::{self, CheckContext, Expect};
use crate::ondisk::{Uuid, tree_block};
use crate::sync::Arc;
use crate::units::Logical;
use crate::volume::Volume;

/// Reads, judges, seals and writes tree blocks.
pub trait Backing: Send + Sync {
    /// Bytes of a tree block.
    fn nodesize(&self) -> u32;

    /// The filesystem's metadata uuid, for new headers.
    fn fsid(&self) -> Uuid;

    /// The chunk tree's uuid, for new headers.
    fn chunk_tree_uuid(&self) -> Uuid;

    /// Reads a block that is as expected, from any mirror.
    fn read(&self, expect: &Expect, block: &mut [u8]) -> Result<()>;

    /// Judges a block that is to be written, and fits its checksum.
    fn seal(&self, at: Logical, block: &mut [u8]) -> Result<()>;

    /// Writes sealed blocks that follow each other, to all mirrors.
    fn write(&self, at: Logical, blocks: &[u8]) -> Result<()>;
}

/// A volume's tree blocks.
pub struct VolumeBacking {
    volume: Arc<Volume>,
    check: CheckContext,
    chunk_tree_uuid: Uuid,
}

impl VolumeBacking {
    /// The blocks of `volume`, judged in `check`.
    pub fn new(volume: Arc<Volume>, check: CheckContext, chunk_tree_uuid: Uuid) -> Self {
        Self {
            volume,
            check,
            chunk_tree_uuid,
        }
    }
}

impl Backing for VolumeBacking {
    fn nodesize(&self) -> u32 {
        self.check.nodesize
    }

    fn fsid(&self) -> Uuid {
        self.check.fsid
    }

    fn chunk_tree_uuid(&self) -> Uuid {
        self.chunk_tree_uuid
    }

    fn read(&self, expect: &Expect, block: &mut [u8]) -> Result<()> {
        self.volume.read_verified(expect.at, block, &mut |bytes| {
            check::check_block(&self.check, expect, bytes)
        })
    }

    fn seal(&self, at: Logical, block: &mut [u8]) -> Result<()> {
        let header = tree_block::header(block);
        let expect = Expect {
            level: Some(header.level),
            ..Expect::at(at)
        };
        check::check_contents(&self.check, &expect, block)?;
        check::seal_block(&self.check, block);
        Ok(())
    }

    fn write(&self, at: Logical, blocks: &[u8]) -> Result<()> {
        self.volume.write(at, blocks)
    }
}
