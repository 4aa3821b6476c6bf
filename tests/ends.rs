//! How a mount ends when more than one thread comes to its end.

use btrfuse_test_support::btrfuse_mount::btrfuse_binary;
use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, Rng, btrfs_check};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::Write;
use std::process::{Child, Command};
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
/// 0 while the other's commit was being written. What the program has written is in the kernel's
/// cache when the signal comes, and must be in that commit.
#[test]
fn a_session_that_ends_during_the_last_commit_waits_for_it() {
    let content = |seed: u64| Rng::new(seed).bytes(60_000_000);
    for delay_ms in [20, 100, 300] {
        let image = Image::mkfs_btrfs(600, &[]);
        let mut mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=300");
        let mut file = File::create(mount.path().join("file")).expect("a writable mount");
        kill_process(pid(&mount), Signal::TERM).expect("our own child");
        wait_until_detached(&mut mount);
        // The commit that goes with the first signal is over.
        std::thread::sleep(Duration::from_millis(500));
        file.write_all(&content(delay_ms)).expect("an open file");
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

/// A daemon that is killed while it has the kernel forget a name stands in the kernel, waiting for the
/// lock of the directory, which somebody has who waits for the daemon. Nothing ended that: the daemon
/// wasn't gone, nor its connection, and everybody who used the mount waited for good.
#[test]
fn users_of_a_killed_daemon_do_not_wait_for_ever() {
    const BUSY: &str = "while mkdir $0-$$ && rmdir $0-$$; do :; done 2>/dev/null";
    const SUBVOLUMES: &str =
        "while $0 subvolume create $1 && $0 subvolume delete $1; do :; done >/dev/null 2>&1";
    let image = Image::mkfs_btrfs(300, &[]);
    for round in 0..12 {
        let mount = BtrfuseMount::read_write(image.path());
        let place = |name: &str| mount.path().join(name);
        let mut users: Vec<Child> = Vec::new();
        for n in 0..4 {
            let mut shell = Command::new("sh");
            shell.args(["-c", BUSY]).arg(place(&format!("dir-{n}")));
            users.push(shell.spawn().expect("a shell"));
        }
        for n in 0..2 {
            let mut shell = Command::new("sh");
            shell.args(["-c", SUBVOLUMES]).arg(btrfuse_binary());
            shell.arg(place(&format!("subvolume-{round}-{n}")));
            users.push(shell.spawn().expect("a shell"));
        }
        std::thread::sleep(Duration::from_millis(300 + 37 * round));
        kill_process(pid(&mount), Signal::KILL).expect("our own child");
        let deadline = Instant::now() + Duration::from_secs(20);
        for user in &mut users {
            while user.try_wait().expect("our own child").is_none() {
                assert!(Instant::now() < deadline, "round {round}: still waiting");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let (status, _) = mount.end();
        assert!(!status.success(), "killed");
        btrfs_check(image.path());
    }
}
