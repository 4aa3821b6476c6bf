//! The end of a subvolume's names.
//!
//! Owns: what stands in its way, and the one transaction that takes it out: its entry, its
//! references and uuids go, its root item says that it is dead, and an orphan item that it has to
//! be dropped. The rest is the cleaner's ([`crate::commit`]), when nobody uses it any more
//! ([`super::dying`]).

use super::entry;
use super::{open, uuid};
use crate::allocator::Steal;
use crate::error::{Error, Result};
use crate::fs::access::{EXECUTE, WRITE, Who};
use crate::fs::attr::Timestamp;
use crate::fs::dir::{self, Target};
use crate::fs::filesystem::{Filesystem, Node};
use crate::fs::inode::Inode;
use crate::fs::link::want_removable;
use crate::fs::mount::default_subvolume;
use crate::fs::node_id::NodeId;
use crate::fs::orphan;
use crate::ondisk::ids;
use crate::sync::Arc;

/// Item changes: entry, index, both references, root item, orphan item.
const DELETE_ITEMS: u64 = 6;

impl Filesystem {
    /// Deletes the subvolume `name` in the directory `parent`, with everything that is in it.
    pub fn delete_subvolume(&self, who: &Who<'_>, parent: NodeId, name: &[u8]) -> Result<()> {
        let dir = self.inode(parent)?;
        dir.want_dir()?;
        {
            let _names = dir.names.write();
            let target = dir::find(&self.ctx, &dir, name)?.ok_or(Error::NotFound)?;
            let inode = match self.follow(&dir, target, name)? {
                Node::Inode(inode) => inode,
                Node::Stub(_) => return Err(Error::Invalid("the subvolume isn't in here")),
            };
            if !who.admin {
                self.want_user_delete(who, &dir, &inode)?;
            }
            self.want_deletable(who, &dir, &inode)?;
            if target.subvolume().is_none() {
                return Err(Error::Invalid("not a subvolume"));
            }
            let _inside = inode.names.write();
            self.take_subvolume_out(&dir, &inode, target, name)?;
        }
        self.after_change();
        Ok(())
    }

    /// The directory and name of a subvolume, to be deleted by its number.
    pub fn place_of_subvolume(&self, subvol: u64) -> Result<(NodeId, Vec<u8>)> {
        if !ids::is_subvolume(subvol) {
            return Err(Error::Invalid("not the number of a subvolume"));
        }
        open(&self.ctx, subvol)?;
        let entry = entry::parent_entry(&self.ctx, subvol)?.ok_or(Error::NotFound)?;
        let root = open(&self.ctx, entry.tree)?;
        let dir = self.load(&root, entry.dirid)?;
        Ok((self.ids.node_of(dir.identity()), entry.name))
    }

    /// What an ordinary user needs besides the right to remove the name.
    fn want_user_delete(&self, who: &Who<'_>, dir: &Inode, inode: &Inode) -> Result<()> {
        if !self.options.user_subvol_rm_allowed {
            return Err(Error::NotPermitted(
                "users delete subvolumes only on mounts with -o user_subvol_rm_allowed",
            ));
        }
        if inode.root.objectid == dir.root.objectid {
            return Err(Error::Invalid("not a subvolume"));
        }
        self.permit(who, inode, WRITE | EXECUTE)
    }

    /// What rmdir(2) asks before it takes a name away.
    fn want_deletable(&self, who: &Who<'_>, dir: &Inode, inode: &Inode) -> Result<()> {
        self.permit(who, dir, WRITE | EXECUTE)?;
        want_removable(dir, Some(inode))?;
        let (sticky, owner) = {
            let meta = dir.meta.lock();
            (meta.mode & libc::S_ISVTX != 0, meta.uid)
        };
        let caller = who.caller.uid;
        let theirs =
            who.admin || who.owns_all || caller == owner || caller == inode.meta.lock().uid;
        if sticky && !theirs {
            return Err(Error::NotPermitted("the directory is sticky"));
        }
        inode.want_dir()
    }

    /// Takes a subvolume out of the tree of names. The caller holds the `names` of `dir`, and those
    /// of `inode`, which is the subvolume's root directory.
    pub(in crate::fs) fn take_subvolume_out(
        &self,
        dir: &Arc<Inode>,
        inode: &Arc<Inode>,
        target: Target,
        name: &[u8],
    ) -> Result<()> {
        let root = &inode.root;
        let subvol = root.objectid;
        debug_assert_eq!(target.subvolume(), Some(subvol));
        // Nobody makes a subvolume in it meanwhile, and nobody snapshots it.
        let _alone = self.subvolumes.write();
        self.want_writable(&dir.root)?;
        if subvol == self.ids.mounted() {
            return Err(Error::Busy("the subvolume is mounted".into()));
        }
        if subvol == default_subvolume(&self.ctx)? {
            return Err(Error::NotPermitted(
                "it is what is mounted by default; choose another one before",
            ));
        }
        if !entry::children(&self.ctx, subvol, 0, 1)?.is_empty() {
            return Err(Error::NotEmpty);
        }
        let entry = entry::removable_entry(&self.ctx, dir, name, subvol)?;
        uuid::prepare(&self.ctx)?;
        let tree = self.ctx.roots.get(&self.ctx, ids::ROOT_TREE_OBJECTID)?;
        // Unlinks beside a snapshot may have used up what they may: this is what gives it back.
        let ticket = self.ticket(Steal::Last)?;
        let reservation = self.reserve(DELETE_ITEMS + uuid::ITEMS, Steal::Last)?;
        // Known before it is dead, so that whoever uses it at that moment isn't turned away.
        self.dying.add(root);
        self.with_trans(reservation, |trans| {
            dir::remove(&self.ctx, trans, dir, entry.sequence, name)?;
            entry::remove_entry(&self.ctx, trans, subvol, &entry)?;
            root.kill();
            let item = *root.item();
            trans.transaction().add_dirty_root(subvol);
            orphan::add(&self.ctx, trans, &tree, subvol)?;
            uuid::remove(&self.ctx, trans, subvol, &item)?;
            let mut meta = dir.meta.lock();
            meta.size = meta.size.saturating_sub(dir::size_of(name));
            meta.touch_content(Timestamp::now());
            self.mark_dirty(dir, &mut meta, ticket);
            Ok(())
        })
    }
}
