//! What the kernel does before it asks a filesystem, for the engine in process: paths become nodes.
//!
//! Owns: components, symbolic links, dots, trailing slashes, open(2)'s flags, and which nodes are looked
//! up. Invariant: every lookup is given back at the end of its step; what a slot has open stays alive by
//! being open.

use btrfuse::fs::{Attr, Caller, FileKind, Filesystem, NodeId, SetAttr, SetTime};
use rustix::io::Errno;
use std::sync::Arc;

/// Who does all of it.
pub const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    umask: 0,
    pid: 1,
};

/// What the kernel follows in one lookup.
const LINKS_MAX: usize = 40;

/// An open file.
#[derive(Clone, Copy, Debug)]
pub struct File {
    pub node: NodeId,
    pub kind: FileKind,
    pub reads: bool,
    pub writes: bool,
    pub appends: bool,
}

/// The last component of a path.
#[derive(Clone, Debug, PartialEq)]
pub enum Last {
    Name(Vec<u8>),
    Dot,
    DotDot,
}

/// Where a path's last component is.
pub struct Place {
    pub dir: NodeId,
    pub last: Last,
    /// It is written with a slash at its end.
    pub slash: bool,
}

/// A way into a filesystem; see the module.
pub struct Client {
    pub fs: Arc<Filesystem>,
    /// Where paths begin.
    pub folder: NodeId,
    looked: Vec<NodeId>,
    opened: Vec<File>,
    /// Pipes that are open for reading, as often as they are.
    pipe_readers: Vec<NodeId>,
}

/// The engine's answer in the kernel's words.
pub fn said<T>(answer: btrfuse::Result<T>) -> Result<T, Errno> {
    answer.map_err(|error| Errno::from_raw_os_error(error.errno()))
}

impl Client {
    /// Paths begin at the top of what is mounted.
    pub fn new(fs: Arc<Filesystem>) -> Self {
        Self {
            fs,
            folder: NodeId::ROOT,
            looked: Vec::new(),
            opened: Vec::new(),
            pipe_readers: Vec::new(),
        }
    }

    /// A step is over: what was only opened and looked up for it is given back.
    pub fn give_back(&mut self) {
        for file in std::mem::take(&mut self.opened) {
            self.close(file);
        }
        for node in self.looked.drain(..) {
            self.fs.forget(node, 1);
        }
    }

    /// A node that came from a request that counts a lookup.
    pub fn counted(&mut self, attr: Attr) -> Attr {
        self.looked.push(attr.node);
        attr
    }

    /// The entry of a directory, "." and ".." too.
    pub fn child(&mut self, dir: NodeId, name: &[u8]) -> Result<Attr, Errno> {
        let attr = said(self.fs.lookup(dir, name))?;
        Ok(self.counted(attr))
    }

    /// The directory that has a path's last component, and that.
    pub fn place(&mut self, path: &[u8]) -> Result<Place, Errno> {
        self.place_from(self.folder, path, &mut 0)
    }

    /// The node that a path names.
    pub fn resolve(&mut self, path: &[u8], follow: bool) -> Result<Attr, Errno> {
        self.resolve_from(self.folder, path, follow, &mut 0)
    }

