//! Root items (where a tree is), and the names of subvolumes in their parents.

use super::{DiskKey, InodeItem, NAME_LEN_MAX, Timespec, U16, U32, U64, Uuid, disk_struct};
use zerocopy::{FromBytes, IntoBytes};

/// The subvolume can't be written (`BTRFS_ROOT_SUBVOL_RDONLY`).
pub const ROOT_SUBVOL_RDONLY: u64 = 1 << 0;
/// The subvolume is being deleted (`BTRFS_ROOT_SUBVOL_DEAD`).
pub const ROOT_SUBVOL_DEAD: u64 = 1 << 48;

disk_struct! {
    /// `struct btrfs_root_item`: where a tree's root is, and what a subvolume is.
    ///
    /// Old images hold only the first [`ROOT_ITEM_LEGACY_SIZE`] bytes, and `generation_v2` tells
    /// whether the fields behind it are up to date: take a copy through [`RootItem::from_item`].
    #[derive(Copy, Debug)]
    pub struct RootItem, 439 bytes {
        /// An inode that only its flags are looked at of.
        0 => inode: InodeItem,
        /// The transaction that last changed the root block.
        160 => generation: U64,
        /// The root directory's inode, 256 in trees with files, else 0.
        168 => root_dirid: U64,
        /// The root block.
        176 => bytenr: U64,
        /// Unused.
        184 => byte_limit: U64,
        /// Bytes of the tree's blocks.
        192 => bytes_used: U64,
        /// The transaction of the last snapshot taken of this tree: blocks of that or earlier
        /// generations can be shared.
        200 => last_snapshot: U64,
        /// `ROOT_SUBVOL_*`.
        208 => flags: U64,
        /// 0: the subvolume is being dropped.
        216 => refs: U32,
        /// How far the drop has come.
        220 => drop_progress: DiskKey,
        /// The level that `drop_progress` speaks of.
        237 => drop_level: u8,
        /// The root block's level.
        238 => level: u8,
        /// Equals `generation` when the fields below are up to date.
        239 => generation_v2: U64,
        /// The subvolume's uuid.
        247 => uuid: Uuid,
        /// The uuid of what this is a snapshot of.
        263 => parent_uuid: Uuid,
        /// The uuid on the sending side.
        279 => received_uuid: Uuid,
        /// The transaction of the last change inside.
        295 => ctransid: U64,
        /// The transaction that created the subvolume.
        303 => otransid: U64,
        /// The sender's transaction.
        311 => stransid: U64,
        /// The transaction of the receive.
        319 => rtransid: U64,
        /// Time of the last change inside.
        327 => ctime: Timespec,
        /// Time of creation.
        339 => otime: Timespec,
        /// Time of sending.
        351 => stime: Timespec,
        /// Time of receiving.
        363 => rtime: Timespec,
        /// Zero. The first two are the global tree id in extent tree v2.
        375 => reserved: [U64; 8],
    }
}

/// Bytes of a root item before uuids and times existed.
pub const ROOT_ITEM_LEGACY_SIZE: usize = std::mem::offset_of!(RootItem, generation_v2);
const _: () = assert!(ROOT_ITEM_LEGACY_SIZE == 239);

impl RootItem {
    /// A copy of an item's data, old or new; the new fields of an old item, or of one that an
    /// old kernel wrote last, are zero. `None` where the item is too short.
    pub fn from_item(data: &[u8]) -> Option<Self> {
        let mut root = Self::zeroed();
        if data.len() < ROOT_ITEM_LEGACY_SIZE {
            return None;
        }
        let length = data.len().min(Self::SIZE);
        root.as_mut_bytes()[..length].copy_from_slice(&data[..length]);
        if root.generation_v2 != root.generation {
            root.as_mut_bytes()[ROOT_ITEM_LEGACY_SIZE..].fill(0);
        }
        Some(root)
    }

    /// Whether the subvolume can't be written.
    pub fn is_read_only(&self) -> bool {
        self.flags.get() & ROOT_SUBVOL_RDONLY != 0
    }
}

disk_struct! {
    /// `struct btrfs_root_ref`: the directory entry that names a subvolume. The name follows. Both
    /// ROOT_REF and ROOT_BACKREF items hold it.
    #[derive(Copy, Debug)]
    pub struct RootRef, 18 bytes {
        /// The directory in the parent tree.
        0 => dirid: U64,
        /// The DIR_INDEX there.
        8 => sequence: U64,
        /// Bytes of the name.
        16 => name_len: U16,
    }
}

impl RootRef {
    /// The item's head and the name, or `None` where the item is too short.
    pub fn parse(data: &[u8]) -> Option<(&Self, &[u8])> {
        let head = Self::read(data)?;
        let name = data.get(Self::SIZE..Self::SIZE + usize::from(head.name_len.get()))?;
        Some((head, name))
    }

    /// The bytes of an item.
    pub fn encode(dirid: u64, sequence: u64, name: &[u8]) -> Vec<u8> {
        debug_assert!(name.len() <= NAME_LEN_MAX);
        let head = Self {
            dirid: dirid.into(),
            sequence: sequence.into(),
            name_len: (name.len() as u16).into(),
        };
        [head.as_bytes(), name].concat()
    }
}

/// The subvolume numbers of a UUID_KEY_SUBVOL or UUID_KEY_RECEIVED_SUBVOL item.
pub fn uuid_item_subvolumes(data: &[u8]) -> impl Iterator<Item = u64> {
    data.chunks_exact(8)
        .map(|id| U64::read_from_bytes(id).map_or(0, U64::get))
}

/// The key of a UUID in the UUID tree.
pub fn uuid_key(uuid: &Uuid, kind: u8) -> super::Key {
    let mut halves = uuid_item_subvolumes(uuid);
    let objectid = halves.next().unwrap_or(0);
    let offset = halves.next().unwrap_or(0);
    super::Key {
        objectid,
        kind,
        offset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_root_items_get_zeroed_new_fields() {
        let mut root = RootItem::zeroed();
        root.generation.set(9);
        root.generation_v2.set(9);
        root.uuid = [7; 16];
        let same = RootItem::from_item(root.as_bytes()).expect("long enough");
        assert_eq!(same.uuid, [7; 16]);
        root.generation.set(10); // an old kernel wrote it last
        let stale = RootItem::from_item(root.as_bytes()).expect("long enough");
        assert_eq!((stale.generation.get(), stale.uuid), (10, [0; 16]));
        let short = RootItem::from_item(&root.as_bytes()[..239]).expect("the old size");
        assert_eq!((short.generation.get(), short.uuid), (10, [0; 16]));
        assert!(RootItem::from_item(&root.as_bytes()[..238]).is_none());
    }

    #[test]
    fn root_refs_carry_their_name() {
        let data = RootRef::encode(256, 5, b"snap");
        let (head, name) = RootRef::parse(&data).expect("well formed");
        assert_eq!((head.sequence.get(), name), (5, &b"snap"[..]));
        assert!(RootRef::parse(&data[..data.len() - 1]).is_none());
    }

    #[test]
    fn uuids_are_two_little_endian_halves() {
        let uuid: Uuid = std::array::from_fn(|i| i as u8);
        let key = uuid_key(&uuid, super::super::kind::UUID_KEY_SUBVOL);
        assert_eq!(
            (key.objectid, key.offset),
            (0x0706050403020100, 0x0f0e0d0c0b0a0908)
        );
    }
}
