//! The allocator against a model of single sectors, and its refusals.

use super::*;
use crate::allocator::superblocks::STRIPE_LEN;
use crate::allocator::{MetaReservation, Reclaim, Steal};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::units::GIB;
use proptest::prelude::*;
use std::collections::BTreeMap;

const NODE: u64 = 16 << 10;
const SECTOR: u64 = 4 << 10;
const META_FLAGS: u64 = (1 << 2) | (1 << 5);

/// As a new image: 8 MiB data, `metadata` bytes DUP metadata, 8 MiB DUP system.
fn fresh(device_bytes: u64, metadata: u64) -> Arc<Space> {
    let space = Space::new(SpaceConfig {
        sectorsize: SECTOR as u32,
        nodesize: NODE as u32,
        map_chunk: Box::new(|_| Ok(())),
    });
    let at = |mib: u64| (DevId(1), Physical(mib * MIB));
    let meta_mib = metadata / MIB;
    let extents = [
        (MIB, 8 * MIB),
        (9 * MIB, 16 * MIB),
        (25 * MIB, 2 * metadata),
    ];
    space.add_device(DevId(1), device_bytes, extents);
    let groups = [
        (MIB, 8 * MIB, 1, vec![at(1)]),
        (9 * MIB, 8 * MIB, (1 << 1) | (1 << 5), vec![at(9), at(17)]),
        (
            17 * MIB,
            metadata,
            META_FLAGS,
            vec![at(25), at(25 + meta_mib)],
        ),
    ];
    for (start, len, flags, stripes) in groups {
        space.add_group(start, len, flags, 0, stripes).unwrap();
        space.load_free(start, [(start, len)]);
    }
    Arc::new(space)
}

#[test]
fn tree_blocks_are_consecutive_and_a_freed_one_comes_next() {
    let space = fresh(GIB, 32 * MIB);
    let blocks: Vec<_> = (0..4)
        .map(|_| space.alloc_tree_block(TreeSpace::Metadata).unwrap().0)
        .collect();
    assert_eq!(blocks, [0, 1, 2, 3].map(|n| 17 * MIB + n * NODE));
    space.free_unwritten(Logical(blocks[1]), NODE);
    assert_eq!(
        space.alloc_tree_block(TreeSpace::Metadata).unwrap().0,
        blocks[1]
    );
    assert_eq!(
        space.alloc_tree_block(TreeSpace::Metadata).unwrap().0,
        blocks[3] + NODE
    );
    space.verify().unwrap();
}

#[test]
fn a_pinned_range_comes_back_only_after_unpin() {
    let space = fresh(GIB, 32 * MIB);
    let mut reservation = space.reserve_data(8 * MIB).unwrap();
    let (at, len) = space
        .alloc_data(&mut reservation, 8 * MIB, SECTOR, None)
        .unwrap();
    assert_eq!((at.0, len, reservation.bytes()), (MIB, 8 * MIB, 0));
    space.settle_alloc(at, len);
    assert_eq!(space.take_dirty_groups(), [(MIB, 8 * MIB)]);
    space.settle_free(at, len).unwrap();
    assert!(space.settle_free(at, len).is_err());
    assert!(!space.alloc_exact(at, SECTOR));
    let set = space.take_pinned();
    assert_eq!(set.iter().collect::<Vec<_>>(), [(at.0, len)]);
    assert!(space.take_pinned().is_empty());
    space.unpin(&set);
    assert!(space.alloc_exact(at, SECTOR));
    space.verify().unwrap();
}

/// A made-up image: what had been counted as data was taken off what is common, which had less.
#[test]
fn groups_in_common_and_apart_are_refused() {
    const MIXED: u64 = 1 | (1 << 2);
    for (first, second) in [(1, MIXED), (META_FLAGS, MIXED), (MIXED, 1), (MIXED, 1 << 2)] {
        let space = Space::new(SpaceConfig {
            sectorsize: SECTOR as u32,
            nodesize: SECTOR as u32,
            map_chunk: Box::new(|_| Ok(())),
        });
        let at = |mib| vec![(DevId(1), Physical(mib * MIB))];
        space.add_group(MIB, 8 * MIB, first, 0, at(1)).unwrap();
        let added = space.add_group(9 * MIB, 4 * MIB, second, 0, at(9));
        assert!(matches!(added, Err(Error::Corrupt(_))), "{first} {second}");
        space.load_free(MIB, [(MIB, 8 * MIB)]);
        space.verify().unwrap();
    }
}

