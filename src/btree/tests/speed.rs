//! How fast trees are, for people: `BTRFUSE_SPEED_FILES=100000 cargo test --release --lib
//! btree::tests::speed -- --nocapture`. No speed is asserted, as machines differ; by default it
//! is a small run.

use super::bench::Bench;
use crate::extent_buffer::Kind;
use crate::ondisk::key::Key;
use crate::sync::{Arc, thread};
use std::time::Instant;

fn rate(what: &str, count: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{what:36} {:>9.0}/s  {:>6.0} ns",
        count as f64 / seconds,
        seconds * 1e9 / count as f64
    );
}

/// The items that a file's creation adds: inode, its name, and two directory entries.
fn create(bench: &Bench, directory: u64, inode: u64) {
    let root = bench.root(5);
    let trans = bench.join();
    let hash = inode.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let ctx = &bench.ctx;
    let pair = [
        (Key::new(inode, 1, 0), &[1u8; 160][..]),
        (Key::new(inode, 12, directory), &[2u8; 22][..]),
    ];
    ctx.insert_many(&trans, &root, &pair).unwrap();
    ctx.insert(&trans, &root, &Key::new(directory, 84, hash), &[3; 42])
        .unwrap();
    ctx.insert(&trans, &root, &Key::new(directory, 96, inode), &[4; 42])
        .unwrap();
}

fn remove(bench: &Bench, directory: u64, inode: u64) {
    let root = bench.root(5);
    let trans = bench.join();
    let hash = inode.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    for key in [
        Key::new(directory, 84, hash),
        Key::new(directory, 96, inode),
        Key::new(inode, 12, directory),
        Key::new(inode, 1, 0),
    ] {
        assert!(bench.ctx.delete(&trans, &root, &key).unwrap());
    }
}

#[test]
fn files_are_created_found_and_removed() {
    let files = std::env::var("BTRFUSE_SPEED_FILES").map_or(2000, |n| n.parse().unwrap());
    for threads in [1u64, 2] {
        let bench = Arc::new(Bench::new(16384, 8000, Kind::BUILD));
        let all = |what: &str, work: fn(&Bench, u64, u64)| {
            let start = Instant::now();
            let workers: Vec<_> = (0..threads)
                .map(|t| {
                    let bench = bench.clone();
                    thread::spawn(move || {
                        for i in 0..files / threads {
                            work(&bench, 256 + t, 1000 + i * threads + t);
                        }
                    })
                })
                .collect();
            for worker in workers {
                worker.join().unwrap();
            }
            rate(&format!("{threads} threads: {what}"), files, start);
        };
        all("create", create);
        all("lookup", |bench, _, inode| {
            let found = bench
                .ctx
                .get_with(&bench.root(5), &Key::new(inode, 1, 0), |d| d.len());
            assert_eq!(found.unwrap(), Some(160));
        });
        let start = Instant::now();
        rate(
            "walk (items)",
            bench.items(&bench.root(5)).len() as u64,
            start,
        );
        println!("{:?}", bench.ctx.verify_tree(&bench.root(5)).unwrap());
        let start = Instant::now();
        bench.commit();
        println!("commit {:?}", start.elapsed());
        all("remove", remove);
        let start = Instant::now();
        bench.commit();
        println!("commit {:?}", start.elapsed());
    }
}
