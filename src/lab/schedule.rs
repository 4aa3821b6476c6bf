//! A schedule that breaks somebody, forced on real threads by whatever rules.
//!
//! Owns: [`Cue`]s, taken from the explorer's shortest failing schedule, and the director who holds
//! real threads at the [`gate`](crate::sync::stepped::gate) of each access until it is their turn. A
//! cue says how far a role goes: up to a race point, up to an access, or to its end. So one schedule
//! can be asked of protocols whose steps differ: who can't go on, as a lock is held, is left where
//! it stands, and goes on when it can. By the rules that it was found with, the schedule is the
//! same step for step, and must end the same.

use super::explore::trace::{empties, words};
use super::explore::{Limits, Mark, Step, Trace, explore};
use crate::extent_buffer::Kind;
use crate::extent_buffer::lifetime::Profile;
use crate::extent_buffer::protocol::Protocol;
use crate::extent_buffer::scenarios::mutants::MUTANTS;
use crate::extent_buffer::scenarios::{Broken, Play, World};
use crate::sync::race_point::Point;
use crate::sync::stepped::gate::{self, Gate, Passed, Standing};
use crate::sync::stepped::turn;
use crate::sync::thread;

/// How far a role goes in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// It stands at this race point, for the n-th time.
    At(Point, usize),
    /// It stands before its n-th access of this kind of the cell of this name.
    Before(&'static str, turn::Kind, usize),
    /// It has ended.
    End,
}

/// One line of a written schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cue {
    /// Who goes.
    pub role: usize,
    /// How far.
    pub until: Until,
}

/// A schedule, and where it comes from.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Its lines.
    pub cues: Vec<Cue>,
    /// By whose rules it breaks.
    pub source: String,
    /// The explorer's steps, by role, and after which no order of the rest held, if it knows.
    explored: Vec<(usize, String)>,
    decided: Option<usize>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Forced {
    /// Every step, as the threads did it.
    pub trace: Trace,
    /// Whether a rule was broken.
    pub broken: bool,
}

impl Cue {
    /// The lines of a trace: a line wherever another role goes on.
    fn of(trace: &Trace) -> Vec<Self> {
        let steps = &trace.steps;
        let is_last_of_run = |n: &usize| {
            steps
                .get(n + 1)
                .is_none_or(|next| next.role != steps[*n].role)
        };
        let runs = (0..steps.len()).filter(is_last_of_run);
        runs.map(|n| Self {
            role: steps[n].role,
            until: Until::after(steps, n),
        })
        .collect()
    }
}

impl Until {
    /// Where the role of step `n` stands after it.
    fn after(steps: &[Step], n: usize) -> Self {
        let role = steps[n].role;
        let mine = |step: &&Step| step.role == role;
        let Some(next) = steps[n + 1..].iter().find(mine) else {
            return Self::End;
        };
        let before = || steps[..=n].iter().filter(mine);
        match steps[n].point {
            Some(point) => {
                let times = before().filter(|step| step.point == Some(point)).count();
                Self::At(point, times)
            }
            None => {
                let same = |step: &&Step| step.cell == next.cell && step.kind == next.kind;
                Self::Before(next.cell, next.kind, before().filter(same).count() + 1)
            }
        }
    }
}

/// The schedule that a trace has gone by, which broke the rules of `source`.
pub fn of(trace: &Trace, source: &str) -> Schedule {
    Schedule {
        cues: Cue::of(trace),
        source: source.to_owned(),
        explored: done(&trace.steps),
        decided: trace
            .steps
            .iter()
            .position(|step| step.mark == Some(Mark::Decided)),
    }
}

/// Who did what.
fn done(steps: &[Step]) -> Vec<(usize, String)> {
    let done = |step: &Step| (step.role, step.what.clone());
    steps.iter().map(done).collect()
}

