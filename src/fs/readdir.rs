//! Listing a directory.
//!
//! Owns: the order and the cookies of a listing. Invariant: a cookie is the directory index of
//! the entry before it plus one, so it stays good when entries come and go; a stream ends at
//! the highest index that existed when it was opened or rewound, so that a program that makes or
//! renames entries while it reads comes to an end.

use super::attr::{Attr, FileKind};
use super::dir::{self, FIRST_INDEX, Target};
use super::filesystem::{Filesystem, Node};
use super::inode::Inode;
use super::node_id::{Identity, NodeId};
use super::subvolume;
use crate::error::{Error, Result};
use crate::ondisk::{DirEntries, Key, kind};
use crate::sync::atomic::{AtomicU64, Ordering};

/// An entry of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The inode number that programs see.
    pub ino: u64,
    /// What it is.
    pub kind: FileKind,
    /// Where to go on after this entry.
    pub offset: u64,
    /// The name.
    pub name: &'a [u8],
}

/// An open directory: how far its listing goes.
#[derive(Debug)]
pub struct DirHandle {
    /// No entry with this index or a higher one is listed.
    end: AtomicU64,
    /// Listings leave the access time (`O_NOATIME`).
    noatime: bool,
}

impl DirHandle {
    /// As opened with these flags.
    #[must_use]
    pub fn with_flags(self, flags: i32) -> Self {
        Self {
            noatime: flags & libc::O_NOATIME != 0,
            ..self
        }
    }
}

/// Asks for a resumable listing in pieces of this many entries, between which the directory is
/// not locked.
const PIECE: usize = 128;

struct Listed {
    index: u64,
    identity: Identity,
    kind: FileKind,
    name: Vec<u8>,
}

impl Filesystem {
    /// Opens a directory for listing. Keeps the inode alive until [`Filesystem::releasedir`].
    pub fn opendir(&self, node: NodeId) -> Result<DirHandle> {
        let end = match self.node(node)? {
            Node::Stub(_) => 0,
            Node::Inode(inode) => {
                inode.want_dir()?;
                let end = self.listing_end(&inode)?;
                self.home.table.open(&inode);
                end
            }
        };
        Ok(DirHandle {
            end: AtomicU64::new(end),
            noatime: false,
        })
    }

    /// The end of [`Filesystem::opendir`].
    pub fn releasedir(&self, node: NodeId) {
        self.release(node);
    }

    /// Lists from `offset` on, until `sink` says false (its buffer is full; the entry wasn't
    /// taken) or there is no more.
    pub fn readdir(
        &self,
        node: NodeId,
        handle: &DirHandle,
        offset: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        self.list(node, handle, offset, &mut |_, entry| Ok(sink(entry)))
    }

