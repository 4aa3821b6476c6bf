//! What a mount promises beyond its tree: what is durable when, who may mount, what becomes of open
//! files, and how it ends.

use btrfuse_test_support::{
    BtrfuseMount, Image, LoopMount, Story, assert_quiet, btrfs_check, btrfuse_binary, run, run_any,
    temp_dir,
};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, FileTimes};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

fn pid(mount: &BtrfuseMount) -> Pid {
    Pid::from_raw(mount.daemon_id().cast_signed()).expect("a running daemon")
}

/// The image as a power cut would leave it now, judged: sound, and the kernel sees these files.
fn judge_now(image: &Image, files: &[(&str, &str)]) {
    let cut = image.copy();
    btrfs_check(cut.path());
    let mount = LoopMount::read_only(cut.path());
    for (name, text) in files {
        let found = fs::read_to_string(mount.path().join(name));
        assert_eq!(found.expect(name), *text, "{name}");
    }
    mount.unmount();
}

#[test]
fn what_was_synced_is_on_the_image() {
    let image = Image::mkfs_btrfs(300, &[]);
    let mount = BtrfuseMount::read_write(image.path());
    fs::write(mount.path().join("a"), "before the sync").expect("a writable mount");
    mount.sync();
    judge_now(&image, &[("a", "before the sync")]);
    // fsync of one file is enough for that file, and for the names it was reached by.
    fs::create_dir(mount.path().join("d")).expect("a writable mount");
    let mut file = File::create(mount.path().join("d/b")).expect("a writable mount");
    file.write_all(b"before the fsync")
        .expect("a writable mount");
    file.sync_all().expect("fsync");
    judge_now(
        &image,
        &[("a", "before the sync"), ("d/b", "before the fsync")],
    );
    drop(file);
    mount.unmount();
}

#[test]
fn the_commit_interval_makes_names_durable_by_itself() {
    let image = Image::mkfs_btrfs(300, &[]);
    let mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=1");
    let before = image.generation();
    fs::create_dir(mount.path().join("left-alone")).expect("a writable mount");
    let deadline = Instant::now() + Duration::from_secs(20);
    while image.generation() == before {
        assert!(Instant::now() < deadline, "no commit in 20 s with commit=1");
        std::thread::sleep(Duration::from_millis(50));
    }
    let cut = image.copy();
    mount.unmount();
    btrfs_check(cut.path());
    let mount = LoopMount::read_only(cut.path());
    assert!(mount.path().join("left-alone").is_dir());
    mount.unmount();
}

/// Content that the kernel has handed over waits in the daemon's memory no longer than names do.
#[test]
fn the_commit_interval_makes_content_durable_by_itself() {
    let image = Image::mkfs_btrfs(300, &[]);
    let mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=1");
    let text = "left alone ".repeat(10_000);
    fs::write(mount.path().join("file"), &text).expect("a writable mount");
    // On a FUSE mount this only empties the page cache.
    rustix::fs::syncfs(File::open(mount.path()).expect("a folder")).expect("a mount");
    let deadline = Instant::now() + Duration::from_secs(20);
    let cut = loop {
        assert!(Instant::now() < deadline, "not on the image after 20 s");
        std::thread::sleep(Duration::from_millis(300));
        let cut = image.copy();
        let dump = run(Command::new("btrfs")
            .args(["inspect-internal", "dump-tree", "-t", "5"])
            .arg(cut.path()));
        if dump.stdout.contains(" EXTENT_DATA ") {
            break cut;
        }
    };
    mount.unmount();
    judge_now(&cut, &[("file", &text)]);
}

