//! The last things that happened to a buffer, for the report of a violation.
//!
//! Owns: a small ring a buffer. Lab builds note every event; others leave out those of each lookup and
//! each drop ([`Event::is_hot`]), which people shouldn't pay for; models have no ring.
//! Invariant: noting is two relaxed atomic accesses and never a lock, so that it doesn't close
//! the windows that the lab looks into. A reader may see an event that is being overwritten.

use std::fmt;

use super::flags::Flags;

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident = $words:literal,)*) => {
        /// A step in a buffer's life.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Event {
            $($(#[$doc])* $variant,)*
        }

        impl Event {
            const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What the thread did, and in which role.
            pub const fn words(self) -> &'static str {
                match self { $(Self::$variant => $words,)* }
            }

            /// Whether it happens in every lookup or drop.
            pub const fn is_hot(self) -> bool {
                matches!(self, Self::Found | Self::Got | Self::TreeRefThere | Self::Dropped)
            }
        }
    };
}

events! {
    /// A new buffer.
    Begin = "inserter: new buffer",
    /// A lookup counted itself.
    Found = "finder: counted itself",
    /// A holder became two.
    Got = "holder: counted once more",
    /// A lookup waited for `refs_lock`.
    Waited = "finder: saw STALE, took and released refs_lock",
    /// The tree ref was checked without the lock.
    TreeRefThere = "finder: tree ref is there (no lock taken)",
    /// The tree ref was taken again.
    TreeRefTaken = "finder: took the tree ref again",
    /// A user dropped its count.
    Dropped = "holder: dropped its count",
    /// STALE was set.
    Staled = "freer: set STALE",
    /// STALE was cleared.
    Revived = "reuser: cleared STALE",
    /// The tree's count was dropped by a user's drop.
    TreeRefDropped = "dropper: dropped the tree's count",
    /// The tree's count was given up with the block.
    TreeRefGivenUp = "freer: gave up the tree's count",
    /// The tree's count was dropped by reclaim.
    Reclaimed = "reclaim: dropped the tree's count",
    /// DIRTY was set.
    Dirtied = "writer: set DIRTY",
    /// DIRTY was cleared.
    Cleaned = "writer: cleared DIRTY",
    /// Write-out began.
    WritebackBegun = "write-out: set WRITEBACK, cleared DIRTY",
    /// Write-out ended.
    WritebackEnded = "write-out: cleared WRITEBACK",
    /// A read from the disk began.
    ReadBegun = "reader: set READING",
    /// A read ended.
    ReadEnded = "reader: cleared READING",
    /// The count is 0.
    Freed = "last holder: the count is 0, frees the buffer",
}

/// An event as it was noted.
#[derive(Clone, Copy, Debug)]
pub struct Noted {
    /// Microseconds since the first event of the process.
    pub at_us: u64,
    /// Which thread; the numbers are given out in the order of first events.
    pub thread: u16,
    /// What it did.
    pub event: Event,
    /// The count right after.
    pub refs: u8,
    /// The flags right after.
    pub flags: Flags,
}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>10} µs  {:<33} {:<45} refs {} flags {}",
            self.at_us,
            ring::thread_label(self.thread),
            self.event.words(),
            self.refs,
            self.flags
        )
    }
}

pub use ring::Events;

/// Who holds the buffer by what the ring still knows: threads that found, made or took it more often
/// than they dropped it. Only lab builds note enough for that; others name nobody.
pub fn holders(events: &[Noted]) -> Vec<String> {
    if !cfg!(feature = "race-lab") {
        return Vec::new();
    }
    let mut counts = std::collections::BTreeMap::new();
    for noted in events {
        let count: &mut i32 = counts.entry(noted.thread).or_default();
        match noted.event {
            Event::Begin | Event::Found | Event::Got => *count += 1,
            Event::Dropped => *count -= 1,
            _ => {}
        }
    }
    let held = counts.into_iter().filter(|(_, count)| *count > 0);
    held.map(|(thread, count)| format!("{} ({count})", ring::thread_label(thread)))
        .collect()
}

