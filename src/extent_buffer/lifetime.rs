//! What decides how long an extent buffer lives: a count, flags, and a lock for droppers.
//!
//! Owns: the single steps (one shared access each) that the rules in [`super::protocol`] are
//! made of. Never: a rule. Apart from index, eviction and contents, so that a model of the
//! rules stays small.
//!
//! Orders are those of the kernel's primitives, which the 2013–2015 rules were written with:
//! `atomic_read`, `test_bit`, `set_bit`, `clear_bit`, `atomic_inc` and `atomic_dec` order
//! nothing by themselves; `atomic_inc_not_zero`, `atomic_cmpxchg`, `atomic_dec_and_test`,
//! `test_and_set_bit` and `test_and_clear_bit` are full barriers. On x86-64 every one of them that
//! writes is a locked instruction and so a full barrier; a model chooses with [`Profile`] whether
//! that is granted.

use crate::sync::atomic::{Ordering, fence};
#[cfg(all(feature = "race-lab", not(btrfuse_model)))]
use crate::sync::race_point::race_step;
use crate::sync::race_point::{Point, Seen, race_point};
#[cfg(all(feature = "race-lab", not(btrfuse_model)))]
use crate::sync::stepped::turn;
use crate::sync::stepped::{AtomicU32, AtomicU64, Lock, LockGuard};

use super::events::{Event, Events};
use super::flags::Flags;

/// What a processor, or a choice of primitives, makes of atomic accesses; a model has all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// x86-64: every atomic write is a locked instruction, ordered against everything.
    FullRmws,
    /// arm64 with the primitives of 2015: counting unless 0 and the test-and-change operations are
    /// full barriers; setting and clearing a bit, and plain counting, order nothing.
    RelaxedFlags,
    /// Every write releases and every read acquires, and nothing is a full barrier.
    AcquireRelease,
    /// As [`Self::RelaxedFlags`], but counting unless 0 only acquires, as `refcount_t` does, and
    /// whoever sets a flag has a full barrier behind it.
    UnorderedIncrement,
}

impl Profile {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::FullRmws,
        Self::RelaxedFlags,
        Self::AcquireRelease,
        Self::UnorderedIncrement,
    ];

    /// The processor that this build runs on.
    pub const NATIVE: Self = if cfg!(target_arch = "x86_64") {
        Self::FullRmws
    } else {
        Self::RelaxedFlags
    };

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FullRmws => "full-rmws",
            Self::RelaxedFlags => "relaxed-flags",
            Self::AcquireRelease => "acquire-release",
            Self::UnorderedIncrement => "unordered-increment",
        }
    }
}

/// The bits that flags have in their word; where the count may share it, only the lowest.
const FLAG_BITS: u32 = if cfg!(any(feature = "protocols", btrfuse_model)) {
    0xff
} else {
    u32::MAX
};

/// Count and flags where they share a word.
#[cfg(any(feature = "protocols", btrfuse_model))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// How many counts.
    pub refs: u32,
    /// The flags.
    pub flags: u32,
}

#[cfg(any(feature = "protocols", btrfuse_model))]
impl Word {
    fn packed(self) -> u32 {
        self.refs << FLAG_BITS.count_ones() | self.flags
    }

    fn unpacked(word: u32) -> Self {
        Self {
            refs: word >> FLAG_BITS.count_ones(),
            flags: word & FLAG_BITS,
        }
    }

    /// With `more` counts.
    pub fn plus(self, more: u32) -> Self {
        Self {
            refs: self.refs + more,
            ..self
        }
    }

    /// With these flags set.
    pub fn with(self, flags: u32) -> Self {
        Self {
            flags: self.flags | flags,
            ..self
        }
    }

    /// With these flags clear.
    pub fn without(self, flags: u32) -> Self {
        Self {
            flags: self.flags & !flags,
            ..self
        }
    }
}

