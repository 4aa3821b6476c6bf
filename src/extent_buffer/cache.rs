//! The cache of tree blocks: find, insert, free.
//!
//! Owns: one buffer for each address, from insert to the last drop. Reading is in [`super::io`],
//! writing in [`super::write_out`], reclaim in [`super::reclaim`]. Invariants: of one address
//! there is at most one living buffer; a lookup takes no lock unless its protocol asks for one;
//! no lock of the cache is held while a count is dropped.

use super::backing::{Backing, VolumeBacking};
use super::buffer::EbRef;
use super::eviction::Eviction;
use super::flags::{ACCESSED, DIRTY, IN_TREE, STALE, TREE_REF, UNDER_IO};
use super::index::{Index, Occupant, SlotId};
use super::protocol::{Kind, LookupPath, Protocol};
use super::readahead::Readahead;
use super::slots::{self, Rules, Slot};
use super::violation::{Broken, Violation};
use crate::error::{Error, Result};
use crate::ondisk::Uuid;
use crate::ondisk::check::CheckContext;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::sync::race_point::Point;
use crate::sync::{Arc, Condvar, Mutex, RwLock, Weak};
use crate::units::Logical;
use crate::volume::Volume;

/// Dead slots that keep their bytes for the next block.
const WARM_SLOTS_MAX: usize = 64;

/// Blocks over half the bound between two calls of the pressure hook.
const PRESSURE_EVERY: usize = 64;

/// How a cache is made.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// Bytes of blocks that the cache keeps, about. Blocks that are dirty or in use stay anyway.
    pub bound_bytes: u64,
    /// How blocks are judged.
    pub check: CheckContext,
    /// For the headers of new blocks.
    pub chunk_tree_uuid: Uuid,
    /// The rules of a buffer's life; only lab builds have more than [`Kind::BUILD`].
    pub protocol: Kind,
}

/// The tree blocks of one filesystem. Clones are handles on the same cache.
#[derive(Clone)]
pub struct Cache {
    pub(super) inner: Arc<Inner>,
}

/// What the handles share.
pub struct Inner {
    /// Told apart from other caches of the process by this.
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) nodesize: u32,
    pub(super) slots_max: usize,
    pub(super) backing: Box<dyn Backing>,
    pub(super) index: Index,
    pub(super) eviction: Eviction,
    pub(super) readahead: Readahead,
    pub(super) live: AtomicUsize,
    pub(super) dirty: AtomicUsize,
    /// Somebody met a buffer that a broken rule freed, before that was reported.
    met_a_loss: AtomicBool,
    pub(super) counters: Counters,
    pub(super) writeback_lock: Mutex<()>,
    pub(super) writeback_ended: Condvar,
    pressure: RwLock<Option<Hook<()>>>,
    on_violation: RwLock<Vec<Hook<Violation>>>,
    warm: Mutex<Vec<&'static Slot>>,
    quarantine: Mutex<Vec<&'static Slot>>,
    pub(super) me: Weak<Inner>,
}

type Hook<T> = Arc<dyn Fn(&T) + Send + Sync>;

/// What the cache counts, for `btrfuse stats`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Blocks read from the disk.
    pub reads: AtomicU64,
    /// Blocks written to the disk.
    pub writes: AtomicU64,
    /// Buffers that reclaim freed.
    pub evictions: AtomicU64,
    /// Broken rules.
    pub violations: AtomicU64,
}

static NEXT_NUMBER: AtomicU32 = AtomicU32::new(1);

impl Cache {
    /// An empty cache over `volume`.
    pub fn new(volume: Arc<Volume>, config: CacheConfig) -> Self {
        let backing = VolumeBacking::new(volume, config.check, config.chunk_tree_uuid);
        Self::over(Box::new(backing), config.bound_bytes, config.protocol)
    }

