//! The fix of 2015, exactly: a lookup that finds STALE waits for the dropper who may be about
//! to act on it, by taking and releasing `refs_lock`.
//!
//! Only the index lookup does so. Reclaim sets no STALE and the collision path doesn't look, so
//! their windows stay open; and where setting a bit orders nothing, lookup and setter can miss
//! each other. Everything else is [`Unfixed`].

use super::unfixed::{Unfixed, check_tree_ref};
use super::{LookupPath, Protocol, Put};
use crate::extent_buffer::events::Event;
use crate::extent_buffer::flags::STALE;
use crate::extent_buffer::lifetime::Lifetime;
use crate::sync::race_point::Point;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Handshake;

impl Protocol for Handshake {
    fn name(&self) -> &'static str {
        "handshake"
    }

    fn try_get(&self, life: &Lifetime) -> bool {
        life.increment_not_zero()
    }

    fn found(&self, life: &Lifetime, path: LookupPath) {
        life.note(Event::Found);
        life.stand_at(Point::LookupCounted);
        if path == LookupPath::Index && life.has(STALE) {
            life.stand_at(Point::LookupStale);
            wait_for_dropper(life);
            life.note(Event::Waited);
        }
        check_tree_ref(life);
    }

    fn get(&self, life: &Lifetime) {
        Unfixed.get(life);
    }

    fn put(&self, life: &Lifetime) -> Put {
        Unfixed.put(life)
    }

    fn put_stale(&self, life: &Lifetime) -> Put {
        Unfixed.put_stale(life)
    }

    fn revive(&self, life: &Lifetime) {
        Unfixed.revive(life);
    }

    fn reclaim(&self, life: &Lifetime, ours: &dyn Fn() -> bool) -> Option<Put> {
        Unfixed.reclaim(life, ours)
    }

    fn set_dirty(&self, life: &Lifetime) -> bool {
        Unfixed.set_dirty(life)
    }

    fn clear_dirty(&self, life: &Lifetime) -> bool {
        Unfixed.clear_dirty(life)
    }

    fn begin_writeback(&self, life: &Lifetime) -> bool {
        Unfixed.begin_writeback(life)
    }

    fn end_writeback(&self, life: &Lifetime) {
        Unfixed.end_writeback(life);
    }

    fn refs_due(&self, flags: u32, users: u32) -> u32 {
        Unfixed.refs_due(flags, users)
    }
}

/// A grace period of one lock: whoever decided under it before our count was visible is done
/// when we come out, and the check of the tree ref that follows sees what they did; whoever
/// takes it later sees our count.
#[inline(never)]
pub fn wait_for_dropper(life: &Lifetime) {
    #[cfg(all(feature = "race-lab", not(btrfuse_model)))]
    if life.is_locked() {
        life.stand_at(Point::LookupWaits);
    }
    drop(life.lock());
}
