//! Content and attributes of files that were fsynced.

use crate::{FORMATS, Story, fsync, open, sync, tell, write};
use rustix::fs::{FallocateFlags, XattrFlags, fallocate, ftruncate};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const KIB: u64 = 1024;

fn allocate(path: impl AsRef<Path>, flags: FallocateFlags, at: u64, len: u64) {
    fallocate(open(path), flags, at, len).expect("fallocate");
}

fn resize(path: impl AsRef<Path>, size: u64) {
    ftruncate(open(path), size).expect("ftruncate");
}

fn clone_range(from: &Path, at: u64, to: &Path, to_at: u64, len: usize) {
    let (mut at, mut to_at) = (at, to_at);
    let copied =
        rustix::fs::copy_file_range(open(from), Some(&mut at), open(to), Some(&mut to_at), len);
    assert_eq!(copied, Ok(len));
}

fn a_file_of_200_kib(at: &Path) {
    write(at.join("f"), 0, 200 * 1024, 1);
}

fn nothing(_: &Path) {}

const WRITES: &[Story] = &[
    Story {
        name: "a new file",
        before: nothing,
        then: |at| {
            write(at.join("f"), 0, 300_000, 2);
            fsync(at.join("f"));
        },
    },
    Story {
        name: "an empty file",
        before: nothing,
        then: |at| {
            open(at.join("f")).sync_all().expect("fsync");
        },
    },
    Story {
        name: "appended, and again",
        before: a_file_of_200_kib,
        then: |at| {
            for n in 0..3 {
                write(at.join("f"), 200 * KIB + n * 5000, 5000, 2 + n);
                fsync(at.join("f"));
            }
        },
    },
    Story {
        name: "overwritten in the middle of a sector",
        before: a_file_of_200_kib,
        then: |at| {
            write(at.join("f"), 50_001, 30_000, 2);
            fsync(at.join("f"));
            write(at.join("f"), 60_000, 100, 3);
            write(at.join("f"), 150_000, 70_000, 4);
            open(at.join("f")).sync_data().expect("fdatasync");
        },
    },
    Story {
        name: "inline content",
        before: |at| {
            write(at.join("grows"), 0, 100, 1);
            write(at.join("stays"), 0, 500, 2);
        },
        then: |at| {
            write(at.join("new"), 0, 1500, 3);
            write(at.join("grows"), 100, 9000, 4);
            write(at.join("stays"), 20, 100, 5);
            for name in ["new", "grows", "stays"] {
                fsync(at.join(name));
            }
        },
    },
    Story {
        name: "shortened, and longer again",
        before: |at| {
            for name in ["short", "again", "sector", "empty"] {
                write(at.join(name), 0, 200 * 1024, 1);
            }
        },
        then: |at| {
            // The kernel's fsync of this one is a commit.
            resize(at.join("again"), 10_000);
            resize(at.join("again"), 150_000);
            fsync(at.join("again"));
            resize(at.join("short"), 33_333);
            resize(at.join("sector"), 65_536);
            resize(at.join("empty"), 0);
            for name in ["short", "sector", "empty"] {
                fsync(at.join(name));
            }
            resize(at.join("short"), 133_333);
            fsync(at.join("short"));
        },
    },
];

const RANGES: &[Story] = &[
    Story {
        name: "holes",
        before: |at| {
            write(at.join("f"), 0, 400 * 1024, 1);
            write(at.join("g"), 0, 400 * 1024, 2);
        },
        then: |at| {
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            allocate(at.join("f"), punch, 8192, 64 * KIB);
            fsync(at.join("f"));
            allocate(at.join("f"), punch, 72 * KIB, 10_001);
            allocate(at.join("f"), punch, 300 * KIB, 200 * KIB);
            fsync(at.join("f"));
            allocate(at.join("g"), FallocateFlags::ZERO_RANGE, 100_000, 100_000);
            fsync(at.join("g"));
            write(at.join("sparse"), 1 << 20, 5000, 3);
            write(at.join("sparse"), 9 << 20, 5000, 3);
            resize(at.join("sparse"), 20 << 20);
            fsync(at.join("sparse"));
        },
    },
    Story {
        name: "preallocated, also behind the end",
        before: |at| {
            write(at.join("f"), 0, 10_000, 1);
            allocate(at.join("old"), FallocateFlags::KEEP_SIZE, 0, 256 * KIB);
            write(at.join("old"), 0, 3000, 2);
        },
        then: |at| {
            allocate(at.join("f"), FallocateFlags::KEEP_SIZE, 12_288, 128 * KIB);
            fsync(at.join("f"));
            allocate(at.join("new"), FallocateFlags::empty(), 0, 100_000);
            write(at.join("new"), 40_000, 20_000, 3);
            fsync(at.join("new"));
            write(at.join("old"), 100_000, 20_000, 4);
            fsync(at.join("old"));
        },
    },
    Story {
        name: "shared extents",
        before: |at| {
            write(at.join("source"), 0, 256 * 1024, 1);
            write(at.join("target"), 0, 256 * 1024, 2);
        },
        then: |at| {
            clone_range(
                &at.join("source"),
                0,
                &at.join("target"),
                64 * KIB,
                128 << 10,
            );
            write(at.join("fresh"), 0, 128 * 1024, 3);
            fsync(at.join("fresh"));
            clone_range(&at.join("fresh"), 16 * KIB, &at.join("target"), 0, 32 << 10);
            clone_range(&at.join("fresh"), 0, &at.join("part"), 0, 128 << 10);
            write(at.join("part"), 40_000, 9000, 4);
            for name in ["target", "part"] {
                fsync(at.join(name));
            }
        },
    },
    Story {
        name: "one new extent, in part and whole in one file",
        before: nothing,
        then: |at| {
            write(at.join("f"), 800 * KIB, 100 << 10, 1);
            open(at.join("f")).sync_data().expect("fdatasync");
            clone_range(&at.join("f"), 820 * KIB, &at.join("f"), 400 * KIB, 20 << 10);
            fsync(at.join("f"));
        },
    },
];

