//! Several processes on one mount at once, in whichever build `BTRFUSE_BIN` names (the test script
//! runs this for the three protocols): every answer is judged while it runs, and the tree
//! afterwards by `btrfs check` and by the kernel.

use btrfuse_test_support::btrfuse_mount::{btrfuse_binary, built};
use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, btrfs_check, mix, run, run_any};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PROCESSES: u64 = 4;

fn workload(folder: &Path, seed: u64, steps: usize) {
    let finished = run_any(
        Command::new(built("BTRFUSE_WORKLOAD", "examples/workload"))
            .arg(folder)
            .args(["--processes", &PROCESSES.to_string()])
            .args(["--steps", &steps.to_string(), "--seed", &seed.to_string()]),
        Duration::from_secs(240),
    );
    assert!(finished.status.success(), "{}", finished.output());
}

#[track_caller]
fn brawl(image: &Image, options: &str, seed: u64, steps: usize) {
    let mount = BtrfuseMount::new(image.path(), options);
    workload(mount.path(), seed, steps);
    mix::judge(mount.path(), seed, PROCESSES, steps);
    mount.unmount();
    btrfs_check(image.path());
    let mount = LoopMount::read_only(image.path());
    mix::judge(mount.path(), seed, PROCESSES, steps);
    mount.unmount();
}

/// The judges and the mix, with the kernel in our place.
#[test]
fn the_mix_passes_on_the_kernels_mount() {
    let image = Image::mkfs_btrfs(600, &[]);
    let mount = LoopMount::read_write(image.path());
    workload(mount.path(), 3, 200);
    mix::judge(mount.path(), 3, PROCESSES, 200);
    mount.unmount();
    btrfs_check(image.path());
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
    brawl(&Image::mkfs_btrfs(600, &[]), "subvolid=5", 11, 2000);
}

/// The reported reproducer's shape: small nodes, so leaves empty all the time; commits and
/// reclaim in between.
#[test]
fn processes_share_a_mount_with_small_nodes_and_a_small_cache() {
    let image = Image::mkfs_btrfs(600, &["-n", "4096"]);
    brawl(&image, "subvolid=5,commit=1,metadata_cache=1M", 12, 2000);
}

/// A brawl over blocks that a snapshot shares; the snapshot stays as it was.
#[test]
fn processes_share_a_mount_beside_a_snapshot() {
    let image = Image::mkfs_btrfs(900, &[]);
    let mount = LoopMount::read_write(image.path());
    workload(mount.path(), 13, 100);
    let root = mount.path();
    run(Command::new("btrfs")
        .args(["subvolume", "snapshot", "-r"])
        .arg(root)
        .arg(root.join("kept")));
    for name in ["shared", "process-0", "process-1", "process-2", "process-3"] {
        run(Command::new("rm").arg("-r").arg(root.join(name)));
    }
    mount.unmount();
    brawl(&image, "subvolid=5,commit=2", 14, 800);
    let mount = LoopMount::read_only(image.path());
    mix::judge(&mount.path().join("kept"), 13, PROCESSES, 100);
    mount.unmount();
}