#[cfg(any(btrfuse_model, btrfuse_shuttle))]
mod ring {
    use super::{Event, Noted};

    /// Nothing: a model is what it is without memory.
    #[derive(Debug)]
    pub struct Events;

    impl Events {
        /// Nothing.
        pub fn none() -> Self {
            Self
        }

        /// Nothing.
        pub fn note(&self, _event: Event, _refs: u32, _flags: u32) {}

        /// Nothing.
        pub fn clear(&self) {}

        /// No events.
        pub fn last(&self) -> Vec<Noted> {
            debug_assert!(!Event::ALL.is_empty());
            Vec::new()
        }
    }

    pub(super) fn thread_label(thread: u16) -> String {
        format!("thread {thread}")
    }
}

#[cfg(not(any(btrfuse_model, btrfuse_shuttle)))]
mod ring {
    use super::{Event, Flags, Noted};
    use crate::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
    use crate::sync::{LazyLock, Mutex};
    use std::time::Instant;

    const EVENTS_MAX: usize = if cfg!(feature = "race-lab") { 24 } else { 8 };

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    static NEXT_THREAD: AtomicU16 = AtomicU16::new(1);
    static NAMES: Mutex<Vec<(u16, String)>> = Mutex::new(Vec::new());

    thread_local! {
        static THREAD: u16 = {
            let number = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
            if let Some(name) = crate::sync::thread::current().name() {
                NAMES.lock().push((number, name.to_owned()));
            }
            number
        };
    }

    pub(super) fn thread_label(thread: u16) -> String {
        let names = NAMES.lock();
        match names.iter().find(|(number, _)| *number == thread) {
            Some((_, name)) => format!("thread {thread} ({name})"),
            None => format!("thread {thread}"),
        }
    }

    /// The last events of one buffer.
    #[derive(Debug)]
    pub struct Events {
        next: AtomicUsize,
        /// Time 32 bits, thread 11, event 5, refs 8, flags 8; time and thread wrap.
        ring: [AtomicU64; EVENTS_MAX],
    }

    impl Events {
        /// No events.
        pub fn none() -> Self {
            Self {
                next: AtomicUsize::new(0),
                ring: std::array::from_fn(|_| AtomicU64::new(0)),
            }
        }

        /// Adds an event; the oldest one goes.
        pub fn note(&self, event: Event, refs: u32, flags: u32) {
            let at_us = START.elapsed().as_micros() as u64 & 0xffff_ffff;
            let thread = u64::from(THREAD.with(|thread| *thread)) & 0x7ff;
            let word = at_us << 32
                | thread << 21
                | (event as u64) << 16
                | u64::from(refs.min(255)) << 8
                | u64::from(flags & 0xff);
            // Relaxed: a report is read after the race it tells of; a torn order costs a line.
            let at = self.next.fetch_add(1, Ordering::Relaxed) % EVENTS_MAX;
            self.ring[at].store(word, Ordering::Relaxed);
        }

        /// Forgets all events: the slot begins another life.
        pub fn clear(&self) {
            self.next.store(0, Ordering::Relaxed);
            for word in &self.ring {
                word.store(0, Ordering::Relaxed);
            }
        }

        /// The events that are still known, oldest first.
        pub fn last(&self) -> Vec<Noted> {
            let next = self.next.load(Ordering::Relaxed);
            let oldest = next.saturating_sub(EVENTS_MAX);
            (oldest..next)
                .filter_map(|at| {
                    let word = self.ring[at % EVENTS_MAX].load(Ordering::Relaxed);
                    let event = *Event::ALL.get((word >> 16 & 0x1f) as usize)?;
                    (word != 0).then_some(Noted {
                        at_us: word >> 32,
                        thread: (word >> 21 & 0x7ff) as u16,
                        event,
                        refs: (word >> 8) as u8,
                        flags: Flags(u32::from(word as u8)),
                    })
                })
                .collect()
        }
    }

    const _: () = assert!(Event::ALL.len() <= 32);
}
