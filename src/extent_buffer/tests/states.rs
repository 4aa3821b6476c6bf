//! One state of a buffer after another, on one thread.

use super::disk::*;
use crate::extent_buffer::flags::{STALE, TREE_REF, UPTODATE};
use crate::extent_buffer::{Cache, Kind};
use crate::ondisk::tree_block::{self, HEADER_FLAG_WRITTEN};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{mpsc, thread};
use crate::units::{Generation, Logical};

const AT: u64 = 1 << 20;
const G: Generation = Generation(7);

fn each_kind(test: impl Fn(Kind)) {
    kinds().into_iter().for_each(test);
}

fn reads(disk: &Disk) -> usize {
    disk.reads.load(Ordering::Relaxed)
}

#[test]
fn a_block_is_read_once_and_then_found() {
    each_kind(|kind| {
        let disk = Disk::with_leaves([AT], 5);
        let cache = disk.cache(16, kind);
        assert!(cache.find(Logical(AT)).is_none());
        let eb = cache.read(&of_generation(AT, 5)).unwrap();
        assert!(eb.is_uptodate() && !eb.is_dirty());
        assert_eq!(eb.flags().0 & (UPTODATE | TREE_REF), UPTODATE | TREE_REF);
        assert_eq!(eb.refs(), 2, "the cache's and ours");
        let again = cache.read(&of_generation(AT, 5)).unwrap();
        assert!(again.same(&eb));
        assert_eq!((reads(&disk), again.refs()), (1, 3));
        assert_eq!(tree_block::header(&eb.read()).bytenr.get(), AT);
        drop(again);
        drop(eb);
        assert_eq!(cache.find(Logical(AT)).unwrap().refs(), 2);
    });
}

#[test]
fn many_readers_cause_one_read() {
    each_kind(|kind| {
        let disk = Disk::with_leaves([AT], 5);
        let cache = disk.cache(16, kind);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert!(cache.read(&any(AT)).unwrap().is_uptodate()));
            }
        });
        assert_eq!(reads(&disk), 1);
    });
}

#[test]
fn a_failed_read_is_an_error_now_and_tried_again_later() {
    each_kind(|kind| {
        let disk = Disk::with_leaves([], 5);
        let cache = disk.cache(16, kind);
        assert!(cache.read(&any(AT)).is_err());
        assert!(!cache.find(Logical(AT)).is_some_and(|eb| eb.is_uptodate()));
        disk.put_leaf(AT, 5);
        assert!(cache.read(&any(AT)).is_ok());
    });
}

#[test]
fn an_older_clean_block_is_read_again_and_a_newer_or_dirty_one_never() {
    each_kind(|kind| {
        let disk = Disk::with_leaves([AT], 5);
        let cache = disk.cache(16, kind);
        drop(cache.read(&any(AT)).unwrap());
        disk.put_leaf(AT, 6);
        assert_eq!(
            cache.read(&of_generation(AT, 6)).unwrap().generation(),
            Generation(6)
        );
        assert_eq!(reads(&disk), 2);
        assert!(
            cache.read(&of_generation(AT, 5)).is_err(),
            "the pointer is older than memory"
        );
        assert_eq!(reads(&disk), 2);
        drop(cache.create(Logical(AT), G, 5, 0).unwrap());
        assert!(cache.read(&of_generation(AT, 9)).is_err());
        assert_eq!(reads(&disk), 2, "a dirty block is never read over");
        // A disk that doesn't help leaves the good contents alone.
        cache.write_out(&[Logical(AT)], G).unwrap();
        assert!(cache.read(&of_generation(AT, 9)).is_err());
        assert_eq!(cache.read(&of_generation(AT, 7)).unwrap().generation(), G);
    });
}

#[test]
fn a_created_block_is_dirty_until_written_and_then_marked_written() {
    each_kind(|kind| {
        let disk = Disk::with_leaves([], 0);
        let cache = disk.cache(16, kind);
        let mut block = cache.create(Logical(AT), G, 5, 0).unwrap();
        *block.last_mut().unwrap() = 42;
        drop(block);
        assert_eq!(cache.dirty_bytes(), u64::from(NODESIZE));
        cache.write_out(&[Logical(AT)], Generation(6)).unwrap();
        assert_eq!(
            disk.last_byte_at(AT),
            None,
            "a newer transaction's block isn't touched"
        );
        cache.write_out(&[Logical(AT)], G).unwrap();
        assert_eq!(disk.last_byte_at(AT), Some(42));
        let eb = cache.find(Logical(AT)).unwrap();
        assert!(!eb.is_dirty() && !eb.is_under_writeback());
        assert!(eb.read().header().has_flag(HEADER_FLAG_WRITTEN));
        assert_eq!((eb.refs(), cache.dirty_bytes()), (2, 0));
    });
}

