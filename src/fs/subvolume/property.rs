//! Read-only, and back.

use crate::allocator::Steal;
use crate::error::{Error, Result};
use crate::fs::access::Who;
use crate::fs::file;
use crate::fs::filesystem::Filesystem;
use crate::fs::inode::Inode;
use crate::fs::node_id::{NodeId, ROOT_DIR_OBJECTID};
use crate::ondisk::ROOT_SUBVOL_RDONLY;

impl Filesystem {
    /// The subvolume whose root directory this is.
    pub(super) fn want_subvolume(&self, inode: &Inode) -> Result<u64> {
        if inode.objectid != ROOT_DIR_OBJECTID {
            return Err(Error::Invalid("not the root directory of a subvolume"));
        }
        Ok(inode.root.objectid)
    }

    /// Whether the subvolume whose root directory `node` is can be written.
    pub fn is_subvolume_read_only(&self, node: NodeId) -> Result<bool> {
        let inode = self.inode(node)?;
        self.want_subvolume(&inode)?;
        let read_only = inode.root.item().is_read_only();
        Ok(read_only)
    }

    /// Makes a subvolume read-only, or writable again.
    pub fn set_subvolume_read_only(
        &self,
        who: &Who<'_>,
        node: NodeId,
        read_only: bool,
    ) -> Result<()> {
        let inode = self.inode(node)?;
        if !who.owns(&inode) {
            return Err(Error::NotPermitted("only its owner changes a subvolume"));
        }
        self.want_writable_mount()?;
        self.want_subvolume(&inode)?;
        let root = &inode.root;
        let _alone = self.subvolumes.write();
        if root.item().is_read_only() == read_only {
            return Ok(());
        }
        // What was written before belongs in it.
        if read_only && let Err(error) = file::flush_all(self) {
            log::warn!("before subvolume {} is read-only: {error}", root.objectid);
        }
        let reservation = self.reserve(1, Steal::No)?;
        self.with_trans(reservation, |trans| {
            let mut item = root.item();
            let flags = item.flags.get() & !ROOT_SUBVOL_RDONLY;
            item.flags
                .set(flags | if read_only { ROOT_SUBVOL_RDONLY } else { 0 });
            drop(item);
            trans.transaction().add_dirty_root(root.objectid);
            Ok(())
        })
    }
}
