//! Protocols with one thing wrong. A checker that lets them pass checks nothing.

use super::{Play, Scenario};
use crate::extent_buffer::flags::{DIRTY, STALE, TREE_REF};
use crate::extent_buffer::lifetime::Lifetime;
use crate::extent_buffer::protocol::like::like;
use crate::extent_buffer::protocol::{Handshake, LookupPath, Owned, Protocol, Put};
use crate::sync::race_point::Point;

/// Rules with one thing wrong, and a scenario that must notice.
#[derive(Clone, Copy)]
pub struct Mutant {
    /// The rules.
    pub rules: &'static dyn Protocol,
    /// Where they must lose.
    pub scenario: &'static Scenario,
}

/// All of them. A practice that was wrong ([`super::Practice`]) is one more, for each scenario that
/// has it.
pub const MUTANTS: &[Mutant] = &[
    Mutant {
        rules: &LockSectionDeleted,
        scenario: &super::DROPPER_AND_REUSER,
    },
    Mutant {
        rules: &TreeRefNotTakenAgain,
        scenario: &super::DROPPER_AND_REUSER,
    },
    Mutant {
        rules: &FlagBeforeCount,
        scenario: &super::WRITEOUT_AND_WRITER,
    },
];

impl Mutant {
    /// The scenario as it is played.
    pub fn play(&self) -> Play {
        Play {
            scenario: self.scenario,
            as_it_was: false,
        }
    }
}

/// The handshake's lookup, but nothing between the test of STALE and the tree ref's: what a
/// compiler would leave that took an empty lock section for nothing.
#[derive(Debug)]
pub struct LockSectionDeleted;

impl Protocol for LockSectionDeleted {
    fn name(&self) -> &'static str {
        "handshake, lock section deleted"
    }

    fn found(&self, life: &Lifetime, _path: LookupPath) {
        if life.has(STALE) {
            // Here it was.
        }
        Handshake.found(life, LookupPath::Collision);
    }

    like! { Handshake:
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

/// The handshake, but neither lookup nor writer takes the tree ref again when it is gone.
#[derive(Debug)]
pub struct TreeRefNotTakenAgain;

impl Protocol for TreeRefNotTakenAgain {
    fn name(&self) -> &'static str {
        "handshake, tree ref not taken again"
    }

    fn found(&self, life: &Lifetime, _path: LookupPath) {
        if life.has(STALE) {
            drop(life.lock());
        }
    }

    fn set_dirty(&self, life: &Lifetime) -> bool {
        !life.test_and_set(DIRTY)
    }

    like! { Handshake:
        fn try_get(life: &Lifetime) -> bool;
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

/// Owned counts, but a flag is published before it is counted.
#[derive(Debug)]
pub struct FlagBeforeCount;

impl FlagBeforeCount {
    fn own(life: &Lifetime, flag: u32) -> bool {
        if life.test_and_set(flag) {
            return false;
        }
        life.stand_at(Point::BeforeDirty);
        life.increment();
        true
    }
}

impl Protocol for FlagBeforeCount {
    fn name(&self) -> &'static str {
        "owned, flag before count"
    }

    fn revive(&self, life: &Lifetime) {
        life.clear(STALE);
        Self::own(life, TREE_REF);
    }

    fn set_dirty(&self, life: &Lifetime) -> bool {
        Self::own(life, DIRTY)
    }

    like! { Owned:
        fn try_get(life: &Lifetime) -> bool;
        fn found(life: &Lifetime, path: LookupPath);
        fn get(life: &Lifetime);
        fn put(life: &Lifetime) -> Put;
        fn put_stale(life: &Lifetime) -> Put;
        fn reclaim(life: &Lifetime, ours: &dyn Fn() -> bool) -> Option<Put>;
        fn clear_dirty(life: &Lifetime) -> bool;
        fn begin_writeback(life: &Lifetime) -> bool;
        fn end_writeback(life: &Lifetime);
        fn refs_due(flags: u32, users: u32) -> u32;
    }
}