#[test]
fn neighbours_are_written_together() {
    each_kind(|kind| {
        let disk = Disk::with_leaves([], 0);
        let cache = disk.cache(2000, kind);
        let count: u64 = if cfg!(miri) { 4 } else { 40 };
        let mut blocks: Vec<_> = (0..count)
            .map(|n| Logical(AT + n * u64::from(NODESIZE)))
            .collect();
        blocks.push(Logical(AT * 8));
        for at in &blocks {
            cache.create(*at, G, 5, 0).unwrap();
        }
        blocks.reverse();
        cache.write_out(&blocks, G).unwrap();
        let mut writes = disk.writes.lock().clone();
        writes.sort_unstable();
        assert_eq!(
            writes,
            [NODESIZE as usize, count as usize * NODESIZE as usize]
        );
    });
}

#[test]
fn a_failed_write_leaves_the_block_dirty_and_is_reported() {
    each_kind(|kind| {
        let disk = Disk::with_leaves([], 0);
        let cache = disk.cache(16, kind);
        drop(cache.create(Logical(AT), G, 5, 0).unwrap());
        disk.broken.store(true, Ordering::Relaxed);
        assert!(cache.write_out(&[Logical(AT)], G).is_err());
        let eb = cache.find(Logical(AT)).unwrap();
        assert!(eb.is_dirty() && !eb.is_under_writeback());
        drop(eb);
        disk.broken.store(false, Ordering::Relaxed);
        cache.write_out(&[Logical(AT)], G).unwrap();
        assert_eq!((disk.generation_at(AT), cache.dirty_bytes()), (Some(7), 0));
    });
}

#[test]
fn only_the_transaction_that_made_a_block_cleans_it() {
    each_kind(|kind| {
        let cache = Disk::with_leaves([], 0).cache(16, kind);
        let mut block = cache.create(Logical(AT), G, 5, 0).unwrap();
        assert!(
            !block.clear_dirty(Generation(8)),
            "the commit of 7 still has to write it"
        );
        assert!(block.eb().is_dirty());
        assert!(block.clear_dirty(G));
        assert!(!block.clear_dirty(G));
        assert_eq!((block.eb().refs(), cache.dirty_bytes()), (2, 0));
    });
}

#[test]
fn a_stale_buffer_goes_with_its_last_user() {
    each_kind(|kind| {
        let cache = Disk::with_leaves([], 0).cache(16, kind);
        let mut block = cache.create(Logical(AT), G, 5, 0).unwrap();
        let holder = block.eb().clone();
        block.clear_dirty(G);
        block.free_stale();
        assert!(holder.is_stale());
        assert!(cache.find(Logical(AT)).is_some(), "its holder keeps it");
        drop(holder);
        assert!(cache.find(Logical(AT)).is_none());
        assert_eq!(cache.live_bytes(), 0);
    });
}

#[test]
fn a_stale_buffer_that_is_allocated_again_lives_on() {
    each_kind(|kind| {
        let cache = Disk::with_leaves([], 0).cache(16, kind);
        let mut block = cache.create(Logical(AT), G, 5, 0).unwrap();
        let holder = block.eb().clone();
        block.clear_dirty(G);
        block.free_stale();
        let block = cache.create(Logical(AT), G, 7, 1).unwrap();
        assert!(block.eb().same(&holder) && block.eb().is_dirty());
        assert_eq!(block.eb().flags().0 & (STALE | TREE_REF), TREE_REF);
        assert_eq!((block.header().level, block.header().owner.get()), (1, 7));
        drop(block);
        drop(holder);
        let eb = cache.find(Logical(AT)).unwrap();
        let due = kind.rules().refs_due(eb.flags().0, 1);
        assert_eq!(eb.refs(), due);
    });
}

#[test]
fn a_block_of_the_transaction_before_is_freed_while_it_is_written() {
    each_kind(|kind| {
        let disk = Disk::with_leaves([], 0);
        let cache = disk.cache(16, kind);
        let mut block = cache.create(Logical(AT), G, 5, 0).unwrap();
        assert!(!block.clear_dirty(Generation(8)));
        block.free_stale();
        cache.write_out(&[Logical(AT)], G).unwrap();
        assert_eq!(disk.generation_at(AT), Some(7));
    });
}

