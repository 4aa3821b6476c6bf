//! What programs do while a device fails: a fixed story, told to a mount step by step.
//!
//! Owns: the operations, what each means for the [`Book`], and what a mount shows.

use crate::book::{Book, Entry, Found, SECTOR, Seen, in_snapshot};
use btrfuse::Result;
use btrfuse::fs::{Caller, FileKind, Filesystem, NodeId, RenameFlags, SetAttr, Who, WriteFlags};
use std::collections::BTreeSet;

/// An operation; names are paths from the top.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Mkdir(&'static str),
    Create(&'static str),
    /// At, length.
    Write(&'static str, usize, usize),
    Truncate(&'static str, usize),
    /// At, length.
    Punch(&'static str, usize, usize),
    /// At, length, as part of the size.
    Preallocate(&'static str, usize, usize),
    /// Target, at; source, at; length.
    Copy(&'static str, usize, &'static str, usize, usize),
    Rename(&'static str, &'static str),
    Link(&'static str, &'static str),
    Symlink(&'static str, &'static str),
    Unlink(&'static str),
    Fsync(&'static str),
    Sync,
    /// Of everything, as `snap`.
    Snapshot,
    /// Everything is read.
    Look,
    /// Unmount and mount.
    Remount,
}

use Op::*;

/// Is durable before a fault: then comes a cut, so that a log waits for the mount.
pub const BEFORE: &[Op] = &[
    Mkdir("d"),
    Create("d/old"),
    Write("d/old", 0, 30_000),
    Create("small"),
    Write("small", 0, 900),
    Create("d/shared"),
    Write("d/shared", 0, 100_000),
    Sync,
    Write("d/old", 4096, 8192),
    Fsync("d/old"),
];

/// What happens on the faulty device, from the mount, which replays a log, to the unmount.
pub const STORY: &[Op] = &[
    Look,
    Create("a"),
    Write("a", 0, 60_000),
    Write("d/old", 8192, 4096),
    Fsync("a"),
    Rename("d/old", "moved"),
    Fsync("moved"),
    Mkdir("e"),
    Create("e/x"),
    Write("e/x", 0, 1500),
    Symlink("e/l", "../a"),
    Link("a", "e/a2"),
    Write("a", 10_000, 5000),
    Truncate("d/shared", 33_333),
    Punch("moved", 4096, 8192),
    Sync,
    Snapshot,
    Write("a", 20_000, 30_000),
    Fsync("a"),
    Unlink("small"),
    Copy("d/shared", 4096, "a", 0, 40_960),
    Create("e/p"),
    Preallocate("e/p", 0, 50_000),
    Write("e/p", 4096, 8192),
    Fsync("e/p"),
    Write("e/p", 8192, 4096),
    Look,
    Remount,
    Look,
    Write("moved", 100, 3000),
    Fsync("moved"),
    Write("a", 60_000, 20_000),
    Sync,
    Truncate("a", 7000),
    Unlink("d/shared"),
    Create("z"),
    Write("z", 0, 300_000),
    Look,
];

fn caller() -> Caller {
    Caller {
        uid: 0,
        gid: 0,
        umask: 0,
        pid: 1,
    }
}

/// Bytes of the nth step, like no others.
fn pattern(step: usize, len: usize) -> Vec<u8> {
    btrfuse_test_support::script::bytes(step as u64 + 1, len)
}

fn put(content: &mut Vec<u8>, at: usize, data: &[u8]) {
    content.resize(content.len().max(at + data.len()), 0);
    content[at..at + data.len()].copy_from_slice(data);
}

fn zero(content: &mut [u8], at: usize, len: usize) {
    let end = (at + len).min(content.len());
    content[at.min(end)..end].fill(0);
}

/// Whether everything that the operation names is there: it may be missing after a failure.
pub fn is_possible(book: &Book, op: &Op) -> bool {
    let has = |name: &&str| book.page.contains_key(*name);
    let dir_of = |name: &&str| name.rsplit_once('/').is_none_or(|(dir, _)| has(&dir));
    match op {
        Mkdir(name) | Create(name) | Symlink(name, _) => dir_of(name),
        Write(name, ..) | Truncate(name, _) | Punch(name, ..) | Preallocate(name, ..) => has(name),
        Unlink(name) | Fsync(name) => has(name),
        Copy(to, _, from, ..) => has(to) && has(from),
        Rename(from, to) | Link(from, to) => has(from) && dir_of(to),
        Sync | Snapshot | Look | Remount => true,
    }
}

/// Writes down that it was done.
pub fn done(book: &mut Book, step: usize, op: &Op) {
    match *op {
        Mkdir(name) => drop(book.page.insert(name.into(), Entry::Dir)),
        Create(name) => book.new_file(name),
        Symlink(name, target) => {
            let link = Entry::Link(target.as_bytes().to_vec());
            book.page.insert(name.into(), link);
        }
        Rename(from, to) => {
            let entry = book.page.remove(from).expect("asked before");
            book.page.insert(to.into(), entry);
        }
        Link(from, to) => {
            let entry = book.page[from].clone();
            book.page.insert(to.into(), entry);
        }
        Unlink(name) => drop(book.page.remove(name)),
        Snapshot => {
            let copies: Vec<_> = book
                .page
                .iter()
                .map(|(name, it)| (name.clone(), it.clone()))
                .collect();
            book.page.insert("snap".into(), Entry::Dir);
            for (name, entry) in copies {
                book.page.insert(format!("snap/{name}"), entry);
            }
        }
        Copy(to, at, from, from_at, len) => book.copied(from, from_at, to, at, len),
        _ => {
            if let Some((name, change)) = change_of(step, op) {
                book.change(name, change);
            }
        }
    }
}

/// Writes down that it failed. What changes content may have been done in part, and what writes content
/// back has lost it, perhaps.
pub fn failed(book: &mut Book, step: usize, op: &Op) {
    match *op {
        // An fsync may have become a commit, of all other files too.
        Fsync(name) => {
            book.taint(name, |_| {});
            book.taint_unflushed();
        }
        Sync | Snapshot | Remount => book.taint_unflushed(),
        Copy(to, at, from, from_at, len) => {
            let before = book.clone();
            book.taint(from, |_| {});
            book.copied(from, from_at, to, at, len);
            book.taint(to, |_| {});
            book.page = before.page;
        }
        Write(..) | Truncate(..) | Punch(..) | Preallocate(..) => {
            let (name, change) = change_of(step, op).expect("a change");
            book.taint(name, change);
        }
        _ => {}
    }
}

type Change = Box<dyn FnOnce(&mut Vec<u8>)>;

fn change_of(step: usize, op: &Op) -> Option<(&'static str, Change)> {
    let change: (&'static str, Change) = match *op {
        Write(name, at, len) => (name, Box::new(move |it| put(it, at, &pattern(step, len)))),
        Truncate(name, size) => (name, Box::new(move |it| it.resize(size, 0))),
        Punch(name, at, len) => (name, Box::new(move |it| zero(it, at, len))),
        Preallocate(name, at, len) => (
            name,
            Box::new(move |it| it.resize(it.len().max(at + len), 0)),
        ),
        _ => return None,
    };
    Some(change)
}

/// Does it.
pub fn perform(fs: &Filesystem, step: usize, op: &Op) -> Result<()> {
    match *op {
        Mkdir(name) => in_dir(fs, name, |dir, name| {
            fs.mkdir(&caller(), dir, name, 0o755).map(|it| it.node)
        }),
        Create(name) => in_dir(fs, name, |dir, name| {
            let made = fs.create(&caller(), dir, name, 0o644, libc::O_RDWR)?;
            fs.release(made.node);
            Ok(made.node)
        }),
        Symlink(name, target) => in_dir(fs, name, |dir, name| {
            let made = fs.symlink(&caller(), dir, name, target.as_bytes());
            made.map(|it| it.node)
        }),
        Link(from, to) => on(fs, from, |node| {
            in_dir(fs, to, |dir, name| {
                fs.link(node, dir, name).map(|it| it.node)
            })
        }),
        Rename(from, to) => {
            let (from_dir, from) = split(from);
            let (to_dir, to) = split(to);
            let flags = RenameFlags::default();
            on(fs, from_dir, |from_dir| {
                on(fs, to_dir, |to_dir| {
                    fs.rename(&caller(), from_dir, from, to_dir, to, flags)
                })
            })
        }
        Unlink(name) => {
            let (dir, name) = split(name);
            on(fs, dir, |dir| fs.unlink(dir, name))
        }
        Write(name, at, len) => on(fs, name, |node| {
            let data = pattern(step, len);
            let written = fs.write(node, at as u64, &data, WriteFlags::default())?;
            assert_eq!(written as usize, len);
            Ok(())
        }),
        Truncate(name, size) => on(fs, name, |node| {
            let changes = SetAttr {
                size: Some(size as u64),
                ..SetAttr::default()
            };
            fs.setattr(&caller(), node, &changes).map(drop)
        }),
        Punch(name, at, len) => {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            on(fs, name, |node| {
                fs.fallocate(node, mode, at as u64, len as u64)
            })
        }
        Preallocate(name, at, len) => on(fs, name, |node| {
            fs.fallocate(node, 0, at as u64, len as u64)
        }),
        Copy(to, at, from, from_at, len) => on(fs, to, |to| {
            on(fs, from, |from| {
                let mut copied = 0;
                while copied < len as u64 {
                    let (from_at, at) = (from_at as u64 + copied, at as u64 + copied);
                    match fs.copy_file_range(from, from_at, to, at, len as u64 - copied)? {
                        // Lost content may have left the source shorter.
                        0 => break,
                        more => copied += more,
                    }
                }
                Ok(())
            })
        }),
        Fsync(name) => on(fs, name, |node| fs.fsync(node, false)),
        Sync => fs.sync(),
        Snapshot => {
            let no_groups = || Vec::new();
            let who = Who {
                caller: caller(),
                admin: true,
                overrides: caller().uid == 0,
                owns_all: caller().uid == 0,
                groups: &no_groups,
            };
            let source = fs.snapshot_source(NodeId::ROOT)?;
            fs.snapshot(&who, source, NodeId::ROOT, b"snap", true)
        }
        Look | Remount => unreachable!("the stage does it"),
    }
}

fn split(path: &str) -> (&str, &[u8]) {
    match path.rsplit_once('/') {
        Some((dir, name)) => (dir, name.as_bytes()),
        None => ("", path.as_bytes()),
    }
}

fn on<T>(fs: &Filesystem, path: &str, act: impl FnOnce(NodeId) -> Result<T>) -> Result<T> {
    let mut at = NodeId::ROOT;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let next = fs.lookup(at, name.as_bytes());
        if at != NodeId::ROOT {
            fs.forget(at, 1);
        }
        at = next?.node;
    }
    let done = act(at);
    if at != NodeId::ROOT {
        fs.forget(at, 1);
    }
    done
}

fn in_dir(
    fs: &Filesystem,
    path: &str,
    act: impl FnOnce(NodeId, &[u8]) -> Result<NodeId>,
) -> Result<()> {
    let (dir, name) = split(path);
    on(fs, dir, |dir| {
        let node = act(dir, name)?;
        fs.forget(node, 1);
        Ok(())
    })
}

/// Everything that a mount shows. What can't be read is an error in words there, and `EIO` for a sector.
pub fn look(fs: &Filesystem) -> Found {
    let mut found = Found::default();
    look_in(fs, NodeId::ROOT, "", &mut found);
    found
}

fn look_in(fs: &Filesystem, dir: NodeId, path: &str, found: &mut Found) {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let listed = fs.opendir(dir).and_then(|handle| {
        let mut next = 0;
        let done = loop {
            let before = names.len();
            let done = fs.readdir(dir, &handle, next, &mut |entry| {
                next = entry.offset;
                if entry.name != b"." && entry.name != b".." {
                    names.push(entry.name.to_vec());
                }
                true
            });
            if done.is_err() || names.len() == before {
                break done;
            }
        };
        fs.releasedir(dir);
        done
    });
    if let Err(error) = listed {
        found.errors.push(format!("list {path:?}: {error}"));
    }
    for name in names {
        let text = String::from_utf8_lossy(&name);
        let below = format!("{path}{text}");
        let attr = match fs.lookup(dir, &name) {
            Ok(attr) => attr,
            Err(error) => {
                found.errors.push(format!("look up {below}: {error}"));
                continue;
            }
        };
        match attr.kind {
            FileKind::Directory => {
                found.entries.insert(below.clone(), Seen::Dir);
                look_in(fs, attr.node, &format!("{below}/"), found);
            }
            FileKind::Symlink => match fs.readlink(attr.node) {
                Ok(target) => drop(found.entries.insert(below, Seen::Link(target))),
                Err(error) => found.errors.push(format!("{below}: {error}")),
            },
            _ => drop(
                found
                    .entries
                    .insert(below, content(fs, attr.node, attr.size)),
            ),
        }
        fs.forget(attr.node, 1);
    }
}

fn content(fs: &Filesystem, node: NodeId, size: u64) -> Seen {
    if let Ok(bytes) = fs.read(node, 0, size as u32)
        && bytes.len() as u64 == size
    {
        return Seen::File(bytes, BTreeSet::new());
    }
    let (mut bytes, mut bad) = (vec![0; size as usize], BTreeSet::new());
    for (sector, out) in bytes.chunks_mut(SECTOR).enumerate() {
        match fs.read(node, (sector * SECTOR) as u64, out.len() as u32) {
            Ok(read) => {
                assert_eq!(read.len(), out.len(), "a short read inside the file");
                out.copy_from_slice(&read);
            }
            Err(_) => drop(bad.insert(sector)),
        }
    }
    Seen::File(bytes, bad)
}

/// The story never touches the snapshot.
#[test]
fn the_story_leaves_the_snapshot_alone() {
    for op in BEFORE.iter().chain(STORY) {
        if let Write(name, ..) | Truncate(name, _) | Unlink(name) | Create(name) = op {
            assert!(!in_snapshot(name));
        }
    }
}
