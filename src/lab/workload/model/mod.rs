//! What one process's folder must hold, and what the filesystem must answer: POSIX in memory.
//!
//! Owns: the names, inodes and contents of one process, the crowd's names of it included. An
//! operation is applied first and then judged by what was seen. Invariant: the same operations
//! give the same model on every machine, so a run can be imagined again from its seed.

mod names;

use super::content::Content;
use super::name::{CROWD, Name};
use super::operation::{Allocate, Operation, Special, Stat, Time, Way};
use super::rng::Rng;
use rustix::fs::FileType;
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};

/// The folder itself, and the crowd's.
pub const ROOT: u64 = 0;
const CROWD_ID: u64 = 1;
const SUID: u32 = 0o4000;
const SGID: u32 = 0o2000;
const GROUP_EXECUTES: u32 = 0o010;

/// What an inode is.
#[derive(Clone, Debug)]
pub enum Node {
    /// A regular file.
    File(Content),
    /// A directory.
    Directory(Directory),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// Anything that mknod(2) makes.
    Special(Special),
}

/// A directory's entries and place.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// What is in it.
    pub entries: Entries,
    parent: u64,
    name: Vec<u8>,
}

/// An inode.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "as stat(2) calls them")]
pub struct Inode {
    pub node: Node,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u64,
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Known only where it was set and nothing changed it since.
    pub mtime: Option<Time>,
    /// The last step that changed it.
    pub changed: u64,
}

/// What an operation must show; ids of inodes are the model's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Only success.
    Done,
    /// These bytes of a file.
    Contents(u64, u64, u64),
    /// These bytes.
    Bytes(Vec<u8>),
    /// These names.
    Names(Vec<Vec<u8>>),
    /// So many bytes.
    Count(u64),
    /// Data and holes of a file from there.
    Sought(u64, u64),
    /// This inode, as it was then.
    Stat(Stat, Option<Time>),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Model {
    inodes: HashMap<u64, Inode>,
    next: u64,
    step: u64,
    owner: (u32, u32),
    /// Every entry, to choose one by chance; and where each is.
    names: Vec<(u64, Vec<u8>)>,
    places: HashMap<(u64, Vec<u8>), usize>,
}

type Answer<T> = Result<T, Errno>;

/// A directory's entries: by name, the inode and the step that put it there.
pub type Entries = BTreeMap<Vec<u8>, (u64, u64)>;

impl Model {
    /// An empty folder of this user and group.
    pub fn new(owner: (u32, u32)) -> Self {
        let mut model = Self {
            inodes: HashMap::new(),
            next: 2,
            step: 0,
            owner,
            names: Vec::new(),
            places: HashMap::new(),
        };
        for id in [ROOT, CROWD_ID] {
            let inode = model.fresh(Node::Directory(Directory::default()), 0o755);
            model.inodes.insert(id, inode);
        }
        model
    }

    fn fresh(&self, node: Node, mode: u32) -> Inode {
        Inode {
            node,
            mode,
            uid: self.owner.0,
            gid: self.owner.1,
            links: 1,
            xattrs: BTreeMap::new(),
            mtime: None,
            changed: self.step,
        }
    }

