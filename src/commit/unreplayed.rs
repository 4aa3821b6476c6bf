//! A log tree that waits for its replay.
//!
//! Owns: finding the log of each subvolume, and keeping what only logs name out of the allocator.
//! No committed tree knows the blocks of a log, nor the data extents that were written for it: to
//! free-space tree and extent tree both are free. Invariant: before the first block of the
//! replay's transaction is allocated, all of them are taken. Blocks are pinned, so that a power
//! cut before the commit finds the log as it was; extents are allocated by the first file that
//! the replay gives them to, and pinned if there is none. Never: what the items mean; that is the
//! filesystem's.

use super::csums::Csums;
use super::engine::Engine;
use super::open::heal_superblocks;
use crate::allocator::{Kind, Space};
use crate::btree::{Root, RootNode};
use crate::error::{Error, Result};
use crate::ondisk::tree_block::{self, leaf, nritems};
use crate::ondisk::{EXTENT_FLAG_DATA, ExtentItem, FileExtent, Key, RootItem, ids, kind};
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use crate::transaction::{RefKind, TransHandle};
use crate::units::{Generation, Logical};
use std::collections::BTreeMap;

/// The log of one subvolume.
pub struct SubvolumeLog {
    /// The subvolume.
    pub subvolume: u64,
    /// The log: a tree with the keys of the subvolume's, and checksums.
    pub root: Arc<Root>,
    /// The checksums in it.
    pub csums: Csums,
}

/// All logs of an image, with everything that they name taken from the allocator.
pub struct UnreplayedLog {
    /// One for each subvolume, by number.
    pub trees: Vec<SubvolumeLog>,
    fresh: BTreeMap<u64, FreshExtent>,
    /// Features of what was replayed. The superblock that names the log may lack them.
    incompat: u64,
}

/// A data extent as an item names it: address and length.
type Named = (u64, u64);

/// A data extent that no committed tree knows.
struct FreshExtent {
    len: u64,
    referenced: bool,
}

impl UnreplayedLog {
    /// One more reference to a data extent that a log names. The first one allocates it, if no
    /// committed tree has.
    pub fn add_data_ref(&mut self, trans: &TransHandle, at: Logical, len: u64, kind: RefKind) {
        let refs = &trans.transaction().delayed_refs;
        match self.fresh.get_mut(&at.get()) {
            Some(fresh) if !fresh.referenced => {
                fresh.referenced = true;
                refs.add_new_data_extent(at, len, kind);
            }
            _ => refs.add_data_ref(at, len, kind),
        }
    }

    /// The replay has brought something that only images with this feature may have.
    pub fn add_incompat(&mut self, feature: u64) {
        self.incompat |= feature;
    }

    fn pin_unused(&self, space: &Space) {
        let unused = self.fresh.iter().filter(|(_, fresh)| !fresh.referenced);
        for (&at, fresh) in unused {
            space.pin(Logical(at), fresh.len);
        }
    }
}

impl Engine {
    /// Whether a log tree waits for its replay.
    pub fn has_log(&self) -> bool {
        // Relaxed: see `Committer::commit_trees`.
        self.committer.log_waits.load(Ordering::Relaxed)
    }

    /// Finds the logs and takes what they name, as the first thing that happens to the trees.
    ///
    /// # Errors
    /// `Corrupt` for a log that isn't one transaction's, or that names what is in use.
    pub fn read_log(&self) -> Result<UnreplayedLog> {
        let superblock = self.committer.superblock();
        let generation = self.ctx.transactions.running().transid();
        let node = RootNode {
            bytenr: Logical(superblock.log_root.get()),
            generation,
            level: superblock.log_root_level,
        };
        let (roots, _) = self.take_tree(node)?;
        let mut log = UnreplayedLog {
            trees: Vec::new(),
            fresh: BTreeMap::new(),
            incompat: 0,
        };
        let mut named = Vec::new();
        let mut cursor = self.ctx.search(&roots, &Key::MIN)?;
        while let Some((key, data)) = cursor.item() {
            let (subvolume, node) = log_of(&key, data, generation)?;
            let (root, extents) = self.take_tree(node)?;
            named.extend(extents);
            let csums = Csums::new(self.ctx.clone(), root.clone(), self.csums.csum_type());
            log.trees.push(SubvolumeLog {
                subvolume,
                root,
                csums,
            });
            if !cursor.next()? {
                break;
            }
        }
        named.sort_unstable();
        named.dedup();
        for (at, len) in named {
            if !self.is_allocated(at, len)? {
                self.take(at, len, "data extent", Kind::takes_data)?;
                let referenced = false;
                log.fresh.insert(at, FreshExtent { len, referenced });
            }
        }
        Ok(log)
    }

