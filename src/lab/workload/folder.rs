//! Where a run lives: the folders below the directory that was given.
//!
//! ```text
//! DIR/btrfuse-stress/            all of a run
//!     run.json                   what it was, for a later judgement
//!     tree/                      a subvolume where the filesystem has them
//!         process-N/             names of one process
//!         crowd/pN-*             names of all, each process knows its own
//!         shared/                where all disturb each other
//!     snapshots/pN-M             read-only snapshots of `tree`
//! ```

use super::name::{CROWD, Name};
use super::operation::Arena;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The folder of all runs' files.
pub const TOP: &str = "btrfuse-stress";

/// The view of one process.
#[derive(Clone, Debug)]
pub struct Folder {
    top: PathBuf,
    tree: PathBuf,
    process: u64,
}

impl Folder {
    /// Of a run in `dir`.
    pub fn new(dir: &Path, process: u64) -> Self {
        let top = dir.join(TOP);
        let tree = top.join("tree");
        Self { top, tree, process }
    }

    /// The same as a snapshot of this process keeps it.
    pub fn frozen(&self, name: &str) -> Self {
        Self {
            tree: self.snapshot(name),
            ..self.clone()
        }
    }

    /// What holds everything.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// What is snapshotted.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// The folder of this process's names.
    pub fn own(&self) -> PathBuf {
        self.tree.join(format!("process-{}", self.process))
    }

    /// The crowd's.
    pub fn crowd(&self) -> PathBuf {
        self.tree.join("crowd")
    }

    /// Where all disturb each other.
    pub fn shared(&self) -> PathBuf {
        self.tree.join("shared")
    }

    /// Where snapshots are.
    pub fn snapshots(&self) -> PathBuf {
        self.top.join("snapshots")
    }

    /// One of this process's snapshots.
    pub fn snapshot(&self, name: &str) -> PathBuf {
        self.snapshots().join(format!("p{}-{name}", self.process))
    }

    /// What this process's names in the crowd begin with.
    pub fn mark(&self) -> Vec<u8> {
        format!("p{}-", self.process).into_bytes()
    }

    /// The path of a name.
    pub fn path(&self, arena: Arena, name: &Name) -> PathBuf {
        let inside = |base: PathBuf, name: &[u8]| match name {
            b"" => base,
            name => base.join(OsStr::from_bytes(name)),
        };
        if arena == Arena::Shared {
            return inside(self.shared(), &name.0);
        }
        match name.0.strip_prefix(CROWD) {
            Some(b"") => self.crowd(),
            Some([b'/', rest @ ..]) => inside(self.crowd(), &[&self.mark(), rest].concat()),
            _ => inside(self.own(), &name.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_the_process_the_crowd_or_all() {
        let folder = Folder::new(Path::new("/mnt"), 3);
        let path = |arena, name: &str| {
            let path = folder.path(arena, &name.into());
            path.strip_prefix("/mnt/btrfuse-stress/tree")
                .unwrap()
                .display()
                .to_string()
        };
        assert_eq!(path(Arena::Own, "a/b"), "process-3/a/b");
        assert_eq!(path(Arena::Own, ""), "process-3");
        assert_eq!(path(Arena::Own, "@"), "crowd");
        assert_eq!(path(Arena::Own, "@/x"), "crowd/p3-x");
        assert_eq!(path(Arena::Own, "@x"), "process-3/@x");
        assert_eq!(path(Arena::Shared, "d1/f2"), "shared/d1/f2");
    }
}
