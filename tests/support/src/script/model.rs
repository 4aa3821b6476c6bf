//! A filesystem in memory, in the terms of POSIX and of what btrfs shows: directories have one
//! link, and a size of twice the lengths of their names.

use super::content::Content;
use super::operation::{Allocate, Name, Operation, RenameKind, bytes};
use crate::walk::{Manifest, Record, to_hex};
use rustix::fs::FileType;
use rustix::io::Errno;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const SUID: u32 = 0o4000;
const SGID: u32 = 0o2000;
const GROUP_EXECUTES: u32 = 0o010;

#[derive(Clone, Debug)]
enum Kind {
    File(Content),
    Directory {
        entries: BTreeMap<Vec<u8>, u64>,
        parent: u64,
    },
    Symlink(Vec<u8>),
    Special(FileType, (u32, u32)),
}

#[derive(Clone, Debug)]
struct Inode {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// Known only when it was set and nothing changed it since.
    mtime: Option<(i64, u32)>,
}

/// The tree; inode 0 is the story's folder.
#[derive(Clone, Debug)]
pub struct Model {
    inodes: BTreeMap<u64, Inode>,
    next: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

type Answer = Result<(), Errno>;

impl Model {
    /// An empty folder, mode 0755.
    pub fn new() -> Self {
        let kind = Kind::Directory {
            entries: BTreeMap::new(),
            parent: 0,
        };
        let root = Inode {
            kind,
            mode: 0o755,
            uid: 0,
            gid: 0,
            links: 1,
            xattrs: BTreeMap::new(),
            mtime: None,
        };
        Self {
            inodes: BTreeMap::from([(0, root)]),
            next: 1,
        }
    }

    /// Does it in memory; the answer is what a filesystem must say.
    pub fn apply(&mut self, operation: &Operation) -> Answer {
        match operation {
            Operation::Create { path, mode } => {
                self.add(path, Kind::File(Content::default()), *mode)
            }
            Operation::Mkdir { path, mode } => {
                let (parent, _) = self.split(path)?;
                self.add(
                    path,
                    Kind::Directory {
                        entries: BTreeMap::new(),
                        parent,
                    },
                    mode & 0o1777, // mkdir(2) takes no set-id bits
                )
            }
            Operation::Mknod {
                path,
                kind,
                mode,
                device,
            } => self.add(path, Kind::Special(*kind, *device), *mode),
            Operation::Symlink { path, target } => {
                self.add(path, Kind::Symlink(target.clone()), 0o777)
            }
            Operation::Link { from, to } => self.link(from, to),
            Operation::Unlink { path } => self.unlink(path),
            Operation::Rmdir { path } => self.rmdir(path),
            Operation::Rename { from, to, kind } => self.rename(from, to, *kind),
            Operation::Write {
                path,
                offset,
                len,
                seed,
            } => self.change(path, |content| content.write(*offset, &bytes(*seed, *len))),
            Operation::Append { path, len, seed } => self.change(path, |content| {
                content.write(content.size(), &bytes(*seed, *len));
            }),
            Operation::Truncate { path, size } => {
                self.change(path, |content| content.truncate(*size))
            }
            Operation::Fallocate {
                path,
                what,
                offset,
                len,
            } => self.change(path, |content| match what {
                Allocate::Grow => content.extend(offset + len),
                Allocate::KeepSize => {}
                Allocate::Punch | Allocate::ZeroKeepSize => content.zero(*offset, *len),
                Allocate::Zero => {
                    content.zero(*offset, *len);
                    content.extend(offset + len);
                }
            }),
            Operation::SetXattr { path, name, value } => {
                self.at(path)?.xattrs.insert(name.clone(), value.clone());
                Ok(())
            }
            Operation::RemoveXattr { path, name } => self
                .at(path)?
                .xattrs
                .remove(name)
                .map(drop)
                .ok_or(Errno::NODATA),
            Operation::Chmod { path, mode } => {
                self.at(path)?.mode = *mode;
                Ok(())
            }
            Operation::Chown { path, uid, gid } => {
                let inode = self.at(path)?;
                (inode.uid, inode.gid) = (*uid, *gid);
                // Also for root: the kernel drops them whoever asks.
                if !matches!(inode.kind, Kind::Directory { .. }) {
                    inode.mode &= !SUID;
                    if inode.mode & GROUP_EXECUTES != 0 {
                        inode.mode &= !SGID;
                    }
                }
                Ok(())
            }
            Operation::SetTimes { path, mtime, .. } => {
                self.at(path)?.mtime = Some(*mtime);
                Ok(())
            }
            Operation::Fsync { path } => self.at(path).map(drop),
        }
    }

