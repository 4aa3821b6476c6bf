//! A full filesystem: ENOSPC is an answer, never an abort, and removing always works.

use btrfuse_test_support::{
    BtrfuseMount, Image, LoopMount, Rng, btrfs_check, run, run_any, temp_dir,
};
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Bytes that a file has on disk. Not its size: the kernel's cache takes more than the filesystem
/// has, and the fsync says that it was refused.
fn stored(file: &OwnedFd) -> u64 {
    let now = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
    let stat = rustix::fs::statx(file, "", now, StatxFlags::BLOCKS).expect("an open file");
    stat.stx_blocks * 512
}

/// Writes large files until there is no space; how many bytes went in.
fn fill_with_data(folder: &Path) -> u64 {
    let bytes = Rng::new(5).bytes(1 << 20);
    let mut stored_bytes = 0;
    for number in 0.. {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let path = folder.join(format!("data-{number}"));
        let file = match rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644)) {
            Ok(file) => file,
            Err(Errno::NOSPC) => return stored_bytes,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        let written = (0..16)
            .try_for_each(|_| rustix::io::write(&file, &bytes).map(drop))
            // With the writeback cache ENOSPC may only come out here.
            .and_then(|()| rustix::fs::fsync(&file));
        match written {
            Ok(()) => {}
            Err(Errno::NOSPC) => {
                let _ = rustix::fs::fsync(&file);
                return stored_bytes + stored(&file);
            }
            Err(error) => panic!("{}: {error}", path.display()),
        }
        stored_bytes += stored(&file);
    }
    unreachable!("the image is finite")
}

/// A program that never calls fsync hears of it as well: from write or, when the page cache took
/// everything, from close.
fn refused_without_fsync(folder: &Path) {
    let path = folder.join("refused");
    let mut copy = Command::new("dd");
    copy.arg("if=/dev/zero").arg("bs=1M").arg("count=8");
    copy.arg(format!("of={}", path.display()));
    let finished = run_any(copy.env("LC_ALL", "C"), Duration::from_secs(60));
    assert!(
        !finished.status.success() && finished.stderr.contains("No space left on device"),
        "8 MiB on a full filesystem: {}",
        finished.output()
    );
    match fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) => assert_eq!(error.raw_os_error(), Some(2), "{error}"),
    }
}

/// Makes inline files until there is no space for metadata; how many there were.
fn fill_with_names(folder: &Path) -> u64 {
    for number in 0..1_000_000 {
        match fs::write(folder.join(format!("small-{number:06}")), [b'x'; 1500]) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(28) => return number,
            Err(error) => panic!("small-{number:06}: {error}"),
        }
    }
    panic!("a million inline files on 128 MiB")
}

fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a readable mount") {
        let path = entry.expect("a readable mount").path();
        fs::remove_file(&path).unwrap_or_else(|error| panic!("rm {}: {error}", path.display()));
    }
}

fn fill_and_empty(image: &Image) {
    let mount = BtrfuseMount::read_write(image.path());
    let capacity = rustix::fs::statvfs(mount.path()).expect("statfs");
    let promised = capacity.f_bavail * capacity.f_frsize;
    let written = fill_with_data(mount.path());
    eprintln!(
        "{} MiB promised, {} MiB written",
        promised >> 20,
        written >> 20
    );
    assert!(
        written <= promised && written >= promised - promised / 50,
        "statfs promised {promised}, {written} went in"
    );
    refused_without_fsync(mount.path());
    let names = fill_with_names(mount.path());
    eprintln!("then {names} inline files");
    mount.sync();
    // What is full stays whole.
    let cut = image.copy();
    btrfs_check(cut.path());
    empty(mount.path());
    mount.sync();
    // A group that a commit leaves empty is given back by the next one.
    mount.sync();
    let after = rustix::fs::statvfs(mount.path()).expect("statfs");
    let after = after.f_bavail * after.f_frsize;
    // Groups made for the names' metadata may stay, if a block of a tree is in them. The kernel
    // knows how much is free then, and what a writer can still give back.
    let emptied = image.copy();
    let judge = LoopMount::read_write(emptied.path());
    for _ in 0..3 {
        run(Command::new("btrfs")
            .args(["filesystem", "sync"])
            .arg(judge.path()));
        std::thread::sleep(Duration::from_millis(500));
    }
    let kernel = rustix::fs::statvfs(judge.path()).expect("statfs");
    let kernel = kernel.f_bavail * kernel.f_frsize;
    judge.unmount();
    eprintln!(
        "{} MiB again, the kernel says {}",
        after >> 20,
        kernel >> 20
    );
    assert!(
        after.abs_diff(kernel) < 4 << 20 && after >= promised / 2,
        "{promised} bytes were free, {after} are after everything was removed; the kernel says \
         {kernel}"
    );
    // The space is really there again.
    let again = fill_with_data(mount.path());
    assert!(
        again >= after * 9 / 10,
        "{after} bytes are promised, then only {again} fitted"
    );
    empty(mount.path());
    mount.unmount();
    btrfs_check(image.path());
    let mount = LoopMount::read_only(image.path());
    assert_eq!(fs::read_dir(mount.path()).expect("readable").count(), 0);
    mount.unmount();
}

