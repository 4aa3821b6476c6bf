//! Subvolumes made, snapshotted and deleted by us: judged by `btrfs check`, by what the kernel
//! lists, and by what is in them.

use crate::meaning::{caller, end, refused};
use crate::{mounted, options};
use btrfuse::fs::{Caller, Filesystem, MountOptions, NodeId, Who, WriteFlags};
use btrfuse_test_support::{Image, LoopMount, btrfs_check, run};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ROOT: NodeId = NodeId::ROOT;

fn no_groups() -> Vec<u32> {
    Vec::new()
}

pub fn root() -> Who<'static> {
    Who {
        caller: Caller {
            uid: 0,
            gid: 0,
            ..caller()
        },
        admin: true,
        overrides: true,
        owns_all: true,
        groups: &no_groups,
    }
}

/// The user of `caller()`, for whom nothing is special here.
pub fn user() -> Who<'static> {
    Who::ordinary(caller(), &no_groups)
}

fn node(fs: &Filesystem, dir: NodeId, name: &[u8]) -> NodeId {
    fs.lookup(dir, name).unwrap().node
}

fn write(fs: &Filesystem, dir: NodeId, name: &[u8], data: &[u8]) -> NodeId {
    let file = fs
        .create(&root().caller, dir, name, 0o644, libc::O_RDWR)
        .unwrap()
        .node;
    fs.write(file, 0, data, WriteFlags::default()).unwrap();
    fs.release(file);
    fs.forget(file, 1);
    file
}

fn read(fs: &Filesystem, dir: NodeId, name: &[u8]) -> Vec<u8> {
    fs.read(node(fs, dir, name), 0, 16 << 20).unwrap()
}

pub fn snapshot(fs: &Filesystem, of: NodeId, name: &[u8], read_only: bool) -> btrfuse::Result<()> {
    let source = fs.snapshot_source(of)?;
    fs.snapshot(&root(), source, ROOT, name, read_only)
}

/// A mount with its threads: what is deleted goes by itself.
fn alive(image: &Path) -> Arc<Filesystem> {
    let options = MountOptions {
        background: true,
        ..options(false)
    };
    mounted(image, &options)
}

/// Waits until nothing of a deleted subvolume is left.
fn wait_until_gone(fs: &Filesystem, subvol: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while fs.tree_context().roots.find(subvol).is_some() {
        assert!(Instant::now() < deadline, "subvolume {subvol} stays");
        thread::sleep(Duration::from_millis(20));
    }
}