#[test]
fn data_reservations_end_where_metadata_promises_begin() {
    let space = fresh(256 * MIB, 32 * MIB);
    space.set_global_reserve(16 * MIB, MIB);
    let mut kept = Vec::new();
    while let Ok(reservation) = space.reserve_data(MIB) {
        kept.push(reservation);
        assert!(kept.len() < 256);
    }
    // Everything but the first MiB and the DUP groups' copies is data now.
    assert!(
        kept.len() as u64 * MIB > 256 * MIB - 90 * MIB,
        "{} MiB",
        kept.len()
    );
    assert_eq!(space.numbers().available, 0);
    // Metadata still has what its groups hold.
    assert!(space.reserve_metadata(8 * MIB, Steal::No).is_ok());
    drop(kept);
    assert!(space.numbers().available > 100 * MIB);
    space.verify().unwrap();
}

#[test]
fn a_reservation_that_cannot_fit_makes_no_chunks() {
    let space = fresh(GIB, 32 * MIB);
    let numbers = space.numbers();
    let most = numbers.data.free + numbers.unallocated;
    for bytes in [most + SECTOR, 4 * GIB, 1 << 62, u64::MAX - SECTOR] {
        assert!(matches!(space.reserve_data(bytes), Err(Error::NoSpace)));
        assert!(!space.has_new_chunks(), "{bytes}");
    }
    // Metadata is promised 32 MiB more than its groups have, and would lose them.
    space.set_global_reserve(64 * MIB, 64 * MIB);
    let kept = space.reserve_data(most - 63 * MIB);
    assert!(matches!(kept, Err(Error::NoSpace)));
    assert!(!space.has_new_chunks());
    let half = space.reserve_data(most / 2).unwrap();
    assert!(space.has_new_chunks());
    drop(half);
    space.verify().unwrap();
}

#[test]
fn only_stealing_operations_enter_the_global_reserve() {
    let space = fresh(89 * MIB, 32 * MIB);
    space.set_global_reserve(16 * MIB, MIB);
    let most = space.reserve_metadata(15 * MIB, Steal::No).unwrap();
    assert!(matches!(
        space.reserve_metadata(MIB, Steal::No),
        Err(Error::NoSpace)
    ));
    let stolen = space.reserve_metadata(8 * MIB, Steal::Yes).unwrap();
    assert!(matches!(
        space.reserve_metadata(16 * MIB, Steal::Yes),
        Err(Error::NoSpace)
    ));
    drop((most, stolen));
    assert!(space.reserve_metadata(15 * MIB, Steal::No).is_ok());
}

/// Stealing operations leave to the commit what their own kind has caused, until it has committed.
#[test]
fn what_waits_for_the_commit_is_kept_from_everybody() {
    struct Commits(Arc<AtomicUsize>);
    impl Reclaim for Commits {
        fn reclaim(&self) -> bool {
            self.0.store(0, Ordering::Relaxed);
            true
        }
    }
    let space = fresh(89 * MIB, 32 * MIB);
    space.set_global_reserve(600 * NODE, 600 * NODE);
    let waiting = Arc::new(AtomicUsize::new(512));
    let counted = waiting.clone();
    space.count_waiting_extents_with(move || counted.load(Ordering::Relaxed));
    let reclaim: Arc<dyn Reclaim> = Arc::new(Commits(waiting.clone()));
    space.set_reclaim(Arc::downgrade(&reclaim));
    let free = space.numbers().metadata.free / NODE;
    // All of the tree may be copied and every second copy split, and 512 items are new.
    let commit = 64 + 900 + 8;
    let over = (free - commit - 39) * NODE;
    assert!(space.try_reserve_metadata(over, Steal::No).is_err());
    let used = (free - commit - 30) * NODE;
    let used = space.try_reserve_metadata(used, Steal::Yes).unwrap();
    assert!(space.try_reserve_metadata(31 * NODE, Steal::Yes).is_err());
    // Alone in a transaction that has just begun, one is let in.
    let last = space.reserve_metadata(200 * NODE, Steal::Yes).unwrap();
    assert_eq!(waiting.load(Ordering::Relaxed), 0);
    drop(last);
    // Dropping a subvolume has a room of its own.
    assert!(space.reserve_metadata(320 * NODE, Steal::Yes).is_err());
    drop(space.reserve_metadata(320 * NODE, Steal::Last).unwrap());
    drop(used);
}

