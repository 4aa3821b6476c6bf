//! Real threads that do one access at a time, in an order that somebody else chooses.
//!
//! Owns: the gate before every access of a *gated* world ([`build`]): its atomics and locks are the
//! real ones, and a thread that plays a role there ([`Gate::play`]) stands before each access until
//! the director lets it through ([`Gate::let_through`]). So a schedule that was found on paper is
//! forced on real threads. Threads without a role pass all gates: setup and judge.
//!
//! Invariant: nobody waits forever. A gate that is opened holds nobody any more.

use super::turn::{CellId, Kind, Names, Request};
use crate::sync::race_point::Point;
use crate::sync::{Arc, Condvar, Mutex};
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// How long a thread may need from one gate to the next.
const PATIENCE: Duration = Duration::from_secs(10);

/// Marks the cells of a gated world; their numbers are the other bits.
const GATED: CellId = 1 << 31;

/// Where a role's thread was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Before an access.
    Before(Request),
    /// Its part is over.
    Ended,
}

/// What a thread did when it was let through, up to the next gate.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    /// The access; `None` of a role's first steps, before any.
    pub request: Option<Request>,
    /// The cell before and after.
    pub values: (u64, u64),
    /// What the role said of itself.
    pub remarks: Vec<&'static str>,
    /// The last race point that it stood at.
    pub point: Option<Point>,
}

/// See the module.
#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    roles: Vec<RoleState>,
    /// Everybody passes.
    open: bool,
}

#[derive(Default)]
struct RoleState {
    /// `None` while the thread is on its way.
    standing: Option<Standing>,
    passed: Passed,
}

