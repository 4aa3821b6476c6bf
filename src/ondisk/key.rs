//! Keys: what every tree is sorted by.
//!
//! Owns: [`Key`] as the program handles it, [`DiskKey`] as the disk holds it, and the item kinds.

use crate::ondisk::U64;
use crate::ondisk::disk_struct;
use crate::ondisk::ids;
use std::fmt;

/// A key on the processor's side (`struct btrfs_key`). Ordered by objectid, kind, offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key {
    /// What the item belongs to: an inode, an extent's address, a tree, …
    pub objectid: u64,
    /// The item's kind (`type` in the uapi): one of [`kind`].
    pub kind: u8,
    /// Position, length, hash, …: depends on the kind.
    pub offset: u64,
}

impl Key {
    /// The smallest key.
    pub const MIN: Self = Self {
        objectid: 0,
        kind: 0,
        offset: 0,
    };
    /// The greatest key.
    pub const MAX: Self = Self {
        objectid: u64::MAX,
        kind: u8::MAX,
        offset: u64::MAX,
    };

    /// A key of three parts.
    #[inline]
    pub const fn new(objectid: u64, kind: u8, offset: u64) -> Self {
        Self {
            objectid,
            kind,
            offset,
        }
    }

    /// The smallest key that is greater, or `None` after [`Key::MAX`].
    pub const fn next(self) -> Option<Self> {
        if self.offset != u64::MAX {
            return Some(Self {
                offset: self.offset + 1,
                ..self
            });
        }
        if self.kind != u8::MAX {
            return Some(Self {
                kind: self.kind + 1,
                offset: 0,
                ..self
            });
        }
        if self.objectid != u64::MAX {
            return Some(Self {
                objectid: self.objectid + 1,
                kind: 0,
                offset: 0,
            });
        }
        None
    }

    /// The greatest key that is smaller, or `None` before [`Key::MIN`].
    pub const fn prev(self) -> Option<Self> {
        if self.offset != 0 {
            return Some(Self {
                offset: self.offset - 1,
                ..self
            });
        }
        if self.kind != 0 {
            return Some(Self {
                kind: self.kind - 1,
                offset: u64::MAX,
                ..self
            });
        }
        if self.objectid != 0 {
            return Some(Self {
                objectid: self.objectid - 1,
                kind: u8::MAX,
                offset: u64::MAX,
            });
        }
        None
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        match ids::tree_name(self.objectid) {
            // Low numbers are tree names only where the item speaks of trees.
            Some(name) if self.objectid > ids::LAST_FREE_OBJECTID => f.write_str(name)?,
            Some(name) if kind::speaks_of_trees(self.kind) => f.write_str(name)?,
            _ => write!(f, "{}", self.objectid)?,
        }
        match kind::name(self.kind) {
            Some(name) => write!(f, " {name}")?,
            None => write!(f, " kind {}", self.kind)?,
        }
        write!(f, " {})", self.offset)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

disk_struct! {
    /// `struct btrfs_disk_key`: a key on disk.
    #[derive(Copy)]
    pub struct DiskKey, 17 bytes {
        /// What the item belongs to.
        0 => objectid: U64,
        /// The item's kind (`type` in the uapi).
        8 => kind: u8,
        /// Depends on the kind.
        9 => offset: U64,
    }
}

impl DiskKey {
    /// The key as the program handles it.
    #[inline]
    pub fn get(&self) -> Key {
        Key {
            objectid: self.objectid.get(),
            kind: self.kind,
            offset: self.offset.get(),
        }
    }
}

impl fmt::Debug for DiskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.get(), f)
    }
}

impl From<Key> for DiskKey {
    #[inline]
    fn from(key: Key) -> Self {
        Self {
            objectid: key.objectid.into(),
            kind: key.kind,
            offset: key.offset.into(),
        }
    }
}

impl From<DiskKey> for Key {
    #[inline]
    fn from(key: DiskKey) -> Self {
        key.get()
    }
}

