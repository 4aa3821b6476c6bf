//! The interleaving of the report, forced.
//!
//! Three threads on a real tree: one holds an old path, one empties the leaf X on it and so frees
//! it, one splits another leaf and is given X's address. The last two steps of the first and the
//! steps of the third are held so that they meet as in 2015 (`docs/race-lab.md` has the table).
//! Owns: that schedule, and the judgement of what came of it.

use super::controller::{Controller, Role, Standing};
use super::stage::Stage;
use super::table::{self, Row};
use crate::error::{Error, Result};
use crate::extent_buffer::events::Event;
use crate::extent_buffer::{Kind, Violation};
use crate::sync::race_point::{Point, Seen, install_hook, remove_hook};
use crate::sync::{Arc, Mutex, thread};
use crate::units::Logical;
use std::time::Duration;

/// How long a finder must be seen waiting.
const WAIT_SEEN: Duration = Duration::from_millis(100);

/// One replay at a time: the hook is the process's.
static STAGE_IN_USE: Mutex<()> = Mutex::new(());

/// What came of a replay.
pub struct Outcome {
    /// The rules that it was played by.
    pub protocol: Kind,
    /// X.
    pub bytenr: Logical,
    /// Every step on X.
    pub rows: Vec<Row>,
    /// The broken rules.
    pub violations: Vec<Violation>,
    /// The finder waited for the dropper.
    pub finder_waited: bool,
    /// Where the schedule left the planned way, if it did.
    pub strayed: Option<String>,
}

impl Outcome {
    /// Whether the path holder's drop also dropped the tree's count.
    pub fn dropper_took_tree_ref(&self) -> bool {
        self.rows
            .iter()
            .any(|row| row.role == Role::PathHolder && row.what == Event::TreeRefDropped.words())
    }

    /// Whether a lookup of a stale buffer takes `refs_lock` by these rules.
    fn takes_a_lock(&self) -> bool {
        match self.protocol {
            Kind::Handshake | Kind::HandshakeAlways | Kind::CountUnderLock => true,
            Kind::Unfixed | Kind::Owned | Kind::PackedWord => false,
        }
    }

    /// What is not as it must be under these rules, if anything.
    pub fn judge(&self) -> std::result::Result<(), String> {
        if let Some(strayed) = &self.strayed {
            return Err(format!("the schedule did not come about: {strayed}"));
        }
        let freed_dirty = !self.violations.is_empty();
        match self.protocol {
            Kind::Unfixed if !freed_dirty => Err("the race must kill unfixed, and didn't".into()),
            Kind::Unfixed => Ok(()),
            kind if freed_dirty => Err(format!("{kind} must survive the race, and didn't")),
            _ if self.takes_a_lock() && !self.finder_waited => {
                Err("the finder must wait for refs_lock, and didn't".into())
            }
            _ if !self.takes_a_lock() && self.dropper_took_tree_ref() => {
                Err("a drop must not take the tree's count, and did".into())
            }
            _ => Ok(()),
        }
    }

    /// The steps as a table.
    pub fn table(&self) -> String {
        table::render(&self.rows)
    }

    /// The verdict in a sentence.
    pub fn verdict(&self) -> String {
        let kind = self.protocol;
        match (self.judge(), kind) {
            (Err(words), _) => format!("{kind}: NOT as expected: {words}"),
            (Ok(()), Kind::Unfixed) => format!(
                "{kind}: the buffer was freed while dirty, as expected; the transaction is \
                 aborted and nothing was written"
            ),
            (Ok(()), Kind::CountUnderLock) => format!(
                "{kind}: survived, as expected; the finder waited to count itself until the \
                 dropper had let go of refs_lock, found the buffer dead, and made another"
            ),
            (Ok(()), Kind::PackedWord) => format!(
                "{kind}: survived, as expected; the drop found three counts at the moment when it \
                 acted"
            ),
            (Ok(()), Kind::Handshake | Kind::HandshakeAlways) => format!(
                "{kind}: survived, as expected; the finder waited until the dropper had let go \
                 of refs_lock, and took the tree ref again"
            ),
            (Ok(()), Kind::Owned) => format!(
                "{kind}: survived, as expected; the drop took one count, its own, and DIRTY \
                 holds one"
            ),
        }
    }
}

/// Plays the report by the rules of `protocol`.
pub fn replay(protocol: Kind) -> Result<Outcome> {
    let _one_at_a_time = STAGE_IN_USE.lock();
    let stage = Stage::set(protocol)?;
    let violations = Arc::new(Mutex::new(Vec::new()));
    let seen = violations.clone();
    stage
        .ctx()
        .cache
        .on_violation(move |violation| seen.lock().push(violation.clone()));

    let controller = Arc::new(Controller::default());
    controller.watch(stage.victim.bytenr.0);
    install_hook(controller.clone());
    let played = play(&stage, &controller);
    remove_hook();
    let (finder_waited, mut strayed) = match played {
        Ok(waited) => (waited, None),
        Err(words) => (false, Some(words)),
    };
    let violations = std::mem::take(&mut *violations.lock());
    if strayed.is_none() {
        strayed = match violations.is_empty() {
            true => after(&stage).err().map(|error| error.to_string()),
            // What is in memory can't be believed any more, so nothing of it may be written.
            false => stage
                .engine
                .check_writable()
                .is_ok()
                .then(|| "the mount is still writable after a broken rule".into()),
        };
    }
    stage.ctx().cache.close_readahead();
    Ok(Outcome {
        protocol,
        bytenr: stage.victim.bytenr,
        rows: controller.rows(),
        violations,
        finder_waited,
        strayed,
    })
}