thread_local! {
    static PART: RefCell<Option<(Arc<Gate>, usize)>> = const { RefCell::new(None) };
    static NAMES: RefCell<Option<Names>> = const { RefCell::new(None) };
    /// In an access that belongs to one that was let through.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `make`, whose atomics and locks are real and have a gate before them.
pub fn build<T>(make: impl FnOnce() -> T) -> (T, Names) {
    NAMES.set(Some(Names::new()));
    let made = make();
    (made, NAMES.take().unwrap_or_default())
}

/// A number for a new cell, if a gated world is being built.
pub(super) fn new_cell() -> Option<CellId> {
    NAMES.with_borrow_mut(|names| {
        let names = names.as_mut()?;
        names.push("");
        Some(GATED | (names.len() as CellId - 1))
    })
}

/// Names a cell; false when it isn't a gated one.
pub(super) fn call(cell: CellId, name: &'static str) -> bool {
    if is_gated(cell) {
        NAMES.with_borrow_mut(|names| {
            if let Some(slot) = names.as_mut().and_then(|names| names.get_mut(number(cell))) {
                *slot = name;
            }
        });
    }
    is_gated(cell)
}

/// Whether a cell is a real thing with a gate.
#[inline]
pub(super) fn is_gated(cell: CellId) -> bool {
    cell & GATED != 0
}

fn number(cell: CellId) -> usize {
    (cell & !GATED) as usize
}

/// Does a real access of a gated cell, after its gate. `look` tells the value.
pub(super) fn pass<R>(
    cell: CellId,
    kind: Kind,
    look: impl Fn() -> u64,
    access: impl FnOnce() -> R,
) -> R {
    let part = PART.with_borrow(Clone::clone);
    let (Some((gate, role)), false) = (part, INSIDE.get()) else {
        return access();
    };
    let request = Request {
        cell: number(cell) as CellId,
        kind,
    };
    gate.stand(role, Standing::Before(request));
    INSIDE.set(true);
    let before = look();
    let result = access();
    let after = look();
    INSIDE.set(false);
    let mut state = gate.state.lock();
    let passed = &mut state.roles[role].passed;
    passed.request = Some(request);
    passed.values = (before, after);
    result
}

/// What a thread with a role says of itself.
pub(super) fn aside(say: impl FnOnce(&mut Passed)) {
    PART.with_borrow(|part| {
        if let Some((gate, role)) = part {
            say(&mut gate.state.lock().roles[*role].passed);
        }
    });
}

impl Gate {
    /// For so many roles.
    pub fn for_roles(count: usize) -> Arc<Self> {
        let gate = Arc::new(Self::default());
        gate.state
            .lock()
            .roles
            .resize_with(count, RoleState::default);
        gate
    }

    /// The calling thread plays `role` while `part` runs.
    pub fn play(self: &Arc<Self>, role: usize, part: impl FnOnce()) {
        /// The part is over, also by a panic.
        struct Over<'a>(&'a Gate, usize);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                PART.set(None);
                INSIDE.set(false);
                let Self(gate, role) = *self;
                gate.state.lock().roles[role].standing = Some(Standing::Ended);
                gate.moved.notify_all();
            }
        }
        PART.set(Some((self.clone(), role)));
        let _over = Over(self, role);
        part();
    }

    fn stand(&self, role: usize, standing: Standing) {
        let mut state = self.state.lock();
        if state.open {
            return;
        }
        state.roles[role].standing = Some(standing);
        self.moved.notify_all();
        // Twice as patient as the director, who gives up first.
        let deadline = Instant::now() + 2 * PATIENCE;
        while state.roles[role].standing.is_some() && !state.open {
            if self.moved.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    /// Waits until every role stands or has ended, and says where.
    pub fn await_all(&self) -> Result<Vec<Standing>, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock();
        loop {
            let all: Option<Vec<_>> = state.roles.iter().map(|role| role.standing).collect();
            if let Some(all) = all {
                return Ok(all);
            }
            if self.moved.wait_until(&mut state, deadline).timed_out() {
                return Err("a thread comes to no gate".into());
            }
        }
    }

    /// What `role` did since it was last asked for.
    pub fn passed(&self, role: usize) -> Passed {
        std::mem::take(&mut self.state.lock().roles[role].passed)
    }

    /// Lets `role` do the access that it stands before; all others stay.
    pub fn let_through(&self, role: usize) {
        let mut state = self.state.lock();
        if state.roles[role].standing != Some(Standing::Ended) {
            state.roles[role].standing = None;
        }
        self.moved.notify_all();
    }

    /// Holds nobody any more.
    pub fn open(&self) {
        self.state.lock().open = true;
        self.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AtomicU32, Lock};
    use super::*;
    use crate::sync::atomic::Ordering;
    use crate::sync::thread;

    #[test]
    fn threads_do_their_accesses_in_the_order_that_is_asked_for() {
        let ((number, lock), names) = build(|| {
            let number = AtomicU32::new(1);
            number.call("number");
            (number, Lock::new(()))
        });
        assert_eq!(names, ["number", ""]);
        let gate = Gate::for_roles(2);
        thread::scope(|scope| {
            for role in 0..2 {
                let (gate, number, lock) = (&gate, &number, &lock);
                scope.spawn(move || {
                    gate.play(role, || {
                        let was = number.load(Ordering::Relaxed);
                        let _held = lock.lock();
                        number.store(was * 10, Ordering::Relaxed);
                    });
                });
            }
            // Both read 1 before either writes.
            for role in [0, 1, 0, 0, 0, 1, 1, 1] {
                let all = gate.await_all().unwrap();
                assert!(matches!(all[role], Standing::Before(_)), "{all:?}");
                gate.let_through(role);
                gate.await_all().unwrap();
                assert!(gate.passed(role).request.is_some());
            }
            assert_eq!(gate.await_all().unwrap(), [Standing::Ended; 2]);
        });
        assert_eq!(number.peek(), 10, "one of the two was lost");
    }

    #[test]
    fn an_open_gate_and_a_panic_hold_nobody() {
        let (number, _) = build(|| AtomicU32::new(0));
        let gate = Gate::for_roles(1);
        gate.open();
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            gate.play(0, || {
                number.fetch_add(1, Ordering::Relaxed);
                std::panic::resume_unwind(Box::new("over"));
            });
        }));
        assert!(played.is_err());
        assert_eq!(gate.await_all().unwrap(), [Standing::Ended]);
        // Without a part, nothing is held either.
        assert_eq!(number.fetch_add(1, Ordering::Relaxed), 1);
    }
}
