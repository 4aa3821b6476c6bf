//! The rules by which a buffer lives and dies, one file each.
//!
//! A [`Protocol`] is a set of moves over a [`Lifetime`]: how a lookup counts itself, how a
//! holder drops, what makes a freed block's buffer go, what keeps a dirty one. Ordinary builds
//! have one of three, chosen by a cargo feature ([`Chosen`]); lab builds have all, and three more
//! to compare with, and choose when a cache is made.
//!
//! A move that can drop the last count returns [`Put`], and the caller owes what it says.

#[cfg(any(feature = "protocols", btrfuse_model))]
mod count_under_lock;
#[cfg(feature = "protocols")]
mod dispatch;
mod handshake;
#[cfg(any(feature = "protocols", btrfuse_model))]
mod handshake_always;
#[cfg(any(feature = "protocols", btrfuse_model))]
pub(crate) mod like;
mod owned;
#[cfg(any(feature = "protocols", btrfuse_model))]
mod packed_word;
mod unfixed;

#[cfg(any(feature = "protocols", btrfuse_model))]
pub use count_under_lock::CountUnderLock;
pub use handshake::Handshake;
#[cfg(any(feature = "protocols", btrfuse_model))]
pub use handshake_always::HandshakeAlways;
pub use owned::Owned;
#[cfg(any(feature = "protocols", btrfuse_model))]
pub use packed_word::PackedWord;
pub use unfixed::Unfixed;

use super::events::Event;
use super::flags::READING;
use super::lifetime::Lifetime;

/// What a drop leaves to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Put {
    /// Others hold the buffer; nothing is owed.
    Shared,
    /// The count is 0: the caller takes the buffer out of the index and frees it.
    Last,
    /// The count was 0 already: the rules are broken, and the caller reports it.
    Underflow,
}

impl Put {
    /// From the count before a decrement.
    pub fn from_count(before: u32) -> Self {
        match before {
            0 => Self::Underflow,
            1 => Self::Last,
            _ => Self::Shared,
        }
    }
}

/// By which way a lookup came to a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupPath {
    /// The index lookup.
    Index,
    /// An insert that met a buffer which another thread had inserted first.
    Collision,
}

/// The rules of a buffer's life.
///
/// `begin` of a new buffer gives it two counts: the cache's (flag TREE_REF) and the inserter's.
pub trait Protocol: Send + Sync {
    /// The name in options and reports.
    fn name(&self) -> &'static str;

    /// A dead buffer that nobody else knows comes to life ([`Lifetime::begin`]).
    fn begin(&self, life: &Lifetime, bytenr: u64, refs: u32, flags: u32) {
        life.begin(bytenr, refs, flags);
    }

    /// The count, as of just now.
    fn refs(&self, life: &Lifetime) -> u32 {
        life.refs()
    }

    /// A lookup counts itself, if the buffer is alive.
    fn try_get(&self, life: &Lifetime) -> bool;

    /// The rest of a lookup, after it counted itself and knows that it has the right buffer.
    fn found(&self, life: &Lifetime, path: LookupPath);

    /// A holder becomes two (`extent_buffer_get`).
    fn get(&self, life: &Lifetime);

    /// A holder drops its count (`free_extent_buffer`).
    fn put(&self, life: &Lifetime) -> Put;

    /// A holder says that the block is free, and drops its count (`free_extent_buffer_stale`).
    fn put_stale(&self, life: &Lifetime) -> Put;

    /// A holder uses the buffer for a block that was just allocated: it isn't stale any more.
    fn revive(&self, life: &Lifetime);

    /// Reclaim gives up the cache's count of an idle buffer (`try_release_extent_buffer`).
    /// `ours` says whether the buffer is still the one that reclaim meant. `None`: kept.
    fn reclaim(&self, life: &Lifetime, ours: &dyn Fn() -> bool) -> Option<Put>;

    /// A holder makes the buffer dirty; true when it was clean (`set_extent_buffer_dirty`).
    fn set_dirty(&self, life: &Lifetime) -> bool;

