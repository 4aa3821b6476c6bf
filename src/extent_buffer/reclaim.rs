//! Keeping the cache under its bound.
//!
//! Owns: who is asked to go, and in what order. Whether it goes is the protocol's decision, and
//! dirty, written-back and used buffers are not even asked.

use super::buffer;
use super::cache::{Cache, Inner};
use super::eviction::Chance;
use super::flags::{ACCESSED, UNDER_IO};
use super::index::SlotId;
use super::protocol::{Protocol, Put};
use super::slots;
use crate::sync::atomic::Ordering;
#[cfg(feature = "race-lab")]
use crate::sync::unmodelled::AtomicBool;

/// Buffers that one insert looks at, at most, when the cache is over its bound.
const TRIES_MAX: usize = 32;

/// Set by [`press`].
#[cfg(feature = "race-lab")]
static PRESSED: AtomicBool = AtomicBool::new(false);

/// From now on every insert reclaims as if the cache were far over its bound, as under memory
/// pressure that doesn't end. For the whole process.
#[cfg(feature = "race-lab")]
pub fn press() {
    // Relaxed: a switch, nothing is published with it.
    PRESSED.store(true, Ordering::Relaxed);
}

#[cfg(feature = "race-lab")]
fn is_pressed() -> bool {
    // Relaxed: as above.
    PRESSED.load(Ordering::Relaxed)
}

#[cfg(not(feature = "race-lab"))]
#[inline(always)]
fn is_pressed() -> bool {
    false
}

impl Cache {
    /// Frees idle clean buffers until the cache holds `bytes` or nothing more can go.
    pub fn shrink_to(&self, bytes: u64) {
        let slots_max = (bytes / u64::from(self.nodesize())) as usize;
        let mut tries = 2 * self.inner.live.load(Ordering::Relaxed) + 64;
        while self.inner.live.load(Ordering::Relaxed) > slots_max && tries > 0 {
            self.inner.reclaim_one(&mut tries);
        }
    }
}

impl Inner {
    /// Frees a few buffers when there are too many.
    pub(super) fn reclaim_over_bound(&self) {
        let mut tries = TRIES_MAX;
        let slots_max = match is_pressed() {
            true => 0,
            false => self.slots_max,
        };
        // Relaxed: one too many or too few does no harm.
        while self.live.load(Ordering::Relaxed) > slots_max && tries > 0 {
            self.reclaim_one(&mut tries);
        }
    }

    fn reclaim_one(&self, tries: &mut usize) {
        let Some((bytenr, id)) = self.eviction.next(tries, |_, id| self.chance(id)) else {
            *tries = 0;
            return;
        };
        let slot = slots::get(id);
        let ours = || slot.is_of(self.number, bytenr);
        let put = self.rules().reclaim(&slot.life, &ours);
        match put {
            Some(Put::Last) => {
                self.counters.evictions.fetch_add(1, Ordering::Relaxed);
            }
            // Somebody came to use it.
            _ if self.rules().refs(&slot.life) > 0 && ours() => self.eviction.put_back(bytenr, id),
            _ => {}
        }
        if let Some(put) = put {
            buffer::settle(slot, put);
        }
    }

    /// Flags and counts are read without any order here: it is a guess.
    fn chance(&self, id: SlotId) -> Chance {
        let life = &slots::get(id).life;
        if life.has(ACCESSED) {
            life.clear(ACCESSED);
            return Chance::Keep;
        }
        if self.rules().refs(life) > 1 || life.has(UNDER_IO) {
            Chance::Keep
        } else {
            Chance::Evict
        }
    }
}
