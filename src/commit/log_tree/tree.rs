//! One log tree in memory: leaves that know whether the disk has them.
//!
//! Owns: the items, their split into leaves, and building blocks. Never: I/O, nor where free blocks
//! come from. Invariant: a leaf that has a place is on the disk there as it is in memory, or will
//! be with the blocks built last; a leaf that changes loses its place, which goes to the retired
//! ones.
//!
//! Nodes are built anew each time: a log is small, so there are few.

use crate::ondisk::tree_block::{self, Item, leaf, leaf_data_size, node, node_ptrs_max};
use crate::ondisk::{Key, Uuid, ids};
use crate::units::{Generation, Logical};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// What every block of a log has in its header.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    pub nodesize: u32,
    pub generation: Generation,
    pub fsid: Uuid,
    pub chunk_tree_uuid: Uuid,
}

/// A block and where it belongs. Not sealed yet.
pub(super) type Placed = (Logical, Vec<u8>);

struct Leaf {
    items: BTreeMap<Key, Vec<u8>>,
    /// Bytes of entries and data.
    used: usize,
    at: Option<Logical>,
}

/// See the module.
pub(super) struct LogTree {
    /// By the least key that belongs into each; the first one's is [`Key::MIN`].
    leaves: BTreeMap<Key, Leaf>,
    room: usize,
    nodes: Vec<Logical>,
    root: Option<(Logical, u8)>,
    /// Places that the next superblock doesn't reach any more.
    retired: Vec<Logical>,
}

impl LogTree {
    /// A tree without items.
    pub fn new(nodesize: u32) -> Self {
        Self {
            leaves: BTreeMap::from([(Key::MIN, Leaf::empty())]),
            room: leaf_data_size(nodesize) as usize,
            nodes: Vec::new(),
            root: None,
            retired: Vec::new(),
        }
    }

    /// Bytes of all items.
    pub fn bytes(&self) -> usize {
        self.leaves.values().map(|leaf| leaf.used).sum()
    }

    /// An item's data.
    pub fn get(&self, key: &Key) -> Option<&[u8]> {
        let (_, leaf) = self.leaves.range(..=*key).next_back()?;
        leaf.items.get(key).map(Vec::as_slice)
    }

    /// The keys in a range.
    pub fn keys(&self, range: RangeInclusive<Key>) -> Vec<Key> {
        let first = self.leaves.range(..=*range.start()).next_back();
        let from = first.map_or(Key::MIN, |(&lower, _)| lower);
        let leaves = self.leaves.range(from..=*range.end());
        leaves
            .flat_map(|(_, leaf)| leaf.items.range(range.clone()).map(|(&key, _)| key))
            .collect()
    }

    /// Inserts or replaces an item, which fits into a leaf; false if it was there as it is.
    pub fn put(&mut self, key: Key, data: Vec<u8>) -> bool {
        if self.get(&key) == Some(data.as_slice()) {
            return false;
        }
        let lower = self.touch(&key);
        let leaf = self.leaves.get_mut(&lower).expect("touched");
        let size = Item::SIZE + data.len();
        let old = leaf.items.insert(key, data);
        leaf.used += size;
        leaf.used -= old.map_or(0, |old| Item::SIZE + old.len());
        // What stays below fits; what goes above may hold the new item in its middle.
        let mut lower = lower;
        while let Some(leaf) = self.leaves.get_mut(&lower)
            && let Some(upper) = leaf.split(self.room)
        {
            lower = *upper.items.keys().next().expect("a split takes items");
            self.leaves.insert(lower, upper);
        }
        true
    }

