//! Does a folder hold what its model says? Read on whatever mounts the image now.
//!
//! Owns: the comparison of everything, and the sorting of what is wrong by what it means to a
//! user: lost, back from the dead, old contents, foreign contents. Never stops at the first.

use super::content::{Content, Found, Mismatch};
use super::folder::Folder;
use super::model::{Entries, Inode, Model, Node};
use super::name::{CROWD, Name};
use super::operation::Arena;
use super::perform;
use super::verdict;
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// It must be there and isn't.
    Missing,
    /// It mustn't be there.
    Unexpected,
    /// Its contents are of an earlier moment: older writes, zeros, another length.
    OldContents,
    /// Its contents were never this file's: another process's bytes, or nobody's.
    ForeignContents,
    /// Owner, mode, times, links, attributes, target.
    Attributes,
    /// It can't be read.
    Unreadable,
}

impl Loss {
    /// For people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Missing => "names missing",
            Self::Unexpected => "names that mustn't be there",
            Self::OldContents => "files with old contents",
            Self::ForeignContents => "files with contents that were never theirs",
            Self::Attributes => "names with wrong attributes",
            Self::Unreadable => "names that can't be read",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The process whose name it is.
    pub process: u64,
    /// Where.
    pub path: Name,
    /// What it means.
    pub loss: Loss,
    /// In words.
    pub words: String,
    /// It was durable: nothing has changed it since a sync that succeeded.
    pub promised: bool,
}

impl Finding {
    /// Permissions keep it from whoever judges.
    pub fn is_denial(&self) -> bool {
        let denials = [Errno::ACCESS, Errno::PERM];
        self.loss == Loss::Unreadable
            && denials
                .map(verdict::errno)
                .iter()
                .any(|errno| self.words.ends_with(errno))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let promised = if self.promised {
            " (it was durable)"
        } else {
            ""
        };
        write!(
            f,
            "process {}: {}: {}{promised}",
            self.process, self.path, self.words
        )
    }
}

/// Compares a process's folder and its part of the crowd with its model. What hasn't changed
/// since step `durable` was promised to survive.
pub fn judge(model: &Model, folder: &Folder, process: u64, durable: Option<u64>) -> Vec<Finding> {
    let mut judge = Judge {
        model,
        folder,
        process,
        durable,
        findings: Vec::new(),
    };
    for (top, entries) in model.tops() {
        let mark = folder.mark();
        let mark = if top.0 == CROWD { mark.as_slice() } else { b"" };
        judge.directory(&top, entries, mark, 0);
    }
    judge.findings
}

struct Judge<'a> {
    model: &'a Model,
    folder: &'a Folder,
    process: u64,
    durable: Option<u64>,
    findings: Vec<Finding>,
}