/// The daemon dies in the middle of its work: some committed state is there, sound, and what was
/// synced before is in it.
#[test]
fn a_killed_daemon_leaves_a_sound_image() {
    for seed in 61..=64 {
        let image = Image::mkfs_btrfs(300, &["-n", ["4096", "16384"][seed as usize % 2]]);
        let mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=1");
        fs::write(mount.path().join("kept"), "before the kill").expect("a writable mount");
        let mut story = Story::new(seed, "story");
        story.begin(mount.path());
        story.go_on(mount.path(), 200);
        mount.sync();
        let told = story.frozen("story");
        story.go_on(mount.path(), 100 * (seed as usize % 4));
        kill_process(pid(&mount), Signal::KILL).expect("our own child");
        let (status, _) = mount.end();
        assert!(!status.success(), "killed");
        judge_now(&image, &[("kept", "before the kill")]);
        if seed % 4 == 0 {
            let mount = LoopMount::read_only(image.path());
            told.assert_told("what was synced before the kill", mount.path());
            mount.unmount();
        }
        // And we go on from there.
        let mount = BtrfuseMount::read_write(image.path());
        fs::write(mount.path().join("after"), "again").expect("a writable mount");
        mount.unmount();
        judge_now(&image, &[("kept", "before the kill"), ("after", "again")]);
    }
}

#[test]
fn signals_unmount_and_the_exit_is_the_durable_end() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let image = Image::mkfs_btrfs(300, &[]);
        let mount = BtrfuseMount::read_write(image.path());
        fs::write(mount.path().join("a"), "before the signal").expect("a writable mount");
        kill_process(pid(&mount), signal).expect("our own child");
        let (status, log) = mount.wait_for_end();
        assert!(status.success(), "{signal:?}: {status}\n{log}");
        assert_quiet(&format!("{signal:?}"), &log, &[]);
        judge_now(&image, &[("a", "before the signal")]);
    }
}

/// A mount that lives on at another place is off its directory all the same: what is there next is
/// somebody else's, and was detached as well.
#[test]
fn a_signal_takes_nothing_but_our_mount_off_the_directory() {
    let image = Image::mkfs_btrfs(300, &[]);
    let (here, there) = (temp_dir(), temp_dir());
    let mount = |arguments: &[&str], on: &Path| {
        run(Command::new("mount").args(arguments).arg(on));
    };
    mount(&["-t", "tmpfs", "below"], here.path());
    let below = here.path().join("below");
    fs::write(&below, "theirs").expect("a fresh tmpfs");
    let mut daemon = Command::new(btrfuse_binary())
        .args(["mount", "-f"])
        .args([image.path(), here.path()])
        .spawn()
        .expect("the program under test");
    let deadline = Instant::now() + Duration::from_secs(60);
    while below.exists() {
        assert!(Instant::now() < deadline, "not mounted after 60 s");
        std::thread::sleep(Duration::from_millis(10));
    }
    let ours = here.path().to_str().expect("our own name");
    mount(&["--bind", ours], there.path());
    let daemon_id = Pid::from_raw(daemon.id().cast_signed()).expect("a running daemon");
    kill_process(daemon_id, Signal::TERM).expect("our own child");
    // It tries to leave, sees that it can't, and does what it does then.
    std::thread::sleep(Duration::from_millis(2000));
    let stayed = fs::read_to_string(&below);
    unmount(there.path(), UnmountFlags::empty()).expect("our own mount");
    assert!(daemon.wait().expect("our own child").success());
    assert_eq!(stayed.expect("the mount below"), "theirs");
    unmount(here.path(), UnmountFlags::empty()).expect("our own mount");
    btrfs_check(image.path());
}

/// Every test that ends a mount holds that its log has no complaint. The rule looked for words
/// that the log doesn't use, and could not fail.
#[test]
fn a_complaint_in_the_log_fails_a_test() {
    const LOST: &str = "doesn't match its checksum";
    let image = Image::mkfs_btrfs(300, &[]);
    let mount = BtrfuseMount::read_write(image.path());
    let content = vec![b'q'; 1 << 20];
    fs::write(mount.path().join("file"), &content).expect("a writable mount");
    mount.unmount();
    let mut bytes = fs::read(image.path()).expect("our own image");
    let at = bytes
        .windows(4096)
        .position(|part| part == &content[..4096]);
    bytes[at.expect("uncompressed content") + 500] ^= 1;
    fs::write(image.path(), bytes).expect("our own image");
    let rotten = || {
        let mount = BtrfuseMount::read_write(image.path());
        let read = fs::read(mount.path().join("file"));
        assert_eq!(read.expect_err("a rotten block").raw_os_error(), Some(5));
        mount
    };
    let log = rotten().unmount_to_log();
    let judged = |excuses: &'static [&'static str]| {
        let log = log.clone();
        std::panic::catch_unwind(move || assert_quiet("planted", &log, excuses)).is_ok()
    };
    assert!(!judged(&[]), "not seen:\n{log}");
    assert!(!judged(&[LOST, "superblock"]), "never said:\n{log}");
    let mount = rotten();
    assert!(std::panic::catch_unwind(move || mount.unmount()).is_err());
    rotten().unmount_excusing(&[LOST]);
}

