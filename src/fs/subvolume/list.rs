//! Which subvolumes are in a subvolume, for whoever can reach them.

use super::entry;
use crate::error::{Error, Result};
use crate::fs::access::{EXECUTE, READ, Who};
use crate::fs::filesystem::Filesystem;
use crate::fs::inode_ref;
use crate::fs::node_id::{NodeId, ROOT_DIR_OBJECTID};

/// The longest path of an answer, its last slash included.
const PATH_MAX: usize = 3824 - 1;

/// Where a nested subvolume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NestedPlace {
    /// Its name.
    pub name: Vec<u8>,
    /// The way to its directory, each part with a slash behind; empty for the one that was asked.
    pub path: Vec<u8>,
}

impl Filesystem {
    /// The subvolumes nested directly in the one of `node`, from number `from` on, and at most
    /// `max`: number, and directory in this one.
    pub fn nested_subvolumes(
        &self,
        node: NodeId,
        from: u64,
        max: usize,
    ) -> Result<Vec<(u64, u64)>> {
        entry::children(&self.ctx, self.subvol_of(node)?, from, max)
    }

    /// Where below the directory `node` the nested subvolume `nested` is, whose directory is
    /// `dirid`. Who can't read and pass the directories between hears nothing of them.
    pub fn nested_place(
        &self,
        who: &Who<'_>,
        node: NodeId,
        dirid: u64,
        nested: u64,
    ) -> Result<NestedPlace> {
        let top = self.inode(node)?;
        top.want_dir()?;
        let mut names = Vec::new();
        let (mut at, mut bytes) = (dirid, 0);
        while at != top.objectid {
            if at == ROOT_DIR_OBJECTID {
                return Err(Error::Access);
            }
            self.permit(who, &*self.load(&top.root, at)?, READ | EXECUTE)?;
            let name = inode_ref::first(&self.ctx, &top.root, at)?.ok_or(Error::NotFound)?;
            bytes += name.name.len() + 1;
            if bytes > PATH_MAX {
                return Err(Error::NameTooLong);
            }
            at = name.parent;
            names.push(name.name);
        }
        self.permit(who, &top, READ | EXECUTE)?;
        let found = entry::entry_in(&self.ctx, top.root.objectid, nested)?;
        let entry = found
            .filter(|entry| entry.dirid == dirid)
            .ok_or(Error::NotFound)?;
        let mut path = Vec::with_capacity(bytes);
        for name in names.iter().rev() {
            path.extend_from_slice(name);
            path.push(b'/');
        }
        Ok(NestedPlace {
            name: entry.name,
            path,
        })
    }
}
