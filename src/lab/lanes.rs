//! A schedule as lanes: who did what, one thread a lane, and the buffer after each step.
//!
//! Owns: the one shape in which the replay on the real tree and the explorer's traces are drawn,
//! whatever draws them ([`drawing`](super::drawing), [`report`](super::report)).

use super::controller::Role;
use super::explore::{Mark, Trace};
use super::replay::Outcome;
use super::schedule::Forced;
use super::table::Row;
use crate::extent_buffer::events::Event;
use crate::extent_buffer::flags::Flags;
use serde::Serialize;

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub struct Lanes {
    /// What is shown.
    pub title: String,
    /// The threads, by lane.
    pub names: Vec<String>,
    /// What they did, in order.
    pub steps: Vec<Step>,
    /// Whether a rule is broken at the end.
    pub broken: bool,
    /// The end isn't what it must be, though no rule broke: nothing held, either.
    pub strayed: bool,
    /// The end in words.
    pub ending: String,
}

/// A step of one thread.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Whose.
    pub lane: usize,
    /// What it did.
    pub what: String,
    /// What that means for it, if it said so.
    pub remarks: Vec<String>,
    /// The count after it, where it was looked at.
    pub refs: Option<u32>,
    /// The flags after it: T tree ref, D dirty, S stale, W writeback, R being read.
    pub flags: String,
    /// What it has to do with the broken rule.
    pub mark: Option<Mark>,
}

impl Lanes {
    /// The replay of 2015, without the lookups by which the first two threads came to the buffer.
    pub fn of_replay(outcome: &Outcome) -> Self {
        let roles = [Role::PathHolder, Role::Deleter, Role::Reuser];
        let broken = !outcome.violations.is_empty();
        let freed = Event::Freed.words();
        let step = |row: &Row| Step {
            lane: roles.iter().position(|role| *role == row.role).unwrap_or(0),
            what: plain(&row.what).to_owned(),
            remarks: Vec::new(),
            refs: row.seen.map(|seen| seen.refs),
            flags: row
                .seen
                .map_or_else(String::new, |seen| Flags(seen.flags).letters()),
            mark: (broken && row.what == freed).then_some(Mark::Breaks),
        };
        Self {
            title: format!(
                "The race of 2015 on one extent buffer, protocol {}",
                outcome.protocol
            ),
            names: roles.iter().map(|role| role.name().to_owned()).collect(),
            steps: drawn(&outcome.rows).into_iter().map(step).collect(),
            broken,
            strayed: !broken && outcome.judge().is_err(),
            ending: outcome.verdict(),
        }
    }

    /// A schedule that was forced on real threads.
    pub fn of_forced(title: String, forced: &Forced) -> Self {
        Self {
            broken: forced.broken,
            ..Self::of_trace(title, &forced.trace)
        }
    }

    /// A failing schedule that the explorer found.
    pub fn of_trace(title: String, trace: &Trace) -> Self {
        let steps = trace.steps.iter().map(|step| Step {
            lane: step.role,
            what: step.what.clone(),
            remarks: step.remarks.iter().map(|words| (*words).into()).collect(),
            refs: Some(step.seen.refs),
            flags: Flags(step.seen.flags).letters(),
            mark: step.mark,
        });
        Self {
            title,
            names: trace.roles.iter().map(|name| (*name).to_owned()).collect(),
            steps: steps.collect(),
            broken: true,
            strayed: false,
            ending: trace.words.clone(),
        }
    }

    /// The end in a sign.
    pub fn sign(&self) -> &'static str {
        match (self.broken, self.strayed) {
            (true, _) => "✗",
            (false, true) => "?",
            (false, false) => "✓",
        }
    }
}

/// The steps from the moment on when both paths lead to the buffer.
fn drawn(rows: &[Row]) -> Vec<&Row> {
    let first = |event: Event| rows.iter().position(|row| row.what == event.words());
    let begun = first(Event::Cleaned).unwrap_or(0);
    let is_drawn = |(n, row): &(usize, &Row)| {
        let tells = !row.what.contains(": ");
        let drops = row.what.ends_with("is about to drop its count");
        !drops && (tells || *n >= begun)
    };
    rows.iter()
        .enumerate()
        .filter(is_drawn)
        .map(|(_, row)| row)
        .collect()
}

/// The words without the part that the lane says already.
fn plain(what: &str) -> &str {
    what.split_once(": ").map_or(what, |(_, words)| words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extent_buffer::Kind;
    use crate::extent_buffer::scenarios::Play;
    use crate::lab::explore::{Limits, explore};
    use crate::lab::replay::replay;

    #[test]
    fn the_fatal_step_is_marked_once_and_only_where_a_rule_broke() {
        let fatal = |lanes: &Lanes| {
            let marks = lanes.steps.iter().filter_map(|step| step.mark);
            marks.filter(|mark| *mark == Mark::Breaks).count()
        };
        let broken = Lanes::of_replay(&replay(Kind::Unfixed).unwrap());
        assert!(broken.broken && fatal(&broken) == 1, "{broken:#?}");
        let held = Lanes::of_replay(&replay(Kind::Owned).unwrap());
        assert!(!held.broken && fatal(&held) == 0, "{held:#?}");
        let play = Play::named("A")[0];
        let found = explore(play, Kind::Unfixed.rules(), Limits::default(), None);
        let trace = found.failure.unwrap();
        let drawn = Lanes::of_trace("A".into(), &trace);
        assert_eq!(fatal(&drawn), 1, "{drawn:#?}");
        assert_eq!(drawn.steps.len(), trace.steps.len());
    }

    /// What went otherwise than planned neither broke a rule nor held.
    #[test]
    fn a_replay_that_strayed_is_not_drawn_as_survived() {
        let mut outcome = replay(Kind::Owned).unwrap();
        assert_eq!(Lanes::of_replay(&outcome).sign(), "✓");
        outcome.strayed = Some("somebody came late".into());
        let lanes = Lanes::of_replay(&outcome);
        assert_eq!((lanes.sign(), lanes.broken), ("?", false));
        assert!(lanes.ending.contains("somebody came late"), "{lanes:?}");
        assert!(!lanes.ending.contains("survived"), "{lanes:?}");
    }
}
