//! The mounted filesystem: what operations share.
//!
//! Owns: [`Filesystem`] and the steps that every operation takes: from a node id to its inode,
//! from a reservation to a transaction handle. The operations are in the files beside this one.

use super::attr::FileKind;
use super::attr::{Attr, Timestamp};
use super::delayed::{DelayedItems, DirtyTicket};
use super::file::{self, DelayedData};
use super::inode::{Inode, InodeMeta, rdev_from_disk};
use super::inode_ref::ItemLimits;
use super::inode_table::Home;
use super::mount::Background;
use super::node_id::{Identity, NodeId, NodeIds, ROOT_DIR_OBJECTID};
use super::options::MountOptions;
use super::subvolume::{self, Dying, ObjectIds, Snapshots};
use crate::allocator::{MetaReservation, Steal};
use crate::btree::{Root, TreeContext};
use crate::commit::Engine;
use crate::error::{Error, Result};
use crate::ondisk::{InodeItem, Key, kind};
use crate::sync::atomic::{AtomicBool, AtomicUsize};
use crate::sync::{Arc, Mutex, RwLock};
use crate::transaction::TransHandle;
use crate::units::round_up;
use crate::volume::Volume;

/// A mounted filesystem; every operation is a method. Threads share it.
pub struct Filesystem {
    pub(in crate::fs) ctx: Arc<TreeContext>,
    pub(in crate::fs) engine: Engine,
    pub(in crate::fs) volume: Arc<Volume>,
    pub(in crate::fs) options: MountOptions,
    /// Why nothing may be written; `None` on a writable mount.
    pub(in crate::fs) read_only: Option<String>,
    pub(in crate::fs) ids: NodeIds,
    pub(in crate::fs) home: Arc<Home>,
    pub(in crate::fs) delayed: DelayedItems,
    pub(in crate::fs) delayed_data: DelayedData,
    pub(in crate::fs) objectids: ObjectIds,
    pub(in crate::fs) limits: ItemLimits,
    /// Held by renames between directories, so that who contains whom stays as they saw it.
    pub(in crate::fs) rename_lock: Mutex<()>,
    /// Shared: a subvolume is made or renamed, in another that stays. Exclusive: one is deleted, or
    /// becomes read-only. After `names`.
    pub(in crate::fs) subvolumes: RwLock<()>,
    pub(in crate::fs) snapshots: Snapshots,
    /// Deleted subvolumes that are still used.
    pub(in crate::fs) dying: Dying,
    pub(in crate::fs) mounted_at: Timestamp,
    /// The log has said once what a compressed file is refused for.
    pub(in crate::fs) told_of_compression: AtomicBool,
    pub(in crate::fs) background: Mutex<Option<Background>>,
    /// How the unmount went.
    pub(in crate::fs) unmounted: Mutex<Option<Result<()>>>,
    /// Whoever was refused space for freeing some asks again one after the other.
    pub(in crate::fs) turn: Mutex<()>,
    /// How many have it or wait for it.
    pub(in crate::fs) refused: AtomicUsize,
}

/// What a node id leads to.
pub(in crate::fs) enum Node {
    Inode(Arc<Inode>),
    /// The empty directory in place of a nested subvolume.
    Stub(Identity),
}

impl Filesystem {
    /// The tree layer, for tests and tools that look below the names.
    pub fn tree_context(&self) -> &Arc<TreeContext> {
        &self.ctx
    }

    /// Tree blocks that commits have written, for tests and tools.
    pub fn tree_blocks_written(&self) -> u64 {
        // Relaxed: a statistic.
        let blocks = &self.engine.committer.counters.blocks;
        blocks.load(crate::sync::atomic::Ordering::Relaxed)
    }

    /// How often an fsync wrote a log, and how many commits there were, for tests and tools.
    pub fn logs_and_commits(&self) -> (u64, u64) {
        let counters = &self.engine.committer.counters;
        let [logs, commits] = [&counters.logs, &counters.commits].map(|counter| {
            // Relaxed: a statistic.
            counter.load(crate::sync::atomic::Ordering::Relaxed)
        });
        (logs, commits)
    }

    /// How many inodes are in memory, for tests and tools.
    pub fn inodes_in_memory(&self) -> usize {
        self.home.table.len()
    }

    /// What the node id stands for; `Stale` for one that was never given out.
    pub(in crate::fs) fn node(&self, node: NodeId) -> Result<Node> {
        match self.ids.identity_of(node).ok_or(Error::Stale)? {
            stub @ Identity::Stub { .. } => Ok(Node::Stub(stub)),
            Identity::Inode { subvol, objectid } => {
                let identity = Identity::Inode { subvol, objectid };
                if let Some(inode) = self.home.table.get(identity) {
                    return Ok(Node::Inode(inode));
                }
                let loaded = match subvolume::open(&self.ctx, subvol) {
                    Err(Error::NotFound) => self.load_dying(subvol, objectid),
                    root => root.and_then(|root| self.load(&root, objectid)),
                };
                loaded.map(Node::Inode).map_err(to_stale)
            }
        }
    }

