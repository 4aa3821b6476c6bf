//! What `btrfs check` may say of one image, and the proof that it means nothing there.
//!
//! Two things are excused, each only where a test asks for it, and never without making check
//! content in the end: on a copy where the kernel has taken away what check can't judge.

use crate::check::{MODES, btrfs_check, check, complaints, content};
use crate::{LoopMount, dump, run, temp_dir};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How `btrfs check` judges an image. The default is strict: both modes find nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judge {
    extended: bool,
    quotas_unaccounted: bool,
}

/// All that lowmem mode of btrfs-progs 6.2 says, without a word of where, of some images on which
/// an inode has extended references and lost names: a false alarm, which the kernel's own work
/// raises (`lowmem_mode_alarms_at_the_kernels_own_extended_references`).
const FALSE_ALARM: &[&str] = &[
    "ERROR: errors found in fs roots",
    "found N bytes used, error(s) found",
    "it ended with exit status: N",
];

/// What check says when quota numbers are marked as inconsistent, as they must be after a writer
/// without accounting: it lists the differences that it expects, and ends with success.
const QUOTAS_INCONSISTENT: &str =
    "Rescan hasn't been initialzied, a difference in qgroup accounting is expected";

impl Judge {
    /// Both modes must find nothing.
    pub fn strict() -> Self {
        Self::default()
    }

    /// For an image that the kernel made, before anybody else touches it: both modes find
    /// nothing, or lowmem mode raises exactly the false alarm.
    #[track_caller]
    pub fn before_us(image: &Path) -> Self {
        content(image, "original", &complaints(&check(image, "original")));
        let alarm = complaints(&check(image, "lowmem"));
        let judge = Self {
            extended: !alarm.is_empty(),
            quotas_unaccounted: false,
        };
        judge.assert_content(image);
        judge
    }

    /// Quota numbers may be wrong from now on, if they are marked so and the kernel mends them.
    pub fn without_quota_accounting(self) -> Self {
        Self {
            quotas_unaccounted: true,
            ..self
        }
    }

    /// What the daemon's log must say when it writes to such an image.
    pub fn log_excuses(self) -> &'static [&'static str] {
        match self.quotas_unaccounted {
            true => &["quotas are on: their numbers are marked as inconsistent"],
            false => &[],
        }
    }

    /// For an image of ours with such an inode: the false alarm, and nothing else, is let pass,
    /// and check is content once the inode is gone.
    pub fn excusing_extended_references(self) -> Self {
        Self {
            extended: true,
            ..self
        }
    }

    /// Does lowmem mode raise its false alarm at this image?
    pub fn knows_false_alarm(&self) -> bool {
        self.extended
    }

    /// Demands that check finds nothing, but for what was asked for.
    #[track_caller]
    pub fn assert_content(&self, image: &Path) {
        for mode in MODES {
            let finished = check(image, mode);
            let mut found = complaints(&finished);
            if self.quotas_unaccounted {
                found = apart_from_quotas(found);
            }
            if self.extended && *mode == "lowmem" && kinds(&found) == kinds(FALSE_ALARM) {
                found.clear();
            }
            content(image, mode, &found);
        }
        if self.quotas_unaccounted {
            self.assert_quotas_can_be_mended(image);
        }
        if self.extended {
            assert_content_without_alarm(image, self.quotas_unaccounted);
        }
    }

    #[track_caller]
    fn assert_quotas_can_be_mended(&self, image: &Path) {
        let flags = dump::quota_flags(image);
        assert_eq!(
            flags.as_deref(),
            Some("ON|INCONSISTENT"),
            "{}: a writer without accounting must mark quotas",
            image.display()
        );
        with_the_kernel(
            image,
            |mount| {
                run(Command::new("btrfs")
                    .args(["quota", "rescan", "-w"])
                    .arg(mount));
            },
            |mended| {
                assert_eq!(dump::quota_flags(mended).as_deref(), Some("ON"));
                Self {
                    quotas_unaccounted: false,
                    ..*self
                }
                .assert_content(mended);
            },
        );
    }
}

