//! A small world for a race: a buffer or two, an index, contents, a disk; the moves that roles make
//! there, and the judge of the end.
//!
//! Lifetime, protocol and index are the cache's own; what is between them here is as in
//! [`cache`](crate::extent_buffer) and as short as possible. Everything that two roles touch comes
//! from [`crate::sync::stepped`], so that each engine can take it apart.

use crate::extent_buffer::flags::{DIRTY, IN_TREE, TREE_REF, UNDER_IO, UPTODATE};
use crate::extent_buffer::index::{Index, Occupant, SlotId};
use crate::extent_buffer::lifetime::{Lifetime, Profile};
use crate::extent_buffer::protocol::{LookupPath, Protocol, Put};
use crate::sync::atomic::Ordering;
use crate::sync::stepped::{AtomicU64, Lock, Tally};

/// The address of the one block.
pub const BYTENR: u64 = 30_408_704;

/// Contents of a block as it was.
pub const OLD: u64 = 7;
/// Contents of a block as a role made it.
pub const NEW: u64 = 8;

/// How much of a cache a race needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// One buffer, which everybody knows.
    Buffer,
    /// An index, and a second buffer for the same address.
    Index,
}

/// How a rule was broken before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The last count of a buffer went while it was under IO. Whoever dropped it sees that with a
    /// later access.
    FreedUnderIo,
    /// By the very access after which it shows.
    Otherwise,
}

/// See the module.
pub struct World {
    /// The buffer; slot 0.
    pub life: Lifetime,
    /// What it lives by.
    pub rules: &'static dyn Protocol,
    /// The lock of the block's contents.
    pub block: Lock,
    /// The block's contents, by slot; 0 is nothing yet.
    pub contents: [AtomicU64; 2],
    /// The block on the disk.
    pub disk: AtomicU64,
    indexed: Option<Indexed>,
    begun: [Tally; 2],
    freed: [Tally; 2],
    freed_under_io: Tally,
    underflows: Tally,
    /// Somebody used a buffer that was freed.
    pub used_freed: Tally,
    /// Somebody found a buffer without its contents.
    pub half_built: Tally,
}

struct Indexed {
    second: Lifetime,
    index: Index,
}

impl World {
    /// Dead buffers.
    pub fn new(rules: &'static dyn Protocol, profile: Profile, stage: Stage) -> Self {
        let indexed = (stage == Stage::Index).then(|| Indexed {
            second: Lifetime::dead_under(profile),
            index: Index::new(1),
        });
        Self {
            life: Lifetime::dead_under(profile),
            rules,
            block: Lock::new(()),
            contents: [AtomicU64::new(0), AtomicU64::new(0)],
            disk: AtomicU64::new(0),
            indexed,
            begun: [Tally::zero(), Tally::zero()],
            freed: [Tally::zero(), Tally::zero()],
            freed_under_io: Tally::zero(),
            underflows: Tally::zero(),
            used_freed: Tally::zero(),
            half_built: Tally::zero(),
        }
    }

    /// Brings the first buffer to life with these flags, and `users` roles that hold it. Where there
    /// is an index, it can be found.
    pub fn begin(&self, users: u32, flags: u32) {
        self.begin_slot(0, users, flags);
        if let Some(indexed) = &self.indexed {
            // An empty index takes anything.
            let _ = indexed.index.insert(BYTENR, 0, |_| Occupant::<()>::Dead);
        }
    }

    /// Brings a slot to life; nobody else knows it yet.
    pub fn begin_slot(&self, id: SlotId, users: u32, flags: u32) {
        self.begun[id as usize].count();
        let refs = self.rules.refs_due(flags, users);
        self.rules.begin(self.slot(id), BYTENR, refs, flags);
    }

    fn slot(&self, id: SlotId) -> &Lifetime {
        match (&self.indexed, id) {
            (Some(indexed), 1) => &indexed.second,
            _ => &self.life,
        }
    }

    fn index(&self) -> &Index {
        let indexed = self.indexed.as_ref();
        &indexed
            .expect("a role that looks up has a stage with an index")
            .index
    }

    /// Looks the address up (`find_extent_buffer`).
    pub fn find(&self) -> Option<SlotId> {
        let id = self.index().lookup(BYTENR, |id| self.try_get(id))?;
        self.rules.found(self.slot(id), LookupPath::Index);
        Some(id)
    }

    fn try_get(&self, id: SlotId) -> Option<SlotId> {
        self.rules.try_get(self.slot(id)).then_some(id)
    }

    /// Makes the dead slot `id` the address's buffer, or finds that there is one; a count either way.
    pub fn insert(&self, id: SlotId) -> SlotId {
        self.begin_slot(id, 1, UPTODATE | TREE_REF | IN_TREE);
        self.publish(id)
    }

    /// The second half of [`Self::insert`].
    pub fn publish(&self, id: SlotId) -> SlotId {
        let judge = |there| match self.try_get(there) {
            Some(there) => Occupant::Alive(there),
            None => Occupant::Dead,
        };
        match self.index().insert(BYTENR, id, judge) {
            Ok(_) => id,
            Err(there) => {
                let put = self.rules.put_stale(self.slot(id));
                self.settle_slot(id, put);
                self.rules.found(self.slot(there), LookupPath::Collision);
                there
            }
        }
    }

    /// Does what a drop owes, as the cache would.
    pub fn settle(&self, put: Put) {
        self.settle_slot(0, put);
    }