    /// Removes an item; false if there was none.
    pub fn remove(&mut self, key: &Key) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        let lower = self.touch(key);
        let leaf = self.leaves.get_mut(&lower).expect("touched");
        if let Some(old) = leaf.items.remove(key) {
            leaf.used -= Item::SIZE + old.len();
        }
        if leaf.items.is_empty() && lower != Key::MIN {
            self.leaves.remove(&lower);
        }
        true
    }

    /// The leaf that `key` belongs into is to be written anew.
    fn touch(&mut self, key: &Key) -> Key {
        let (&lower, leaf) = self
            .leaves
            .range_mut(..=*key)
            .next_back()
            .expect("the first leaf begins with the least key");
        self.retired.extend(leaf.at.take());
        self.retired.append(&mut self.nodes);
        self.root = None;
        lower
    }

    /// The root's place and level, if the tree is where it was built last.
    pub fn root(&self) -> Option<(Logical, u8)> {
        self.root
    }

    /// How many blocks [`LogTree::build`] makes.
    pub fn blocks_due(&self) -> usize {
        if self.root.is_some() {
            return 0;
        }
        let mut due = self.leaves.values().filter(|it| it.at.is_none()).count();
        let mut level = self.filled().count().max(1);
        while level > 1 {
            level = level.div_ceil(self.ptrs_max());
            due += level;
        }
        due
    }

    fn ptrs_max(&self) -> usize {
        node_ptrs_max(self.room as u32 + tree_block::Header::SIZE as u32)
    }

    /// The leaves that nodes point to. The first one may be empty, and then counts only alone.
    fn filled(&self) -> impl Iterator<Item = &Leaf> {
        self.leaves.values().filter(|leaf| !leaf.items.is_empty())
    }

    /// Builds everything that has no place, at the next ones of `places`, which suffice.
    pub fn build(
        &mut self,
        stamp: &Stamp,
        places: &mut impl Iterator<Item = Logical>,
        into: &mut Vec<Placed>,
    ) -> (Logical, u8) {
        if let Some(root) = self.root {
            return root;
        }
        let mut next = || places.next().expect("so many were counted");
        for leaf in self.leaves.values_mut().filter(|leaf| leaf.at.is_none()) {
            let at = next();
            leaf.at = Some(at);
            into.push((at, leaf.block(stamp, at)));
        }
        let mut children: Vec<(Key, Logical)> = self
            .filled()
            .filter_map(|leaf| leaf.items.keys().next().copied().zip(leaf.at))
            .collect();
        if children.is_empty() {
            let only = self.leaves.values().find_map(|leaf| leaf.at);
            children.push((Key::MIN, only.expect("built above")));
        }
        let (mut level, most) = (0, self.ptrs_max());
        while children.len() > 1 {
            level += 1;
            let mut above = Vec::new();
            for run in children.chunks(most) {
                let at = next();
                let mut block = stamp.block(at, level);
                for (slot, (key, child)) in run.iter().enumerate() {
                    node::insert(&mut block, slot, key, *child, stamp.generation);
                }
                self.nodes.push(at);
                into.push((at, block));
                above.push((run[0].0, at));
            }
            children = above;
        }
        let root = (children[0].1, level);
        self.root = Some(root);
        root
    }

    /// The places that the tree as built last doesn't use any more.
    pub fn take_retired(&mut self) -> Vec<Logical> {
        std::mem::take(&mut self.retired)
    }
}

impl Leaf {
    fn empty() -> Self {
        Self {
            items: BTreeMap::new(),
            used: 0,
            at: None,
        }
    }

    /// What doesn't fit, or about half: all behind the first half of the bytes. Items that come in
    /// order fill leaves, because the last one goes alone.
    fn split(&mut self, room: usize) -> Option<Self> {
        if self.used <= room {
            return None;
        }
        let size = |data: &Vec<u8>| Item::SIZE + data.len();
        let (&last, last_data) = self.items.last_key_value()?;
        let mut from = last;
        if self.used - size(last_data) > room {
            let mut below = 0;
            for (&key, data) in &self.items {
                if below > 0 && below + size(data) > room / 2 {
                    from = key;
                    break;
                }
                below += size(data);
            }
        }
        let items = self.items.split_off(&from);
        let used = items.values().map(size).sum();
        self.used -= used;
        Some(Self {
            items,
            used,
            at: None,
        })
    }

    fn block(&self, stamp: &Stamp, at: Logical) -> Vec<u8> {
        let mut block = stamp.block(at, 0);
        for (slot, (key, data)) in self.items.iter().enumerate() {
            leaf::insert(&mut block, slot, key, data);
        }
        block
    }
}