/// The count, the flags and the lock of one buffer, and which block it is of.
#[derive(Debug)]
pub struct Lifetime {
    /// Which block the buffer is of. Changes only while the count is 0.
    bytenr: AtomicU64,
    refs: AtomicU32,
    flags: AtomicU32,
    /// Held while a dropper of the tree-ref rules decides. Owned counting never takes it.
    refs_lock: Lock,
    events: Events,
    #[cfg(btrfuse_model)]
    profile: Profile,
}

impl Lifetime {
    /// A dead buffer: nobody counts, no flag is set.
    pub fn dead() -> Self {
        Self::dead_under(Profile::NATIVE)
    }

    /// A dead buffer on a chosen processor; only a model can choose.
    pub fn dead_under(_profile: Profile) -> Self {
        Self {
            bytenr: AtomicU64::new(0),
            refs: AtomicU32::new(0),
            flags: AtomicU32::new(0),
            refs_lock: Lock::new(()),
            events: Events::none(),
            #[cfg(btrfuse_model)]
            profile: _profile,
        }
    }

    /// Brings a dead buffer to life with `refs` counts. The caller is the only one who knows
    /// it: its count is 0, so no lookup can have it.
    pub fn begin(&self, bytenr: u64, refs: u32, flags: u32) {
        self.events.clear();
        // Relaxed: published by the store of refs below.
        self.bytenr.store(bytenr, Ordering::Relaxed);
        self.flags.store(flags, Ordering::Relaxed);
        // Release: pairs with the increment of a lookup, which then may read bytenr and flags.
        self.refs.store(refs, Ordering::Release);
        self.note(Event::Begin);
    }

    /// [`Self::begin`] for a count that lives in the word of the flags.
    #[cfg(any(feature = "protocols", btrfuse_model))]
    pub fn begin_packed(&self, bytenr: u64, word: Word) {
        self.events.clear();
        // Relaxed: published by the store below.
        self.bytenr.store(bytenr, Ordering::Relaxed);
        // Release: pairs with the swap of a lookup, which then may read bytenr.
        self.flags.store(word.packed(), Ordering::Release);
        self.note(Event::Begin);
    }

    /// Count and flags, as of just now, where they share a word.
    #[cfg(any(feature = "protocols", btrfuse_model))]
    pub fn word(&self) -> Word {
        Word::unpacked(self.flags.load(Ordering::Relaxed))
    }

