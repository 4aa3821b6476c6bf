//! Atomics and locks that a lab can take apart, access by access.
//!
//! Owns: for each, the choice between the real thing and a *cell*. What is made while the lab
//! builds a world ([`turn::build`]) is a cell, its accesses are steps ([`turn`]); everything else in
//! the process is real, and pays one test of a field that never changes. A third kind is real and has
//! a [`gate`] before each access, for schedules that are forced on real threads. Only lab builds have
//! this file; others get the real things, models get loom's.

pub mod gate;
pub mod turn;

use super::atomic::Ordering;
use turn::{CellId, Kind};

macro_rules! atomic {
    ($name:ident, $real:ident, $value:ty) => {
        /// An atomic number, real or a cell.
        #[derive(Debug)]
        pub struct $name {
            real: super::atomic::$real,
            cell: Option<CellId>,
        }

        impl $name {
            /// Holds `value`.
            pub fn new(value: $value) -> Self {
                Self {
                    real: super::atomic::$real::new(value),
                    cell: new_cell(Kind::Number, u64::from(value)),
                }
            }

            /// Names the cell in traces.
            pub fn call(&self, name: &'static str) {
                call(self.cell, name);
            }

            /// A real access, after the gate of a gated one.
            #[inline]
            fn really<R>(&self, access: impl FnOnce(&super::atomic::$real) -> R) -> R {
                match self.cell {
                    None => access(&self.real),
                    Some(cell) => gate::pass(
                        cell,
                        Kind::Number,
                        || self.real.load(Ordering::Relaxed).into(),
                        || access(&self.real),
                    ),
                }
            }

            /// The cell that turns are taken at, if this is one.
            #[inline]
            fn stepped(&self) -> Option<CellId> {
                self.cell.filter(|cell| !gate::is_gated(*cell))
            }

            /// Whether this is a cell.
            #[inline]
            pub fn is_cell(&self) -> bool {
                self.cell.is_some()
            }

            /// The value, without taking part.
            #[inline]
            pub fn peek(&self) -> $value {
                match self.stepped() {
                    None => self.real.load(Ordering::Relaxed),
                    Some(cell) => turn::peek(cell) as $value,
                }
            }

            /// Reads.
            #[inline]
            pub fn load(&self, order: Ordering) -> $value {
                match self.stepped() {
                    None => self.really(|real| real.load(order)),
                    Some(cell) => turn::access(cell, Kind::Number, |value| *value) as $value,
                }
            }

            /// Writes.
            #[inline]
            pub fn store(&self, new: $value, order: Ordering) {
                match self.stepped() {
                    None => self.really(|real| real.store(new, order)),
                    Some(cell) => {
                        turn::access(cell, Kind::Number, |value| {
                            *value = u64::from(new);
                            0
                        });
                    }
                }
            }

            /// Writes what `next` makes of the value, or nothing when it makes nothing of it.
            ///
            /// A loop of a load and a compare-and-swap; in a cell it is one step, the swap that
            /// succeeds, as one that fails changes nothing and the loop forgets what it read.
            #[inline]
            pub fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                mut next: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let Some(cell) = self.stepped() else {
                    return self.really(|real| real.fetch_update(set, fetch, next));
                };
                let was = turn::access(cell, Kind::Number, |value| {
                    let was = *value;
                    if let Some(new) = next(was as $value) {
                        *value = u64::from(new);
                    }
                    was
                }) as $value;
                next(was).map(|_| was).ok_or(was)
            }

            /// As the real one.
            #[inline]
            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let Some(cell) = self.stepped() else {
                    return self
                        .really(|real| real.compare_exchange_weak(current, new, success, failure));
                };
                let was = turn::access(cell, Kind::Number, |value| {
                    let was = *value;
                    if was == u64::from(current) {
                        *value = u64::from(new);
                    }
                    was
                }) as $value;
                if was == current { Ok(was) } else { Err(was) }
            }

            /// Adds, and says what it was.
            #[inline]
            pub fn fetch_add(&self, more: $value, order: Ordering) -> $value {
                match self.stepped() {
                    None => self.really(|real| real.fetch_add(more, order)),
                    Some(cell) => {
                        change(cell, |value| (value as $value).wrapping_add(more).into()) as $value
                    }
                }
            }

            /// Subtracts, and says what it was.
            #[inline]
            pub fn fetch_sub(&self, less: $value, order: Ordering) -> $value {
                match self.stepped() {
                    None => self.really(|real| real.fetch_sub(less, order)),
                    Some(cell) => {
                        change(cell, |value| (value as $value).wrapping_sub(less).into()) as $value
                    }
                }
            }

            /// Sets bits, and says what it was.
            #[inline]
            pub fn fetch_or(&self, bits: $value, order: Ordering) -> $value {
                match self.stepped() {
                    None => self.really(|real| real.fetch_or(bits, order)),
                    Some(cell) => change(cell, |value| value | u64::from(bits)) as $value,
                }
            }

            /// Keeps bits, and says what it was.
            #[inline]
            pub fn fetch_and(&self, bits: $value, order: Ordering) -> $value {
                match self.stepped() {
                    None => self.really(|real| real.fetch_and(bits, order)),
                    Some(cell) => change(cell, |value| value & u64::from(bits)) as $value,
                }
            }
        }
    };
}