    /// Does it in memory, as step number `step`.
    pub fn apply(&mut self, operation: &Operation, step: u64) -> Answer<Wanted> {
        self.step = step;
        match operation {
            Operation::Create { path, mode } => {
                self.add(path, Node::File(Content::default()), *mode)
            }
            Operation::Mkdir { path, mode } => {
                let (parent, name) = self.split(path)?;
                let directory = Directory {
                    parent,
                    name: name.to_vec(),
                    ..Directory::default()
                };
                // mkdir(2) takes no set-id bits.
                self.add(path, Node::Directory(directory), mode & 0o1777)
            }
            Operation::Mknod { path, what, mode } => self.add(path, Node::Special(*what), *mode),
            Operation::Symlink { path, target } => {
                self.add(path, Node::Symlink(target.0.clone()), 0o777)
            }
            Operation::Link { from, to } => self.link(from, to),
            Operation::Unlink { path } => self.unlink(path),
            Operation::Rmdir { path } => self.rmdir(path),
            Operation::Rename { from, to, replace } => self.rename(from, to, *replace),
            Operation::Orphan { path, .. } => {
                self.add(path, Node::File(Content::default()), 0o600)?;
                self.unlink(path)
            }
            Operation::Sync | Operation::Snapshot { .. } | Operation::DropSnapshot { .. } => {
                Ok(Wanted::Done)
            }
            Operation::Read { .. }
            | Operation::Seek { .. }
            | Operation::Fsync { .. }
            | Operation::GetXattr { .. }
            | Operation::ListXattr { .. }
            | Operation::ReadDir { .. }
            | Operation::Stat { .. }
            | Operation::ReadLink { .. } => self.look(operation),
            _ => self.change(operation),
        }
    }

    fn look(&self, operation: &Operation) -> Answer<Wanted> {
        match operation {
            Operation::Read {
                path, offset, len, ..
            } => {
                let id = self.file(path)?;
                Ok(Wanted::Contents(id, *offset, *len))
            }
            Operation::Seek { path, offset } => Ok(Wanted::Sought(self.file(path)?, *offset)),
            Operation::GetXattr { path, name } => {
                let value = self.at(path)?.xattrs.get(name);
                value.cloned().map(Wanted::Bytes).ok_or(Errno::NODATA)
            }
            Operation::ListXattr { path } => {
                let names = self.at(path)?.xattrs.keys();
                Ok(Wanted::Names(
                    names.map(|name| name.clone().into_bytes()).collect(),
                ))
            }
            Operation::ReadDir { path } => match &self.at(path)?.node {
                Node::Directory(directory) => {
                    Ok(Wanted::Names(directory.entries.keys().cloned().collect()))
                }
                _ => Err(Errno::NOTDIR),
            },
            Operation::Stat { path } => {
                let inode = self.at(path)?;
                Ok(Wanted::Stat(inode.stat(), inode.mtime))
            }
            Operation::ReadLink { path } => match &self.at(path)?.node {
                Node::Symlink(target) => Ok(Wanted::Bytes(target.clone())),
                _ => Err(Errno::INVAL),
            },
            Operation::Fsync { path, .. } => match self.file(path) {
                Ok(_) | Err(Errno::ISDIR) => Ok(Wanted::Done),
                Err(error) => Err(error),
            },
            _ => Ok(Wanted::Done),
        }
    }

