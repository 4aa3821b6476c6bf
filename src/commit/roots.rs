//! Where trees are: root items in the root tree, and the superblock that points to it.
//!
//! Owns: the superblock's fields that each commit changes, and the ring of backup roots.

use crate::btree::{Root, RootNode};
use crate::ondisk::superblock::{FEATURE_COMPAT_RO_FREE_SPACE_TREE_VALID, NUM_BACKUP_ROOTS};
use crate::ondisk::{RootBackup, Superblock};
use crate::sync::Arc;
use crate::units::Generation;

/// The trees that a superblock or its backups name.
pub(super) struct NamedRoots {
    pub(super) root: Arc<Root>,
    pub(super) chunk: Arc<Root>,
    pub(super) extent: Arc<Root>,
    pub(super) dev: Arc<Root>,
    pub(super) csum: Arc<Root>,
    /// The top-level subvolume, once it was loaded; its place otherwise comes from its item.
    pub(super) fs: Arc<Root>,
}

/// Whether the UUID tree was complete when the filesystem was opened, and so stays complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UuidTreeComplete(pub(super) bool);

impl NamedRoots {
    /// The superblock itself says where this tree is; it has no root item.
    pub(super) fn is_in_superblock(&self, objectid: u64) -> bool {
        objectid == self.root.objectid || objectid == self.chunk.objectid
    }

    /// Fills a superblock for the commit of `transid`.
    pub(super) fn fill(
        &self,
        superblock: &mut Superblock,
        transid: Generation,
        bytes_used: u64,
        uuid_tree: UuidTreeComplete,
    ) {
        let root = self.root.node();
        let chunk = self.chunk.node();
        superblock.generation.set(transid.get());
        superblock.root.set(root.bytenr.get());
        superblock.root_level = root.level;
        superblock.chunk_root.set(chunk.bytenr.get());
        superblock.chunk_root_level = chunk.level;
        superblock.chunk_root_generation.set(chunk.generation.get());
        superblock.bytes_used.set(bytes_used);
        if uuid_tree.0 {
            superblock.uuid_tree_generation.set(transid.get());
        }
        // The old cache in files isn't kept up to date: it must not claim to be.
        if superblock.cache_generation.get() == transid.get()
            || !superblock.has_compat_ro(FEATURE_COMPAT_RO_FREE_SPACE_TREE_VALID)
        {
            superblock.cache_generation.set(0);
        }
        let slot = next_backup(superblock);
        superblock.super_roots[slot] = self.backup(superblock, root, chunk);
    }

    fn backup(&self, superblock: &Superblock, root: RootNode, chunk: RootNode) -> RootBackup {
        let (extent, fs) = (self.extent.node(), self.fs.node());
        let (dev, csum) = (self.dev.node(), self.csum.node());
        RootBackup {
            tree_root: root.bytenr.get().into(),
            tree_root_gen: superblock.generation,
            tree_root_level: root.level,
            chunk_root: chunk.bytenr.get().into(),
            chunk_root_gen: chunk.generation.get().into(),
            chunk_root_level: chunk.level,
            extent_root: extent.bytenr.get().into(),
            extent_root_gen: extent.generation.get().into(),
            extent_root_level: extent.level,
            fs_root: fs.bytenr.get().into(),
            fs_root_gen: fs.generation.get().into(),
            fs_root_level: fs.level,
            dev_root: dev.bytenr.get().into(),
            dev_root_gen: dev.generation.get().into(),
            dev_root_level: dev.level,
            csum_root: csum.bytenr.get().into(),
            csum_root_gen: csum.generation.get().into(),
            csum_root_level: csum.level,
            total_bytes: superblock.total_bytes,
            bytes_used: superblock.bytes_used,
            num_devices: superblock.num_devices,
            ..RootBackup::default()
        }
    }
}

/// The slot after the newest backup.
fn next_backup(superblock: &Superblock) -> usize {
    let newest = superblock
        .super_roots
        .iter()
        .enumerate()
        .max_by_key(|(_, backup)| backup.tree_root_gen.get())
        .filter(|(_, backup)| backup.tree_root_gen.get() != 0);
    newest.map_or(0, |(slot, _)| (slot + 1) % NUM_BACKUP_ROOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_go_round() {
        let mut superblock = Superblock::zeroed();
        assert_eq!(next_backup(&superblock), 0);
        for generation in 5..12 {
            let slot = next_backup(&superblock);
            assert_eq!(slot as u64, (generation - 5) % 4);
            superblock.super_roots[slot].tree_root_gen.set(generation);
        }
    }
}
