//! What programs have written waits in the kernel's page cache, of which the daemon knows nothing; whoever
//! asks the daemon has it all the same.

use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, Rng, btrfs_check, btrfuse_binary, run};
use rustix::fs::SeekFrom as Place;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// What programs write through files that they keep open is in the kernel's page cache, and syncfs(2) on
/// a FUSE mount doesn't wait until it has come out: a sync, and a snapshot, must have it all the same.
#[test]
fn a_sync_and_a_snapshot_hold_what_the_page_cache_held() {
    const BYTES: usize = 160_000_000;
    let content = Rng::new(1).bytes(BYTES);
    let image = Image::mkfs_btrfs(1000, &[]);
    let mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=300");
    let mut open = Vec::new();
    for (n, part) in content.chunks(BYTES / 4).enumerate() {
        let mut file = File::create(mount.path().join(format!("file-{n}"))).expect("a file");
        file.write_all(part).expect("room");
        open.push(file);
    }
    let snapshot = mount.path().join("snapshot");
    let mut command = Command::new(btrfuse_binary());
    command.args(["subvolume", "snapshot"]);
    run(command.arg(mount.path()).arg(&snapshot));
    let holds = |place: &Path, parts: &[u8]| {
        for (n, part) in parts.chunks(BYTES / 4).enumerate() {
            let found = fs::read(place.join(format!("file-{n}"))).expect("a file");
            assert!(found == part, "{}, file {n}", place.display());
        }
    };
    holds(&snapshot, &content);
    // Each page is a request of its own, and more wait than the kernel hands over at once.
    let mut turned = content.clone();
    for (n, part) in turned.chunks_mut(BYTES / 4).enumerate() {
        for (page, bytes) in part.chunks_mut(4096).enumerate().step_by(3) {
            bytes.reverse();
            open[n]
                .write_all_at(bytes, page as u64 * 4096)
                .expect("room");
        }
    }
    mount.sync();
    let daemon = Pid::from_raw(mount.daemon_id().cast_signed()).expect("a running daemon");
    kill_process(daemon, Signal::KILL).expect("our own child");
    drop(open);
    let (status, _) = mount.end();
    assert!(!status.success(), "killed");
    btrfs_check(image.path());
    let mount = LoopMount::read_only(image.path());
    holds(mount.path(), &turned);
    holds(&mount.path().join("snapshot"), &content);
    mount.unmount();
}

/// Only the kernel knows of what waits in its page cache, and it asks us where data is all the same.
/// A program that looked for the data of a file while another had it open for writing was told
/// that there is none.
#[test]
fn data_is_found_while_it_waits_in_the_page_cache() {
    const STEP: u64 = 3 << 20;
    let image = Image::mkfs_btrfs(600, &[]);
    // More files than threads: each question has the kernel write first, and that is answered too.
    let mount = BtrfuseMount::new(image.path(), "subvolid=5,threads=2");
    let write_and_seek = |number: u64| {
        let path = mount.path().join(format!("file-{number}"));
        let writer = File::create(&path).expect("a writable mount");
        for round in 1..8 {
            let bytes = vec![round as u8; 100_000];
            writer
                .write_all_at(&bytes, round * STEP)
                .expect("a writable mount");
            let reader = File::open(&path).expect("just made");
            let seek = |to| rustix::fs::seek(&reader, to);
            let before = (round - 1) * STEP + 200_000;
            assert_eq!(seek(Place::Data(before)), Ok(round * STEP), "{round}");
            let end = round * STEP + 100_000;
            assert_eq!(seek(Place::Hole(round * STEP)), Ok(end), "{round}");
            assert_eq!(seek(Place::Data(end)), Err(rustix::io::Errno::NXIO));
        }
        let copy = mount.path().join(format!("copy-{number}"));
        writer
            .write_all_at(b"news", 10 * STEP)
            .expect("a writable mount");
        run(Command::new("cp").arg(&path).arg(&copy));
        let same = fs::read(&path).expect("a file") == fs::read(&copy).expect("its copy");
        assert!(same, "file-{number}");
    };
    std::thread::scope(|scope| {
        for number in 0..6 {
            let write_and_seek = &write_and_seek;
            scope.spawn(move || write_and_seek(number));
        }
    });
    mount.unmount();
    btrfs_check(image.path());
}
