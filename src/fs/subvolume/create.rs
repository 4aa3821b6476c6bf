//! A new, empty subvolume.
//!
//! Owns: what it is born with. Invariant: tree, root directory, root item, entry and uuid come
//! into being in one transaction, and everything that can refuse comes before the first edit.

use super::entry::{self, ParentEntry};
use super::uuid;
use crate::allocator::Steal;
use crate::btree::Root;
use crate::commit::mkfs::random_uuid;
use crate::error::{Error, Result};
use crate::fs::access::{EXECUTE, WRITE, Who};
use crate::fs::attr::Timestamp;
use crate::fs::dir::{self, Target};
use crate::fs::filesystem::Filesystem;
use crate::fs::inode::{Inode, to_disk};
use crate::fs::node_id::{NodeId, ROOT_DIR_OBJECTID};
use crate::ondisk::{FT_DIR, Key, RootItem, Uuid, ids, kind};
use crate::sync::Arc;
use crate::transaction::TransHandle;

/// Item changes for a subvolume's name: entry, index, both root references, root item, and the
/// directory's inode item.
pub(super) const NAME_ITEMS: u64 = 6;

/// The places of the directory's tree at which these are changed: entry, index, inode item.
pub(super) const NAME_PATHS: u64 = 3;

/// A flag of the inode item in a root item: the item was filled in (`BTRFS_INODE_ROOT_ITEM_INIT`).
const ROOT_ITEM_INIT: u64 = 1 << 31;

/// Where the subvolume `objectid` is to be found: what its directory entry says.
pub(super) fn target(objectid: u64) -> Target {
    Target {
        location: Key::new(objectid, kind::ROOT_ITEM, u64::MAX),
        kind: FT_DIR,
    }
}

impl Filesystem {
    /// Makes an empty subvolume called `name` in the directory `parent`.
    pub fn create_subvolume(&self, who: &Who<'_>, parent: NodeId, name: &[u8]) -> Result<()> {
        let dir = self.inode(parent)?;
        {
            let _names = self.place_for_subvolume(who, &dir, name)?;
            let _no_delete = self.subvolumes.read();
            self.want_place(&dir)?;
            uuid::prepare(&self.ctx)?;
            let tree = self.ctx.roots.get(&self.ctx, ids::ROOT_TREE_OBJECTID)?;
            let id = random_uuid()?;
            let embryo = self.subvolume_embryo(&who.caller, &dir)?;
            let ticket = self.ticket(Steal::No)?;
            let items = NAME_ITEMS + uuid::ITEMS + embryo.items() + 1;
            let reservation = self.reserve(items, Steal::No)?;
            let objectid = self.subvolume_number(&tree, &dir)?;
            self.with_trans(reservation, |trans| {
                let now = Timestamp::now();
                let item = self.fresh_root_item(trans, id, now);
                let key = Key::new(objectid, kind::ROOT_ITEM, 0);
                let root = self.ctx.create_tree(trans, key, item)?;
                let up = Some((ROOT_DIR_OBJECTID, 0, &b".."[..]));
                self.give_birth(trans, &root, ROOT_DIR_OBJECTID, embryo, up)?;
                uuid::add(&self.ctx, trans, objectid, &item)?;
                self.name_subvolume(trans, &dir, name, objectid)?;
                let mut meta = dir.meta.lock();
                meta.size = meta.size.saturating_add(dir::size_of(name));
                meta.touch_content(now);
                self.mark_dirty(&dir, &mut meta, ticket);
                Ok(())
            })?;
        }
        self.after_change();
        Ok(())
    }

    /// Asks everything that a new subvolume's name can be refused for, and locks the names of
    /// its directory.
    pub(super) fn place_for_subvolume<'a>(
        &self,
        who: &Who<'_>,
        dir: &'a Arc<Inode>,
        name: &[u8],
    ) -> Result<crate::sync::RwLockWriteGuard<'a, ()>> {
        dir.want_dir()?;
        dir::check_name(name)?;
        let names = dir.names.write();
        if dir::find(&self.ctx, dir, name)?.is_some() {
            return Err(Error::Exists);
        }
        self.want_alive(dir)?;
        self.permit(who, dir, WRITE | EXECUTE)?;
        dir::check_room(&self.ctx, dir, name, &[], &self.limits)?;
        dir::load_index(&self.ctx, dir)?;
        Ok(names)
    }

    /// `Err` when the subvolume of `dir` has been deleted or made read-only while the caller waited
    /// for `subvolumes`; under that lock it stays what it is.
    pub(in crate::fs) fn want_place(&self, dir: &Inode) -> Result<()> {
        if dir.root.is_dead() {
            return Err(Error::NotFound);
        }
        self.want_writable(&dir.root)
    }

    /// Adds the entry and the references of a subvolume; the directory's size is the caller's.
    pub(super) fn name_subvolume(
        &self,
        trans: &TransHandle,
        dir: &Inode,
        name: &[u8],
        objectid: u64,
    ) -> Result<()> {
        let sequence = dir::take_index(&mut dir.meta.lock());
        let entry = ParentEntry {
            tree: dir.root.objectid,
            dirid: dir.objectid,
            sequence,
            name: name.to_vec(),
        };
        entry::add_entry(&self.ctx, trans, objectid, &entry)?;
        dir::add(&self.ctx, trans, dir, sequence, name, target(objectid))
    }

    /// A number for a subvolume in `dir`. One that the tree refers to already is passed over by the
    /// next call.
    pub(super) fn subvolume_number(&self, tree: &Arc<Root>, dir: &Inode) -> Result<u64> {
        let objectid = self.objectids.allocate(&self.ctx, tree)?;
        entry::want_no_entry(&self.ctx, dir.root.objectid, objectid)?;
        Ok(objectid)
    }

    fn fresh_root_item(&self, trans: &TransHandle, id: Uuid, now: Timestamp) -> RootItem {
        let transid = trans.transid().get();
        let mut item = RootItem::zeroed();
        item.inode.generation.set(1);
        item.inode.size.set(3);
        item.inode.nlink.set(1);
        item.inode.nbytes.set(u64::from(self.ctx.nodesize));
        item.inode.mode.set(libc::S_IFDIR | 0o755);
        item.inode.flags.set(ROOT_ITEM_INIT);
        item.root_dirid.set(ROOT_DIR_OBJECTID);
        item.refs.set(1);
        item.uuid = id;
        item.ctransid.set(transid);
        item.otransid.set(transid);
        item.ctime = to_disk(now);
        item.otime = to_disk(now);
        item
    }
}
