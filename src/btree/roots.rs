//! Trees: where their root nodes are, and the registry of those in use.
//!
//! Owns: the root pointer. Invariant: it changes only by a thread that holds the write lock of
//! the block it points to, so whoever holds that block's lock and finds it still named here has
//! the root.

use crate::error::{Error, Result};
use crate::ondisk::ids::{
    CHUNK_TREE_OBJECTID, FIRST_FREE_OBJECTID, FS_TREE_OBJECTID, LAST_FREE_OBJECTID,
    ROOT_TREE_OBJECTID,
};
use crate::ondisk::key::{Key, kind};
use crate::ondisk::{ROOT_SUBVOL_DEAD, RootItem, Timespec};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, RwLock};
use crate::transaction::TransHandle;
use crate::units::{Generation, Logical};
use std::collections::BTreeMap;

use super::TreeContext;
use super::in_place::InPlaceGate;

/// Where a tree's root node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootNode {
    /// Its address.
    pub bytenr: Logical,
    /// Its generation.
    pub generation: Generation,
    /// Its level: 0 when the tree is a single leaf.
    pub level: u8,
}

/// One tree.
pub struct Root {
    /// The tree's number.
    pub objectid: u64,
    /// The key of its ROOT_ITEM (its offset is the creating transaction for snapshots).
    pub key: Key,
    node: RwLock<RootNode>,
    item: Mutex<RootItem>,
    /// Blocks up to this generation may be shared with a snapshot.
    last_snapshot: AtomicU64,
    /// Whether snapshots of it can exist: only then are its leaves' data references its own.
    shareable: bool,
    /// A snapshot was taken in this transaction: every block is copied again before it changes.
    force_cow: AtomicBool,
    /// The subvolume was deleted: its root item says so, or is about to.
    dead: AtomicBool,
    /// Content that is written over in place, and snapshots that must not see it change.
    pub(super) in_place: InPlaceGate,
}

/// Whether `objectid` is a subvolume's or a snapshot's tree.
pub fn is_fs_tree(objectid: u64) -> bool {
    objectid == FS_TREE_OBJECTID || (FIRST_FREE_OBJECTID..=LAST_FREE_OBJECTID).contains(&objectid)
}

impl Root {
    /// A tree by its ROOT_ITEM.
    pub fn from_item(key: Key, item: RootItem) -> Arc<Self> {
        let node = RootNode {
            bytenr: Logical(item.bytenr.get()),
            generation: Generation(item.generation.get()),
            level: item.level,
        };
        Self::new(key, node, item)
    }

    /// A tree whose root node the superblock (or a caller) names.
    pub fn new(key: Key, node: RootNode, item: RootItem) -> Arc<Self> {
        let last_snapshot = item.last_snapshot.get();
        let shareable = is_fs_tree(key.objectid);
        let dead = item.refs.get() == 0 || item.flags.get() & ROOT_SUBVOL_DEAD != 0;
        Arc::new(Self {
            objectid: key.objectid,
            key,
            node: RwLock::new(node),
            item: Mutex::new(item),
            last_snapshot: AtomicU64::new(last_snapshot),
            shareable,
            dead: AtomicBool::new(shareable && dead),
            force_cow: AtomicBool::new(false),
            in_place: InPlaceGate::default(),
        })
    }

    /// Where the root node is.
    pub fn node(&self) -> RootNode {
        *self.node.read()
    }

    /// Moves the root. The caller holds the write lock of the block that was the root.
    pub(super) fn set_node(&self, node: RootNode) {
        *self.node.write() = node;
    }

