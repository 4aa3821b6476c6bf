//! References between blocks, and from leaves to file data.
//!
//! Owns: reading how often a block is referenced, and queueing the references of everything that
//! a block points to. Invariant: a count is read under the lock of the extent tree's leaf that
//! holds it, together with what waits in the delayed refs, so that nothing is counted twice or
//! missed.

use super::TreeContext;
use super::roots::Root;
use crate::error::{Error, Result};
use crate::ondisk::ids::EXTENT_TREE_OBJECTID;
use crate::ondisk::key::{Key, kind};
use crate::ondisk::tree_block::{self, leaf, node};
use crate::ondisk::{ExtentItem, FileExtent};
use crate::transaction::{Pending, RefKind, TransHandle, Transaction};
use crate::units::Logical;

/// What is known about an extent, with everything that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentInfo {
    /// How many references it has.
    pub refs: u64,
    /// `EXTENT_FLAG_*` and `BLOCK_FLAG_FULL_BACKREF`.
    pub flags: u64,
}

/// Whom the references of a block's children are counted for.
#[derive(Clone, Copy)]
pub(super) enum Holder {
    /// The tree: TREE_BLOCK_REF and EXTENT_DATA_REF.
    Tree(u64),
    /// The block itself: SHARED_BLOCK_REF and SHARED_DATA_REF.
    Block(Logical),
}

impl TreeContext {
    /// References and flags of a tree block.
    pub fn tree_block_info(
        &self,
        trans: &TransHandle,
        at: Logical,
        level: u8,
    ) -> Result<Option<ExtentInfo>> {
        let skinny = Key::new(at.get(), kind::METADATA_ITEM, u64::from(level));
        let old = Key::new(at.get(), kind::EXTENT_ITEM, u64::from(self.nodesize));
        self.extent_info(trans, at, &[skinny, old])
    }

    /// References and flags of a data extent.
    pub fn data_extent_info(
        &self,
        trans: &TransHandle,
        at: Logical,
        len: u64,
    ) -> Result<Option<ExtentInfo>> {
        self.extent_info(trans, at, &[Key::new(at.get(), kind::EXTENT_ITEM, len)])
    }

    fn extent_info(
        &self,
        trans: &TransHandle,
        at: Logical,
        keys: &[Key],
    ) -> Result<Option<ExtentInfo>> {
        let extents = self.roots.get(self, EXTENT_TREE_OBJECTID)?;
        let waiting = &trans.transaction().delayed_refs;
        'again: loop {
            let before = waiting.peek(at);
            for (i, key) in keys.iter().enumerate() {
                let found = self.read_leaf(&extents, key, false)?;
                let item = match tree_block::search(&found.guard, key) {
                    Ok(slot) => ExtentItem::read(leaf::item_data(&found.guard, slot)),
                    Err(_) if i + 1 < keys.len() => continue,
                    Err(_) => None,
                };
                // Under the leaf's lock: the runner of this extent's head can't be changing it.
                let known = item.map(|item| (item.refs.get(), item.flags.get()));
                let now = waiting.peek(at);
                // An item that was inserted between the looks for two keys is missed by both;
                // its head can't look the same before and after.
                if known.is_none() && now != before {
                    drop(found);
                    waiting.wait_until_run(at);
                    continue 'again;
                }
                let (delta, flags) = match now {
                    Pending::None => (0, 0),
                    Pending::Waiting {
                        delta,
                        flags_to_set,
                        ..
                    } => (delta, flags_to_set),
                    Pending::Running => {
                        drop(found);
                        waiting.wait_until_run(at);
                        continue 'again;
                    }
                };
                let Some(refs) = known.map_or(0, |(refs, _)| refs).checked_add_signed(delta) else {
                    return Err(Error::corrupt_block(
                        at,
                        None,
                        "more references dropped than held",
                    ));
                };
                if known.is_none() && refs == 0 {
                    return Ok(None);
                }
                return Ok(Some(ExtentInfo {
                    refs,
                    flags: known.map_or(0, |(_, flags)| flags) | flags,
                }));
            }
        }
    }

    /// Queues one more reference to everything that `block` points to.
    pub(super) fn add_child_refs(
        &self,
        transaction: &Transaction,
        root: &Root,
        block: &[u8],
        holder: Holder,
    ) {
        let refs = &transaction.delayed_refs;
        each_child(root, block, self.nodesize, holder, |child| match child {
            Child::Block {
                at,
                len,
                level,
                kind,
            } => refs.add_tree_ref(at, len, level, kind),
            Child::Data { at, len, kind } => refs.add_data_ref(at, len, kind),
        });
    }

    /// Queues one reference less to everything that `block` points to.
    pub(super) fn drop_child_refs(
        &self,
        transaction: &Transaction,
        root: &Root,
        block: &[u8],
        holder: Holder,
    ) {
        let refs = &transaction.delayed_refs;
        each_child(root, block, self.nodesize, holder, |child| match child {
            Child::Block {
                at,
                len,
                level,
                kind,
            } => {
                // A child reached through a shared block is older than this transaction, so its
                // own allocation can't be what cancels.
                let _ = refs.drop_tree_ref(at, len, level, kind);
            }
            Child::Data { at, len, kind } => refs.drop_data_ref(at, len, kind),
        });
    }
}

enum Child {
    Block {
        at: Logical,
        len: u64,
        level: u8,
        kind: RefKind,
    },
    Data {
        at: Logical,
        len: u64,
        kind: RefKind,
    },
}

/// Each child of a node; each data extent of a subvolume's leaf, as often as it is named.
fn each_child(
    root: &Root,
    block: &[u8],
    nodesize: u32,
    holder: Holder,
    mut tell: impl FnMut(Child),
) {
    let level = tree_block::level(block);
    if level > 0 {
        let kind = match holder {
            Holder::Tree(root) => RefKind::Tree { root },
            Holder::Block(parent) => RefKind::SharedTree { parent },
        };
        for slot in 0..tree_block::nritems(block) {
            let (at, _) = node::ptr(block, slot);
            tell(Child::Block {
                at,
                len: u64::from(nodesize),
                level: level - 1,
                kind,
            });
        }
        return;
    }
    if !root.is_shareable() {
        return;
    }
    for slot in 0..tree_block::nritems(block) {
        let key = leaf::item_key(block, slot);
        if key.kind != kind::EXTENT_DATA {
            continue;
        }
        let Some(FileExtent::Extent(extent)) = FileExtent::parse(leaf::item_data(block, slot))
        else {
            continue;
        };
        if extent.is_hole() {
            continue;
        }
        let kind = match holder {
            Holder::Tree(root) => RefKind::Data {
                root,
                objectid: key.objectid,
                offset: key.offset.wrapping_sub(extent.offset.get()),
            },
            Holder::Block(parent) => RefKind::SharedData { parent },
        };
        let at = Logical(extent.disk_bytenr.get());
        tell(Child::Data {
            at,
            len: extent.disk_num_bytes.get(),
            kind,
        });
    }
}