impl Judge<'_> {
    fn find(&mut self, path: &Name, changed: u64, loss: Loss, words: impl Into<String>) {
        self.findings.push(Finding {
            process: self.process,
            path: path.clone(),
            loss,
            words: words.into(),
            promised: self.durable.is_some_and(|durable| changed <= durable),
        });
    }

    fn unreadable(&mut self, path: &Name, changed: u64, what: &str, error: Errno) {
        let words = format!("{what} is refused with {}", verdict::errno(error));
        self.find(path, changed, Loss::Unreadable, words);
    }

    /// `changed`: the last step that changed the way here.
    fn directory(&mut self, path: &Name, entries: &Entries, mark: &[u8], changed: u64) {
        let place = self.folder.path(Arena::Own, path);
        let there = match perform::read_dir(&place, mark) {
            Ok(there) => there,
            Err(Errno::NOENT) => return self.find(path, changed, Loss::Missing, "isn't there"),
            Err(error) => return self.unreadable(path, changed, "listing it", error),
        };
        for (name, &(id, put)) in entries {
            let inode = self.model.inode(id);
            let (path, way) = (path.child(name), changed.max(put));
            if there.binary_search(name).is_err() {
                self.find(&path, way.max(inode.changed), Loss::Missing, "isn't there");
            } else {
                self.entry(&path, inode, way);
            }
        }
        for name in &there {
            if !entries.contains_key(name) {
                // Who removed it when isn't kept, so nothing was promised.
                self.find(
                    &path.child(name),
                    u64::MAX,
                    Loss::Unexpected,
                    "mustn't be there",
                );
            }
        }
    }

    fn entry(&mut self, path: &Name, inode: &Inode, way: u64) {
        let changed = way.max(inode.changed);
        let place = self.folder.path(Arena::Own, path);
        let seen = match perform::stat(&place) {
            Ok(seen) => seen,
            Err(error) => return self.unreadable(path, changed, "stat", error),
        };
        let mut wanted = inode.stat();
        if let Node::File(content) = &inode.node
            && seen.kind == wanted.kind
        {
            if seen.size == content.size() {
                self.contents(path, &place, content, changed);
            } else {
                let words = format!("is {} bytes, not {}", seen.size, content.size());
                self.find(path, changed, Loss::OldContents, words);
            }
            wanted.size = seen.size;
        }
        if let Err(words) = verdict::stat(&wanted, inode.mtime, &seen) {
            self.find(path, changed, Loss::Attributes, words);
        }
        match &inode.node {
            Node::Symlink(target) => match rustix::fs::readlink(&place, Vec::new()) {
                Ok(found) if found.as_bytes() == target => {}
                Ok(_) => self.find(path, changed, Loss::Attributes, "points elsewhere"),
                Err(error) => self.unreadable(path, changed, "reading the link", error),
            },
            Node::Directory(directory) => self.directory(path, &directory.entries, b"", way),
            _ => {}
        }
        if matches!(inode.node, Node::File(_) | Node::Directory(_)) {
            self.xattrs(path, &place, inode, changed);
        }
    }

    fn contents(&mut self, path: &Name, place: &Path, content: &Content, changed: u64) {
        match compare(place, content) {
            Ok(None) => {}
            Ok(Some(mismatch)) => {
                let foreign = match mismatch.found {
                    Found::Write(stamp) => stamp.process() != self.process,
                    Found::Noise => true,
                    Found::Zeros => false,
                };
                let loss = if foreign {
                    Loss::ForeignContents
                } else {
                    Loss::OldContents
                };
                self.find(path, changed, loss, mismatch.to_string());
            }
            Err(error) => self.unreadable(path, changed, "reading it", error),
        }
    }

    fn xattrs(&mut self, path: &Name, place: &Path, inode: &Inode, changed: u64) {
        let names = match perform::list_xattrs(place) {
            Ok(names) => names,
            Err(Errno::OPNOTSUPP) if inode.xattrs.is_empty() => return,
            Err(error) => return self.unreadable(path, changed, "listing its attributes", error),
        };
        let wanted: Vec<&[u8]> = inode.xattrs.keys().map(String::as_bytes).collect();
        if names != wanted {
            let words = format!("has {} attributes, not {}", names.len(), wanted.len());
            return self.find(path, changed, Loss::Attributes, words);
        }
        for (name, value) in &inode.xattrs {
            match perform::get_xattr(place, name) {
                Ok(found) if found == *value => {}
                Ok(_) => {
                    let words = format!("its attribute {name} has another value");
                    self.find(path, changed, Loss::Attributes, words);
                }
                Err(error) => self.unreadable(path, changed, "reading an attribute", error),
            }
        }
    }
}

/// Read at once.
const CHUNK: u64 = 1 << 20;

/// The first byte of a file that isn't as it must be. Holes of both are passed over.
fn compare(place: &Path, content: &Content) -> Result<Option<Mismatch>, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(place, flags, Mode::empty())?;
    for (start, end) in content.ranges() {
        if let Some(mismatch) = compare_range(&file, content, start, end)? {
            return Ok(Some(mismatch));
        }
    }
    // Data where zeros must be.
    let mut at = 0;
    while at < content.size() {
        let (data, hole) = match perform::seek(&file, SeekFrom::Data(at)) {
            Ok(None) => break,
            Ok(Some(data)) => {
                let hole = perform::seek(&file, SeekFrom::Hole(data))?;
                (data, hole.unwrap_or(content.size()))
            }
            // No such seeks here: everything is data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => (at, content.size()),
            Err(error) => return Err(error),
        };
        if let Some(mismatch) = compare_range(&file, content, data, hole)? {
            return Ok(Some(mismatch));
        }
        at = hole.max(data + 1);
    }
    Ok(None)
}

fn compare_range(
    file: &OwnedFd,
    content: &Content,
    start: u64,
    end: u64,
) -> Result<Option<Mismatch>, Errno> {
    let mut at = start;
    while at < end {
        let bytes = perform::read(file, at, CHUNK.min(end - at))?;
        if bytes.is_empty() {
            break;
        }
        if let Some(mismatch) = content.compare(at, &bytes) {
            return Ok(Some(mismatch));
        }
        at += bytes.len() as u64;
    }
    Ok(None)
}
