//! shuttle's locks, atomics and threads, in the shape of the native ones.
//!
//! Only builds under `--cfg btrfuse_shuttle` have this file. Threads are tasks that a scheduler runs
//! one at a time, and every access to what is exported here is a place where it may choose another.
//! Memory is sequentially consistent whatever orders an access names. Where a native wait would end
//! by a timeout, it may end at once here: whoever waits must look again anyway.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Once;
use std::time::Duration;

use shuttle::current::TaskId;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Schedule, Task};

pub use shuttle::sync::{Barrier, mpsc};
pub use shuttle_parking_lot::{RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard};
// Who owns memory is no part of what is explored.
pub use std::sync::{Arc, LazyLock, OnceLock, Weak};

/// Atomics and fences.
pub mod atomic {
    pub use shuttle::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize,
    };
    pub use std::sync::atomic::{Ordering, fence};
}

/// Counters and locks that are no part of what is explored.
pub mod unmodelled {
    pub use parking_lot::Mutex;
    pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
}

/// What the lab can take apart; here the scheduler does.
pub mod stepped {
    pub use super::atomic::{AtomicU32, AtomicU64, Ordering};
    pub use crate::sync::tally::Tally;

    /// A lock without contents.
    pub type Lock = super::Mutex<()>;
    /// A held [`Lock`].
    pub type LockGuard<'a> = super::MutexGuard<'a, ()>;
}

/// Threads that the scheduler runs.
pub mod thread {
    pub use shuttle::thread::{
        Builder, JoinHandle, ScopedJoinHandle, Thread, ThreadId, current, scope, sleep, spawn,
        yield_now,
    };
    pub use std::thread::panicking;

    /// One: work that is cut up only to be faster would only make schedules longer.
    pub fn available_parallelism() -> std::io::Result<std::num::NonZero<usize>> {
        Ok(std::num::NonZero::<usize>::MIN)
    }
}

/// A lock whose guard needs no unwrapping: an execution ends with its first panic anyway.
#[derive(Default)]
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

/// A held [`Mutex`]; `None` only inside of a [`Condvar`]'s waits.
pub struct MutexGuard<'a, T> {
    held: Option<shuttle::sync::MutexGuard<'a, T>>,
    lock: &'a shuttle::sync::Mutex<T>,
}

const POISONED: &str = "an execution ends with its first panic";
const HELD: &str = "a guard is empty only while it waits";

impl<T> Mutex<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    /// Waits until the lock is free and takes it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard {
            held: Some(self.0.lock().expect(POISONED)),
            lock: &self.0,
        }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|held| MutexGuard {
            held: Some(held),
            lock: &self.0,
        })
    }

    /// Whether somebody holds it just now.
    pub fn is_locked(&self) -> bool {
        self.try_lock().is_none()
    }

    /// The value, of which there is no other user.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().expect(POISONED)
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.0.into_inner().expect(POISONED)
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Looking inside would be a step.
        f.write_str("Mutex")
    }
}

impl<T> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MutexGuard")
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.held.as_ref().expect(HELD)
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect(HELD)
    }
}

/// A condition that threads wait for.
#[derive(Debug, Default)]
pub struct Condvar(shuttle::sync::Condvar);

/// Whether a wait ended by itself.
#[derive(Clone, Copy, Debug)]
pub struct WaitTimeoutResult;

impl WaitTimeoutResult {
    /// Always: see the module.
    pub fn timed_out(self) -> bool {
        true
    }
}

impl Condvar {
    /// Nobody waits.
    pub const fn new() -> Self {
        Self(shuttle::sync::Condvar::new())
    }

    /// Gives the lock back until somebody notifies.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.held.take().expect(HELD);
        guard.held = Some(self.0.wait(held).expect(POISONED));
    }

    /// Gives the lock back and takes it again, as if the time were over.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> WaitTimeoutResult {
        drop(guard.held.take());
        thread::yield_now();
        guard.held = Some(guard.lock.lock().expect(POISONED));
        WaitTimeoutResult
    }

    /// Wakes one.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A lock for many readers or one writer.
#[derive(Debug, Default)]
pub struct RwLock<T>(shuttle_parking_lot::RwLock<T>);

