//! The registry of races on the life of a buffer. Each is written once, and every engine runs it:
//! the explorer and the replay of a lab build, the model checker, and real threads.
//!
//! A [`Scenario`] is a start, two or three roles, and what must come of it under each protocol;
//! [`World`] has the buffers and the judge of the end. Where what was wrong wasn't the counting but
//! a practice around it, the scenario has both ([`Practice`]): as it was, everybody must lose. A
//! scenario whose broken side doesn't fail, or whose right one does, fails its tests: both outcomes
//! are part of what is claimed.

mod dirty_across_commit;
mod dropper_and_reuser;
mod end_of_io_and_last_free;
mod half_built;
mod insert_collision;
mod last_put_and_recache;
mod late_stale;
#[cfg(btrfuse_model)]
pub mod model;
#[cfg(all(test, btrfuse_model))]
mod model_tests;
pub mod mutants;
#[cfg(not(btrfuse_model))]
pub mod native;
mod read_and_reclaim;
mod reading_and_uptodate;
mod reclaim_and_reuser;
mod reread_over_new;
#[cfg(btrfuse_shuttle)]
pub mod scheduled;
mod setter_and_reuser;
mod setter_dropper_and_reuser;
mod two_droppers_and_reuser;
mod use_after_last_put;
mod world;
mod writeout_and_writer;

pub use dirty_across_commit::DIRTY_ACROSS_COMMIT;
pub use dropper_and_reuser::DROPPER_AND_REUSER;
pub use end_of_io_and_last_free::END_OF_IO_AND_LAST_FREE;
pub use half_built::HALF_BUILT;
pub use insert_collision::INSERT_COLLISION;
pub use last_put_and_recache::LAST_PUT_AND_RECACHE;
pub use late_stale::LATE_STALE;
pub use read_and_reclaim::READ_AND_RECLAIM;
pub use reading_and_uptodate::READING_AND_UPTODATE;
pub use reclaim_and_reuser::RECLAIM_AND_REUSER;
pub use reread_over_new::REREAD_OVER_NEW;
pub use setter_and_reuser::SETTER_AND_REUSER;
pub use setter_dropper_and_reuser::SETTER_DROPPER_AND_REUSER;
pub use two_droppers_and_reuser::TWO_DROPPERS_AND_REUSER;
pub use use_after_last_put::USE_AFTER_LAST_PUT;
pub use world::{Broken, Stage, World};
pub use writeout_and_writer::WRITEOUT_AND_WRITER;

use super::lifetime::Profile;
use super::protocol::Kind;

/// Every scenario, by letter.
pub const ALL: &[&Scenario] = &[
    &DROPPER_AND_REUSER,
    &SETTER_AND_REUSER,
    &RECLAIM_AND_REUSER,
    &SETTER_DROPPER_AND_REUSER,
    &TWO_DROPPERS_AND_REUSER,
    &WRITEOUT_AND_WRITER,
    &LAST_PUT_AND_RECACHE,
    &INSERT_COLLISION,
    &LATE_STALE,
    &READ_AND_RECLAIM,
    &HALF_BUILT,
    &DIRTY_ACROSS_COMMIT,
    &READING_AND_UPTODATE,
    &END_OF_IO_AND_LAST_FREE,
    &REREAD_OVER_NEW,
    &USE_AFTER_LAST_PUT,
];

/// A race, and what must come of it.
#[derive(Debug)]
pub struct Scenario {
    /// A letter, as reports call it.
    pub letter: char,
    /// A name, for options.
    pub name: &'static str,
    /// What meets what.
    pub title: &'static str,
    /// Where it was seen; `None` when it is our own.
    pub origin: Option<Origin>,
    /// How much of a cache it needs.
    pub stage: Stage,
    /// Makes the world as it is when the roles begin.
    pub setup: fn(&World),
    /// What each thread does.
    pub roles: &'static [Role],
    /// What must be true at the end beside what is always true.
    pub holds: fn(&World) -> Result<(), String>,
    /// Who loses, and on which processors; whoever isn't named wins everywhere.
    pub loses: &'static [(Kind, Where)],
    /// For whom the start can't come about, and why.
    pub not_applicable: &'static [(Kind, &'static str)],
    /// The practice that was wrong, where it wasn't the counting: everybody loses.
    pub was: Option<Practice>,
}