/// The schedule that is asked of `kind` in `play`: the shortest that breaks these very rules; where
/// none does, the shortest that breaks those of 2013, a mutant, or the practice as it was.
pub fn written(play: Play, kind: Kind) -> Option<Schedule> {
    let failing = |play: Play, rules: &'static dyn Protocol| {
        explore(play, rules, Limits::default(), None).failure
    };
    let as_it_was = Play {
        as_it_was: true,
        ..play
    };
    let mut sources = vec![
        (play, kind.rules(), kind.name().to_owned()),
        (play, Kind::Unfixed.rules(), Kind::Unfixed.name().to_owned()),
    ];
    let mutants = MUTANTS
        .iter()
        .filter(|mutant| mutant.play().label() == play.label());
    sources.extend(mutants.map(|mutant| (play, mutant.rules, mutant.rules.name().to_owned())));
    if play.scenario.was.is_some() {
        let words = format!("{kind}, as it was");
        sources.push((as_it_was, kind.rules(), words));
    }
    sources
        .into_iter()
        .find_map(|(play, rules, words)| Some(of(&failing(play, rules)?, &words)))
}

/// Forces a schedule on real threads. Fails when it doesn't come about: threads that wait for each
/// other, or come nowhere.
pub fn force(
    play: Play,
    rules: &'static dyn Protocol,
    schedule: &Schedule,
) -> Result<Forced, String> {
    let (world, names) = gate::build(|| {
        let world = World::new(rules, Profile::NATIVE, play.scenario.stage);
        world.call_cells();
        world
    });
    play.setup(&world);
    let roles = play.roles();
    let gate = Gate::for_roles(roles.len());
    let mut director = Director {
        gate: &gate,
        names: &names,
        world: &world,
        held: vec![false; names.len()],
        points: Vec::new(),
        steps: Vec::new(),
        broken: None,
    };
    let directed = thread::scope(|scope| {
        for (n, role) in roles.iter().enumerate() {
            let (gate, world) = (&gate, &world);
            scope.spawn(move || gate.play(n, || (role.run)(world)));
        }
        let directed = director.direct(&schedule.cues, roles.len());
        gate.open();
        directed
    });
    directed?;
    let verdict = play.judge(&world);
    let broken = verdict.is_err();
    let mut trace = Trace {
        roles: roles.iter().map(|role| role.name).collect(),
        steps: director.steps,
        words: verdict.err().unwrap_or_else(|| "no rule broken".into()),
    };
    if broken {
        // Threads can't be asked what another order would have come to; the explorer was, where they
        // did what it wrote.
        let is_the_same = done(&trace.steps) == schedule.explored;
        trace.mark(director.broken, schedule.decided.filter(|_| is_the_same));
    }
    Ok(Forced { trace, broken })
}

struct Director<'a> {
    gate: &'a Gate,
    names: &'a [&'static str],
    world: &'a World,
    /// Which cells are locks that somebody holds.
    held: Vec<bool>,
    /// Race points that a role came to, in order.
    points: Vec<(usize, Point)>,
    steps: Vec<Step>,
    /// After which a rule was broken, and how.
    broken: Option<(usize, Broken)>,
}

