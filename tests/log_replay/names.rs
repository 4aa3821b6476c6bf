//! Names: of files that were fsynced, and of directories that were.

use crate::{FORMATS, Story, fsync, open, tell, write};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, makedev};
use std::fs::{create_dir, create_dir_all, hard_link, remove_dir, remove_file, rename};
use std::os::unix::fs::symlink;
use std::path::Path;

fn two_dirs_with_files(at: &Path) {
    for dir in ["a", "b"] {
        create_dir(at.join(dir)).expect("mkdir");
        for n in 0..8 {
            write(at.join(dir).join(format!("f{n}")), 0, 3000, n);
        }
    }
}

fn special(at: &Path, name: &str, kind: FileType) {
    let mode = Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(CWD, at.join(name), kind, mode, makedev(1, 3)).expect("mknod");
}

const FILES: &[Story] = &[
    Story {
        name: "renamed files",
        before: two_dirs_with_files,
        then: |at| {
            rename(at.join("a/f0"), at.join("a/renamed")).expect("a rename");
            fsync(at.join("a/renamed"));
            rename(at.join("a/f1"), at.join("b/moved")).expect("a rename");
            fsync(at.join("b/moved"));
            rename(at.join("a/f2"), at.join("a/f0")).expect("a rename");
            write(at.join("a/f2"), 0, 70, 9);
            fsync(at.join("a/f2"));
            fsync(at.join("a/f0"));
        },
    },
    Story {
        name: "replaced by a rename",
        before: two_dirs_with_files,
        then: |at| {
            write(at.join("a/tmp"), 0, 40_000, 20);
            fsync(at.join("a/tmp"));
            rename(at.join("a/tmp"), at.join("a/f3")).expect("a rename");
            fsync(at.join("a/f3"));
            rename(at.join("b/f4"), at.join("b/f5")).expect("a rename");
            fsync(at.join("b/f5"));
        },
    },
    Story {
        name: "hard links come and go",
        before: |at| {
            two_dirs_with_files(at);
            hard_link(at.join("a/f0"), at.join("b/link")).expect("link");
            hard_link(at.join("a/f0"), at.join("a/other")).expect("link");
        },
        then: |at| {
            hard_link(at.join("a/f1"), at.join("a/second")).expect("link");
            hard_link(at.join("a/f1"), at.join("b/third")).expect("link");
            fsync(at.join("a/f1"));
            remove_file(at.join("a/other")).expect("unlink");
            fsync(at.join("a/f0"));
            // Only the directory is told of these.
            hard_link(at.join("a/f2"), at.join("a/f2-link")).expect("link");
            hard_link(at.join("a/f3"), at.join("a/f3-link")).expect("link");
            fsync(at.join("a"));
        },
    },
    Story {
        name: "more names than one item holds",
        before: |at| {
            write(at.join("f"), 0, 3000, 1);
            for n in 0..300 {
                hard_link(at.join("f"), at.join(format!("a rather long name {n:060}")))
                    .expect("link");
            }
        },
        then: |at| {
            for n in 0..40 {
                remove_file(at.join(format!("a rather long name {:060}", n * 7))).expect("unlink");
                hard_link(at.join("f"), at.join(format!("another long name {n:090}")))
                    .expect("link");
            }
            write(at.join("new"), 0, 3000, 1);
            for n in 0..300 {
                hard_link(
                    at.join("new"),
                    at.join(format!("a long name of the new {n:060}")),
                )
                .expect("link");
            }
            fsync(at);
        },
    },
    Story {
        name: "files without names",
        before: two_dirs_with_files,
        then: |at| {
            let flags = OFlags::TMPFILE | OFlags::RDWR;
            let unnamed = || {
                let dir = at.join("a");
                rustix::fs::open(dir, flags, Mode::from_raw_mode(0o600)).expect("O_TMPFILE")
            };
            let named = unnamed();
            rustix::io::write(&named, &[3; 5000]).expect("a write");
            let to = at.join("b/named");
            rustix::fs::linkat(&named, "", CWD, to, AtFlags::EMPTY_PATH).expect("linkat");
            rustix::fs::fsync(&named).expect("fsync");
            let stays = unnamed();
            rustix::io::write(&stays, &[4; 5000]).expect("a write");
            rustix::fs::fsync(&stays).expect("fsync");
            let open = open(at.join("a/f6"));
            remove_file(at.join("a/f6")).expect("unlink");
            open.sync_all().expect("fsync");
            write(at.join("a/f7"), 0, 100, 4);
            fsync(at.join("a/f7"));
        },
    },
];

