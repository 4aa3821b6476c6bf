//! One extent's references that wait to reach the extent tree.
//!
//! Owns: merging. Invariant: [`RefHead::refs`] holds no kind twice and none with a count of
//! zero, so a reference added and dropped in one transaction costs the extent tree nothing.

use crate::ondisk::key::Key;
use crate::units::Logical;

/// Who holds a reference to an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefKind {
    /// TREE_BLOCK_REF: a block of tree `root`.
    Tree {
        /// The tree's objectid.
        root: u64,
    },
    /// SHARED_BLOCK_REF: pointed to by the node at `parent`, which uses full backrefs.
    SharedTree {
        /// The parent node.
        parent: Logical,
    },
    /// EXTENT_DATA_REF: file extents of one inode of one tree.
    Data {
        /// The tree's objectid.
        root: u64,
        /// The inode.
        objectid: u64,
        /// The file offset at which the extent's first byte would be: `key.offset` minus the
        /// file extent item's `offset`, wrapping.
        offset: u64,
    },
    /// SHARED_DATA_REF: file extents in the leaf at `parent`, which uses full backrefs.
    SharedData {
        /// The leaf.
        parent: Logical,
    },
}

impl RefKind {
    /// Whether the extent is file data.
    pub fn is_data(&self) -> bool {
        matches!(self, Self::Data { .. } | Self::SharedData { .. })
    }
}

/// A change to the extent item itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtentOp {
    /// Bits to set in `ExtentItem::flags` (FULL_BACKREF).
    pub flags_to_set: u64,
    /// A new tree block's first key, which old (not skinny) items record.
    pub first_key: Option<Key>,
}

/// All waiting references of one extent.
#[derive(Clone, Debug)]
pub struct RefHead {
    /// The extent.
    pub bytenr: Logical,
    /// Its length.
    pub num_bytes: u64,
    /// File data, or a tree block.
    pub is_data: bool,
    /// A tree block's level.
    pub level: u8,
    /// The extent was allocated in this transaction and has no item yet: the first run inserts
    /// it, or, when no reference is left (data only), pins the range.
    pub must_insert_reserved: bool,
    /// Changes to the item.
    pub extent_op: Option<ExtentOp>,
    /// Net changes, each not zero. Run the positive ones first: a count must not touch zero
    /// on the way.
    pub refs: Vec<(RefKind, i64)>,
}

impl RefHead {
    pub(super) fn new(bytenr: Logical, num_bytes: u64, is_data: bool, level: u8) -> Self {
        Self {
            bytenr,
            num_bytes,
            is_data,
            level,
            must_insert_reserved: false,
            extent_op: None,
            refs: Vec::new(),
        }
    }

    /// Merges one change.
    pub(super) fn merge(&mut self, kind: RefKind, change: i64) {
        match self.refs.iter().position(|(have, _)| *have == kind) {
            Some(i) => {
                self.refs[i].1 += change;
                if self.refs[i].1 == 0 {
                    self.refs.swap_remove(i);
                }
            }
            None if change != 0 => self.refs.push((kind, change)),
            None => {}
        }
    }

    pub(super) fn merge_op(&mut self, op: ExtentOp) {
        let have = self.extent_op.get_or_insert_default();
        have.flags_to_set |= op.flags_to_set;
        if op.first_key.is_some() {
            have.first_key = op.first_key;
        }
    }

    /// Sum of all changes.
    pub fn delta(&self) -> i64 {
        self.refs.iter().map(|(_, count)| count).sum()
    }

    /// Nothing is left to do.
    pub(super) fn is_void(&self) -> bool {
        self.refs.is_empty() && !self.must_insert_reserved && self.extent_op.is_none()
    }
}
