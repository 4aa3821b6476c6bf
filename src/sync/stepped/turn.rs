//! One thread of a world, one access at a time, without a thread.
//!
//! Owns: the cells of a world, and [`advance`]. What a role does depends only on what its accesses
//! gave it, so it needs no stack of its own between two of them: it is run again from its start on
//! the caller's thread, is given what it saw before, does *one* access for real, and is unwound
//! when it asks for the next. So a world's state is plain data: the cells, and what each role has
//! seen. It can be kept, compared, and gone back to.
//!
//! Invariants: a replayed access touches no cell; what a role does between two accesses belongs to
//! the first of them; while a role is unwound, nothing is an access.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::sync::race_point::Point;

/// A cell's number in its world.
pub type CellId = u32;

/// What an access asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number is read or written.
    Number,
    /// A lock is taken; possible only while it is free.
    Lock,
    /// A lock is given back.
    Unlock,
}

/// An access that a role stands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Of which cell.
    pub cell: CellId,
    /// What it is.
    pub kind: Kind,
}

/// An access that was done.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// What it was.
    pub request: Request,
    /// The cell before.
    pub before: u64,
    /// The cell after.
    pub after: u64,
}

/// The cells' values.
pub type Memory = Vec<u64>;

/// The cells' names.
pub type Names = Vec<&'static str>;

/// What came of a turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// The access; `None` in a role's first turn, which ends before its first access.
    pub done: Option<Done>,
    /// What the role said of itself after it.
    pub remarks: Vec<&'static str>,
    /// The race point that the role stands at now, if it reached one since.
    pub point: Option<Point>,
    /// The access that it stands before; `None` when it has ended.
    pub next: Option<Request>,
    /// The words of its panic.
    pub panic: Option<String>,
}

/// What the accesses of the running thread are.
enum Mode {
    /// Constructors make cells.
    Building { memory: Memory, names: Names },
    /// Accesses happen at once: setup and judge.
    Direct { memory: Memory },
    /// See [`advance`].
    Turning(Box<Turning>),
}

struct Turning {
    memory: Memory,
    /// Results of the role's accesses so far.
    seen: Vec<u64>,
    /// How many of them were replayed.
    replayed: usize,
    /// The turn's own access is done, or this is the first turn, which has none.
    spent: bool,
    /// The role is being unwound.
    stopping: bool,
    turn: Turn,
}

thread_local! {
    static MODE: RefCell<Option<Mode>> = const { RefCell::new(None) };
}

/// What a role is unwound with.
struct Stop;

/// Runs `make`, whose atomics and locks become cells.
pub fn build<T>(make: impl FnOnce() -> T) -> (T, Memory, Names) {
    let (memory, names) = (Memory::new(), Names::new());
    enter(Mode::Building { memory, names });
    let made = make();
    match leave() {
        Some(Mode::Building { memory, names }) => (made, memory, names),
        _ => (made, Memory::new(), Names::new()),
    }
}

/// Runs `part` by itself: its accesses happen at once and are no steps.
pub fn directly<T>(memory: &mut Memory, part: impl FnOnce() -> T) -> T {
    enter(Mode::Direct {
        memory: std::mem::take(memory),
    });
    let result = part();
    if let Some(Mode::Direct { memory: after }) = leave() {
        *memory = after;
    }
    result
}

/// Gives `role` a turn: one access, and what follows it up to the next one. `seen` are the results
/// of its accesses so far, and gets one more; a role's first turn (`begin`) ends before its first
/// access.
pub fn advance(memory: &mut Memory, seen: &mut Vec<u64>, begin: bool, role: impl FnOnce()) -> Turn {
    enter(Mode::Turning(Box::new(Turning {
        memory: std::mem::take(memory),
        seen: std::mem::take(seen),
        replayed: 0,
        spent: begin,
        stopping: false,
        turn: Turn::default(),
    })));
    let result = catch_unwind(AssertUnwindSafe(role));
    let Some(Mode::Turning(turning)) = leave() else {
        return Turn::default();
    };
    *memory = turning.memory;
    *seen = turning.seen;
    let mut turn = turning.turn;
    if let Err(panic) = result
        && !panic.is::<Stop>()
    {
        turn.panic = Some(match panic.downcast::<String>() {
            Ok(words) => *words,
            Err(panic) => panic
                .downcast_ref::<&str>()
                .map_or("a panic without words".into(), |words| (*words).into()),
        });
    }
    turn
}

fn enter(mode: Mode) {
    MODE.with_borrow_mut(|now| *now = Some(mode));
}

fn leave() -> Option<Mode> {
    MODE.with_borrow_mut(Option::take)
}

pub(super) fn new_cell(_kind: Kind, value: u64) -> Option<CellId> {
    MODE.with_borrow_mut(|mode| match mode {
        Some(Mode::Building { memory, names }) => {
            memory.push(value);
            names.push("");
            Some(memory.len() as CellId - 1)
        }
        _ => None,
    })
}

pub(super) fn call(cell: Option<CellId>, name: &'static str) {
    MODE.with_borrow_mut(|mode| {
        if let (Some(Mode::Building { names, .. }), Some(cell)) = (mode, cell) {
            names[cell as usize] = name;
        }
    });
}