const DIRECTORIES: &[Story] = &[
    Story {
        name: "a directory loses names and gets others",
        before: two_dirs_with_files,
        then: |at| {
            for n in 0..4 {
                remove_file(at.join(format!("a/f{n}"))).expect("unlink");
            }
            for n in 0..6 {
                write(at.join(format!("a/new{n}")), 0, 2500 * n, n as u64);
            }
            fsync(at.join("a"));
            remove_file(at.join("a/f5")).expect("unlink");
            remove_file(at.join("a/new0")).expect("unlink");
            write(at.join("a/f1"), 0, 10, 3);
            fsync(at.join("a"));
        },
    },
    Story {
        name: "new directories with everything in them",
        before: two_dirs_with_files,
        then: |at| {
            create_dir_all(at.join("a/new/deep/deeper")).expect("mkdir");
            write(at.join("a/new/deep/file"), 0, 9000, 1);
            symlink("the target of the link", at.join("a/new/link")).expect("symlink");
            symlink("x".repeat(3000), at.join("a/new/deep/long")).expect("symlink");
            special(at, "a/new/fifo", FileType::Fifo);
            special(at, "a/new/null", FileType::CharacterDevice);
            special(at, "a/new/disk", FileType::BlockDevice);
            special(at, "a/new/socket", FileType::Socket);
            fsync(at.join("a"));
            write(at.join("a/new/deep/deeper/leaf"), 0, 100, 2);
            fsync(at.join("a/new/deep/deeper/leaf"));
        },
    },
    Story {
        name: "a directory is gone with what was in it",
        before: |at| {
            two_dirs_with_files(at);
            create_dir_all(at.join("a/sub/subsub")).expect("mkdir");
            write(at.join("a/sub/file"), 0, 5000, 1);
        },
        then: |at| {
            remove_file(at.join("a/sub/file")).expect("unlink");
            remove_dir(at.join("a/sub/subsub")).expect("rmdir");
            remove_dir(at.join("a/sub")).expect("rmdir");
            fsync(at.join("a"));
            for n in 0..8 {
                remove_file(at.join(format!("b/f{n}"))).expect("unlink");
            }
            fsync(at.join("b"));
        },
    },
    Story {
        name: "directories change places",
        before: |at| {
            two_dirs_with_files(at);
            for dir in ["a/one", "a/two"] {
                create_dir(at.join(dir)).expect("mkdir");
                write(at.join(dir).join("in"), 0, 100, 1);
            }
        },
        then: |at| {
            let (one, two) = (at.join("a/one"), at.join("a/two"));
            rustix::fs::renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE)
                .expect("an exchange");
            fsync(&one);
            fsync(at.join("a"));
            let (f1, f2) = (at.join("b/f1"), at.join("b/f2"));
            rustix::fs::renameat_with(CWD, &f1, CWD, &f2, RenameFlags::EXCHANGE)
                .expect("an exchange");
            write(&f1, 0, 50, 7);
            fsync(&f1);
        },
    },
    Story {
        name: "the last name goes, and its place in the listing is taken",
        before: two_dirs_with_files,
        then: |at| {
            remove_file(at.join("a/f7")).expect("unlink");
            write(at.join("a/instead"), 0, 4000, 3);
            fsync(at.join("a/instead"));
            special(at, "a/f7", FileType::Fifo);
            write(at.join("a/after"), 0, 4000, 3);
            fsync(at.join("a"));
        },
    },
];

#[test]
fn names_of_files_are_what_the_kernel_replays() {
    FORMATS.iter().for_each(|options| tell(options, FILES));
}

#[test]
fn fsynced_directories_are_what_the_kernel_replays() {
    FORMATS
        .iter()
        .for_each(|options| tell(options, DIRECTORIES));
}
