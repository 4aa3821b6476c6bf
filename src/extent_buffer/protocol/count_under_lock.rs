//! A lookup counts itself, and takes the tree ref if it is gone, under `refs_lock`: the "real fix"
//! that was named on the list. Lab only.
//!
//! A dropper's test can't grow old any more, as nobody counts while it holds the lock. The price is
//! a locked section a lookup, and that a lookup waits for droppers that it would not have met.

use super::like::like;
use super::unfixed::Unfixed;
use super::{LookupPath, Protocol, Put};
use crate::extent_buffer::events::Event;
use crate::extent_buffer::flags::{DIRTY, TREE_REF};
use crate::extent_buffer::lifetime::Lifetime;
use crate::sync::race_point::Point;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct CountUnderLock;

impl Protocol for CountUnderLock {
    fn name(&self) -> &'static str {
        "count-under-lock"
    }

    fn try_get(&self, life: &Lifetime) -> bool {
        #[cfg(all(feature = "race-lab", not(btrfuse_model)))]
        if life.is_locked() {
            life.stand_at(Point::LookupWaits);
        }
        let _refs_lock = life.lock();
        if !life.increment_not_zero() {
            return false;
        }
        if !life.test_and_set(TREE_REF) {
            life.increment();
            life.note(Event::TreeRefTaken);
        }
        true
    }

    fn found(&self, life: &Lifetime, _path: LookupPath) {
        life.note(Event::Found);
        life.stand_at(Point::LookupCounted);
    }

    fn set_dirty(&self, life: &Lifetime) -> bool {
        life.stand_at(Point::BeforeDirty);
        // A user has the tree ref beside it: the lookup saw to that, and a dropper sees three
        // counts from then on.
        let was_clean = !life.test_and_set(DIRTY);
        life.note(Event::Dirtied);
        was_clean
    }

    like! { Unfixed:
        fn get(life: &Lifetime);
        fn put(life: &Lifetime) -> Put;
        fn put_stale(life: &Lifetime) -> Put;
        fn revive(life: &Lifetime);
        fn reclaim(life: &Lifetime, ours: &dyn Fn() -> bool) -> Option<Put>;
        fn clear_dirty(life: &Lifetime) -> bool;
        fn begin_writeback(life: &Lifetime) -> bool;
        fn end_writeback(life: &Lifetime);
        fn refs_due(flags: u32, users: u32) -> u32;
    }
}