    /// An empty cache over anything that reads and writes blocks.
    pub fn over(backing: Box<dyn Backing>, bound_bytes: u64, kind: Kind) -> Self {
        let nodesize = backing.nodesize();
        let slots_max = (bound_bytes / u64::from(nodesize)).max(16) as usize;
        let inner = Arc::new_cyclic(|me| Inner {
            // Relaxed: only has to be new.
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            kind,
            nodesize,
            slots_max,
            backing,
            index: Index::new(slots_max.min(1 << 20)),
            eviction: Eviction::new(),
            readahead: Readahead::default(),
            live: AtomicUsize::new(0),
            dirty: AtomicUsize::new(0),
            met_a_loss: AtomicBool::new(false),
            counters: Counters::default(),
            writeback_lock: Mutex::new(()),
            writeback_ended: Condvar::new(),
            pressure: RwLock::new(None),
            on_violation: RwLock::new(Vec::new()),
            warm: Mutex::new(Vec::new()),
            quarantine: Mutex::new(Vec::new()),
            me: me.clone(),
        });
        Self { inner }
    }

    /// The buffer of the block at `at`, if the cache has it. It may not be up to date yet.
    #[inline]
    pub fn find(&self, at: Logical) -> Option<EbRef> {
        self.inner.find(at)
    }

    /// Count and flags of the buffer at `at` without taking part in its life, for the lab.
    #[cfg(feature = "race-lab")]
    pub fn peek(&self, at: Logical) -> Option<crate::sync::race_point::Seen> {
        self.inner.index.lookup(at.0, |id| {
            let slot = slots::get(id);
            slot.is_of(self.inner.number, at.0)
                .then(|| slot.life.seen())
        })
    }

    /// Bytes of a block.
    pub fn nodesize(&self) -> u32 {
        self.inner.nodesize
    }

    /// The rules that buffers live by.
    pub fn protocol(&self) -> Kind {
        self.inner.kind
    }

    /// Bytes of all blocks in the cache.
    pub fn live_bytes(&self) -> u64 {
        // Relaxed, here and below: numbers for decisions that may be a little late.
        self.inner.live.load(Ordering::Relaxed) as u64 * u64::from(self.inner.nodesize)
    }

    /// Bytes of blocks that are newer than the disk.
    pub fn dirty_bytes(&self) -> u64 {
        self.inner.dirty.load(Ordering::Relaxed) as u64 * u64::from(self.inner.nodesize)
    }

    /// The bound that the cache was made with.
    pub fn bound_bytes(&self) -> u64 {
        self.inner.slots_max as u64 * u64::from(self.inner.nodesize)
    }

    /// Whether more is kept than the bound allows, because it is dirty or in use.
    pub fn over_bound(&self) -> bool {
        self.live_bytes() > self.bound_bytes()
    }

    /// Counters since the cache was made.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// An error once a rule of the buffers' lives was broken: a block's contents may be lost, and
    /// a write-out that didn't find it has passed over it. To be asked before a superblock points
    /// to what was written.
    pub fn check_whole(&self) -> Result<()> {
        // Relaxed: a write-out that missed the block either found it dead in the index and said so
        // itself, or the index had forgotten it (Release, which it read by Acquire) after the loss
        // was counted, or had another in its place after whoever put it there had said so.
        let inner = &self.inner;
        match (
            inner.counters.violations.load(Ordering::Relaxed),
            inner.met_a_loss.load(Ordering::Relaxed),
        ) {
            (0, false) => Ok(()),
            _ => Err(Error::Aborted(
                "a rule of the tree block cache was broken, and contents are lost".into(),
            )),
        }
    }

    /// Calls `hook` when dirty blocks come to fill half the bound, and again while they become
    /// more. It runs on a thread that holds tree locks: it may wake another thread, not write by
    /// itself.
    pub fn on_dirty_pressure(&self, hook: impl Fn() + Send + Sync + 'static) {
        *self.inner.pressure.write() = Some(Arc::new(move |()| hook()));
    }

    /// Calls `hook` for every broken rule. It runs on the thread that dropped the last count,
    /// which may hold tree locks.
    pub fn on_violation(&self, hook: impl Fn(&Violation) + Send + Sync + 'static) {
        self.inner.on_violation.write().push(Arc::new(hook));
    }

