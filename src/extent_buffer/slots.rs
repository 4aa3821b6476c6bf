//! The memory of extent buffers: slots that live as long as the process and are used again.
//!
//! Owns: the table of all slots and the pool of those that no cache uses. A slot's memory is
//! never anything but a slot (type-stable), so a lookup may count itself on a slot that was
//! meanwhile given to another block, notice it, and drop again; handles and lock guards borrow
//! for `'static`; and a broken lifetime rule can lose a block but never reach freed memory.
//!
//! Invariant: a slot's identity (cache and address) changes only while its count is 0.

use super::cache::Inner;
use super::index::SlotId;
use super::lifetime::Lifetime;
use super::protocol::{Kind, Protocol};
use crate::ondisk::tree_block::Header;
use crate::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use crate::sync::{LazyLock, Mutex, OnceLock, RwLock, Weak, unmodelled};

/// The rules that a slot lives by, as cheaply as the build allows.
#[cfg(not(feature = "protocols"))]
pub type Rules = super::protocol::Chosen;
/// The rules that a slot lives by: any of them, in a lab build.
#[cfg(feature = "protocols")]
pub type Rules = Kind;

/// The rules of `kind`; builds that know only one have that one.
#[cfg(not(feature = "protocols"))]
#[inline(always)]
pub fn rules(_kind: Kind) -> Rules {
    super::protocol::CHOSEN
}
/// The rules of `kind`.
#[cfg(feature = "protocols")]
#[inline]
pub fn rules(kind: Kind) -> Rules {
    kind
}

const FIRST_CHUNK: u32 = 64;
const CHUNKS: usize = 24;

static CHUNK_TABLE: [OnceLock<&'static [Slot]>; CHUNKS] = [const { OnceLock::new() }; CHUNKS];
// Unmodelled: it outlives executions, and holds nobody up.
static POOL: LazyLock<unmodelled::Mutex<Pool>> = LazyLock::new(unmodelled::Mutex::default);

#[derive(Default)]
struct Pool {
    made: u32,
    free: Vec<SlotId>,
}

/// One extent buffer's memory.
#[derive(Debug)]
#[repr(align(64))]
pub struct Slot {
    /// Count, flags, lock, and the block's address.
    pub life: Lifetime,
    id: SlotId,
    /// The cache's number; 0 in the pool.
    cache: AtomicU32,
    kind: AtomicU8,
    /// The block's level, generation and tree, as its header says, readable without its lock.
    level: AtomicU8,
    generation: AtomicU64,
    owner: AtomicU64,
    /// For the last drop, which must reach the cache, and may come after it is gone.
    home: Mutex<Weak<Inner>>,
    /// The block. Empty while the slot is in the pool.
    pub bytes: RwLock<Box<[u8]>>,
}

impl Slot {
    fn new(id: SlotId) -> Self {
        Self {
            life: Lifetime::dead(),
            id,
            cache: AtomicU32::new(0),
            kind: AtomicU8::new(Kind::BUILD as u8),
            level: AtomicU8::new(0),
            generation: AtomicU64::new(0),
            owner: AtomicU64::new(0),
            home: Mutex::new(Weak::new()),
            bytes: RwLock::new(Box::default()),
        }
    }

    /// The slot's number, for the index.
    #[inline]
    pub fn id(&self) -> SlotId {
        self.id
    }

    /// Whether the slot is of block `bytenr` in cache `cache`. Final for whoever owns a count.
    #[inline]
    pub fn is_of(&self, cache: u32, bytenr: u64) -> bool {
        // Relaxed: ordered by the count (Lifetime::begin).
        self.cache.load(Ordering::Relaxed) == cache && self.life.bytenr() == bytenr
    }

    /// Which rules the slot lives by.
    #[inline]
    pub fn kind(&self) -> Kind {
        if cfg!(feature = "protocols") {
            // Relaxed: ordered by the caller's count.
            let kind = self.kind.load(Ordering::Relaxed);
            Kind::ALL
                .get(usize::from(kind))
                .copied()
                .unwrap_or(Kind::BUILD)
        } else {
            Kind::BUILD
        }
    }

    /// The rules that the slot lives by.
    #[inline]
    pub fn rules(&self) -> Rules {
        rules(self.kind())
    }

    /// The count, as of just now.
    pub fn refs(&self) -> u32 {
        self.rules().refs(&self.life)
    }

    /// The generation in the block's header, once UPTODATE.
    #[inline]
    pub fn generation(&self) -> u64 {
        // Relaxed: written before UPTODATE is published, under the block's lock.
        self.generation.load(Ordering::Relaxed)
    }

    /// The level in the block's header, once UPTODATE.
    #[inline]
    pub fn level(&self) -> u8 {
        self.level.load(Ordering::Relaxed)
    }

    /// The tree in the block's header, once UPTODATE.
    #[inline]
    pub fn owner(&self) -> u64 {
        self.owner.load(Ordering::Relaxed)
    }

    /// Remembers what the header says; the caller holds the block's write lock.
    pub fn set_header(&self, header: &Header) {
        self.generation
            .store(header.generation.get(), Ordering::Relaxed);
        self.level.store(header.level, Ordering::Relaxed);
        self.owner.store(header.owner.get(), Ordering::Relaxed);
    }

    /// The cache, unless it is gone.
    pub fn home(&self) -> Option<crate::sync::Arc<Inner>> {
        self.home.lock().upgrade()
    }

    /// Makes a dead slot a cache's own.
    pub fn settle_in(&self, cache: u32, kind: Kind, home: Weak<Inner>) {
        debug_assert_eq!(self.refs(), 0, "identity changes only at count 0");
        self.cache.store(cache, Ordering::Relaxed);
        self.kind.store(kind as u8, Ordering::Relaxed);
        *self.home.lock() = home;
    }
}

/// The slot with this number.
#[inline]
pub fn get(id: SlotId) -> &'static Slot {
    let at = id + FIRST_CHUNK;
    let chunk = (at.ilog2() - FIRST_CHUNK.ilog2()) as usize;
    let first = FIRST_CHUNK << chunk;
    let slots = CHUNK_TABLE[chunk]
        .get()
        .expect("a number is handed out after its chunk is made");
    &slots[(at - first) as usize]
}

/// A dead slot that no cache uses; makes more when there is none.
pub fn take() -> &'static Slot {
    let mut pool = POOL.lock();
    if let Some(id) = pool.free.pop() {
        return get(id);
    }
    let id = pool.made;
    let at = id + FIRST_CHUNK;
    let chunk = (at.ilog2() - FIRST_CHUNK.ilog2()) as usize;
    CHUNK_TABLE[chunk].get_or_init(|| {
        let first = (FIRST_CHUNK << chunk) - FIRST_CHUNK;
        let slots: Vec<_> = (first..first + (FIRST_CHUNK << chunk))
            .map(Slot::new)
            .collect();
        slots.leak()
    });
    pool.made += 1;
    get(id)
}

/// Gives a dead slot back and frees its bytes.
pub fn give_back(slot: &'static Slot) {
    debug_assert_eq!(slot.refs(), 0);
    slot.cache.store(0, Ordering::Relaxed);
    *slot.home.lock() = Weak::new();
    *slot.bytes.write() = Box::default();
    POOL.lock().free.push(slot.id);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_by_number_across_chunks() {
        let slots: Vec<_> = (0..200).map(|_| take()).collect();
        for slot in &slots {
            assert!(std::ptr::eq(get(slot.id()), *slot));
        }
        slots.into_iter().for_each(give_back);
    }
}