/// A cell's value, which is no access; 0 where the role only replays.
pub(super) fn peek(cell: CellId) -> u64 {
    MODE.with_borrow(|mode| match mode {
        Some(Mode::Building { memory, .. } | Mode::Direct { memory }) => memory[cell as usize],
        Some(Mode::Turning(turning)) => turning.memory[cell as usize],
        None => 0,
    })
}

/// Changes a cell without a step, as a part of the access before; a replay has done so already.
pub(super) fn change_aside(cell: CellId, change: impl FnOnce(&mut u64)) {
    MODE.with_borrow_mut(|mode| match mode {
        Some(Mode::Building { memory, .. } | Mode::Direct { memory }) => {
            change(&mut memory[cell as usize]);
        }
        Some(Mode::Turning(turning)) if turning.spent && !turning.stopping => {
            change(&mut turning.memory[cell as usize]);
        }
        _ => {}
    });
}

/// An access of the running role. Doesn't return when the role has had its turn.
pub(super) fn access(cell: CellId, kind: Kind, step: impl FnOnce(&mut u64) -> u64) -> u64 {
    let result = MODE.with_borrow_mut(|mode| match mode {
        Some(Mode::Building { memory, .. } | Mode::Direct { memory }) => {
            Some(step(&mut memory[cell as usize]))
        }
        Some(Mode::Turning(turning)) => turning.access(Request { cell, kind }, step),
        None => Some(0),
    });
    result.unwrap_or_else(|| resume_unwind(Box::new(Stop)))
}

impl Turning {
    /// `None`: the role has had its turn.
    fn access(&mut self, request: Request, step: impl FnOnce(&mut u64) -> u64) -> Option<u64> {
        if self.stopping {
            return Some(0);
        }
        if let Some(result) = self.seen.get(self.replayed) {
            self.replayed += 1;
            return Some(*result);
        }
        if self.spent {
            self.stopping = true;
            self.turn.next = Some(request);
            return None;
        }
        let value = &mut self.memory[request.cell as usize];
        let before = *value;
        let result = step(value);
        self.turn.done = Some(Done {
            request,
            before,
            after: *value,
        });
        self.seen.push(result);
        self.replayed += 1;
        self.spent = true;
        Some(result)
    }
}

/// The running role needs no more of what its last access gave it than `part` of it, so that what
/// it doesn't look at makes no difference between two histories. `part` of a part must be itself.
pub fn keep(part: impl FnOnce(u64) -> u64) {
    MODE.with_borrow_mut(|mode| {
        if let Some(Mode::Turning(turning)) = mode
            && turning.spent
            && !turning.stopping
            && let Some(last) = turning.seen.last_mut()
        {
            *last = part(*last);
        }
    });
}

/// The running role says what it has just done.
pub fn remark(words: &'static str) {
    super::gate::aside(|passed| passed.remarks.push(words));
    aside(|turn| turn.remarks.push(words));
}

/// The running role stands at a race point.
pub fn stand_at(point: Point) {
    super::gate::aside(|passed| passed.point = Some(point));
    aside(|turn| turn.point = Some(point));
}

fn aside(say: impl FnOnce(&mut Turn)) {
    MODE.with_borrow_mut(|mode| {
        if let Some(Mode::Turning(turning)) = mode
            && turning.spent
            && !turning.stopping
        {
            say(&mut turning.turn);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::{AtomicU32, Lock, Tally};
    use super::*;
    use crate::sync::atomic::Ordering;

    #[test]
    fn a_role_goes_on_one_access_a_turn() {
        let ((number, lock, tally), mut memory, _) =
            build(|| (AtomicU32::new(7), Lock::new(()), Tally::zero()));
        let role = || {
            let _guard = lock.lock();
            if number.fetch_add(1, Ordering::Relaxed) == 7 {
                tally.count();
            }
        };
        let mut seen = Vec::new();
        let turns: Vec<_> = (0..4)
            .map(|n| {
                (
                    advance(&mut memory, &mut seen, n == 0, role),
                    memory.clone(),
                )
            })
            .collect();
        let kinds: Vec<_> = turns
            .iter()
            .map(|(turn, _)| turn.next.map(|next| next.kind))
            .collect();
        let expected = [
            Some(Kind::Lock),
            Some(Kind::Number),
            Some(Kind::Unlock),
            None,
        ];
        assert_eq!(kinds, expected);
        let memories: Vec<_> = turns.iter().map(|(_, memory)| memory.as_slice()).collect();
        assert_eq!(memories, [[7, 0, 0], [7, 1, 0], [8, 1, 1], [8, 0, 1]]);
    }

    #[test]
    fn what_was_made_outside_is_real() {
        let number = AtomicU32::new(1);
        let role = || {
            number.fetch_add(1, Ordering::Relaxed);
        };
        let turn = advance(&mut Memory::new(), &mut Vec::new(), true, role);
        assert!(!number.is_cell() && turn.next.is_none());
        assert_eq!(number.peek(), 2);
    }

    #[test]
    fn a_panic_of_a_role_is_told() {
        let (number, mut memory, _) = build(|| AtomicU32::new(1));
        let role = || assert_eq!(number.load(Ordering::Relaxed), 2, "not two");
        let mut seen = Vec::new();
        advance(&mut memory, &mut seen, true, role);
        let turn = advance(&mut memory, &mut seen, false, role);
        assert!(turn.panic.is_some_and(|words| words.contains("not two")));
    }
}
