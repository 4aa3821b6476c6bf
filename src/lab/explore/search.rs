//! The search: depth first over states, each visited once.
//!
//! Owns: states and the sums below them. A state is the cells and, for each role, what its accesses
//! gave it so far, kept as a number that stands for exactly that history ([`Histories`]); so equal
//! states have equal futures, and no two different ones are ever taken for equal.

use super::{Theatre, Watch};
use crate::sync::race_point::Point;
use crate::sync::stepped::turn::{self, Kind, Memory, Request};
use std::collections::HashMap;
use std::rc::Rc;

/// When to stop, and how.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Schedules with more preemptions are passed over.
    pub preemptions: Option<usize>,
    /// States to visit at most.
    pub states_max: usize,
    /// Whether schedules that lead to the same state share what follows. Without, each schedule is
    /// run by itself, as a check of the counts.
    pub merge: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            preemptions: None,
            states_max: 5_000_000,
            merge: true,
        }
    }
}

/// Schedules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub explored: u128,
    /// Those that break a rule.
    pub failing: u128,
}

impl Counts {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            explored: self.explored.saturating_add(other.explored),
            failing: self.failing.saturating_add(other.failing),
        }
    }
}

/// What the search found.
pub(super) struct Found {
    pub(super) by_preemptions: Vec<Counts>,
    pub(super) watched: Counts,
    pub(super) states: usize,
    pub(super) steps: u64,
    pub(super) complete: bool,
    /// A failing schedule.
    pub(super) failing: Option<Failing>,
}

/// A schedule that fails.
pub(super) struct Failing {
    /// The roles in the order of its steps.
    pub(super) schedule: Vec<usize>,
    /// The first step after which every order of the rest fails too; `None` where the search didn't
    /// see all orders, or where they failed before the first step.
    pub(super) doomed: Option<usize>,
}

/// A number for what a role's accesses gave it so far.
type History = u32;

/// A role as it stands between two turns; a function of its history.
#[derive(Clone)]
struct Standing {
    seen: Vec<u64>,
    next: Option<Request>,
    point: Option<Point>,
    panic: Option<String>,
}

/// Histories by number, and the number of one that goes on with another result.
#[derive(Default)]
struct Histories {
    standing: Vec<Rc<Standing>>,
    after: HashMap<(History, u64), History>,
}

impl Histories {
    fn add(&mut self, standing: Standing) -> History {
        self.standing.push(Rc::new(standing));
        self.standing.len() as History - 1
    }
}

#[derive(Clone)]
struct State {
    memory: Memory,
    roles: Vec<History>,
    /// Who made the last step.
    last: Option<usize>,
    /// Preemptions that are still allowed.
    left: Option<usize>,
    /// Every step of the watched role so far happened where it is watched for.
    watched: bool,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    memory: Memory,
    roles: Vec<History>,
    last: Option<usize>,
    left: Option<usize>,
    watched: bool,
}

/// Everything below a state.
#[derive(Clone, Default)]
struct Below {
    /// By preemptions from here on.
    counts: Vec<Counts>,
    watched: Counts,
    /// The shortest way to fail: preemptions, steps, and who goes first.
    shortest: Option<(usize, usize, Option<usize>)>,
}

struct Search<'a> {
    theatre: &'a Theatre,
    limits: Limits,
    watch: Option<Watch>,
    histories: Histories,
    visited: HashMap<Key, Rc<Below>>,
    states: usize,
    steps: u64,
}

pub(super) fn search(theatre: &Theatre, limits: Limits, watch: Option<Watch>) -> Found {
    let mut search = Search {
        theatre,
        limits,
        watch,
        histories: Histories::default(),
        visited: HashMap::new(),
        states: 0,
        steps: 0,
    };
    let mut memory = theatre.start.clone();
    let roles = (0..theatre.play.roles().len())
        .map(|role| {
            let (_, standing) = search.turn(&mut memory, Vec::new(), true, role);
            search.histories.add(standing)
        })
        .collect();
    let start = State {
        memory,
        roles,
        last: None,
        left: limits.preemptions,
        watched: watch.is_some(),
    };
    let below = search.visit(&start);
    let failing = below.shortest.map(|_| search.shortest(start));
    Found {
        by_preemptions: below.counts.clone(),
        watched: below.watched,
        complete: search.states < limits.states_max,
        states: search.states,
        steps: search.steps,
        failing,
    }
}

