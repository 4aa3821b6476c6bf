//! stress-ng's filesystem class, which checks what it has done: it finds no fault in a mount of ours, and
//! leaves out there only what FUSE can't carry.

use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, btrfs_check, run_any};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Not of this filesystem: it mounts one of the kernel's own, which may not be built.
const NOT_OURS: &str = "binderfs";

/// `scripts/stress-ng SECONDS`: so long for each stressor, one after the other.
fn seconds() -> Option<u64> {
    let text = std::env::var("BTRFUSE_STRESS_NG_SECONDS").ok()?;
    Some(text.parse().expect("a number"))
}

/// What stress-ng doesn't do in this place, of all that it has; nothing may fail.
fn left_out(place: &Path) -> BTreeSet<String> {
    let mut command = Command::new("stress-ng");
    command.args(["--class", "filesystem", "--exclude", NOT_OURS, "--verify"]);
    match seconds() {
        Some(seconds) => command.args(["--sequential", "2", "--timeout", &format!("{seconds}s")]),
        None => command.args(["--all", "1", "--timeout", "4s"]),
    };
    command.arg("--temp-path").arg(place);
    let whole = Duration::from_secs(120 + 100 * seconds().unwrap_or(0));
    let finished = run_any(&mut command, whole);
    let said = finished.output();
    assert!(finished.status.success(), "{}\n{said}", finished.status);
    // `stress-ng: fail:  [4711] chmod: ...`
    for line in said.lines() {
        let bad = ["fail:", "error:", "aborted early"];
        assert!(!bad.iter().any(|word| line.contains(word)), "{said}");
    }
    let skipped = said.lines().filter(|line| line.contains("skipping"));
    let name = |line: &str| {
        let told = line.split_once(']')?.1.trim();
        Some(told.split([':', ' ']).next()?.to_owned())
    };
    skipped.filter_map(name).collect()
}

#[test]
fn stress_ng_finds_no_fault() {
    let image = Image::mkfs_btrfs(10_000, &[]);
    let mount = BtrfuseMount::read_write(image.path());
    let here = left_out(mount.path());
    mount.unmount();
    btrfs_check(image.path());
    let image = Image::mkfs_btrfs(10_000, &[]);
    let mount = LoopMount::read_write(image.path());
    let kernel = left_out(mount.path());
    mount.unmount();
    // FIEMAP doesn't reach a FUSE filesystem.
    let more: Vec<&String> = here.difference(&kernel).collect();
    assert_eq!(more, ["fiemap"], "{here:?}, and on the kernel's {kernel:?}");
}
