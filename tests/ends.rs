//! How a mount ends when more than one thread comes to its end.

use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, Rng, btrfs_check};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

fn pid(mount: &BtrfuseMount) -> Pid {
    Pid::from_raw(mount.daemon_id().cast_signed()).expect("a running daemon")
}

/// Waits until a mount is out of the tree, which it was taken out of by a signal.
fn wait_until_detached(mount: &mut BtrfuseMount) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !mount.log().contains("it is detached") {
        assert!(Instant::now() < deadline, "not detached: {}", mount.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The second signal makes the last commit, and meanwhile the last program lets go of the mount:
/// two threads came to the end, and the one that found nothing left to do ended the process with
/// 0 while the other's commit was being written.
#[test]
fn a_session_that_ends_during_the_last_commit_waits_for_it() {
    let content = |seed: u64| Rng::new(seed).bytes(60_000_000);
    for delay_ms in [20, 60, 100] {
        let image = Image::mkfs_btrfs(600, &[]);
        let mut mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=300");
        let mut file = File::create(mount.path().join("file")).expect("a writable mount");
        kill_process(pid(&mount), Signal::TERM).expect("our own child");
        wait_until_detached(&mut mount);
        // The commit that goes with the first signal is over.
        std::thread::sleep(Duration::from_millis(500));
        file.write_all(&content(delay_ms)).expect("an open file");
        // Into the daemon's memory, not to the image.
        rustix::fs::syncfs(&file).expect("an open file");
        kill_process(pid(&mount), Signal::TERM).expect("our own child");
        std::thread::sleep(Duration::from_millis(delay_ms));
        drop(file);
        let (status, log) = mount.wait_for_end();
        assert!(status.success(), "{status}\n{log}");
        btrfs_check(image.path());
        let mount = LoopMount::read_only(image.path());
        let found = fs::read(mount.path().join("file")).expect("the file");
        assert!(
            found == content(delay_ms),
            "after {delay_ms} ms: exit 0, and {} bytes are there\n{log}",
            found.len()
        );
        mount.unmount();
    }
}
