//! Steps on names, as calls of the engine, and what the kernel checks before.

use super::client::{CALLER, Client, File, Last, said};
use super::{Engine, done};
use crate::step::{Special, Step, path_bytes};
use crate::subject::Answer;
use btrfuse::fs::{Attr, FileKind, NodeId, RenameFlags};
use rustix::io::Errno;
use serde_json::{Value, json};

impl Engine {
    pub(super) fn name_step(&mut self, step: &Step) -> Answer {
        match step {
            Step::Open {
                slot,
                path,
                flags,
                mode,
            } => {
                let _ = self.close(*slot);
                let file = self.client().open(&path_bytes(path), *flags, *mode)?;
                self.slots[*slot] = Some(file);
                Ok(Value::Null)
            }
            Step::Close { slot } => self.close(*slot),
            Step::Mkdir { path, mode } => self.make(path, true, |client, dir, name| {
                client.fs.mkdir(&CALLER, dir, name, mode & 0o1777)
            }),
            Step::Mknod { path, what, mode } => {
                let (kind, number) = match what {
                    Special::Directory => return Err(Errno::PERM),
                    Special::File => (libc::S_IFREG, 0),
                    Special::Fifo => (libc::S_IFIFO, 0),
                    Special::Socket => (libc::S_IFSOCK, 0),
                    Special::Character => (libc::S_IFCHR, libc::makedev(254, 1_000_077)),
                    Special::Block => (libc::S_IFBLK, libc::makedev(254, 1_000_077)),
                };
                self.make(path, false, |client, dir, name| {
                    client
                        .fs
                        .mknod(&CALLER, dir, name, kind | mode & 0o7777, number)
                })
            }
            Step::Symlink { target, path } => {
                let target = path_bytes(target);
                match target.len() {
                    0 => return Err(Errno::NOENT),
                    4096.. => return Err(Errno::NAMETOOLONG),
                    _ => {}
                }
                self.make(path, false, |client, dir, name| {
                    client.fs.symlink(&CALLER, dir, name, &target)
                })
            }
            Step::Link { from, to, follow } => {
                let from = self.client().resolve(&path_bytes(from), *follow)?;
                self.make(to, false, |client, dir, name| {
                    if from.kind == FileKind::Directory {
                        return Err(btrfuse::Error::NotPermitted("a directory has one name"));
                    }
                    client.fs.link(from.node, dir, name)
                })
            }
            Step::Unlink { path } => {
                let place = self.client().place(&path_bytes(path))?;
                let Last::Name(name) = &place.last else {
                    return Err(Errno::ISDIR);
                };
                let at = self.client().child(place.dir, name)?;
                if place.slash && at.kind != FileKind::Directory {
                    return Err(Errno::NOTDIR);
                }
                done(self.fs().unlink(place.dir, name))
            }
            Step::Rmdir { path } => {
                let place = self.client().place(&path_bytes(path))?;
                match &place.last {
                    Last::Dot => Err(Errno::INVAL),
                    Last::DotDot => Err(Errno::NOTEMPTY),
                    Last::Name(name) => done(self.fs().rmdir(place.dir, name)),
                }
            }
            Step::Rename { from, to, flags } => self.rename(from, to, *flags),
            Step::ReadDir { path } => {
                let flags = libc::O_RDONLY | libc::O_DIRECTORY;
                let dir = self.client().open_for_now(&path_bytes(path), flags)?;
                self.listing(dir)
            }
            Step::ReadLink { path } => {
                let at = self.client().resolve(&path_bytes(path), false)?;
                if at.kind != FileKind::Symlink {
                    return Err(Errno::INVAL);
                }
                let target = said(self.fs().readlink(at.node))?;
                Ok(json!(target.escape_ascii().to_string()))
            }
            _ => unreachable!("not a step on names"),
        }
    }

    /// A new name; `dirs`: a slash at its end is nothing special.
    fn make(
        &mut self,
        path: &str,
        dirs: bool,
        make: impl FnOnce(&Client, NodeId, &[u8]) -> btrfuse::Result<Attr>,
    ) -> Answer {
        let client = self.client();
        let place = client.place(&path_bytes(path))?;
        let Last::Name(name) = &place.last else {
            return Err(Errno::EXIST);
        };
        match client.child(place.dir, name) {
            Ok(_) => return Err(Errno::EXIST),
            Err(Errno::NOENT) if place.slash && !dirs => return Err(Errno::NOENT),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
        let made = said(make(client, place.dir, name))?;
        client.counted(made);
        Ok(Value::Null)
    }

    fn rename(&mut self, from: &str, to: &str, flags: u32) -> Answer {
        let parsed = said(RenameFlags::from_bits(flags))?;
        let client = self.client();
        let from = client.place(&path_bytes(from))?;
        let to = client.place(&path_bytes(to))?;
        let Last::Name(name) = &from.last else {
            return Err(Errno::BUSY);
        };
        let Last::Name(new_name) = &to.last else {
            let busy = !parsed.no_replace;
            return Err(if busy { Errno::BUSY } else { Errno::EXIST });
        };
        let is_dir = |attr: &Attr| attr.kind == FileKind::Directory;
        let moved = client.child(from.dir, name)?;
        let target = match client.child(to.dir, new_name) {
            Ok(target) => Some(target),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error),
        };
        match &target {
            Some(_) if parsed.no_replace => return Err(Errno::EXIST),
            None if parsed.exchange => return Err(Errno::NOENT),
            Some(target) if parsed.exchange && !is_dir(target) && to.slash => {
                return Err(Errno::NOTDIR);
            }
            _ => {}
        }
        if !is_dir(&moved) && (from.slash || !parsed.exchange && to.slash) {
            return Err(Errno::NOTDIR);
        }
        let (dir, to_dir) = (from.dir, to.dir);
        let answer = client
            .fs
            .rename(&CALLER, dir, name, to_dir, new_name, parsed);
        match (done(answer), target) {
            // Seen before a filesystem is asked; the rest that is, the engine sees in its order.
            (Err(Errno::XDEV), Some(target)) if !parsed.exchange => Err(match is_dir(&moved) {
                true if !is_dir(&target) => Errno::NOTDIR,
                false if is_dir(&target) => Errno::ISDIR,
                _ => Errno::XDEV,
            }),
            (answer, _) => answer,
        }
    }

    fn listing(&mut self, dir: File) -> Answer {
        let fs = self.fs();
        let mut entries = Vec::new();
        let handle = said(fs.opendir(dir.node))?;
        let listed = fs.readdir(dir.node, &handle, 0, &mut |entry| {
            entries.push((entry.name.to_vec(), entry.ino, entry.kind));
            true
        });
        fs.releasedir(dir.node);
        said(listed)?;
        let mut out = Vec::new();
        for (name, ino, kind) in entries {
            let at = self.client().child(dir.node, &name)?;
            let word = match kind {
                FileKind::Regular => "RegularFile",
                FileKind::Directory => "Directory",
                FileKind::Symlink => "Symlink",
                FileKind::CharDevice => "CharacterDevice",
                FileKind::BlockDevice => "BlockDevice",
                FileKind::Fifo => "Fifo",
                FileKind::Socket => "Socket",
            };
            let same = (at.ino, at.kind) == (ino, kind);
            out.push(json!([name.escape_ascii().to_string(), word, same]));
        }
        Ok(Value::Array(out))
    }
}
