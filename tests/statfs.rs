//! `df` tells the truth: the numbers that the kernel's btrfs tells of the same image, before and
//! after work; and the device's space comes back when files go.

use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, Rng, btrfs_check, dump, golden};
use rustix::fs::{FallocateFlags, StatVfs, fallocate, statvfs};
use std::fs::{self, File};
use std::path::Path;

const MIB: u64 = 1 << 20;
/// The kernel and we each keep a reserve for commits of our own choice, which nobody else gets.
const RESERVES: u64 = 4 * MIB;

fn numbers(mount: &Path) -> StatVfs {
    statvfs(mount).expect("statfs")
}

/// The size is the kernel's to the byte, what is free and available within the reserves.
#[track_caller]
fn same(what: &str, kernel: &StatVfs, ours: &StatVfs) {
    let fixed = |it: &StatVfs| {
        (
            it.f_bsize,
            it.f_frsize,
            it.f_namemax,
            it.f_files,
            it.f_ffree,
        )
    };
    assert_eq!(fixed(ours), fixed(kernel), "{what}: units and limits");
    let bytes = |it: &StatVfs| [it.f_blocks, it.f_bfree, it.f_bavail].map(|n| n * it.f_frsize);
    let (theirs, ours) = (bytes(kernel), bytes(ours));
    let near = |index: usize| theirs[index].abs_diff(ours[index]) <= RESERVES;
    assert!(
        theirs[0] == ours[0] && near(1) && near(2),
        "{what}: size, free, available: the kernel says {theirs:?}, we say {ours:?}"
    );
}

/// Both, on the image as it is, read-only and read-write.
#[track_caller]
fn compare(what: &str, image: &Image) {
    for options in ["ro,subvolid=5", "subvolid=5"] {
        let copy = image.copy();
        let kernel = if options.starts_with("ro") {
            LoopMount::read_only(copy.path())
        } else {
            LoopMount::read_write(copy.path())
        };
        let theirs = numbers(kernel.path());
        kernel.unmount();
        let copy = image.copy();
        let mount = BtrfuseMount::new(copy.path(), options);
        let ours = numbers(mount.path());
        mount.unmount();
        same(&format!("{what}, {options}"), &theirs, &ours);
    }
}

#[test]
fn fresh_images_have_the_kernels_numbers() {
    for options in [
        &[][..],
        &["-n", "4096"],
        &["-m", "single"],
        &["-d", "dup"],
        &["-M"],
    ] {
        let image = Image::mkfs_btrfs(600, options);
        compare(&format!("mkfs.btrfs {options:?}"), &image);
    }
    compare("btrfuse mkfs", &Image::mkfs_btrfuse(600, &[]));
}

#[test]
fn used_images_have_the_kernels_numbers() {
    for name in [
        "default-s11",
        "mixed-s11",
        "dup-dup-s11",
        "aged-s11",
        "full-s11",
        "resized-s11",
        "snapshots-s11",
        "bgt-s11",
    ] {
        compare(name, &golden::named(name).image());
    }
}

/// Files of many sizes by us; then both say the same of what is left.
#[test]
fn our_own_work_has_the_kernels_numbers() {
    let image = Image::mkfs_btrfs(1000, &[]);
    let mount = BtrfuseMount::read_write(image.path());
    let mut rng = Rng::new(5);
    for number in 0..400 {
        let len = if number % 10 == 0 {
            MIB * 2
        } else {
            rng.below(30_000)
        };
        let path = mount.path().join(format!("file-{number}"));
        fs::write(path, rng.bytes(len as usize)).expect("room");
    }
    for number in (0..400).step_by(3) {
        fs::remove_file(mount.path().join(format!("file-{number}"))).expect("there");
    }
    mount.unmount();
    btrfs_check(image.path());
    compare("after us", &image);
}

/// Chunks are made for data and given back with it: dump-tree counts them.
#[test]
fn chunks_are_given_back_when_their_data_goes() {
    let image = Image::mkfs_btrfs(3000, &[]);
    let before = dump::chunks(image.path(), "DATA");
    let mount = BtrfuseMount::read_write(image.path());
    let empty = numbers(mount.path());
    for number in 0..4 {
        let file = File::create(mount.path().join(format!("file-{number}"))).expect("room");
        fallocate(&file, FallocateFlags::empty(), 0, 512 * MIB).expect("room");
    }
    mount.sync();
    let full = dump::chunks(image.copy().path(), "DATA");
    assert!(full > before + 3, "{full} chunks hold 2 GiB, {before} none");
    for number in 0..4 {
        fs::remove_file(mount.path().join(format!("file-{number}"))).expect("there");
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    mount.sync();
    // A group that a commit leaves empty is given back by the next one.
    mount.sync();
    same("emptied", &empty, &numbers(mount.path()));
    mount.unmount();
    let after = dump::chunks(image.path(), "DATA");
    assert!(
        after <= before + 1,
        "{before}, {full} full, {after} emptied"
    );
    btrfs_check(image.path());
    compare("emptied", &image);
    LoopMount::read_write(image.path()).unmount();
}
