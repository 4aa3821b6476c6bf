//! A step of a workload: what programs ask for, and what scripts have no word for.

use crate::player::{CALLER, answer, find, in_parent};
use btrfuse::fs::{Attr, Filesystem, NodeId, Who, WriteFlags};
use btrfuse::{Error, Result};
use btrfuse_test_support::script::{Operation, bytes};
use btrfuse_test_support::walk::to_hex;
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::words::{in_words, inode, text};

/// See the module. One file at a time can be held open.
#[derive(Clone, Debug)]
pub enum Step {
    Do(Operation),
    /// A commit of everything, as sync(2) asks for.
    Commit,
    /// copy_file_range(2).
    Copy {
        from: &'static str,
        to: &'static str,
        at: u64,
        to_at: u64,
        len: u64,
    },
    Subvolume(&'static str),
    Snapshot {
        from: &'static str,
        to: &'static str,
    },
    DeleteSubvolume(&'static str),
    /// What a commit thread does: what was deleted is dropped, piece by piece, and committed.
    Clean,
    /// O_TMPFILE in a directory; it is held.
    Tmpfile(&'static str),
    /// A file is opened, and held.
    Hold(&'static str),
    HeldWrite {
        offset: u64,
        len: usize,
        seed: u64,
    },
    HeldFsync,
    /// linkat(2) of what is held.
    HeldLink(&'static str),
    LetGo,
}

/// Takes steps on a mount.
pub struct Hand<'a> {
    pub fs: &'a Filesystem,
    held: Option<NodeId>,
    /// How many steps met ENOSPC, or could be done in part.
    pub without_space: usize,
}

fn no_groups() -> Vec<u32> {
    Vec::new()
}

fn who() -> Who<'static> {
    Who {
        caller: CALLER,
        admin: true,
        overrides: CALLER.uid == 0,
        owns_all: CALLER.uid == 0,
        groups: &no_groups,
    }
}

impl<'a> Hand<'a> {
    pub fn on(fs: &'a Filesystem) -> Self {
        Self {
            fs,
            held: None,
            without_space: 0,
        }
    }

    /// What was done, for the model; `None` if it was refused and so isn't there.
    pub fn take(&mut self, step: &Step) -> Option<Value> {
        let fs = self.fs;
        match step {
            Step::Do(Operation::Write {
                path,
                offset,
                len,
                seed,
            }) => self.write(path, Some(*offset), &bytes(*seed, *len)),
            Step::Do(Operation::Append { path, len, seed }) => {
                self.write(path, None, &bytes(*seed, *len))
            }
            Step::Do(operation) => {
                let told = answer(fs, NodeId::ROOT, operation);
                self.without_space += usize::from(told == Err(Errno::NOSPC));
                if matches!(operation, Operation::Fsync { .. }) {
                    // A full filesystem is no excuse.
                    assert!(told != Err(Errno::NOSPC), "{told:?}");
                }
                told.is_ok().then(|| in_words(fs, operation))
            }
            Step::Commit => {
                fs.sync().expect("commits");
                Some(json!({ "op": "sync" }))
            }
            Step::Clean => {
                while fs.drop_deleted().expect("drops") {
                    fs.sync().expect("commits");
                }
                fs.sync().expect("commits");
                Some(json!({ "op": "sync" }))
            }
            step => {
                let done = self.rest(step);
                let errno = done.as_ref().err().map(Error::errno);
                self.without_space += usize::from(errno == Some(libc::ENOSPC));
                done.ok()
            }
        }
    }

    fn rest(&mut self, step: &Step) -> Result<Value> {
        let fs = self.fs;
        let of = |path: &str| find(fs, NodeId::ROOT, path.as_bytes());
        let done = match *step {
            Step::Copy {
                from,
                to,
                at,
                to_at,
                len,
            } => {
                let (source, target) = (of(from)?, of(to)?);
                let copied = fs.copy_file_range(source, at, target, to_at, len);
                fs.forget(source, 1);
                fs.forget(target, 1);
                json!({ "op": "copy", "from": from, "to": to, "at": at, "to_at": to_at, "len": copied? })
            }
            Step::Subvolume(path) => {
                in_parent(fs, NodeId::ROOT, path.as_bytes(), |dir, name| {
                    fs.create_subvolume(&who(), dir, name)
                })?;
                json!({ "op": "subvolume", "path": path, "ino": inode(fs, path.as_bytes()) })
            }
            Step::Snapshot { from, to } => {
                let source = of(from)?;
                let proof = fs.snapshot_source(source);
                fs.forget(source, 1);
                let proof = proof?;
                in_parent(fs, NodeId::ROOT, to.as_bytes(), |dir, name| {
                    fs.snapshot(&who(), proof, dir, name, false)
                })?;
                let node = of(to)?;
                let subvol = fs.getattr(node)?.subvol;
                fs.forget(node, 1);
                json!({ "op": "snapshot", "from": from, "to": to, "subvol": subvol })
            }
            Step::DeleteSubvolume(path) => {
                in_parent(fs, NodeId::ROOT, path.as_bytes(), |dir, name| {
                    fs.delete_subvolume(&who(), dir, name)
                })?;
                json!({ "op": "delete-subvolume", "path": path })
            }
            Step::Tmpfile(dir) => {
                self.want_free_hand()?;
                let parent = of(dir)?;
                let made = fs.tmpfile(&CALLER, parent, 0o600);
                if parent != NodeId::ROOT {
                    fs.forget(parent, 1);
                }
                let attr = made?;
                self.held = Some(attr.node);
                json!({ "op": "tmpfile", "ino": key(&attr), "mode": 0o600 })
            }
            Step::Hold(path) => {
                self.want_free_hand()?;
                let node = of(path)?;
                fs.open(node, libc::O_RDWR)?;
                self.held = Some(node);
                json!({ "op": "hold", "ino": key(&fs.getattr(node)?) })
            }
            Step::HeldWrite { offset, len, seed } => {
                let node = self.in_hand()?;
                let all = bytes(seed, len);
                let written = fs.write(node, offset, &all, WriteFlags::default())? as usize;
                json!({ "op": "write", "ino": key(&fs.getattr(node)?), "offset": offset,
                        "bytes": to_hex(&all[..written]) })
            }
            Step::HeldFsync => {
                let node = self.in_hand()?;
                fs.fsync(node, false)?;
                json!({ "op": "fsync", "ino": key(&fs.getattr(node)?) })
            }
            Step::HeldLink(path) => {
                let node = self.in_hand()?;
                let linked = in_parent(fs, NodeId::ROOT, path.as_bytes(), |dir, name| {
                    fs.link(node, dir, name)
                })?;
                fs.forget(linked.node, 1);
                json!({ "op": "link-held", "ino": key(&linked), "to": path })
            }
            Step::LetGo => {
                let node = self.in_hand()?;
                let ino = key(&fs.getattr(node)?);
                self.held = None;
                fs.release(node);
                fs.forget(node, 1);
                json!({ "op": "let-go", "ino": ino })
            }
            Step::Do(_) | Step::Commit | Step::Clean => unreachable!("taken before"),
        };
        Ok(done)
    }

    fn in_hand(&self) -> Result<NodeId> {
        self.held.ok_or(Error::NotFound)
    }

    fn want_free_hand(&self) -> Result<()> {
        match self.held {
            Some(_) => Err(Error::Exists),
            None => Ok(()),
        }
    }

    /// At the end without an offset. As much as was written is in the list: a full filesystem takes a
    /// part.
    fn write(&mut self, path: &[u8], offset: Option<u64>, all: &[u8]) -> Option<Value> {
        let fs = self.fs;
        let node = find(fs, NodeId::ROOT, path).ok()?;
        let written = fs.open(node, libc::O_RDWR).and_then(|()| {
            let at = offset.map_or_else(|| fs.getattr(node).map(|it| it.size), Ok);
            let written = at.and_then(|at| {
                let written = fs.write(node, at, all, WriteFlags::default())?;
                Ok((at, written as usize))
            });
            fs.release(node);
            written
        });
        fs.forget(node, 1);
        let is_short = match &written {
            Ok((_, written)) => *written < all.len(),
            Err(why) => why.errno() == libc::ENOSPC,
        };
        self.without_space += usize::from(is_short);
        let (at, written) = written.ok()?;
        Some(
            json!({ "op": "write", "path": text(path), "offset": at, "bytes": to_hex(&all[..written]) }),
        )
    }
}

/// How the model names an inode.
pub fn key(attr: &Attr) -> Value {
    format!("{}:{}", attr.subvol, attr.objectid).into()
}

/// A workload for people: paths as text.
pub fn told(steps: &[Step]) -> String {
    let words = format!("{steps:?}");
    let mut out = String::new();
    let mut rest = words.as_str();
    while let Some((before, after)) = rest.split_once("[") {
        out.push_str(before);
        let bytes = after.split_once("]").and_then(|(list, after)| {
            let bytes: Result<Vec<u8>, _> = list.split(", ").map(str::parse).collect();
            Some((String::from_utf8(bytes.ok()?).ok()?, after))
        });
        match bytes {
            Some((text, after)) => {
                out.push_str(&format!("{text:?}"));
                rest = after;
            }
            None => {
                out.push('[');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}
