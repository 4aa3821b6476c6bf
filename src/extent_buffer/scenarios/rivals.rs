//! Two more ways to close the race, which nobody mounts: they are here to be compared.
//!
//! Both must win everywhere, also where the fix of 2015 loses.

use crate::extent_buffer::flags::{DIRTY, TREE_REF};
use crate::extent_buffer::lifetime::Lifetime;
use crate::extent_buffer::protocol::{Handshake, LookupPath, Protocol, Put};

macro_rules! like_handshake {
    ($(fn $name:ident($($arg:ident: $kind:ty),*) $(-> $result:ty)?;)*) => {
        $(fn $name(&self, $($arg: $kind),*) $(-> $result)? {
            Handshake.$name($($arg),*)
        })*
    };
}

/// A lookup takes and releases `refs_lock` whether or not it sees STALE: nothing can be missed,
/// so no order between count and flag is needed, and reclaim is covered.
#[derive(Debug)]
pub struct HandshakeAlways;

impl Protocol for HandshakeAlways {
    fn name(&self) -> &'static str {
        "handshake-always"
    }

    fn found(&self, life: &Lifetime, _path: LookupPath) {
        drop(life.lock());
        Handshake.found(life, LookupPath::Collision);
    }

    like_handshake! {
        fn try_get(life: &Lifetime) -> bool;
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

/// A lookup counts itself, and takes the tree ref if it is gone, under `refs_lock`: the
/// alternative that was named on the list. A dropper's test can't grow old any more.
#[derive(Debug)]
pub struct CountUnderLock;

impl Protocol for CountUnderLock {
    fn name(&self) -> &'static str {
        "count-under-lock"
    }

    fn try_get(&self, life: &Lifetime) -> bool {
        let _refs_lock = life.lock();
        if !life.increment_not_zero() {
            return false;
        }
        if !life.test_and_set(TREE_REF) {
            life.increment();
        }
        true
    }

    fn found(&self, _life: &Lifetime, _path: LookupPath) {}

    fn set_dirty(&self, life: &Lifetime) -> bool {
        // The lookup saw to the tree ref; a dropper sees three counts from then on.
        !life.test_and_set(DIRTY)
    }

    like_handshake! {
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