    fn change(&mut self, operation: &Operation) -> Answer<Wanted> {
        let step = self.step;
        match operation {
            Operation::Write {
                path,
                offset,
                len,
                stamp,
                way,
            } => {
                let content = self.content(path)?;
                let offset = if *way == Way::Append {
                    content.size()
                } else {
                    *offset
                };
                content.write(offset, *len, *stamp);
            }
            Operation::Truncate { path, size } => self.content(path)?.truncate(*size),
            Operation::Fallocate {
                path,
                what,
                offset,
                len,
            } => {
                let content = self.content(path)?;
                match what {
                    Allocate::Grow => content.extend(offset + len),
                    Allocate::KeepSize => {}
                    Allocate::Punch | Allocate::ZeroKeepSize => content.zero(*offset, *len),
                    Allocate::Zero => {
                        content.zero(*offset, *len);
                        content.extend(offset + len);
                    }
                }
            }
            Operation::Copy {
                from,
                from_offset,
                to,
                offset,
                len,
            }
            | Operation::Clone {
                from,
                from_offset,
                to,
                offset,
                len,
            } => {
                let id = self.file(from)?;
                let into = self.file(to)?;
                let apart = from_offset + len <= *offset || offset + len <= *from_offset;
                if id == into && !apart {
                    return Err(Errno::INVAL);
                }
                let Node::File(source) = &self.inode(id).node else {
                    return Err(Errno::INVAL);
                };
                let source = source.clone();
                let content = self.content(to)?;
                if matches!(operation, Operation::Clone { .. }) && from_offset + len > source.size()
                {
                    return Err(Errno::INVAL);
                }
                let copied = content.copy(&source, *from_offset, *offset, *len);
                return Ok(match operation {
                    Operation::Clone { .. } => Wanted::Done,
                    _ => Wanted::Count(copied),
                });
            }
            Operation::SetXattr {
                path,
                name,
                len,
                stamp,
            } => {
                let mut value = vec![0; *len];
                stamp.fill(0, &mut value);
                self.may_have(path, name)?;
                self.at_mut(path)?.xattrs.insert(name.clone(), value);
            }
            Operation::RemoveXattr { path, name } => {
                self.may_have(path, name)?;
                let inode = self.at_mut(path)?;
                inode.xattrs.remove(name).ok_or(Errno::NODATA)?;
            }
            Operation::Chmod { path, mode } => match self.at_mut(path)? {
                // chmod(2) follows them.
                Inode {
                    node: Node::Symlink(target),
                    ..
                } => return Err(nowhere(target)),
                inode => inode.mode = *mode,
            },
            Operation::Chown { path, uid, gid } => {
                let inode = self.at_mut(path)?;
                (inode.uid, inode.gid) = (*uid, *gid);
                // Also for root: the kernel drops them whoever asks.
                if !matches!(inode.node, Node::Directory(_)) {
                    inode.mode &= !SUID;
                    if inode.mode & GROUP_EXECUTES != 0 {
                        inode.mode &= !SGID;
                    }
                }
            }
            Operation::SetTimes { path, mtime, .. } => self.at_mut(path)?.mtime = Some(*mtime),
            // `apply` has the others.
            _ => {}
        }
        if let Some(path) = operation.changed() {
            self.at_mut(path)?.changed = step;
        }
        Ok(Wanted::Done)
    }

