//! What several processes do to one mount at once, as fsstress does: each tells a [`Story`] in a
//! folder of its own, whose every answer is judged, and between its steps brawls with the others
//! in a folder that all share, where any name may vanish at any time.
//!
//! A brawl judges the answers too: only those that a race explains are allowed. It makes and
//! removes names in batches, so that leaves fill, empty and are freed while others hold them.

use crate::{Rng, Story};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// The folder that all share.
pub const SHARED: &str = "shared";

/// The folder of one process.
pub fn own_folder(process: u64) -> String {
    format!("process-{process}")
}

/// The story of one process: known to whoever knows the seed.
pub fn story(seed: u64, process: u64) -> Story {
    Story::new(seed * 1000 + process, &own_folder(process))
}

/// Makes the folders.
#[track_caller]
pub fn prepare(mount_point: &Path, seed: u64, processes: u64) {
    let shared = mount_point.join(SHARED);
    std::fs::create_dir(&shared).unwrap_or_else(|e| panic!("{}: {e}", shared.display()));
    for process in 0..processes {
        story(seed, process).begin(mount_point);
    }
}

/// All of one process; calls `progress` after each step.
#[track_caller]
pub fn run_process(
    mount_point: &Path,
    seed: u64,
    process: u64,
    steps: usize,
    mut progress: impl FnMut(),
) {
    let mut story = story(seed, process);
    let mut brawler = Brawler {
        rng: Rng::new(seed ^ (process + 1) << 32),
        shared: mount_point.join(SHARED),
        process,
        batches: 0,
    };
    for _ in 0..steps {
        story.go_on(mount_point, 1);
        brawler.round();
        progress();
    }
    story.assert_told("at its end", mount_point);
}

/// After all of them: every story is as it was told.
#[track_caller]
pub fn judge(mount_point: &Path, seed: u64, processes: u64, steps: usize) {
    for process in 0..processes {
        let mut story = story(seed, process);
        story.imagine(steps);
        story.assert_told(&format!("process {process}"), mount_point);
    }
}

struct Brawler {
    rng: Rng,
    shared: PathBuf,
    process: u64,
    batches: u64,
}

/// What a race in the shared folder explains.
const RACES: &[Errno] = &[
    Errno::NOENT,
    Errno::EXIST,
    Errno::NOTEMPTY,
    Errno::ISDIR,
    Errno::NOTDIR,
    Errno::INVAL,
    Errno::LOOP,
    Errno::NXIO,
    Errno::PERM,
    Errno::NODATA,
    Errno::BUSY,
];

impl Brawler {
    fn name(&mut self) -> PathBuf {
        match self.rng.below(3) {
            0 => self.shared.join(format!("d{}", self.rng.below(8))),
            1 => self.shared.join(format!("f{}", self.rng.below(60))),
            _ => {
                let (folder, name) = (self.rng.below(8), self.rng.below(60));
                self.shared.join(format!("d{folder}/f{name}"))
            }
        }
    }

    fn round(&mut self) {
        let (a, b) = (self.name(), self.name());
        let answer = match self.rng.below(22) {
            0..=3 => self.write(&a),
            4..=5 => rustix::fs::mkdir(&a, Mode::from_raw_mode(0o755)),
            6..=8 => rustix::fs::unlink(&a),
            9 => rustix::fs::rmdir(&a),
            10..=12 => rustix::fs::rename(&a, &b),
            13 => rustix::fs::renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE),
            14 => rustix::fs::linkat(CWD, &a, CWD, &b, AtFlags::empty()),
            15 => rustix::fs::symlink("f1", &a),
            16 => rustix::fs::lsetxattr(&a, "user.brawl", &[7; 100], XattrFlags::empty()),
            17 => self.read(&a),
            18 => rustix::fs::statat(CWD, &a, AtFlags::SYMLINK_NOFOLLOW).map(drop),
            19 => std::fs::read_dir(&self.shared)
                .map(|entries| entries.flatten().count())
                .map(drop)
                .map_err(|error| Errno::from_io_error(&error).expect("an errno")),
            20 if self.rng.one_in(6) => self.batch(),
            _ => self.truncate(&a),
        };
        if let Err(error) = answer {
            assert!(
                RACES.contains(&error),
                "a brawl over {} and {}: {error}",
                a.display(),
                b.display()
            );
        }
    }

    fn write(&mut self, path: &Path) -> Result<(), Errno> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))?;
        let len = self.rng.below(20_000) as usize;
        let (bytes, at) = (self.rng.bytes(len), self.rng.below(100_000));
        rustix::io::pwrite(&file, &bytes, at).map(drop)
    }

    fn read(&mut self, path: &Path) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = rustix::fs::open(path, flags, Mode::empty())?;
        let mut buffer = vec![0; 65_536];
        rustix::io::pread(&file, &mut buffer[..], self.rng.below(50_000)).map(drop)
    }

    fn truncate(&mut self, path: &Path) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        rustix::fs::ftruncate(
            rustix::fs::open(path, flags, Mode::empty())?,
            self.rng.below(80_000),
        )
    }

    /// Hundreds of names appear and go: whole leaves with them.
    fn batch(&mut self) -> Result<(), Errno> {
        self.batches += 1;
        let folder = self
            .shared
            .join(format!("batch-{}-{}", self.process, self.batches));
        rustix::fs::mkdir(&folder, Mode::from_raw_mode(0o755))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let names: Vec<PathBuf> = (0..300)
            .map(|n| folder.join(format!("name-of-some-length-{n:05}")))
            .collect();
        for name in &names {
            let file = rustix::fs::open(name, flags, Mode::from_raw_mode(0o600))?;
            rustix::io::write(&file, b"a small file")?;
        }
        for name in &names {
            rustix::fs::unlink(name)?;
        }
        rustix::fs::rmdir(&folder)
    }
}
