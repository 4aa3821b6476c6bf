//! Many threads on few blocks, for as long as a test may take.
//!
//! Each block's last bytes say which generation wrote it, so a reader that gets another block's
//! or half-written contents notices. The allocator is a list of free addresses, as the real one
//! hands a freed range out at once.

use super::disk::*;
use crate::extent_buffer::{Cache, Kind};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, thread};
use crate::units::{Generation, Logical};
use std::time::{Duration, Instant};

const BLOCKS: u64 = 48;
/// Miri takes a thousand times longer for a step.
const TIME: Duration = Duration::from_millis(if cfg!(miri) { 8_000 } else { 1_500 });

struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

fn address(n: u64) -> u64 {
    (1 << 20) + n * u64::from(NODESIZE)
}

/// Creates, frees, reads and writes out, and returns how many rules were broken.
fn stress(kind: Kind, time: Duration, cache_blocks: u64) -> (u64, u64) {
    let disk = Disk::with_leaves((0..BLOCKS).map(address), 1);
    let cache = disk.cache(cache_blocks, kind);
    let free: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    let owned: Mutex<Vec<u64>> = Mutex::new((0..BLOCKS).map(address).collect());
    let generation = AtomicU64::new(2);
    let stop = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    thread::scope(|scope| {
        for seed in 0..3 {
            let (cache, free, owned) = (&cache, &free, &owned);
            let (generation, stop, rounds) = (&generation, &stop, &rounds);
            scope.spawn(move || {
                let mut rng = Rng(seed);
                while !stop.load(Ordering::Relaxed) {
                    rounds.fetch_add(1, Ordering::Relaxed);
                    edit(
                        cache,
                        free,
                        owned,
                        Generation(generation.load(Ordering::Relaxed)),
                        &mut rng,
                    );
                }
            });
        }
        let (cache, generation, stop) = (&cache, &generation, &stop);
        scope.spawn(move || {
            // A holder of old paths: finds, keeps a while, looks, drops.
            let mut rng = Rng(99);
            let mut path = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let at = address(rng.below(BLOCKS));
                if let Some(eb) = cache.find(Logical(at)) {
                    if let Some(block) = eb.try_read()
                        && block.eb().is_uptodate()
                    {
                        assert_eq!(block.header().bytenr.get(), at, "another block's contents");
                        assert_eq!(block.last(), block.get(200), "half-written contents");
                    }
                    path.push(eb);
                }
                if path.len() > 6 {
                    path.clear();
                }
            }
        });
        let end = Instant::now() + time;
        while Instant::now() < end {
            thread::sleep(TIME / 150);
            let old = generation.fetch_add(1, Ordering::Relaxed);
            let all: Vec<_> = (0..BLOCKS).map(|n| Logical(address(n))).collect();
            cache.write_out(&all, Generation(old)).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let broken = cache.counters().violations.load(Ordering::Relaxed);
    if broken == 0 {
        check_counts(&cache, kind);
    }
    (broken, rounds.load(Ordering::Relaxed))
}

/// One edit: read a block, or free one, or allocate one.
fn edit(
    cache: &Cache,
    free: &Mutex<Vec<u64>>,
    owned: &Mutex<Vec<u64>>,
    generation: Generation,
    rng: &mut Rng,
) {
    let take = |list: &Mutex<Vec<u64>>, keep: u64, pick: u64| {
        let mut list = list.lock();
        let len = list.len() as u64;
        (len > keep).then(|| list.swap_remove((pick % len) as usize))
    };
    // A few stay free for a while, so that old path holders come to drop stale buffers.
    if let Some(at) = take(free, 4, rng.below(1 << 20)) {
        let mut block = cache.create(Logical(at), generation, 5, 0).unwrap();
        let mark = rng.below(256) as u8;
        block[200] = mark;
        *block.last_mut().unwrap() = mark;
        drop(block);
        owned.lock().push(at);
    }
    if let Some(at) = take(owned, 0, rng.below(1 << 20)) {
        let mut block = cache.read(&any(at)).unwrap().into_write();
        assert_eq!(block.header().bytenr.get(), at);
        // A clean block is one of an older transaction whose range was unpinned.
        if block.clear_dirty(generation) || !block.eb().is_dirty() {
            // As the real thing: the range is free before the buffer is stale.
            free.lock().push(at);
            block.free_stale();
        } else {
            drop(block);
            owned.lock().push(at);
            drop(cache.read(&any(address(rng.below(BLOCKS)))));
        }
    }
}

/// With nobody left, every buffer has the count that its flags say.
fn check_counts(cache: &Cache, kind: Kind) {
    for at in (0..BLOCKS).map(address) {
        if let Some(eb) = cache.find(Logical(at)) {
            let due = kind.rules().refs_due(eb.flags().0, 1);
            assert_eq!(eb.refs(), due, "{eb:?}");
        }
    }
}

#[test]
fn owned_counts_hold_under_stress() {
    if !kinds().contains(&Kind::Owned) {
        return;
    }
    for cache_blocks in [16, 64] {
        let (broken, rounds) = stress(Kind::Owned, TIME, cache_blocks);
        assert_eq!(broken, 0, "after {rounds} rounds");
        assert!(rounds > if cfg!(miri) { 3 } else { 100 });
    }
}

#[test]
fn a_broken_protocol_is_reported_and_nothing_else_breaks() {
    for kind in kinds().into_iter().filter(|kind| *kind != Kind::Owned) {
        // Whether the window is hit is luck here; what must hold either way is in `stress`.
        let (broken, rounds) = stress(kind, TIME, 64);
        println!("{kind}: {broken} broken rules in {rounds} rounds");
    }
}

/// With a delay in the window, luck is not needed: the race must be seen, and only there.
#[cfg(all(feature = "race-lab", not(miri)))]
#[test]
fn a_delay_in_the_window_makes_unfixed_lose_within_seconds() {
    use crate::sync::race_point::{Delay, Point, install_delays};
    let delay = |delay_us| {
        install_delays(&[Delay {
            point: Point::DropTested,
            delay_us,
        }]);
    };
    delay(50);
    let broken = |kind| stress(kind, TIME, 64).0;
    let (unfixed, handshake, owned) = (
        broken(Kind::Unfixed),
        broken(Kind::Handshake),
        broken(Kind::Owned),
    );
    delay(0);
    assert!(unfixed > 0, "unfixed must lose");
    assert_eq!((handshake, owned), (0, 0));
}
