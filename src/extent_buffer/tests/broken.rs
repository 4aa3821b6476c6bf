//! What is left standing when a rule was broken, or something below panicked.

use super::disk::*;
use crate::extent_buffer::{Broken, Cache};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex};
use crate::units::{Generation, Logical};
use std::panic::{AssertUnwindSafe, catch_unwind};

const AT: u64 = 1 << 20;
const G: Generation = Generation(7);

/// A commit that comes by at the very moment a buffer is lost passes over its block, because the
/// index doesn't know it any more. It must learn of the loss before it writes a superblock.
#[test]
fn a_write_out_that_misses_a_lost_block_hears_of_the_loss() {
    for kind in kinds() {
        let disk = Disk::with_leaves([], 0);
        let cache = disk.cache(16, kind);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (told, other) = (heard.clone(), cache.clone());
        cache.on_violation(move |violation| {
            let known = other.inner.index.lookup(AT, Some).is_some();
            let whole = other.check_whole().is_ok();
            told.lock().push((violation.broken, known, whole));
        });
        drop(cache.create(Logical(AT), G, 5, 0).unwrap());
        assert!(cache.check_whole().is_ok());
        cache.lose(Logical(AT));
        assert_eq!(
            *heard.lock(),
            [(Broken::FreedUnderIo, true, false)],
            "{kind}: told while the index still knows the block"
        );
        assert_eq!(cache.write_out(&[Logical(AT)], G).unwrap(), []);
        assert!(cache.check_whole().is_err());
        assert!(cache.find(Logical(AT)).is_none());
        assert_eq!(cache.dirty_bytes(), 0);
    }
}

/// The report has the block, its tree, and the last that happened to its buffer, in every build.
#[test]
fn a_report_tells_what_happened_last_and_to_what() {
    for kind in kinds() {
        let disk = Disk::with_leaves([], 0);
        let cache = disk.cache(16, kind);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = heard.clone();
        cache.on_violation(move |violation| told.lock().push(violation.to_string()));
        drop(cache.create(Logical(AT), G, 5, 0).unwrap());
        cache.lose(Logical(AT));
        let reports = heard.lock();
        let [report] = reports.as_slice() else {
            panic!("{kind}: {reports:?}");
        };
        let block = format!("buffer {AT} of tree 5 level 0 generation 7");
        for words in [
            "BUG_ON",
            &block,
            "inserter: new buffer",
            "writer: set DIRTY",
            kind.name(),
        ] {
            assert!(report.contains(words), "{kind}: no {words:?} in {report}");
        }
    }
}

/// Who still counts on a lost buffer is named, by builds that note every lookup.
#[test]
#[cfg(feature = "race-lab")]
fn a_report_names_who_holds_the_buffer() {
    use crate::sync::{mpsc, thread};
    for kind in kinds() {
        let disk = Disk::with_leaves([], 0);
        let cache = disk.cache(16, kind);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = heard.clone();
        cache.on_violation(move |violation| told.lock().push(violation.to_string()));
        drop(cache.create(Logical(AT), G, 5, 0).unwrap());
        let (found, wait) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let other = cache.clone();
        let walker = thread::Builder::new().name("tree walker".into());
        let walker = walker.spawn(move || {
            let eb = other.find(Logical(AT)).unwrap();
            found.send(()).unwrap();
            let _ = ended.recv();
            // Its count is gone with the buffer.
            std::mem::forget(eb);
        });
        wait.recv().unwrap();
        cache.lose(Logical(AT));
        drop(end);
        walker.unwrap().join().unwrap();
        let reports = heard.lock();
        assert!(
            reports[0].contains("(tree walker) (1)"),
            "{kind}: {}",
            reports[0]
        );
    }
}

/// A drop too many is reported, and the slot's count is that of its owners afterwards.
#[test]
fn a_drop_too_many_is_reported_and_not_inherited() {
    for kind in kinds() {
        let disk = Disk::with_leaves([AT], 5);
        let cache = disk.cache(16, kind);
        let reports = Arc::new(AtomicUsize::new(0));
        let counted = reports.clone();
        cache.on_violation(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let mut block = cache.create(Logical(AT), G, 5, 0).unwrap();
        block.clear_dirty(G);
        let eb = block.into_ref();
        let slot = eb.slot();
        eb.free_stale();
        assert_eq!((slot.life.refs(), reports.load(Ordering::Relaxed)), (0, 0));
        drop(crate::extent_buffer::EbRef::from_count(slot));
        assert_eq!((slot.life.refs(), reports.load(Ordering::Relaxed)), (0, 1));
        // The slot's next life begins and ends like any other.
        let again = cache.create(Logical(AT * 2), G, 5, 0).unwrap();
        let due = kind.rules().refs_due(again.eb().flags().0, 1);
        assert_eq!(again.eb().refs(), due);
    }
}

#[test]
fn a_write_that_panics_leaves_nobody_waiting() {
    for kind in kinds() {
        let disk = Disk::with_leaves([], 0);
        let cache = disk.cache(16, kind);
        drop(cache.create(Logical(AT), G, 5, 0).unwrap());
        disk.panics.store(true, Ordering::Relaxed);
        let write = |cache: &Cache| cache.write_out(&[Logical(AT)], G);
        assert!(catch_unwind(AssertUnwindSafe(|| write(&cache))).is_err());
        disk.panics.store(false, Ordering::Relaxed);
        let eb = cache.find(Logical(AT)).unwrap();
        assert!(eb.is_dirty() && !eb.is_under_writeback());
        assert_eq!(write(&cache).unwrap(), [Logical(AT)]);
    }
}
