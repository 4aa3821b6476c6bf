//! The fix of 2015 without its condition: every lookup takes and releases `refs_lock`, whether or
//! not it sees STALE. Lab only.
//!
//! Nothing can be missed, so no order between count and flag is needed; reclaim, which sets no
//! STALE, and the collision path are covered. The price is a locked section a lookup.

use super::handshake::wait_for_dropper;
use super::like::like;
use super::unfixed::{Unfixed, check_tree_ref};
use super::{LookupPath, Protocol, Put};
use crate::extent_buffer::events::Event;
use crate::extent_buffer::lifetime::Lifetime;
use crate::sync::race_point::Point;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeAlways;

impl Protocol for HandshakeAlways {
    fn name(&self) -> &'static str {
        "handshake-always"
    }

    fn try_get(&self, life: &Lifetime) -> bool {
        life.increment_not_zero()
    }

    fn found(&self, life: &Lifetime, _path: LookupPath) {
        life.note(Event::Found);
        life.stand_at(Point::LookupCounted);
        wait_for_dropper(life);
        life.note(Event::Waited);
        check_tree_ref(life);
    }

    // A dropper decides as before: whoever counted before its decision is seen by it, and whoever
    // counted after it comes out of the lock when it is over.
    like! { Unfixed:
        fn get(life: &Lifetime);
        fn put(life: &Lifetime) -> Put;
        fn put_stale(life: &Lifetime) -> Put;
        fn revive(life: &Lifetime);
        fn reclaim(life: &Lifetime, ours: &dyn Fn() -> bool) -> Option<Put>;
        fn set_dirty(life: &Lifetime) -> bool;
        fn clear_dirty(life: &Lifetime) -> bool;
        fn begin_writeback(life: &Lifetime) -> bool;
        fn end_writeback(life: &Lifetime);
        fn refs_due(flags: u32, users: u32) -> u32;
    }
}