/// What remains of complaints when check expects that the numbers of quotas are wrong.
pub fn apart_from_quotas(mut found: Vec<String>) -> Vec<String> {
    if found.iter().any(|line| line == QUOTAS_INCONSISTENT) {
        found.retain(|line| !is_about_quotas(line));
    }
    found
}

/// On a copy the kernel removes the inodes that lowmem mode stumbles over: then it must find
/// nothing, so nothing of ours hides behind its alarm.
#[track_caller]
fn assert_content_without_alarm(image: &Path, quotas_unaccounted: bool) {
    let inodes = dump::extended_references(image);
    if inodes.is_empty() {
        // Whoever changed the image took them away: then there was nothing to excuse.
        btrfs_check(image);
        return;
    }
    with_the_kernel(
        image,
        |mount| remove(mount, &inodes),
        |copy| {
            Judge {
                extended: false,
                quotas_unaccounted,
            }
            .assert_content(copy)
        },
    );
}

/// `change` on a kernel mount of a copy, then `judge` of the copy.
#[track_caller]
fn with_the_kernel(image: &Path, change: impl FnOnce(&Path), judge: impl FnOnce(&Path)) {
    let folder = temp_dir();
    let copy = folder.path().join("copy.raw");
    run(Command::new("cp")
        .arg("--sparse=always")
        .arg(image)
        .arg(&copy));
    let mount = LoopMount::read_write(&copy);
    change(mount.path());
    mount.unmount();
    judge(&copy);
}

/// Removes all names of inodes with these numbers, in snapshots first: what only one tree has takes no
/// space to remove. A snapshot for which there is no space goes whole.
fn remove(mount: &Path, inodes: &BTreeSet<u64>) {
    let mut subvolumes = vec![mount.to_owned()];
    let mut names: Vec<Vec<PathBuf>> = Vec::new();
    while let Some(subvolume) = subvolumes.pop() {
        let (found, below) = names_in(&subvolume, inodes);
        names.push(found);
        subvolumes.extend(below);
    }
    assert!(
        names.iter().any(|found| !found.is_empty()),
        "the inodes {inodes:?} have no names"
    );
    let mut deleted = false;
    for name in names.into_iter().rev().flatten() {
        match fs::remove_file(&name) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound && deleted => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => {
                let snapshot = subvolume_of(mount, &name)
                    .unwrap_or_else(|| panic!("{}: {error}", name.display()));
                let mut command = Command::new("btrfs");
                run(command.args(["subvolume", "delete"]).arg(snapshot));
                deleted = true;
            }
            Err(error) => panic!("{}: {error}", name.display()),
        }
    }
    if deleted {
        let mut command = Command::new("btrfs");
        run(command.args(["subvolume", "sync"]).arg(mount));
    }
}

/// The names of such inodes in one subvolume, and the subvolumes in it.
fn names_in(subvolume: &Path, inodes: &BTreeSet<u64>) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let device = fs::metadata(subvolume).expect("a mount").dev();
    let mut folders = vec![subvolume.to_owned()];
    let (mut names, mut below) = (Vec::new(), Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable mount") {
            let path = entry.expect("a readable mount").path();
            let metadata = path.symlink_metadata().expect("a readable mount");
            if metadata.dev() != device {
                below.push(path);
            } else if metadata.is_dir() {
                folders.push(path);
            } else if inodes.contains(&metadata.ino()) {
                names.push(path);
            }
        }
    }
    (names, below)
}

/// The uppermost subvolume below the mount's that a name lies in.
fn subvolume_of(mount: &Path, name: &Path) -> Option<PathBuf> {
    let device = fs::metadata(mount).expect("a mount").dev();
    let inside = name.ancestors().take_while(|place| *place != mount);
    let other = |place: &&Path| place.symlink_metadata().is_ok_and(|it| it.dev() != device);
    inside.filter(other).last().map(Path::to_owned)
}

