//! A snapshot of the stage's tree, as a commit makes one.

use super::items;
use super::roles::{ITEM, ITEMS, contents, key};
use crate::btree::{Root, TreeContext};
use crate::commit::{CommitHooks, LoneEdit};
use crate::error::{Error, Result};
use crate::lab::stage::Stage;
use crate::ondisk::key::{Key, kind};
use crate::sync::{Arc, Weak, unmodelled};
use crate::transaction::TransHandle;

/// The number of the first subvolume.
const NUMBER: u64 = 256;

/// The snapshot that a play takes, if it does.
pub(super) struct Snapshots {
    ctx: Arc<TreeContext>,
    source: Arc<Root>,
    state: unmodelled::Mutex<State>,
}

#[derive(Default)]
struct State {
    wanted: bool,
    made: Option<Made>,
}

struct Made {
    root: Arc<Root>,
    /// All that it held when it was made, while nobody could change anything.
    held: Vec<(Key, Vec<u8>)>,
}

impl Snapshots {
    /// None is wanted yet.
    pub(super) fn of(stage: &Stage) -> Arc<Self> {
        let snapshots = Arc::new(Self {
            ctx: stage.ctx().clone(),
            source: stage.root.clone(),
            state: unmodelled::Mutex::default(),
        });
        let hooks: Weak<dyn CommitHooks> = Arc::<Self>::downgrade(&snapshots);
        stage.engine.committer.set_hooks(hooks);
        snapshots
    }

    /// Has the next commit take it.
    pub(super) fn take(&self, stage: &Stage) -> Result<()> {
        self.state.lock().wanted = true;
        stage.engine.committer.commit()
    }

    /// Planted: somebody takes it for its source, and writes to it.
    pub(super) fn change(&self, stage: &Stage) -> Result<()> {
        let made = self
            .state
            .lock()
            .made
            .as_ref()
            .map(|made| made.root.clone());
        let made = made.ok_or_else(|| Error::corrupt("no commit took the snapshot"))?;
        let trans = stage.ctx().transactions.join()?;
        stage
            .ctx()
            .insert(&trans, &made, &key(3, 1), &contents(3, 1))
    }

    /// It is whole, and holds what was there when it was made: of a writer the first of what that
    /// inserted in order.
    pub(super) fn hold_what_was_there(&self, stage: &Stage) -> Result<()> {
        let state = self.state.lock();
        let Some(Made { root, held }) = &state.made else {
            return Err(Error::corrupt("no commit took the snapshot"));
        };
        if items(stage.ctx(), root)? != *held {
            return Err(Error::corrupt("the snapshot has changed"));
        }
        let of_writer =
            |(at, _): &&(Key, Vec<u8>)| at.kind == ITEM && (key(1, 1)..=key(1, ITEMS)).contains(at);
        for (nth, (at, data)) in (1..).zip(held.iter().filter(of_writer)) {
            if *at != key(1, nth) || *data != contents(1, nth) {
                let words = format!("the snapshot has {at} in place {nth}");
                return Err(Error::corrupt(words));
            }
        }
        Ok(())
    }

    /// What a later mount reads of it is the same.
    pub(super) fn compare(&self, later: &TreeContext) -> Result<()> {
        let state = self.state.lock();
        let Some(made) = &state.made else {
            return Ok(());
        };
        let root = later.roots.get(later, NUMBER)?;
        match items(later, &root)? == made.held {
            true => Ok(()),
            false => Err(Error::corrupt("a later mount reads another snapshot")),
        }
    }

    fn make(&self, trans: &TransHandle) -> Result<()> {
        let key = Key::new(NUMBER, kind::ROOT_ITEM, trans.transid().get());
        let root = self.ctx.copy_tree(trans, &self.source, key, |_| ())?;
        let held = items(&self.ctx, &root)?;
        self.state.lock().made = Some(Made { root, held });
        Ok(())
    }
}

impl CommitHooks for Snapshots {
    fn flush_delayed_items(&self, _: &TransHandle) -> Result<()> {
        Ok(())
    }

    fn next_lone_edit(&self) -> Option<LoneEdit<'_>> {
        let wanted = std::mem::take(&mut self.state.lock().wanted);
        wanted.then(|| -> LoneEdit<'_> { Box::new(|trans| self.make(trans)) })
    }
}
