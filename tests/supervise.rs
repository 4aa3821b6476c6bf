//! `btrfuse mount --supervise`: a crashed daemon is replaced, and one that has ended isn't.

use btrfuse_test_support::btrfuse_mount::btrfuse_binary;
use btrfuse_test_support::shell::passes;
use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, btrfs_check};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

fn supervised(image: &Image) -> BtrfuseMount {
    let mount = BtrfuseMount::new(image.path(), "subvolid=5,supervise");
    // A start that fails is one; only a mount that has answered is made again.
    fs::read_dir(mount.path()).expect("a mount");
    mount
}

/// The daemon: the supervisor's only child.
fn daemon_of(supervisor: u32) -> Pid {
    let list = format!("/proc/{supervisor}/task/{supervisor}/children");
    wait_for("a daemon", || {
        let children = fs::read_to_string(&list).expect("a running supervisor");
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    })
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} isn't there");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Kills the daemon, and waits until another one answers.
fn crash(mount: &BtrfuseMount) -> Duration {
    let old = daemon_of(mount.daemon_id());
    kill_process(old, Signal::KILL).expect("the supervisor's child");
    let began = Instant::now();
    wait_for("a new daemon", || {
        (daemon_of(mount.daemon_id()) != old).then_some(())
    });
    wait_for("a new mount", || {
        let is_ours = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let is_ours = is_ours.contains(mount.path().to_str()?);
        (is_ours && fs::read_dir(mount.path()).is_ok()).then_some(())
    });
    began.elapsed()
}

#[test]
fn a_killed_daemon_is_replaced_and_what_was_durable_is_there() {
    let image = Image::mkfs_btrfs(300, &[]);
    let mut mount = supervised(&image);
    for round in 0..3 {
        let name = mount.path().join(format!("kept-{round}"));
        let mut file = File::create(&name).expect("a writable mount");
        file.write_all(b"told").expect("a writable mount");
        file.sync_all().expect("durable");
        let took = crash(&mount);
        println!("round {round}: {took:?}");
        // A write may stay in the kernel's memory; who wants to rely on it is told.
        let _ = file.write_all(b"more");
        let refused = rustix::fs::fsync(&file).expect_err("its connection is gone");
        let told = [Errno::NOTCONN, Errno::CONNABORTED, Errno::IO];
        assert!(told.contains(&refused), "{refused}");
        for kept in 0..=round {
            let kept = mount.path().join(format!("kept-{kept}"));
            assert_eq!(fs::read(kept).expect("durable"), b"told");
        }
    }
    let log = mount.log();
    assert_eq!(
        log.matches("was killed by signal 9: what wasn't durable is lost")
            .count(),
        3,
        "{log}"
    );
    assert_eq!(log.matches("again,").count(), 3, "{log}");
    let (status, log) = mount.end();
    assert!(status.success(), "{status}\n{log}");
    btrfs_check(image.path());
    let judge = LoopMount::read_only(image.path());
    assert_eq!(
        fs::read(judge.path().join("kept-2")).expect("durable"),
        b"told"
    );
    judge.unmount();
}

/// Ended in order, by a signal or by umount: that is what was wanted.
#[test]
fn a_mount_that_was_ended_is_not_made_again() {
    let image = Image::mkfs_btrfs(300, &[]);
    for signal in [Signal::TERM, Signal::INT] {
        let mount = supervised(&image);
        crash(&mount);
        let file = mount.path().join("late");
        fs::write(file, signal.as_raw().to_string()).expect("a writable mount");
        let supervisor = Pid::from_raw(mount.daemon_id().cast_signed()).expect("running");
        kill_process(supervisor, signal).expect("our own child");
        let (status, log) = mount.wait_for_end();
        assert!(status.success(), "{status}\n{log}");
        let judge = LoopMount::read_only(image.path());
        let late = fs::read_to_string(judge.path().join("late")).expect("durable");
        assert_eq!(late, signal.as_raw().to_string());
        judge.unmount();
    }
    // Its daemon was told to end, and something that is mounted in it keeps the mount in the tree.
    let mut mount = supervised(&image);
    let inner = mount.path().join("inner");
    fs::create_dir(&inner).expect("a writable mount");
    btrfuse_test_support::run(
        Command::new("mount")
            .args(["-t", "tmpfs", "none"])
            .arg(&inner),
    );
    let daemon = daemon_of(mount.daemon_id());
    kill_process(daemon, Signal::TERM).expect("the supervisor's child");
    wait_for("the first signal's commit", || {
        mount.log().contains("it ends in 10 s").then_some(())
    });
    kill_process(daemon, Signal::TERM).expect("the supervisor's child");
    wait_for("the daemon's end", || {
        fs::read_dir(mount.path()).is_err().then_some(())
    });
    let (status, log) = {
        // The dead mount is still below it.
        unmount(&inner, UnmountFlags::DETACH).expect("a mount");
        mount.end()
    };
    assert!(status.success(), "{status}\n{log}");
    assert!(!log.contains("again"), "{log}");
    // Unmounted, and killed before its last user had let go of it.
    let mount = supervised(&image);
    let held = File::open(mount.path()).expect("a mount");
    unmount(mount.path(), UnmountFlags::DETACH).expect("a mount");
    kill_process(daemon_of(mount.daemon_id()), Signal::KILL).expect("the supervisor's child");
    let (status, log) = mount.wait_for_end();
    drop(held);
    assert_eq!(status.code(), Some(5), "{log}");
    assert!(log.contains("isn't started again"), "{log}");
}