    /// The inode of a node id; nothing can be done to a stub.
    pub(in crate::fs) fn inode(&self, node: NodeId) -> Result<Arc<Inode>> {
        match self.node(node)? {
            Node::Inode(inode) => Ok(inode),
            Node::Stub(_) => Err(Error::NotPermitted("an empty stand-in for a subvolume")),
        }
    }

    /// The inode in memory, read from the tree when it isn't there. `NotFound` without an item
    /// or without links.
    pub(in crate::fs) fn load(&self, root: &Arc<Root>, objectid: u64) -> Result<Arc<Inode>> {
        match self.load_from(root, objectid, || !root.is_dead())? {
            Some(inode) => Ok(inode),
            // Deleted, and perhaps handed over: nothing of it may come into memory then.
            None => self.load_dying(root.objectid, objectid),
        }
    }

    /// As [`Filesystem::load`]; `None` for an inode that isn't in memory unless `may_enter`. That is
    /// asked at the moment at which it would be there for others.
    pub(in crate::fs) fn load_from(
        &self,
        root: &Arc<Root>,
        objectid: u64,
        may_enter: impl Fn() -> bool,
    ) -> Result<Option<Arc<Inode>>> {
        let identity = Identity::Inode {
            subvol: root.objectid,
            objectid,
        };
        let read = || {
            let key = Key {
                objectid,
                kind: kind::INODE_ITEM,
                offset: 0,
            };
            let meta = self
                .ctx
                .get_with(root, &key, |bytes| {
                    InodeItem::read(bytes).map(InodeMeta::from_item)
                })?
                .flatten()
                .ok_or(Error::NotFound)?;
            if meta.nlink == 0 {
                return Err(Error::NotFound);
            }
            Inode::new(root.clone(), objectid, meta, &self.home)
        };
        self.home.table.get_or_read(identity, read, may_enter)
    }

    /// The root directory of a subvolume.
    pub(in crate::fs) fn load_root_dir(&self, subvol: u64) -> Result<Arc<Inode>> {
        let root = subvolume::open(&self.ctx, subvol)?;
        let inode = self.load(&root, ROOT_DIR_OBJECTID)?;
        inode.want_dir()?;
        Ok(inode)
    }

    /// What `stat` shows of an inode.
    pub(in crate::fs) fn attr_of(&self, inode: &Inode) -> Attr {
        let sectorsize = u64::from(self.ctx.sectorsize);
        let delayed_bytes = file::delayed_bytes(inode);
        let identity = inode.identity();
        let meta = inode.meta.lock();
        let in_sectors = |bytes: u64| round_up(bytes, sectorsize).unwrap_or(bytes);
        Attr {
            node: self.ids.node_of(identity),
            ino: self.ids.ino_of(identity),
            subvol: inode.root.objectid,
            objectid: inode.objectid,
            generation: meta.generation,
            kind: inode.kind,
            mode: meta.mode,
            nlink: if inode.is_dir() {
                meta.nlink.min(1)
            } else {
                meta.nlink
            },
            uid: meta.uid,
            gid: meta.gid,
            rdev: match inode.kind {
                FileKind::CharDevice | FileKind::BlockDevice => rdev_from_disk(meta.rdev),
                _ => 0,
            },
            size: meta.size,
            blocks: in_sectors(meta.nbytes).saturating_add(in_sectors(delayed_bytes)) / 512,
            blksize: self.ctx.sectorsize,
            atime: meta.atime,
            mtime: meta.mtime,
            ctime: meta.ctime,
            btime: meta.otime,
            flags: meta.flags,
        }
    }

    /// What `stat` shows of a stub: nothing of it is on disk.
    pub(in crate::fs) fn stub_attr(&self, stub: Identity) -> Attr {
        let (Identity::Stub { subvol, .. } | Identity::Inode { subvol, .. }) = stub;
        Attr {
            node: self.ids.node_of(stub),
            ino: self.ids.ino_of(stub),
            subvol,
            objectid: self.ids.ino_of(stub),
            generation: 0,
            kind: FileKind::Directory,
            mode: libc::S_IFDIR | 0o755,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            blocks: 0,
            blksize: self.ctx.sectorsize,
            atime: self.mounted_at,
            mtime: self.mounted_at,
            ctime: self.mounted_at,
            btime: self.mounted_at,
            flags: 0,
        }
    }