fn uuid(bytes: &[u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

#[test]
fn the_kernel_sees_the_subvolumes_that_we_make() {
    let image = Image::mkfs_btrfs(256, &[]);
    let fs = mounted(image.path(), &options(false));
    fs.create_subvolume(&root(), ROOT, b"sub").unwrap();
    let sub = node(&fs, ROOT, b"sub");
    write(&fs, sub, b"file", &[7; 100_000]);
    fs.create_subvolume(&user(), ROOT, b"nobodys").unwrap_err();
    fs.mkdir(&root().caller, sub, b"dir", 0o755).unwrap();
    let dir = node(&fs, sub, b"dir");
    fs.create_subvolume(&root(), dir, b"nested").unwrap();
    snapshot(&fs, sub, b"frozen", true).unwrap();
    snapshot(&fs, sub, b"copy", false).unwrap();
    let (frozen, copy) = (node(&fs, ROOT, b"frozen"), node(&fs, ROOT, b"copy"));
    write(&fs, sub, b"later", b"x");
    write(&fs, copy, b"other", b"y");
    refused(fs.mkdir(&caller(), frozen, b"x", 0o755), libc::EROFS);
    assert_eq!(read(&fs, frozen, b"file"), [7; 100_000]);
    refused(fs.lookup(frozen, b"later"), libc::ENOENT);
    // A subvolume inside stays behind: an empty directory, number 2.
    assert_eq!(
        fs.lookup(node(&fs, copy, b"dir"), b"nested").unwrap().ino,
        2
    );
    let infos: Vec<_> = [sub, frozen, copy]
        .map(|node| fs.subvol_info(node).unwrap())
        .into();
    end(fs, image.path());

    let kernel = LoopMount::read_write(image.path());
    let btrfs =
        |words: &[&str], path: &Path| run(Command::new("btrfs").args(words).arg(path)).stdout;
    let listed = btrfs(&["subvolume", "list", "-u", "-q", "-R"], kernel.path());
    for info in &infos {
        let item = &info.item;
        let line = listed
            .lines()
            .find(|line| line.starts_with(&format!("ID {} ", info.treeid)))
            .unwrap_or_else(|| panic!("{}: {listed}", info.treeid));
        assert!(
            line.contains(&format!(" uuid {} ", uuid(&item.uuid))),
            "{line}"
        );
        let parent = match item.parent_uuid {
            none if none == [0; 16] => "-".to_owned(),
            some => uuid(&some),
        };
        assert!(line.contains(&format!("parent_uuid {parent}")), "{line}");
        let name = String::from_utf8_lossy(&info.name);
        assert!(line.ends_with(&format!("path {name}")), "{line}");
        let shown = btrfs(&["subvolume", "show"], &kernel.path().join(&*name));
        let read_only = shown.contains("readonly");
        assert_eq!(read_only, item.is_read_only(), "{shown}");
        assert!(shown.contains(&uuid(&item.uuid)), "{shown}");
    }
    let sub_shown = btrfs(&["subvolume", "show"], &kernel.path().join("sub"));
    assert!(
        sub_shown.contains("frozen") && sub_shown.contains("copy"),
        "{sub_shown}"
    );
    assert_eq!(infos[1].item.parent_uuid, infos[0].item.uuid);
    // What we made the kernel changes, snapshots and deletes.
    std::fs::write(kernel.path().join("copy/file"), "changed").unwrap();
    std::fs::write(kernel.path().join("sub/dir/nested/f"), "changed").unwrap();
    let again = Command::new("btrfs")
        .args(["subvolume", "snapshot"])
        .args([kernel.path().join("frozen"), kernel.path().join("again")])
        .status();
    assert!(again.unwrap().success());
    for gone in ["frozen", "sub/dir/nested", "sub"] {
        btrfs(&["subvolume", "delete"], &kernel.path().join(gone));
    }
    btrfs(&["subvolume", "sync"], kernel.path());
    kernel.unmount();
    btrfs_check(image.path());
    // And what the kernel made, we delete.
    let fs = alive(image.path());
    let again = node(&fs, ROOT, b"again");
    assert_eq!(read(&fs, again, b"file"), [7; 100_000]);
    let id = fs.subvol_info(again).unwrap().treeid;
    fs.delete_subvolume(&root(), ROOT, b"again").unwrap();
    refused(fs.lookup(ROOT, b"again"), libc::ENOENT);
    fs.sync().unwrap();
    wait_until_gone(&fs, id);
    assert_eq!(read(&fs, node(&fs, ROOT, b"copy"), b"file"), b"changed");
    end(fs, image.path());
}

#[test]
fn what_stands_in_a_deletions_way_is_told() {
    let image = Image::mkfs_btrfs(256, &[]);
    let fs = mounted(image.path(), &options(false));
    let who = root();
    fs.create_subvolume(&who, ROOT, b"sub").unwrap();
    let sub = node(&fs, ROOT, b"sub");
    fs.create_subvolume(&who, sub, b"nested").unwrap();
    let all_may = Caller {
        umask: 0,
        ..who.caller
    };
    fs.mkdir(&all_may, ROOT, b"dir", 0o777).unwrap();
    write(&fs, ROOT, b"file", b"");
    let delete = |dir, name: &[u8]| fs.delete_subvolume(&who, dir, name);
    refused(delete(ROOT, b"sub"), libc::ENOTEMPTY);
    refused(delete(ROOT, b"dir"), libc::EINVAL);
    refused(delete(ROOT, b"file"), libc::ENOTDIR);
    refused(delete(ROOT, b"nothing"), libc::ENOENT);
    refused(fs.rmdir(ROOT, b"sub"), libc::ENOTEMPTY);
    refused(fs.create_subvolume(&who, ROOT, b"dir"), libc::EEXIST);
    refused(fs.create_subvolume(&who, ROOT, b".."), libc::EEXIST);
    refused(
        fs.create_subvolume(&who, ROOT, &[b'x'; 256]),
        libc::ENAMETOOLONG,
    );
    // A user makes them where directories may be made, and snapshots what is theirs.
    refused(fs.create_subvolume(&user(), sub, b"x"), libc::EACCES);
    let dir = node(&fs, ROOT, b"dir");
    fs.create_subvolume(&user(), dir, b"mine").unwrap();
    assert_eq!(fs.lookup(dir, b"mine").unwrap().uid, caller().uid);
    let (mine, theirs) = (node(&fs, dir, b"mine"), fs.snapshot_source(sub).unwrap());
    refused(fs.snapshot(&user(), theirs, dir, b"s", true), libc::EPERM);
    let source = fs.snapshot_source(mine).unwrap();
    fs.snapshot(&user(), source, dir, b"s", true).unwrap();
    refused(fs.snapshot(&user(), source, sub, b"s", true), libc::EACCES);
    refused(fs.delete_subvolume(&user(), dir, b"s"), libc::EPERM);
    refused(fs.snapshot_source(dir), libc::EINVAL);
    let mut forged = source;
    forged.subvol = theirs.subvol;
    refused(fs.snapshot(&user(), forged, dir, b"t", true), libc::EPERM);
    // Frozen and free again.
    fs.set_subvolume_read_only(&user(), mine, true).unwrap();
    refused(fs.create_subvolume(&who, mine, b"x"), libc::EROFS);
    refused(fs.rmdir(mine, b"x"), libc::EROFS);
    refused(fs.set_subvolume_read_only(&user(), sub, true), libc::EPERM);
    refused(fs.set_subvolume_read_only(&who, dir, true), libc::EINVAL);
    fs.set_subvolume_read_only(&user(), mine, false).unwrap();
    assert!(!fs.is_subvolume_read_only(mine).unwrap());
    write(&fs, mine, b"x", b"x");
    // Empty ones go as directories do, for whoever may.
    fs.rmdir(sub, b"nested").unwrap();
    // Also one that is read-only: what changes is the directory around it.
    fs.rmdir(dir, b"s").unwrap();
    fs.rmdir(ROOT, b"sub").unwrap();
    end(fs, image.path());
    let kernel = LoopMount::read_write(image.path());
    let mut list = Command::new("btrfs");
    let listed = run(list.args(["subvolume", "list"]).arg(kernel.path())).stdout;
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert!(kernel.path().join("dir/mine/x").exists());
    kernel.unmount();
    btrfs_check(image.path());
}

/// Whoever is in a deleted subvolume stays there as in a deleted directory.
#[test]
fn a_deleted_subvolume_is_used_on_until_its_last_user_goes() {
    let image = Image::mkfs_btrfs(256, &[]);
    let fs = alive(image.path());
    let who = root();
    fs.create_subvolume(&who, ROOT, b"sub").unwrap();
    let sub = node(&fs, ROOT, b"sub");
    let id = fs.subvol_info(sub).unwrap().treeid;
    let dir = fs.mkdir(&who.caller, sub, b"dir", 0o755).unwrap().node;
    let file = write(&fs, dir, b"file", &[1; 50_000]);
    fs.open(file, libc::O_RDWR).unwrap();
    fs.sync().unwrap();
    fs.delete_subvolume(&who, ROOT, b"sub").unwrap();
    refused(fs.subvol_info(sub), libc::ENOENT);
    assert_eq!(fs.read(file, 0, 10).unwrap(), [1; 10]);
    fs.write(file, 50_000, b"more", WriteFlags::default())
        .unwrap();
    assert_eq!(fs.lookup(dir, b"file").unwrap().node, file);
    fs.mkdir(&who.caller, dir, b"another", 0o755).unwrap();
    refused(fs.mkdir(&who.caller, sub, b"x", 0o755), libc::ENOENT);
    refused(fs.create_subvolume(&who, dir, b"x"), libc::ENOENT);
    fs.unlink(dir, b"file").unwrap();
    fs.sync().unwrap();
    // Should the power go now, the next mount finds what is to be dropped.
    let dump = run(Command::new("btrfs")
        .args(["inspect-internal", "dump-tree", "-t", "root"])
        .arg(image.copy().path()))
    .stdout;
    assert!(dump.contains(&format!("ORPHAN_ITEM {id})")), "{dump}");
    thread::sleep(Duration::from_secs(3));
    assert_eq!(fs.read(file, 50_000, 10).unwrap(), b"more");
    fs.release(file);
    fs.forget(file, 100);
    fs.sync().unwrap();
    wait_until_gone(&fs, id);
    refused(fs.getattr(file), libc::ESTALE);
    refused(fs.getattr(sub), libc::ESTALE);
    end(fs, image.path());
}

/// An unlinked file that is in use when the snapshot is taken is in its tree; nobody uses it there.
#[test]
fn a_snapshot_holds_no_file_without_a_name() {
    let image = Image::mkfs_btrfs(256, &[]);
    let fs = mounted(image.path(), &options(false));
    fs.create_subvolume(&root(), ROOT, b"sub").unwrap();
    let sub = node(&fs, ROOT, b"sub");
    let file = write(&fs, sub, b"gone", &[3; 300_000]);
    fs.open(file, libc::O_RDWR).unwrap();
    fs.unlink(sub, b"gone").unwrap();
    for (name, read_only) in [(&b"writable"[..], false), (b"frozen", true)] {
        snapshot(&fs, sub, name, read_only).unwrap();
    }
    assert_eq!(fs.read(file, 0, 5).unwrap(), [3; 5]);
    fs.sync().unwrap();
    let dump = run(Command::new("btrfs")
        .args(["inspect-internal", "dump-tree"])
        .arg(image.path()))
    .stdout;
    assert_eq!(
        dump.matches(" ORPHAN_ITEM ").count(),
        1,
        "only the source's"
    );
    fs.release(file);
    end(fs, image.path());
}

/// It shares new blocks with its source, which could be changed where they are; its name comes after it.
#[test]
fn a_snapshot_does_not_hold_its_own_name() {
    let image = Image::mkfs_btrfs(256, &[]);
    let fs = mounted(image.path(), &options(false));
    for i in 0..300 {
        write(&fs, ROOT, format!("small-{i}").as_bytes(), b"");
    }
    snapshot(&fs, ROOT, b"snap", false).unwrap();
    let snap = node(&fs, ROOT, b"snap");
    assert!(fs.lookup(snap, b"small-299").is_ok());
    assert!(fs.lookup(snap, b"snap").is_err());
    end(fs, image.path());
}

/// What a NODATACOW file or a preallocated range holds is written over in place: not any more,
/// once a snapshot has it.
#[test]
fn a_snapshot_keeps_what_is_overwritten_in_place() {
    let image = Image::mkfs_btrfs(256, &[]);
    let fs = mounted(image.path(), &options(false));
    fs.create_subvolume(&root(), ROOT, b"sub").unwrap();
    let sub = node(&fs, ROOT, b"sub");
    // More than a leaf, so that the snapshot shares leaves, and no extent gets a second reference.
    for i in 0..300 {
        write(&fs, sub, format!("small-{i}").as_bytes(), b"");
    }
    const NOCOW: u32 = 0x0080_0000;
    let file = write(&fs, sub, b"nocow", b"");
    fs.set_flags(&root().caller, file, NOCOW).unwrap();
    let whole = |byte| vec![byte; 1 << 20];
    fs.write(file, 0, &whole(1), WriteFlags::default()).unwrap();
    let reserved = write(&fs, sub, b"reserved", b"");
    fs.fallocate(reserved, 0, 0, 1 << 20).unwrap();
    fs.sync().unwrap();
    for round in 2..6 {
        let name = format!("at-{round}");
        snapshot(&fs, sub, name.as_bytes(), true).unwrap();
        for file in [file, reserved] {
            fs.write(file, 0, &whole(round), WriteFlags::default())
                .unwrap();
        }
        fs.sync().unwrap();
    }
    for round in 2..6 {
        let frozen = node(&fs, ROOT, format!("at-{round}").as_bytes());
        assert_eq!(
            read(&fs, frozen, b"nocow"),
            whole(round - 1),
            "round {round}"
        );
        let reserved = if round == 2 { 0 } else { round - 1 };
        assert_eq!(read(&fs, frozen, b"reserved"), whole(reserved));
    }
    end(fs, image.path());
}

/// One thread's log in the subvolume, and how far it has come.
fn keep_writing(fs: &Filesystem, sub: NodeId, thread: usize, done: &AtomicU64, stop: &AtomicBool) {
    let who = root().caller;
    let name = format!("log-{thread}").into_bytes();
    let log = fs
        .create(&who, sub, &name, 0o644, libc::O_RDWR)
        .unwrap()
        .node;
    let mut step = 0u64;
    while !stop.load(Ordering::SeqCst) {
        let record = format!("{step:>16} of {thread}\n{}", "x".repeat(480));
        let at = step * record.len() as u64;
        fs.write(log, at, record.as_bytes(), WriteFlags::default())
            .unwrap();
        let step_name = |step| format!("step-{thread}-{step}").into_bytes();
        write(fs, sub, &step_name(step), format!("{step}").as_bytes());
        if step > 0 {
            fs.unlink(sub, &step_name(step - 1)).unwrap();
        }
        step += 1;
        done.store(step, Ordering::SeqCst);
    }
    fs.release(log);
}

/// What a snapshot shows of one thread: how many steps, all of them whole.
fn steps_in(fs: &Filesystem, frozen: NodeId, thread: usize) -> u64 {
    let log = read(fs, frozen, format!("log-{thread}").as_bytes());
    let record = 501 + thread.to_string().len();
    assert_eq!(log.len() % record, 0, "half a record");
    for (step, bytes) in log.chunks(record).enumerate() {
        let words = format!("{step:>16} of {thread}\n");
        assert!(
            bytes.starts_with(words.as_bytes()),
            "record {step} of {thread}"
        );
        assert!(bytes[words.len()..].iter().all(|byte| *byte == b'x'));
    }
    (log.len() / record) as u64
}

#[test]
fn a_snapshot_is_whole_while_four_threads_write() {
    let image = Image::mkfs_btrfs(900, &["-n", "4096"]);
    let fs = alive(image.path());
    fs.create_subvolume(&root(), ROOT, b"sub").unwrap();
    let sub = node(&fs, ROOT, b"sub");
    let done: [AtomicU64; 4] = Default::default();
    let stop = AtomicBool::new(false);
    let mut seen = Vec::new();
    thread::scope(|scope| {
        for (thread, done) in done.iter().enumerate() {
            let (fs, stop) = (&*fs, &stop);
            scope.spawn(move || keep_writing(fs, sub, thread, done, stop));
        }
        while done.iter().any(|done| done.load(Ordering::SeqCst) < 50) {
            thread::sleep(Duration::from_millis(5));
        }
        for round in 0..12 {
            let before: Vec<u64> = done
                .iter()
                .map(|done| done.load(Ordering::SeqCst))
                .collect();
            let name = format!("s{round}");
            snapshot(&fs, sub, name.as_bytes(), round % 2 == 0).unwrap();
            let after: Vec<u64> = done
                .iter()
                .map(|done| done.load(Ordering::SeqCst))
                .collect();
            seen.push((name, before, after));
            thread::sleep(Duration::from_millis(30));
        }
        stop.store(true, Ordering::SeqCst);
    });
    for (name, before, after) in &seen {
        let frozen = node(&fs, ROOT, name.as_bytes());
        for thread in 0..4 {
            let steps = steps_in(&fs, frozen, thread);
            let (least, most) = (before[thread], after[thread] + 1);
            assert!(
                (least..=most).contains(&steps),
                "{name}: {steps} of {least}..{most}"
            );
            let names = (least.saturating_sub(1)..=most)
                .filter(|step| {
                    let step_name = format!("step-{thread}-{step}");
                    fs.lookup(frozen, step_name.as_bytes()).is_ok()
                })
                .count();
            assert!((1..=2).contains(&names), "{name}: {names} step files");
        }
    }
    // Half of them go again, while the others and the source stay what they are.
    for (name, ..) in seen.iter().step_by(2) {
        fs.delete_subvolume(&root(), ROOT, name.as_bytes()).unwrap();
    }
    end(fs, image.path());
}

/// Blocks that a commit writes for a snapshot don't depend on how much is in the source.
#[test]
fn a_snapshot_costs_the_same_whatever_is_in_it() {
    let mut written = Vec::new();
    for files in [50, 5000] {
        let image = Image::mkfs_btrfs(600, &["-n", "4096"]);
        let fs = mounted(image.path(), &options(false));
        fs.create_subvolume(&root(), ROOT, b"sub").unwrap();
        let sub = node(&fs, ROOT, b"sub");
        for file in 0..files {
            write(&fs, sub, format!("file-{file}").as_bytes(), &[1; 600]);
        }
        snapshot(&fs, sub, b"first", true).unwrap();
        fs.sync().unwrap();
        let before = fs.tree_blocks_written();
        snapshot(&fs, sub, b"second", true).unwrap();
        written.push(fs.tree_blocks_written() - before);
        end(fs, image.path());
    }
    // Every child of the root node is referenced once more, so the extent tree's share grows with
    // the root node, which is full at some point, and with nothing else.
    assert!(written[1] < written[0] + 60, "{written:?}");
}

/// No space: said before the first edit, and deleting always works.
#[test]
fn a_full_filesystem_refuses_to_make_and_lets_delete() {
    let image = Image::mkfs_btrfs(128, &[]);
    let fs = alive(image.path());
    let who = root();
    fs.create_subvolume(&who, ROOT, b"sub").unwrap();
    let sub = node(&fs, ROOT, b"sub");
    let mut made = 0;
    // Metadata, until there is none.
    while fs
        .create(&who.caller, sub, format!("f{made:06}").as_bytes(), 0o644, 0)
        .and_then(|attr| {
            let written = fs.write(attr.node, 0, &[9; 1500], WriteFlags::default());
            fs.release(attr.node);
            written
        })
        .is_ok()
    {
        made += 1;
    }
    let mut snapshots = 0;
    let refusal = loop {
        match snapshot(&fs, sub, format!("s{snapshots}").as_bytes(), true) {
            Ok(()) => snapshots += 1,
            Err(error) => break error,
        }
        assert!(snapshots < 10_000);
    };
    assert_eq!(refusal.errno(), libc::ENOSPC);
    let refusal = (0..10_000)
        .find_map(|n| {
            fs.create_subvolume(&who, ROOT, format!("c{n}").as_bytes())
                .err()
        })
        .expect("subvolumes take space");
    assert_eq!(refusal.errno(), libc::ENOSPC);
    assert!(fs.read_only_reason().is_none());
    let id = fs.subvol_info(sub).unwrap().treeid;
    for n in 0..snapshots {
        fs.delete_subvolume(&who, ROOT, format!("s{n}").as_bytes())
            .unwrap();
    }
    fs.delete_subvolume(&who, ROOT, b"sub").unwrap();
    wait_until_gone(&fs, id);
    fs.sync().unwrap();
    fs.create_subvolume(&who, ROOT, b"again").unwrap();
    end(fs, image.path());
}

/// A name in the source itself copies paths that the snapshot has as well, in the middle of the
/// commit: space for that is there, or the snapshot is refused.
#[test]
fn a_full_filesystem_with_a_tall_tree_is_snapshotted_into_itself_or_refuses() {
    let image = Image::mkfs_btrfs(128, &["-n", "4096"]);
    let fs = alive(image.path());
    let who = root();
    let mut made = 0;
    while fs
        .create(
            &who.caller,
            ROOT,
            format!("f{made:06}").as_bytes(),
            0o644,
            0,
        )
        .and_then(|attr| {
            let written = fs.write(attr.node, 0, &[9; 3000], WriteFlags::default());
            fs.release(attr.node);
            fs.forget(attr.node, 1);
            written
        })
        .is_ok()
    {
        made += 1;
    }
    let top = fs.tree_context().roots.find(5).expect("the top level");
    assert!(top.node().level >= 2, "{made} files");
    let (mut snapshots, mut refusals) = (0, 0);
    // Names all over the tree, and room for one more between the refusals.
    while refusals < 10 && snapshots < 30 {
        match snapshot(&fs, ROOT, format!("s{snapshots}").as_bytes(), true) {
            Ok(()) => snapshots += 1,
            Err(error) => {
                assert_eq!(error.errno(), libc::ENOSPC);
                refusals += 1;
                made -= 1;
                match fs.unlink(ROOT, format!("f{made:06}").as_bytes()) {
                    Ok(()) => {}
                    Err(error) => assert_eq!(error.errno(), libc::ENOSPC),
                }
            }
        }
    }
    assert_eq!(fs.read_only_reason(), None);
    for n in 0..snapshots {
        fs.delete_subvolume(&who, ROOT, format!("s{n}").as_bytes())
            .unwrap();
    }
    assert_eq!(fs.read_only_reason(), None);
    end(fs, image.path());
}
