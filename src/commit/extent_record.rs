//! One extent item's bytes as a record that references can be added to and taken from.
//!
//! Owns: the order of inline references (kinds ascend; within a kind the sequence descends) and
//! the size from which on references get items of their own. Never: a tree.

use crate::error::{Error, Result};
use crate::ondisk::{BackRef, ExtentEntry, ExtentItem, Key, TreeBlockInfo, tree_block};
use crate::units::Logical;

/// An EXTENT_ITEM or METADATA_ITEM taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExtentRecord {
    /// All references, inline and keyed.
    pub(super) refs: u64,
    pub(super) generation: u64,
    pub(super) flags: u64,
    /// First key and level of a tree block, in items that aren't skinny.
    pub(super) info: Option<TreeBlockInfo>,
    inline: Vec<(BackRef, u32)>,
}

/// What one change of references asks of keyed items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keyed {
    /// References that are not inline, with the change of their counts.
    pub(super) changes: Vec<(BackRef, i64)>,
}

impl ExtentRecord {
    /// An extent without references, made in this transaction.
    pub(super) fn new(generation: u64, flags: u64, info: Option<TreeBlockInfo>) -> Self {
        Self {
            refs: 0,
            generation,
            flags,
            info,
            inline: Vec::new(),
        }
    }

    /// Takes an item apart. The tree checker has seen it, so a failure is a contradiction.
    pub(super) fn parse(key: &Key, data: &[u8]) -> Result<Self> {
        let bad = || Error::corrupt_block(Logical(key.objectid), None, "extent item is torn");
        let mut entry = ExtentEntry::parse(key, data).ok_or_else(bad)?;
        let inline = entry
            .refs
            .by_ref()
            .map(|it| (it.back_ref, it.count))
            .collect();
        if !entry.refs.rest().is_empty() {
            return Err(bad());
        }
        Ok(Self {
            refs: entry.head.refs.get(),
            generation: entry.head.generation.get(),
            flags: entry.head.flags.get(),
            info: entry.info.copied(),
            inline,
        })
    }

    /// The item's bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let head = ExtentItem {
            refs: self.refs.into(),
            generation: self.generation.into(),
            flags: self.flags.into(),
        };
        let mut bytes = head.as_bytes().to_vec();
        if let Some(info) = &self.info {
            bytes.extend_from_slice(info.as_bytes());
        }
        for (back_ref, count) in &self.inline {
            bytes.extend(back_ref.encode_inline(*count));
        }
        bytes
    }

    fn size(&self) -> usize {
        let info = self.info.map_or(0, |_| TreeBlockInfo::SIZE);
        let inline: usize = self
            .inline
            .iter()
            .map(|(back_ref, _)| back_ref.inline_size())
            .sum();
        ExtentItem::SIZE + info + inline
    }

    /// Some reference of this extent has an item of its own: the inline ones are fewer than all.
    fn has_keyed(&self) -> bool {
        self.inline
            .iter()
            .map(|&(_, count)| u64::from(count))
            .sum::<u64>()
            < self.refs
    }

    /// Applies changes of references, positive ones first, as far as they are inline or may
    /// become so; the rest comes back for keyed items.
    ///
    /// A new reference goes inline only while the extent has no keyed one, so that a search
    /// that found nothing inline knows where else to look.
    pub(super) fn apply(&mut self, changes: &[(BackRef, i64)], nodesize: u32) -> Result<Keyed> {
        let mut keyed = Keyed::default();
        let size_max = inline_size_max(nodesize);
        let mut any_keyed = self.has_keyed();
        let ascending = changes.iter().filter(|(_, change)| *change > 0);
        for &(back_ref, change) in ascending.chain(changes.iter().filter(|it| it.1 < 0)) {
            let refs = self.refs.checked_add_signed(change);
            self.refs = refs.ok_or_else(|| self.contradiction(&back_ref, change))?;
            if let Some(i) = self.inline.iter().position(|(have, _)| *have == back_ref) {
                let count = i64::from(self.inline[i].1) + change;
                let is_tree = !back_ref.is_data();
                match u32::try_from(count) {
                    Ok(0) => {
                        self.inline.remove(i);
                    }
                    // A tree block is referenced by one tree, or one parent, once.
                    Ok(count) if !is_tree || count == 1 => self.inline[i].1 = count,
                    _ => return Err(self.contradiction(&back_ref, change)),
                }
            } else if change > 0 && !any_keyed && self.size() + back_ref.inline_size() < size_max {
                let count =
                    u32::try_from(change).map_err(|_| self.contradiction(&back_ref, change))?;
                let order = (back_ref.kind(), std::cmp::Reverse(back_ref.sequence()));
                let at = self.inline.partition_point(|(have, _)| {
                    (have.kind(), std::cmp::Reverse(have.sequence())) < order
                });
                self.inline.insert(at, (back_ref, count));
            } else {
                any_keyed |= change > 0;
                keyed.changes.push((back_ref, change));
            }
        }
        Ok(keyed)
    }

    fn contradiction(&self, back_ref: &BackRef, change: i64) -> Error {
        Error::corrupt(format!(
            "an extent of {} references can't change {back_ref:?} by {change}",
            self.refs
        ))
    }
}