/// Somebody else may have left no more than what all copies take, and a few nodes.
#[test]
fn the_first_removal_after_a_commit_is_let_in_where_free_nodes_lie_together() {
    let space = fresh(89 * MIB, 32 * MIB);
    let trees = 600;
    space.set_global_reserve(trees * NODE, trees * NODE);
    let place = |_| space.alloc_tree_block(TreeSpace::Metadata).unwrap();
    let nodes: Vec<_> = (0..2048 - trees - 20).map(place).collect();
    assert!(space.reserve_metadata(NODE, Steal::No).is_err());
    assert!(space.reserve_metadata(41 * NODE, Steal::Yes).is_err());
    drop(space.reserve_metadata(28 * NODE, Steal::Yes).unwrap());
    drop(space.reserve_metadata(28 * NODE, Steal::Last).unwrap());
    // Less than half of that is too little, wherever it lies.
    nodes
        .into_iter()
        .for_each(|at| space.settle_alloc(at, NODE));
    for _ in 0..trees / 2 + 40 {
        space.alloc_tree_block(TreeSpace::Metadata).unwrap();
    }
    assert!(space.reserve_metadata(28 * NODE, Steal::Yes).is_err());
}

/// What others free in the next transaction already keeps somebody from being its first; it is free after one
/// more commit.
#[test]
fn who_frees_space_asks_again_while_extents_wait_for_a_commit() {
    struct Busy(Arc<AtomicUsize>, AtomicUsize);
    impl Reclaim for Busy {
        fn reclaim(&self) -> bool {
            let waiting = [400, 90, 0][self.1.fetch_add(1, Ordering::Relaxed)];
            self.0.store(waiting, Ordering::Relaxed);
            true
        }
    }
    let space = fresh(89 * MIB, 32 * MIB);
    space.set_global_reserve(600 * NODE, 600 * NODE);
    let waiting = Arc::new(AtomicUsize::new(50));
    let counted = waiting.clone();
    space.count_waiting_extents_with(move || counted.load(Ordering::Relaxed));
    let busy = Arc::new(Busy(waiting, AtomicUsize::new(0)));
    let reclaim: Arc<dyn Reclaim> = busy.clone();
    space.set_reclaim(Arc::downgrade(&reclaim));
    for _ in 0..2048 - 620 {
        space.alloc_tree_block(TreeSpace::Metadata).unwrap();
    }
    drop(space.reserve_metadata(28 * NODE, Steal::Yes).unwrap());
    assert_eq!(busy.1.load(Ordering::Relaxed), 3, "commits");
}

#[test]
fn metadata_grows_into_a_new_chunk() {
    let space = fresh(GIB, 32 * MIB);
    // One stripe of 64 KiB lies under a superblock copy.
    for _ in 0..(32 * MIB - STRIPE_LEN) / NODE {
        space.alloc_tree_block(TreeSpace::Metadata).unwrap();
    }
    assert!(!space.has_new_chunks());
    let block = space.alloc_tree_block(TreeSpace::Metadata).unwrap();
    let chunks = space.take_new_chunks();
    assert_eq!(chunks.len(), 1);
    assert_eq!((chunks[0].logical, chunks[0].flags), (49 * MIB, META_FLAGS));
    // A tenth of the device, in whole stripes of 64 KiB.
    assert_eq!(chunks[0].len, GIB / 10 / STRIPE_LEN * STRIPE_LEN);
    assert!(block.0 >= chunks[0].logical);
    assert_eq!(chunks[0].stripes[0], (DevId(1), Physical(89 * MIB)));
    space.verify().unwrap();
}

