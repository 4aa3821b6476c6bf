//! Several processes on one mount at once, in whichever build `BTRFUSE_BIN` names (the test script
//! runs this for the three protocols): every answer is judged while it runs, and the tree
//! afterwards by `btrfs check` and by the kernel.

use btrfuse_test_support::btrfuse_mount::btrfuse_binary;
use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, btrfs_check, run, run_any};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn stress(folder: &Path, words: &[&str]) {
    let finished = run_any(
        Command::new(btrfuse_binary())
            .arg("stress")
            .arg(folder)
            .args(words),
        Duration::from_secs(240),
    );
    assert!(finished.status.success(), "{}", finished.output());
}

#[track_caller]
fn brawl(image: &Image, options: &str, words: &[&str]) {
    let mount = BtrfuseMount::new(image.path(), options);
    stress(mount.path(), words);
    stress(mount.path(), &["--judge"]);
    mount.unmount();
    btrfs_check(image.path());
    let mount = LoopMount::read_only(image.path());
    stress(mount.path(), &["--judge"]);
    mount.unmount();
}

/// A build says which protocol it is; the script that made it knows.
#[test]
fn the_build_names_its_protocol() {
    let wanted = std::env::var("BTRFUSE_PROTOCOL").unwrap_or_else(|_| "owned".into());
    let version = run(Command::new(btrfuse_binary()).arg("--version")).stdout;
    assert!(version.contains(&wanted), "not {wanted}: {version}");
}

#[test]
fn processes_share_a_mount_of_a_default_image() {
    let image = Image::mkfs_btrfs(900, &[]);
    brawl(&image, "subvolid=5", &["--seed", "11", "--ops", "5000"]);
}

/// A listing shows every name that was there before it began, whatever others do meanwhile. (The
/// kernel's cache of listings, when it was used, kept some that were older than it believed.)
#[test]
fn no_listing_misses_a_name_while_others_come_and_go() {
    let image = Image::mkfs_btrfs(600, &[]);
    let words = [
        "--procs",
        "8",
        "--seed",
        "15",
        "--ops",
        "600",
        "--mix",
        "batch=5,getdents=5",
    ];
    brawl(&image, "subvolid=5", &words);
}

/// The reported reproducer's shape: small nodes, so leaves empty all the time; commits and
/// reclaim in between.
#[test]
fn processes_share_a_mount_with_small_nodes_and_a_small_cache() {
    let image = Image::mkfs_btrfs(600, &["-n", "4096"]);
    let words = ["--seed", "12", "--ops", "8000", "--mix", "empty-leaves"];
    brawl(&image, "subvolid=5,commit=1,metadata_cache=1M", &words);
}

/// A brawl over blocks that snapshots of the kernel share; what they hold stays as it was.
#[test]
fn processes_share_a_mount_beside_snapshots() {
    let image = Image::mkfs_btrfs(900, &[]);
    let mount = LoopMount::read_write(image.path());
    let words = [
        "--seed",
        "13",
        "--ops",
        "1500",
        "--mix",
        "fsstress,snapshot=8",
    ];
    stress(mount.path(), &words);
    let root = mount.path();
    run(Command::new("btrfs")
        .args(["subvolume", "snapshot", "-r"])
        .arg(root)
        .arg(root.join("kept")));
    mount.unmount();
    let mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=2");
    stress(mount.path(), &["--judge"]);
    let elsewhere = mount.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a folder");
    stress(&elsewhere, &["--seed", "14", "--ops", "2000"]);
    stress(mount.path(), &["--judge"]);
    mount.unmount();
    btrfs_check(image.path());
    let mount = LoopMount::read_only(image.path());
    for place in [mount.path(), &mount.path().join("elsewhere")] {
        stress(place, &["--judge"]);
    }
    mount.unmount();
}