    /// Lists with attributes. Each taken entry with attributes counts one lookup; "." and ".."
    /// come without.
    pub fn readdirplus(
        &self,
        node: NodeId,
        handle: &DirHandle,
        offset: u64,
        sink: &mut dyn FnMut(DirEntry<'_>, Option<&Attr>) -> bool,
    ) -> Result<()> {
        self.list(node, handle, offset, &mut |identity, entry| {
            let (subvol, objectid) = match identity {
                None => return Ok(sink(entry, None)),
                Some(stub @ Identity::Stub { .. }) => {
                    return Ok(sink(entry, Some(&self.stub_attr(stub))));
                }
                Some(Identity::Inode { subvol, objectid }) => (subvol, objectid),
            };
            let loaded =
                subvolume::open(&self.ctx, subvol).and_then(|root| self.load(&root, objectid));
            let inode = match loaded {
                Ok(inode) => inode,
                // One damaged inode, or one that was just removed, must not hide the others.
                Err(Error::Corrupt(_) | Error::NotFound) => return Ok(sink(entry, None)),
                Err(error) => return Err(error),
            };
            let attr = self.hand_out(&inode);
            let taken = sink(entry, Some(&attr));
            if !taken {
                self.let_go(self.home.table.forget(inode.identity(), 1));
            }
            Ok(taken)
        })
    }

    /// What was listed before a failure is told, and counted; the failure when the program goes on
    /// from there.
    fn list(
        &self,
        node: NodeId,
        handle: &DirHandle,
        offset: u64,
        sink: &mut dyn FnMut(Option<Identity>, DirEntry<'_>) -> Result<bool>,
    ) -> Result<()> {
        let mut told = false;
        let done = self.list_whole(node, handle, offset, &mut |identity, entry| {
            let taken = sink(identity, entry)?;
            told |= taken;
            Ok(taken)
        });
        match done {
            Err(error) if told => {
                log::debug!("a listing ends early: {error}");
                Ok(())
            }
            done => done,
        }
    }

    /// As [`Filesystem::list`], all or nothing.
    fn list_whole(
        &self,
        node: NodeId,
        handle: &DirHandle,
        offset: u64,
        sink: &mut dyn FnMut(Option<Identity>, DirEntry<'_>) -> Result<bool>,
    ) -> Result<()> {
        let kind = FileKind::Directory;
        let (dir, own, above) = match self.node(node)? {
            Node::Inode(dir) => {
                dir.want_dir()?;
                let above = self.parent_identity(&dir).unwrap_or(dir.identity());
                (Some(dir.clone()), dir.identity(), above)
            }
            Node::Stub(stub) => (None, stub, stub),
        };
        for (at, name, identity) in [(0, &b"."[..], own), (1, b"..", above)] {
            if offset <= at {
                let ino = self.ids.ino_of(identity);
                if !sink(
                    None,
                    DirEntry {
                        ino,
                        kind,
                        offset: at + 1,
                        name,
                    },
                )? {
                    return Ok(());
                }
            }
        }
        let Some(dir) = dir else { return Ok(()) };
        if offset == 0 {
            // Relaxed: only this stream's reads look at it, and they are ordered by the caller.
            handle.end.store(self.listing_end(&dir)?, Ordering::Relaxed);
        }
        if !handle.noatime {
            self.touch_atime(&dir);
        }
        let end = handle.end.load(Ordering::Relaxed);
        let mut next = offset.max(FIRST_INDEX);
        loop {
            let piece = self.entries_from(&dir, next, end)?;
            let Some(last) = piece.last() else {
                return Ok(());
            };
            next = last.index + 1;
            for listed in &piece {
                let entry = DirEntry {
                    ino: self.ids.ino_of(listed.identity),
                    kind: listed.kind,
                    offset: listed.index + 1,
                    name: &listed.name,
                };
                if !sink(Some(listed.identity), entry)? {
                    return Ok(());
                }
            }
        }
    }

    /// A piece of the listing; what comes before a failure, if there is something.
    fn entries_from(&self, dir: &Inode, from: u64, end: u64) -> Result<Vec<Listed>> {
        let mut found = Vec::new();
        match self.gather_entries(dir, from, end, &mut found) {
            Err(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    fn gather_entries(
        &self,
        dir: &Inode,
        from: u64,
        end: u64,
        found: &mut Vec<Listed>,
    ) -> Result<()> {
        let _names = dir.names.read();
        let mut cursor = self
            .ctx
            .search(&dir.root, &Key::new(dir.objectid, kind::DIR_INDEX, from))?;
        while let Some((key, bytes)) = cursor.item() {
            if (key.objectid, key.kind) != (dir.objectid, kind::DIR_INDEX) || key.offset >= end {
                break;
            }
            if let Some(entry) = DirEntries::new(bytes).next() {
                let target = Target {
                    location: entry.location,
                    kind: entry.kind,
                };
                // Under the lock: a subvolume that is being renamed would look like a stub.
                found.push(Listed {
                    index: key.offset,
                    identity: self.identity_of_entry(dir, target, entry.name)?,
                    kind: FileKind::from_entry_type(entry.kind).unwrap_or(FileKind::Regular),
                    name: entry.name.to_vec(),
                });
            }
            if found.len() >= PIECE {
                break;
            }
            cursor.next()?;
        }
        Ok(())
    }

    /// One more than the highest index that is in use.
    fn listing_end(&self, dir: &Inode) -> Result<u64> {
        let known = dir.meta.lock().index_next;
        match known {
            Some(next) => Ok(next),
            None => {
                let _names = dir.names.read();
                dir::next_index(&self.ctx, dir)
            }
        }
    }
}