/// Runs the three threads through the schedule; tells whether the finder waited.
fn play(stage: &Stage, controller: &Controller) -> std::result::Result<bool, String> {
    thread::scope(|scope| {
        let spawn = |role: Role, part: fn(&Stage, &Controller) -> Result<()>| {
            thread::Builder::new()
                .name(role.name().into())
                .spawn_scoped(scope, move || {
                    controller.play(role, || part(stage, controller))
                })
                .map_err(|error| format!("no thread for {}: {error}", role.name()))
        };
        let schedule = || {
            let holder = spawn(Role::PathHolder, hold_path)?;
            controller.await_standing(Role::PathHolder)?;
            let deleter = spawn(Role::Deleter, delete_leaf)?;
            controller.await_standing(Role::Deleter)?;
            controller.stop_at(Role::Reuser, &[Point::LookupFound]);
            let reuser = spawn(Role::Reuser, allocate_block)?;
            controller.await_point(Role::Reuser, Point::LookupFound)?;
            let waited = meet(stage, controller)?;
            controller.open();
            for thread in [holder, deleter, reuser] {
                match thread.join() {
                    Ok(Ok(())) => {}
                    // After a broken rule the transaction is aborted under everybody's feet.
                    Ok(Err(Error::Aborted(_))) => {}
                    Ok(Err(error)) => return Err(error.to_string()),
                    Err(_) => return Err("a thread panicked".into()),
                }
            }
            Ok(waited)
        };
        let result = schedule();
        controller.open();
        result
    })
}

/// From step 6 of the report on: the holder's drop and the reuser's lookup meet.
fn meet(stage: &Stage, controller: &Controller) -> std::result::Result<bool, String> {
    let decided = match stage.engine.ctx.cache.protocol() {
        // Nothing is decided before it is done: the drop is one step, held right before it.
        Kind::Owned | Kind::PackedWord => Point::DropEnter,
        Kind::Unfixed | Kind::Handshake | Kind::HandshakeAlways | Kind::CountUnderLock => {
            Point::DropTested
        }
    };
    controller.stop_at(Role::PathHolder, &[decided]);
    controller.let_go(Role::PathHolder);
    controller.await_point(Role::PathHolder, decided)?;

    controller.stop_at(Role::Reuser, &[Point::LookupWaits, Point::DropEnter]);
    controller.let_go(Role::Reuser);
    let waited = match controller.await_standing(Role::Reuser)? {
        Standing::At(Point::LookupWaits) => {
            controller.stop_at(Role::Reuser, &[Point::DropEnter]);
            controller.let_go(Role::Reuser);
            if !controller.stays_put(Role::Reuser, WAIT_SEEN) {
                return Err("the finder said that it waits, and went on".into());
            }
            let words = format!("finder: still waits after {} ms", WAIT_SEEN.as_millis());
            controller.tell(Role::Reuser, words, look(stage));
            true
        }
        Standing::At(Point::DropEnter) => false,
        other => return Err(format!("{} stands {other:?}", Role::Reuser.name())),
    };
    controller.let_go(Role::PathHolder);
    match controller.await_standing(Role::PathHolder)? {
        Standing::Ended => {}
        other => return Err(format!("{} stands {other:?}", Role::PathHolder.name())),
    }
    controller.await_point(Role::Reuser, Point::DropEnter)?;
    controller.let_go(Role::Reuser);
    Ok(waited)
}

/// CPU0: has come by the leaf on its path, and lets it go at last.
fn hold_path(stage: &Stage, controller: &Controller) -> Result<()> {
    let cursor = stage.ctx().search(&stage.root, &stage.victim.first)?;
    controller.tell(Role::PathHolder, "holds X on its path", look(stage));
    controller.ready(Role::PathHolder);
    drop(cursor);
    Ok(())
}

/// CPU1: deletes everything in the leaf, which frees it; its range is reusable at once.
fn delete_leaf(stage: &Stage, controller: &Controller) -> Result<()> {
    let trans = stage.ctx().transactions.join()?;
    controller.tell(Role::Deleter, "deletes all items of X", look(stage));
    let range = stage.victim.first..=stage.victim.last;
    stage.ctx().delete_range(&trans, &stage.root, range)?;
    controller.tell(
        Role::Deleter,
        "has freed X; its range is reusable",
        look(stage),
    );
    Ok(())
}

/// CPU2: inserts into a full leaf; the split is given X's address.
fn allocate_block(stage: &Stage, controller: &Controller) -> Result<()> {
    controller.tell(Role::Reuser, "inserts into a full leaf, which splits", None);
    stage.insert_splitter()
}

/// The count and the flags of X, without taking part.
fn look(stage: &Stage) -> Option<Seen> {
    stage.ctx().cache.peek(stage.victim.bytenr)
}

/// Nothing was broken: the tree is whole, and a commit makes it durable.
fn after(stage: &Stage) -> Result<()> {
    if stage
        .ctx()
        .cache
        .find(stage.victim.bytenr)
        .is_none_or(|eb| !eb.is_dirty())
    {
        return Err(Error::corrupt(
            "the new block at X's address is not in the cache, dirty",
        ));
    }
    stage.ctx().verify_tree(&stage.root)?;
    stage.engine.committer.commit()?;
    stage.ctx().cache.shrink_to(0);
    stage.ctx().verify_tree(&stage.root)?;
    Ok(())
}
