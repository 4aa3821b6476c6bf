//! loom's locks, atomics and threads, in the shape of the native ones.
//!
//! Only builds under `--cfg btrfuse_model` have this file. Every access to what it exports is a
//! step that the model checker may reorder; [`unmodelled`] is for bookkeeping that it must not
//! see.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Once;

pub use loom::thread;
// Who owns a model's world is no part of what is explored.
pub use std::sync::{Arc, OnceLock};

/// Atomics and fences.
pub mod atomic {
    pub use loom::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
}

/// Counters that are no part of what is explored.
pub mod unmodelled {
    pub use std::sync::atomic::{AtomicBool, AtomicU64};
}

/// What the lab can take apart; here loom does.
pub mod stepped {
    pub use super::atomic::{AtomicU32, AtomicU64, Ordering};
    pub use crate::sync::tally::Tally;

    /// A lock without contents.
    pub type Lock = super::Mutex<()>;
    /// A held [`Lock`].
    pub type LockGuard<'a> = super::MutexGuard<'a, ()>;
}

/// A lock whose guard needs no unwrapping: a poisoned model run has failed anyway.
#[derive(Debug, Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

/// A held [`Mutex`].
#[derive(Debug)]
pub struct MutexGuard<'a, T>(loom::sync::MutexGuard<'a, T>);

impl<T> Mutex<T> {
    /// A free lock around `value`.
    pub fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    /// Waits until the lock is free and takes it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(self.0.lock().expect("a model run stops at its first panic"))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Runs `model` in every schedule that takes the processor from a thread that could go on at most
/// `preemptions` times, with every value that a relaxed load may see. Returns how many executions
/// there were, and the words of the first panic.
pub fn explore(
    preemptions: usize,
    model: impl Fn() + Sync + Send + 'static,
) -> (u64, Option<String>) {
    static QUIET: Once = Once::new();
    // A model that must fail says so a few hundred lines long otherwise.
    QUIET.call_once(|| set_hook(Box::new(|_| {})));
    let executions = Arc::new(unmodelled::AtomicU64::new(0));
    let counted = executions.clone();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.max_branches = 10_000;
        builder.check(move || {
            counted.fetch_add(1, atomic::Ordering::Relaxed);
            model();
        });
    }));
    let failure = result.err().map(|panic| match panic.downcast::<String>() {
        Ok(words) => *words,
        Err(panic) => panic
            .downcast_ref::<&str>()
            .map_or("a panic without words".into(), |words| (*words).into()),
    });
    (executions.load(atomic::Ordering::Relaxed), failure)
}
