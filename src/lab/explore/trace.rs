//! One schedule, step by step, for people.

use super::Theatre;
use super::search::Failing;
use crate::extent_buffer::flags::Flags;
use crate::extent_buffer::scenarios::Broken;
use crate::sync::race_point::{Point, Seen};
use crate::sync::stepped::turn::{self, Kind};
use serde::Serialize;
use std::fmt::Write;

/// What the marks of a drawn schedule mean.
pub const MARKS: &str = "One step of a failing schedule is marked. ✗, in tables \"breaks the rule\", is \
    the one that broke it: where a dirty buffer was freed, the access that took its count to 0. Where \
    only the end is judged, no step broke anything: ▷, \"decided from here on\", is the first after \
    which every order of the rest fails, or, where not all orders were seen, the last.";

/// What a step has to do with the broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// It broke the rule.
    Breaks,
    /// The end breaks it, and after this step there is no other end.
    Decided,
    /// The end breaks it, and this is the last step; what other orders come to isn't known.
    End,
}

impl Mark {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Breaks => "breaks the rule",
            Self::Decided => "decided from here on: no order of the rest holds",
            Self::End => "the end is judged after this",
        }
    }

    /// In a sign.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Breaks => "✗",
            Self::Decided | Self::End => "▷",
        }
    }

    /// As it stands at the end of a line.
    pub fn margin(mark: Option<Self>) -> String {
        mark.map_or_else(String::new, |mark| format!("  <-- {}", mark.words()))
    }
}

/// A step of a schedule.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which role.
    pub role: usize,
    /// What its access was of.
    pub cell: &'static str,
    /// What it was.
    pub kind: Kind,
    /// The race point that the role stands at after it, if it came to one.
    pub point: Option<Point>,
    /// Its access.
    pub what: String,
    /// What it said of itself then.
    pub remarks: Vec<&'static str>,
    /// Count and flags of the buffer after it.
    pub seen: Seen,
    /// Whether it took the count of a buffer to 0.
    pub empties: bool,
    /// What it has to do with the broken rule; of one step only ([`Trace::mark`]).
    pub mark: Option<Mark>,
}

/// A schedule and what came of it.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The roles' names.
    pub roles: Vec<&'static str>,
    /// The steps.
    pub steps: Vec<Step>,
    /// What is wrong at the end.
    pub words: String,
}

/// Plays a schedule: the roles in the order of their steps.
pub(super) fn play_again(theatre: &Theatre, failing: &Failing) -> Trace {
    let roles = theatre.play.roles();
    let world = &theatre.world;
    let mut memory = theatre.start.clone();
    let mut seen = vec![Vec::new(); roles.len()];
    for (role, seen) in roles.iter().zip(&mut seen) {
        turn::advance(&mut memory, seen, true, || (role.run)(world));
    }
    let mut steps: Vec<Step> = Vec::new();
    let (mut broken_at, mut panic) = (None, None);
    let mut next = vec![true; roles.len()];
    for &role in &failing.schedule {
        let turn = turn::advance(&mut memory, &mut seen[role], false, || {
            (roles[role].run)(world)
        });
        panic = panic.or(turn.panic);
        next[role] = turn.next.is_some();
        if broken_at.is_none() {
            let broken = turn::directly(&mut memory, || world.broken());
            broken_at = broken.map(|how| (steps.len(), how));
        }
        let request = turn.done.map(|done| done.request);
        steps.push(Step {
            role,
            cell: request.map_or("", |request| theatre.names[request.cell as usize]),
            kind: request.map_or(Kind::Number, |request| request.kind),
            point: turn.point,
            what: turn.done.map_or_else(String::new, |done| {
                let name = theatre.names[done.request.cell as usize];
                words(name, done.request.kind, (done.before, done.after))
            }),
            remarks: turn.remarks,
            empties: turn.done.is_some_and(|done| {
                empties(
                    theatre.names[done.request.cell as usize],
                    (done.before, done.after),
                )
            }),
            seen: turn::directly(&mut memory, || world.life.seen()),
            mark: None,
        });
    }
    let waiting = next.contains(&true);
    let verdict = turn::directly(&mut memory, || theatre.play.judge(world));
    let verdict = match waiting {
        true => Err("roles wait for each other".into()),
        false => verdict,
    };
    let ended = panic.map_or(verdict, Err);
    let broken = ended.is_err();
    let mut trace = Trace {
        roles: roles.iter().map(|role| role.name).collect(),
        steps,
        words: ended.err().unwrap_or_else(|| "no rule broken".into()),
    };
    if broken {
        trace.mark(broken_at, failing.doomed);
    }
    trace
}

/// What an access of the cell `name` did.
pub fn words(name: &str, kind: Kind, (before, after): (u64, u64)) -> String {
    let show = |value: u64| match name {
        "flags" => Flags(value as u32 & 0xff).to_string(),
        _ => value.to_string(),
    };
    match kind {
        Kind::Lock => format!("takes {name}"),
        Kind::Unlock => format!("releases {name}"),
        Kind::Number if before == after => format!("reads {name}: {}", show(after)),
        Kind::Number => format!("{name}: {} → {}", show(before), show(after)),
    }
}

/// Whether an access of the cell `name` took a count to 0. A word that has flags beside the count has
/// no name of its own here: by its rules nothing dirty is freed.
pub fn empties(name: &str, (before, after): (u64, u64)) -> bool {
    name == "refs" && before > 0 && after == 0
}

impl Trace {
    /// Marks where it went wrong: `broken` is the step after which a rule was seen broken, and how.
    /// When none was and the end is, it is the first step after which no order of the rest holds,
    /// where that is known, or else the last.
    pub fn mark(&mut self, broken: Option<(usize, Broken)>, doomed: Option<usize>) {
        let doomed = doomed.filter(|n| *n < self.steps.len());
        let (n, mark) = match (broken, doomed) {
            (Some((n, Broken::FreedUnderIo)), _) => (self.emptied(n).unwrap_or(n), Mark::Breaks),
            (Some((n, Broken::Otherwise)), _) => (n, Mark::Breaks),
            (None, Some(n)) => (n, Mark::Decided),
            (None, None) => (self.steps.len().saturating_sub(1), Mark::End),
        };
        if let Some(step) = self.steps.get_mut(n) {
            step.mark = Some(mark);
        }
    }

    /// The access that took a count to 0, for whoever found at step `n` that it mustn't be.
    fn emptied(&self, n: usize) -> Option<usize> {
        let upto = self.steps.get(..=n)?;
        let role = upto[n].role;
        upto.iter()
            .rposition(|step| step.role == role && step.empties)
    }

    /// As a table: a line a step, the fatal one marked.
    pub fn table(&self) -> String {
        let who = |step: &Step| self.roles[step.role];
        let width = |of: &dyn Fn(&Step) -> usize| self.steps.iter().map(of).max().unwrap_or(0);
        let what = width(&|step| step.what.chars().count());
        let name = width(&|step| who(step).chars().count());
        let mut table = String::new();
        for (n, step) in self.steps.iter().enumerate() {
            let mark = Mark::margin(step.mark);
            // Writing to a string can't fail.
            let _ = writeln!(
                table,
                "{:>4}  {:<name$}  {:<what$}  refs {:<2} {:<8} {}{mark}",
                n + 1,
                who(step),
                step.what,
                step.seen.refs,
                Flags(step.seen.flags).letters(),
                step.remarks.join("; "),
            );
        }
        table
    }
}
