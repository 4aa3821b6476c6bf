//! One schedule, step by step, for people.

use super::Theatre;
use super::search::Failing;
use crate::extent_buffer::flags::Flags;
use crate::sync::race_point::{Point, Seen};
use crate::sync::stepped::turn::{self, Kind};
use std::fmt::Write;

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
    /// Whether this is the step that broke a rule, or after which one must break ([`Trace::mark`]).
    pub fatal: bool,
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
    let (mut was_broken, mut panic) = (false, None);
    let mut next = vec![true; roles.len()];
    for &role in &failing.schedule {
        let turn = turn::advance(&mut memory, &mut seen[role], false, || {
            (roles[role].run)(world)
        });
        panic = panic.or(turn.panic);
        next[role] = turn.next.is_some();
        let is_broken = turn::directly(&mut memory, || world.is_broken());
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
            seen: turn::directly(&mut memory, || world.life.seen()),
            fatal: is_broken && !was_broken,
        });
        was_broken = is_broken;
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
        trace.mark(failing.doomed);
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

impl Trace {
    /// Marks where it went wrong, when no step broke a rule by itself and the end did: the first step
    /// after which no order of the rest holds, where it is known, or else the last.
    pub fn mark(&mut self, doomed: Option<usize>) {
        if self.steps.iter().any(|step| step.fatal) {
            return;
        }
        let (marked, words) = match doomed.and_then(|n| self.steps.get_mut(n)) {
            Some(step) => (Some(step), "no order of the rest holds"),
            None => (self.steps.last_mut(), "the end is judged after this"),
        };
        if let Some(step) = marked {
            step.fatal = true;
            step.remarks.push(words);
        }
    }

    /// As a table: a line a step, the fatal one marked.
    pub fn table(&self) -> String {
        let who = |step: &Step| self.roles[step.role];
        let width = |of: &dyn Fn(&Step) -> usize| self.steps.iter().map(of).max().unwrap_or(0);
        let what = width(&|step| step.what.chars().count());
        let name = width(&|step| who(step).chars().count());
        let mut table = String::new();
        for (n, step) in self.steps.iter().enumerate() {
            let mark = if step.fatal {
                "  <-- breaks the rule"
            } else {
                ""
            };
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
