//! What works on a full filesystem, rule by rule; each was broken once.

use crate::files::{close, create, pattern, refused};
use btrfuse_test_support::{BtrfuseMount, Image, Rng, btrfs_check, btrfuse_binary, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// Small extents in large trees: a commit copies most of what it wrote the last time.
const SMALL_NODES: &[&str] = &["-n", "4096", "-m", "single"];

fn write(path: &Path, number: u64, len: usize) -> rustix::io::Result<()> {
    create(path).and_then(|file| {
        let bytes = pattern(number, len);
        let mut done = 0;
        while done < bytes.len() {
            done += rustix::io::write(&file, &bytes[done..])?;
        }
        close(file)
    })
}

/// Files of so many bytes until some are refused; whatever is there of one that was goes again.
fn fill(mount: &BtrfuseMount, name: &str, len: usize) -> Vec<PathBuf> {
    let (mut made, mut refusals) = (Vec::new(), 0);
    while refusals < 3 {
        let number = made.len() as u64;
        let path = mount.path().join(format!("{name}-{number}"));
        if refused("a small file", write(&path, number, len)) {
            refusals += 1;
            if path.exists() {
                rm(&path);
            }
            mount.sync();
        } else {
            made.push(path);
        }
    }
    made
}

#[track_caller]
fn rm(path: &Path) {
    fs::remove_file(path).unwrap_or_else(|error| panic!("rm {}: {error}", path.display()));
}

/// What the names of symlinks take; quicker than files.
fn fill_with_links(mount: &BtrfuseMount) {
    let target = "t".repeat(1800);
    let mut refusals = 0;
    for number in 0.. {
        let path = mount.path().join(format!("link-{number}"));
        let made = rustix::fs::symlink(&*target, path);
        refusals += u32::from(refused("symlink", made));
        if refusals == 3 {
            return;
        }
    }
}

fn shuffle<T>(all: &mut [T], rng: &mut Rng) {
    for at in (1..all.len()).rev() {
        all.swap(at, rng.below(at as u64 + 1) as usize);
    }
}

/// Twelve thousand small files in one transaction make the commit's own trees half as large again. What
/// was kept for copying them was counted when the transaction began, and the first rm was refused.
#[test]
fn rm_works_after_a_transaction_that_made_the_trees_grow() {
    let image = Image::mkfs_btrfs(256, &["-m", "dup"]);
    let mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=300");
    let mut files = fill(&mount, "file", 4096);
    shuffle(&mut files, &mut Rng::new(1));
    for path in files.iter().take(1000) {
        rm(path);
    }
    mount.unmount();
    btrfs_check(image.path());
}

/// The kernel sends the times along with a new size. These were asked space for as if they were an
/// operation of their own, when the file had been cut already: truncation was refused, and had happened.
#[test]
fn truncating_to_nothing_works_on_a_full_filesystem() {
    let image = Image::mkfs_btrfs(64, &["-n", "4096", "-M"]);
    let mount = BtrfuseMount::read_write(image.path());
    let paths: Vec<_> = (0..400)
        .map(|number| mount.path().join(format!("file-{number}")))
        .collect();
    for (number, path) in (0..).zip(&paths) {
        write(path, number, 1500 + 3000 * (number as usize % 2)).expect("room");
    }
    fill_with_links(&mount);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Whatever comes free is taken by others.
        let (done, root) = (&done, mount.path());
        for taker in 0..3 {
            scope.spawn(move || {
                for number in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let path = root.join(format!("taken-{taker}-{number}"));
                    if refused("a file", write(&path, number, 9000)) && path.exists() {
                        rm(&path);
                    }
                }
            });
        }
        let mut refusals = Vec::new();
        for path in &paths {
            let file = rustix::fs::open(path, rustix::fs::OFlags::RDWR, 0.into());
            let cut = file.and_then(|file| {
                rustix::fs::ftruncate(&file, 0)?;
                close(file)
            });
            if refused("truncate", cut) {
                refusals.push(path);
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(refusals.is_empty(), "refused: {refusals:?}");
    });
    mount.unmount();
    btrfs_check(image.path());
}

