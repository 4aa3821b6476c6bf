//! Whole tree operations side by side, for a scheduler that takes turns at every lock and every
//! atomic access (shuttle).
//!
//! A scenario has a dozen shared accesses, and every order of them can be tried. Here are the real
//! operations of a filesystem in memory, with thousands: inserts that split, deletes that empty
//! leaves and free them, walks, commits, early write-out, reclaim. What is judged at the end is what a
//! user would ask: no rule of a buffer's life was broken, the trees are whole, what was written is
//! there, and is there again after a commit and a mount of what is on the device.
//! What the threads do is in [`roles`]. Owns: the plays and their verdicts. Never: a sleep, a clock, a random number; an execution is
//! decided by its schedule alone.

mod roles;
mod snapshot;

use super::stage::{self, Stage, open_memory};
use crate::btree::{Root, TreeContext};
use crate::error::{Error, Result};
use crate::extent_buffer::Kind;
use crate::ondisk::ids::FS_TREE_OBJECTID;
use crate::ondisk::key::Key;
use crate::sync::{Arc, Scheduler, explore, thread, unmodelled};
use crate::volume::MemoryDevice;
use roles::{
    churn, commit, empty_leaf, forget_dirty, hold_path, lock_both, nothing_more, reclaim,
    split_leaf, walk, write, write_early, written,
};
use snapshot::Snapshots;

/// Leaves enough that a merge doesn't reach from one role's to another's.
const INODES: u64 = 400;

/// Operations that meet, and what must come of it.
pub struct TreePlay {
    /// A letter and a number, as reports call it.
    pub label: &'static str,
    /// What meets what.
    pub title: &'static str,
    /// What each thread does.
    pub roles: &'static [Role],
    /// What must be true at the end beside what is always true.
    holds: fn(&Scene) -> Result<()>,
    /// Who must lose; the others must win.
    pub loses: &'static [Kind],
    /// Wrong on purpose: everybody must lose.
    pub planted: bool,
}

/// One thread's part.
pub struct Role {
    /// Whom it stands for.
    pub name: &'static str,
    run: fn(&Scene) -> Result<()>,
}

/// Where a play happens.
struct Scene {
    stage: Stage,
    snapshots: Arc<Snapshots>,
}

/// All of them.
pub const ALL: &[TreePlay] = &[
    TreePlay {
        label: "T1",
        title: "a path is let go, a leaf is emptied, and another leaf splits (A, whole)",
        roles: &[
            Role {
                name: "path holder",
                run: hold_path,
            },
            Role {
                name: "deleter",
                run: empty_leaf,
            },
            Role {
                name: "reuser",
                run: split_leaf,
            },
        ],
        holds: nothing_more,
        loses: &[Kind::Unfixed],
        planted: false,
    },
    TreePlay {
        label: "T2",
        title: "two writers fill leaves and empty them (B and E, whole)",
        roles: &[
            Role {
                name: "writer 1",
                run: |scene| churn(scene, 1),
            },
            Role {
                name: "writer 2",
                run: |scene| churn(scene, 2),
            },
        ],
        holds: nothing_more,
        loses: &[Kind::Unfixed],
        planted: false,
    },
    TreePlay {
        label: "T3",
        title: "a commit begins and ends beside two writers",
        roles: &[
            Role {
                name: "writer 1",
                run: |scene| write(scene, 1),
            },
            Role {
                name: "writer 2",
                run: |scene| write(scene, 2),
            },
            Role {
                name: "committer",
                run: commit,
            },
        ],
        holds: |scene| {
            written(scene, 1)?;
            written(scene, 2)
        },
        loses: &[],
        planted: false,
    },
    TreePlay {
        label: "T4",
        title: "a walk sees every lasting item beside a writer who splits and merges leaves",
        roles: &[
            Role {
                name: "writer",
                run: |scene| churn(scene, 1),
            },
            Role {
                name: "walker",
                run: walk,
            },
        ],
        holds: nothing_more,
        loses: &[],
        planted: false,
    },
    TreePlay {
        label: "T5",
        title: "early write-out and reclaim beside a writer",
        roles: &[
            Role {
                name: "writer",
                run: |scene| write(scene, 1),
            },
            Role {
                name: "write-out",
                run: write_early,
            },
            Role {
                name: "reclaim",
                run: reclaim,
            },
        ],
        holds: |scene| written(scene, 1),
        loses: &[],
        planted: false,
    },
    TreePlay {
        label: "T6",
        title: "planted: one takes the root's lock and then a leaf's, one the other way round",
        roles: &[
            Role {
                name: "downwards",
                run: |scene| lock_both(scene, true),
            },
            Role {
                name: "upwards",
                run: |scene| lock_both(scene, false),
            },
        ],
        holds: nothing_more,
        loses: &[],
        planted: true,
    },
    TreePlay {
        label: "T7",
        title: "a snapshot begins at a commit beside two writers, who go on in shared leaves",
        roles: &[
            Role {
                name: "writer 1",
                run: |scene| write(scene, 1),
            },
            Role {
                name: "writer 2",
                run: |scene| churn(scene, 2),
            },
            Role {
                name: "snapshot",
                run: |scene| scene.snapshots.take(&scene.stage),
            },
        ],
        holds: |scene| {
            written(scene, 1)?;
            scene.snapshots.hold_what_was_there(&scene.stage)
        },
        loses: &[],
        planted: false,
    },
    TreePlay {
        label: "T8",
        title: "planted: a block that a writer changed isn't written by the commit",
        roles: &[
            Role {
                name: "writer",
                run: |scene| write(scene, 1),
            },
            Role {
                name: "forgetter",
                run: forget_dirty,
            },
        ],
        holds: |scene| written(scene, 1),
        loses: &[],
        planted: true,
    },
    TreePlay {
        label: "T9",
        title: "planted: somebody writes to the snapshot",
        roles: &[
            Role {
                name: "snapshot",
                run: |scene| {
                    scene.snapshots.take(&scene.stage)?;
                    scene.snapshots.change(&scene.stage)
                },
            },
            Role {
                name: "writer",
                run: |scene| write(scene, 1),
            },
        ],
        holds: |scene| scene.snapshots.hold_what_was_there(&scene.stage),
        loses: &[],
        planted: true,
    },
];

