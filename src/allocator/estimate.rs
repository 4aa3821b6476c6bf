//! What a commit may allocate for its own trees: nobody has reserved anything for the extents whose changes
//! wait for it. docs/allocation.md says why these are enough, and where that is only likely.

use super::reserve::FREED_WHEN_FULL;
use super::state::{METADATA, State};

/// Nodes for what a commit writes of other trees, and for what operations that were let in together
/// add before anybody looks again.
const COMMIT_NODES: u64 = 64;
/// Trees of up to so many nodes can be copied whole by one commit; of larger ones only what waiting
/// extents may touch is counted, but never less than this.
const COPIED_WHOLE_NODES: u64 = 2048;
/// Bytes that such an extent may add to those trees: items of 78 and twice 25 bytes, in leaves that
/// are half full.
const WAITING_EXTENT_BYTES: u64 = 256;
/// An extent item takes no less than this in a leaf: a header of 25 bytes and 33 of its own.
const LEAST_EXTENT_BYTES: u64 = 58;

impl State {
    /// What extents that wait for the commit add to its trees.
    pub(super) fn waiting_bytes(&self) -> u64 {
        self.waiting_extents * WAITING_EXTENT_BYTES
    }

    /// Nodes of the trees that a commit changes, as far as they can be copied whole.
    fn copies_nodes(&self, nodesize: u64) -> u64 {
        self.commit_trees_bytes.div_ceil(nodesize)
    }

    /// As much of it as is ever counted whole.
    pub(super) fn copied_whole_nodes(&self, nodesize: u64) -> u64 {
        self.copies_nodes(nodesize).min(COPIED_WHOLE_NODES)
    }

    /// The same, with what waiting extents add: the next commit copies that as well.
    fn grown_nodes(&self, nodesize: u64) -> u64 {
        self.copies_nodes(nodesize) + self.waiting_bytes().div_ceil(nodesize)
    }

    pub(super) fn beside_bytes(&self, nodesize: u64) -> u64 {
        (COMMIT_NODES * nodesize).min(self.global_reserve / 4)
    }

    /// What the commit may still allocate, when `promised` node changes add to what waits.
    pub(super) fn commit_bytes(&self, promised: u64, nodesize: u64) -> u64 {
        let extents = self.waiting_extents + promised;
        let nodes = commit_nodes(self.grown_nodes(nodesize), extents);
        self.beside_bytes(nodesize) + nodes * nodesize + self.waiting_bytes()
    }

    /// By how much that grows at most with so many extents more, whatever waits already.
    pub(super) fn late_bytes(&self, extents: u64, nodesize: u64) -> u64 {
        let trees = self.grown_nodes(nodesize);
        // The trees grow by what they add, and of that, too, all can be copied and half split.
        let growth = (extents * WAITING_EXTENT_BYTES).div_ceil(nodesize);
        (late_nodes(trees, extents) + growth + growth * 3 / 2 + 1) * nodesize
    }

    /// Nodes that a commit takes for the first operation after one, which is promised so many bytes and alone:
    /// it rarely copies all of its trees then, and an image that somebody else filled to the end
    /// may have no more left.
    ///
    /// A change copies a leaf, whose old address is a change anywhere; the new one lies beside others, and is
    /// one more only as often as free nodes lie in different leaves.
    pub(super) fn first_commit_nodes(&self, promised: u64, nodesize: u64) -> u64 {
        let trees = self.copied_whole_nodes(nodesize);
        let changes = self.waiting_extents + promised / nodesize + FREED_WHEN_FULL as u64;
        let free = (self.pools[METADATA].free / nodesize).max(1);
        let leaves = self.free_leaves(nodesize).min(free);
        let touched = met_in_the_end(trees, changes, leaves as f64 / free as f64);
        trees.min(touched + (touched * WAITING_EXTENT_BYTES).div_ceil(nodesize))
    }

    /// In how many leaves of the extent tree the free nodes lie, if leaves are half full and of single nodes.
    fn free_leaves(&self, nodesize: u64) -> u64 {
        let leaf = nodesize * (nodesize / 2 / LEAST_EXTENT_BYTES).max(1);
        let groups = self.groups.values();
        let groups = groups.filter(|group| group.kind.takes_metadata() && !group.closed);
        let mut last = None;
        let mut count = 0;
        for (at, len) in groups.flat_map(|group| group.free().iter()) {
            let (first, end) = (at / leaf, (at + len - 1) / leaf);
            count += end - first + u64::from(last != Some(first));
            last = Some(end);
        }
        count
    }
}

/// Nodes that a commit allocates in trees of so many, for what so many extents change in them.
fn commit_nodes(trees: u64, extents: u64) -> u64 {
    // Each block is copied at most once, and half of the copies may be split.
    let whole = trees + trees / 2;
    // A change copies a leaf; the copy's own old address is a change again, in any leaf: with
    // addresses at random so many leaves are met until only copied ones are.
    let touched = extents + (2 * trees * extents).isqrt();
    whole.min((2 * touched).max(COPIED_WHOLE_NODES))
}

/// By how much [`commit_nodes`] grows at most with so many extents more.
fn late_nodes(trees: u64, extents: u64) -> u64 {
    let grown = (trees + trees / 2).saturating_sub(COPIED_WHOLE_NODES);
    // The root of a sum is no more than the sum of the roots; rounded down, than that and one.
    let touched = extents + (2 * trees * extents).isqrt() + 1;
    grown.min(2 * touched)
}

/// How many of `nodes` are met by so many changes anywhere, when each that is met makes one more anywhere,
/// and a part of one.
fn met_in_the_end(nodes: u64, changes: u64, part: f64) -> u64 {
    let all = nodes as f64;
    let mut met = all;
    // From above, so that every step is enough.
    for _ in 0..100 {
        met = all * (1.0 - (-(changes as f64 + met * (1.0 + part)) / all.max(1.0)).exp());
    }
    met.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_changes_meet_few_nodes_unless_free_ones_are_scattered() {
        for nodes in [0, 1, 40, 658, 2048] {
            let met = |changes, part| met_in_the_end(nodes, changes, part);
            assert!(met(0, 0.0) <= nodes / 16 + 1, "{}", met(0, 0.0));
            assert!(met(66, 0.3) >= 66.min(nodes) / 2);
            assert!(met(66, 1.0) > met(66, 0.0) || nodes < 41);
            assert!(met(10_000, 1.0) >= nodes - nodes / 64, "{nodes}");
            assert!(met(u64::MAX, 1.0) <= nodes);
        }
        // What an image needed on which all could be copied but for a few: 208 nodes.
        assert!((208..658 - 100).contains(&met_in_the_end(658, 66, 0.28)));
    }

    #[test]
    fn a_commit_never_grows_by_more_than_was_kept_for_late_extents() {
        for trees in [0, 1, 900, 1365, 1366, 1400, 5000, 100_000, 3_000_000] {
            for waiting in [0, 1, 7, 100, 1000, 33_333, 10_000_000] {
                for late in [0, 1, 3, 100, 700, 4000, 100_000] {
                    let before = commit_nodes(trees, waiting);
                    let grown = commit_nodes(trees, waiting + late) - before;
                    let kept = late_nodes(trees, late);
                    assert!(grown <= kept, "{trees} {waiting} {late}: {grown} > {kept}");
                }
            }
        }
        assert_eq!(
            late_nodes(1365, 100_000),
            0,
            "all of them can be copied anyway"
        );
    }
}