#[test]
fn a_failed_reservation_asks_for_a_commit_once() {
    struct Unpin(Arc<Space>, AtomicUsize);
    impl Reclaim for Unpin {
        fn reclaim(&self) -> bool {
            self.1.fetch_add(1, Ordering::Relaxed);
            let set = self.0.take_pinned();
            self.0.unpin(&set);
            true
        }
    }
    let space = fresh(89 * MIB, 32 * MIB);
    let reclaim = Arc::new(Unpin(space.clone(), AtomicUsize::new(0)));
    let weak: Weak<dyn Reclaim> = Arc::downgrade(&(reclaim.clone() as Arc<dyn Reclaim>));
    space.set_reclaim(weak);
    let mut reservation = space.reserve_data(8 * MIB).unwrap();
    let (at, len) = space
        .alloc_data(&mut reservation, 8 * MIB, SECTOR, None)
        .unwrap();
    assert!(space.reserve_data(SECTOR).is_err());
    space.settle_alloc(at, len);
    space.settle_free(at, len).unwrap();
    assert!(space.reserve_data(SECTOR).is_ok());
    assert!(reclaim.1.load(Ordering::Relaxed) >= 1);
}

#[test]
fn what_waits_in_memory_is_written_before_anything_is_committed() {
    struct Waiting(Mutex<Vec<MetaReservation>>, AtomicUsize);
    impl Reclaim for Waiting {
        fn settle(&self) -> bool {
            let gone = std::mem::take(&mut *self.0.lock());
            !gone.is_empty()
        }
        fn reclaim(&self) -> bool {
            self.1.fetch_add(1, Ordering::Relaxed);
            false
        }
    }
    let space = fresh(89 * MIB, 32 * MIB);
    let reclaim = Arc::new(Waiting(Mutex::new(Vec::new()), AtomicUsize::new(0)));
    let weak: Weak<dyn Reclaim> = Arc::downgrade(&(reclaim.clone() as Arc<dyn Reclaim>));
    space.set_reclaim(weak);
    let promised = space.reserve_metadata(24 * MIB, Steal::No).unwrap();
    reclaim.0.lock().push(promised);
    let more = space.reserve_metadata(16 * MIB, Steal::No).unwrap();
    assert_eq!(reclaim.1.load(Ordering::Relaxed), 0);
    // Nothing waits any more, and a commit is the last resort.
    assert!(space.reserve_metadata(24 * MIB, Steal::No).is_err());
    assert_eq!(reclaim.1.load(Ordering::Relaxed), 1);
    drop(more);
}

#[test]
fn emptied_groups_are_given_back_but_one_stays() {
    let space = fresh(4 * GIB, 32 * MIB);
    let unallocated = space.numbers().unallocated;
    let mut first = space.reserve_data(8 * MIB).unwrap();
    let mut extents = vec![space.alloc_data(&mut first, 8 * MIB, SECTOR, None).unwrap()];
    let mut reservation = space.reserve_data(600 * MIB).unwrap();
    while reservation.bytes() > 0 {
        let want = reservation.bytes();
        extents.push(
            space
                .alloc_data(&mut reservation, want, SECTOR, None)
                .unwrap(),
        );
    }
    assert_eq!(space.take_new_chunks().len(), 2);
    for &(at, len) in &extents {
        space.settle_alloc(at, len);
    }
    assert!(space.take_empty_groups().is_empty());
    for &(at, len) in &extents {
        space.settle_free(at, len).unwrap();
    }
    let removed = space.take_empty_groups();
    assert_eq!(removed.len(), 2);
    let set = space.take_pinned();
    assert!(space.numbers().unallocated < unallocated);
    space.release_chunks(&removed);
    space.unpin(&set);
    assert_eq!(space.numbers().unallocated, unallocated);
    space.verify().unwrap();
}

