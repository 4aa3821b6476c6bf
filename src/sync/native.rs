//! Real locks, atomics and threads.

pub use parking_lot::{
    Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockUpgradableReadGuard,
    RwLockWriteGuard,
};
pub use std::sync::{Arc, Barrier, LazyLock, OnceLock, Weak, mpsc};
pub use std::thread;

/// Atomics and fences.
pub mod atomic {
    pub use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
}

/// Counters and locks that a model checker doesn't see; in a native build they are the ordinary ones.
pub mod unmodelled {
    pub use super::Mutex;
    pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
}

/// What the lab can take apart; in other builds, the real things.
#[cfg(not(feature = "race-lab"))]
pub mod stepped {
    pub use super::atomic::{AtomicU32, AtomicU64};

    /// A lock without contents.
    pub type Lock = super::Mutex<()>;
    /// A held [`Lock`].
    pub type LockGuard<'a> = super::MutexGuard<'a, ()>;
}
