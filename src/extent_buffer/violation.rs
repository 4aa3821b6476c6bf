//! What is said when the rules of a buffer's life were broken.
//!
//! Owns: the report that a kernel would give as BUG_ON. The buffer's memory stays ours and is
//! not used again while the cache lives; who mounted decides what else follows (the transaction
//! aborts and the mount turns read-only).

use std::fmt;

use super::events::{Noted, holders};
use super::flags::Flags;
use super::slots::Slot;
use crate::sync::{OnceLock, thread};
use crate::units::{Generation, Logical};

/// What makes the process's run again, told by whoever began it.
static AGAIN: OnceLock<String> = OnceLock::new();

/// Tells all reports of this process what makes its run again: a seed, and a command line that takes
/// it. A cache doesn't know who works on it. The first to tell is believed.
pub fn set_again(words: String) {
    let _ = AGAIN.set(words);
}

/// Which rule was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The last count of a dirty or written-back buffer was dropped:
    /// `BUG_ON(extent_buffer_under_io(eb))`.
    FreedUnderIo,
    /// A count was dropped that nobody had.
    CountUnderflow,
}

/// A broken rule, and what is known of how it came to that.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which rule.
    pub broken: Broken,
    /// The block.
    pub bytenr: Logical,
    /// Its generation, as the buffer's header had it.
    pub generation: Generation,
    /// The tree that it was made for, as the header had it.
    pub owner: u64,
    /// Its level.
    pub level: u8,
    /// The flags when the count was found at 0.
    pub flags: Flags,
    /// The count.
    pub refs: u32,
    /// The name of the rules that the buffer lived by.
    pub protocol: &'static str,
    /// The thread that dropped the last count.
    pub thread: String,
    /// What happened to the buffer last, oldest first. Lookups and drops are among it in lab builds.
    pub events: Vec<Noted>,
}

impl Violation {
    /// In one sentence, for whoever is told why the mount turned read-only.
    pub fn sentence(&self) -> String {
        let what = match self.broken {
            Broken::FreedUnderIo => "was freed with its contents unwritten",
            Broken::CountUnderflow => "was dropped more often than counted",
        };
        format!(
            "the buffer of tree block {} {what}, flags {}, by the rules of {}; the log has its \
             history",
            self.bytenr, self.flags, self.protocol
        )
    }

    /// Looks at a buffer whose count is 0.
    pub(super) fn of(slot: &Slot, broken: Broken, flags: Flags) -> Self {
        Self {
            broken,
            bytenr: Logical(slot.life.bytenr()),
            generation: Generation(slot.generation()),
            owner: slot.owner(),
            level: slot.level(),
            flags,
            refs: slot.refs(),
            protocol: slot.kind().name(),
            thread: thread::current().name().unwrap_or("unnamed").to_owned(),
            events: slot.life.events().last(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.broken {
            Broken::FreedUnderIo => "extent_buffer_under_io(eb): freed with its contents unwritten",
            Broken::CountUnderflow => "refs == 0: a count was dropped that nobody had",
        };
        writeln!(f, "BUG_ON {what}")?;
        writeln!(
            f,
            "  buffer {} of tree {} level {} generation {} flags {} refs {} protocol {}",
            self.bytenr,
            self.owner,
            self.level,
            self.generation,
            self.flags,
            self.refs,
            self.protocol
        )?;
        write!(f, "  last count dropped by thread {:?}", self.thread)?;
        let others = holders(&self.events);
        if !others.is_empty() {
            let others = others.join(", ");
            write!(f, "; counted by {others}, as far as these events tell")?;
        }
        write!(f, "; last events on the buffer, oldest first:")?;
        if !cfg!(feature = "race-lab") {
            write!(f, " (lookups and drops are noted by race-lab builds)")?;
        }
        self.events
            .iter()
            .try_for_each(|event| write!(f, "\n  {event}"))?;
        match AGAIN.get() {
            Some(again) => write!(f, "\n  {again}"),
            None => Ok(()),
        }
    }
}