/// Where a race was seen.
#[derive(Debug)]
pub struct Origin {
    /// The year.
    pub year: u16,
    /// The upstream commit, if it is known here.
    pub commit: Option<&'static str>,
    /// The commit's or the mail's subject; a few words in brackets where we couldn't look it up.
    pub subject: &'static str,
}

/// One thread's part.
#[derive(Debug)]
pub struct Role {
    /// Whom it stands for.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&World),
}

/// Another way to do the same, which was wrong.
#[derive(Debug)]
pub struct Practice {
    /// What was done.
    pub words: &'static str,
    /// As [`Scenario::setup`].
    pub setup: fn(&World),
    /// As [`Scenario::roles`].
    pub roles: &'static [Role],
}

/// On which processors a protocol loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// On all of them.
    Everywhere,
    /// Wherever an atomic write isn't a full barrier by itself.
    Unfenced,
}

impl Where {
    fn includes(self, profile: Profile) -> bool {
        self == Self::Everywhere || profile != Profile::FullRmws
    }
}

/// A scenario as one engine runs it: with today's practice, or as it was.
#[derive(Clone, Copy, Debug)]
pub struct Play {
    /// The race.
    pub scenario: &'static Scenario,
    /// With the practice that was wrong.
    pub as_it_was: bool,
}

impl Play {
    /// Every scenario, and after it the way it was, where there is one.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.iter().flat_map(|scenario| {
            let play = |as_it_was| Self {
                scenario,
                as_it_was,
            };
            std::iter::once(play(false)).chain(scenario.was.is_some().then(|| play(true)))
        })
    }

    /// The plays that a letter or a name means, both ways; or that a letter with its mark means.
    pub fn named(name: &str) -> Vec<Self> {
        let is_meant = |play: &Self| {
            let letter = play.scenario.letter.to_string();
            play.scenario.name == name
                || letter.eq_ignore_ascii_case(name)
                || play.label().eq_ignore_ascii_case(name)
        };
        Self::all().filter(is_meant).collect()
    }

    fn practice(&self) -> Option<&'static Practice> {
        self.scenario.was.as_ref().filter(|_| self.as_it_was)
    }

    /// Makes the world as it is when the roles begin.
    pub fn setup(&self, world: &World) {
        self.practice()
            .map_or(self.scenario.setup, |practice| practice.setup)(world);
    }

    /// What each thread does.
    pub fn roles(&self) -> &'static [Role] {
        self.practice()
            .map_or(self.scenario.roles, |practice| practice.roles)
    }

    /// What is wrong at the end, if anything.
    pub fn judge(&self, world: &World) -> Result<(), String> {
        world.judge()?;
        (self.scenario.holds)(world)
    }

    /// The protocols that it says something about.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> + use<> {
        let play = *self;
        let is_in = move |kind: &Kind| play.not_applicable(*kind).is_none();
        Kind::ALL.iter().copied().filter(is_in)
    }

    /// Why it says nothing about `kind`, if it doesn't.
    pub fn not_applicable(&self, kind: Kind) -> Option<&'static str> {
        let mut out = self.scenario.not_applicable.iter();
        out.find(|(other, _)| *other == kind).map(|(_, why)| *why)
    }

    /// Whether `kind` has a schedule under `profile` that breaks a rule.
    pub fn must_lose(&self, kind: Kind, profile: Profile) -> bool {
        let loses = self.scenario.loses.iter();
        self.as_it_was
            || loses
                .filter(|(loser, _)| *loser == kind)
                .any(|(_, at)| at.includes(profile))
    }

    /// The letter, with a mark when it is played as it was.
    pub fn label(&self) -> String {
        let mark = if self.as_it_was { "'" } else { "" };
        format!("{}{mark}", self.scenario.letter)
    }
}
