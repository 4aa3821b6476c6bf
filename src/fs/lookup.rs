//! From names to inodes.
//!
//! Owns: lookup, also across subvolumes, and the way up. Invariant: what a lookup returns was
//! counted, so that the kernel's forget finds it. Never: changes anything.

use super::attr::{Attr, FileKind};
use super::dir::{self, Target};
use super::filesystem::{Filesystem, Node};
use super::inode::Inode;
use super::node_id::{Identity, NodeId, ROOT_DIR_OBJECTID};
use super::{file, inode_ref, subvolume};
use crate::error::{Error, Result};
use crate::ondisk::kind;
use crate::sync::Arc;

impl Filesystem {
    /// The inode called `name` in `parent`; "." and ".." are understood. Counts one lookup.
    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Attr> {
        let dir = match self.node(parent)? {
            Node::Inode(inode) => inode,
            Node::Stub(stub) => {
                return match name {
                    b"." => Ok(self.stub_attr(stub)),
                    b".." => self.stub_parent(stub),
                    _ => Err(Error::NotFound),
                };
            }
        };
        if name == b"." {
            return Ok(self.hand_out(&dir));
        }
        dir.want_dir()?;
        if name == b".." {
            return Ok(self.hand_out(&self.parent_of(&dir)?));
        }
        let _names = dir.names.read();
        let target = dir::find(&self.ctx, &dir, name)?.ok_or(Error::NotFound)?;
        Ok(match self.follow(&dir, target, name)? {
            Node::Inode(inode) => self.hand_out(&inode),
            Node::Stub(stub) => self.stub_attr(stub),
        })
    }

    /// The kernel gives back `n` lookups of the node.
    pub fn forget(&self, node: NodeId, n: u64) {
        if let Some(identity) = self.ids.identity_of(node) {
            self.let_go(self.home.table.forget(identity, n));
        }
    }

    /// The table holds the inode no longer. An unlinked one that nobody can reach any more has no
    /// use for the data that still waits in memory; and its item isn't left to the commit, or
    /// its space would be free only with the commit after that one.
    pub(in crate::fs) fn let_go(&self, inode: Option<Arc<Inode>>) {
        if let Some(inode) = inode
            && inode.meta.lock().nlink == 0
        {
            file::discard_delayed(self, &inode);
            if let Err(error) = self.write_waiting(&inode) {
                log::debug!("inode {} waits for the commit: {error}", inode.objectid);
            }
        }
    }

    /// Where an entry of `dir` leads to. A subvolume's entry that the root tree doesn't confirm
    /// (a snapshot holds the entry, the subvolume stayed behind) leads to a stub.
    pub(in crate::fs) fn follow(&self, dir: &Inode, target: Target, name: &[u8]) -> Result<Node> {
        let Some(nested) = target.subvolume() else {
            if target.location.kind != kind::INODE_ITEM {
                return Err(Error::corrupt(format!(
                    "directory {} of tree {}: an entry leads to {}",
                    dir.objectid, dir.root.objectid, target.location
                )));
            }
            let inode = self
                .load(&dir.root, target.location.objectid)
                .map_err(|error| {
                    match error {
                        // The name is there, so this is no plain ENOENT.
                        Error::NotFound => Error::corrupt(format!(
                            "directory {} of tree {}: the inode {} of an entry is missing",
                            dir.objectid, dir.root.objectid, target.location.objectid
                        )),
                        other => other,
                    }
                })?;
            if FileKind::from_entry_type(target.kind) != Some(inode.kind) {
                return Err(Error::corrupt(format!(
                    "directory {} of tree {}: an entry calls the inode {} a {:?}, which it isn't",
                    dir.objectid,
                    dir.root.objectid,
                    inode.objectid,
                    FileKind::from_entry_type(target.kind)
                )));
            }
            return Ok(Node::Inode(inode));
        };
        let stub = Identity::Stub {
            subvol: dir.root.objectid,
            nested,
        };
        let entry = subvolume::entry_in(&self.ctx, dir.root.objectid, nested)?;
        if !entry.is_some_and(|entry| entry.dirid == dir.objectid && entry.name == name) {
            return Ok(Node::Stub(stub));
        }
        match self.load_root_dir(nested) {
            Ok(inode) => Ok(Node::Inode(inode)),
            Err(Error::NotFound) => Ok(Node::Stub(stub)),
            Err(error) => Err(error),
        }
    }

