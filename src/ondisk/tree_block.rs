//! Tree blocks: a header, then items (leaf) or key pointers (node).
//!
//! A leaf's item array grows from the header up, its data from the block's end down; item
//! offsets count from the end of the header. Views index freely: they are for blocks that
//! [`check`](super::check) has accepted, or that this program has built. [`leaf::try_item`] and
//! [`leaf::try_item_data`] are for bytes that nobody has judged.

use super::{DiskKey, Key, U32, U64, Uuid, disk_struct};
use crate::units::{Generation, Logical};

pub mod leaf;
pub mod node;

/// Levels that a tree can have, 0 to 7 (`BTRFS_MAX_LEVEL`).
pub const LEVELS_MAX: u8 = 8;
/// The block was written to disk (`BTRFS_HEADER_FLAG_WRITTEN`).
pub const HEADER_FLAG_WRITTEN: u64 = 1 << 0;
/// The block belongs to a relocation tree (`BTRFS_HEADER_FLAG_RELOC`).
pub const HEADER_FLAG_RELOC: u64 = 1 << 1;
/// Where the back reference revision starts in `flags`.
pub const BACKREF_REV_SHIFT: u32 = 56;
/// The back reference revision of every image that MIXED_BACKREF is set on.
pub const MIXED_BACKREF_REV: u64 = 1;
/// Smallest nodesize.
pub const NODESIZE_MIN: u32 = 4096;
/// Largest nodesize (`BTRFS_MAX_METADATA_BLOCKSIZE`).
pub const NODESIZE_MAX: u32 = 65536;

disk_struct! {
    /// `struct btrfs_header`: what every tree block starts with.
    #[derive(Copy, Debug)]
    pub struct Header, 101 bytes {
        /// Checksum of everything behind this field.
        0 => csum: [u8; 32],
        /// The filesystem's metadata uuid.
        32 => fsid: Uuid,
        /// The block's own logical address.
        48 => bytenr: U64,
        /// `HEADER_FLAG_*`, and the back reference revision in the top byte.
        56 => flags: U64,
        /// The chunk tree's uuid.
        64 => chunk_tree_uuid: Uuid,
        /// The transaction that made this copy.
        80 => generation: U64,
        /// The tree that it was made for.
        88 => owner: U64,
        /// Items, or key pointers.
        96 => nritems: U32,
        /// 0 is a leaf.
        100 => level: u8,
    }
}

impl Header {
    /// The back reference revision, 0 (before 2009) or [`MIXED_BACKREF_REV`].
    pub fn backref_rev(&self) -> u64 {
        self.flags.get() >> BACKREF_REV_SHIFT
    }

    /// Whether the block was written to disk.
    pub fn is_written(&self) -> bool {
        self.flags.get() & HEADER_FLAG_WRITTEN != 0
    }

    /// Whether a flag of `HEADER_FLAG_*` is set.
    pub fn has_flag(&self, flag: u64) -> bool {
        self.flags.get() & flag != 0
    }

    /// Sets or clears a flag of `HEADER_FLAG_*`.
    pub fn set_flag(&mut self, flag: u64, on: bool) {
        let flags = self.flags.get();
        self.flags
            .set(if on { flags | flag } else { flags & !flag });
    }
}

disk_struct! {
    /// `struct btrfs_item`: a leaf's entry for one item.
    #[derive(Copy, Debug)]
    pub struct Item, 25 bytes {
        /// The item's key.
        0 => key: DiskKey,
        /// Where its data starts, counted from the end of the header.
        17 => offset: U32,
        /// Its data's length.
        21 => size: U32,
    }
}

disk_struct! {
    /// `struct btrfs_key_ptr`: a node's pointer to a child.
    #[derive(Copy, Debug)]
    pub struct KeyPtr, 33 bytes {
        /// The first key of the child.
        0 => key: DiskKey,
        /// The child's logical address.
        17 => blockptr: U64,
        /// The child's generation.
        25 => generation: U64,
    }
}

impl KeyPtr {
    /// A pointer to `child`.
    pub fn new(key: Key, child: Logical, generation: Generation) -> Self {
        Self {
            key: key.into(),
            blockptr: child.0.into(),
            generation: generation.0.into(),
        }
    }
}

/// The header of a block; `block` is at least [`Header::SIZE`] long.
#[inline]
pub fn header(block: &[u8]) -> &Header {
    Header::read(block).expect("a tree block is longer than its header")
}

/// The header of a block, to be changed in place.
#[inline]
pub fn header_mut(block: &mut [u8]) -> &mut Header {
    Header::read_mut(block).expect("a tree block is longer than its header")
}

/// Number of items or key pointers.
#[inline]
pub fn nritems(block: &[u8]) -> usize {
    header(block).nritems.get() as usize
}

/// Sets the number of items or key pointers.
#[inline]
pub fn set_nritems(block: &mut [u8], count: usize) {
    header_mut(block).nritems.set(count as u32);
}

/// The block's level; 0 is a leaf.
#[inline]
pub fn level(block: &[u8]) -> u8 {
    header(block).level
}

/// Bytes of a leaf that items and their data share (`BTRFS_LEAF_DATA_SIZE`).
#[inline]
pub const fn leaf_data_size(nodesize: u32) -> u32 {
    nodesize - Header::SIZE as u32
}

/// The largest item that a leaf can hold (`BTRFS_MAX_ITEM_SIZE`).
#[inline]
pub const fn item_size_max(nodesize: u32) -> u32 {
    leaf_data_size(nodesize) - Item::SIZE as u32
}

/// Pointers that a node can hold (`BTRFS_NODEPTRS_PER_BLOCK`).
#[inline]
pub const fn node_ptrs_max(nodesize: u32) -> usize {
    leaf_data_size(nodesize) as usize / KeyPtr::SIZE
}

/// The longest inline file extent data (`BTRFS_MAX_INLINE_DATA_SIZE`), before `max_inline` and
/// the sector size limit it further.
#[inline]
pub const fn inline_data_size_max(nodesize: u32) -> u32 {
    item_size_max(nodesize) - super::FILE_EXTENT_INLINE_DATA_START as u32
}

/// The key in `slot`, whatever the block's level.
#[inline]
pub fn key(block: &[u8], slot: usize) -> Key {
    if level(block) == 0 {
        leaf::item_key(block, slot)
    } else {
        node::key(block, slot)
    }
}

/// Finds `key`: `Ok(slot)` where it is, or `Err(slot)` where it would go.
pub fn search(block: &[u8], key: &Key) -> Result<usize, usize> {
    let stride = if level(block) == 0 {
        Item::SIZE
    } else {
        KeyPtr::SIZE
    };
    let count = nritems(block);
    let entries = &block[Header::SIZE..Header::SIZE + count * stride];
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        let found = DiskKey::read(&entries[middle * stride..]).expect("entries start with a key");
        match found.get().cmp(key) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => return Ok(middle),
        }
    }
    Err(low)
}

/// Makes `block` an empty block: everything zero but the header's identity.
pub fn init(
    block: &mut [u8],
    at: Logical,
    generation: Generation,
    owner: u64,
    level: u8,
    fsid: &Uuid,
    chunk_tree_uuid: &Uuid,
) {
    block.fill(0);
    *header_mut(block) = Header {
        csum: [0; 32],
        fsid: *fsid,
        bytenr: at.0.into(),
        flags: (MIXED_BACKREF_REV << BACKREF_REV_SHIFT).into(),
        chunk_tree_uuid: *chunk_tree_uuid,
        generation: generation.0.into(),
        owner: owner.into(),
        nritems: 0.into(),
        level,
    };
}
