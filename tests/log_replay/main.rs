//! Logs that the kernel wrote, replayed by the kernel and by us: the same tree.
//!
//! The kernel's mount does what a story says, with fsyncs in it. While it is still mounted, and nothing
//! writes, its image is copied: that is what a power cut leaves. Each copy is judged in every way a
//! mount can go: read-only, without the replay, read-write; and then the kernel looks at what we made
//! durable.

mod contents;
mod names;
mod random;

use btrfuse_test_support::compare::assert_same;
use btrfuse_test_support::{BtrfuseMount, Image, Judge, LoopMount, Manifest, Rules, walk};
use rustix::fs::{CWD, Mode, OFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What happens before the last commit, and after it.
pub struct Story {
    /// What it is about.
    pub name: &'static str,
    /// Is committed.
    pub before: fn(&Path),
    /// Ends in a crash.
    pub then: fn(&Path),
}

/// The formats that a story is told in.
pub const FORMATS: [&[&str]; 2] = [&[], &["-n", "4096", "-O", "^no-holes"]];

/// Tells each story on an image of its own, and judges what a cut at its end leaves.
#[track_caller]
pub fn tell(options: &[&str], stories: &[Story]) {
    for story in stories {
        let what = format!("{} {options:?}", story.name);
        eprintln!("{what}");
        let image = Image::mkfs_btrfs(256, options);
        let mount = kernel_mount(&image);
        (story.before)(mount.path());
        sync(mount.path());
        (story.then)(mount.path());
        let crashed = image.copy();
        mount.unmount();
        assert!(crashed.has_log(), "{what}: there is no log");
        judge(&what, &crashed);
    }
}

/// A mount that commits only when it must.
pub fn kernel_mount(image: &Image) -> LoopMount {
    LoopMount::new(&[image.path()], "subvolid=5,commit=300")
}

/// Demands that we make of a crashed image what the kernel makes of it.
#[track_caller]
pub fn judge(what: &str, crashed: &Image) {
    let last_commit = kernel_walk(crashed, "ro,rescue=nologreplay,subvolid=5");
    let by_kernel = crashed.copy();
    let expected = kernel_walk(&by_kernel, "subvolid=5");
    let check = Judge::before_us(by_kernel.path());
    let before = crashed.digest();
    for (options, expected) in [("ro", &expected), ("ro,nologreplay", &last_commit)] {
        let mount = BtrfuseMount::new(crashed.path(), &format!("{options},subvolid=5"));
        let what = format!("{what}, {options}");
        assert_same(&what, expected, &walk(mount.path()), &Rules::fuse());
        mount.unmount();
        assert_eq!(crashed.digest(), before, "{what}: a read-only mount wrote");
    }
    let mount = BtrfuseMount::read_write(crashed.path());
    assert_same(what, &expected, &walk(mount.path()), &Rules::fuse());
    mount.unmount();
    assert!(!crashed.has_log(), "{what}: the log is still there");
    check.assert_content(crashed.path());
    let found = kernel_walk(crashed, "ro,subvolid=5");
    let what = format!("{what}, the kernel after us");
    assert_same(&what, &expected, &found, &Rules::all());
}

fn kernel_walk(image: &Image, options: &str) -> Manifest {
    let mount = LoopMount::new(&[image.path()], options);
    let walked = walk(mount.path());
    mount.unmount();
    walked
}

/// A commit.
pub fn sync(mount_point: &Path) {
    rustix::fs::syncfs(File::open(mount_point).expect("a mount point")).expect("syncfs");
}

/// fsync(2), of a directory or a file.
#[track_caller]
pub fn fsync(path: impl AsRef<Path>) {
    let path = path.as_ref();
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.sync_all().expect("fsync");
}

/// Opens for reading and writing, and makes the file if need be.
#[track_caller]
pub fn open(path: impl AsRef<Path>) -> File {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let path = path.as_ref();
    let file = rustix::fs::openat(CWD, path, flags, Mode::from_raw_mode(0o644));
    file.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .into()
}

/// Writes `len` bytes that `seed` stands for.
#[track_caller]
pub fn write(path: impl AsRef<Path>, at: u64, len: usize, seed: u64) {
    let bytes = btrfuse_test_support::script::bytes(seed, len);
    open(path).write_all_at(&bytes, at).expect("a write");
}

/// The judge of this folder sees a replay that didn't happen.
#[test]
#[should_panic(expected = "missing")]
fn a_log_that_is_passed_over_is_noticed() {
    let image = Image::mkfs_btrfs(256, &[]);
    let mount = kernel_mount(&image);
    sync(mount.path());
    write(mount.path().join("new"), 0, 100, 1);
    fsync(mount.path().join("new"));
    let crashed = image.copy();
    mount.unmount();
    let expected = kernel_walk(&crashed.copy(), "subvolid=5");
    let mount = BtrfuseMount::new(crashed.path(), "ro,nologreplay,subvolid=5");
    let found = walk(mount.path());
    mount.unmount();
    assert_same("without the replay", &expected, &found, &Rules::fuse());
}
