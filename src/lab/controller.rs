//! Holds threads at race points and lets them go one by one.
//!
//! Owns: who stands where, and the list of all steps on one block. Threads without a role, and
//! other blocks, go on as if nobody watched. Invariant: nothing waits forever; a schedule that
//! doesn't come about is an error that names who was expected where.

use super::table::Row;
use crate::sync::race_point::{Point, RaceHook, Seen};
use crate::sync::thread::{self, ThreadId};
use crate::sync::{Condvar, Mutex, MutexGuard};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a schedule may take to come about.
const PATIENCE: Duration = Duration::from_secs(10);

/// A thread's part; the three of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Holds an old path.
    PathHolder,
    /// Empties and deletes the leaf.
    Deleter,
    /// Allocates a block.
    Reuser,
}

impl Role {
    /// As the report numbers them, with their part.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PathHolder => "CPU0 old path holder",
            Self::Deleter => "CPU1 deletes the leaf",
            Self::Reuser => "CPU2 allocates a block",
        }
    }
}

/// Where a thread was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Waits for its cue.
    Ready,
    /// Held at a point.
    At(Point),
    /// Its work is over.
    Ended,
}

/// See the module.
#[derive(Default)]
pub struct Controller {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// The block that is watched.
    bytenr: Option<u64>,
    roles: HashMap<ThreadId, Role>,
    stops: HashMap<Role, Vec<Point>>,
    standing: HashMap<Role, Standing>,
    /// The schedule is given up: nobody is held any more.
    open: bool,
    rows: Vec<Row>,
}

impl Controller {
    /// Watches one block from now on.
    pub fn watch(&self, bytenr: u64) {
        self.state.lock().bytenr = Some(bytenr);
    }

    /// The calling thread plays `role` while `part` runs.
    pub fn play<T>(&self, role: Role, part: impl FnOnce() -> T) -> T {
        let me = thread::current().id();
        self.state.lock().roles.insert(me, role);
        let result = part();
        let mut state = self.state.lock();
        state.roles.remove(&me);
        state.standing.insert(role, Standing::Ended);
        self.moved.notify_all();
        result
    }

    /// The calling thread, which plays `role`, waits for its cue.
    pub fn ready(&self, role: Role) {
        let mut state = self.state.lock();
        state.hold(role, Standing::Ready, &self.moved);
    }

    /// Holds `role` at these points from now on, in place of the ones before.
    pub fn stop_at(&self, role: Role, points: &[Point]) {
        self.state.lock().stops.insert(role, points.to_vec());
    }

    /// Waits until `role` is held or has ended.
    pub fn await_standing(&self, role: Role) -> Result<Standing, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock();
        loop {
            if let Some(standing) = state.standing.get(&role) {
                return Ok(*standing);
            }
            if self.moved.wait_until(&mut state, deadline).timed_out() {
                let stops = state.stops.get(&role).cloned().unwrap_or_default();
                return Err(format!("{} never reached {stops:?}", role.name()));
            }
        }
    }

    /// Waits until `role` is held at `point`.
    pub fn await_point(&self, role: Role, point: Point) -> Result<(), String> {
        match self.await_standing(role)? {
            Standing::At(there) if there == point => Ok(()),
            other => Err(format!("{} stands {other:?}, not at {point}", role.name())),
        }
    }

    /// Lets `role` go on; it is held again where [`Self::stop_at`] last said.
    pub fn let_go(&self, role: Role) {
        let mut state = self.state.lock();
        if state.standing.get(&role) != Some(&Standing::Ended) {
            state.standing.remove(&role);
        }
        self.moved.notify_all();
    }

    /// Whether `role` neither reaches a point nor ends within `time`.
    pub fn stays_put(&self, role: Role, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.standing.contains_key(&role) {
            if self.moved.wait_until(&mut state, deadline).timed_out() {
                return !state.standing.contains_key(&role);
            }
        }
        false
    }

    /// Holds nobody any more.
    pub fn open(&self) {
        let mut state = self.state.lock();
        state.open = true;
        state
            .standing
            .retain(|_, standing| *standing == Standing::Ended);
        self.moved.notify_all();
    }

    /// Adds a line about something that no point tells of.
    pub fn tell(&self, role: Role, what: impl Into<String>, seen: Option<Seen>) {
        self.state.lock().rows.push(Row {
            role,
            what: what.into(),
            seen,
        });
    }

    /// Everything that happened to the block, in order.
    pub fn rows(&self) -> Vec<Row> {
        self.state.lock().rows.clone()
    }
}

impl State {
    fn role_at(&self, seen: Seen) -> Option<Role> {
        if self.bytenr != Some(seen.bytenr) {
            return None;
        }
        self.roles.get(&thread::current().id()).copied()
    }
}

/// Waiting with the state locked.
trait Hold {
    fn hold(&mut self, role: Role, standing: Standing, moved: &Condvar);
}

impl Hold for MutexGuard<'_, State> {
    fn hold(&mut self, role: Role, standing: Standing, moved: &Condvar) {
        if self.open {
            return;
        }
        self.standing.insert(role, standing);
        moved.notify_all();
        // Twice as patient as the schedule, which gives up first.
        let deadline = Instant::now() + 2 * PATIENCE;
        while self.standing.get(&role) == Some(&standing) && !self.open {
            if moved.wait_until(self, deadline).timed_out() {
                self.standing.remove(&role);
            }
        }
    }
}

impl RaceHook for Controller {
    fn reached(&self, point: Point, seen: Seen) {
        let mut state = self.state.lock();
        let Some(role) = state.role_at(seen) else {
            return;
        };
        if let Some(what) = words(point) {
            state.rows.push(Row {
                role,
                what: what.into(),
                seen: Some(seen),
            });
        }
        let is_stop = state
            .stops
            .get(&role)
            .is_some_and(|stops| stops.contains(&point));
        if is_stop {
            state.hold(role, Standing::At(point), &self.moved);
        }
    }

    fn done(&self, words: &'static str, seen: Seen) {
        let mut state = self.state.lock();
        if let Some(role) = state.role_at(seen) {
            state.rows.push(Row {
                role,
                what: words.into(),
                seen: Some(seen),
            });
        }
    }
}

/// What standing at a point says about the thread, where the steps don't say it.
fn words(point: Point) -> Option<&'static str> {
    match point {
        Point::LookupFound => Some("finder: finds the buffer in the index"),
        Point::LookupStale => Some("finder: sees STALE"),
        Point::LookupWaits => Some("finder: refs_lock is taken, waits for it"),
        Point::DropEnter => Some("holder: is about to drop its count"),
        Point::DropTested => Some("dropper: holds refs_lock; refs == 2, STALE, not under IO"),
        Point::StaleTested => Some("freer: holds refs_lock; refs == 2, not under IO"),
        Point::BeforeDirty => Some("writer: is about to set DIRTY"),
        _ => None,
    }
}
