//! Deleted subvolumes that somebody still uses.
//!
//! A deleted subvolume has no name, but files in it may be open, and processes may stand in its
//! directories: for them everything goes on. The cleaner gets its tree when no inode is open and
//! none was asked for lately. What the kernel remembers doesn't count: it keeps inodes that nobody
//! uses until it wants their memory, and says nothing of processes that stand in them.
//!
//! Owns: those trees, and the moment at which each is handed over. Invariant: a node id of a
//! deleted subvolume leads to its inode until then and nowhere afterwards; whoever loads an inode
//! of one does so under the lock under which the last look for users is taken.

use crate::btree::Root;
use crate::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::inode::Inode;
use crate::sync::{Arc, Mutex};
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

/// The look goes through all inodes in memory.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// So long after the last request nobody stands in it any more.
const IDLE: Duration = Duration::from_secs(2);

/// Steps of a drop before whoever needs its space asks again.
const STEPS_FOR_SPACE: usize = 64;

struct Tree {
    root: Arc<Root>,
    /// When an inode of it was loaded last.
    used: Instant,
}

#[derive(Default)]
struct State {
    trees: BTreeMap<u64, Tree>,
    looked: Option<Instant>,
}

/// See the module.
#[derive(Default)]
pub(in crate::fs) struct Dying {
    state: Mutex<State>,
}

impl Dying {
    /// The subvolume is being deleted.
    pub fn add(&self, root: &Arc<Root>) {
        let mut state = self.state.lock();
        let tree = Tree {
            root: root.clone(),
            used: Instant::now(),
        };
        state.trees.insert(root.objectid, tree);
        state.looked = None;
    }

    /// Whether a look is due.
    fn is_due(&self) -> bool {
        let state = self.state.lock();
        let waited = state.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
        waited && !state.trees.is_empty()
    }
}

impl Filesystem {
    /// An inode of a subvolume that was deleted; `NotFound` when nobody uses that any
    /// more.
    pub(in crate::fs) fn load_dying(&self, subvol: u64, objectid: u64) -> Result<Arc<Inode>> {
        let mut state = self.dying.state.lock();
        let tree = state.trees.get_mut(&subvol).ok_or(Error::NotFound)?;
        tree.used = Instant::now();
        let inode = self.load_from(&tree.root, objectid, || true)?;
        inode.ok_or(Error::NotFound)
    }

    /// Hands the trees over that nobody uses any more, if it is time to look.
    pub(in crate::fs) fn look_after_dying(&self) {
        if self.dying.is_due() {
            self.settle_dying(IDLE);
        }
    }

    /// Drops a piece of what was deleted and nobody has open; true if there is more. A mount with
    /// its threads does it by itself.
    pub fn drop_deleted(&self) -> Result<bool> {
        self.settle_dying(Duration::ZERO);
        self.engine.committer.clean_step()
    }

    /// Drops a piece of what was deleted because its space is needed, and waits until nobody uses it any
    /// more if it must. False when nothing was dropped. The caller holds no handle, and no lock but
    /// `names`, `subvolumes`.
    pub(in crate::fs) fn drop_for_space(&self) -> bool {
        let committer = &self.engine.committer;
        let deadline = Instant::now() + IDLE + LOOK_EVERY;
        loop {
            self.settle_dying(IDLE);
            let steps =
                (0..STEPS_FOR_SPACE).take_while(|_| committer.clean_step().is_ok_and(|it| it));
            if steps.count() > 0 {
                // What it gave back is pinned until then.
                return committer.commit_trees().is_ok();
            }
            let waits = !self.dying.state.lock().trees.is_empty();
            if !waits || Instant::now() >= deadline {
                return false;
            }
            self.home.evictions.pause(LOOK_EVERY / 10);
        }
    }

    /// Hands the trees over that nobody has open, and nobody has asked for since `idle`.
    pub(super) fn settle_dying(&self, idle: Duration) {
        let trees: HashSet<u64> = self.dying.state.lock().trees.keys().copied().collect();
        // Inodes that stay for having been used lately; their drop needs no lock of ours.
        drop(self.home.table.uncache(&trees));
        let mut state = self.dying.state.lock();
        // Who finds a tree alive and enters an inode has done so before the look at the table below;
        // who finds it dead comes through `load_dying`.
        let is_over = |tree: &Tree| tree.root.is_dead() && tree.used.elapsed() >= idle;
        let over = state.trees.iter().filter(|(_, tree)| is_over(tree));
        let mut over: Vec<u64> = over.map(|(subvol, _)| *subvol).collect();
        if !over.is_empty() {
            let used = self.home.table.subvolumes();
            over.retain(|subvol| !used.contains(subvol) && !self.home.evictions.edits(*subvol));
        }
        for subvol in over {
            state.trees.remove(&subvol);
            self.engine.committer.add_dead_root(subvol);
        }
        state.looked = Some(Instant::now());
    }
}
