//! How much a full image holds: the kernel's btrfs and ours fill copies of the same fresh image in the
//! same way, and the kernel counts both.
//!
//! Invariant: what counts was answered with success, close(2) included, and is there, whole, on the
//! kernel's mount afterwards. One refusal isn't the end on either side: what waits for a commit is given
//! the chance, and only several refusals in a row are.

use crate::files::{close, create, pattern, refused};
use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, btrfs_check, btrfuse_binary, run};
use rustix::fs::{FallocateFlags, XattrFlags};
use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Refusals in a row, each after a commit, that end a filling.
const REFUSALS: u32 = 3;

/// What an image is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// Files of so many bytes.
    Files(usize),
    /// Empty files with an extended attribute of so many bytes.
    Attributes(usize),
    /// One file that is preallocated until nothing more is.
    Fallocate,
    /// One file that is written until nothing more is.
    OneFile,
}

/// Everything that is compared.
pub const FILLINGS: &[Filling] = &[
    Filling::Files(1 << 20),
    Filling::Files(100 << 10),
    Filling::Files(4 << 10),
    Filling::Files(1000),
    Filling::Files(0),
    Filling::Attributes(3500),
    Filling::Fallocate,
    Filling::OneFile,
];

impl Filling {
    /// The row's name.
    pub fn name(self) -> String {
        match self {
            Self::Files(0) => "empty files".into(),
            Self::Files(len) if len >= 1 << 20 => format!("files of {} MiB", len >> 20),
            Self::Files(len) if len % 1024 == 0 => format!("files of {} KiB", len >> 10),
            Self::Files(len) => format!("files of {len} bytes"),
            Self::Attributes(len) => format!("files with an attribute of {len} bytes"),
            Self::Fallocate => "KiB of one preallocated file".into(),
            Self::OneFile => "KiB of one file".into(),
        }
    }
}

/// Where to fill, and how what waits there is committed.
struct Place {
    folder: PathBuf,
    sync: Vec<String>,
}

impl Place {
    fn sync(&self) {
        let mut command = Command::new(&self.sync[0]);
        run(command.args(&self.sync[1..]).arg(&self.folder));
    }

    /// Asks until it has been refused several times in a row.
    fn until_full(&self, mut ask: impl FnMut(u64) -> rustix::io::Result<()>) {
        let (mut number, mut refusals) = (0, 0);
        while refusals < REFUSALS {
            if refused("a filling", ask(number)) {
                refusals += 1;
                self.sync();
            } else {
                number += 1;
                refusals = 0;
            }
        }
    }

    fn fill(&self, filling: Filling) {
        match filling {
            Filling::Files(len) => self.until_full(|number| {
                let path = self.folder.join(format!("file-{number:07}"));
                let made = create(&path).and_then(|file| {
                    let written = write_whole(&file, &pattern(number, len));
                    written.and(close(file))
                });
                made.inspect_err(|_| remove(&path))
            }),
            Filling::Attributes(len) => self.until_full(|number| {
                let path = self.folder.join(format!("file-{number:07}"));
                let made = create(&path).and_then(|file| {
                    let value = pattern(number, len);
                    let set =
                        rustix::fs::fsetxattr(&file, "user.filling", &value, XattrFlags::empty());
                    set.and(close(file))
                });
                made.inspect_err(|_| remove(&path))
            }),
            Filling::Fallocate => {
                let file = create(&self.folder.join("one")).expect("room for one file");
                let all = rustix::fs::fstatvfs(&file).expect("statfs");
                let (mut have, mut step) = (0, all.f_bavail * all.f_frsize);
                while step >= 64 << 10 {
                    let got = rustix::fs::fallocate(&file, FallocateFlags::empty(), have, step);
                    if refused("fallocate", got) {
                        step /= 2;
                        self.sync();
                    } else {
                        have += step;
                    }
                }
            }
            Filling::OneFile => {
                let file = create(&self.folder.join("one")).expect("room for one file");
                let mut have = 0;
                for step in [1 << 20, 64 << 10, 4 << 10] {
                    self.until_full(|_| {
                        let bytes = blocks(have, step);
                        let wrote = rustix::io::pwrite(&file, &bytes, have);
                        wrote.and_then(|_| rustix::fs::fdatasync(&file))?;
                        have += step as u64;
                        Ok(())
                    });
                }
            }
        }
    }
}

/// Content of the one file, which is written in pieces of several sizes.
const BLOCK: usize = 4096;
fn blocks(at: u64, len: usize) -> Vec<u8> {
    let numbers = at / BLOCK as u64..(at + len as u64) / BLOCK as u64;
    numbers.flat_map(|number| pattern(number, BLOCK)).collect()
}

fn write_whole(file: &impl std::os::fd::AsFd, bytes: &[u8]) -> rustix::io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let len = rustix::io::write(file, rest)?;
        rest = &rest[len..];
    }
    Ok(())
}

