//! A new subvolume that begins as another one's copy.
//!
//! Owns: what waits for a commit to be snapshotted, and what of the source is in it. Invariant:
//! the snapshot is taken where nobody has joined, after everything that gathers in memory has
//! reached the trees; so it holds every operation of the source that ended before it was asked
//! for, no half of another, and is durable when it is answered. Never: its cost depends on how
//! much the source holds.
//!
//! | step | under |
//! |---|---|
//! | everything that can refuse, and space | the directory's `names`, `subvolumes` shared |
//! | no more promises without space; content of the source reaches its tree | the same |
//! | nobody writes in place any more | the same |
//! | the copy, its items and its name | a commit's critical section, by whoever makes it |
//! | unlinked files that the copy holds are looked for | the same as before |
//! | and deleted | `subvolumes` shared |

use super::create::{NAME_ITEMS, NAME_PATHS};
use super::{open, uuid};
use crate::allocator::Steal;
use crate::btree::{InPlace, Root};
use crate::commit::LoneEdit;
use crate::commit::mkfs::random_uuid;
use crate::error::{Error, Result};
use crate::fs::access::Who;
use crate::fs::attr::Timestamp;
use crate::fs::dir;
use crate::fs::file;
use crate::fs::filesystem::Filesystem;
use crate::fs::inode::{Inode, to_disk};
use crate::fs::node_id::NodeId;
use crate::ondisk::{Key, ROOT_SUBVOL_RDONLY, RootItem, Timespec, Uuid, ids, kind};
use crate::sync::{Arc, Mutex, RwLockWriteGuard};
use crate::transaction::TransHandle;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

/// Proof that somebody could open the root directory of a subvolume, which a snapshot asks for
/// where the kernel takes a descriptor. Good until the end of the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSource {
    /// The subvolume.
    pub subvol: u64,
    /// What nobody can guess.
    pub proof: u64,
}

/// A snapshot that waits for a commit.
pub(super) struct Waiting {
    source: Arc<Root>,
    dir: Arc<Inode>,
    name: Vec<u8>,
    objectid: u64,
    uuid: Uuid,
    read_only: bool,
    /// The new tree, once it is made. It is durable when that commit is.
    made: Mutex<Option<Arc<Root>>>,
}

/// The snapshots that wait, and the key of the proofs.
pub(in crate::fs) struct Snapshots {
    queue: Mutex<VecDeque<Arc<Waiting>>>,
    secret: RandomState,
}

impl Snapshots {
    pub fn new() -> Self {
        Self {
            queue: Mutex::new(VecDeque::new()),
            secret: RandomState::new(),
        }
    }

    fn source(&self, subvol: u64) -> SnapshotSource {
        SnapshotSource {
            subvol,
            proof: self.secret.hash_one(subvol),
        }
    }
}

impl Filesystem {
    /// The subvolume whose root directory `node` is, as the source of a snapshot.
    pub fn snapshot_source(&self, node: NodeId) -> Result<SnapshotSource> {
        let subvol = self.want_subvolume(&*self.inode(node)?)?;
        Ok(self.snapshots.source(subvol))
    }

    /// Snapshots `source` as `name` in the directory `parent`; durable when this returns.
    pub fn snapshot(
        &self,
        who: &Who<'_>,
        source: SnapshotSource,
        parent: NodeId,
        name: &[u8],
        read_only: bool,
    ) -> Result<()> {
        if source != self.snapshots.source(source.subvol) {
            return Err(Error::NotPermitted("not a subvolume that you have open"));
        }
        let dir = self.inode(parent)?;
        let root = open(&self.ctx, source.subvol)?;
        if !who.owns(&*self.load_root_dir(source.subvol)?) {
            return Err(Error::NotPermitted("only its owner snapshots a subvolume"));
        }
        {
            let names = self.place_for_subvolume(who, &dir, name)?;
            let _no_delete = self.subvolumes.read();
            self.want_place(&dir)?;
            if root.is_dead() {
                return Err(Error::NotFound);
            }
            let snapshot = self.take_snapshot(&root, &dir, name, read_only)?;
            if let Err(error) = self.clean_snapshot(&snapshot, names) {
                let id = snapshot.objectid;
                log::warn!("subvolume {id}: unlinked files stay until the next mount: {error}");
            }
        }
        self.after_change();
        Ok(())
    }

