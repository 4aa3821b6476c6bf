//! Several processes on one mount at once, in whichever build `BTRFUSE_BIN` names (the test script
//! runs this for the three protocols): every answer is judged while it runs, and the tree
//! afterwards by `btrfs check` and by the kernel.

use btrfuse_test_support::btrfuse_mount::btrfuse_binary;
use btrfuse_test_support::check::{check, complaints, is_about_shared_orphans};
use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, Rng, btrfs_check, run, run_any};
use rustix::process::Signal;
use std::fs::File;
use std::io::Write;
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

/// Snapshots of ours come and go under the load that they freeze: each is compared with what its
/// process remembers when it is taken, and those that are left once more by us and by the kernel.
#[test]
fn processes_share_a_mount_that_they_snapshot() {
    // Room for the kernel's reserve. It counts the root tree's blocks from 0 at a mount, so that once
    // deleted snapshots have made that tree smaller, the next new chunk brings a reserve of 512 MiB; on
    // images of its own, too (6.18: delete 300 snapshots after a remount, write 300 MiB into 900).
    let image = Image::mkfs_btrfs(3000, &["-n", "4096"]);
    let mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=1");
    let mix = ["--mix", "fsstress,snapshot=12"];
    let words = ["--procs", "6", "--seed", "16", "--ops", "1500"];
    stress(mount.path(), &[&words[..], &mix].concat());
    let left = std::fs::read_dir(mount.path().join("btrfuse-stress/snapshots"));
    assert!(
        left.expect("a folder").count() > 6,
        "snapshots were left out"
    );
    stress(mount.path(), &["--judge"]);
    mount.unmount();
    btrfs_check(image.path());
    let mount = LoopMount::read_write(image.path());
    stress(mount.path(), &["--judge"]);
    let again = ["--fresh", "--seed", "17", "--ops", "300"];
    stress(mount.path(), &[&again[..], &mix].concat());
    mount.unmount();
    btrfs_check(image.path());
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

/// One of several writers that trust fsync: the numbers of the files that it was told are durable.
fn trusting(folder: &Path, writer: u64) -> Vec<u64> {
    let mut durable = Vec::new();
    for number in 0.. {
        let mut file = match File::create(folder.join(format!("{writer}-{number}"))) {
            Ok(file) => file,
            Err(_) => break,
        };
        let content = trusted(writer, number);
        // Nobody answers any more: the daemon is gone.
        if file.write_all(&content).is_err() || file.sync_all().is_err() {
            break;
        }
        durable.push(number);
    }
    durable
}

fn trusted(writer: u64, number: u64) -> Vec<u8> {
    let mut rng = Rng::new(writer << 32 | number);
    let len = [100, 3000, 70_000][number as usize % 3];
    rng.bytes(len)
}

/// Check finds nothing; or, of a snapshot with orphans in it, what it must find of the kernel's as
/// well, and nothing once a mount has deleted them.
fn sound_after_a_crash(image: &Image) {
    if !is_about_shared_orphans(&complaints(&check(image.path(), "original"))) {
        return btrfs_check(image.path());
    }
    assert_eq!(complaints(&check(image.path(), "lowmem")), [""; 0]);
    let later = image.copy();
    BtrfuseMount::read_write(later.path()).unmount();
    btrfs_check(later.path());
}

/// The daemon is killed in the middle of everybody's work: check finds nothing, what fsync told is
/// there, and work goes on from what is there; again and again on one image.
#[test]
fn a_daemon_killed_under_load_leaves_what_was_told() {
    let image = Image::mkfs_btrfs(900, &["-n", "4096"]);
    let mut all = 0;
    for round in 0..4 {
        let mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=1");
        let folder = mount.path().join(format!("round-{round}"));
        let load = mount.path().join(format!("load-{round}"));
        std::fs::create_dir(&folder).expect("a writable mount");
        std::fs::create_dir(&load).expect("a writable mount");
        let told: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let mut workload = Command::new(btrfuse_binary());
            workload.arg("stress").arg(&load);
            workload.args(["--ops", "100000", "--mix", "empty-leaves"]);
            workload.args(["--seed", &format!("{}", 70 + round)]);
            scope.spawn(move || run_any(&mut workload, Duration::from_secs(120)));
            let folder = &folder;
            let writers: Vec<_> = (0..3)
                .map(|writer| scope.spawn(move || trusting(folder, writer)))
                .collect();
            std::thread::sleep(Duration::from_millis(1500 + 400 * round));
            let daemon = rustix::process::Pid::from_raw(mount.daemon_id().cast_signed());
            let daemon = daemon.expect("a running daemon");
            rustix::process::kill_process(daemon, Signal::KILL).expect("our own child");
            let join = |writer: std::thread::ScopedJoinHandle<'_, Vec<u64>>| writer.join();
            let told = writers.into_iter().map(join);
            told.map(|told| told.expect("a writer that ends")).collect()
        });
        let (status, _) = mount.end();
        assert!(!status.success(), "killed");
        sound_after_a_crash(&image);
        let mount = LoopMount::read_only(image.path());
        let folder = mount.path().join(format!("round-{round}"));
        let mut files = 0;
        for (writer, told) in told.iter().enumerate() {
            for &number in told {
                let found = std::fs::read(folder.join(format!("{writer}-{number}")));
                let found = found.expect("a file that fsync told was there");
                assert!(found == trusted(writer as u64, number), "{writer}-{number}");
                files += 1;
            }
        }
        eprintln!("round {round}: {files} files");
        all += files;
        mount.unmount();
    }
    assert!(all > 20, "only {all} files were told");
}