    fn settle_slot(&self, id: SlotId, put: Put) {
        if self.freed_by(id, put)
            && let Some(indexed) = &self.indexed
        {
            indexed.index.remove(BYTENR, id);
        }
    }

    /// [`Self::settle`], but whatever stands for the address leaves the index.
    pub fn settle_by_address(&self, put: Put) {
        if self.freed_by(0, put)
            && let Some(there) = self.index().lookup(BYTENR, Some)
        {
            self.index().remove(BYTENR, there);
        }
    }

    fn freed_by(&self, id: SlotId, put: Put) -> bool {
        match put {
            Put::Shared => {}
            Put::Last => {
                self.freed[id as usize].count();
                if self.slot(id).has(UNDER_IO) {
                    self.freed_under_io.count();
                }
            }
            Put::Underflow => self.underflows.count(),
        }
        put == Put::Last
    }

    /// A count on a slot is dropped.
    pub fn put(&self, id: SlotId) {
        let put = self.rules.put(self.slot(id));
        self.settle_slot(id, put);
    }

    /// Someone with an old path lets go of the buffer.
    pub fn drop_path(&self) {
        self.put(0);
    }

    /// Someone with the block locked has freed it and lets go.
    pub fn free_block(&self) {
        let put = self.rules.put_stale(&self.life);
        self.settle(put);
    }

    /// Reclaim comes by.
    pub fn reclaim(&self) {
        if let Some(put) = self.rules.reclaim(&self.life, &|| true) {
            self.settle(put);
        }
    }

    /// Looks the one buffer up, where there is no index; false when it is dead.
    pub fn get(&self) -> bool {
        let alive = self.rules.try_get(&self.life);
        if alive {
            self.rules.found(&self.life, LookupPath::Index);
        }
        alive
    }

    /// Someone who was given the address by the allocator looks it up, writes a new block there
    /// and lets go. Finding nothing, they would make another buffer, and no race is left.
    pub fn reuse_block(&self) {
        if self.get() {
            self.rules.revive(&self.life);
            self.rules.set_dirty(&self.life);
            self.drop_path();
        }
    }

    /// Uses the buffer, as by reading a field of it.
    pub fn touch(&self) {
        // The flags are read so that the use is a step; what they are doesn't matter.
        let _ = self.life.flags();
        if self.freed[0].get() > 0 {
            self.used_freed.count();
        }
    }

    /// The contents of the first buffer.
    pub fn read_contents(&self) -> u64 {
        // Relaxed, here and below: the block's lock orders contents, or nothing does.
        self.contents[0].load(Ordering::Relaxed)
    }

    /// Writes the contents of the first buffer.
    pub fn write_contents(&self, contents: u64) {
        self.contents[0].store(contents, Ordering::Relaxed);
    }

    /// What is wrong at the end, when no role holds a buffer any more.
    pub fn judge(&self) -> Result<(), String> {
        if self.underflows.get() > 0 {
            return Err("dropped more often than counted".into());
        }
        if self.used_freed.get() > 0 {
            return Err("used after it was freed".into());
        }
        if self.half_built.get() > 0 {
            return Err("found before it was complete".into());
        }
        let slots = if self.indexed.is_some() { 2 } else { 1 };
        (0..slots)
            .filter(|id| self.begun[*id as usize].get() > 0)
            .try_for_each(|id| self.judge_slot(id))
    }

    fn judge_slot(&self, id: SlotId) -> Result<(), String> {
        let life = self.slot(id);
        let (refs, flags) = (self.rules.refs(life), life.flags());
        let freed = self.freed[id as usize].get();
        let state = format!("at the end freed {freed} times, refs {refs}, flags {flags}");
        if self.freed_under_io.get() > 0 {
            return Err(format!("freed under IO: {state}"));
        }
        if freed > 1 {
            return Err(format!("dropped more often than counted: {state}"));
        }
        if freed == 1 && (refs != 0 || flags.0 & DIRTY != 0) {
            return Err(format!("used after it was freed: {state}"));
        }
        let due = self.rules.refs_due(flags.0, 0);
        if freed == 0 && refs != due {
            return Err(format!("{due} counts are due: {state}"));
        }
        if freed == 0 && refs == 0 {
            return Err(format!("nobody owns it, and nobody freed it: {state}"));
        }
        let in_index = |index: &Index| index.slots().contains(&id);
        match &self.indexed {
            Some(indexed) if in_index(&indexed.index) != (freed == 0) => Err(format!(
                "{} in the index: {state}",
                if freed == 0 {
                    "alive and not"
                } else {
                    "freed and still"
                }
            )),
            _ => Ok(()),
        }
    }

    /// What broke already, for whoever looks for the step that did it.
    pub fn broken(&self) -> Option<Broken> {
        let otherwise = [&self.underflows, &self.used_freed, &self.half_built];
        if self.freed_under_io.get() > 0 {
            return Some(Broken::FreedUnderIo);
        }
        let is_broken = otherwise.iter().any(|tally| tally.get() > 0);
        is_broken.then_some(Broken::Otherwise)
    }

    /// Names the cells in traces.
    #[cfg(all(feature = "race-lab", not(btrfuse_model)))]
    pub fn call_cells(&self) {
        self.life.call_cells();
        self.block.call("block lock");
        self.contents[0].call("contents");
        self.contents[1].call("second contents");
        self.disk.call("disk");
        if let Some(indexed) = &self.indexed {
            indexed.second.call_cells();
            indexed.index.call_cells();
        }
    }
}