    /// Counts one more lookup by the kernel and shows the inode to it.
    pub(in crate::fs) fn hand_out(&self, inode: &Arc<Inode>) -> Attr {
        self.home.table.count_lookup(inode);
        let attr = self.attr_of(inode);
        if attr.nlink == 0 {
            // Whoever took its last link may not have seen this lookup.
            self.home.table.unlinked(inode);
        }
        attr
    }

    /// `Err` when nothing may be written: the mount, or this subvolume.
    pub(in crate::fs) fn want_writable(&self, root: &Root) -> Result<()> {
        self.want_writable_mount()?;
        subvolume::want_writable(root)
    }

    /// `Err` when nothing may be written anywhere.
    pub(in crate::fs) fn want_writable_mount(&self) -> Result<()> {
        match &self.read_only {
            Some(reason) => Err(Error::ReadOnly(reason.clone())),
            None => self.ctx.transactions.check(),
        }
    }

    /// Space for `items` item changes. Before joining, and with no lock but `names`: it may have
    /// to flush files and to commit to find the space.
    pub(in crate::fs) fn reserve(&self, items: u64, steal: Steal) -> Result<MetaReservation> {
        let space = &self.ctx.space;
        let bytes = space.item_bytes(items);
        self.without_commit(|| space.try_reserve_metadata(bytes, steal))
            .or_else(|_| self.with_room_for(steal, || space.reserve_metadata(bytes, steal)))
    }

    /// Space for the inode's item, under the same conditions; for [`Filesystem::mark_dirty`].
    pub(in crate::fs) fn ticket(&self, steal: Steal) -> Result<DirtyTicket> {
        self.without_commit(|| self.delayed.prepare_now(steal))
            .or_else(|_| self.with_room_for(steal, || self.delayed.prepare(steal)))
    }

    /// Space for the inode's item, to be handed to [`Filesystem::mark_dirty`] after the change.
    /// Before `meta` is locked and before joining. Flushes nothing, so that flushing may use it.
    pub(in crate::fs) fn prepare_dirty(&self, _inode: &Inode) -> Result<DirtyTicket> {
        self.delayed.prepare(Steal::No)
    }

    /// Like [`Filesystem::prepare_dirty`], for operations that free space.
    pub(in crate::fs) fn prepare_dirty_freeing(&self, _inode: &Inode) -> Result<DirtyTicket> {
        self.delayed.prepare(Steal::Yes)
    }

    /// Says that `meta`, the inode's own, has changed and must reach the tree with the next
    /// commit. When a tree edit belongs to the change, the caller still holds its handle.
    pub(in crate::fs) fn mark_dirty(
        &self,
        inode: &Arc<Inode>,
        meta: &mut InodeMeta,
        ticket: DirtyTicket,
    ) {
        self.delayed.mark(inode, meta, ticket);
    }

    /// Writes the inode's item if it waits for the commit, which has kept the space for it.
    pub(in crate::fs) fn write_waiting(&self, inode: &Inode) -> Result<()> {
        let waits = inode.meta.lock().dirty.is_some();
        if !waits {
            return Ok(());
        }
        self.with_trans(self.ctx.space.no_metadata(), |trans| {
            let mut meta = inode.meta.lock();
            match meta.dirty.is_some() {
                true => self.delayed.write_now(trans, inode, &mut meta),
                false => Ok(()),
            }
        })
    }

    /// Called at the end of an operation, without locks: writes some inode items when more wait
    /// than memory should hold until the next commit.
    pub(in crate::fs) fn help_writer(&self) {
        if !self.delayed.is_crowded() {
            return;
        }
        let written = self
            .reserve(1, Steal::Yes)
            .and_then(|reservation| self.with_trans(reservation, |_| Ok(())));
        if let Err(error) = written {
            log::debug!("writing inode items early: {error}");
        }
    }

    /// Joins and edits. An error leaves half an edit behind, so it aborts the transaction:
    /// whatever can fail ordinarily was checked before.
    pub(in crate::fs) fn with_trans<T>(
        &self,
        reservation: MetaReservation,
        edit: impl FnOnce(&TransHandle) -> Result<T>,
    ) -> Result<T> {
        let trans = self.ctx.transactions.join_reserved(reservation)?;
        let done = edit(&trans).map_err(|error| trans.abort(error));
        if done.is_ok() && self.delayed.is_crowded() {
            self.delayed
                .flush(&trans, 1024)
                .map_err(|error| trans.abort(error))?;
        }
        drop(trans);
        done
    }
}

/// A handle whose inode is gone, rather than a name that isn't there.
fn to_stale(error: Error) -> Error {
    match error {
        Error::NotFound => Error::Stale,
        other => other,
    }
}