    /// The replay has ended, and its handle too: everything it did becomes durable, the log is gone
    /// from the image, and the filesystem is as any other that was opened. What nobody was given
    /// goes back with the commit. Where nothing may be written, the replay stays in memory.
    pub fn log_replayed(&self, log: UnreplayedLog) -> Result<()> {
        log.pin_unused(&self.ctx.space);
        if self.read_only.is_some() {
            return Ok(());
        }
        // Also where nothing had to change: only a commit takes the log from the image.
        let running = self.ctx.transactions.running();
        running.add_dirty_root(ids::FS_TREE_OBJECTID);
        self.volume.release_writes();
        // The copies first: the commit's superblock may be torn, and then a copy must name the log.
        heal_superblocks(&self.volume, &mut self.committer.superblock())?;
        let mut superblock = self.committer.superblock.lock();
        let incompat = superblock.incompat_flags.get() | log.incompat;
        superblock.incompat_flags.set(incompat);
        drop(superblock);
        // Relaxed: see `Committer::commit_trees`.
        self.committer.log_waits.store(false, Ordering::Relaxed);
        self.committer.commit_trees()?;
        match self.starts_later {
            Some(interval) => self.committer.start_background(interval),
            None => Ok(()),
        }
    }

    /// A log's tree, with its blocks pinned. Also says which extents it names.
    fn take_tree(&self, node: RootNode) -> Result<(Arc<Root>, Vec<Named>)> {
        let key = Key::new(ids::TREE_LOG_OBJECTID, kind::ROOT_ITEM, 0);
        let root = Root::new(key, node, RootItem::zeroed());
        let (mut blocks, mut extents) = (Vec::new(), Vec::new());
        self.ctx.verify_each(&root, &mut |block| {
            if block.header().generation.get() != node.generation.get() {
                let reason = "a block of a log that is older than the log";
                return Err(Error::corrupt_block(block.bytenr(), None, reason));
            }
            blocks.push(block.bytenr());
            if tree_block::level(block) == 0 {
                for slot in 0..nritems(block) {
                    extents.extend(extent_in(block.bytenr(), block, slot)?);
                }
            }
            Ok(())
        })?;
        let nodesize = self.ctx.space.nodesize();
        for at in blocks {
            self.take(at.get(), nodesize, "block", Kind::takes_metadata)?;
            self.ctx.space.pin(at, nodesize);
        }
        Ok((root, extents))
    }

    /// Takes a range that must be free, in a block group of the right kind.
    fn take(&self, at: u64, len: u64, what: &str, fits: fn(Kind) -> bool) -> Result<()> {
        let wrong = |why: &str| {
            let reason = format!("the log names a {what} of {len} bytes at {at}, {why}");
            Err(Error::corrupt(reason))
        };
        let Some((start, group_len, flags)) = self.ctx.space.group_range(Logical(at)) else {
            return wrong("which lies in no block group");
        };
        if !Kind::from_flags(flags).is_some_and(fits) {
            return wrong("which lies in a block group for something else");
        }
        let inside = at
            .checked_add(len)
            .is_some_and(|end| end <= start + group_len);
        if len == 0 || !inside || !self.ctx.space.alloc_exact(Logical(at), len) {
            return wrong("where not all of that is free");
        }
        Ok(())
    }

    /// Whether the extent tree has this data extent.
    fn is_allocated(&self, at: u64, len: u64) -> Result<bool> {
        let extents = self.ctx.roots.get(&self.ctx, ids::EXTENT_TREE_OBJECTID)?;
        let key = Key::new(at, kind::EXTENT_ITEM, len);
        let is_data = self.ctx.get_with(&extents, &key, |bytes| {
            ExtentItem::read(bytes).is_some_and(|item| item.flags.get() & EXTENT_FLAG_DATA != 0)
        })?;
        Ok(is_data == Some(true))
    }
}

/// The log that an item of the tree of logs names.
fn log_of(key: &Key, data: &[u8], generation: Generation) -> Result<(u64, RootNode)> {
    let wrong = |why: &str| Error::corrupt(format!("the tree of logs: item {key} {why}"));
    if (key.objectid, key.kind) != (ids::TREE_LOG_OBJECTID, kind::ROOT_ITEM) {
        return Err(wrong("is none of a log"));
    }
    if !ids::is_shared(key.offset) {
        return Err(wrong("is no subvolume's"));
    }
    let item = RootItem::from_item(data).ok_or_else(|| wrong("is torn"))?;
    if item.generation.get() != generation.get() {
        return Err(wrong("is of another transaction than the log"));
    }
    let node = RootNode {
        bytenr: Logical(item.bytenr.get()),
        generation,
        level: item.level,
    };
    Ok((key.offset, node))
}

/// The data extent that an item of a log names.
fn extent_in(at: Logical, block: &[u8], slot: usize) -> Result<Option<Named>> {
    if leaf::item_key(block, slot).kind != kind::EXTENT_DATA {
        return Ok(None);
    }
    let torn = || Error::corrupt_block(at, Some(slot), "a file extent that is torn");
    Ok(
        match FileExtent::parse(leaf::item_data(block, slot)).ok_or_else(torn)? {
            FileExtent::Extent(item) if !item.is_hole() => {
                Some((item.disk_bytenr.get(), item.disk_num_bytes.get()))
            }
            _ => None,
        },
    )
}