    fn split<'a>(&self, path: &'a Name) -> Answer<(u64, &'a [u8])> {
        let (parent, name) = path.split();
        let id = self.find(&parent)?;
        match &self.inode(id).node {
            Node::Directory(_) => Ok((id, name)),
            Node::Symlink(target) => Err(nowhere(target)),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn find(&self, path: &Name) -> Answer<u64> {
        let mut id = ROOT;
        let mut parts = path.0.split(|&byte| byte == b'/').peekable();
        if parts.peek() == Some(&CROWD) {
            parts.next();
            id = CROWD_ID;
        }
        for name in parts.filter(|name| !name.is_empty()) {
            match &self.inode(id).node {
                Node::Directory(directory) => {
                    id = directory.entries.get(name).ok_or(Errno::NOENT)?.0;
                }
                Node::Symlink(target) => return Err(nowhere(target)),
                _ => return Err(Errno::NOTDIR),
            }
        }
        Ok(id)
    }

    fn file(&self, path: &Name) -> Answer<u64> {
        let id = self.find(path)?;
        match self.inode(id).node {
            Node::File(_) => Ok(id),
            Node::Directory(_) => Err(Errno::ISDIR),
            Node::Symlink(_) => Err(Errno::LOOP),
            Node::Special(_) => Err(Errno::NXIO),
        }
    }

    fn content(&mut self, path: &Name) -> Answer<&mut Content> {
        let id = self.file(path)?;
        let step = self.step;
        let inode = self.inode_mut(id);
        inode.mtime = None;
        inode.changed = step;
        match &mut inode.node {
            Node::File(content) => Ok(content),
            _ => Err(Errno::INVAL),
        }
    }

    /// Attributes called `user.` are for files and directories.
    fn may_have(&self, path: &Name, name: &str) -> Answer<()> {
        match self.at(path)?.node {
            Node::Symlink(_) | Node::Special(_) if name.starts_with("user.") => Err(Errno::PERM),
            _ => Ok(()),
        }
    }

    fn at(&self, path: &Name) -> Answer<&Inode> {
        Ok(self.inode(self.find(path)?))
    }

    fn at_mut(&mut self, path: &Name) -> Answer<&mut Inode> {
        let id = self.find(path)?;
        Ok(self.inode_mut(id))
    }

    /// The inode of an entry.
    pub fn inode(&self, id: u64) -> &Inode {
        self.inodes
            .get(&id)
            .expect("entries name inodes that are kept as long as they have names")
    }

    fn inode_mut(&mut self, id: u64) -> &mut Inode {
        self.inodes
            .get_mut(&id)
            .expect("entries name inodes that are kept as long as they have names")
    }

    fn entries(&self, id: u64) -> &Entries {
        match &self.inode(id).node {
            Node::Directory(directory) => &directory.entries,
            _ => unreachable!("split() answers ENOTDIR for what isn't a directory"),
        }
    }

    /// The entries of the folder itself and of the crowd's part of it, with their paths' starts.
    pub fn tops(&self) -> [(Name, &Entries); 2] {
        [
            (Name::default(), self.entries(ROOT)),
            (Name(CROWD.to_vec()), self.entries(CROWD_ID)),
        ]
    }

    /// How many names there are.
    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// A name by chance, of an inode that is wanted; `None` where chance finds none.
    pub fn pick(&self, rng: &mut Rng, wanted: impl Fn(&Inode) -> bool) -> Option<Name> {
        for _ in 0..12 {
            let (parent, name) = self
                .names
                .get(rng.below(self.names.len() as u64) as usize)?;
            let (id, _) = self.entries(*parent)[name];
            if wanted(self.inode(id)) {
                return Some(self.path(*parent).child(name));
            }
        }
        None
    }

    /// The path of a directory.
    fn path(&self, mut id: u64) -> Name {
        let mut parts = Vec::new();
        while id > CROWD_ID {
            match &self.inode(id).node {
                Node::Directory(directory) => {
                    parts.push(directory.name.as_slice());
                    id = directory.parent;
                }
                _ => break,
            }
        }
        if id == CROWD_ID {
            parts.push(CROWD);
        }
        parts.reverse();
        Name(parts.join(&b'/'))
    }

    /// The inode at a path, if there is one.
    pub fn peek(&self, path: &Name) -> Option<&Inode> {
        self.at(path).ok()
    }

    /// A file's size; 0 for others.
    pub fn size(&self, path: &Name) -> u64 {
        match self.peek(path).map(|inode| &inode.node) {
            Some(Node::File(content)) => content.size(),
            _ => 0,
        }
    }
}

/// The links of a run lead nowhere; what following one is refused with.
fn nowhere(target: &[u8]) -> Errno {
    const NAME_MAX: usize = 255;
    match target.len() {
        0..=NAME_MAX => Errno::NOENT,
        _ => Errno::NAMETOOLONG,
    }
}

impl Inode {
    /// As stat(2) must show it.
    pub fn stat(&self) -> Stat {
        let (kind, size, device) = match &self.node {
            Node::File(content) => (FileType::RegularFile, content.size(), (0, 0)),
            Node::Directory(_) => (FileType::Directory, 0, (0, 0)),
            Node::Symlink(target) => (FileType::Symlink, target.len() as u64, (0, 0)),
            Node::Special(what) => (what.file_type(), 0, what.device()),
        };
        Stat {
            kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            links: self.links,
            size,
            device,
            mtime: self.mtime.unwrap_or_default(),
        }
    }
}

impl Operation {
    /// The path whose inode it changes, where it isn't about names or contents.
    fn changed(&self) -> Option<&Name> {
        match self {
            Self::SetXattr { path, .. }
            | Self::RemoveXattr { path, .. }
            | Self::Chmod { path, .. }
            | Self::Chown { path, .. }
            | Self::SetTimes { path, .. } => Some(path),
            _ => None,
        }
    }
}