/// Item kinds: the uapi constants `BTRFS_*_KEY` without prefix and suffix.
pub mod kind {
    /// Attributes of an inode.
    pub const INODE_ITEM: u8 = 1;
    /// Names of an inode in one directory (offset: the directory).
    pub const INODE_REF: u8 = 12;
    /// Names of an inode that do not fit its INODE_REF (offset: hash of directory and name).
    pub const INODE_EXTREF: u8 = 13;
    /// Extended attributes (offset: hash of the name).
    pub const XATTR_ITEM: u8 = 24;
    /// Size and descriptor of a verity file.
    pub const VERITY_DESC_ITEM: u8 = 36;
    /// Merkle tree of a verity file.
    pub const VERITY_MERKLE_ITEM: u8 = 37;
    /// Unlinked inode or deleted subvolume still to be cleaned (offset: its number).
    pub const ORPHAN_ITEM: u8 = 48;
    /// Logged directory range by name hash (no longer written).
    pub const DIR_LOG_ITEM: u8 = 60;
    /// Logged directory range by index.
    pub const DIR_LOG_INDEX: u8 = 72;
    /// Directory entry by name hash.
    pub const DIR_ITEM: u8 = 84;
    /// Directory entry by index.
    pub const DIR_INDEX: u8 = 96;
    /// A range of a file's data (offset: position in the file).
    pub const EXTENT_DATA: u8 = 108;
    /// Checksums of consecutive data blocks (offset: logical address of the first).
    pub const EXTENT_CSUM: u8 = 128;
    /// Where a tree's root is.
    pub const ROOT_ITEM: u8 = 132;
    /// From a subvolume to the directory entry that names it (offset: parent tree).
    pub const ROOT_BACKREF: u8 = 144;
    /// From a parent tree to a subvolume in it (offset: the subvolume).
    pub const ROOT_REF: u8 = 156;
    /// A used extent (offset: its length).
    pub const EXTENT_ITEM: u8 = 168;
    /// A used tree block (offset: its level).
    pub const METADATA_ITEM: u8 = 169;
    /// Simple quota's owner of an extent (inline only).
    pub const EXTENT_OWNER_REF: u8 = 172;
    /// A tree that references a tree block (offset: the tree).
    pub const TREE_BLOCK_REF: u8 = 176;
    /// A file that references a data extent (offset: hash).
    pub const EXTENT_DATA_REF: u8 = 178;
    /// Obsolete reference of the first format.
    pub const EXTENT_REF_V0: u8 = 180;
    /// A tree block that references a tree block (offset: the parent).
    pub const SHARED_BLOCK_REF: u8 = 182;
    /// A leaf that references a data extent (offset: the leaf).
    pub const SHARED_DATA_REF: u8 = 184;
    /// Use of a block group (offset: its length).
    pub const BLOCK_GROUP_ITEM: u8 = 192;
    /// Accounting of a block group's free space items (offset: its length).
    pub const FREE_SPACE_INFO: u8 = 198;
    /// A free range (offset: its length).
    pub const FREE_SPACE_EXTENT: u8 = 199;
    /// Free blocks of a range as bits (offset: the range's length).
    pub const FREE_SPACE_BITMAP: u8 = 200;
    /// An allocated range of a device (offset: where it starts).
    pub const DEV_EXTENT: u8 = 204;
    /// A device (offset: its number).
    pub const DEV_ITEM: u8 = 216;
    /// A chunk's stripes (offset: its logical address).
    pub const CHUNK_ITEM: u8 = 228;
    /// Raid stripe tree entries (not supported).
    pub const RAID_STRIPE: u8 = 230;
    /// State of quotas.
    pub const QGROUP_STATUS: u8 = 240;
    /// Use of a quota group.
    pub const QGROUP_INFO: u8 = 242;
    /// Limits of a quota group.
    pub const QGROUP_LIMIT: u8 = 244;
    /// Membership among quota groups.
    pub const QGROUP_RELATION: u8 = 246;
    /// Short-lived state, such as a balance under way.
    pub const TEMPORARY_ITEM: u8 = 248;
    /// Long-lived state, such as device statistics.
    pub const PERSISTENT_ITEM: u8 = 249;
    /// State of a device replacement.
    pub const DEV_REPLACE: u8 = 250;
    /// UUID of a subvolume to its number.
    pub const UUID_KEY_SUBVOL: u8 = 251;
    /// UUID of a received subvolume to its number.
    pub const UUID_KEY_RECEIVED_SUBVOL: u8 = 252;
    /// Free text.
    pub const STRING_ITEM: u8 = 253;
    /// Headers of the old free space cache and of the inode cache have kind 0.
    pub const UNTYPED: u8 = 0;