fn is_about_quotas(line: &str) -> bool {
    let line = line.trim_start();
    line == QUOTAS_INCONSISTENT
        || ["Counts for qgroup id: ", "our:", "disk:", "diff:"]
            .iter()
            .any(|start| line.starts_with(start))
}

/// Complaints without their numbers.
fn kinds(complaints: &[impl AsRef<str>]) -> BTreeSet<String> {
    let kind = |line: &str| -> String {
        let parts = line.split(|c: char| c.is_ascii_digit());
        let mut out = String::new();
        let mut parts = parts.peekable();
        while let Some(part) = parts.next() {
            out.push_str(part);
            if parts.peek().is_some() && !out.ends_with('N') {
                out.push('N');
            }
        }
        out
    };
    complaints.iter().map(|line| kind(line.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Image;

    /// The kernel's own work, without us: 150 names, of which the first go. What is left stands
    /// in extended references only.
    #[test]
    fn lowmem_mode_alarms_at_the_kernels_own_extended_references() {
        let image = Image::mkfs_btrfs(300, &["-n", "4096"]);
        let mount = LoopMount::read_write(image.path());
        let name = |n: u32| {
            let name = format!("a-name-that-is-long-enough-to-fill-a-leaf-{n}");
            mount.path().join(name)
        };
        fs::write(name(0), "x").expect("a writable mount");
        for n in 1..150 {
            fs::hard_link(name(0), name(n)).expect("a writable mount");
        }
        mount.unmount();
        assert!(!Judge::before_us(image.path()).knows_false_alarm());
        let mount = LoopMount::read_write(image.path());
        for n in 0..140 {
            let name = format!("a-name-that-is-long-enough-to-fill-a-leaf-{n}");
            fs::remove_file(mount.path().join(name)).expect("a writable mount");
        }
        mount.unmount();
        assert_eq!(dump::extended_references(image.path()).len(), 1);
        assert!(Judge::before_us(image.path()).knows_false_alarm());
        let strict = std::panic::catch_unwind(|| Judge::strict().assert_content(image.path()));
        assert!(strict.is_err(), "excused without being asked");

        // A snapshot has the same names.
        let mount = LoopMount::read_write(image.path());
        let mut command = Command::new("btrfs");
        command.args(["subvolume", "snapshot"]).arg(mount.path());
        run(command.arg(mount.path().join("snapshot")));
        mount.unmount();
        assert!(Judge::before_us(image.path()).knows_false_alarm());
    }

    #[test]
    fn kinds_have_no_numbers_and_a_new_kind_is_no_false_alarm() {
        let said = [
            "ERROR: errors found in fs roots",
            "found 1200 bytes used, error(s) found",
            "it ended with exit status: 1",
        ];
        assert_eq!(kinds(&said), kinds(FALSE_ALARM));
        let more = [&said[..], &["ERROR: root 5 INODE[257] is orphan item"]].concat();
        assert_ne!(kinds(&more), kinds(FALSE_ALARM));
    }

    /// Wrong numbers that nobody marked are a complaint like any other.
    #[test]
    fn quotas_are_excused_only_when_they_are_marked() {
        let image = Image::mkfs_btrfs(300, &[]);
        let mount = LoopMount::read_write(image.path());
        run(Command::new("btrfs")
            .args(["quota", "enable"])
            .arg(mount.path()));
        run(Command::new("btrfs")
            .args(["quota", "rescan", "-w"])
            .arg(mount.path()));
        mount.unmount();
        Judge::before_us(image.path());
        let judge = Judge::strict().without_quota_accounting();
        let unmarked = std::panic::catch_unwind(|| judge.assert_content(image.path()));
        assert!(unmarked.is_err(), "quotas that aren't marked");
    }
}