    fn place_from(
        &mut self,
        start: NodeId,
        path: &[u8],
        links: &mut usize,
    ) -> Result<Place, Errno> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        if path.len() >= libc::PATH_MAX as usize {
            return Err(Errno::NAMETOOLONG);
        }
        let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        parts.retain(|part| !part.is_empty());
        let last = match parts.pop() {
            None | Some(b".") => Last::Dot,
            Some(b"..") => Last::DotDot,
            Some(name) => Last::Name(name.to_vec()),
        };
        let mut dir = start;
        for part in parts {
            let mut at = self.child(dir, part)?;
            if at.kind == FileKind::Symlink {
                at = self.follow(dir, &at, links)?;
            }
            if at.kind != FileKind::Directory {
                return Err(Errno::NOTDIR);
            }
            dir = at.node;
        }
        Ok(Place {
            dir,
            last,
            slash: path.ends_with(b"/"),
        })
    }

    fn resolve_from(
        &mut self,
        start: NodeId,
        path: &[u8],
        follow: bool,
        links: &mut usize,
    ) -> Result<Attr, Errno> {
        let place = self.place_from(start, path, links)?;
        let mut at = match &place.last {
            Last::Dot => self.child(place.dir, b".")?,
            Last::DotDot => self.child(place.dir, b"..")?,
            Last::Name(name) => self.child(place.dir, name)?,
        };
        if at.kind == FileKind::Symlink && (follow || place.slash) {
            at = self.follow(place.dir, &at, links)?;
        }
        if place.slash && at.kind != FileKind::Directory {
            return Err(Errno::NOTDIR);
        }
        Ok(at)
    }

    fn target_of(&self, link: &Attr, links: &mut usize) -> Result<Vec<u8>, Errno> {
        *links += 1;
        if *links > LINKS_MAX {
            return Err(Errno::LOOP);
        }
        said(self.fs.readlink(link.node))
    }

    fn follow(&mut self, dir: NodeId, link: &Attr, links: &mut usize) -> Result<Attr, Errno> {
        let target = self.target_of(link, links)?;
        self.resolve_from(dir, &target, true, links)
    }

    /// close(2).
    pub fn close(&mut self, file: File) {
        self.fs.release(file.node);
        if file.kind == FileKind::Fifo && file.reads {
            let at = self.pipe_readers.iter().position(|node| *node == file.node);
            self.pipe_readers
                .swap_remove(at.expect("counted when it was opened"));
        }
    }

    /// open(2). The caller gives it back with [`Client::close`].
    pub fn open(&mut self, path: &[u8], flags: i32, mode: u32) -> Result<File, Errno> {
        self.open_from(self.folder, path, flags, mode, &mut 0)
    }

    /// open(2) for this step.
    pub fn open_for_now(&mut self, path: &[u8], flags: i32) -> Result<File, Errno> {
        let file = self.open(path, flags, 0)?;
        self.opened.push(file);
        Ok(file)
    }

    fn open_from(
        &mut self,
        start: NodeId,
        path: &[u8],
        flags: i32,
        mode: u32,
        links: &mut usize,
    ) -> Result<File, Errno> {
        let has = |flag: i32| flags & flag != 0;
        let creates = has(libc::O_CREAT);
        if creates && has(libc::O_DIRECTORY) {
            return Err(Errno::INVAL);
        }
        let only_new = creates && has(libc::O_EXCL);
        let place = self.place_from(start, path, links)?;
        let at = match &place.last {
            Last::Dot => self.child(place.dir, b".")?,
            Last::DotDot => self.child(place.dir, b"..")?,
            Last::Name(_) if creates && place.slash => return Err(Errno::ISDIR),
            Last::Name(name) => match self.child(place.dir, name) {
                Err(Errno::NOENT) if creates => {
                    let made = self
                        .fs
                        .create(&CALLER, place.dir, name, mode & 0o7777, flags);
                    let made = said(made)?;
                    let made = self.counted(made);
                    return Ok(file_of(&made, flags));
                }
                Err(error) => return Err(error),
                Ok(link)
                    if link.kind == FileKind::Symlink
                        && (place.slash || !has(libc::O_NOFOLLOW) && !only_new) =>
                {
                    let mut target = self.target_of(&link, links)?;
                    if place.slash {
                        target.push(b'/');
                    }
                    return self.open_from(place.dir, &target, flags, mode, links);
                }
                Ok(at) => at,
            },
        };
        self.open_node(&at, flags, place.slash)
    }

    /// What is there is opened.
    fn open_node(&mut self, at: &Attr, flags: i32, slash: bool) -> Result<File, Errno> {
        let has = |flag: i32| flags & flag != 0;
        let is_dir = at.kind == FileKind::Directory;
        if (has(libc::O_DIRECTORY) || slash) && !is_dir {
            return Err(Errno::NOTDIR);
        }
        if has(libc::O_CREAT) && has(libc::O_EXCL) {
            return Err(Errno::EXIST);
        }
        let file = file_of(at, flags);
        match at.kind {
            FileKind::Symlink => return Err(Errno::LOOP),
            FileKind::Directory if has(libc::O_CREAT) || file.writes || has(libc::O_TRUNC) => {
                return Err(Errno::ISDIR);
            }
            FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
                return Err(Errno::NXIO);
            }
            FileKind::Fifo if !file.reads && !self.pipe_readers.contains(&at.node) => {
                return Err(Errno::NXIO);
            }
            FileKind::Regular => {
                said(self.fs.open(at.node, flags & !libc::O_TRUNC))?;
                if has(libc::O_TRUNC) {
                    let empty = SetAttr {
                        size: Some(0),
                        mtime: Some(SetTime::Now),
                        ..SetAttr::default()
                    };
                    let done = said(self.fs.setattr(&CALLER, at.node, &empty));
                    if done.is_err() {
                        self.fs.release(at.node);
                    }
                    done?;
                }
                return Ok(file);
            }
            FileKind::Fifo | FileKind::Directory => {}
        }
        if has(libc::O_DIRECT) {
            return Err(Errno::INVAL);
        }
        // The kernel keeps these open by itself.
        said(self.fs.open(at.node, libc::O_RDONLY))?;
        if at.kind == FileKind::Fifo && file.reads {
            self.pipe_readers.push(at.node);
        }
        Ok(file)
    }
}

fn file_of(attr: &Attr, flags: i32) -> File {
    let access = flags & libc::O_ACCMODE;
    File {
        node: attr.node,
        kind: attr.kind,
        reads: access != libc::O_WRONLY,
        writes: access != libc::O_RDONLY,
        appends: flags & libc::O_APPEND != 0,
    }
}
