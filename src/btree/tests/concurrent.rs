//! Many threads on one tree, with commits under way; then everything is counted.

use super::bench::{Bench, protocols};
use crate::extent_buffer::Kind;
use crate::ondisk::key::Key;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, thread};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const WRITERS: u64 = 4;

fn key(thread: u64, id: u64) -> Key {
    // Neighbours in the tree belong to different threads.
    Key::new(id * WRITERS + thread, 253, 0)
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Each writer owns its keys, so it knows at every moment what they hold.
fn writer(bench: &Bench, thread: u64, rounds: u64, ids: u64) -> BTreeMap<Key, Vec<u8>> {
    let root = bench.root(5);
    let mut random = Random(0x1234_5678 + thread * 77);
    let mut model = BTreeMap::new();
    for round in 0..rounds {
        let trans = bench.join();
        let key = key(thread, random.below(ids));
        let data = vec![round as u8; random.below(300) as usize];
        match random.below(8) {
            0..=3 => {
                bench.ctx.upsert(&trans, &root, &key, &data).unwrap();
                model.insert(key, data);
            }
            4 | 5 => {
                let found = bench.ctx.delete(&trans, &root, &key).unwrap();
                assert_eq!(found, model.remove(&key).is_some());
            }
            6 => {
                drop(trans);
                assert_eq!(
                    bench.ctx.get(&root, &key).unwrap().as_ref(),
                    model.get(&key)
                );
            }
            _ => {
                // A walk in the middle of everything: ascending, and ours are all there.
                let mut cursor = bench.ctx.search(&root, &key).unwrap();
                let mut ours = model.range(key..);
                let mut last = None;
                for _ in 0..50 {
                    let Some((at, data)) = cursor.item() else {
                        break;
                    };
                    assert!(last < Some(at));
                    last = Some(at);
                    if at.objectid % WRITERS == thread {
                        assert_eq!(ours.next(), Some((&at, &data.to_vec())));
                    }
                    cursor.next().unwrap();
                }
            }
        }
    }
    model
}

fn storm(nodesize: u32, cache_blocks: u64, protocol: Kind, rounds: u64, ids: u64) {
    let bench = Arc::new(Bench::new(nodesize, cache_blocks, protocol));
    let stop = Arc::new(AtomicBool::new(false));
    let committer = {
        let (bench, stop) = (bench.clone(), stop.clone());
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                bench.commit();
                thread::sleep(Duration::from_millis(3));
                // And refs that are run while writers queue more.
                bench.run_refs(&bench.join());
            }
        })
    };
    let early = {
        let (bench, stop) = (bench.clone(), stop.clone());
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                bench.write_early();
                thread::sleep(Duration::from_millis(2));
            }
        })
    };
    let writers: Vec<_> = (0..WRITERS)
        .map(|thread| {
            let bench = bench.clone();
            thread::spawn(move || writer(&bench, thread, rounds, ids))
        })
        .collect();
    let mut model = BTreeMap::new();
    for writer in writers {
        model.extend(writer.join().unwrap());
    }
    stop.store(true, Ordering::Relaxed);
    committer.join().unwrap();
    early.join().unwrap();
    bench.commit();
    bench.verify();
    assert_eq!(bench.items_after_a_crash(5), bench.items(&bench.root(5)));
    assert_eq!(
        bench.items(&bench.root(5)),
        model.into_iter().collect::<Vec<_>>()
    );
}

#[test]
fn writers_side_by_side_lose_nothing() {
    for protocol in protocols() {
        storm(4096, 4000, protocol, 4000, 2000);
    }
}

#[test]
fn writers_side_by_side_with_a_cache_that_forgets() {
    for protocol in protocols() {
        storm(4096, 24, protocol, 2000, 1000);
    }
}

#[test]
fn a_small_tree_grows_and_shrinks_under_everybodys_feet() {
    for protocol in protocols() {
        storm(4096, 200, protocol, 6000, 12);
    }
}

/// A block's item is looked for under two keys, new and old style; it is inserted while another
/// thread is between the two looks.
#[test]
fn references_are_seen_while_they_move_to_the_extent_tree() {
    let bench = Bench::new(4096, 4000, Kind::BUILD);
    let root = bench.root(5);
    let until = Instant::now() + Duration::from_millis(700);
    thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < until {
                bench.run_refs(&bench.join());
            }
        });
        while Instant::now() < until {
            let trans = bench.join();
            let block = bench.ctx.new_block(&trans, &root, 0, Key::MIN).unwrap();
            for _ in 0..20 {
                let info = bench.ctx.tree_block_info(&trans, block.bytenr(), 0);
                assert_eq!(info.unwrap().map(|info| info.refs), Some(1));
            }
            bench.ctx.free_block(&trans, &root, block, true);
        }
    });
}

#[test]
fn emptying_and_filling_race_with_readers() {
    let bench = Arc::new(Bench::new(4096, 400, Kind::BUILD));
    let until = Instant::now() + Duration::from_millis(700);
    let writers: Vec<_> = (0..2u64)
        .map(|thread| {
            let bench = bench.clone();
            thread::spawn(move || {
                let root = bench.root(5);
                while Instant::now() < until {
                    let trans = bench.join();
                    for id in 0..150 {
                        bench
                            .ctx
                            .insert(&trans, &root, &key(thread, id), &[7; 90])
                            .unwrap();
                    }
                    let range = key(thread, 0)..=key(thread, 0);
                    bench.ctx.delete_range(&trans, &root, range).unwrap();
                    for id in 1..150 {
                        assert!(bench.ctx.delete(&trans, &root, &key(thread, id)).unwrap());
                    }
                }
            })
        })
        .collect();
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let bench = bench.clone();
            thread::spawn(move || {
                let root = bench.root(5);
                while Instant::now() < until {
                    for (_, data) in bench.items(&root) {
                        assert_eq!(data, [7; 90]);
                    }
                }
            })
        })
        .collect();
    for thread in writers.into_iter().chain(readers) {
        thread.join().unwrap();
    }
    bench.commit();
    bench.verify();
    assert!(bench.items(&bench.root(5)).is_empty());
}