impl Stamp {
    fn block(&self, at: Logical, level: u8) -> Vec<u8> {
        let mut block = vec![0; self.nodesize as usize];
        let (generation, owner) = (self.generation, ids::TREE_LOG_OBJECTID);
        let (fsid, chunks) = (&self.fsid, &self.chunk_tree_uuid);
        tree_block::init(&mut block, at, generation, owner, level, fsid, chunks);
        tree_block::header_mut(&mut block).set_flag(tree_block::HEADER_FLAG_WRITTEN, true);
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAMP: Stamp = Stamp {
        nodesize: 4096,
        generation: Generation(9),
        fsid: [1; 16],
        chunk_tree_uuid: [2; 16],
    };

    /// The items below a block, as a reader of the disk would find them.
    fn read(disk: &BTreeMap<Logical, Vec<u8>>, at: Logical) -> Vec<(Key, Vec<u8>)> {
        let block = &disk[&at];
        if tree_block::level(block) == 0 {
            return leaf::items(block)
                .map(|(key, data)| (key, data.to_vec()))
                .collect();
        }
        let slots = 0..tree_block::nritems(block);
        let children = slots.map(|slot| (node::key(block, slot), node::ptr(block, slot).0));
        children
            .flat_map(|(key, child)| {
                let items = read(disk, child);
                assert_eq!(items[0].0, key, "a node tells its child's first key");
                items
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Whatever is put, removed and built in between: the disk says what the model says, no
        /// block is written over while the tree that was built before still needs it, and all
        /// that isn't used any more is told.
        #[test]
        fn what_is_built_is_what_was_put(
            steps in prop::collection::vec((0u8..8, 0u64..400, 0usize..900), 1..300)
        ) {
            let mut tree = LogTree::new(4096);
            let mut model = BTreeMap::new();
            let mut disk: BTreeMap<Logical, Vec<u8>> = BTreeMap::new();
            let mut places = (1u64..).map(|n| Logical(n * 4096));
            let mut live = 0;
            for (verb, id, size) in steps {
                let key = Key::new(id, 108, 0);
                match verb {
                    0 => {
                        prop_assert_eq!(tree.remove(&key), model.remove(&key).is_some());
                    }
                    1 => {
                        let mut blocks = Vec::new();
                        let due = tree.blocks_due();
                        let (root, _) = tree.build(&STAMP, &mut places, &mut blocks);
                        prop_assert_eq!(blocks.len(), due);
                        live += blocks.len();
                        disk.extend(blocks);
                        for at in tree.take_retired() {
                            prop_assert!(disk.remove(&at).is_some(), "{} was in use", at);
                            live -= 1;
                        }
                        prop_assert_eq!(disk.len(), live);
                        let wanted: Vec<_> = model.clone().into_iter().collect();
                        prop_assert_eq!(read(&disk, root), wanted);
                    }
                    _ => {
                        tree.put(key, vec![verb; size]);
                        model.insert(key, vec![verb; size]);
                    }
                }
            }
        }
    }

    #[test]
    fn items_in_order_fill_their_leaves() {
        let mut tree = LogTree::new(4096);
        for id in 0..1000 {
            tree.put(Key::new(id, 108, 0), vec![0; 53]);
        }
        assert!(
            tree.leaves.len() <= 1000 * 78 / 3995 + 1,
            "{}",
            tree.leaves.len()
        );
    }

    #[test]
    fn one_changed_item_costs_its_leaf_and_the_nodes() {
        let mut tree = LogTree::new(4096);
        for id in 0..500 {
            tree.put(Key::new(id, 108, 0), vec![0; 53]);
        }
        let mut places = (1u64..).map(|n| Logical(n * 4096));
        tree.build(&STAMP, &mut places, &mut Vec::new());
        assert!(!tree.put(Key::new(77, 108, 0), vec![0; 53]), "nothing new");
        assert_eq!(tree.blocks_due(), 0);
        assert!(tree.put(Key::new(77, 108, 0), vec![1; 53]));
        assert_eq!(tree.blocks_due(), 2);
    }
}
