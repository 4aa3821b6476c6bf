//! Very many small files, made, renamed and removed by several processes: what a mount's memory
//! is judged by.

use rustix::fs::{Mode, OFlags};
use std::path::{Path, PathBuf};

/// What a process does with its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Makes them, a tenth of them with a few bytes.
    Create,
    /// Moves each to another folder, under another name.
    Rename,
    /// Removes them and their folders.
    Delete,
}

impl Phase {
    /// As `Debug` prints it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Create, Self::Rename, Self::Delete]
            .into_iter()
            .find(|phase| format!("{phase:?}") == name)
    }
}

const FOLDER_FILES: u64 = 2000;

fn folder(base: &Path, process: u64, moved: bool, file: u64) -> PathBuf {
    let kind = if moved { "moved" } else { "made" };
    base.join(format!("many-{process}"))
        .join(format!("{kind}-{}", file / FOLDER_FILES))
}

fn before(base: &Path, process: u64, file: u64) -> PathBuf {
    folder(base, process, false, file).join(format!("file-{file:07}"))
}

fn after(base: &Path, process: u64, file: u64) -> PathBuf {
    folder(base, process, true, file).join(format!("renamed-file-number-{file:07}"))
}

/// One process's part. Panics at the first refusal.
#[track_caller]
pub fn run_phase(base: &Path, process: u64, files: u64, phase: Phase) {
    let must = |what: &str, path: &Path, answer: Result<(), rustix::io::Errno>| {
        answer.unwrap_or_else(|error| panic!("{what} {}: {error}", path.display()));
    };
    let open = Mode::from_raw_mode(0o755);
    if phase == Phase::Create {
        let own = base.join(format!("many-{process}"));
        must("mkdir", &own, rustix::fs::mkdir(&own, open));
    }
    for file in 0..files {
        let first = file % FOLDER_FILES == 0;
        let (from, to) = (before(base, process, file), after(base, process, file));
        match phase {
            Phase::Create => {
                let parent = folder(base, process, false, file);
                if first {
                    must("mkdir", &parent, rustix::fs::mkdir(&parent, open));
                }
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let made = rustix::fs::open(&from, flags, Mode::from_raw_mode(0o644))
                    .unwrap_or_else(|error| panic!("create {}: {error}", from.display()));
                if file % 10 == 0 {
                    must(
                        "write",
                        &from,
                        rustix::io::write(&made, b"a few bytes").map(drop),
                    );
                }
            }
            Phase::Rename => {
                let parent = folder(base, process, true, file);
                if first {
                    must("mkdir", &parent, rustix::fs::mkdir(&parent, open));
                }
                must("rename", &from, rustix::fs::rename(&from, &to));
            }
            Phase::Delete => {
                must("unlink", &to, rustix::fs::unlink(&to));
                if (file + 1) % FOLDER_FILES == 0 || file + 1 == files {
                    for moved in [false, true] {
                        let parent = folder(base, process, moved, file);
                        must("rmdir", &parent, rustix::fs::rmdir(&parent));
                    }
                }
            }
        }
    }
    if phase == Phase::Delete {
        let own = base.join(format!("many-{process}"));
        must("rmdir", &own, rustix::fs::rmdir(&own));
    }
}

/// How many files there are below a folder.
pub fn count(base: &Path) -> u64 {
    let entries = std::fs::read_dir(base).unwrap_or_else(|e| panic!("{}: {e}", base.display()));
    let each = entries.map(|entry| {
        let entry = entry.expect("a readable folder");
        let folder = entry.file_type().expect("a type").is_dir();
        if folder { count(&entry.path()) } else { 1 }
    });
    each.sum()
}
