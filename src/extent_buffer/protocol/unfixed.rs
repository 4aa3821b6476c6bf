//! The rules of 2013 to 2015, with the race.
//!
//! One count a user, and one for the cache while TREE_REF is set. Droppers decide under
//! `refs_lock`; lookups count without it and setting DIRTY doesn't take it. So "two counts,
//! stale, not under IO: then only the cache and I are left" can be untrue before it is acted on.

use super::{LookupPath, Protocol, Put};
use crate::extent_buffer::events::Event;
use crate::extent_buffer::flags::{DIRTY, STALE, TREE_REF, UNDER_IO, WRITEBACK};
use crate::extent_buffer::lifetime::Lifetime;
use crate::sync::race_point::Point;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Unfixed;

impl Protocol for Unfixed {
    fn name(&self) -> &'static str {
        "unfixed"
    }

    fn try_get(&self, life: &Lifetime) -> bool {
        life.increment_not_zero()
    }

    fn found(&self, life: &Lifetime, _path: LookupPath) {
        life.note(Event::Found);
        life.stand_at(Point::LookupCounted);
        check_tree_ref(life);
    }

    fn get(&self, life: &Lifetime) {
        life.increment();
    }

    fn put(&self, life: &Lifetime) -> Put {
        // With more than three counts the last one is far: no lock, no decision.
        if life.decrement_above(3) {
            life.note(Event::Dropped);
            return Put::Shared;
        }
        let _refs_lock = life.lock();
        if life.refs() == 2 && life.has(STALE) {
            drop_tree_ref_unless_under_io(life, Point::DropTested);
        }
        drop_own(life)
    }

    fn put_stale(&self, life: &Lifetime) -> Put {
        let _refs_lock = life.lock();
        life.set(STALE);
        life.note(Event::Staled);
        life.stand_at(Point::StaleSet);
        if life.refs() == 2 {
            drop_tree_ref_unless_under_io(life, Point::StaleTested);
        }
        drop_own(life)
    }

    fn revive(&self, life: &Lifetime) {
        life.clear(STALE);
        life.note(Event::Revived);
    }

    fn reclaim(&self, life: &Lifetime, ours: &dyn Fn() -> bool) -> Option<Put> {
        let _refs_lock = life.lock();
        // The count can't reach 0 while we hold the lock, so the answer of `ours` stays true.
        if life.refs() != 1 || !ours() || life.has(UNDER_IO) {
            return None;
        }
        life.stand_at(Point::ReclaimTested);
        if !life.test_and_clear(TREE_REF) {
            return None;
        }
        life.note(Event::Reclaimed);
        Some(Put::from_count(life.decrement_ordered()))
    }

    fn set_dirty(&self, life: &Lifetime) -> bool {
        check_tree_ref(life);
        life.stand_at(Point::BeforeDirty);
        let was_clean = !life.test_and_set(DIRTY);
        life.note(Event::Dirtied);
        was_clean
    }

    fn clear_dirty(&self, life: &Lifetime) -> bool {
        let was_dirty = life.test_and_clear(DIRTY);
        life.note(Event::Cleaned);
        was_dirty
    }

    fn begin_writeback(&self, life: &Lifetime) -> bool {
        // Under the lock, so that a dropper never sees the moment between the two flags.
        let _refs_lock = life.lock();
        if !life.test_and_clear(DIRTY) {
            return false;
        }
        life.stand_at(Point::WritebackBegins);
        life.set(WRITEBACK);
        life.note(Event::WritebackBegun);
        true
    }

    fn end_writeback(&self, life: &Lifetime) {
        life.test_and_clear(WRITEBACK);
        life.note(Event::WritebackEnded);
    }

    fn refs_due(&self, flags: u32, users: u32) -> u32 {
        users + u32::from(flags & TREE_REF != 0)
    }
}

/// Makes sure that the cache has its count. The first line is the fast path that believes a
/// count and a flag which a dropper may be about to change.
pub(super) fn check_tree_ref(life: &Lifetime) {
    if life.refs() >= 2 && life.has(TREE_REF) {
        life.note(Event::TreeRefThere);
        return;
    }
    let _refs_lock = life.lock();
    if !life.test_and_set(TREE_REF) {
        life.increment();
        life.note(Event::TreeRefTaken);
    }
}

/// Drops the cache's count of a buffer that the caller believes to be alone with; the caller
/// holds `refs_lock`.
fn drop_tree_ref_unless_under_io(life: &Lifetime, tested: Point) {
    if life.has(UNDER_IO) {
        return;
    }
    life.stand_at(tested);
    if life.test_and_clear(TREE_REF) {
        let _ = life.decrement();
        life.note(Event::TreeRefDropped);
    }
}

/// `release_extent_buffer`; the caller holds `refs_lock`.
fn drop_own(life: &Lifetime) -> Put {
    let put = Put::from_count(life.decrement_ordered());
    life.note(Event::Dropped);
    put
}