const ATTRIBUTES: &[Story] = &[Story {
    name: "attributes, owner, mode, times",
    before: |at| {
        for name in ["f", "g"] {
            write(at.join(name), 0, 5000, 1);
            for attribute in ["user.stays", "user.goes", "user.changes"] {
                set(&at.join(name), attribute, b"before");
            }
        }
    },
    then: |at| {
        let f = at.join("f");
        set(&f, "user.new", &[7; 900]);
        set(&f, "user.changes", b"after");
        rustix::fs::removexattr(&f, "user.goes").expect("removexattr");
        fsync(&f);
        let g = at.join("g");
        let mode = std::fs::Permissions::from_mode(0o4751);
        std::os::unix::fs::chown(&g, Some(1000), Some(7)).expect("chown");
        std::fs::set_permissions(&g, mode).expect("chmod");
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(1_234_567_890_123);
        open(&g).set_modified(time).expect("utimens");
        for attribute in ["user.stays", "user.goes", "user.changes"] {
            rustix::fs::removexattr(&g, attribute).expect("removexattr");
        }
        fsync(&g);
    },
}];

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).expect("setxattr");
}

#[test]
fn written_content_is_what_the_kernel_replays() {
    FORMATS.iter().for_each(|options| tell(options, WRITES));
}

#[test]
fn holes_preallocated_and_shared_ranges_are_what_the_kernel_replays() {
    FORMATS.iter().for_each(|options| tell(options, RANGES));
}

#[test]
fn attributes_are_what_the_kernel_replays() {
    tell(&[], ATTRIBUTES);
}

/// The log's blocks and data lie between what others may get: nothing of them is given away
/// before they are part of the trees, also where data and metadata share groups.
#[test]
fn large_logs_in_other_formats_are_replayed_as_the_kernel_does() {
    const MANY: &[Story] = &[Story {
        name: "many files",
        before: |at| {
            for n in 0..200 {
                write(at.join(format!("old{n}")), 0, 3000 + n * 50, n as u64);
            }
        },
        then: |at| {
            for n in 0..200 {
                write(at.join(format!("new{n}")), 0, 20_000, n);
                write(at.join(format!("old{n}")), n * 100, 8000, n);
                fsync(at.join(format!("new{n}")));
                fsync(at.join(format!("old{n}")));
            }
        },
    }];
    tell(&["-M", "-n", "4096"], MANY);
    tell(&["-O", "^no-holes", "-R", "^free-space-tree"], MANY);
    tell(&["--csum", "sha256", "-m", "single"], MANY);
}

/// Each subvolume has a log of its own; a snapshot shares the blocks that a replay changes.
#[test]
fn logs_of_several_subvolumes_are_replayed_as_the_kernel_does() {
    fn btrfs(arguments: &[&Path]) {
        let mut command = std::process::Command::new("btrfs");
        btrfuse_test_support::run(command.arg("subvolume").args(arguments));
    }
    const SEVERAL: &[Story] = &[Story {
        name: "subvolumes and a snapshot",
        before: |at| {
            let (one, two) = (at.join("one"), at.join("two"));
            btrfs(&[Path::new("create"), &one]);
            btrfs(&[Path::new("create"), &two]);
            for n in 0..50 {
                write(one.join(format!("f{n}")), 0, 6000, n);
            }
            sync(at);
            let snapshot = at.join("snapshot");
            btrfs(&[Path::new("snapshot"), &one, &snapshot]);
        },
        then: |at| {
            for (n, place) in ["one", "two", "snapshot", "."].into_iter().enumerate() {
                let new = at.join(place).join("new");
                write(&new, 0, 50_000, n as u64);
                fsync(&new);
            }
            write(at.join("one/f7"), 4000, 4000, 9);
            std::fs::rename(at.join("snapshot/f8"), at.join("snapshot/moved")).expect("a rename");
            fsync(at.join("one/f7"));
            fsync(at.join("snapshot/moved"));
        },
    }];
    FORMATS.iter().for_each(|options| tell(options, SEVERAL));
}
