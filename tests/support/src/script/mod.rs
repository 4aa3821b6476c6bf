//! Seeded operation scripts: what to do, what a filesystem must answer, what must be there after.
//!
//! A [`Story`] invents operations from a seed, does them below a folder of a mounted filesystem,
//! and does them on a [`Model`] in memory as well. Answers (also refusals, by errno) and the final
//! tree must agree. The same story can go on on another mount of the same image, ours or the
//! kernel's.

mod content;
mod invent;
mod model;
mod operation;

pub use content::Content;
pub use model::Model;
pub use operation::{Allocate, Operation, RenameKind, apply, bytes};

use crate::compare::{Inodes, Rules, differences};
use crate::{Manifest, Rng, walk};
use std::path::Path;

/// A script in progress; see the module.
pub struct Story {
    seed: u64,
    rng: Rng,
    model: Model,
    folder: String,
    steps_done: usize,
}

impl Story {
    /// A story that plays in `folder` of whatever is mounted.
    pub fn new(seed: u64, folder: &str) -> Self {
        Self {
            seed,
            rng: Rng::new(seed),
            model: Model::new(),
            folder: folder.to_owned(),
            steps_done: 0,
        }
    }

    /// Makes the folder.
    #[track_caller]
    pub fn begin(&self, mount_point: &Path) {
        rustix::process::umask(rustix::fs::Mode::empty());
        let folder = mount_point.join(&self.folder);
        rustix::fs::mkdir(&folder, rustix::fs::Mode::from_raw_mode(0o755))
            .unwrap_or_else(|error| panic!("mkdir {}: {error}", folder.display()));
    }

    /// Goes on for `steps` operations.
    #[track_caller]
    pub fn go_on(&mut self, mount_point: &Path, steps: usize) {
        rustix::process::umask(rustix::fs::Mode::empty());
        let folder = mount_point.join(&self.folder);
        self.go_on_with(steps, |operation| apply(&folder, operation));
    }

    /// Goes on for `steps` operations, done by `apply`.
    #[track_caller]
    pub fn go_on_with(
        &mut self,
        steps: usize,
        mut apply: impl FnMut(&Operation) -> Result<(), rustix::io::Errno>,
    ) {
        for _ in 0..steps {
            let operation = invent::invent(&mut self.rng, &self.model);
            let expected = self.model.apply(&operation);
            let answer = apply(&operation);
            assert!(
                answer == expected,
                "seed {} step {}: {operation:?}\nexpected {expected:?}, the filesystem says {answer:?}",
                self.seed,
                self.steps_done
            );
            self.steps_done += 1;
        }
    }

    /// Goes on in memory only: what another process did with the same seed.
    pub fn imagine(&mut self, steps: usize) {
        for _ in 0..steps {
            let operation = invent::invent(&mut self.rng, &self.model);
            // A refusal is part of the story.
            let _ = self.model.apply(&operation);
            self.steps_done += 1;
        }
    }

    /// Removes everything that the story made, but for its folder.
    #[track_caller]
    pub fn clear(&mut self, mount_point: &Path) {
        let folder = mount_point.join(&self.folder);
        for operation in self.model.removal() {
            self.model.apply(&operation).expect("the model's own list");
            if let Err(error) = apply(&folder, &operation) {
                panic!("seed {}: {operation:?}: {error}", self.seed);
            }
        }
    }

    /// Demands that the mounted tree is the model's.
    #[track_caller]
    pub fn assert_told(&self, what: &str, mount_point: &Path) {
        let found = self.differences(&walk(&mount_point.join(&self.folder)));
        assert!(
            found.is_empty(),
            "{what}, seed {} after {} steps: {} differences from the model:\n{}",
            self.seed,
            self.steps_done,
            found.len(),
            found[..found.len().min(30)].join("\n")
        );
    }

    /// The story's part of a walk of the whole mount, compared with the model.
    pub fn differences(&self, walked: &Manifest) -> Vec<String> {
        let rules = Rules {
            inodes: Inodes::Everywhere,
            without: Vec::new(),
            only_expected: true,
        };
        differences(&self.model.manifest(), walked, &rules)
    }

    /// The story as it is now, seen in another folder: a snapshot of the first.
    pub fn frozen(&self, folder: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            rng: self.rng.clone(),
            model: self.model.clone(),
            ..*self
        }
    }

    /// Another future, of another seed, for the story as it is now.
    pub fn diverge(&mut self, seed: u64) {
        self.seed = seed;
        self.rng = Rng::new(seed);
    }

    /// How many names there are now.
    pub fn names(&self) -> usize {
        self.model.names()
    }
}