/// A file that close(2) had taken needs an extent for each hole that there is. Its items were asked for
/// in one piece, which was refused, and its content was lost.
#[test]
fn what_was_written_into_scattered_space_is_kept() {
    let image = Image::mkfs_btrfs(110, SMALL_NODES);
    let mount = BtrfuseMount::read_write(image.path());
    let files = fill(&mount, "file", 4096);
    for path in files.iter().step_by(2).take(2000) {
        rm(path);
    }
    mount.sync();
    fill_with_links(&mount);
    let mut kept = Vec::new();
    for number in 0..20 {
        let path = mount.path().join(format!("scattered-{number}"));
        match refused("a scattered file", write(&path, number, 200 << 10)) {
            true => rm(&path),
            false => kept.push((number, path)),
        }
        // Room for a promise, and for little more.
        for path in files
            .iter()
            .skip(1)
            .step_by(2)
            .skip(8 * number as usize)
            .take(8)
        {
            rm(path);
        }
    }
    assert!(kept.len() > 2, "{} files were taken", kept.len());
    mount.unmount();
    let mount = BtrfuseMount::read_only(image.path());
    for (number, path) in kept {
        let path = mount.path().join(path.file_name().expect("a file"));
        let got = fs::read(&path).expect("what close took");
        assert!(got == pattern(number, 200 << 10), "{}", path.display());
    }
    mount.unmount();
    btrfs_check(image.path());
}

/// How many share everything: with one of them the last room was enough for all names.
const SNAPSHOTS: usize = 4;

/// Removing what a snapshot shares takes space, until there is none. The snapshot could not be deleted
/// then either; and right after its deletion, before it had been dropped, rm was refused again.
#[test]
fn a_snapshot_can_be_deleted_on_a_full_filesystem_and_rm_works_at_once() {
    {
        let image = Image::mkfs_btrfs(64, SMALL_NODES);
        let mut mount = BtrfuseMount::read_write(image.path());
        let mut files: Vec<_> = (0..2500)
            .map(|number| mount.path().join(format!("shared-{number}")))
            .collect();
        for (number, path) in (0..).zip(&files) {
            write(path, number, 1500).expect("room");
        }
        let places: Vec<_> = (0..SNAPSHOTS)
            .map(|number| mount.path().join(format!("snapshot-{number}")))
            .collect();
        let subvolume = |verb: &str, places: &[&Path]| {
            let mut command = Command::new(btrfuse_binary());
            run(command.args(["subvolume", verb]).args(places));
        };
        for place in &places {
            subvolume("snapshot", &[mount.path(), place]);
        }
        fill_with_links(&mount);
        shuffle(&mut files, &mut Rng::new(2));
        // In the snapshots too: whatever can be used up is.
        let mut refusals = 0;
        while refusals < 8 {
            let path = files.pop().expect("more than can be removed");
            let name = path.file_name().expect("a file");
            let inside = places.iter().map(|place| place.join(name));
            for path in inside.chain([path.clone()]) {
                refusals += u32::from(refused("rm", rustix::fs::unlink(&path)));
            }
        }
        for place in &places {
            subvolume("delete", &[place]);
        }
        for path in &files {
            rm(path);
        }
        let log = mount.log();
        assert!(!log.contains("error"), "{log}");
        mount.unmount();
        btrfs_check(image.path());
    }
}

/// Cutting a file, and deleting one with many attributes, asked for more nodes than a filesystem with
/// large ones keeps for removals.
#[test]
fn files_can_be_cut_and_deleted_on_a_full_filesystem_with_large_nodes() {
    let image = Image::mkfs_btrfs(110, &["-n", "65536", "-m", "dup"]);
    let mut mount = BtrfuseMount::read_write(image.path());
    let paths: Vec<_> = (0..60)
        .map(|number| mount.path().join(format!("file-{number}")))
        .collect();
    for (number, path) in (0..).zip(&paths) {
        write(path, number, 20_000).expect("room");
        for name in 0..70 {
            let flags = rustix::fs::XattrFlags::CREATE;
            rustix::fs::setxattr(path, format!("user.{name}"), &[b'x'; 200], flags).expect("room");
        }
    }
    fill_with_links(&mount);
    for path in &paths {
        let file = rustix::fs::open(path, rustix::fs::OFlags::RDWR, 0.into()).expect("a file");
        for len in [8192, 0] {
            rustix::fs::ftruncate(&file, len)
                .unwrap_or_else(|error| panic!("truncate {}: {error}", path.display()));
        }
        close(file).expect("nothing waits");
        rm(path);
    }
    mount.sync();
    let log = mount.log();
    assert!(!log.contains("no space"), "{log}");
    mount.unmount();
    btrfs_check(image.path());
}
