//! Extent items: which extents are used, and who references them, inline or in items of their
//! own.

use super::csum::extent_data_ref_hash;
use super::{DiskKey, Key, U32, U64, disk_struct, kind};
use zerocopy::FromBytes;

/// The extent holds file data.
pub const EXTENT_FLAG_DATA: u64 = 1 << 0;
/// The extent is a tree block.
pub const EXTENT_FLAG_TREE_BLOCK: u64 = 1 << 1;
/// Whatever the tree block points to is referenced by the block's address, not by its owner.
pub const BLOCK_FLAG_FULL_BACKREF: u64 = 1 << 8;

disk_struct! {
    /// `struct btrfs_extent_item`: a used extent. The key is (start, EXTENT_ITEM, length) or, for
    /// skinny tree blocks, (start, METADATA_ITEM, level). Inline references follow.
    #[derive(Copy, Debug)]
    pub struct ExtentItem, 24 bytes {
        /// References, counted with their counts.
        0 => refs: U64,
        /// The transaction that allocated the extent.
        8 => generation: U64,
        /// `EXTENT_FLAG_*`, `BLOCK_FLAG_FULL_BACKREF`.
        16 => flags: U64,
    }
}

disk_struct! {
    /// `struct btrfs_tree_block_info`: follows the head of a tree block's EXTENT_ITEM (not of a
    /// METADATA_ITEM).
    #[derive(Copy, Debug)]
    pub struct TreeBlockInfo, 18 bytes {
        /// The first key of the block when it was allocated.
        0 => key: DiskKey,
        /// The block's level.
        17 => level: u8,
    }
}

disk_struct! {
    /// `struct btrfs_extent_inline_ref`: one reference inside the extent's item. Of an
    /// EXTENT_DATA_REF, [`ExtentDataRef`] takes the place of `offset`; a [`SharedDataRef`] follows
    /// a SHARED_DATA_REF.
    #[derive(Copy, Debug)]
    pub struct ExtentInlineRef, 9 bytes {
        /// The kind of the item that could hold the same reference (`type` in the uapi).
        0 => kind: u8,
        /// A tree or a parent block.
        1 => offset: U64,
    }
}

disk_struct! {
    /// `struct btrfs_extent_data_ref`: a file that references a data extent.
    #[derive(Copy, Debug)]
    pub struct ExtentDataRef, 28 bytes {
        /// The tree.
        0 => root: U64,
        /// The inode.
        8 => objectid: U64,
        /// The file offset at which the extent would start (wraps where ranges moved down).
        16 => offset: U64,
        /// File extent items that say the same.
        24 => count: U32,
    }
}

impl ExtentDataRef {
    /// What an EXTENT_DATA_REF key's offset is, barring collisions.
    pub fn hash(&self) -> u64 {
        extent_data_ref_hash(self.root.get(), self.objectid.get(), self.offset.get())
    }
}

disk_struct! {
    /// `struct btrfs_shared_data_ref`: references of one leaf to a data extent.
    #[derive(Copy, Debug)]
    pub struct SharedDataRef, 4 bytes {
        /// File extent items in that leaf.
        0 => count: U32,
    }
}

disk_struct! {
    /// `struct btrfs_extent_owner_ref`: the subvolume that simple quotas charge.
    #[derive(Copy, Debug)]
    pub struct ExtentOwnerRef, 8 bytes {
        /// The subvolume.
        0 => root_id: U64,
    }
}

/// A reference to an extent, inline or keyed, in the program's terms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum BackRef {
    /// A tree references a tree block.
    TreeBlock {
        /// The tree.
        root: u64,
    },
    /// A node references a tree block.
    SharedBlock {
        /// The node.
        parent: u64,
    },
    /// A file references a data extent.
    Data {
        /// The tree.
        root: u64,
        /// The inode.
        objectid: u64,
        /// The file offset at which the extent would start.
        offset: u64,
    },
    /// A leaf references a data extent.
    SharedData {
        /// The leaf.
        parent: u64,
    },
    /// Simple quotas' owner; counts as no reference.
    Owner {
        /// The subvolume.
        root: u64,
    },
}

