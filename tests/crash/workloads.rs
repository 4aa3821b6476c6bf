//! Which workloads are cut: all of one and two operations on a few names, as ACE enumerates them (OSDI
//! 2018, "Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing"), and random ones.
//!
//! Every operation may be followed by something that makes durable: its target, another file, the
//! directory, everything, or nothing.

use btrfuse_test_support::Rng;
use btrfuse_test_support::script::{Allocate, Operation, RenameKind};
use rustix::fs::FileType;

/// A step: an operation, or a commit of everything, which scripts don't have.
#[derive(Clone, Debug)]
pub enum Step {
    Do(Operation),
    Commit,
}

/// What a workload begins with, durable.
pub fn preparation() -> Vec<Operation> {
    let write = |path: &str, len, seed| Operation::Write {
        path: path.into(),
        offset: 0,
        len,
        seed,
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
    ]
}

fn create(path: &str) -> Operation {
    Operation::Create {
        path: path.into(),
        mode: 0o644,
    }
}

fn mkdir(path: &str) -> Operation {
    Operation::Mkdir {
        path: path.into(),
        mode: 0o755,
    }
}

fn set_xattr(path: &str, name: &str, fill: u8) -> Operation {
    Operation::SetXattr {
        path: path.into(),
        name: name.into(),
        value: vec![fill; 20],
    }
}

fn link(from: &str, to: &str) -> Operation {
    Operation::Link {
        from: from.into(),
        to: to.into(),
    }
}

fn unlink(path: &str) -> Operation {
    Operation::Unlink { path: path.into() }
}

fn rename(from: &str, to: &str, kind: RenameKind) -> Operation {
    Operation::Rename {
        from: from.into(),
        to: to.into(),
        kind,
    }
}

fn write(path: &str, offset: u64, len: usize) -> Operation {
    let seed = offset + 11;
    Operation::Write {
        path: path.into(),
        offset,
        len,
        seed,
    }
}

fn allocate(path: &str, what: Allocate, offset: u64, len: u64) -> Operation {
    Operation::Fallocate {
        path: path.into(),
        what,
        offset,
        len,
    }
}

fn fsync(path: &str) -> Step {
    Step::Do(Operation::Fsync { path: path.into() })
}

/// The operations, each with the name that it is about and that name's directory.
fn operations() -> Vec<(Operation, &'static str, &'static str)> {
    use RenameKind::{Exchange, Plain};
    let truncate = |path: &str, size| Operation::Truncate {
        path: path.into(),
        size,
    };
    let symlink = Operation::Symlink {
        path: "A/symbolic".into(),
        target: b"../foo".to_vec(),
    };
    let fifo = Operation::Mknod {
        path: "A/pipe".into(),
        kind: FileType::Fifo,
        mode: 0o600,
        device: (0, 0),
    };
    let remove_xattr = Operation::RemoveXattr {
        path: "A/bar".into(),
        name: "user.old".into(),
    };
    let chmod = Operation::Chmod {
        path: "foo".into(),
        mode: 0o600,
    };
    let append = Operation::Append {
        path: "foo".into(),
        len: 6_000,
        seed: 21,
    };
    vec![
        (create("A/new"), "A/new", "A"),
        (mkdir("A/inner"), "A/inner", "A"),
        (symlink, "A", "A"),
        (fifo, "A", "A"),
        (link("foo", "A/linked"), "A/linked", "A"),
        (link("A/bar", "A/bar2"), "A/bar", "A"),
        (unlink("foo"), "", ""),
        (unlink("A/bar"), "A", "A"),
        (Operation::Rmdir { path: "B".into() }, "", ""),
        (rename("foo", "A/moved", Plain), "A/moved", "A"),
        (rename("foo", "A/bar", Plain), "A/bar", "A"),
        (rename("A/bar", "baz", Plain), "baz", "A"),
        (rename("A/bar", "B/bar", Plain), "B/bar", "B"),
        (rename("A", "C", Plain), "C", ""),
        (rename("A", "B", Plain), "B", ""),
        (rename("foo", "A/bar", Exchange), "A/bar", "A"),
        (write("foo", 0, 4_096), "foo", ""),
        (write("foo", 3_000, 3_000), "foo", ""),
        (write("foo", 40_000, 5_000), "foo", ""),
        (write("A/small", 50, 100), "A/small", "A"),
        (append, "foo", ""),
        (truncate("foo", 0), "foo", ""),
        (truncate("foo", 5_000), "foo", ""),
        (truncate("foo", 30_000), "foo", ""),
        (allocate("foo", Allocate::Grow, 8_192, 16_384), "foo", ""),
        (
            allocate("foo", Allocate::KeepSize, 20_480, 8_192),
            "foo",
            "",
        ),
        (allocate("foo", Allocate::Punch, 4_096, 4_096), "foo", ""),
        (allocate("foo", Allocate::Zero, 1_000, 6_000), "foo", ""),
        (set_xattr("A/bar", "user.new", 5), "A/bar", "A"),
        (remove_xattr, "A/bar", "A"),
        (chmod, "foo", ""),
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
            out.push([vec![Step::Do(one.clone())], ending].concat());
        }
    }
    for (one, name, directory) in &operations {
        let mut between = endings(name, directory);
        between.push(Vec::new());
        for between in between {
            for (two, name, directory) in &operations {
                for ending in endings(name, directory) {
                    let first = vec![Step::Do(one.clone())];
                    let second = vec![Step::Do(two.clone())];
                    out.push([first, between.clone(), second, ending].concat());
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
        out.push(Step::Do(operation.clone()));
        if rng.one_in(2) {
            let endings = endings(name, directory);
            // Commits make little of what came before them interesting.
            let at = 1 + rng.below(endings.len() as u64 - 1) as usize;
            out.extend(endings[at].clone());
        }
    }
    out
}
