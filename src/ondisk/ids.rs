//! Object ids with a fixed meaning: trees, and objects that are no files.
//!
//! Owns: the uapi constants `BTRFS_*_OBJECTID` under their names without the prefix.

/// The tree of tree roots.
pub const ROOT_TREE_OBJECTID: u64 = 1;
/// Used extents, metadata and data, with their references.
pub const EXTENT_TREE_OBJECTID: u64 = 2;
/// Logical to physical mapping, and devices.
pub const CHUNK_TREE_OBJECTID: u64 = 3;
/// Allocated ranges of each device, device statistics.
pub const DEV_TREE_OBJECTID: u64 = 4;
/// The top-level subvolume.
pub const FS_TREE_OBJECTID: u64 = 5;
/// A directory inside the root tree; its entry `default` names the default subvolume.
pub const ROOT_TREE_DIR_OBJECTID: u64 = 6;
/// Checksums of data extents.
pub const CSUM_TREE_OBJECTID: u64 = 7;
/// Quota groups.
pub const QUOTA_TREE_OBJECTID: u64 = 8;
/// UUID to subvolume.
pub const UUID_TREE_OBJECTID: u64 = 9;
/// Free space of each block group.
pub const FREE_SPACE_TREE_OBJECTID: u64 = 10;
/// Block group items, where they are not in the extent tree.
pub const BLOCK_GROUP_TREE_OBJECTID: u64 = 11;
/// Raid stripe tree (not supported, named in refusals).
pub const RAID_STRIPE_TREE_OBJECTID: u64 = 12;
/// Remap tree (not supported, named in refusals).
pub const REMAP_TREE_OBJECTID: u64 = 13;

/// Objectid of the device statistics item in the device tree.
pub const DEV_STATS_OBJECTID: u64 = 0;
/// A balance under way, in the root tree.
pub const BALANCE_OBJECTID: u64 = 4u64.wrapping_neg();
/// Orphan items: objectid of the key; the orphan's own number is the key's offset.
pub const ORPHAN_OBJECTID: u64 = 5u64.wrapping_neg();
/// Log trees: the tree of log roots, and each log itself.
pub const TREE_LOG_OBJECTID: u64 = 6u64.wrapping_neg();
/// Inodes whose link counts a replay must fix.
pub const TREE_LOG_FIXUP_OBJECTID: u64 = 7u64.wrapping_neg();
/// Relocation trees.
pub const TREE_RELOC_OBJECTID: u64 = 8u64.wrapping_neg();
/// The subvolume-like tree that relocation copies data into.
pub const DATA_RELOC_TREE_OBJECTID: u64 = 9u64.wrapping_neg();
/// Objectid of every checksum item.
pub const EXTENT_CSUM_OBJECTID: u64 = 10u64.wrapping_neg();
/// Free space cache v1: headers in the root tree.
pub const FREE_SPACE_OBJECTID: u64 = 11u64.wrapping_neg();
/// The deprecated inode number cache.
pub const FREE_INO_OBJECTID: u64 = 12u64.wrapping_neg();
/// Stands for "several objectids".
pub const MULTIPLE_OBJECTIDS: u64 = 255u64.wrapping_neg();

/// First objectid of files, and of subvolumes that users make.
pub const FIRST_FREE_OBJECTID: u64 = 256;
/// Last objectid of files and subvolumes.
pub const LAST_FREE_OBJECTID: u64 = 256u64.wrapping_neg();
/// Objectid of every chunk item.
pub const FIRST_CHUNK_TREE_OBJECTID: u64 = 256;
/// Objectid of every device item.
pub const DEV_ITEMS_OBJECTID: u64 = 1;
/// The inode number that the kernel shows for the stub of a nested subvolume in a snapshot.
pub const EMPTY_SUBVOL_DIR_OBJECTID: u64 = 2;
/// The device that replaces another one.
pub const DEV_REPLACE_DEVID: u64 = 0;

/// Whether a tree holds files: the top level, subvolumes, snapshots, the data relocation tree.
pub const fn is_fs_tree(objectid: u64) -> bool {
    objectid == FS_TREE_OBJECTID || objectid == DATA_RELOC_TREE_OBJECTID || is_subvolume(objectid)
}

/// Whether a tree can share blocks with others: the top level, subvolumes, snapshots.
pub const fn is_shared(objectid: u64) -> bool {
    objectid == FS_TREE_OBJECTID || is_subvolume(objectid)
}

/// Whether a number is in the range that subvolumes made by users have.
pub const fn is_subvolume(objectid: u64) -> bool {
    // As signed numbers, the way the reserved ids at the top are negative.
    (objectid as i64) >= FIRST_FREE_OBJECTID as i64
}

/// Whether a number is in the range that files have.
pub const fn is_file(objectid: u64) -> bool {
    FIRST_FREE_OBJECTID <= objectid && objectid <= LAST_FREE_OBJECTID
}

/// The usual name of a well-known tree, as `dump-tree` prints it, or `None`.
pub const fn tree_name(objectid: u64) -> Option<&'static str> {
    Some(match objectid {
        ROOT_TREE_OBJECTID => "ROOT_TREE",
        EXTENT_TREE_OBJECTID => "EXTENT_TREE",
        CHUNK_TREE_OBJECTID => "CHUNK_TREE",
        DEV_TREE_OBJECTID => "DEV_TREE",
        FS_TREE_OBJECTID => "FS_TREE",
        ROOT_TREE_DIR_OBJECTID => "ROOT_TREE_DIR",
        CSUM_TREE_OBJECTID => "CSUM_TREE",
        QUOTA_TREE_OBJECTID => "QUOTA_TREE",
        UUID_TREE_OBJECTID => "UUID_TREE",
        FREE_SPACE_TREE_OBJECTID => "FREE_SPACE_TREE",
        BLOCK_GROUP_TREE_OBJECTID => "BLOCK_GROUP_TREE",
        RAID_STRIPE_TREE_OBJECTID => "RAID_STRIPE_TREE",
        REMAP_TREE_OBJECTID => "REMAP_TREE",
        BALANCE_OBJECTID => "BALANCE",
        ORPHAN_OBJECTID => "ORPHAN",
        TREE_LOG_OBJECTID => "TREE_LOG",
        TREE_LOG_FIXUP_OBJECTID => "TREE_LOG_FIXUP",
        TREE_RELOC_OBJECTID => "TREE_RELOC",
        DATA_RELOC_TREE_OBJECTID => "DATA_RELOC_TREE",
        EXTENT_CSUM_OBJECTID => "EXTENT_CSUM",
        FREE_SPACE_OBJECTID => "FREE_SPACE",
        FREE_INO_OBJECTID => "FREE_INO",
        MULTIPLE_OBJECTIDS => "MULTIPLE",
        _ => return None,
    })
}