    /// The inode number and kind that a listing shows for an entry, without loading the inode.
    pub(in crate::fs) fn identity_of_entry(
        &self,
        dir: &Inode,
        target: Target,
        name: &[u8],
    ) -> Result<Identity> {
        let subvol = dir.root.objectid;
        let Some(nested) = target.subvolume() else {
            return Ok(Identity::Inode {
                subvol,
                objectid: target.location.objectid,
            });
        };
        let entry = subvolume::entry_in(&self.ctx, subvol, nested)?;
        let confirmed = entry.is_some_and(|it| it.dirid == dir.objectid && it.name == name);
        let there = match subvolume::open(&self.ctx, nested) {
            Ok(_) => true,
            Err(Error::NotFound) => false,
            Err(error) => return Err(error),
        };
        Ok(if confirmed && there {
            Identity::Inode {
                subvol: nested,
                objectid: ROOT_DIR_OBJECTID,
            }
        } else {
            Identity::Stub { subvol, nested }
        })
    }

    /// The directory above; the root of the mount is its own.
    pub(in crate::fs) fn parent_of(&self, dir: &Arc<Inode>) -> Result<Arc<Inode>> {
        let Identity::Inode { subvol, objectid } = self.parent_identity(dir)? else {
            return Err(Error::NotFound);
        };
        if (subvol, objectid) == (dir.root.objectid, dir.objectid) {
            return Ok(dir.clone());
        }
        let root = subvolume::open(&self.ctx, subvol)?;
        self.load(&root, objectid)
    }

    /// Which directory is above; the root of the mount is its own. Takes the directory's `names`:
    /// a rename takes the old reference out before it puts the new one in.
    pub(in crate::fs) fn parent_identity(&self, dir: &Inode) -> Result<Identity> {
        let _names = dir.names.read();
        let (subvol, objectid) = (dir.root.objectid, dir.objectid);
        if objectid != ROOT_DIR_OBJECTID {
            let name = inode_ref::first(&self.ctx, &dir.root, objectid)?.ok_or(Error::NotFound)?;
            return Ok(Identity::Inode {
                subvol,
                objectid: name.parent,
            });
        }
        let above = match subvol {
            _ if subvol == self.ids.mounted() => None,
            _ => subvolume::parent_entry(&self.ctx, subvol)?,
        };
        Ok(match above {
            Some(entry) => Identity::Inode {
                subvol: entry.tree,
                objectid: entry.dirid,
            },
            None => Identity::Inode { subvol, objectid },
        })
    }

    /// Whether `above` is `dir` or contains it, through the subvolumes that `dir` lies in as well. The caller
    /// holds the rename lock, so nobody moves a directory to another or a subvolume meanwhile; a
    /// rename in place changes a directory's reference in one step.
    pub(in crate::fs) fn contains(&self, above: Identity, dir: &Inode) -> Result<bool> {
        let (Identity::Inode { subvol: top, .. } | Identity::Stub { subvol: top, .. }) = above;
        let (mut root, mut objectid) = (dir.root.clone(), dir.objectid);
        // References that lead in a circle are met again at a place remembered on the way, the
        // distance between these places being doubled each time.
        let (mut remembered, mut steps, mut until) = ((0, 0), 0u64, 1u64);
        loop {
            let subvol = root.objectid;
            if above == (Identity::Inode { subvol, objectid }) {
                return Ok(true);
            }
            if (subvol, objectid) == remembered {
                return Err(Error::corrupt(format!(
                    "directory {objectid} of tree {subvol} contains itself"
                )));
            }
            steps += 1;
            if steps == until {
                (remembered, until) = ((subvol, objectid), 2 * until);
            }
            if objectid != ROOT_DIR_OBJECTID {
                let name = inode_ref::first(&self.ctx, &root, objectid)?.ok_or(Error::NotFound)?;
                objectid = name.parent;
            } else if subvol == top {
                return Ok(false);
            } else {
                let Some(entry) = subvolume::parent_entry(&self.ctx, subvol)? else {
                    return Ok(false);
                };
                root = subvolume::open(&self.ctx, entry.tree)?;
                objectid = entry.dirid;
            }
        }
    }

    fn stub_parent(&self, stub: Identity) -> Result<Attr> {
        // Which directory holds the entry isn't part of the stub's number; the subvolume's root
        // is the nearest that is sure to be there.
        let Identity::Stub { subvol, .. } = stub else {
            return Err(Error::NotFound);
        };
        Ok(self.hand_out(&self.load_root_dir(subvol)?))
    }
}
