//! Count and flags in one atomic word, and every move one compare-and-swap. Lab only.
//!
//! The rules are those of 2013, but test and decision are the same step: "two counts, stale, not
//! under IO" is true at the moment when it is acted on, or the swap fails and looks again. No lock,
//! and no order between variables, as there is one. The price: every change of a flag fights for
//! the word that lookups count on.

use super::{LookupPath, Protocol, Put};
use crate::extent_buffer::events::Event;
use crate::extent_buffer::flags::{DIRTY, READING, STALE, TREE_REF, UNDER_IO, WRITEBACK};
use crate::extent_buffer::lifetime::{Lifetime, Word};
use crate::sync::race_point::Point;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct PackedWord;

impl Protocol for PackedWord {
    fn name(&self) -> &'static str {
        "packed-word"
    }

    fn begin(&self, life: &Lifetime, bytenr: u64, refs: u32, flags: u32) {
        life.begin_packed(bytenr, Word { refs, flags });
    }

    fn refs(&self, life: &Lifetime) -> u32 {
        life.word().refs
    }

    fn try_get(&self, life: &Lifetime) -> bool {
        life.turn(|word| (word.refs > 0).then(|| with_tree_ref(word).plus(1)))
            .is_some()
    }

    fn found(&self, life: &Lifetime, _path: LookupPath) {
        life.note(Event::Found);
        life.stand_at(Point::LookupCounted);
    }

    fn get(&self, life: &Lifetime) {
        life.turn(|word| Some(word.plus(1)));
    }

    fn put(&self, life: &Lifetime) -> Put {
        let was = life.turn(|word| Some(word.without_user()));
        life.note(Event::Dropped);
        was.map_or(Put::Underflow, outcome)
    }

    fn put_stale(&self, life: &Lifetime) -> Put {
        let was = life.turn(|word| Some(word.with(STALE).without_user()));
        life.note(Event::Staled);
        was.map_or(Put::Underflow, |word| outcome(word.with(STALE)))
    }

    fn revive(&self, life: &Lifetime) {
        life.turn(|word| Some(with_tree_ref(word).without(STALE)));
        life.note(Event::Revived);
    }

    fn reclaim(&self, life: &Lifetime, ours: &dyn Fn() -> bool) -> Option<Put> {
        // A count of our own first, so that the buffer stays the one that `ours` looks at.
        life.turn(|word| (word.refs == 1).then(|| word.plus(1)))?;
        if ours() {
            life.stand_at(Point::ReclaimTested);
            let idle = |word: Word| word.refs == 2 && word.flags & UNDER_IO == 0;
            let gone = life.turn(|word| {
                (idle(word) && word.flags & TREE_REF != 0).then_some(Word {
                    refs: 0,
                    flags: word.flags & !TREE_REF,
                })
            });
            if gone.is_some() {
                life.note(Event::Reclaimed);
                return Some(Put::Last);
            }
        }
        Some(self.put(life))
    }

    fn set_dirty(&self, life: &Lifetime) -> bool {
        life.stand_at(Point::BeforeDirty);
        let was = life.turn(|word| Some(with_tree_ref(word).with(DIRTY)));
        life.note(Event::Dirtied);
        was.is_some_and(|word| word.flags & DIRTY == 0)
    }

    fn clear_dirty(&self, life: &Lifetime) -> bool {
        let was = life.turn(|word| Some(word.without(DIRTY)));
        life.note(Event::Cleaned);
        was.is_some_and(|word| word.flags & DIRTY != 0)
    }

    fn begin_writeback(&self, life: &Lifetime) -> bool {
        let was = life
            .turn(|word| (word.flags & DIRTY != 0).then(|| word.without(DIRTY).with(WRITEBACK)));
        if was.is_some() {
            life.note(Event::WritebackBegun);
        }
        was.is_some()
    }

    fn end_writeback(&self, life: &Lifetime) {
        life.turn(|word| Some(word.without(WRITEBACK)));
        life.note(Event::WritebackEnded);
    }

    fn begin_read(&self, life: &Lifetime) {
        life.turn(|word| Some(with_tree_ref(word).with(READING)));
        life.note(Event::ReadBegun);
    }

    fn refs_due(&self, flags: u32, users: u32) -> u32 {
        users + u32::from(flags & TREE_REF != 0)
    }
}

impl Word {
    /// One user less; and the tree's count with it when only the cache would be left with a stale
    /// buffer that isn't under IO.
    fn without_user(self) -> Self {
        if lets_tree_ref_go(self) {
            return Self {
                refs: 0,
                flags: self.flags & !TREE_REF,
            };
        }
        Self {
            refs: self.refs.saturating_sub(1),
            ..self
        }
    }
}

fn lets_tree_ref_go(word: Word) -> bool {
    word.refs == 2 && word.flags & (STALE | TREE_REF | UNDER_IO) == STALE | TREE_REF
}

fn with_tree_ref(word: Word) -> Word {
    match word.flags & TREE_REF {
        0 => word.with(TREE_REF).plus(1),
        _ => word,
    }
}

/// What the drop of a user made of `was`.
fn outcome(was: Word) -> Put {
    match lets_tree_ref_go(was) {
        true => Put::Last,
        false => Put::from_count(was.refs),
    }
}