impl<T> RwLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(shuttle_parking_lot::const_rwlock(value))
    }

    /// [`Self::try_read`] again after the others had their turn.
    ///
    /// [`Self::try_read`]: shuttle_parking_lot::RwLock
    pub fn try_read_for(&self, _: Duration) -> Option<RwLockReadGuard<'_, T>> {
        self.0.try_read().or_else(|| {
            thread::yield_now();
            self.0.try_read()
        })
    }

    /// The same for writers.
    pub fn try_write_for(&self, _: Duration) -> Option<RwLockWriteGuard<'_, T>> {
        self.0.try_write().or_else(|| {
            thread::yield_now();
            self.0.try_write()
        })
    }
}

impl<T> Deref for RwLock<T> {
    type Target = shuttle_parking_lot::RwLock<T>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T> DerefMut for RwLock<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// How the next thread is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// At random, at every step.
    Random,
    /// By random priorities that change at so many random steps less one (probabilistic concurrency
    /// testing): finds what takes few changes in long executions.
    Pct(usize),
}

impl Scheduler {
    /// The name in reports.
    pub fn name(self) -> String {
        match self {
            Self::Random => "random".into(),
            Self::Pct(depth) => format!("pct-{depth}"),
        }
    }
}

impl std::str::FromStr for Scheduler {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let depth = name.strip_prefix("pct-").map(str::parse);
        match (name, depth) {
            ("random", _) => Ok(Self::Random),
            (_, Some(Ok(depth @ 1..=16))) => Ok(Self::Pct(depth)),
            _ => Err(format!(
                "no scheduler is called {name}; there are random and pct-N, N to 16"
            )),
        }
    }
}

/// The stack of a task, which a tree operation in a debug build needs.
const STACK_BYTES: usize = 1 << 20;
/// Steps of an execution that will not end.
const STEPS_MAX: usize = 10_000_000;

/// Ends with the first execution that failed, without a panic's noise.
struct UntilFailed<S> {
    scheduler: S,
    failure: Arc<OnceLock<String>>,
}

impl<S: shuttle::scheduler::Scheduler> shuttle::scheduler::Scheduler for UntilFailed<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        match self.failure.get() {
            None => self.scheduler.new_execution(),
            Some(_) => None,
        }
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        self.scheduler.next_task(runnable, current, is_yielding)
    }

    fn next_u64(&mut self) -> u64 {
        self.scheduler.next_u64()
    }
}

/// Runs `model` up to `executions` times under a scheduler with this seed, until it fails, panics,
/// or all its threads wait for each other. Returns how many executions there were, and the words of
/// the failure: the same for the same seed.
pub fn explore(
    scheduler: Scheduler,
    seed: u64,
    executions: usize,
    model: impl Fn() -> Result<(), String> + Send + Sync + 'static,
) -> (u64, Option<String>) {
    static QUIET: Once = Once::new();
    // A deadlock that must be found says so a few hundred lines long otherwise.
    QUIET.call_once(|| set_hook(Box::new(|_| {})));
    let ran = Arc::new(unmodelled::AtomicU64::new(0));
    let failure = Arc::new(OnceLock::new());
    let (counted, failed) = (ran.clone(), failure.clone());
    let model = move || {
        counted.fetch_add(1, atomic::Ordering::Relaxed);
        if let Err(words) = model() {
            // The first is the one that is told.
            let _ = failed.set(words);
        }
    };
    let mut config = shuttle::Config::new();
    config.stack_size = STACK_BYTES;
    config.failure_persistence = shuttle::FailurePersistence::None;
    config.max_steps = shuttle::MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    let until = failure.clone();
    let result = catch_unwind(AssertUnwindSafe(|| match scheduler {
        Scheduler::Random => {
            let scheduler = RandomScheduler::new_from_seed(seed, executions);
            let failure = until;
            shuttle::Runner::new(UntilFailed { scheduler, failure }, config).run(model)
        }
        Scheduler::Pct(depth) => {
            let scheduler = PctScheduler::new_from_seed(seed, depth, executions);
            let failure = until;
            shuttle::Runner::new(UntilFailed { scheduler, failure }, config).run(model)
        }
    }));
    let panic = result.err().map(|panic| match panic.downcast::<String>() {
        Ok(words) => *words,
        Err(panic) => panic
            .downcast_ref::<&str>()
            .map_or("a panic without words".into(), |words| (*words).into()),
    });
    let failure = failure.get().cloned();
    (ran.load(atomic::Ordering::Relaxed), failure.or(panic))
}
