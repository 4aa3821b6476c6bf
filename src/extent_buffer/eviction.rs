//! Which buffer goes when the cache is over its bound: the least recently used, with a second
//! chance.
//!
//! Owns: the `lru` crate; no other file names it. A lookup doesn't come here, it only sets
//! ACCESSED; the order is touched on insert and by reclaim, which gives a buffer that was used
//! meanwhile another round. Never: a count, or the decision that a buffer dies; that is
//! [`Protocol::reclaim`](super::protocol::Protocol::reclaim)'s.

use lru::LruCache;

use super::index::SlotId;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};

const SHARDS: usize = 8;

/// What reclaim makes of the oldest buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chance {
    /// Another round.
    Keep,
    /// It goes, if the rules of its life allow.
    Evict,
}

/// See the module.
#[derive(Debug)]
pub struct Eviction {
    shards: [Mutex<LruCache<u64, SlotId>>; SHARDS],
    hand: AtomicUsize,
}

impl Eviction {
    /// No buffers.
    pub fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(LruCache::unbounded())),
            hand: AtomicUsize::new(0),
        }
    }

    fn shard(&self, bytenr: u64) -> &Mutex<LruCache<u64, SlotId>> {
        let hash = (bytenr >> 12).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.shards[(hash >> 61) as usize % SHARDS]
    }

    /// A new buffer, the most recently used.
    pub fn insert(&self, bytenr: u64, id: SlotId) {
        self.shard(bytenr).lock().put(bytenr, id);
    }

    /// A buffer that was taken out by [`Self::next`] and stays alive.
    pub fn put_back(&self, bytenr: u64, id: SlotId) {
        let mut shard = self.shard(bytenr).lock();
        if !shard.contains(&bytenr) {
            shard.put(bytenr, id);
        }
    }

    /// A buffer that is gone.
    pub fn forget(&self, bytenr: u64, id: SlotId) {
        let mut shard = self.shard(bytenr).lock();
        if shard.peek(&bytenr) == Some(&id) {
            shard.pop(&bytenr);
        }
    }

    /// Takes out the oldest buffer of some shard that `judge` doesn't give another round, after
    /// asking about `tries` of them at most. `tries` says how many are left.
    pub fn next(
        &self,
        tries: &mut usize,
        judge: impl Fn(u64, SlotId) -> Chance,
    ) -> Option<(u64, SlotId)> {
        let mut empty = 0;
        while *tries > 0 && empty < SHARDS {
            // Relaxed: any order of shards will do.
            let hand = self.hand.fetch_add(1, Ordering::Relaxed) % SHARDS;
            let mut shard = self.shards[hand].lock();
            let Some((&bytenr, &id)) = shard.peek_lru() else {
                empty += 1;
                continue;
            };
            empty = 0;
            *tries -= 1;
            match judge(bytenr, id) {
                Chance::Keep => {
                    shard.promote(&bytenr);
                }
                Chance::Evict => {
                    shard.pop_lru();
                    return Some((bytenr, id));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_and_the_used_get_another_round() {
        let eviction = Eviction::new();
        for id in 0..64 {
            eviction.insert(u64::from(id) << 14, id);
        }
        let mut tries = 1000;
        let used = |_, id: SlotId| match id % 2 {
            0 => Chance::Keep,
            _ => Chance::Evict,
        };
        let gone: Vec<_> = std::iter::from_fn(|| eviction.next(&mut tries, used)).collect();
        assert_eq!(gone.len(), 32);
        assert!(
            gone.iter()
                .all(|(bytenr, id)| id % 2 == 1 && *bytenr == u64::from(*id) << 14)
        );
        assert_eq!(
            tries, 0,
            "buffers that stay cost tries, so a full cache doesn't hang"
        );
    }

    #[test]
    fn a_late_word_of_a_slot_that_was_replaced_changes_nothing() {
        let eviction = Eviction::new();
        eviction.insert(16384, 7);
        eviction.forget(16384, 3);
        eviction.put_back(16384, 3);
        assert_eq!(
            eviction.next(&mut 10, |_, _| Chance::Evict),
            Some((16384, 7))
        );
        assert_eq!(eviction.next(&mut 10, |_, _| Chance::Evict), None);
    }
}