impl BackRef {
    /// The item kind.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::TreeBlock { .. } => kind::TREE_BLOCK_REF,
            Self::SharedBlock { .. } => kind::SHARED_BLOCK_REF,
            Self::Data { .. } => kind::EXTENT_DATA_REF,
            Self::SharedData { .. } => kind::SHARED_DATA_REF,
            Self::Owner { .. } => kind::EXTENT_OWNER_REF,
        }
    }

    /// Whether it is one to file data, which may count more than once.
    pub const fn is_data(&self) -> bool {
        matches!(self, Self::Data { .. } | Self::SharedData { .. })
    }

    /// What orders references of one kind: the offset of the key that would hold it. Inline
    /// references are in ascending order of kind, and in *descending* order of this within one.
    pub fn sequence(&self) -> u64 {
        match *self {
            Self::TreeBlock { root } | Self::Owner { root } => root,
            Self::SharedBlock { parent } | Self::SharedData { parent } => parent,
            Self::Data {
                root,
                objectid,
                offset,
            } => extent_data_ref_hash(root, objectid, offset),
        }
    }

    /// The key of an item that holds this reference to the extent at `bytenr` (barring hash
    /// collisions of data references, which take the next free offset).
    pub fn key(&self, bytenr: u64) -> Key {
        Key {
            objectid: bytenr,
            kind: self.kind(),
            offset: self.sequence(),
        }
    }

    /// Bytes as an inline reference.
    pub const fn inline_size(&self) -> usize {
        inline_ref_size(self.kind()).expect("every BackRef has an inline form")
    }

    /// The bytes of an inline reference. `count` is meant for data references only.
    pub fn encode_inline(&self, count: u32) -> Vec<u8> {
        let mut bytes = vec![self.kind()];
        match *self {
            Self::TreeBlock { root: offset }
            | Self::Owner { root: offset }
            | Self::SharedBlock { parent: offset } => bytes.extend(offset.to_le_bytes()),
            Self::Data { .. } => bytes.extend(self.encode_keyed(count)),
            Self::SharedData { parent } => {
                bytes.extend(parent.to_le_bytes());
                bytes.extend(count.to_le_bytes());
            }
        }
        bytes
    }

    /// The data of an item of its own.
    pub fn encode_keyed(&self, count: u32) -> Vec<u8> {
        match *self {
            Self::TreeBlock { .. } | Self::SharedBlock { .. } | Self::Owner { .. } => Vec::new(),
            Self::Data {
                root,
                objectid,
                offset,
            } => ExtentDataRef {
                root: root.into(),
                objectid: objectid.into(),
                offset: offset.into(),
                count: count.into(),
            }
            .as_bytes()
            .to_vec(),
            Self::SharedData { .. } => SharedDataRef {
                count: count.into(),
            }
            .as_bytes()
            .to_vec(),
        }
    }

    /// Reads an item of its own: the reference and its count (1 for tree blocks). `None` where
    /// the key is no reference or the data is too short.
    pub fn from_keyed(key: &Key, data: &[u8]) -> Option<(Self, u32)> {
        Some(match key.kind {
            kind::TREE_BLOCK_REF => (Self::TreeBlock { root: key.offset }, 1),
            kind::SHARED_BLOCK_REF => (Self::SharedBlock { parent: key.offset }, 1),
            kind::EXTENT_DATA_REF => data_ref(ExtentDataRef::read(data)?),
            kind::SHARED_DATA_REF => {
                let count = SharedDataRef::read(data)?.count.get();
                (Self::SharedData { parent: key.offset }, count)
            }
            _ => return None,
        })
    }
}

fn data_ref(it: &ExtentDataRef) -> (BackRef, u32) {
    let (root, objectid, offset) = (it.root.get(), it.objectid.get(), it.offset.get());
    (
        BackRef::Data {
            root,
            objectid,
            offset,
        },
        it.count.get(),
    )
}

/// Bytes of an inline reference of this kind, its kind byte included.
pub const fn inline_ref_size(kind: u8) -> Option<usize> {
    Some(match kind {
        kind::TREE_BLOCK_REF | kind::SHARED_BLOCK_REF | kind::EXTENT_OWNER_REF => {
            ExtentInlineRef::SIZE
        }
        kind::EXTENT_DATA_REF => 1 + ExtentDataRef::SIZE,
        kind::SHARED_DATA_REF => ExtentInlineRef::SIZE + SharedDataRef::SIZE,
        _ => return None,
    })
}

/// One inline reference of an extent item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InlineRef {
    /// The reference.
    pub back_ref: BackRef,
    /// Its count, 1 for tree blocks, 0 for the owner.
    pub count: u32,
    /// Where it starts in the item.
    pub at: usize,
}

/// The inline references of an extent item. Stops at bytes that hold none; [`InlineRefs::rest`]
/// is empty when everything was read.
#[derive(Clone, Debug)]
pub struct InlineRefs<'d> {
    data: &'d [u8],
    at: usize,
}

impl<'d> InlineRefs<'d> {
    /// References of `data`, which start at `from`.
    pub fn new(data: &'d [u8], from: usize) -> Self {
        Self {
            data,
            at: from.min(data.len()),
        }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'d [u8] {
        &self.data[self.at..]
    }

    /// Where the next reference starts in the item.
    pub fn at(&self) -> usize {
        self.at
    }
}

