//! The first superblock.

use super::layout::Layout;
use super::trees::Forest;
use super::{GENERATION, Identity, MkfsOptions};
use crate::error::Result;
use crate::ondisk::superblock::MAGIC;
use crate::ondisk::tree_block::HEADER_FLAG_WRITTEN;
use crate::ondisk::{DevItem, RootBackup, Superblock, ids};
use crate::units::Logical;

/// The only device's number.
pub(super) const DEVID: u64 = 1;

/// The device as the chunk tree and the superblock describe it.
pub(super) fn dev_item(layout: &Layout, options: &MkfsOptions, identity: &Identity) -> DevItem {
    let sector = options.sectorsize;
    DevItem {
        devid: DEVID.into(),
        total_bytes: layout.total_bytes.into(),
        bytes_used: layout.device_bytes_used().into(),
        io_align: sector.into(),
        io_width: sector.into(),
        sector_size: sector.into(),
        uuid: identity.dev_uuid,
        fsid: identity.fsid,
        ..DevItem::default()
    }
}

/// Everything but each copy's address and checksum.
pub(super) fn build(
    layout: &Layout,
    options: &MkfsOptions,
    identity: &Identity,
    forest: &Forest,
) -> Result<Box<Superblock>> {
    let root_of = |objectid| {
        forest
            .tree(objectid)
            .map_or((Logical(0), 0), |tree| tree.root())
    };
    let (root, root_level) = root_of(ids::ROOT_TREE_OBJECTID);
    let (chunk_root, chunk_root_level) = root_of(ids::CHUNK_TREE_OBJECTID);
    let mut sb = Box::new(Superblock::zeroed());
    sb.fsid = identity.fsid;
    sb.flags.set(HEADER_FLAG_WRITTEN);
    sb.magic.set(MAGIC);
    sb.generation.set(GENERATION);
    sb.root.set(root.0);
    sb.root_level = root_level;
    sb.chunk_root.set(chunk_root.0);
    sb.chunk_root_level = chunk_root_level;
    sb.chunk_root_generation.set(GENERATION);
    sb.total_bytes.set(layout.total_bytes);
    sb.bytes_used.set(forest.bytes_used);
    sb.root_dir_objectid.set(ids::ROOT_TREE_DIR_OBJECTID);
    sb.num_devices.set(1);
    sb.sectorsize.set(options.sectorsize);
    sb.nodesize.set(options.nodesize);
    sb.unused_leafsize.set(options.nodesize);
    sb.stripesize.set(options.sectorsize);
    sb.incompat_flags
        .set(options.features.incompat(options.nodesize));
    sb.compat_ro_flags.set(options.features.compat_ro());
    sb.csum_type.set(options.csum.to_super());
    sb.dev_item = dev_item(layout, options, identity);
    sb.label[..options.label.len()].copy_from_slice(&options.label);
    // The UUID tree holds the only subvolume: nothing is to be searched at the first mount.
    sb.uuid_tree_generation.set(GENERATION);
    let system = layout
        .system
        .chunk_item(options.sectorsize, &identity.dev_uuid);
    sb.push_sys_chunk(layout.system.start, &system)?;
    sb.super_roots[0] = backup(&sb, forest);
    Ok(sb)
}

fn backup(sb: &Superblock, forest: &Forest) -> RootBackup {
    let root_of = |objectid| {
        forest
            .tree(objectid)
            .map_or((Logical(0), 0), |tree| tree.root())
    };
    let generation = GENERATION.into();
    let extents = root_of(ids::EXTENT_TREE_OBJECTID);
    let (fs, dev) = (
        root_of(ids::FS_TREE_OBJECTID),
        root_of(ids::DEV_TREE_OBJECTID),
    );
    let csum = root_of(ids::CSUM_TREE_OBJECTID);
    RootBackup {
        tree_root: sb.root,
        tree_root_gen: generation,
        tree_root_level: sb.root_level,
        chunk_root: sb.chunk_root,
        chunk_root_gen: generation,
        chunk_root_level: sb.chunk_root_level,
        extent_root: extents.0.0.into(),
        extent_root_gen: generation,
        extent_root_level: extents.1,
        fs_root: fs.0.0.into(),
        fs_root_gen: generation,
        fs_root_level: fs.1,
        dev_root: dev.0.0.into(),
        dev_root_gen: generation,
        dev_root_level: dev.1,
        csum_root: csum.0.0.into(),
        csum_root_gen: generation,
        csum_root_level: csum.1,
        total_bytes: sb.total_bytes,
        bytes_used: sb.bytes_used,
        num_devices: sb.num_devices,
        ..RootBackup::default()
    }
}