    fn take_snapshot(
        &self,
        source: &Arc<Root>,
        dir: &Arc<Inode>,
        name: &[u8],
        read_only: bool,
    ) -> Result<Arc<Root>> {
        uuid::prepare(&self.ctx)?;
        let tree = self.ctx.roots.get(&self.ctx, ids::ROOT_TREE_OBJECTID)?;
        let uuid = random_uuid()?;
        // Kept until the commit is over, which uses it up.
        let _items = self.reserve(NAME_ITEMS + uuid::ITEMS + 2, Steal::No)?;
        let _references = self.reserve_references(source)?;
        let _name = self.reserve_copied_paths(&dir.root)?;
        let objectid = self.subvolume_number(&tree, dir)?;
        let _promises = source.bar_in_place(InPlace::Promise);
        // Content that waits for space would be missing, and find its old places shared.
        self.with_room(|| file::flush_into(self, source))?;
        let _writes = source.bar_in_place(InPlace::Write);
        self.commit_snapshot(&Arc::new(Waiting {
            source: source.clone(),
            dir: dir.clone(),
            name: name.to_vec(),
            objectid,
            uuid,
            read_only,
            made: Mutex::new(None),
        }))
    }

    /// Deletes what was unlinked and in use, which the commit had in its snapshot. Only what is there
    /// before anybody can come into it: what is unlinked in it later isn't ours to delete. `names` are
    /// those of its directory.
    fn clean_snapshot(&self, root: &Arc<Root>, names: RwLockWriteGuard<'_, ()>) -> Result<()> {
        let (linked, unlinked): (Vec<_>, Vec<_>) = self
            .orphans_of(root)?
            .into_iter()
            .partition(|orphan| orphan.size.is_some());
        for orphan in &linked {
            self.clean_orphan(root, orphan)?;
        }
        // Nobody gets the number of one that is half deleted.
        self.objectids.remember(&self.ctx, root)?;
        drop(names);
        unlinked
            .iter()
            .try_for_each(|orphan| self.clean_orphan(root, orphan))
    }

    /// Space for counting everything that the root node points to once more.
    fn reserve_references(&self, source: &Root) -> Result<crate::allocator::MetaReservation> {
        let space = &self.ctx.space;
        let bytes = space.item_update_bytes(self.ctx.root_fanout(source)?);
        self.with_room(|| space.reserve_metadata(bytes, Steal::No))
    }

    /// Space for what the name brings about where `tree` was snapshotted just before, by this snapshot
    /// or another of the same commit: it is in a tree then whose blocks are shared.
    fn reserve_copied_paths(&self, tree: &Root) -> Result<crate::allocator::MetaReservation> {
        let space = &self.ctx.space;
        let bytes = space.late_extents_bytes(NAME_PATHS * self.ctx.path_refs_max(tree));
        self.with_room(|| space.reserve_metadata(bytes, Steal::No))
    }

    /// Queues it, and commits until a commit has taken it.
    fn commit_snapshot(&self, waiting: &Arc<Waiting>) -> Result<Arc<Root>> {
        self.snapshots.queue.lock().push_back(waiting.clone());
        loop {
            // The commit under way may be past its snapshots, and is waited for all the same.
            if let Err(error) = self.engine.committer.commit_trees() {
                let mut queue = self.snapshots.queue.lock();
                queue.retain(|other| !Arc::ptr_eq(other, waiting));
                return Err(error);
            }
            if let Some(root) = waiting.made.lock().take() {
                return Ok(root);
            }
        }
    }

    /// The next snapshot, for a commit that is alone with the trees.
    pub(in crate::fs) fn next_snapshot(&self) -> Option<LoneEdit<'_>> {
        let waiting = self.snapshots.queue.lock().pop_front()?;
        Some(Box::new(move |trans| self.make_snapshot(trans, &waiting)))
    }

    fn make_snapshot(&self, trans: &TransHandle, waiting: &Waiting) -> Result<()> {
        let (now, transid) = (Timestamp::now(), trans.transid());
        // Of two snapshots with one number, the key says which came later.
        let key = Key::new(waiting.objectid, kind::ROOT_ITEM, transid.get());
        let describe = |item: &mut RootItem| {
            item.parent_uuid = item.uuid;
            item.uuid = waiting.uuid;
            item.otransid.set(transid.get());
            item.otime = to_disk(now);
            let flags = item.flags.get();
            if waiting.read_only {
                item.flags.set(flags | ROOT_SUBVOL_RDONLY);
                return;
            }
            item.flags.set(flags & !ROOT_SUBVOL_RDONLY);
            // What can be written isn't what was received any more.
            item.received_uuid = Uuid::default();
            item.stransid.set(0);
            item.rtransid.set(0);
            item.stime = Timespec::new(0, 0);
            item.rtime = Timespec::new(0, 0);
        };
        let root = self.ctx.copy_tree(trans, &waiting.source, key, describe)?;
        let item = *root.item();
        uuid::add(&self.ctx, trans, waiting.objectid, &item)?;
        let dir = &waiting.dir;
        // From here on the source is changed again, if that is where the name goes: the snapshot
        // doesn't hold its own.
        self.name_subvolume(trans, dir, &waiting.name, waiting.objectid)?;
        let mut meta = dir.meta.lock();
        meta.size = meta.size.saturating_add(dir::size_of(&waiting.name));
        meta.touch_content(now);
        self.delayed.write_now(trans, dir, &mut meta)?;
        *waiting.made.lock() = Some(root);
        Ok(())
    }
}
