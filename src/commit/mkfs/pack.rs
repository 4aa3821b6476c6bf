//! Sorted items to tree blocks: full leaves, then nodes above them until one is left.

use crate::ondisk::tree_block::{self, Item, leaf, node, node_ptrs_max};
use crate::ondisk::{Key, Uuid};
use crate::units::{Generation, Logical};

/// What every block of one tree has in its header.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    pub(super) owner: u64,
    pub(super) nodesize: u32,
    pub(super) generation: Generation,
    pub(super) fsid: Uuid,
    pub(super) chunk_tree_uuid: Uuid,
}

impl Stamp {
    fn block(&self, at: Logical, level: u8) -> Vec<u8> {
        let mut block = vec![0; self.nodesize as usize];
        tree_block::init(
            &mut block,
            at,
            self.generation,
            self.owner,
            level,
            &self.fsid,
            &self.chunk_tree_uuid,
        );
        tree_block::header_mut(&mut block).set_flag(tree_block::HEADER_FLAG_WRITTEN, true);
        block
    }
}

/// The tree's blocks from `at` on, side by side; the last one is the root. No checksums yet.
pub(super) fn pack(stamp: &Stamp, items: &[(Key, Vec<u8>)], at: Logical) -> Vec<Vec<u8>> {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let place = |index: usize| Logical(at.0 + index as u64 * u64::from(stamp.nodesize));
    for run in split(items, stamp.nodesize) {
        let mut block = stamp.block(place(blocks.len()), 0);
        for (slot, (key, data)) in run.iter().enumerate() {
            leaf::insert(&mut block, slot, key, data);
        }
        blocks.push(block);
    }
    let (mut below, mut level) = (0..blocks.len(), 0);
    while below.len() > 1 {
        level += 1;
        let children: Vec<usize> = below.clone().collect();
        let start = blocks.len();
        for run in children.chunks(node_ptrs_max(stamp.nodesize)) {
            let mut block = stamp.block(place(blocks.len()), level);
            for (slot, &child) in run.iter().enumerate() {
                let key = tree_block::key(&blocks[child], 0);
                node::insert(&mut block, slot, &key, place(child), stamp.generation);
            }
            blocks.push(block);
        }
        below = start..blocks.len();
    }
    blocks
}

/// Runs of items that fill a leaf each; an empty tree is one empty leaf.
fn split(items: &[(Key, Vec<u8>)], nodesize: u32) -> Vec<&[(Key, Vec<u8>)]> {
    let room = tree_block::leaf_data_size(nodesize) as usize;
    let (mut runs, mut start, mut used) = (Vec::new(), 0, 0);
    for (at, (_, data)) in items.iter().enumerate() {
        let size = Item::SIZE + data.len();
        if used + size > room {
            runs.push(&items[start..at]);
            (start, used) = (at, 0);
        }
        used += size;
    }
    runs.push(&items[start..]);
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_items_make_a_tree_of_three_levels() {
        let stamp = Stamp {
            owner: 5,
            nodesize: 4096,
            generation: Generation(1),
            fsid: [1; 16],
            chunk_tree_uuid: [2; 16],
        };
        let items: Vec<_> = (0..20_000u64)
            .map(|id| (Key::new(id, 1, 0), vec![7; 10]))
            .collect();
        let blocks = pack(&stamp, &items, Logical(1 << 20));
        assert_eq!(tree_block::level(&blocks[blocks.len() - 1]), 2);
        let found: Vec<Key> = blocks
            .iter()
            .filter(|block| tree_block::level(block) == 0)
            .flat_map(|block| leaf::items(block).map(|(key, _)| key).collect::<Vec<_>>())
            .collect();
        assert!(found.iter().copied().eq(items.iter().map(|(key, _)| *key)));
        assert_eq!(pack(&stamp, &[], Logical(0)).len(), 1);
    }
}
