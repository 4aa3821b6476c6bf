//! Which workloads are cut: all of one and two operations on a few names, as ACE enumerates them (OSDI
//! 2018, "Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing"), and random ones.
//!
//! Every operation may be followed by something that makes durable: its target, another file, the
//! directory, everything, or nothing.

use crate::step::Step;
use crate::verbs::{
    allocate, append, chmod, copy, create, exchange, fifo, fsync, held_write, link, mkdir,
    remove_xattr, rename, rmdir, set_xattr, snapshot, symlink, truncate, unlink, write,
};
use btrfuse_test_support::Rng;
use btrfuse_test_support::script::{Allocate, Operation};

/// What a workload begins with, durable.
pub fn preparation() -> Vec<Step> {
    let write = |path: &str, len, seed| {
        Step::Do(Operation::Write {
            path: path.into(),
            offset: 0,
            len,
            seed,
        })
    };
    vec![
        mkdir("A"),
        mkdir("B"),
        create("foo"),
        write("foo", 10_000, 1),
        create("A/bar"),
        write("A/bar", 5_000, 2),
        set_xattr("A/bar", "user.old", 3),
        create("A/small"),
        write("A/small", 100, 4),
        Step::Subvolume("S"),
        create("S/in"),
        write("S/in", 9_000, 5),
    ]
}

/// An operation, the name that it is about, and that name's directory.
type Operations = Vec<(Vec<Step>, &'static str, &'static str)>;

fn operations() -> Operations {
    let single = |step, name, directory| (vec![step], name, directory);
    let mut out = vec![
        single(create("A/new"), "A/new", "A"),
        single(mkdir("A/inner"), "A/inner", "A"),
        single(symlink("A/symbolic", "../foo"), "A", "A"),
        single(fifo("A/pipe"), "A", "A"),
        single(link("foo", "A/linked"), "A/linked", "A"),
        single(link("A/bar", "A/bar2"), "A/bar", "A"),
        single(unlink("foo"), "", ""),
        single(unlink("A/bar"), "A", "A"),
        single(rmdir("B"), "", ""),
        single(rename("foo", "A/moved"), "A/moved", "A"),
        single(rename("foo", "A/bar"), "A/bar", "A"),
        single(rename("A/bar", "baz"), "baz", "A"),
        single(rename("A/bar", "B/bar"), "B/bar", "B"),
        single(rename("A", "C"), "C", ""),
        single(rename("A", "B"), "B", ""),
        single(exchange("foo", "A/bar"), "A/bar", "A"),
        single(write("foo", 0, 4_096), "foo", ""),
        single(write("foo", 3_000, 3_000), "foo", ""),
        single(write("foo", 40_000, 5_000), "foo", ""),
        single(write("A/small", 50, 100), "A/small", "A"),
        single(append("foo", 6_000), "foo", ""),
        single(truncate("foo", 0), "foo", ""),
        single(truncate("foo", 5_000), "foo", ""),
        single(truncate("foo", 30_000), "foo", ""),
        single(set_xattr("A/bar", "user.new", 5), "A/bar", "A"),
        single(remove_xattr("A/bar", "user.old"), "A/bar", "A"),
        single(chmod("foo", 0o600), "foo", ""),
    ];
    let ranges = [
        (Allocate::Grow, 8_192, 16_384),
        (Allocate::KeepSize, 20_480, 8_192),
        (Allocate::KeepSize, 2_000, 4_000),
        (Allocate::Punch, 4_096, 4_096),
        (Allocate::Punch, 1_000, 7_500),
        (Allocate::Zero, 1_000, 6_000),
        (Allocate::Zero, 6_000, 9_000),
        (Allocate::ZeroKeepSize, 8_000, 12_000),
    ];
    let ranges = ranges.map(|(what, at, len)| single(allocate("foo", what, at, len), "foo", ""));
    out.extend(ranges);
    out.extend(copies_and_subvolumes());
    out
}

/// What ACE doesn't have.
fn copies_and_subvolumes() -> Operations {
    use Step::{DeleteSubvolume, HeldFsync, HeldLink, Hold, LetGo, Subvolume, Tmpfile};
    let single = |step, name, directory| (vec![step], name, directory);
    vec![
        single(copy("foo", 0, "A/bar", 0, 8_192), "A/bar", "A"),
        single(copy("foo", 0, "A/small", 4_096, 10_000), "A/small", "A"),
        single(copy("foo", 0, "foo", 16_384, 8_192), "foo", ""),
        single(copy("A/bar", 100, "foo", 5_000, 4_000), "foo", ""),
        (
            vec![
                Tmpfile("A"),
                held_write(0, 9_000),
                HeldLink("A/named"),
                LetGo,
            ],
            "A/named",
            "A",
        ),
        (
            vec![Tmpfile("A"), held_write(0, 9_000), HeldFsync, LetGo],
            "A",
            "A",
        ),
        (
            vec![
                Tmpfile("A"),
                held_write(0, 900),
                HeldFsync,
                HeldLink("A/named"),
            ],
            "A/named",
            "A",
        ),
        (
            vec![Hold("foo"), unlink("foo"), held_write(0, 100), HeldFsync],
            "",
            "",
        ),
        (
            vec![
                Subvolume("A/sub"),
                create("A/sub/file"),
                write("A/sub/file", 0, 6_000),
            ],
            "A/sub/file",
            "A",
        ),
        single(snapshot("S", "A/snap"), "A/snap", "A"),
        single(snapshot("S", "S/self"), "S", ""),
        single(DeleteSubvolume("S"), "", ""),
        (
            vec![snapshot("S", "A/old"), DeleteSubvolume("A/old")],
            "A",
            "A",
        ),
        single(write("S/in", 4_000, 6_000), "S/in", "S"),
        single(rename("S/in", "S/out"), "S/out", "S"),
        single(rename("S", "A/S"), "A", "A"),
    ]
}

/// What may follow an operation.
fn endings(name: &str, directory: &str) -> Vec<Vec<Step>> {
    let mut out = vec![
        vec![Step::Commit],
        vec![fsync(name)],
        vec![fsync("A/small")],
    ];
    if directory != name {
        out.push(vec![fsync(directory)]);
    }
    out
}

/// All of one operation and of two; each ends in something that makes durable, or nothing would.
pub fn all() -> Vec<Vec<Step>> {
    let mut out = Vec::new();
    let operations = operations();
    for (one, name, directory) in &operations {
        for ending in endings(name, directory) {
            out.push([one.clone(), ending].concat());
        }
    }
    for (one, name, directory) in &operations {
        let mut between = endings(name, directory);
        between.push(Vec::new());
        for between in between {
            for (two, name, directory) in &operations {
                for ending in endings(name, directory) {
                    out.push([one.clone(), between.clone(), two.clone(), ending].concat());
                }
            }
        }
    }
    out
}

/// Longer ones: operations of the set and what makes durable, at random.
pub fn random(rng: &mut Rng, steps: usize) -> Vec<Step> {
    let operations = operations();
    let mut out = Vec::new();
    while out.len() < steps {
        let (operation, name, directory) = &operations[rng.below(operations.len() as u64) as usize];
        out.extend(operation.clone());
        if rng.one_in(2) {
            let endings = endings(name, directory);
            // Commits make little of what came before them interesting.
            let at = 1 + rng.below(endings.len() as u64 - 1) as usize;
            out.extend(endings[at].clone());
        }
    }
    out
}