impl TreePlay {
    /// Whether `kind` must lose it.
    pub fn must_lose(&self, kind: Kind) -> bool {
        self.planted || self.loses.contains(&kind)
    }

    /// Plays it up to `executions` times, or until somebody loses: how many times, and what broke.
    /// The same again for the same seed.
    pub fn run(
        &'static self,
        kind: Kind,
        scheduler: Scheduler,
        seed: u64,
        executions: usize,
    ) -> (u64, Option<String>) {
        let image = Arc::new(empty_image());
        explore(scheduler, seed, executions, move || {
            self.execute(kind, &image)
        })
    }

    fn execute(&'static self, kind: Kind, image: &MemoryDevice) -> std::result::Result<(), String> {
        let device = Arc::new(image.clone());
        let stage = Stage::set_on(device.clone(), kind, INODES).map_err(|why| why.to_string())?;
        let broken = Arc::new(unmodelled::Mutex::new(Vec::new()));
        let seen = broken.clone();
        let cache = stage.ctx().cache.clone();
        cache.on_violation(move |violation| seen.lock().push(violation.sentence()));
        let snapshots = Snapshots::of(&stage);
        let scene = Arc::new(Scene { stage, snapshots });
        let play = |role: &'static Role| {
            let scene = scene.clone();
            thread::spawn(move || (role.run)(&scene))
        };
        let threads: Vec<_> = self.roles.iter().map(play).collect();
        let mut failed = None;
        for (role, thread) in self.roles.iter().zip(threads) {
            match thread
                .join()
                .expect("an execution ends with its first panic")
            {
                Ok(()) => {}
                // After a broken rule the transaction is aborted under everybody's feet.
                Err(Error::Aborted(_)) if !broken.lock().is_empty() => {}
                Err(why) => failed = Some(format!("{}: {why}", role.name)),
            }
        }
        let broken = broken.lock().first().cloned();
        let result = match broken.or(failed) {
            Some(words) => Err(words),
            None => self.judge(&scene, &device).map_err(|why| why.to_string()),
        };
        cache.close_readahead();
        result
    }

    fn judge(&self, scene: &Scene, device: &MemoryDevice) -> Result<()> {
        (self.holds)(scene)?;
        let stage = &scene.stage;
        stage.ctx().cache.check_whole()?;
        let before = items(stage.ctx(), &stage.root)?;
        stage.engine.committer.commit()?;
        let again = open_memory(Arc::new(device.clone()), stage.ctx().cache.protocol())?;
        let root = again.ctx.roots.get(&again.ctx, FS_TREE_OBJECTID)?;
        let after = items(&again.ctx, &root)?;
        scene.snapshots.compare(&again.ctx)?;
        again.ctx.cache.close_readahead();
        match before == after {
            true => Ok(()),
            false => Err(Error::corrupt("a later mount reads other items")),
        }
    }
}

/// An image that our mkfs made, the same for all executions.
fn empty_image() -> MemoryDevice {
    let made = Arc::new(unmodelled::Mutex::new(None));
    let out = made.clone();
    // Its locks are the scheduler's, so that it takes an execution to make one.
    let (_, failure) = explore(Scheduler::Random, 0, 1, move || {
        *out.lock() = Some(stage::make_image().map_err(|why| why.to_string())?);
        Ok(())
    });
    let image = made.lock().take();
    image.unwrap_or_else(|| panic!("no image to play on: {failure:?}"))
}

/// All items of a tree, which is verified.
fn items(ctx: &TreeContext, root: &Root) -> Result<Vec<(Key, Vec<u8>)>> {
    ctx.verify_tree(root)?;
    let mut cursor = ctx.search(root, &Key::MIN)?;
    let mut all = Vec::new();
    while let Some((key, data)) = cursor.item() {
        all.push((key, data.to_vec()));
        cursor.next()?;
    }
    Ok(all)
}