impl Search<'_> {
    fn visit(&mut self, state: &State) -> Rc<Below> {
        if self.limits.merge
            && let Some(below) = self.visited.get(&state.key())
        {
            return below.clone();
        }
        if self.states >= self.limits.states_max {
            return Rc::default();
        }
        self.states += 1;
        let mut below = Below::default();
        let enabled: Vec<_> = (0..state.roles.len())
            .filter(|role| self.is_enabled(state, *role))
            .collect();
        for role in &enabled {
            let Some((next, preempted)) = self.step(state, *role, &enabled) else {
                continue;
            };
            below.add(*role, usize::from(preempted), &self.visit(&next));
        }
        if enabled.is_empty() {
            below.end(self.judge(state).is_err(), state.watched);
        }
        let below = Rc::new(below);
        if self.limits.merge {
            self.visited.insert(state.key(), below.clone());
        }
        below
    }

    fn standing(&self, history: History) -> &Rc<Standing> {
        &self.histories.standing[history as usize]
    }

    fn is_enabled(&self, state: &State, role: usize) -> bool {
        match self.standing(state.roles[role]).next {
            None => false,
            Some(next) => next.kind != Kind::Lock || state.memory[next.cell as usize] == 0,
        }
    }

    /// The state after a step of `role`, and whether that took the processor from a role that could
    /// have gone on; `None` when that was once too often.
    fn step(&mut self, state: &State, role: usize, enabled: &[usize]) -> Option<(State, bool)> {
        let preempted = state
            .last
            .is_some_and(|last| last != role && enabled.contains(&last));
        let mut next = state.clone();
        if preempted && let Some(left) = next.left.as_mut() {
            *left = left.checked_sub(1)?;
        }
        if let Some(watch) = self.watch
            && watch.inner == role
        {
            let outer = self.standing(state.roles[watch.outer]);
            next.watched &= outer.point == Some(watch.at);
        }
        next.last = Some(role);
        let history = state.roles[role];
        let seen = self.standing(history).seen.clone();
        let (result, standing) = self.turn(&mut next.memory, seen, false, role);
        next.roles[role] = match self.histories.after.get(&(history, result)) {
            Some(after) => *after,
            None => {
                let after = self.histories.add(standing);
                self.histories.after.insert((history, result), after);
                after
            }
        };
        Some((next, preempted))
    }

    /// Gives `role` a turn; the result of its access, and how it stands then.
    fn turn(
        &mut self,
        memory: &mut Memory,
        mut seen: Vec<u64>,
        begin: bool,
        role: usize,
    ) -> (u64, Standing) {
        self.steps += u64::from(!begin);
        let run = self.theatre.play.roles()[role].run;
        let turn = turn::advance(memory, &mut seen, begin, || run(&self.theatre.world));
        let result = seen.last().copied().unwrap_or_default();
        let standing = Standing {
            seen,
            next: turn.next.filter(|_| turn.panic.is_none()),
            point: turn.point,
            panic: turn.panic,
        };
        (result, standing)
    }

    fn judge(&self, state: &State) -> Result<(), String> {
        for history in &state.roles {
            let standing = self.standing(*history);
            if let Some(words) = &standing.panic {
                return Err(words.clone());
            }
            if standing.next.is_some() {
                return Err("roles wait for each other".into());
            }
        }
        let mut memory = state.memory.clone();
        turn::directly(&mut memory, || self.theatre.play.judge(&self.theatre.world))
    }

    /// The shortest failing schedule from `state` on.
    fn shortest(&mut self, mut state: State) -> Failing {
        let mut schedule = Vec::new();
        // After how many steps nothing can be saved any more.
        let mut lost_after = None;
        loop {
            let below = self.visit(&state);
            if lost_after.is_none() && below.all_fail() {
                lost_after = Some(schedule.len());
            }
            let Some((_, _, Some(role))) = below.shortest else {
                let saw_all =
                    self.limits.preemptions.is_none() && self.states < self.limits.states_max;
                return Failing {
                    doomed: lost_after
                        .filter(|_| saw_all)
                        .and_then(|n| n.checked_sub(1)),
                    schedule,
                };
            };
            schedule.push(role);
            let enabled: Vec<_> = (0..state.roles.len())
                .filter(|role| self.is_enabled(&state, *role))
                .collect();
            match self.step(&state, role, &enabled) {
                Some((next, _)) => state = next,
                None => {
                    return Failing {
                        schedule,
                        doomed: None,
                    };
                }
            }
        }
    }
}

impl State {
    fn key(&self) -> Key {
        Key {
            memory: self.memory.clone(),
            roles: self.roles.clone(),
            last: self.last,
            left: self.left,
            watched: self.watched,
        }
    }
}

impl Below {
    /// A schedule ends here.
    fn end(&mut self, failing: bool, watched: bool) {
        let one = Counts {
            explored: 1,
            failing: u128::from(failing),
        };
        self.counts = vec![one];
        if watched {
            self.watched = one;
        }
        self.shortest = failing.then_some((0, 0, None));
    }

    /// Whether no schedule from here on holds.
    fn all_fail(&self) -> bool {
        let sum = self.counts.iter();
        let sum = sum.fold(Counts::default(), |sum, counts| sum.plus(*counts));
        sum.explored > 0 && sum.failing == sum.explored
    }

    /// `role` may go first, and then everything below `next` may follow.
    fn add(&mut self, role: usize, preempted: usize, next: &Self) {
        if self.counts.len() < next.counts.len() + preempted {
            self.counts
                .resize(next.counts.len() + preempted, Counts::default());
        }
        for (sum, counts) in self.counts[preempted..].iter_mut().zip(&next.counts) {
            *sum = sum.plus(*counts);
        }
        self.watched = self.watched.plus(next.watched);
        if let Some((preemptions, steps, _)) = next.shortest {
            let way = (preemptions + preempted, steps + 1, Some(role));
            let is_shorter = |now: (usize, usize, _)| (way.0, way.1) < (now.0, now.1);
            if self.shortest.is_none_or(is_shorter) {
                self.shortest = Some(way);
            }
        }
    }
}