    /// What a walk must find, without what only the filesystem decides (blocks, inode numbers).
    pub fn manifest(&self) -> Manifest {
        let mut records = Vec::new();
        self.record(0, Vec::new(), &mut records);
        records.sort_by(|a, b| a.path.cmp(&b.path));
        Manifest(records)
    }

    /// How many names there are.
    pub fn names(&self) -> usize {
        self.paths(|_| true).len()
    }

    /// Every path but the folder's own whose inode is of the kind that is asked for.
    pub(super) fn paths(&self, wanted: impl Fn(FileType) -> bool) -> Vec<Name> {
        let mut out = Vec::new();
        self.collect(0, &Vec::new(), &wanted, &mut out);
        out
    }

    /// Operations that empty the folder, children first.
    pub(super) fn removal(&self) -> Vec<Operation> {
        let mut paths = self.paths(|_| true);
        paths.sort();
        let steps = paths.into_iter().rev().map(|path| match self.peek(&path) {
            Some(FileType::Directory) => Operation::Rmdir { path },
            _ => Operation::Unlink { path },
        });
        steps.collect()
    }

    /// The type of what is at a path.
    pub(super) fn peek(&self, path: &Name) -> Option<FileType> {
        self.find(path)
            .ok()
            .map(|id| file_type(&self.inodes[&id].kind))
    }

    /// The size of a file.
    pub(super) fn size(&self, path: &Name) -> u64 {
        match self.find(path).map(|id| &self.inodes[&id].kind) {
            Ok(Kind::File(content)) => content.size(),
            _ => 0,
        }
    }

    /// The names of a path's xattrs.
    pub(super) fn xattrs(&self, path: &Name) -> Vec<String> {
        self.find(path).map_or(Vec::new(), |id| {
            self.inodes[&id].xattrs.keys().cloned().collect()
        })
    }

    fn collect(
        &self,
        directory: u64,
        prefix: &Name,
        wanted: &impl Fn(FileType) -> bool,
        out: &mut Vec<Name>,
    ) {
        for (name, id) in self.entries(directory) {
            let mut path = prefix.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(name);
            let kind = file_type(&self.inodes[id].kind);
            if wanted(kind) {
                out.push(path.clone());
            }
            if kind == FileType::Directory {
                self.collect(*id, &path, wanted, out);
            }
        }
    }

    fn entries(&self, directory: u64) -> &BTreeMap<Vec<u8>, u64> {
        match &self.inodes[&directory].kind {
            Kind::Directory { entries, .. } => entries,
            _ => panic!("not a directory of the model"),
        }
    }

    fn entries_mut(&mut self, directory: u64) -> &mut BTreeMap<Vec<u8>, u64> {
        let inode = self
            .inodes
            .get_mut(&directory)
            .expect("a directory of the model");
        inode.mtime = None;
        match &mut inode.kind {
            Kind::Directory { entries, .. } => entries,
            _ => panic!("not a directory of the model"),
        }
    }

    fn find(&self, path: &Name) -> Result<u64, Errno> {
        let mut at = 0;
        for part in path
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
        {
            let Kind::Directory { entries, .. } = &self.inodes[&at].kind else {
                return Err(Errno::NOTDIR);
            };
            at = *entries.get(part).ok_or(Errno::NOENT)?;
        }
        Ok(at)
    }

    fn at(&mut self, path: &Name) -> Result<&mut Inode, Errno> {
        let id = self.find(path)?;
        Ok(self.inodes.get_mut(&id).expect("found"))
    }