/// Pinned ranges of neighbouring groups are one range; removing the first group must not keep the
/// second one's bytes pinned for ever.
#[test]
fn what_was_pinned_beside_a_removed_group_comes_back() {
    let space = fresh(4 * GIB, 32 * MIB);
    let first = space.allocate_chunk(Kind::Data).unwrap();
    let second = space.allocate_chunk(Kind::Data).unwrap();
    assert_eq!(first.logical + first.len, second.logical);
    space.take_new_chunks();
    let around = [
        (first.logical + first.len - MIB, MIB),
        (second.logical, MIB),
        (second.logical + MIB, SECTOR),
    ];
    for (at, len) in around {
        assert!(space.alloc_exact(Logical(at), len));
        space.settle_alloc(Logical(at), len);
    }
    for (at, len) in &around[..2] {
        space.settle_free(Logical(*at), *len).unwrap();
    }
    let removed = space.take_empty_groups();
    assert!(removed.iter().any(|group| group.start == first.logical));
    let set = space.take_pinned();
    assert_eq!(set.iter().count(), 1);
    space.unpin(&set);
    assert_eq!(space.numbers().data.usage.pinned, 0);
    assert!(space.alloc_exact(Logical(second.logical), MIB));
    space.verify().unwrap();
}

/// An empty metadata group is what the commit that could remove it may need to write trees.
#[test]
fn an_emptied_metadata_group_stays_while_the_others_are_full() {
    let space = fresh(89 * MIB, 32 * MIB);
    space.set_global_reserve(3 * MIB, 3 * MIB);
    space
        .add_group(GIB, 8 * MIB, META_FLAGS, 0, vec![])
        .unwrap();
    space.load_free(GIB, [(GIB, 8 * MIB)]);
    let mut blocks = Vec::new();
    // The new group is the emptier one only when the first is nearly full.
    for _ in 0..(32 * MIB - STRIPE_LEN) / NODE - 8 {
        let at = 17 * MIB + blocks.len() as u64 * NODE;
        let at = if at < 24 * MIB { at } else { at + STRIPE_LEN };
        assert!(space.alloc_exact(Logical(at), NODE));
        space.settle_alloc(Logical(at), NODE);
        blocks.push(at);
    }
    assert_eq!(space.take_empty_groups(), []);
    for at in blocks.split_off(blocks.len() / 2) {
        space.settle_free(Logical(at), NODE).unwrap();
    }
    let set = space.take_pinned();
    space.unpin(&set);
    assert_eq!(space.take_empty_groups().len(), 1);
}

/// The next chunk takes its profile from the groups that there are: an empty DUP group is kept
/// when the others are SINGLE.
#[test]
fn the_last_group_with_copies_stays() {
    let space = fresh(GIB, 32 * MIB);
    for start in [GIB, 2 * GIB] {
        let single = 1 << 2;
        space.add_group(start, 32 * MIB, single, 0, vec![]).unwrap();
        space.load_free(start, [(start, 32 * MIB)]);
    }
    let removed: Vec<_> = space.take_empty_groups();
    assert!(
        removed.iter().all(|group| group.start >= GIB),
        "{removed:?}"
    );
    assert_eq!(
        space.allocate_chunk(Kind::Metadata).unwrap().flags,
        META_FLAGS
    );
}

/// A group of a profile that we can't write has free space, and it is not ours.
#[test]
fn a_group_that_cannot_be_written_stays_closed() {
    let space = fresh(GIB, 32 * MIB);
    let before = space.numbers().data.free;
    let raid0 = 1 | (1 << 3);
    space.add_group(GIB, 64 * MIB, raid0, 0, vec![]).unwrap();
    space.load_free(GIB, [(GIB, 64 * MIB)]);
    assert_eq!(space.numbers().data.free, before);
    let mut reservation = space.reserve_data(32 * MIB).unwrap();
    let in_it = GIB..GIB + 64 * MIB;
    while reservation.bytes() > 0 {
        let want = reservation.bytes();
        let hint = Some(Logical(GIB));
        let (at, _) = space
            .alloc_data(&mut reservation, want, SECTOR, hint)
            .unwrap();
        assert!(!in_it.contains(&at.get()), "{at}");
    }
    space.verify().unwrap();
}