    pub(super) fn find_or_insert(&self, at: Logical) -> EbRef {
        self.inner.find_or_insert(at)
    }

    /// Frees the buffer at `at` whoever owns it, as a broken rule would.
    #[cfg(test)]
    pub(crate) fn lose(&self, at: Logical) {
        let eb = self.find(at).expect("only what is there can be lost");
        while eb.refs() > 1 {
            let _ = eb.slot().rules().put(eb.life());
        }
    }
}

impl Inner {
    #[inline]
    pub(super) fn rules(&self) -> Rules {
        slots::rules(self.kind)
    }

    #[inline]
    pub(super) fn find(&self, at: Logical) -> Option<EbRef> {
        let eb = self.index.lookup(at.0, |id| self.try_get(id, at.0))?;
        self.settle_found(&eb, LookupPath::Index);
        Some(eb)
    }

    /// Counts on a slot that the index named, and then makes sure that it is still the one.
    #[inline]
    fn try_get(&self, id: SlotId, bytenr: u64) -> Option<EbRef> {
        let slot = slots::get(id);
        slot.life.stand_at(Point::LookupFound);
        if !self.rules().try_get(&slot.life) {
            return None;
        }
        // From here on a drop of `eb` gives the count back, whosever buffer it has become.
        let eb = EbRef::from_count(slot);
        slot.is_of(self.number, bytenr).then_some(eb)
    }

    #[inline]
    fn settle_found(&self, eb: &EbRef, path: LookupPath) {
        let life = eb.life();
        self.rules().found(life, path);
        if !life.has(ACCESSED) {
            life.set(ACCESSED);
        }
        life.stand_at(Point::LookupDone);
    }

    pub(super) fn find_or_insert(&self, at: Logical) -> EbRef {
        if let Some(eb) = self.find(at) {
            return eb;
        }
        let slot = self.take_slot();
        self.rules().begin(&slot.life, at.0, 2, TREE_REF | IN_TREE);
        let new = EbRef::from_count(slot);
        match self
            .index
            .insert(at.0, slot.id(), |id| self.judge(id, at.0))
        {
            Ok(replaced) => {
                if !replaced {
                    self.live.fetch_add(1, Ordering::Relaxed);
                }
                self.eviction.insert(at.0, slot.id());
                self.reclaim_over_bound();
                new
            }
            Err(eb) => {
                // Nobody could find the new one; both of its counts are ours to drop.
                new.free_stale();
                self.settle_found(&eb, LookupPath::Collision);
                eb
            }
        }
    }

    /// Under the index's lock the identity of a slot that is in it can't change, so it is read
    /// before counting: a count that isn't wanted can't be dropped here, as a last drop takes
    /// that lock.
    fn judge(&self, id: SlotId, bytenr: u64) -> Occupant<EbRef> {
        let slot = slots::get(id);
        if !slot.is_of(self.number, bytenr) {
            Occupant::Other
        } else if self.rules().try_get(&slot.life) {
            Occupant::Alive(EbRef::from_count(slot))
        } else {
            self.note_loss(slot);
            Occupant::Dead
        }
    }

    /// A write-out can't find the block at `at`. If that is because its last count was dropped a
    /// moment ago, its report is still to come.
    pub(super) fn look_for_loss(&self, at: Logical) {
        self.index.lookup_locked(at.0, |id| {
            let slot = slots::get(id);
            if slot.is_of(self.number, at.0) && self.rules().refs(&slot.life) == 0 {
                self.note_loss(slot);
            }
        });
    }

    /// Looks at a dead buffer that is in the index, whose lock is held: it stays what it is.
    fn note_loss(&self, slot: &Slot) {
        if slot.life.has(UNDER_IO) {
            // Relaxed: see `Cache::check_whole`.
            self.met_a_loss.store(true, Ordering::Relaxed);
        }
    }

