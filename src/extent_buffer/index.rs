//! From a block's address to its slot: read without a lock, written under one of a few.
//!
//! Owns: buckets of atomic entries. A bucket is one cache line: entries with 32 bits of hash and
//! a slot number, and an overflow bucket that is made when the entries are full and stays.
//! Never: a count, or a look into the slot; callers judge the slots that an entry names.
//!
//! Invariants: an entry is published after its slot is complete, and never moves; of one address
//! there is at most one entry; only the entry that names a slot is removed for it.

use crate::sync::OnceLock;
use crate::sync::atomic::Ordering;
use crate::sync::stepped::{AtomicU64, Lock};

/// A slot's number.
pub type SlotId = u32;

const ENTRIES: usize = 6;
const SHARDS: usize = 16;
const EMPTY: u64 = 0;

#[derive(Debug)]
#[repr(align(64))]
struct Bucket {
    entries: [AtomicU64; ENTRIES],
    overflow: OnceLock<Box<Bucket>>,
}

impl Bucket {
    fn new() -> Self {
        Self {
            entries: std::array::from_fn(|_| AtomicU64::new(EMPTY)),
            overflow: OnceLock::new(),
        }
    }

    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |bucket| {
            bucket.overflow.get().map(|next| &**next)
        })
    }

    fn overflow_or_new(&self) -> &Self {
        self.overflow.get_or_init(|| Box::new(Self::new()))
    }
}

/// What an insert should make of a slot that may stand for the same address.
#[derive(Debug)]
pub enum Occupant<R> {
    /// It is of another address.
    Other,
    /// It is of this address and dead; whoever killed it hasn't taken it out yet.
    Dead,
    /// It is of this address and alive, and the caller now holds it.
    Alive(R),
}

/// See the module.
#[derive(Debug)]
pub struct Index {
    buckets: Box<[Bucket]>,
    shards: [Lock; SHARDS],
}

/// Where an address belongs: the bucket, and the hash bits that its entry keeps.
#[derive(Clone, Copy)]
struct Home {
    bucket: usize,
    tag: u32,
}

impl Home {
    fn entry(self, id: SlotId) -> u64 {
        u64::from(self.tag) << 32 | (u64::from(id) + 1)
    }

    fn slot(self, entry: u64) -> Option<SlotId> {
        (entry != EMPTY && (entry >> 32) as u32 == self.tag).then(|| entry as u32 - 1)
    }
}

impl Index {
    /// An empty index that is at ease with `expected` slots and takes any number.
    pub fn new(expected: usize) -> Self {
        let buckets = (expected / (ENTRIES / 2)).max(1).next_power_of_two();
        Self {
            buckets: (0..buckets).map(|_| Bucket::new()).collect(),
            shards: std::array::from_fn(|_| Lock::new(())),
        }
    }

    fn home(&self, bytenr: u64) -> Home {
        // Addresses are multiples of the sector size; the multiplication spreads the rest.
        let hash = (bytenr >> 12).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bucket = (hash >> 40) as usize & (self.buckets.len() - 1);
        Home {
            bucket,
            tag: (hash >> 16) as u32,
        }
    }

    fn shard(&self, home: Home) -> &Lock {
        &self.shards[home.bucket % SHARDS]
    }

    /// Offers every slot that may be of `bytenr` to `pick`, until it takes one. Takes no lock.
    #[inline]
    pub fn lookup<R>(&self, bytenr: u64, mut pick: impl FnMut(SlotId) -> Option<R>) -> Option<R> {
        let home = self.home(bytenr);
        for bucket in self.buckets[home.bucket].chain() {
            for entry in &bucket.entries {
                // Acquire: pairs with the Release in insert; the slot's identity is readable.
                let entry = entry.load(Ordering::Acquire);
                if let Some(found) = home.slot(entry).and_then(&mut pick) {
                    return Some(found);
                }
            }
        }
        None
    }

    /// Offers every slot that may be of `bytenr` to `look`, with the lock held without which none of
    /// them leaves the index: what is dead stays what it was.
    #[cfg(not(btrfuse_model))]
    pub fn lookup_locked(&self, bytenr: u64, mut look: impl FnMut(SlotId)) {
        let home = self.home(bytenr);
        let _shard = self.shard(home).lock();
        for bucket in self.buckets[home.bucket].chain() {
            for entry in &bucket.entries {
                // Relaxed: entries change under the shard's lock only.
                if let Some(there) = home.slot(entry.load(Ordering::Relaxed)) {
                    look(there);
                }
            }
        }
    }