atomic!(AtomicU32, AtomicU32, u32);
atomic!(AtomicU64, AtomicU64, u64);

/// A number for what is made while a world is built.
fn new_cell(kind: Kind, value: u64) -> Option<CellId> {
    turn::new_cell(kind, value).or_else(gate::new_cell)
}

fn call(cell: Option<CellId>, name: &'static str) {
    if let Some(cell) = cell
        && !gate::call(cell, name)
    {
        turn::call(Some(cell), name);
    }
}

fn change(cell: CellId, next: impl FnOnce(u64) -> u64) -> u64 {
    turn::access(cell, Kind::Number, |value| {
        let was = *value;
        *value = next(was);
        was
    })
}

/// A lock without contents, real or a cell: 0 while it is free.
#[derive(Debug)]
pub struct Lock {
    real: super::Mutex<()>,
    cell: Option<CellId>,
}

/// A held [`Lock`].
#[derive(Debug)]
pub struct LockGuard<'a> {
    real: Option<super::MutexGuard<'a, ()>>,
    cell: Option<CellId>,
}

impl Lock {
    /// A free lock.
    pub fn new(contents: ()) -> Self {
        Self {
            real: super::Mutex::new(contents),
            cell: new_cell(Kind::Lock, 0),
        }
    }

    /// Names the cell in traces.
    pub fn call(&self, name: &'static str) {
        call(self.cell, name);
    }

    /// Waits until the lock is free and takes it.
    #[inline]
    pub fn lock(&self) -> LockGuard<'_> {
        match self.cell {
            None => LockGuard {
                real: Some(self.real.lock()),
                cell: None,
            },
            // Whoever directs lets nobody through while the lock is held.
            Some(cell) if gate::is_gated(cell) => LockGuard {
                real: Some(gate::pass(
                    cell,
                    Kind::Lock,
                    || self.real.is_locked().into(),
                    || self.real.lock(),
                )),
                cell: Some(cell),
            },
            Some(cell) => {
                turn::access(cell, Kind::Lock, |value| {
                    *value = 1;
                    0
                });
                LockGuard {
                    real: None,
                    cell: Some(cell),
                }
            }
        }
    }

    /// Whether somebody holds it, without taking part.
    pub fn is_locked(&self) -> bool {
        match self.cell.filter(|cell| !gate::is_gated(*cell)) {
            None => self.real.is_locked(),
            Some(cell) => turn::peek(cell) != 0,
        }
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        match (self.cell, self.real.take()) {
            (None, _) => {}
            (Some(cell), Some(held)) => {
                let held = std::cell::Cell::new(Some(held));
                let is_held = || {
                    let there = held.take();
                    let is_held = there.is_some();
                    held.set(there);
                    is_held.into()
                };
                gate::pass(cell, Kind::Unlock, is_held, || drop(held.take()));
            }
            (Some(cell), None) => {
                turn::access(cell, Kind::Unlock, |value| {
                    *value = 0;
                    0
                });
            }
        }
    }
}

/// A number for the judge, whose changes are no steps: they belong to the step before them.
#[derive(Debug)]
pub struct Tally(AtomicU32);

impl Tally {
    /// Zero.
    pub fn zero() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Counts one.
    pub fn count(&self) {
        match self.0.stepped() {
            None => {
                self.0.real.fetch_add(1, Ordering::Relaxed);
            }
            Some(cell) => turn::change_aside(cell, |value| *value += 1),
        }
    }

    /// How many were counted.
    pub fn get(&self) -> u32 {
        self.0.peek()
    }

    /// Counts from zero again.
    pub fn clear(&self) {
        match self.0.stepped() {
            None => self.0.real.store(0, Ordering::Relaxed),
            Some(cell) => turn::change_aside(cell, |value| *value = 0),
        }
    }
}