#[test]
fn one_that_crashes_over_and_over_is_given_up() {
    let image = Image::mkfs_btrfs(300, &[]);
    let mut mount = supervised(&image);
    for _ in 0..4 {
        crash(&mount);
    }
    kill_process(daemon_of(mount.daemon_id()), Signal::KILL).expect("the supervisor's child");
    wait_for("the end", || {
        mount.log().contains("isn't mounted again").then_some(())
    });
    // Users are told, and don't find the folder below in its place.
    assert!(fs::read_dir(mount.path()).is_err(), "a dead mount");
    let (status, log) = mount.end();
    assert_eq!(status.code(), Some(5), "{log}");
    btrfs_check(image.path());
}

fn btrfuse(words: &[&str], paths: &[&Path]) -> std::process::Output {
    let mut command = Command::new(btrfuse_binary());
    command.args(words).args(paths).stdin(Stdio::null());
    command.output().expect("btrfuse")
}

/// As a daemon: the command comes back, and `btrfuse umount` waits for the end as ever.
#[test]
fn a_supervised_daemon_works_in_the_background() {
    let image = Image::mkfs_btrfs(300, &[]);
    let place = tempfile::tempdir().expect("a place");
    let (dir, log) = (place.path().join("dir"), place.path().join("log"));
    fs::create_dir(&dir).expect("a folder");
    let log_word = log.to_str().expect("UTF-8");
    let output = btrfuse(
        &["mount", "--supervise", "--log", log_word],
        &[image.path(), &dir],
    );
    assert!(output.status.success(), "{output:?}");
    let pid = || {
        let log = fs::read_to_string(&log).ok()?;
        let line = log.lines().rfind(|line| line.contains(" mounted on "))?;
        let pid = line.split_once("btrfuse[")?.1.split_once(']')?.0;
        Pid::from_raw(pid.parse().ok()?)
    };
    let first = wait_for("a daemon", pid);
    fs::write(dir.join("kept"), "told").expect("a writable mount");
    assert!(btrfuse(&["sync"], &[&dir]).status.success());
    kill_process(first, Signal::KILL).expect("a daemon");
    wait_for("a new daemon", || pid().filter(|pid| *pid != first));
    wait_for("a new mount", || fs::read(dir.join("kept")).ok());
    let output = btrfuse(&["umount"], &[&dir]);
    assert!(output.status.success(), "{output:?}");
    btrfs_check(image.path());
}

/// The reason is said once, by whoever the user called.
#[test]
fn a_start_that_fails_is_told_as_without_a_supervisor() {
    let place = tempfile::tempdir().expect("a place");
    let (dir, image) = (place.path().join("dir"), place.path().join("image"));
    fs::create_dir(&dir).expect("a folder");
    fs::write(&image, vec![0; 1 << 20]).expect("a file");
    for more in [&["mount"][..], &["mount", "-f"]] {
        let plain = btrfuse(more, &[&image, &dir]);
        let supervised = btrfuse(&[more, &["--supervise"]].concat(), &[&image, &dir]);
        assert_eq!(
            supervised.status.code(),
            plain.status.code(),
            "{supervised:?}"
        );
        assert_eq!(
            String::from_utf8_lossy(&supervised.stderr),
            String::from_utf8_lossy(&plain.stderr)
        );
    }
}

/// Through /etc/fstab, and by a user without root: the new daemon is the user's, and so is its mount.
#[test]
fn mounts_of_fstab_and_of_users_come_back() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r#"
# daemon IMAGE: who has it locked.
daemon() { awk -v inode=":$(stat -c %i "$1")\$" '$2 == "FLOCK" && $6 ~ inode { print $5 }' /proc/locks; }
# crash IMAGE COMMAND...: kills the daemon, waits for the next one, and for the command to succeed.
crash() {
    disk=$1; shift
    old=$(daemon "$disk")
    kill -KILL $old
    tries=0
    until new=$(daemon "$disk") && [ -n "$new" ] && [ "$new" != $old ] && "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 400 ] || fail "no new mount after $old, but $new: $(cat /proc/mounts)"
        sleep 0.05
    done
}
"$HELPERS/install" --prefix "$PLACE/usr" --binary "$BTRFUSE" >/dev/null
echo "$IMAGE $PLACE/m btrfuse noauto,supervise,x-test.a=b 0 0" >/etc/fstab
mount "$PLACE/m"
echo durable >m/file
code 0 "$BTRFUSE" sync m
crash "$IMAGE" grep -q durable m/file
[ "$(kind m)" = fuse.btrfuse ] || fail "mounted as $(kind m)"
umount "$PLACE/m"
flock --nonblock --exclusive "$IMAGE" true || fail "umount came back while the image was in use"

cp --sparse=always "$IMAGE" image
mount -t btrfs -o loop image m && chown nobody m && umount m
cp "$BTRFUSE" bin/btrfuse
chown nobody image m
as() { setpriv --reuid nobody --regid nogroup --clear-groups env HOME=/ "$@"; }
touch log && chown nobody log
code 0 as "$PLACE/bin/btrfuse" mount --supervise --log log image m
as sh -c 'echo mine >m/mine'
code 0 as "$PLACE/bin/btrfuse" sync m
crash image as grep -q mine m/mine
grep "$PLACE/m" /proc/mounts | grep -q "nosuid,nodev.*user_id=65534" || fail "$(cat /proc/mounts)"
[ "$(stat -c %u /proc/$(daemon image))" = 65534 ] || fail "the new daemon isn't the user's"
code 1 cat m/mine
code 0 as "$PLACE/bin/btrfuse" umount m
btrfs check --check-data-csum image >/dev/null 2>&1 || fail "check after a user's umount"
"#,
    );
    btrfs_check(image.path());
}