    /// Publishes `id` for `bytenr`, unless another slot stands for it already: then that one is
    /// returned as `judge` took it. A dead one is replaced, and the answer is `true`.
    pub fn insert<R>(
        &self,
        bytenr: u64,
        id: SlotId,
        mut judge: impl FnMut(SlotId) -> Occupant<R>,
    ) -> Result<bool, R> {
        let home = self.home(bytenr);
        let _shard = self.shard(home).lock();
        let mut place = None;
        let mut last = &self.buckets[home.bucket];
        for bucket in self.buckets[home.bucket].chain() {
            last = bucket;
            for entry in &bucket.entries {
                // Relaxed: entries change under the shard's lock only.
                let word = entry.load(Ordering::Relaxed);
                if word == EMPTY {
                    place = place.or(Some(entry));
                } else if let Some(there) = home.slot(word) {
                    match judge(there) {
                        Occupant::Other => {}
                        Occupant::Alive(found) => return Err(found),
                        Occupant::Dead => {
                            // Release: as below.
                            entry.store(home.entry(id), Ordering::Release);
                            return Ok(true);
                        }
                    }
                }
            }
        }
        let place = place.unwrap_or_else(|| &last.overflow_or_new().entries[0]);
        // Release: pairs with the Acquire in lookup; publish when complete.
        place.store(home.entry(id), Ordering::Release);
        Ok(false)
    }

    /// Takes `id` out, if the entry of `bytenr` is still its own.
    pub fn remove(&self, bytenr: u64, id: SlotId) -> bool {
        let home = self.home(bytenr);
        let _shard = self.shard(home).lock();
        for bucket in self.buckets[home.bucket].chain() {
            for entry in &bucket.entries {
                if entry.load(Ordering::Relaxed) == home.entry(id) {
                    // Release: whoever finds the place empty sees what the slot's end wrote.
                    entry.store(EMPTY, Ordering::Release);
                    return true;
                }
            }
        }
        false
    }

    /// Names the cells in traces.
    #[cfg(all(feature = "race-lab", not(btrfuse_model)))]
    pub fn call_cells(&self) {
        for entry in self.buckets.iter().flat_map(|bucket| &bucket.entries) {
            entry.call("index entry");
        }
        for shard in &self.shards {
            shard.call("index lock");
        }
    }

    /// Every slot that is in the index now; others may come and go meanwhile.
    pub fn slots(&self) -> Vec<SlotId> {
        self.buckets
            .iter()
            .flat_map(Bucket::chain)
            .flat_map(|bucket| &bucket.entries)
            .map(|entry| entry.load(Ordering::Acquire))
            .filter(|entry| *entry != EMPTY)
            .map(|entry| entry as u32 - 1)
            .collect()
    }
}

#[cfg(all(test, not(btrfuse_model)))]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn what_was_inserted_is_found_and_what_was_removed_is_not() {
        let count: u32 = if cfg!(miri) { 50 } else { 500 };
        let index = Index::new(4);
        let addresses: HashMap<SlotId, u64> =
            (0..count).map(|id| (id, u64::from(id) << 14)).collect();
        for (id, bytenr) in &addresses {
            let judge = |there: SlotId| match addresses[&there] == *bytenr {
                true => Occupant::Alive(there),
                false => Occupant::Other,
            };
            assert_eq!(index.insert(*bytenr, *id, judge), Ok(false));
            assert_eq!(index.insert(*bytenr, 9999, judge), Err(*id));
        }
        let find =
            |bytenr: u64| index.lookup(bytenr, |id| (addresses[&id] == bytenr).then_some(id));
        for (id, bytenr) in &addresses {
            assert_eq!(find(*bytenr), Some(*id));
        }
        assert_eq!(index.slots().len(), count as usize);
        for (id, bytenr) in &addresses {
            assert!(
                !index.remove(*bytenr, id + 1),
                "only the slot's own entry goes"
            );
            assert!(index.remove(*bytenr, *id));
            assert_eq!(find(*bytenr), None);
        }
    }

    #[test]
    fn a_dead_slot_gives_its_place_to_the_next() {
        let index = Index::new(4);
        let judge = |_| Occupant::<SlotId>::Dead;
        assert_eq!(index.insert(16384, 1, judge), Ok(false));
        assert_eq!(index.insert(16384, 2, judge), Ok(true));
        assert_eq!(index.slots(), [2]);
        assert!(
            !index.remove(16384, 1),
            "the late release of the dead one must not hit slot 2"
        );
        assert_eq!(index.slots(), [2]);
    }
}