/// What a read makes of the access time of a file that nobody has read since it was written, and
/// of one that was read since.
#[test]
fn access_times_move_as_the_options_say() {
    let image = Image::mkfs_btrfs(300, &[]);
    let hour = Duration::from_secs(3600);
    for (option, moves) in [
        ("noatime", [false, false]),
        ("relatime", [true, false]),
        ("strictatime", [true, true]),
    ] {
        let accessed = |path: &Path| {
            let found = fs::metadata(path).expect("a file");
            found.accessed().expect("an access time")
        };
        let reset = |root: &Path| {
            for (name, time) in [
                ("unread", SystemTime::UNIX_EPOCH + hour),
                ("read", SystemTime::now() + hour),
            ] {
                fs::write(root.join(name), [7; 9000]).expect("a writable mount");
                let file = File::options().write(true).open(root.join(name));
                let times = FileTimes::new().set_accessed(time);
                file.and_then(|file| file.set_times(times)).expect("times");
            }
        };
        let read = |root: &Path| {
            ["unread", "read"].map(|name| {
                let before = accessed(&root.join(name));
                fs::read(root.join(name)).expect("a file");
                before != accessed(&root.join(name))
            })
        };
        let fresh = BtrfuseMount::read_write(image.path());
        reset(fresh.path());
        fresh.unmount();
        // The kernel is asked the same about a copy.
        let twin = image.copy().fresh_fsid();
        let judge = LoopMount::new(&[twin.path()], option);
        assert_eq!(read(judge.path()), moves, "the kernel, {option}");
        judge.unmount();
        let mount = BtrfuseMount::new(image.path(), &format!("subvolid=5,{option}"));
        assert_eq!(read(mount.path()), moves, "{option}");
        let shown = ["unread", "read"].map(|name| accessed(&mount.path().join(name)));
        mount.unmount();
        let mount = LoopMount::read_only(image.path());
        let kept = ["unread", "read"].map(|name| accessed(&mount.path().join(name)));
        assert_eq!(kept, shown, "{option}: on the image");
        mount.unmount();
    }
}