/// Thousands of inode items that wait for a commit each promise nodes that they mostly won't
/// need: a commit gives them back, so space isn't refused before one, pinned bytes or not. A few
/// promises aren't worth one.
#[test]
fn many_promises_are_worth_a_commit() {
    struct GiveBack(
        Mutex<Option<crate::allocator::MetaReservation>>,
        AtomicUsize,
    );
    impl Reclaim for GiveBack {
        fn reclaim(&self) -> bool {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.lock().take();
            true
        }
    }
    for (promised, fits) in [(512 * NODE, true), (128 * NODE, false)] {
        let space = fresh(89 * MIB, 32 * MIB);
        // Every group has an extent, or giving it back would be a hope too.
        for at in [MIB + 64 * SECTOR, 9 * MIB, 17 * MIB] {
            assert!(space.alloc_exact(Logical(at), NODE));
            space.settle_alloc(Logical(at), NODE);
        }
        let waiting = space.reserve_metadata(promised, Steal::No).unwrap();
        // The rest is used.
        while space.try_reserve_metadata(8 * NODE, Steal::No).is_ok() {
            let at = space.alloc_tree_block(TreeSpace::Metadata).unwrap();
            space.settle_alloc(at, NODE);
        }
        let reclaim = Arc::new(GiveBack(Mutex::new(Some(waiting)), AtomicUsize::new(0)));
        let weak: Weak<dyn Reclaim> = Arc::downgrade(&(reclaim.clone() as Arc<dyn Reclaim>));
        space.set_reclaim(weak);
        let got = space.reserve_metadata(8 * NODE, Steal::No);
        assert_eq!(got.is_ok(), fits, "{promised} bytes promised");
        assert_eq!(reclaim.1.load(Ordering::Relaxed), usize::from(fits));
    }
}

#[test]
fn superblock_copies_are_never_handed_out() {
    let space = fresh(GIB, 32 * MIB);
    // The second copy, at 64 MiB, lies in the metadata group's second stripe at +7 MiB.
    let inside = 17 * MIB + 7 * MIB;
    for _ in 0..32 * MIB / NODE - 4 {
        let at = space.alloc_tree_block(TreeSpace::Metadata).unwrap().0;
        assert!(!(inside..inside + STRIPE_LEN).contains(&at));
    }
    assert_eq!(
        space.group(Logical(inside)).unwrap().usage.superblocks,
        STRIPE_LEN
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// No range is handed out twice; all come back.
    #[test]
    fn ranges_live_once(steps in prop::collection::vec((0..6_u8, 1..64_u64), 1..300)) {
        let space = fresh(256 * MIB, 32 * MIB);
        let mut reserved: Vec<(u64, u64)> = Vec::new();
        let mut used: Vec<(u64, u64)> = Vec::new();
        let mut owned: BTreeMap<u64, u64> = BTreeMap::new();
        for (step, n) in steps {
            let pick = |list: &mut Vec<(u64, u64)>| {
                let len = list.len().max(1);
                (!list.is_empty()).then(|| list.swap_remove(n as usize % len))
            };
            match step {
                0 | 1 => {
                    let got = if step == 0 {
                        let Ok(mut data) = space.reserve_data(n * SECTOR) else { continue };
                        space.alloc_data(&mut data, n * SECTOR, SECTOR, None).unwrap()
                    } else {
                        (space.alloc_tree_block(TreeSpace::Metadata).unwrap(), NODE)
                    };
                    let (at, len) = (got.0.0, got.1);
                    let before = owned.range(..at + len).next_back();
                    prop_assert!(before.is_none_or(|(&start, &len)| start + len <= at));
                    owned.insert(at, len);
                    reserved.push((at, len));
                }
                2 => if let Some((at, len)) = pick(&mut reserved) {
                    space.free_unwritten(Logical(at), len);
                    owned.remove(&at);
                },
                3 => if let Some((at, len)) = pick(&mut reserved) {
                    space.settle_alloc(Logical(at), len);
                    used.push((at, len));
                },
                // Pinned ranges stay owned until the set is unpinned.
                4 => if let Some((at, len)) = pick(&mut used) {
                    space.settle_free(Logical(at), len).unwrap();
                },
                _ => {
                    let set = space.take_pinned();
                    for (at, len) in set.iter() {
                        let inside: Vec<u64> =
                            owned.range(at..at + len).map(|(&at, _)| at).collect();
                        for at in inside {
                            owned.remove(&at);
                        }
                    }
                    space.unpin(&set);
                }
            }
            prop_assert_eq!(space.verify(), Ok(()));
        }
    }
}