    fn take_slot(&self) -> &'static Slot {
        if let Some(slot) = self.warm.lock().pop() {
            return slot;
        }
        let slot = slots::take();
        slot.settle_in(self.number, self.kind, self.me.clone());
        *slot.bytes.write() = vec![0; self.nodesize as usize].into_boxed_slice();
        slot
    }

    /// The last count is gone: `btrfs_release_extent_buffer`.
    fn release(&self, slot: &'static Slot) {
        let (bytenr, flags) = (slot.life.bytenr(), slot.life.flags());
        let broken = flags.0 & UNDER_IO != 0;
        slot.life.note(super::events::Event::Freed);
        if broken {
            // Before the index forgets it: a write-out that misses the block finds the rule
            // broken afterwards (`Cache::check_whole`), and no superblock points to it. One that
            // comes before this line meets a dead buffer (`look_for_loss`).
            self.report(slot, Broken::FreedUnderIo);
        }
        if self.index.remove(bytenr, slot.id()) {
            self.live.fetch_sub(1, Ordering::Relaxed);
        }
        self.eviction.forget(bytenr, slot.id());
        if broken {
            if flags.0 & DIRTY != 0 {
                self.dirty.fetch_sub(1, Ordering::Relaxed);
            }
            self.quarantine.lock().push(slot);
            return;
        }
        let mut warm = self.warm.lock();
        if warm.len() < WARM_SLOTS_MAX {
            warm.push(slot);
            drop(warm);
        } else {
            drop(warm);
            slots::give_back(slot);
        }
        if flags.0 & STALE != 0 {
            self.stale_is_gone(Logical(bytenr));
        }
    }

    fn report(&self, slot: &Slot, broken: Broken) {
        let violation = Violation::of(slot, broken, slot.life.flags());
        self.counters.violations.fetch_add(1, Ordering::Relaxed);
        log::error!("{violation}");
        let hooks = self.on_violation.read().clone();
        for hook in hooks {
            hook(&violation);
        }
    }

    fn account_dirty(&self) {
        let dirty = self.dirty.fetch_add(1, Ordering::Relaxed) + 1;
        let half = (self.slots_max / 2).max(1);
        // Again every few blocks, in case whoever was told came to nothing.
        if dirty >= half
            && (dirty - half).is_multiple_of(PRESSURE_EVERY)
            && let Some(hook) = self.pressure.read().clone()
        {
            hook(&());
        }
    }
}

impl Drop for Inner {
    /// Gives all slots back. Buffers that someone still holds go with their last drop.
    fn drop(&mut self) {
        for id in self.index.slots() {
            if let Some(eb) = self.try_get(id, slots::get(id).life.bytenr()) {
                // What is dirty now was never to be written: the transaction was aborted.
                self.rules().clear_dirty(eb.life());
                eb.free_stale();
            }
        }
        for slot in self
            .warm
            .get_mut()
            .drain(..)
            .chain(self.quarantine.get_mut().drain(..))
        {
            slots::give_back(slot);
        }
    }
}

/// The last count on `slot` is gone.
#[cold]
#[inline(never)]
pub(super) fn release(slot: &'static Slot) {
    match slot.home() {
        Some(cache) => cache.release(slot),
        None => slots::give_back(slot),
    }
}

/// A count on `slot` was dropped that nobody had.
#[cold]
#[inline(never)]
pub(super) fn report_underflow(slot: &'static Slot) {
    if let Some(cache) = slot.home() {
        cache.report(slot, Broken::CountUnderflow);
    }
    // The slot's next life must not inherit it.
    let rules = slot.rules();
    if rules.refs(&slot.life) != 0 {
        rules.get(&slot.life);
    }
}

/// `slot` became dirty.
pub(super) fn account_dirty(slot: &'static Slot) {
    if let Some(cache) = slot.home() {
        cache.account_dirty();
    }
}

/// `slot` became clean.
pub(super) fn account_clean(slot: &'static Slot) {
    if let Some(cache) = slot.home() {
        cache.dirty.fetch_sub(1, Ordering::Relaxed);
    }
}