#[test]
fn the_bound_holds_for_what_nobody_needs() {
    each_kind(|kind| {
        // Miri takes a second for each.
        let count = if cfg!(miri) { 24 } else { 200 };
        let addresses: Vec<_> = (0..count).map(|n| AT + n * u64::from(NODESIZE)).collect();
        let disk = Disk::with_leaves(addresses.iter().copied(), 5);
        let cache = disk.cache(16, kind);
        let used = cache.read(&any(addresses[0])).unwrap();
        drop(cache.create(Logical(addresses[1]), G, 5, 0).unwrap());
        for at in &addresses[2..] {
            cache.read(&any(*at)).unwrap();
        }
        assert!(
            cache.live_bytes() <= 17 * u64::from(NODESIZE),
            "{}",
            cache.live_bytes()
        );
        assert!(
            used.same(&cache.find(Logical(addresses[0])).unwrap()),
            "in use"
        );
        assert!(
            cache.find(Logical(addresses[1])).unwrap().is_dirty(),
            "dirty"
        );
        drop(used);
        cache.write_out(&[Logical(addresses[1])], G).unwrap();
        cache.shrink_to(0);
        assert_eq!(cache.live_bytes(), 0);
    });
}

#[test]
fn a_looked_up_buffer_has_a_second_chance() {
    each_kind(|kind| {
        let addresses: Vec<_> = (0..64).map(|n| AT + n * u64::from(NODESIZE)).collect();
        let disk = Disk::with_leaves(addresses.iter().copied(), 5);
        let cache = disk.cache(32, kind);
        for at in &addresses {
            cache.read(&any(*at)).unwrap();
            cache.find(Logical(addresses[0]));
        }
        assert_eq!(cache.live_bytes(), 32 * u64::from(NODESIZE));
        assert!(cache.find(Logical(addresses[0])).is_some());
    });
}

#[test]
fn dirty_pressure_is_said_once_when_half_the_bound_is_dirty() {
    let cache = Disk::with_leaves([], 0).cache(16, Kind::BUILD);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    cache.on_dirty_pressure(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    for n in 0..12 {
        drop(
            cache
                .create(Logical(AT + n * u64::from(NODESIZE)), G, 5, 0)
                .unwrap(),
        );
    }
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn handles_outlive_their_cache() {
    each_kind(|kind| {
        let cache = Disk::with_leaves([AT], 5).cache(16, kind);
        let eb = cache.read(&any(AT)).unwrap();
        drop(cache.create(Logical(AT * 2), G, 5, 0).unwrap());
        drop(cache);
        assert_eq!(tree_block::header(&eb.read()).bytenr.get(), AT);
        assert_eq!(eb.refs(), kind.rules().refs_due(eb.flags().0, 1));
    });
}

#[test]
fn caches_don_t_see_each_other() {
    let disk = Disk::with_leaves([AT], 5);
    let (one, other): (Cache, Cache) = (disk.cache(16, Kind::BUILD), disk.cache(16, Kind::BUILD));
    let mut block = one.read(&any(AT)).unwrap().into_write();
    *block.last_mut().unwrap() = 1;
    drop(block);
    assert_eq!(other.read(&any(AT)).unwrap().read().last(), Some(&0));
}

#[test]
fn readahead_brings_blocks_in_and_ends_when_told() {
    let addresses: Vec<_> = (0..8).map(|n| AT + n * u64::from(NODESIZE)).collect();
    let disk = Disk::with_leaves(addresses.iter().copied(), 5);
    let cache = disk.cache(64, Kind::BUILD);
    let expects: Vec<_> = addresses
        .iter()
        .map(|at| any(*at))
        .chain([any(1)])
        .collect();
    cache.readahead(&expects);
    let deadline = std::time::Instant::now()
        + std::time::Duration::from_secs(if cfg!(miri) { 300 } else { 10 });
    let there = |at: &u64| cache.find(Logical(*at)).is_some_and(|eb| eb.is_uptodate());
    while !addresses.iter().all(there) {
        assert!(std::time::Instant::now() < deadline, "readahead never came");
        thread::yield_now();
    }
    cache.close_readahead();
    let before = reads(&disk);
    cache.readahead(&[any(2)]);
    assert_eq!(reads(&disk), before);
}

/// A damaged parent can name a block that somebody holds who waits for the one who asks. The lie
/// is told, not waited for.
#[test]
fn a_lying_pointer_to_a_block_in_use_is_not_waited_for() {
    each_kind(|kind| {
        let disk = Disk::with_leaves([AT], 5);
        let cache = disk.cache(16, kind);
        let held = cache.read(&of_generation(AT, 5)).unwrap().into_write();
        let (tell, told) = mpsc::channel();
        let theirs = cache.clone();
        let asker = thread::spawn(move || {
            let answer = theirs.read(&of_generation(AT, 6)).map(|eb| eb.bytenr());
            tell.send(answer).unwrap();
        });
        let answer = told.recv_timeout(std::time::Duration::from_secs(10));
        drop(held);
        asker.join().unwrap();
        let error = answer.expect("an answer in time").unwrap_err();
        assert!(error.to_string().contains("in use as another"), "{error}");
    });
}