    /// A holder makes the buffer clean; true when it was dirty.
    fn clear_dirty(&self, life: &Lifetime) -> bool;

    /// A holder turns DIRTY into WRITEBACK; false when it wasn't dirty.
    fn begin_writeback(&self, life: &Lifetime) -> bool;

    /// The holder's write is over.
    fn end_writeback(&self, life: &Lifetime);

    /// A holder begins to read the block from the disk.
    fn begin_read(&self, life: &Lifetime) {
        life.set(READING);
        life.note(Event::ReadBegun);
    }

    /// The read is over. Who began it may have dropped its count meanwhile (readahead).
    fn end_read(&self, life: &Lifetime) -> Put {
        life.clear(READING);
        life.note(Event::ReadEnded);
        Put::Shared
    }

    /// The count that a buffer must have with these flags and `users` holders.
    fn refs_due(&self, flags: u32, users: u32) -> u32;
}

/// The protocols by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// 2013–2015: [`Unfixed`].
    Unfixed,
    /// The fix of 2015: [`Handshake`].
    Handshake,
    /// Counting: [`Owned`].
    Owned,
    /// The fix without its condition: [`HandshakeAlways`].
    #[cfg(any(feature = "protocols", btrfuse_model))]
    HandshakeAlways,
    /// Lookups count under the lock: [`CountUnderLock`].
    #[cfg(any(feature = "protocols", btrfuse_model))]
    CountUnderLock,
    /// Count and flags in one word: [`PackedWord`].
    #[cfg(any(feature = "protocols", btrfuse_model))]
    PackedWord,
}

impl Kind {
    /// All that this build knows.
    pub const ALL: &[Self] = &[
        Self::Unfixed,
        Self::Handshake,
        Self::Owned,
        #[cfg(any(feature = "protocols", btrfuse_model))]
        Self::HandshakeAlways,
        #[cfg(any(feature = "protocols", btrfuse_model))]
        Self::CountUnderLock,
        #[cfg(any(feature = "protocols", btrfuse_model))]
        Self::PackedWord,
    ];

    /// The one that this build was made for.
    pub const BUILD: Self = if cfg!(feature = "unfixed") {
        Self::Unfixed
    } else if cfg!(feature = "handshake") {
        Self::Handshake
    } else {
        Self::Owned
    };

    /// Its rules.
    #[inline]
    pub fn rules(self) -> &'static dyn Protocol {
        match self {
            Self::Unfixed => &Unfixed,
            Self::Handshake => &Handshake,
            Self::Owned => &Owned,
            #[cfg(any(feature = "protocols", btrfuse_model))]
            Self::HandshakeAlways => &HandshakeAlways,
            #[cfg(any(feature = "protocols", btrfuse_model))]
            Self::CountUnderLock => &CountUnderLock,
            #[cfg(any(feature = "protocols", btrfuse_model))]
            Self::PackedWord => &PackedWord,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.rules().name()
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        // The 2015 fix is what people mean by the fixed kernel.
        let wanted = if name == "fixed" { "handshake" } else { name };
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.name() == wanted)
            .ok_or_else(|| {
                let names: Vec<_> = Self::ALL.iter().map(|kind| kind.name()).collect();
                format!(
                    "no protocol is called {name}; there are {}",
                    names.join(", ")
                )
            })
    }
}

/// The rules of an ordinary build, known to the compiler.
#[cfg(feature = "unfixed")]
pub type Chosen = Unfixed;
/// The rules of an ordinary build, known to the compiler.
#[cfg(feature = "handshake")]
pub type Chosen = Handshake;
/// The rules of an ordinary build, known to the compiler.
#[cfg(feature = "owned")]
pub type Chosen = Owned;

/// The rules of an ordinary build.
pub const CHOSEN: Chosen = {
    #[cfg(feature = "unfixed")]
    {
        Unfixed
    }
    #[cfg(feature = "handshake")]
    {
        Handshake
    }
    #[cfg(feature = "owned")]
    {
        Owned
    }
};