/// An extent item stays below this size; further references get items of their own.
fn inline_size_max(nodesize: u32) -> usize {
    const ITEM_HEAD_BYTES: usize = 25;
    (tree_block::leaf_data_size(nodesize) as usize >> 4) - ITEM_HEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ondisk::{EXTENT_FLAG_DATA, EXTENT_FLAG_TREE_BLOCK, kind};

    const NODE: u32 = 16384;

    fn data(objectid: u64) -> BackRef {
        BackRef::Data {
            root: 5,
            objectid,
            offset: 0,
        }
    }

    #[test]
    fn references_are_ordered_merged_and_removed() {
        let key = Key::new(1 << 20, kind::EXTENT_ITEM, 4096);
        let mut record = ExtentRecord::new(7, EXTENT_FLAG_DATA, None);
        let changes: Vec<_> = (257..267).map(|ino| (data(ino), 1)).collect();
        assert_eq!(record.apply(&changes, NODE).unwrap(), Keyed::default());
        record
            .apply(&[(BackRef::SharedData { parent: 1 << 24 }, 3)], NODE)
            .unwrap();
        record
            .apply(&[(data(260), 4), (data(261), -1)], NODE)
            .unwrap();
        assert_eq!(record.refs, 16);
        let read = ExtentRecord::parse(&key, &record.encode()).unwrap();
        assert_eq!(read, record);
        let order: Vec<_> = read
            .inline
            .iter()
            .map(|(it, _)| (it.kind(), it.sequence()))
            .collect();
        assert!(order.windows(2).all(|w| w[0].0 < w[1].0 || w[0].1 > w[1].1));
        assert!(read.inline.contains(&(data(260), 5)));
        assert!(record.apply(&[(data(260), -6)], NODE).is_err());
    }

    #[test]
    fn beyond_the_limit_references_are_keyed_and_stay_so() {
        let mut record = ExtentRecord::new(7, EXTENT_FLAG_DATA, None);
        let mut keyed = 0;
        for ino in 0..50 {
            keyed += record.apply(&[(data(ino), 1)], NODE).unwrap().changes.len();
        }
        assert!(record.size() < inline_size_max(NODE));
        assert_eq!(record.inline.len() + keyed, 50);
        // Room alone doesn't bring a reference back inline while others are keyed.
        let first = record.inline[0].0;
        record.apply(&[(first, -1)], NODE).unwrap();
        let again = record.apply(&[(first, 1)], NODE).unwrap();
        assert_eq!(again.changes, [(first, 1)]);
        assert_eq!(record.refs, 50);
    }

    #[test]
    fn a_tree_block_has_each_owner_once_and_keeps_its_info() {
        let key = Key::new(1 << 20, kind::EXTENT_ITEM, 16384);
        let info = TreeBlockInfo {
            level: 2,
            ..TreeBlockInfo::default()
        };
        let mut record = ExtentRecord::new(7, EXTENT_FLAG_TREE_BLOCK, Some(info));
        let owner = BackRef::TreeBlock { root: 5 };
        record.apply(&[(owner, 1)], NODE).unwrap();
        assert!(record.clone().apply(&[(owner, 1)], NODE).is_err());
        let read = ExtentRecord::parse(&key, &record.encode()).unwrap();
        assert_eq!(read.info.unwrap().level, 2);
        // Positive changes run first, so a block that changes hands never touches zero.
        let parent = BackRef::SharedBlock { parent: 1 << 24 };
        record.apply(&[(owner, -1), (parent, 1)], NODE).unwrap();
        assert_eq!((record.refs, record.inline.len()), (1, 1));
    }
}