    /// The tree's ROOT_ITEM in memory. Whoever changes it also calls
    /// `Transaction::add_dirty_root`. Its bytenr, level and generation are those of the last
    /// commit; [`Root::item_for_commit`] fills them in.
    pub fn item(&self) -> MutexGuard<'_, RootItem> {
        self.item.lock()
    }

    /// The item as it is to be written: with the root node of now.
    pub fn item_for_commit(&self) -> RootItem {
        let node = self.node();
        let mut item = self.item.lock();
        item.bytenr.set(node.bytenr.get());
        item.level = node.level;
        item.generation.set(node.generation.get());
        item.generation_v2.set(node.generation.get());
        *item
    }

    /// Something in a subvolume has changed (`btrfs_update_root_times`): `ctransid` names its state,
    /// and send streams tell states apart by it.
    pub fn set_changed(&self, trans: &TransHandle, ctime: Timespec) {
        let transid = trans.transid().get();
        let mut item = self.item.lock();
        item.ctime = ctime;
        let is_first = item.ctransid.get() != transid;
        item.ctransid.set(transid);
        drop(item);
        if is_first {
            trans.transaction().add_dirty_root(self.objectid);
        }
    }

    /// The subvolume is deleted from here on. The caller marks the tree as dirty.
    pub fn kill(&self) {
        let mut item = self.item.lock();
        item.refs.set(0);
        let flags = item.flags.get();
        item.flags.set(flags | ROOT_SUBVOL_DEAD);
        item.drop_progress = Key::MIN.into();
        item.drop_level = 0;
        // Release: pairs with the Acquire in `is_dead`.
        self.dead.store(true, Ordering::Release);
    }

    /// Whether the subvolume was deleted.
    pub fn is_dead(&self) -> bool {
        // Acquire: pairs with the Release in `kill`.
        self.dead.load(Ordering::Acquire)
    }

    /// The tree has got new blocks (a copy takes its original's place and counts nothing).
    pub(super) fn add_used(&self, bytes: u64) {
        let mut item = self.item.lock();
        let used = item.bytes_used.get().saturating_add(bytes);
        item.bytes_used.set(used);
    }

    /// The tree has lost blocks.
    pub(super) fn sub_used(&self, bytes: u64) {
        let mut item = self.item.lock();
        let used = item.bytes_used.get().saturating_sub(bytes);
        item.bytes_used.set(used);
    }

    /// Whether snapshots of this tree can exist.
    pub fn is_shareable(&self) -> bool {
        self.shareable
    }

    /// The transaction of the last snapshot.
    pub fn last_snapshot(&self) -> Generation {
        // Acquire: pairs with the Release in `set_last_snapshot`.
        Generation(self.last_snapshot.load(Ordering::Acquire))
    }

    /// A snapshot was taken in `transid`: blocks of up to that generation may be shared now.
    pub fn set_last_snapshot(&self, transid: Generation) {
        self.item.lock().last_snapshot.set(transid.get());
        // Release: pairs with the Acquire in `last_snapshot`.
        self.last_snapshot.store(transid.get(), Ordering::Release);
    }

    /// While set, blocks of the running transaction are copied again before they change: a
    /// snapshot has taken them over.
    pub fn set_force_cow(&self, on: bool) {
        // Release: pairs with the Acquire in `force_cow`.
        self.force_cow.store(on, Ordering::Release);
    }

    pub(super) fn force_cow(&self) -> bool {
        // Acquire: pairs with the Release in `set_force_cow`.
        self.force_cow.load(Ordering::Acquire)
    }
}

impl TreeContext {
    /// Makes a tree of one empty leaf and registers it. The caller inserts its ROOT_ITEM (the
    /// tree is dirty, so the commit writes the final one).
    pub fn create_tree(&self, trans: &TransHandle, key: Key, item: RootItem) -> Result<Arc<Root>> {
        let nowhere = RootNode {
            bytenr: Logical(0),
            generation: trans.transid(),
            level: 0,
        };
        let root = Root::new(key, nowhere, item);
        let leaf = self.new_block(trans, &root, 0, Key::MIN)?;
        root.set_node(RootNode {
            bytenr: leaf.bytenr(),
            ..nowhere
        });
        root.add_used(u64::from(self.nodesize));
        self.roots.insert(root.clone());
        trans.transaction().add_dirty_root(root.objectid);
        Ok(root)
    }
}

/// The trees in use.
#[derive(Default)]
pub struct Roots {
    by_objectid: RwLock<BTreeMap<u64, Arc<Root>>>,
}

impl Roots {
    /// A tree; read from the root tree when it is used for the first time.
    pub fn get(&self, ctx: &TreeContext, objectid: u64) -> Result<Arc<Root>> {
        if let Some(root) = self.by_objectid.read().get(&objectid) {
            return Ok(root.clone());
        }
        if objectid == ROOT_TREE_OBJECTID || objectid == CHUNK_TREE_OBJECTID {
            return Err(Error::corrupt(format!("tree {objectid} is not open")));
        }
        let root_tree = self.get(ctx, ROOT_TREE_OBJECTID)?;
        let last = Key::new(objectid, kind::ROOT_ITEM, u64::MAX);
        let (key, bytes) = match ctx.find_last_before(&root_tree, &last)? {
            Some((key, bytes)) if key.objectid == objectid && key.kind == kind::ROOT_ITEM => {
                (key, bytes)
            }
            _ => return Err(Error::NotFound),
        };
        let item = RootItem::from_item(&bytes)
            .ok_or_else(|| Error::corrupt(format!("root item {key} has {} bytes", bytes.len())))?;
        let fresh = Root::from_item(key, item);
        // Another thread may have been faster: the first one in the registry is the tree.
        Ok(self
            .by_objectid
            .write()
            .entry(objectid)
            .or_insert(fresh)
            .clone())
    }

    /// Registers a tree; returns the one that was registered before, if any.
    pub fn insert(&self, root: Arc<Root>) -> Option<Arc<Root>> {
        self.by_objectid.write().insert(root.objectid, root)
    }

    /// Forgets a tree that is deleted.
    pub fn remove(&self, objectid: u64) -> Option<Arc<Root>> {
        self.by_objectid.write().remove(&objectid)
    }

    /// A tree if it is in use already.
    pub fn find(&self, objectid: u64) -> Option<Arc<Root>> {
        self.by_objectid.read().get(&objectid).cloned()
    }

    /// All trees in use, by number.
    pub fn loaded(&self) -> Vec<Arc<Root>> {
        self.by_objectid.read().values().cloned().collect()
    }
}
