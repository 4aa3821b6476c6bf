//! A filesystem in memory whose tree has a leaf to fight for.
//!
//! Owns: an image with 4 KiB nodes (as in the report), many leaves that the running transaction
//! made and nobody wrote, and the choice of two of them: one to be emptied, and a full one where
//! the next insert must split, and so allocate.

use crate::btree::{Root, TreeContext};
use crate::commit::mkfs::{self, MkfsOptions};
use crate::commit::{Engine, OpenOptions, open};
use crate::error::{Error, Result};
use crate::extent_buffer::Kind;
use crate::ondisk::check::Expect;
use crate::ondisk::ids::FS_TREE_OBJECTID;
use crate::ondisk::key::{Key, kind};
use crate::ondisk::tree_block::{leaf, level, node, nritems};
use crate::ondisk::{FromZeros, InodeItem};
use crate::sync::Arc;
use crate::units::{Logical, MIB};
use crate::volume::{MemoryDevice, Volume};

const NODESIZE: u32 = 4096;
const IMAGE_BYTES: u64 = 256 * MIB;
const INODES: u64 = 400;
/// Room for more inodes between two that are there from the start.
pub const INODE_STEP: u64 = 64;
const REGULAR_FILE: u32 = 0o100_644;

/// See the module.
pub struct Stage {
    /// The filesystem.
    pub engine: Engine,
    /// The tree of its files.
    pub root: Arc<Root>,
    /// All leaves of it, as they were before the last inserts.
    pub leaves: Vec<Leaf>,
    /// The leaf that will be emptied: X of the report.
    pub victim: Leaf,
    /// The key whose insert splits a full leaf.
    pub splitter: Key,
}

/// A leaf and what it holds.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    /// Where it is.
    pub bytenr: Logical,
    /// Its first key.
    pub first: Key,
    /// Its last key.
    pub last: Key,
    free_bytes: usize,
}

impl Stage {
    /// Makes the image, opens it with these rules, and fills the tree.
    pub fn set(protocol: Kind) -> Result<Self> {
        Self::set_on(Arc::new(make_image()?), protocol, INODES)
    }

    /// The same on an image that [`make_image`] made, with so many inodes (100 at least).
    pub fn set_on(device: Arc<MemoryDevice>, protocol: Kind, inodes: u64) -> Result<Self> {
        let engine = open_memory(device, protocol)?;
        let root = engine.ctx.roots.get(&engine.ctx, FS_TREE_OBJECTID)?;
        let ctx = engine.ctx.clone();
        for n in 1..=inodes {
            insert_inode(&ctx, &root, 256 + n * INODE_STEP)?;
        }
        let leaves = leaves(&ctx, &root)?;
        let (victim, full) = (leaves[leaves.len() / 2], leaves[leaves.len() / 2 + 3]);
        let splitter = fill(&ctx, &root, &full)?;
        Ok(Self {
            engine,
            root,
            leaves,
            victim,
            splitter,
        })
    }

    /// The tree's functions.
    pub fn ctx(&self) -> &Arc<TreeContext> {
        &self.engine.ctx
    }

    /// Inserts the inode that splits the full leaf.
    pub fn insert_splitter(&self) -> Result<()> {
        insert_inode(self.ctx(), &self.root, self.splitter.objectid)
    }
}

/// An image with nothing in it.
pub fn make_image() -> Result<MemoryDevice> {
    let device = MemoryDevice::zeroed(IMAGE_BYTES);
    let options = MkfsOptions {
        nodesize: NODESIZE,
        ..MkfsOptions::default()
    };
    mkfs::make(&device, &options)?;
    Ok(device)
}

/// Opens what is on a device; nothing commits by itself.
pub fn open_memory(device: Arc<MemoryDevice>, protocol: Kind) -> Result<Engine> {
    let (volume, superblock) = Volume::open(vec![device], false)?;
    let options = OpenOptions {
        background: false,
        protocol,
        ..OpenOptions::default()
    };
    open(Arc::new(volume), superblock, &options)
}

fn insert_inode(ctx: &TreeContext, root: &Root, ino: u64) -> Result<()> {
    let trans = ctx.transactions.join()?;
    let mut inode = InodeItem::new_zeroed();
    inode.generation.set(trans.transid().0);
    inode.transid.set(trans.transid().0);
    inode.nlink.set(1);
    inode.mode.set(REGULAR_FILE);
    ctx.insert(
        &trans,
        root,
        &Key::new(ino, kind::INODE_ITEM, 0),
        inode.as_bytes(),
    )
}

/// The leaves of a tree of two levels, in order.
fn leaves(ctx: &TreeContext, root: &Root) -> Result<Vec<Leaf>> {
    let top = ctx.cache.read(&Expect::at(root.node().bytenr))?.into_read();
    if level(&top) != 1 || nritems(&top) < 8 {
        return Err(Error::corrupt(
            "the stage's tree has another shape than planned",
        ));
    }
    (0..nritems(&top))
        .map(|slot| {
            let (bytenr, _) = node::ptr(&top, slot);
            let block = ctx.cache.read(&Expect::at(bytenr))?.into_read();
            Ok(Leaf {
                bytenr,
                first: leaf::item_key(&block, 0),
                last: leaf::item_key(&block, nritems(&block) - 1),
                free_bytes: leaf::free_space(&block),
            })
        })
        .collect()
}

/// Inserts into `full` until nothing fits, and returns the key of the next one.
fn fill(ctx: &TreeContext, root: &Root, full: &Leaf) -> Result<Key> {
    let item_bytes = InodeItem::SIZE + 25;
    let room = (full.free_bytes / item_bytes) as u64;
    for n in 1..=room {
        insert_inode(ctx, root, full.first.objectid + n)?;
    }
    Ok(Key::new(
        full.first.objectid + room + 1,
        kind::INODE_ITEM,
        0,
    ))
}