impl Iterator for InlineRefs<'_> {
    type Item = InlineRef;

    fn next(&mut self) -> Option<InlineRef> {
        let rest = self.rest();
        let kind = *rest.first()?;
        let bytes = rest.get(..inline_ref_size(kind)?)?;
        let offset = U64::read_from_prefix(&bytes[1..]).map_or(0, |(offset, _)| offset.get());
        let (back_ref, count) = match kind {
            kind::TREE_BLOCK_REF => (BackRef::TreeBlock { root: offset }, 1),
            kind::SHARED_BLOCK_REF => (BackRef::SharedBlock { parent: offset }, 1),
            kind::EXTENT_OWNER_REF => (BackRef::Owner { root: offset }, 0),
            kind::EXTENT_DATA_REF => data_ref(ExtentDataRef::read(&bytes[1..])?),
            kind::SHARED_DATA_REF => {
                let count = SharedDataRef::read(&bytes[ExtentInlineRef::SIZE..])?
                    .count
                    .get();
                (BackRef::SharedData { parent: offset }, count)
            }
            _ => return None,
        };
        let at = self.at;
        self.at += bytes.len();
        Some(InlineRef {
            back_ref,
            count,
            at,
        })
    }
}

/// An EXTENT_ITEM or METADATA_ITEM taken apart.
#[derive(Clone, Debug)]
pub struct ExtentEntry<'d> {
    /// The head.
    pub head: &'d ExtentItem,
    /// First key and level of a tree block, where the item is not skinny.
    pub info: Option<&'d TreeBlockInfo>,
    /// The inline references.
    pub refs: InlineRefs<'d>,
}

impl<'d> ExtentEntry<'d> {
    /// Reads an item, or `None` where it is too short.
    pub fn parse(key: &Key, data: &'d [u8]) -> Option<Self> {
        let head = ExtentItem::read(data)?;
        let mut from = ExtentItem::SIZE;
        let mut info = None;
        if key.kind == kind::EXTENT_ITEM && head.flags.get() & EXTENT_FLAG_TREE_BLOCK != 0 {
            info = Some(TreeBlockInfo::read(&data[from..])?);
            from += TreeBlockInfo::SIZE;
        }
        Some(Self {
            head,
            info,
            refs: InlineRefs::new(data, from),
        })
    }

    /// Whether the extent is a tree block.
    pub fn is_tree_block(&self) -> bool {
        self.head.flags.get() & EXTENT_FLAG_TREE_BLOCK != 0
    }

    /// The level of a tree block, from its key or its info.
    pub fn level(&self, key: &Key) -> Option<u8> {
        if !self.is_tree_block() {
            return None;
        }
        match self.info {
            Some(info) => Some(info.level),
            None => u8::try_from(key.offset).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_references_round_trip() {
        let refs = [
            (BackRef::Owner { root: 5 }, 0),
            (BackRef::TreeBlock { root: 5 }, 1),
            (
                BackRef::Data {
                    root: 5,
                    objectid: 257,
                    offset: 4096,
                },
                3,
            ),
            (BackRef::SharedBlock { parent: 65536 }, 1),
            (BackRef::SharedData { parent: 131072 }, 2),
        ];
        let mut data = vec![0; ExtentItem::SIZE];
        for (back_ref, count) in refs {
            let bytes = back_ref.encode_inline(count);
            assert_eq!(bytes.len(), back_ref.inline_size());
            data.extend(bytes);
        }
        let mut inline = InlineRefs::new(&data, ExtentItem::SIZE);
        let read: Vec<_> = inline.by_ref().map(|it| (it.back_ref, it.count)).collect();
        assert_eq!(read, refs);
        assert!(inline.rest().is_empty());
    }

    #[test]
    fn keyed_references_round_trip() {
        for (back_ref, count) in [
            (BackRef::TreeBlock { root: 5 }, 1),
            (
                BackRef::Data {
                    root: 5,
                    objectid: 257,
                    offset: 4096,
                },
                3,
            ),
            (BackRef::SharedBlock { parent: 65536 }, 1),
            (BackRef::SharedData { parent: 131072 }, 2),
        ] {
            let (key, data) = (back_ref.key(1 << 20), back_ref.encode_keyed(count));
            assert_eq!(BackRef::from_keyed(&key, &data), Some((back_ref, count)));
        }
    }

    #[test]
    fn old_tree_block_items_carry_key_and_level() {
        let head = ExtentItem {
            flags: EXTENT_FLAG_TREE_BLOCK.into(),
            ..ExtentItem::default()
        };
        let info = TreeBlockInfo {
            level: 2,
            ..TreeBlockInfo::default()
        };
        let owner = BackRef::TreeBlock { root: 5 };
        let data = [head.as_bytes(), info.as_bytes(), &owner.encode_inline(1)].concat();
        let key = Key::new(1 << 20, kind::EXTENT_ITEM, 16384);
        let entry = ExtentEntry::parse(&key, &data).expect("well formed");
        assert_eq!(entry.level(&key), Some(2));
        assert_eq!(
            entry.refs.map(|it| it.back_ref).collect::<Vec<_>>(),
            [owner]
        );
        assert!(ExtentEntry::parse(&key, &data[..41]).is_none());
    }
}
