//! `btrfs check` as a judge: original and lowmem mode, with data checksums.
//!
//! A clean run of btrfs-progs says nothing but its progress and sums, so every other line is a
//! complaint, whatever the exit code. (The free-space entries that mkfs.btrfs 6.2 leaves behind
//! for block groups that it dropped need no exception: check 6.2 doesn't report them.) What may
//! be excused of a single image is in `judge.rs`, and has to be asked for there.

use crate::command::{Finished, run_any};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The modes of `btrfs check`.
pub const MODES: &[&str] = &["original", "lowmem"];

/// Both modes must find nothing.
#[track_caller]
pub fn btrfs_check(image: &Path) {
    for mode in MODES {
        content(image, mode, &complaints(&check(image, mode)));
    }
}

#[track_caller]
pub(crate) fn content(image: &Path, mode: &str, complaints: &[String]) {
    assert!(
        complaints.is_empty(),
        "btrfs check --mode={mode} {}:\n{}",
        image.display(),
        complaints.join("\n"),
    );
}

/// The bare command.
pub fn check(image: &Path, mode: &str) -> Finished {
    run_any(
        Command::new("btrfs")
            .args(["check", "--check-data-csum", &format!("--mode={mode}")])
            .arg(image),
        Duration::from_secs(600),
    )
}

/// What of its output speaks against the image.
pub fn complaints(finished: &Finished) -> Vec<String> {
    let lines = finished.stdout.lines().chain(finished.stderr.lines());
    let mut found: Vec<String> = lines
        .filter(|line| !is_ordinary(line))
        .map(str::to_owned)
        .collect();
    if !finished.status.success() {
        found.push(format!("it ended with {}", finished.status));
    }
    found
}

/// btrfs-progs 6.2 in original mode says of a snapshot that shares a leaf with ORPHAN_ITEMs that
/// something is wrong, and not what; the kernel's own commit of a snapshot raises it too (unlink an
/// open file, `btrfs subvolume snapshot`, and check a copy of the image). Lowmem mode doesn't, and it is
/// over when the next mount has deleted what nobody uses: whoever asks this demands both.
pub fn is_about_shared_orphans(found: &[String]) -> bool {
    let named = |line: &&String| {
        !(line.ends_with(" bytes used, error(s) found")
            || *line == "ERROR: errors found in fs roots"
            || line.starts_with("it ended with "))
    };
    !found.is_empty() && found.iter().find(named).is_none()
}

fn is_ordinary(line: &str) -> bool {
    const HEADS: &[&str] = &["Checking filesystem on ", "UUID: ", "metadata UUID: "];
    const SUMS: &[&str] = &[
        "total csum bytes: ",
        "total tree bytes: ",
        "total fs tree bytes: ",
        "total extent tree bytes: ",
        "btree space waste bytes: ",
        "file data blocks allocated: ",
        "referenced ",
    ];
    let line = line.trim();
    let stage = line.as_bytes();
    let stage = stage.first() == Some(&b'[')
        && stage.get(1).is_some_and(u8::is_ascii_digit)
        && line[1..].contains("] checking ");
    let number = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
    line.is_empty()
        || stage
        || line == "Opening filesystem to check..."
        || line.starts_with("found ") && line.ends_with(" bytes used, no error found")
        || HEADS.iter().any(|head| line.starts_with(head))
        || SUMS
            .iter()
            .any(|sum| line.strip_prefix(sum).is_some_and(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Image;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_planted_fault_is_found_in_both_modes() {
        let image = Image::mkfs_btrfs(128, &["-m", "single"]);
        btrfs_check(image.path());
        // The root tree's block, found through the superblock's field at 0x50 (identity mapped
        // by no one, so ask the tool for the physical place).
        let mapped = crate::run(
            Command::new("btrfs")
                .args(["inspect-internal", "dump-super"])
                .arg(image.path()),
        );
        let root = mapped
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("root\t"))
            .expect("dump-super names the root")
            .trim()
            .to_owned();
        let place = crate::run(
            Command::new("btrfs-map-logical")
                .args(["-l", &root])
                .arg(image.path()),
        );
        let physical: u64 = place
            .stdout
            .split_whitespace()
            .skip_while(|word| *word != "physical")
            .nth(1)
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("no physical address in {:?}", place.stdout));
        let file = std::fs::File::options()
            .write(true)
            .open(image.path())
            .expect("our image");
        file.write_all_at(b"rot", physical + 4000)
            .expect("our image");
        for mode in ["original", "lowmem"] {
            assert!(
                !complaints(&check(image.path(), mode)).is_empty(),
                "{mode} saw nothing"
            );
        }
    }
}
