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
    made: Option<Arc<Root>>,
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

    /// It is whole, and holds the first of what a writer inserted in order, and nothing from later.
    pub(super) fn hold_what_was_there(&self, stage: &Stage) -> Result<()> {
        let made = self.state.lock().made.clone();
        let made = made.ok_or_else(|| Error::corrupt("no commit took the snapshot"))?;
        let held = items(stage.ctx(), &made)?;
        let mut nth = 0;
        for (at, data) in &held {
            if at.kind != ITEM || *at < key(1, 1) || *at > key(1, ITEMS) {
                continue;
            }
            nth += 1;
            if *at != key(1, nth) || *data != contents(1, nth) {
                return Err(Error::corrupt(format!(
                    "the snapshot has {at} in place {nth}"
                )));
            }
        }
        self.state.lock().held = held;
        Ok(())
    }

    /// What a later mount reads of it is the same.
    pub(super) fn compare(&self, later: &TreeContext) -> Result<()> {
        if self.state.lock().made.is_none() {
            return Ok(());
        }
        let root = later.roots.get(later, NUMBER)?;
        match items(later, &root)? == self.state.lock().held {
            true => Ok(()),
            false => Err(Error::corrupt("a later mount reads another snapshot")),
        }
    }

    fn make(&self, trans: &TransHandle) -> Result<()> {
        let key = Key::new(NUMBER, kind::ROOT_ITEM, trans.transid().get());
        let made = self.ctx.copy_tree(trans, &self.source, key, |_| ())?;
        self.state.lock().made = Some(made);
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