    /// The directory and the last name.
    fn split<'a>(&self, path: &'a Name) -> Result<(u64, &'a [u8]), Errno> {
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (path[..at].to_vec(), &path[at + 1..]),
            None => (Vec::new(), path.as_slice()),
        };
        let parent = self.find(&parent)?;
        match self.inodes[&parent].kind {
            Kind::Directory { .. } => Ok((parent, name)),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn add(&mut self, path: &Name, kind: Kind, mode: u32) -> Answer {
        let (parent, name) = self.split(path)?;
        if self.entries(parent).contains_key(name) {
            return Err(Errno::EXIST);
        }
        let (mut mode, mut gid) = (mode, 0);
        if self.inodes[&parent].mode & SGID != 0 {
            gid = self.inodes[&parent].gid;
            if matches!(kind, Kind::Directory { .. }) {
                mode |= SGID;
            }
        }
        let id = self.next;
        self.next += 1;
        let inode = Inode {
            kind,
            mode,
            uid: 0,
            gid,
            links: 1,
            xattrs: BTreeMap::new(),
            mtime: None,
        };
        self.inodes.insert(id, inode);
        self.entries_mut(parent).insert(name.to_vec(), id);
        Ok(())
    }

    fn link(&mut self, from: &Name, to: &Name) -> Answer {
        let id = self.find(from)?;
        let (parent, name) = self.split(to)?;
        if self.entries(parent).contains_key(name) {
            return Err(Errno::EXIST);
        }
        if matches!(self.inodes[&id].kind, Kind::Directory { .. }) {
            return Err(Errno::PERM);
        }
        self.inodes.get_mut(&id).expect("found").links += 1;
        self.entries_mut(parent).insert(name.to_vec(), id);
        Ok(())
    }

    fn unlink(&mut self, path: &Name) -> Answer {
        let (parent, name) = self.split(path)?;
        let id = *self.entries(parent).get(name).ok_or(Errno::NOENT)?;
        if matches!(self.inodes[&id].kind, Kind::Directory { .. }) {
            return Err(Errno::ISDIR);
        }
        self.entries_mut(parent).remove(name);
        self.drop_link(id);
        Ok(())
    }

    fn rmdir(&mut self, path: &Name) -> Answer {
        let (parent, name) = self.split(path)?;
        let id = *self.entries(parent).get(name).ok_or(Errno::NOENT)?;
        match &self.inodes[&id].kind {
            Kind::Directory { entries, .. } if entries.is_empty() => {}
            Kind::Directory { .. } => return Err(Errno::NOTEMPTY),
            _ => return Err(Errno::NOTDIR),
        }
        self.entries_mut(parent).remove(name);
        self.inodes.remove(&id);
        Ok(())
    }

    fn drop_link(&mut self, id: u64) {
        let inode = self.inodes.get_mut(&id).expect("an entry's inode");
        inode.links -= 1;
        if inode.links == 0 || matches!(inode.kind, Kind::Directory { .. }) {
            self.inodes.remove(&id);
        }
    }

    fn is_above(&self, ancestor: u64, mut directory: u64) -> bool {
        loop {
            if directory == ancestor {
                return true;
            }
            match self.inodes[&directory].kind {
                Kind::Directory { parent, .. } if directory != 0 => directory = parent,
                _ => return false,
            }
        }
    }

    fn rename(&mut self, from: &Name, to: &Name, kind: RenameKind) -> Answer {
        let (old_parent, old_name) = self.split(from)?;
        let (new_parent, new_name) = self.split(to)?;
        let moved = *self.entries(old_parent).get(old_name).ok_or(Errno::NOENT)?;
        let target = self.entries(new_parent).get(new_name).copied();
        match (kind, target) {
            (RenameKind::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (RenameKind::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        // In the kernel's order: the source above the target, then the target above the source.
        let moves_directory = matches!(self.inodes[&moved].kind, Kind::Directory { .. });
        if moves_directory && self.is_above(moved, new_parent) {
            return Err(Errno::INVAL);
        }
        if let Some(target) = target
            && matches!(self.inodes[&target].kind, Kind::Directory { .. })
            && self.is_above(target, old_parent)
        {
            let exchange = kind == RenameKind::Exchange;
            return Err(if exchange {
                Errno::INVAL
            } else {
                Errno::NOTEMPTY
            });
        }
        if target == Some(moved) {
            return Ok(());
        }
        if let Some(target) = target {
            if kind == RenameKind::Exchange {
                self.put(old_parent, old_name, target);
                self.put(new_parent, new_name, moved);
                return Ok(());
            }
            match (&self.inodes[&target].kind, moves_directory) {
                (Kind::Directory { .. }, false) => return Err(Errno::ISDIR),
                (Kind::Directory { entries, .. }, true) if !entries.is_empty() => {
                    return Err(Errno::NOTEMPTY);
                }
                (Kind::Directory { .. }, true) | (_, false) => {}
                (_, true) => return Err(Errno::NOTDIR),
            }
            self.entries_mut(new_parent).remove(new_name);
            self.drop_link(target);
        }
        self.entries_mut(old_parent).remove(old_name);
        self.put(new_parent, new_name, moved);
        if kind == RenameKind::Whiteout {
            self.add(from, Kind::Special(FileType::CharacterDevice, (0, 0)), 0)?;
        }
        Ok(())
    }

    fn put(&mut self, directory: u64, name: &[u8], id: u64) {
        self.entries_mut(directory).insert(name.to_vec(), id);
        if let Kind::Directory { parent, .. } = &mut self.inodes.get_mut(&id).expect("moved").kind {
            *parent = directory;
        }
    }

    fn change(&mut self, path: &Name, change: impl FnOnce(&mut Content)) -> Answer {
        let inode = self.at(path)?;
        match &mut inode.kind {
            Kind::File(content) => {
                change(content);
                inode.mtime = None;
                Ok(())
            }
            Kind::Directory { .. } => Err(Errno::ISDIR),
            Kind::Symlink(_) => Err(Errno::LOOP),
            Kind::Special(..) => panic!("scripts don't open special files"),
        }
    }

    fn record(&self, id: u64, path: Vec<u8>, out: &mut Vec<Record>) {
        let inode = &self.inodes[&id];
        let mut fields = Map::new();
        let mut put = |key: &str, value: Value| fields.insert(key.into(), value);
        put("mode", format!("{:04o}", inode.mode).into());
        put("uid", inode.uid.into());
        put("gid", inode.gid.into());
        put("nlink", inode.links.into());
        if let Some((seconds, nanoseconds)) = inode.mtime {
            put(
                "mtime_ns",
                (seconds * 1_000_000_000 + i64::from(nanoseconds)).into(),
            );
        }
        if !inode.xattrs.is_empty() {
            let xattrs = inode
                .xattrs
                .iter()
                .map(|(name, value)| (name.clone(), to_hex(value).into()));
            put("xattrs", Value::Object(xattrs.collect()));
        }
        match &inode.kind {
            Kind::File(content) => {
                let (key, digest) = content.digest();
                put("type", "file".into());
                put("size", content.size().into());
                put(key, digest.into());
            }
            Kind::Directory { entries, .. } => {
                put("type", "dir".into());
                put(
                    "size",
                    entries
                        .keys()
                        .map(|name| name.len() * 2)
                        .sum::<usize>()
                        .into(),
                );
                put("entries", entries.len().into());
            }
            Kind::Symlink(target) => {
                put("type", "symlink".into());
                put("size", target.len().into());
                match std::str::from_utf8(target) {
                    Ok(target) => put("target", target.into()),
                    Err(_) => put("target_hex", to_hex(target).into()),
                };
            }
            Kind::Special(kind, device) => {
                put("size", 0.into());
                let name = match kind {
                    FileType::Fifo => "fifo",
                    FileType::Socket => "socket",
                    FileType::CharacterDevice => "chr",
                    FileType::BlockDevice => "blk",
                    other => panic!("mknod of {other:?}"),
                };
                put("type", name.into());
                if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
                    put("rdev", json!([device.0, device.1]));
                }
            }
        }
        out.push(Record {
            path: path.clone(),
            fields,
        });
        if let Kind::Directory { entries, .. } = &inode.kind {
            for (name, child) in entries {
                let mut below = path.clone();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend(name);
                self.record(*child, below, out);
            }
        }
    }
}

fn file_type(kind: &Kind) -> FileType {
    match kind {
        Kind::File(_) => FileType::RegularFile,
        Kind::Directory { .. } => FileType::Directory,
        Kind::Symlink(_) => FileType::Symlink,
        Kind::Special(kind, _) => *kind,
    }
}
