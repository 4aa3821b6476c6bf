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

#[cfg(all(
    test,
    target_arch = "x86_64",
    not(feature = "race-lab"),
    not(miri),
    not(btrfuse_model)
))]
mod tests {
    use super::*;

    /// "The compiler could drop an empty lock section": it is in this program's machine code, a locked
    /// instruction to take the lock and one to give it back. (A lab build has more there, for its
    /// explorer, so it is left out.)
    #[test]
    fn the_handshake_s_lock_section_is_in_the_machine_code() {
        // So that the linker keeps it, whichever protocol the build is for.
        std::hint::black_box(wait_for_dropper as fn(&Lifetime));
        let program = std::env::current_exe().unwrap();
        let objdump = std::process::Command::new("objdump")
            .args(["--disassemble", "--demangle", "--no-show-raw-insn"])
            .arg(&program)
            .output()
            .expect("objdump is there: it comes with the linker");
        let text = String::from_utf8_lossy(&objdump.stdout);
        let from = text
            .find("handshake::wait_for_dropper>:")
            .expect("the function isn't inlined");
        let code = text[from..].split("\n\n").next().unwrap();
        let locked = code.matches("lock cmpxchg").count();
        assert_eq!(locked, 2, "{code}");
    }
}