    /// Makes of the word what `next` makes of it, in one step, and says what it was; `None` when
    /// `next` wants nothing of it.
    #[cfg(any(feature = "protocols", btrfuse_model))]
    pub fn turn(&self, next: impl Fn(Word) -> Option<Word>) -> Option<Word> {
        let step = |word| next(Word::unpacked(word)).map(Word::packed);
        // AcqRel: whoever drops the last count sees what the others did before theirs. Nothing
        // else is ordered: there is one variable.
        self.flags
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, step)
            .ok()
            .map(Word::unpacked)
    }

    /// The block's address. Stable for whoever owns a count.
    #[inline]
    pub fn bytenr(&self) -> u64 {
        // Relaxed: the caller's count ordered it (begin).
        self.bytenr.load(Ordering::Relaxed)
    }

    /// The count, as of just now (`atomic_read`).
    #[inline]
    pub fn refs(&self) -> u32 {
        self.refs.load(self.read_order())
    }

    /// All flags, as of just now.
    #[inline]
    pub fn flags(&self) -> Flags {
        Flags(self.flags.load(Ordering::Relaxed) & FLAG_BITS)
    }

    /// Whether any of `flags` is set, as of just now (`test_bit`).
    #[inline]
    pub fn has(&self, flags: u32) -> bool {
        let word = self.flags.load(self.read_order());
        self.keep(|word| word & u64::from(flags));
        word & flags != 0
    }

    /// [`Self::has`] for flags that publish something: what was written before the flag was
    /// set can be read after this.
    #[inline]
    pub fn has_acquire(&self, flags: u32) -> bool {
        // Acquire: pairs with the AcqRel of test_and_set.
        let word = self.flags.load(Ordering::Acquire);
        self.keep(|word| word & u64::from(flags));
        word & flags != 0
    }

    /// Counts one more if the buffer is alive (`atomic_inc_not_zero`, a full barrier).
    #[inline]
    pub fn increment_not_zero(&self) -> bool {
        // SeqCst on x86-64 is the locked instruction itself; elsewhere the fences of `ordered`
        // make it full. Acquire pairs with the Release in begin().
        let step = |order| {
            // Wrapping: a count that was dropped below 0 is reported, and never a panic.
            let was = self.refs.fetch_update(order, Ordering::Relaxed, |refs| {
                (refs != 0).then(|| refs.wrapping_add(1))
            });
            self.keep(|refs| refs.min(1));
            was.is_ok()
        };
        #[cfg(btrfuse_model)]
        if self.profile == Profile::UnorderedIncrement {
            return step(Ordering::Acquire);
        }
        self.ordered(|| step(Ordering::SeqCst))
    }

    /// Counts one more for someone who has a count already, so it can't be dead
    /// (`atomic_inc`).
    #[inline]
    pub fn increment(&self) {
        // Relaxed: the caller's own count keeps the buffer alive.
        self.locked(|| self.refs.fetch_add(1, Ordering::Relaxed));
        self.keep(|_| 0);
    }

    /// Gives up a count that isn't the last, and says what the count was: 0, 1 or more (`atomic_dec`).
    #[inline]
    pub fn decrement(&self) -> u32 {
        // AcqRel: whoever drops the last count sees what the others did before theirs.
        let was = self.locked(|| self.refs.fetch_sub(1, Ordering::AcqRel));
        self.keep(|refs| refs.min(2));
        was
    }

    /// Gives up a count and says what it was: 0, 1 or more (`atomic_dec_and_test`, a full barrier).
    #[inline]
    pub fn decrement_ordered(&self) -> u32 {
        let was = self.ordered(|| self.refs.fetch_sub(1, Ordering::SeqCst));
        self.keep(|refs| refs.min(2));
        was
    }

    /// Gives up a count without a lock while the count is over `floor`; false when it isn't
    /// (`atomic_cmpxchg`, a full barrier).
    #[inline]
    pub fn decrement_above(&self, floor: u32) -> bool {
        let mut refs = self.refs.load(Ordering::Relaxed);
        self.keep(|refs| if refs > u64::from(floor) { refs } else { 0 });
        while refs > floor {
            // SeqCst: as increment_not_zero.
            match self.ordered(|| {
                self.refs
                    .compare_exchange_weak(refs, refs - 1, Ordering::SeqCst, Ordering::Relaxed)
            }) {
                Ok(_) => return true,
                Err(now) => refs = now,
            }
        }
        false
    }

    /// Sets a flag (`set_bit`: orders nothing).
    #[inline]
    pub fn set(&self, flag: u32) {
        self.locked(|| self.flags.fetch_or(flag, self.set_order()));
        self.keep(|_| 0);
        #[cfg(btrfuse_model)]
        if self.profile == Profile::UnorderedIncrement {
            fence(Ordering::SeqCst);
        }
    }

    /// Clears a flag (`clear_bit`: orders nothing).
    #[inline]
    pub fn clear(&self, flag: u32) {
        self.locked(|| self.flags.fetch_and(!flag, self.set_order()));
        self.keep(|_| 0);
    }

    /// Sets a flag and says whether it was set (`test_and_set_bit`, a full barrier).
    #[inline]
    pub fn test_and_set(&self, flag: u32) -> bool {
        let word = self.ordered(|| self.flags.fetch_or(flag, Ordering::SeqCst));
        self.keep(|word| word & u64::from(flag));
        word & flag != 0
    }

    /// Clears a flag and says whether it was set (`test_and_clear_bit`, a full barrier).
    #[inline]
    pub fn test_and_clear(&self, flag: u32) -> bool {
        let word = self.ordered(|| self.flags.fetch_and(!flag, Ordering::SeqCst));
        self.keep(|word| word & u64::from(flag));
        word & flag != 0
    }

    /// Takes `refs_lock`.
    #[inline]
    pub fn lock(&self) -> LockGuard<'_> {
        self.refs_lock.lock()
    }

    /// The calling thread stands at `point`.
    #[inline(always)]
    pub fn stand_at(&self, point: Point) {
        #[cfg(all(feature = "race-lab", not(btrfuse_model)))]
        if self.refs.is_cell() {
            return turn::stand_at(point);
        }
        race_point(point, || self.seen());
    }

    /// Remembers what just happened, as far as this build does, and tells the lab.
    #[inline(always)]
    pub fn note(&self, _event: Event) {
        #[cfg(not(any(feature = "race-lab", btrfuse_model, btrfuse_shuttle)))]
        if !_event.is_hot() {
            let seen = self.seen();
            self.events.note(_event, seen.refs, seen.flags);
        }
        #[cfg(all(feature = "race-lab", not(btrfuse_model)))]
        if self.refs.is_cell() {
            turn::remark(_event.words());
        } else {
            let seen = self.seen();
            self.events.note(_event, seen.refs, seen.flags);
            // No role's step: who has a count hands on another.
            if _event != Event::Got {
                race_step(_event.words(), || self.seen());
            }
        }
    }

    /// Address, count and flags, as of just now.
    pub fn seen(&self) -> Seen {
        #[cfg(all(feature = "race-lab", not(btrfuse_model)))]
        let (bytenr, refs, word) = (self.bytenr.peek(), self.refs.peek(), self.flags.peek());
        #[cfg(not(all(feature = "race-lab", not(btrfuse_model))))]
        let (bytenr, refs, word) = (self.bytenr(), self.refs(), self.flags().0);
        Seen {
            bytenr,
            // One of the two is 0.
            refs: refs + word.checked_shr(FLAG_BITS.count_ones()).unwrap_or(0),
            flags: word & FLAG_BITS,
        }
    }

    /// Names the cells of a buffer in traces.
    #[cfg(all(feature = "race-lab", not(btrfuse_model)))]
    pub fn call_cells(&self) {
        self.bytenr.call("bytenr");
        self.refs.call("refs");
        self.flags.call("flags");
        self.refs_lock.call("refs_lock");
    }

    /// Whether a dropper decides just now.
    #[cfg(not(btrfuse_model))]
    pub fn is_locked(&self) -> bool {
        self.refs_lock.is_locked()
    }

    /// What happened last.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Tells the explorer how little of the last access's result is looked at.
    #[inline(always)]
    fn keep(&self, _part: impl FnOnce(u64) -> u64) {
        #[cfg(all(feature = "race-lab", not(btrfuse_model)))]
        if self.refs.is_cell() {
            turn::keep(_part);
        }
    }

    /// A step that orders everything on every processor.
    #[inline(always)]
    fn ordered<R>(&self, step: impl FnOnce() -> R) -> R {
        #[cfg(btrfuse_model)]
        if self.profile == Profile::AcquireRelease {
            return step();
        }
        if cfg!(btrfuse_model) || !cfg!(target_arch = "x86_64") {
            // SeqCst: loom takes SeqCst accesses for AcqRel, and so does arm64's CAS.
            fence(Ordering::SeqCst);
            let result = step();
            fence(Ordering::SeqCst);
            result
        } else {
            step()
        }
    }

    /// An atomic write that orders everything where it is a locked instruction.
    #[inline(always)]
    fn locked<R>(&self, step: impl FnOnce() -> R) -> R {
        #[cfg(btrfuse_model)]
        if self.profile == Profile::FullRmws {
            return self.ordered(step);
        }
        step()
    }

    /// Of a plain read.
    #[inline(always)]
    fn read_order(&self) -> Ordering {
        #[cfg(btrfuse_model)]
        if self.profile == Profile::AcquireRelease {
            return Ordering::Acquire;
        }
        // Relaxed: `atomic_read` and `test_bit` order nothing.
        Ordering::Relaxed
    }

    /// Of a plain change of a flag.
    #[inline(always)]
    fn set_order(&self) -> Ordering {
        #[cfg(btrfuse_model)]
        if self.profile == Profile::AcquireRelease {
            return Ordering::Release;
        }
        // Relaxed: as set_bit. Release would not help the store-buffering pair either.
        Ordering::Relaxed
    }
}