    /// The kind's name as `dump-tree` prints it.
    pub const fn name(kind: u8) -> Option<&'static str> {
        Some(match kind {
            UNTYPED => "UNTYPED",
            INODE_ITEM => "INODE_ITEM",
            INODE_REF => "INODE_REF",
            INODE_EXTREF => "INODE_EXTREF",
            XATTR_ITEM => "XATTR_ITEM",
            VERITY_DESC_ITEM => "VERITY_DESC_ITEM",
            VERITY_MERKLE_ITEM => "VERITY_MERKLE_ITEM",
            ORPHAN_ITEM => "ORPHAN_ITEM",
            DIR_LOG_ITEM => "DIR_LOG_ITEM",
            DIR_LOG_INDEX => "DIR_LOG_INDEX",
            DIR_ITEM => "DIR_ITEM",
            DIR_INDEX => "DIR_INDEX",
            EXTENT_DATA => "EXTENT_DATA",
            EXTENT_CSUM => "EXTENT_CSUM",
            ROOT_ITEM => "ROOT_ITEM",
            ROOT_BACKREF => "ROOT_BACKREF",
            ROOT_REF => "ROOT_REF",
            EXTENT_ITEM => "EXTENT_ITEM",
            METADATA_ITEM => "METADATA_ITEM",
            EXTENT_OWNER_REF => "EXTENT_OWNER_REF",
            TREE_BLOCK_REF => "TREE_BLOCK_REF",
            EXTENT_DATA_REF => "EXTENT_DATA_REF",
            EXTENT_REF_V0 => "EXTENT_REF_V0",
            SHARED_BLOCK_REF => "SHARED_BLOCK_REF",
            SHARED_DATA_REF => "SHARED_DATA_REF",
            BLOCK_GROUP_ITEM => "BLOCK_GROUP_ITEM",
            FREE_SPACE_INFO => "FREE_SPACE_INFO",
            FREE_SPACE_EXTENT => "FREE_SPACE_EXTENT",
            FREE_SPACE_BITMAP => "FREE_SPACE_BITMAP",
            DEV_EXTENT => "DEV_EXTENT",
            DEV_ITEM => "DEV_ITEM",
            CHUNK_ITEM => "CHUNK_ITEM",
            RAID_STRIPE => "RAID_STRIPE",
            QGROUP_STATUS => "QGROUP_STATUS",
            QGROUP_INFO => "QGROUP_INFO",
            QGROUP_LIMIT => "QGROUP_LIMIT",
            QGROUP_RELATION => "QGROUP_RELATION",
            TEMPORARY_ITEM => "TEMPORARY_ITEM",
            PERSISTENT_ITEM => "PERSISTENT_ITEM",
            DEV_REPLACE => "DEV_REPLACE",
            UUID_KEY_SUBVOL => "UUID_KEY_SUBVOL",
            UUID_KEY_RECEIVED_SUBVOL => "UUID_KEY_RECEIVED_SUBVOL",
            STRING_ITEM => "STRING_ITEM",
            _ => return None,
        })
    }

    /// Whether an objectid under this kind is the number of a tree.
    pub const fn speaks_of_trees(kind: u8) -> bool {
        matches!(kind, ROOT_ITEM | ROOT_BACKREF | ROOT_REF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_and_prev_are_inverse_and_stop_at_the_ends() {
        let keys = [
            Key::MIN,
            Key::new(256, kind::INODE_ITEM, 0),
            Key::new(256, kind::INODE_ITEM, u64::MAX),
            Key::new(256, u8::MAX, u64::MAX),
        ];
        for key in keys {
            let next = key.next().expect("none of these is the last key");
            assert!(next > key);
            assert_eq!(next.prev(), Some(key));
        }
        assert_eq!(Key::MAX.next(), None);
        assert_eq!(Key::MIN.prev(), None);
    }

    #[test]
    fn keys_print_the_words_of_dump_tree() {
        assert_eq!(
            Key::new(256, kind::INODE_ITEM, 0).to_string(),
            "(256 INODE_ITEM 0)"
        );
        assert_eq!(
            Key::new(5, kind::ROOT_ITEM, 0).to_string(),
            "(FS_TREE ROOT_ITEM 0)"
        );
        assert_eq!(
            Key::new(5, kind::INODE_ITEM, 0).to_string(),
            "(5 INODE_ITEM 0)"
        );
        assert_eq!(
            Key::new(ids::ORPHAN_OBJECTID, kind::ORPHAN_ITEM, 257).to_string(),
            "(ORPHAN ORPHAN_ITEM 257)"
        );
    }

    #[test]
    fn disk_keys_are_little_endian() {
        let disk = DiskKey::from(Key::new(1, 2, 3));
        assert_eq!(
            disk.as_bytes(),
            &[1, 0, 0, 0, 0, 0, 0, 0, 2, 3, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(Key::from(disk), Key::new(1, 2, 3));
    }
}