/// What one of several processes does on a filesystem that is full all the time: whatever isn't
/// "no space" is a failure.
const AT_THE_BRIM: &str = r#"
cd "$PLACE/own-$NUMBER" || exit 9
tried() {
    words=$("$@" 2>&1) && return 0
    case $words in *"No space left on device"*) full=$((full + 1)); return 1 ;; esac
    echo "$*: $words" >&2
    exit 8
}
full=0 round=0
while [ $round -lt 60 ]; do
    round=$((round + 1))
    tried dd if=/dev/zero of="big-$round" bs=1M count=14 conv=fsync status=none
    for n in 1 2 3 4 5 6 7 8; do
        tried cp "$SMALL" "small-$round-$n"
    done
    tried mkdir "folder-$round" && [ -e "big-$round" ] && tried mv "big-$round" "folder-$round/moved"
    [ ! -e "small-$round-1" ] || tried ln "small-$round-1" "linked-$round"
    tried truncate -s 100K "small-$round-2"
    # Removing always works, and makes room for the others.
    [ $((round % 3)) != "$((NUMBER % 3))" ] || rm -rf ./* || exit 7
done
echo "$full"
"#;

/// Several processes meet the end of the space for data at the same time, again and again.
#[test]
fn processes_at_the_brim_get_answers() {
    for options in [&[][..], &["-n", "4096", "-m", "single"]] {
        at_the_brim(options, |_| {});
    }
}

/// The same, when there is hardly a block for metadata left.
#[test]
fn processes_without_room_for_names_get_answers() {
    for options in [&[][..], &["-n", "4096", "-m", "single"]] {
        at_the_brim(options, |root| {
            fill_with_data(root);
            let names = fill_with_names(root);
            for number in (0..names).step_by(names as usize / 50) {
                let name = format!("small-{number:06}");
                fs::remove_file(root.join(name)).expect("removing works");
            }
        });
    }
}

#[track_caller]
fn at_the_brim(options: &[&str], prepare: fn(&Path)) {
    let image = Image::mkfs_btrfs(128, options);
    let mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=1");
    for number in 0..4 {
        let own = mount.path().join(format!("own-{number}"));
        fs::create_dir(own).expect("room");
    }
    prepare(mount.path());
    let small = temp_dir();
    fs::write(small.path().join("small"), Rng::new(7).bytes(1900)).expect("a temporary file");
    let refused: Vec<u64> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4)
            .map(|number| {
                let mut command = Command::new("sh");
                command.args(["-c", AT_THE_BRIM]);
                command.env("LC_ALL", "C").env("PLACE", mount.path());
                command.env("NUMBER", number.to_string());
                command.env("SMALL", small.path().join("small"));
                scope.spawn(move || run_any(&mut command, Duration::from_secs(200)))
            })
            .collect();
        all.into_iter()
            .map(|process| {
                let finished = process.join().expect("it ends in time");
                assert!(finished.status.success(), "{}", finished.output());
                finished.stdout.trim().parse().expect("a number")
            })
            .collect()
    });
    eprintln!("{refused:?} times without space");
    assert!(refused.iter().sum::<u64>() > 20, "never full: {refused:?}");
    mount.sync();
    fs::write(mount.path().join("after"), "still writable").unwrap_or_else(|error| {
        // Full to the last block: then after something went.
        assert_eq!(error.raw_os_error(), Some(28), "{error}");
    });
    mount.unmount();
    btrfs_check(image.path());
    let mount = LoopMount::read_only(image.path());
    for number in 0..4 {
        assert!(mount.path().join(format!("own-{number}")).is_dir());
    }
    mount.unmount();
}

#[test]
fn a_full_default_image_answers_enospc_and_can_be_emptied() {
    fill_and_empty(&Image::mkfs_btrfs(256, &[]));
}

#[test]
fn a_full_image_with_small_nodes_answers_enospc_and_can_be_emptied() {
    fill_and_empty(&Image::mkfs_btrfs(256, &["-n", "4096", "-m", "single"]));
}

#[test]
fn a_full_image_of_our_mkfs_answers_enospc_and_can_be_emptied() {
    fill_and_empty(&Image::mkfs_btrfuse(256, &[]));
}

/// Makes symlinks until there is no space for metadata, which is quicker than files; how many there
/// were.
fn fill_with_links(folder: &Path) -> u64 {
    let target = "t".repeat(1800);
    for number in 0..1_000_000 {
        let path = folder.join(format!("link-{number:06}"));
        if !tried("ln -s", std::os::unix::fs::symlink(&target, path)) {
            return number;
        }
    }
    panic!("a million symlinks on a small image")
}

/// Files that are there before the filesystem is full.
const FILES: u64 = 300;

/// Yes, or no space: whatever else an operation at the brim answers is a failure.
#[track_caller]
fn tried(what: &str, answer: std::io::Result<()>) -> bool {
    if let Err(error) = &answer {
        assert_eq!(error.raw_os_error(), Some(28), "{what}: {error}");
    }
    answer.is_ok()
}

/// What is there is written over, renamed and cut while there isn't a block left. How many answers
/// of each were yes.
fn change_at_the_brim(folder: &Path, rng: &mut Rng) -> [u64; 4] {
    let mut done = [0; 4];
    for round in 0..60 {
        let name = format!("small-{:06}", rng.below(FILES));
        let path = folder.join(&name);
        let same = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|file| {
                std::os::unix::fs::FileExt::write_all_at(&file, &[b'y'; 1500], 0)?;
                file.sync_all()
            });
        done[0] += u64::from(tried(&format!("write over {name}"), same));
        let away = folder.join(format!("away-{round}"));
        if tried(&format!("mv {name}"), fs::rename(&path, &away)) {
            done[1] += 1;
            tried("mv back", fs::rename(&away, &path));
        }
        let name = format!("small-{:06}", rng.below(FILES));
        let cut = fs::OpenOptions::new()
            .write(true)
            .open(folder.join(&name))
            .and_then(|file| file.set_len(700));
        // Its name was taken away before, and the way back was refused.
        let there = !matches!(&cut, Err(error) if error.raw_os_error() == Some(2));
        done[2] += u64::from(there && tried(&format!("truncate {name}"), cut));
        let made = fs::create_dir(folder.join(format!("folder-{round}")));
        done[3] += u64::from(tried("mkdir", made));
    }
    done
}

/// Everything in an order that has nothing to do with where it lies.
fn shuffled(folder: &Path, rng: &mut Rng) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("a readable mount");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("a readable mount").path())
        .collect();
    paths.sort();
    for last in (1..paths.len()).rev() {
        paths.swap(last, rng.below(last as u64 + 1) as usize);
    }
    paths
}

fn removed(path: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir(path),
        false => fs::remove_file(path),
    }
}

#[track_caller]
fn never_aborted(mount: BtrfuseMount) {
    let (status, log) = mount.end();
    assert!(
        status.success() && !log.contains("aborted") && !log.contains("no space could be freed"),
        "{status}:\n{log}"
    );
}

/// Each unlink copies leaves from all over the tree, and each copy changes a leaf of the extent tree
/// that nobody else changed: with small nodes the commit's own trees are then copied almost whole.
/// A commit that had been left 128 nodes for that aborted the mount.
#[test]
fn a_full_image_with_small_nodes_can_be_emptied_in_any_order() {
    emptied_in_any_order(256, "4096");
}

#[test]
fn a_full_image_can_be_emptied_in_any_order() {
    emptied_in_any_order(128, "16384");
}

#[track_caller]
fn emptied_in_any_order(mib: u64, nodesize: &str) {
    let image = Image::mkfs_btrfs(mib, &["-n", nodesize, "-m", "single"]);
    let mut mount = BtrfuseMount::read_write(image.path());
    let mut rng = Rng::new(11);
    for number in 0..FILES {
        let path = mount.path().join(format!("small-{number:06}"));
        fs::write(path, [b'x'; 1500]).expect("room");
    }
    let names = fill_with_links(mount.path());
    let done = change_at_the_brim(mount.path(), &mut rng);
    let started = std::time::Instant::now();
    let all = shuffled(mount.path(), &mut rng);
    for (at, path) in all.iter().enumerate() {
        if let Err(error) = removed(path) {
            panic!(
                "rm {}, after {at}: {error}\n{}",
                path.display(),
                mount.log()
            );
        }
    }
    let took = started.elapsed();
    eprintln!("{nodesize}: {names} links, {done:?} changes, emptied in {took:?}");
    never_aborted(mount);
    btrfs_check(image.path());
}

/// What a snapshot still has costs space to remove: then it is refused in time, and when the
/// snapshot goes, on a filesystem without space, everything else can go.
#[test]
fn a_full_image_with_a_snapshot_and_small_nodes_can_be_emptied() {
    emptied_beside_a_snapshot("4096");
}

#[test]
fn a_full_image_with_a_snapshot_can_be_emptied() {
    emptied_beside_a_snapshot("16384");
}

#[track_caller]
fn emptied_beside_a_snapshot(nodesize: &str) {
    let image = Image::mkfs_btrfs(128, &["-n", nodesize, "-m", "single"]);
    let kernel = LoopMount::read_write(image.path());
    for number in 0..6_000 {
        let path = kernel.path().join(format!("shared-{number:06}"));
        let len = if number % 8 == 0 { 4096 } else { 1500 };
        fs::write(path, vec![b's'; len]).expect("room");
    }
    run(Command::new("btrfs")
        .args(["subvolume", "snapshot"])
        .arg(kernel.path())
        .arg(kernel.path().join("snapshot")));
    kernel.unmount();
    let mount = BtrfuseMount::read_write(image.path());
    let names = fill_with_links(mount.path());
    let mut rng = Rng::new(12);
    let mut all = shuffled(mount.path(), &mut rng);
    all.retain(|path| !path.ends_with("snapshot"));
    let mut inside = shuffled(&mount.path().join("snapshot"), &mut rng);
    let mut counts = [0_u64, 0];
    while counts.iter().sum::<u64>() < 24 {
        for (at, side) in [&mut all, &mut inside].into_iter().enumerate() {
            let path = side.pop().expect("more than can be removed");
            if !tried("rm at the brim", removed(&path)) {
                side.insert(0, path);
                counts[at] += 1;
            }
        }
    }
    let left = all.len();
    eprintln!("{nodesize}: {names} links, refused {counts:?} times, {left} left");
    never_aborted(mount);
    btrfs_check(image.path());
    // The kernel is only told: whatever of it is left is dropped by us.
    let kernel = LoopMount::read_write(image.path());
    run(Command::new("btrfs")
        .args(["subvolume", "delete"])
        .arg(kernel.path().join("snapshot")));
    // It has no space either, for its list of subvolumes.
    let said = kernel.unmount_damaged();
    let about_space = |line: &String| line.contains("uuid_scan_kthread failed -28");
    assert!(said.iter().all(about_space), "{said:?}");
    let mount = BtrfuseMount::read_write(image.path());
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    for path in &all {
        let path = mount.path().join(path.file_name().expect("a file"));
        while !tried("rm after the snapshot", removed(&path)) {
            assert!(std::time::Instant::now() < deadline, "still no space");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    assert_eq!(fs::read_dir(mount.path()).expect("readable").count(), 0);
    never_aborted(mount);
    btrfs_check(image.path());
}
