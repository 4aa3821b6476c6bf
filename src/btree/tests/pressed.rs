//! Descents end also when whatever isn't in use leaves the cache at once.

use super::bench::Bench;
use crate::extent_buffer::Kind;
use crate::ondisk::key::Key;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};

const ITEMS: u64 = 3000;
/// So large that few fit into a leaf, and the tree has three levels.
const ITEM_BYTES: usize = 1500;
/// Far more than a descent that gets anywhere takes.
const READS_MAX: u64 = 100;

/// Each read pushes every other level of the path out, so a descent that keeps only the last block
/// it read goes round for ever.
#[test]
fn a_descent_ends_although_each_read_empties_the_cache() {
    let bench = Bench::new(4096, 10_000, Kind::BUILD);
    let root = bench.root(5);
    let key = |id| Key::new(id, 253, 0);
    let trans = bench.join();
    for id in 0..ITEMS {
        let item = vec![id as u8; ITEM_BYTES];
        bench.ctx.insert(&trans, &root, &key(id), &item).unwrap();
    }
    drop(trans);
    bench.commit();
    assert_eq!(root.node().level, 2);
    let reads = Arc::new(AtomicU64::new(0));
    let (cache, counted) = (bench.ctx.cache.clone(), reads.clone());
    *bench.disk.on_read.lock() = Some(Arc::new(move || {
        // Whoever reads so much is let go, to be told below.
        if counted.fetch_add(1, Ordering::Relaxed) < READS_MAX {
            cache.shrink_to(0);
        }
    }));
    for id in [0, ITEMS / 2, ITEMS - 1] {
        bench.ctx.cache.shrink_to(0);
        reads.store(0, Ordering::Relaxed);
        let item = bench.ctx.get(&root, &key(id)).unwrap();
        assert_eq!(item, Some(vec![id as u8; ITEM_BYTES]));
        let read = reads.load(Ordering::Relaxed);
        assert!(read < READS_MAX, "{read} reads for one item");
        bench.ctx.cache.shrink_to(0);
        reads.store(0, Ordering::Relaxed);
        let trans = bench.join();
        assert!(bench.ctx.delete(&trans, &root, &key(id)).unwrap());
        drop(trans);
        let read = reads.load(Ordering::Relaxed);
        assert!(read < READS_MAX, "{read} reads for one deletion");
    }
    *bench.disk.on_read.lock() = None;
    bench.commit();
    bench.verify();
}
