//! A walk finds its next leaves in memory.

use super::bench::Bench;
use crate::extent_buffer::Kind;
use crate::ondisk::check::Expect;
use crate::ondisk::key::Key;
use crate::ondisk::tree_block::{level, node, nritems};
use crate::sync::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
const ITEMS: u64 = 3000;

/// Whoever comes from leaf to leaf to one that isn't in memory has those after it read as well; whoever
/// asks for one item has only its leaf read.
#[test]
fn a_walk_has_the_next_leaves_read_and_a_lookup_has_not() {
    let bench = Bench::new(4096, 1000, Kind::BUILD);
    let root = bench.root(5);
    let key = |id| Key::new(id, 253, 0);
    let trans = bench.join();
    for id in 0..ITEMS {
        bench.ctx.insert(&trans, &root, &key(id), &[7; 60]).unwrap();
    }
    drop(trans);
    bench.commit();
    for walks in [true, false] {
        let ctx = bench.after_a_crash();
        let root = ctx.roots.find(5).unwrap();
        let top = ctx
            .cache
            .read(&Expect::at(root.node().bytenr))
            .unwrap()
            .into_read();
        assert!(level(&top) == 1 && nritems(&top) > 20);
        let leaves: Vec<_> = (0..20).map(|slot| node::ptr(&top, slot).0).collect();
        drop(top);
        let there = || {
            let is_there = |at| ctx.cache.find(at).is_some_and(|eb| eb.is_uptodate());
            leaves.iter().map(|at| is_there(*at)).collect::<Vec<_>>()
        };
        assert_eq!(there(), [false; 20]);
        let mut expected = [false; 20];
        expected[0] = true;
        if walks {
            let mut cursor = ctx.search(&root, &key(0)).unwrap();
            for _ in 0..60 {
                assert!(cursor.next().unwrap());
            }
            assert_eq!(cursor.key(), Some(key(60)));
            // The leaf that it began with, the next, and the 16 after that.
            expected[..18].fill(true);
        } else {
            assert!(ctx.get(&root, &key(0)).unwrap().is_some());
            // Long enough for what mustn't come.
            thread::sleep(Duration::from_millis(50));
        }
        let deadline = Instant::now() + PATIENCE;
        while there() != expected {
            assert!(Instant::now() < deadline, "walks: {walks}, {:?}", there());
            thread::yield_now();
        }
        ctx.cache.close_readahead();
    }
}