/// What was refused in the middle doesn't count.
fn remove(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => panic!("rm {} on a full filesystem: {error}", path.display()),
    }
}

/// What the kernel finds: files, or KiB of the one file.
fn count(image: &Image, filling: Filling) -> u64 {
    let mount = LoopMount::read_only(image.path());
    let held = match filling {
        Filling::Fallocate | Filling::OneFile => {
            let path = mount.path().join("one");
            let file = File::open(&path).expect("the one file");
            let stored = file.metadata().expect("open").blocks() * 512;
            if filling == Filling::OneFile {
                let mut got = vec![0; BLOCK];
                for at in (0..stored).step_by(BLOCK) {
                    file.read_exact_at(&mut got, at).expect("what was written");
                    assert!(got == blocks(at, BLOCK), "the one file at {at}");
                }
            }
            stored / 1024
        }
        Filling::Files(len) => {
            let mut held = 0;
            for entry in fs::read_dir(mount.path()).expect("a mount") {
                let path = entry.expect("an entry").path();
                let number = number_of(&path);
                let got = fs::read(&path).expect("what was written");
                assert!(got == pattern(number, len), "{}", path.display());
                held += 1;
            }
            held
        }
        Filling::Attributes(len) => {
            let mut held = 0;
            for entry in fs::read_dir(mount.path()).expect("a mount") {
                let path = entry.expect("an entry").path();
                let mut got = vec![0_u8; 8192];
                let have = rustix::fs::getxattr(&path, "user.filling", &mut got[..]);
                let have = have.expect("what was set");
                let want = pattern(number_of(&path), len);
                assert!(got[..have] == want, "{}", path.display());
                held += 1;
            }
            held
        }
    };
    mount.unmount();
    held
}

fn number_of(path: &Path) -> u64 {
    let name = path.file_name().expect("a file").to_string_lossy();
    let number = name.strip_prefix("file-").and_then(|it| it.parse().ok());
    number.unwrap_or_else(|| panic!("{name} is none of ours"))
}

/// One row of the table.
pub struct Row {
    pub mib: u64,
    pub mkfs: String,
    pub filling: Filling,
    pub kernel: u64,
    pub ours: u64,
    pub seconds: [f64; 2],
}

impl Row {
    /// What ours holds in per cent of the kernel's.
    pub fn percent(&self) -> f64 {
        self.ours as f64 * 100.0 / self.kernel as f64
    }
}

/// Fills two copies of the image and compares. `check`: `btrfs check` of ours as well.
pub fn compare(image: &Image, mkfs: &str, mib: u64, filling: Filling) -> Row {
    let theirs = image.copy();
    let started = Instant::now();
    let mount = LoopMount::read_write(theirs.path());
    let place = Place {
        folder: mount.path().to_owned(),
        sync: ["btrfs", "filesystem", "sync"].map(str::to_owned).to_vec(),
    };
    place.fill(filling);
    let kernel_took = started.elapsed();
    // Some versions warn of a delayed item that found no room, which says nothing of us.
    mount.unmount_damaged();
    let kernel = count(&theirs, filling);

    let ours = image.copy();
    let started = Instant::now();
    let mount = BtrfuseMount::read_write(ours.path());
    let binary = btrfuse_binary().to_string_lossy().into_owned();
    let place = Place {
        folder: mount.path().to_owned(),
        sync: vec![binary, "sync".into()],
    };
    place.fill(filling);
    let we_took = started.elapsed();
    mount.unmount();
    btrfs_check(ours.path());
    let row = Row {
        mib,
        mkfs: mkfs.to_owned(),
        filling,
        kernel,
        ours: count(&ours, filling),
        seconds: [kernel_took, we_took].map(|took| took.as_secs_f64()),
    };
    eprintln!(
        "{mib} MiB {mkfs} {}: kernel {} in {:.1} s, ours {} in {:.1} s, {:.1} %",
        filling.name(),
        row.kernel,
        row.seconds[0],
        row.ours,
        row.seconds[1],
        row.percent()
    );
    if row.percent() < 95.0 && std::env::var_os("BTRFUSE_FULL_KEEP").is_some() {
        eprintln!(
            "kept: {} {}",
            theirs.path().display(),
            ours.path().display()
        );
        std::mem::forget((theirs, ours));
    }
    row
}

/// The table as it stands in docs/allocation.md.
pub fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "| image | filled with | the kernel's holds | ours holds | ours / kernel's |\n|---|---|---|---|---|\n",
    );
    for row in rows {
        let _ = writeln!(
            out,
            "| {} MiB, {} | {} | {} | {} | {:.1} % |",
            row.mib,
            row.mkfs,
            row.filling.name(),
            row.kernel,
            row.ours,
            row.percent()
        );
    }
    out
}
