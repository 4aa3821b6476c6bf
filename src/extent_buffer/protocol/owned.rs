//! Owned counts: every reason to live owns one, and nothing is decided from how many there are.
//!
//! Reasons: the cache (TREE_REF), DIRTY, WRITEBACK, READING, each user.
//! To set a flag, count first, then publish the flag, and give the count back if it was set
//! already. To clear it, only the thread that cleared it drops its count. A user's drop is one
//! subtraction. So a buffer that is dirty has a count that nobody else will drop, whatever
//! lookups, drops and reclaim do meanwhile; no lock, and no order between count and flags
//! beyond that of one variable.

use super::{LookupPath, Protocol, Put};
use crate::extent_buffer::events::Event;
use crate::extent_buffer::flags::{DIRTY, READING, STALE, TREE_REF, UNDER_IO, WRITEBACK};
use crate::extent_buffer::lifetime::Lifetime;
use crate::sync::race_point::Point;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Owned;

impl Protocol for Owned {
    fn name(&self) -> &'static str {
        "owned"
    }

    fn try_get(&self, life: &Lifetime) -> bool {
        life.increment_not_zero()
    }

    fn found(&self, life: &Lifetime, _path: LookupPath) {
        life.note(Event::Found);
        life.stand_at(Point::LookupCounted);
        // Reclaim may have let the buffer go while someone used it; it is wanted again. A stale
        // one is not. Both flags may be out of date: then the buffer goes a little earlier or
        // later than it should, which costs a read.
        if !life.has(TREE_REF | STALE) {
            own(life, TREE_REF);
        }
    }

    fn get(&self, life: &Lifetime) {
        life.increment();
    }

    fn put(&self, life: &Lifetime) -> Put {
        let put = Put::from_count(life.decrement());
        life.note(Event::Dropped);
        put
    }

    fn put_stale(&self, life: &Lifetime) -> Put {
        life.set(STALE);
        life.note(Event::Staled);
        life.stand_at(Point::StaleSet);
        if disown(life, TREE_REF) {
            life.note(Event::TreeRefGivenUp);
        }
        self.put(life)
    }

    fn revive(&self, life: &Lifetime) {
        life.clear(STALE);
        own(life, TREE_REF);
        life.note(Event::Revived);
    }

    fn reclaim(&self, life: &Lifetime, ours: &dyn Fn() -> bool) -> Option<Put> {
        // More than the cache's count means that someone would miss the buffer: a hint, not a
        // decision. What follows is safe with any count.
        if life.refs() != 1 || !life.increment_not_zero() {
            return None;
        }
        if ours() && !life.has(UNDER_IO) {
            life.stand_at(Point::ReclaimTested);
            if disown(life, TREE_REF) {
                life.note(Event::Reclaimed);
            }
        }
        Some(self.put(life))
    }

    fn set_dirty(&self, life: &Lifetime) -> bool {
        life.stand_at(Point::BeforeDirty);
        let was_clean = own(life, DIRTY);
        life.note(Event::Dirtied);
        was_clean
    }

    fn clear_dirty(&self, life: &Lifetime) -> bool {
        let was_dirty = disown(life, DIRTY);
        life.note(Event::Cleaned);
        was_dirty
    }

    fn begin_writeback(&self, life: &Lifetime) -> bool {
        own(life, WRITEBACK);
        life.stand_at(Point::WritebackBegins);
        if !disown(life, DIRTY) {
            disown(life, WRITEBACK);
            return false;
        }
        life.note(Event::WritebackBegun);
        true
    }

    fn end_writeback(&self, life: &Lifetime) {
        disown(life, WRITEBACK);
        life.note(Event::WritebackEnded);
    }

    fn begin_read(&self, life: &Lifetime) {
        own(life, READING);
        life.note(Event::ReadBegun);
    }

    fn end_read(&self, life: &Lifetime) -> Put {
        if !life.test_and_clear(READING) {
            return Put::Shared;
        }
        let put = Put::from_count(life.decrement());
        life.note(Event::ReadEnded);
        put
    }

    fn refs_due(&self, flags: u32, users: u32) -> u32 {
        users + (flags & (TREE_REF | UNDER_IO)).count_ones()
    }
}

/// Sets `flag` with a count of its own; false when it was set, and so counted, already. The
/// caller is a user, so giving the count back never frees the buffer.
fn own(life: &Lifetime, flag: u32) -> bool {
    life.increment();
    if life.test_and_set(flag) {
        let _ = life.decrement();
        return false;
    }
    true
}

/// Clears `flag` and drops its count, if we are the one who cleared it. The caller is a user,
/// so this is never the last count.
fn disown(life: &Lifetime, flag: u32) -> bool {
    let won = life.test_and_clear(flag);
    if won {
        let _ = life.decrement();
    }
    won
}