impl Director<'_> {
    fn direct(&mut self, cues: &[Cue], roles: usize) -> Result<(), String> {
        let first = self.gate.await_all()?;
        for role in 0..first.len() {
            let passed = self.gate.passed(role);
            self.points.extend(passed.point.map(|point| (role, point)));
        }
        for cue in cues {
            while !self.is_there(cue)? && self.go(cue.role)? {}
        }
        // The schedule is over; who is left ends, in the order of the roles.
        while (0..roles).try_fold(false, |any, role| Ok::<_, String>(any || self.go(role)?))? {}
        let left = self.gate.await_all()?;
        match left.iter().all(|standing| *standing == Standing::Ended) {
            true => Ok(()),
            false => Err("the roles wait for each other".into()),
        }
    }

    /// Whether a role stands where its cue says, or has ended before.
    fn is_there(&self, cue: &Cue) -> Result<bool, String> {
        let standing = self.gate.await_all()?[cue.role];
        let Standing::Before(request) = standing else {
            return Ok(true);
        };
        Ok(match cue.until {
            Until::End => false,
            Until::At(point, times) => {
                let came = self
                    .points
                    .iter()
                    .filter(|came| **came == (cue.role, point));
                came.count() >= times
            }
            Until::Before(cell, kind, times) => {
                let same =
                    |step: &&Step| step.role == cue.role && step.cell == cell && step.kind == kind;
                let done = self.steps.iter().filter(same).count();
                let is_next = self.names[request.cell as usize] == cell && request.kind == kind;
                done >= times || is_next && done + 1 == times
            }
        })
    }

    /// Lets a role do one access; false when it has ended, or waits for a lock.
    fn go(&mut self, role: usize) -> Result<bool, String> {
        let Standing::Before(request) = self.gate.await_all()?[role] else {
            return Ok(false);
        };
        if request.kind == turn::Kind::Lock && self.held[request.cell as usize] {
            return Ok(false);
        }
        self.gate.let_through(role);
        self.gate.await_all()?;
        let passed = self.gate.passed(role);
        self.note(role, passed);
        Ok(true)
    }

    fn note(&mut self, role: usize, passed: Passed) {
        let Some(request) = passed.request else {
            return;
        };
        let cell = self.names[request.cell as usize];
        match request.kind {
            turn::Kind::Lock => self.held[request.cell as usize] = true,
            turn::Kind::Unlock => self.held[request.cell as usize] = false,
            turn::Kind::Number => {}
        }
        self.points.extend(passed.point.map(|point| (role, point)));
        if self.broken.is_none() {
            self.broken = self.world.broken().map(|how| (self.steps.len(), how));
        }
        self.steps.push(Step {
            role,
            cell,
            kind: request.kind,
            point: passed.point,
            what: words(cell, request.kind, passed.values),
            remarks: passed.remarks,
            // Nobody moves: all stand at gates.
            seen: self.world.life.seen(),
            empties: empties(cell, passed.values),
            mark: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells() -> impl Iterator<Item = (Play, Kind)> {
        Play::all().flat_map(|play| play.kinds().map(move |kind| (play, kind)))
    }

    /// Both sides: who must lose is broken by its schedule, who must win isn't by the same one.
    #[test]
    fn forced_on_real_threads_every_scenario_has_the_registry_s_verdict() {
        for (play, kind) in cells() {
            let label = format!("{} under {kind}", play.label());
            let schedule = written(play, kind).unwrap_or_else(|| panic!("{label}: no schedule"));
            let forced = force(play, kind.rules(), &schedule).unwrap();
            let must = play.must_lose(kind, Profile::FullRmws);
            assert_eq!(forced.broken, must, "{label}:\n{}", forced.trace.table());
        }
    }

    #[test]
    fn the_threads_do_what_the_explorer_wrote_step_for_step() {
        for (play, kind) in cells() {
            let found = explore(play, kind.rules(), Limits::default(), None);
            let Some(trace) = found.failure else {
                continue;
            };
            let schedule = written(play, kind).unwrap();
            let forced = force(play, kind.rules(), &schedule).unwrap();
            let steps = |trace: &Trace| -> Vec<_> {
                let of = trace.steps.iter();
                of.map(|step| (step.role, step.what.clone(), step.seen))
                    .collect()
            };
            let label = format!("{} under {kind}", play.label());
            assert_eq!(steps(&trace), steps(&forced.trace), "{label}");
            assert_eq!(trace.words, forced.trace.words, "{label}");
            let marks =
                |trace: &Trace| -> Vec<_> { trace.steps.iter().map(|step| step.mark).collect() };
            assert_eq!(marks(&trace), marks(&forced.trace), "{label}");
        }
    }
}