/// A program doesn't let go: the first signal commits and detaches, the second ends it.
#[test]
fn signals_end_a_mount_that_is_in_use() {
    let image = Image::mkfs_btrfs(300, &[]);
    let mount = BtrfuseMount::read_write(image.path());
    fs::write(mount.path().join("a"), "before the signal").expect("a writable mount");
    let mut open = File::create(mount.path().join("b")).expect("a writable mount");
    open.write_all(b"not closed").expect("a writable mount");
    kill_process(pid(&mount), Signal::TERM).expect("our own child");
    let deadline = Instant::now() + Duration::from_secs(30);
    while fs::read_dir(mount.path()).expect("a folder").count() > 0 {
        assert!(Instant::now() < deadline, "not detached");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_process(pid(&mount), Signal::TERM).expect("our own child");
    let (status, log) = mount.wait_for_end();
    assert!(status.success(), "{status}\n{log}");
    let excuses = [
        "is still in use; it is detached",
        "ending while programs still use",
    ];
    assert_quiet("in use", &log, &excuses);
    assert!(
        open.write_all(b"more")
            .and_then(|()| open.sync_all())
            .is_err()
    );
    judge_now(&image, &[("a", "before the signal"), ("b", "not closed")]);
}

/// Detached, the mount goes on for who uses it, and ends with the last of them.
#[test]
fn a_lazily_unmounted_mount_ends_with_its_last_user() {
    let image = Image::mkfs_btrfs(300, &[]);
    let mount = BtrfuseMount::read_write(image.path());
    let mut open = File::create(mount.path().join("a")).expect("a writable mount");
    unmount(mount.path(), UnmountFlags::DETACH).expect("our own mount");
    open.write_all(b"after the umount").expect("an open file");
    drop(open);
    let (status, log) = mount.wait_for_end();
    assert!(status.success(), "{status}\n{log}");
    assert_quiet("detached", &log, &[]);
    judge_now(&image, &[("a", "after the umount")]);
}

#[test]
fn an_unlinked_open_file_stays_readable_and_writable() {
    let image = Image::mkfs_btrfs(300, &[]);
    let mount = BtrfuseMount::read_write(image.path());
    let path = mount.path().join("gone");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .expect("new");
    file.write_all(&[7; 300_000]).expect("a writable mount");
    fs::remove_file(&path).expect("a writable mount");
    // Through commits, and with its data only on disk.
    mount.sync();
    file.write_all(&[8; 100_000]).expect("an open file");
    file.sync_all().expect("an open file");
    file.seek(SeekFrom::Start(0)).expect("an open file");
    let mut found = Vec::new();
    file.read_to_end(&mut found).expect("an open file");
    assert_eq!(found.len(), 400_000);
    assert!(found[..300_000].iter().all(|&byte| byte == 7));
    assert!(found[300_000..].iter().all(|&byte| byte == 8));
    // The image of this moment has the orphan, and whoever mounts it next removes it.
    let cut = image.copy();
    drop(file);
    mount.unmount();
    judge_now(&image, &[]);
    btrfs_check(cut.path());
    let mount = BtrfuseMount::read_write(cut.path());
    mount.unmount();
    let orphans = run(Command::new("btrfs")
        .args(["inspect-internal", "dump-tree", "-t", "5"])
        .arg(cut.path()));
    assert!(
        !orphans.stdout.contains("ORPHAN_ITEM"),
        "the orphan is still there"
    );
    judge_now(&cut, &[]);
}

/// What is unlinked and still open when the daemon ends goes with it. When the daemon is killed it is
/// an orphan on the image, and whoever mounts that next removes it: we, or the kernel.
#[test]
fn unlinked_open_files_do_not_outlive_the_daemon() {
    let orphans = |image: &Image| {
        let dump = run(Command::new("btrfs")
            .args(["inspect-internal", "dump-tree", "-t", "5"])
            .arg(image.path()));
        dump.stdout.matches(" ORPHAN_ITEM ").count()
    };
    for (signal, next) in [
        (Signal::TERM, "ours"),
        (Signal::TERM, "kernel"),
        (Signal::KILL, "ours"),
        (Signal::KILL, "kernel"),
    ] {
        let image = Image::mkfs_btrfs(300, &[]);
        let mount = BtrfuseMount::read_write(image.path());
        fs::write(mount.path().join("kept"), "still here").expect("a writable mount");
        let open: Vec<File> = (0..3)
            .map(|number| {
                let path = mount.path().join(format!("gone-{number}"));
                let mut file = File::create_new(&path).expect("a writable mount");
                file.write_all(&vec![7; 10 << (number * 8)])
                    .expect("a writable mount");
                file
            })
            .collect();
        let folder = mount.path().join("folder");
        fs::create_dir(&folder).expect("a writable mount");
        let open_folder = File::open(&folder).expect("a writable mount");
        mount.sync();
        for number in 0..3 {
            fs::remove_file(mount.path().join(format!("gone-{number}"))).expect("unlinked");
        }
        fs::remove_dir(&folder).expect("removed");
        mount.sync();
        let daemon = pid(&mount);
        kill_process(daemon, signal).expect("our own child");
        let mut open = Some((open, open_folder));
        if signal == Signal::KILL {
            while fs::read_dir(mount.path()).is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
            open = None;
            let (status, _) = mount.end();
            assert!(!status.success(), "killed");
        } else {
            // In use: the first signal detaches the mount, the second ends it.
            let deadline = Instant::now() + Duration::from_secs(30);
            while fs::read_dir(mount.path()).expect("a folder").count() > 0 {
                assert!(Instant::now() < deadline, "not detached");
                std::thread::sleep(Duration::from_millis(20));
            }
            kill_process(daemon, signal).expect("our own child");
            let (status, log) = mount.wait_for_end();
            assert!(status.success(), "{status}\n{log}");
        }
        drop(open);
        let left = if signal == Signal::KILL { 4 } else { 0 };
        assert_eq!(orphans(&image), left, "{signal:?}");
        judge_now(&image, &[("kept", "still here")]);
        if next == "ours" {
            BtrfuseMount::read_write(image.path()).unmount();
        } else {
            let mount = LoopMount::read_write(image.path());
            fs::write(mount.path().join("more"), "x").expect("a writable mount");
            mount.unmount();
        }
        assert_eq!(orphans(&image), 0, "{signal:?}, then {next}");
        judge_now(&image, &[("kept", "still here")]);
    }
}

/// `rm`, then `btrfuse sync`, then `df`: one sync is enough.
#[test]
fn a_sync_frees_the_space_of_removed_files() {
    let image = Image::mkfs_btrfs(256, &[]);
    let mount = BtrfuseMount::read_write(image.path());
    let available = || {
        let numbers = rustix::fs::statvfs(mount.path()).expect("statfs");
        numbers.f_bavail * numbers.f_frsize
    };
    let before = available();
    let path = |number: u32| mount.path().join(format!("file-{number}"));
    for number in 0..20 {
        fs::write(path(number), vec![7; 1 << 20]).expect("a writable mount");
    }
    mount.sync();
    let full = available();
    assert!(full + (20 << 20) <= before, "{before} before, {full} full");
    for number in 0..20 {
        fs::remove_file(path(number)).expect("a writable mount");
    }
    // The kernel forgets what was removed when it likes: at once, but behind other requests.
    std::thread::sleep(Duration::from_millis(300));
    mount.sync();
    let emptied = available();
    assert!(
        emptied + (1 << 20) >= before,
        "{before} before, {full} full, {emptied} emptied"
    );
    mount.unmount();
    judge_now(&image, &[]);
}

#[test]
fn one_image_is_mounted_once() {
    let image = Image::mkfs_btrfs(300, &[]);
    let mount = BtrfuseMount::read_write(image.path());
    for options in ["", "ro"] {
        let refused = BtrfuseMount::try_new(image.path(), options)
            .err()
            .expect("a second mount");
        assert!(refused.words.contains("use"), "not who has it: {refused}");
    }
    mount.unmount();
    // The kernel has it, through a loop device.
    let mount = LoopMount::read_write(image.path());
    let refused = BtrfuseMount::try_new(image.path(), "")
        .err()
        .expect("the kernel has it");
    assert!(refused.words.contains("use"), "not who has it: {refused}");
    mount.unmount();
    // Two readers may share it.
    let (one, two) = (
        BtrfuseMount::read_only(image.path()),
        BtrfuseMount::read_only(image.path()),
    );
    let refused = BtrfuseMount::try_new(image.path(), "")
        .err()
        .expect("readers have it");
    assert!(refused.words.contains("use"), "not who has it: {refused}");
    one.unmount();
    two.unmount();
}

fn mount_in_background(image: &Path, place: &Path) -> btrfuse_test_support::Finished {
    let mut command = Command::new(btrfuse_binary());
    run_any(
        command.arg("mount").arg(image).arg(place),
        Duration::from_secs(60),
    )
}

#[test]
fn the_background_daemon_reports_its_start_and_umount_waits_for_its_end() {
    let image = Image::mkfs_btrfs(300, &[]);
    let folder = temp_dir();
    let place = folder.path();
    let started = mount_in_background(image.path(), place);
    assert!(started.status.success(), "{}", started.output());
    // Requests are answered at once.
    let mut answers = Vec::new();
    for number in 0..200 {
        answers.push(fs::write(place.join(format!("file-{number}")), [9; 5000]));
    }
    run(Command::new(btrfuse_binary()).arg("umount").arg(place));
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    // No wait in between: umount came back at the durable end.
    btrfs_check(image.path());
    let mount = LoopMount::read_only(image.path());
    assert_eq!(
        fs::read(mount.path().join("file-199")).expect("the last file"),
        [9; 5000]
    );
    mount.unmount();

    fs::write(image.path(), [0; 200_000]).expect("our own image");
    let failed = mount_in_background(image.path(), place);
    assert!(!failed.status.success(), "no superblock, and yet mounted");
    let words = failed.stderr.trim();
    assert!(
        words.contains("superblock") || words.contains("btrfs"),
        "not why: {words:?}"
    );
    assert_eq!(words.lines().count(), 1, "more than one sentence: {words}");
}
