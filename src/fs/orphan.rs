//! Inodes without names: their items in the tree and their end.
//!
//! Owns: `ORPHAN_ITEM`s, the queue of inodes that nobody uses any more, and the deletion of
//! their items in transactions of bounded size. Invariant: an inode without links has an orphan
//! item from the transaction that took its last link until the one that takes its inode item, so
//! a crash at any time leaves nothing behind that the next writable mount doesn't find.

use super::filesystem::Filesystem;
use super::node_id::Identity;
use super::{file, subvolume};
use crate::allocator::Steal;
use crate::btree::{Root, TreeContext};
use crate::error::{Error, Result};
use crate::ondisk::{InodeItem, Key, ids, kind};
use crate::sync::{Arc, Condvar, Mutex};
use crate::transaction::TransHandle;
use std::collections::VecDeque;
use std::time::Duration;

fn orphan_key(objectid: u64) -> Key {
    Key::new(ids::ORPHAN_OBJECTID, kind::ORPHAN_ITEM, objectid)
}

/// Writes down that the inode is to be deleted.
pub(in crate::fs) fn add(
    ctx: &TreeContext,
    trans: &TransHandle,
    root: &Arc<Root>,
    objectid: u64,
) -> Result<()> {
    match ctx.insert(trans, root, &orphan_key(objectid), &[]) {
        Err(Error::Exists) => Ok(()),
        done => done,
    }
}

/// Takes that back.
pub(in crate::fs) fn remove(
    ctx: &TreeContext,
    trans: &TransHandle,
    root: &Arc<Root>,
    objectid: u64,
) -> Result<()> {
    ctx.delete(trans, root, &orphan_key(objectid)).map(drop)
}

/// An inode whose items are to be deleted.
pub(in crate::fs) struct Eviction {
    root: Arc<Root>,
    objectid: u64,
}

/// The queue between the last user of an unlinked inode and the cleaner.
pub(in crate::fs) struct Evictions {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Eviction>,
    /// The trees of those that are taken out and not finished.
    running: Vec<u64>,
    stopped: bool,
}

impl Evictions {
    pub fn new() -> Self {
        Self {
            queue: Mutex::new(Queue::default()),
            changed: Condvar::new(),
        }
    }

    /// Somebody dropped an unlinked inode.
    pub fn push(&self, root: Arc<Root>, objectid: u64) {
        self.queue
            .lock()
            .waiting
            .push_back(Eviction { root, objectid });
        self.changed.notify_one();
    }

    /// Waits up to `patience` for work; `None` when there is none, or no more.
    fn take(&self, patience: Duration) -> Option<Eviction> {
        let mut queue = self.queue.lock();
        if queue.waiting.is_empty() && !queue.stopped && !patience.is_zero() {
            self.changed.wait_for(&mut queue, patience);
        }
        let next = queue.waiting.pop_front()?;
        queue.running.push(next.root.objectid);
        Some(next)
    }

    /// The end of one of the tree `subvol` that was taken; `again` puts it back.
    fn done(&self, subvol: u64, again: Option<Eviction>) {
        let mut queue = self.queue.lock();
        if let Some(at) = queue.running.iter().position(|id| *id == subvol) {
            queue.running.swap_remove(at);
        }
        queue.waiting.extend(again);
        drop(queue);
        self.changed.notify_all();
    }

    /// Waits a while, or until there is something new.
    pub fn pause(&self, patience: Duration) {
        let mut queue = self.queue.lock();
        if !queue.stopped {
            self.changed.wait_for(&mut queue, patience);
        }
    }

    /// Waits until the ones that others took are finished.
    fn wait_for_running(&self) {
        let mut queue = self.queue.lock();
        while !queue.running.is_empty() {
            self.changed.wait(&mut queue);
        }
    }

    /// The cleaner's loop ends when it finds no more work.
    pub fn stop(&self) {
        self.queue.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Whether [`Evictions::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.queue.lock().stopped
    }

    /// Whether somebody edits the tree `subvol` for one. Those that wait don't count: they leave
    /// deleted trees alone.
    pub fn edits(&self, subvol: u64) -> bool {
        self.queue.lock().running.contains(&subvol)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        let queue = self.queue.lock();
        queue.waiting.len() + queue.running.len()
    }
}

/// An inode with an orphan item.
pub(in crate::fs) struct Orphan {
    objectid: u64,
    /// Of one that has links: where it is to be cut.
    pub size: Option<u64>,
}

/// An unlink that leaves more than this waiting deletes one inode by itself.
const BACKLOG_MAX: usize = 4096;
/// Items of an inode that one transaction deletes at most.
const ITEMS_AT_ONCE: usize = 64;
/// The same on a full filesystem: each may be most of a leaf.
const ITEMS_AT_ONCE_WHEN_FULL: usize = 4;

impl Filesystem {
    /// Deletes the items of one unlinked inode, if one waits. Returns whether one did.
    pub(in crate::fs) fn evict_one(&self, patience: Duration) -> Result<bool> {
        let Some(eviction) = self.home.evictions.take(patience) else {
            return Ok(false);
        };
        let subvol = eviction.root.objectid;
        let done = self.evict(&eviction.root, eviction.objectid);
        // Space may come; any other failure is left to the next mount, which finds the orphan.
        let again = matches!(done, Err(Error::NoSpace)).then_some(eviction);
        self.home.evictions.done(subvol, again);
        done.map(|()| true)
    }

    /// Deletes every unlinked inode that nobody uses.
    pub fn clean(&self) -> Result<()> {
        while self.evict_one(Duration::ZERO)? {}
        Ok(())
    }

    /// Deletes what the cleaner has not come to yet, since its space is needed. False when there
    /// was nothing. The caller holds no transaction handle.
    pub(in crate::fs) fn clean_for_space(&self) -> bool {
        if self.home.evictions.len() == 0 {
            return false;
        }
        let done = self.clean();
        self.home.evictions.wait_for_running();
        done.is_ok()
    }

    /// Called at the end of an operation, without locks: helps a cleaner that can't keep up.
    pub(in crate::fs) fn help_cleaner(&self) {
        if self.home.evictions.len() > BACKLOG_MAX
            && let Err(error) = self.evict_one(Duration::ZERO)
        {
            log::warn!("deleting an unlinked inode failed, the next mount tries again: {error}");
        }
    }

    fn evict(&self, root: &Arc<Root>, objectid: u64) -> Result<()> {
        // A handle may have brought it back to life between the drop and now.
        let identity = Identity::Inode {
            subvol: root.objectid,
            objectid,
        };
        if self.home.table.is_live(identity) || root.is_dead() {
            return Ok(());
        }
        // The last commit may have it: a log can't say that its number is another inode's now.
        self.objectids.remember(&self.ctx, root)?;
        let item = Key::new(objectid, kind::INODE_ITEM, 0);
        let mode = self
            .ctx
            .get_with(root, &item, |bytes| {
                InodeItem::read(bytes).map(|item| item.mode.get())
            })?
            .flatten();
        if mode.is_some_and(|mode| mode & libc::S_IFMT == libc::S_IFREG) {
            file::drop_items_from(self, root, objectid, 0)?;
        }
        // The inode item has the lowest key: the rest goes first, from the end, in pieces.
        let mut most = ITEMS_AT_ONCE;
        loop {
            let last = Key::new(objectid, u8::MAX, u64::MAX);
            let mut cursor = self.ctx.search_back(root, &last)?;
            let mut low = None;
            let mut count = 0;
            while let Some(key) = cursor.key() {
                if key.objectid != objectid || key == item || count == most {
                    break;
                }
                low = Some(key);
                count += 1;
                cursor.prev()?;
            }
            let is_last = count < most;
            // Not by `reserve`: it would wait for the evictions, and this is one.
            let bytes = self.ctx.space.item_bytes(count as u64 + 2);
            let (reservation, roomy) = self.ctx.space.reserve_freeing(bytes, Steal::Yes)?;
            if !roomy && count > ITEMS_AT_ONCE_WHEN_FULL {
                most = ITEMS_AT_ONCE_WHEN_FULL;
                continue;
            }
            self.with_trans(reservation, |trans| {
                if let Some(low) = low {
                    self.ctx.delete_range(trans, root, low..=last)?;
                }
                if is_last {
                    self.ctx.delete(trans, root, &item)?;
                    remove(&self.ctx, trans, root, objectid)?;
                }
                Ok(())
            })?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Looks through the orphan items of a subvolume, as the last mount left them: inodes
    /// without links are deleted, interrupted truncates are completed.
    fn clean_orphans(&self, root: &Arc<Root>) -> Result<usize> {
        let orphans = self.orphans_of(root)?;
        orphans
            .iter()
            .try_for_each(|orphan| self.clean_orphan(root, orphan))?;
        Ok(orphans.len())
    }

    /// The inodes with an orphan item, but for those that were unlinked since the mount and are
    /// still in use.
    pub(in crate::fs) fn orphans_of(&self, root: &Arc<Root>) -> Result<Vec<Orphan>> {
        let mut found = Vec::new();
        let mut from = orphan_key(0);
        loop {
            let cursor = self.ctx.search(root, &from)?;
            let key = cursor.key().filter(|key| {
                (key.objectid, key.kind) == (ids::ORPHAN_OBJECTID, kind::ORPHAN_ITEM)
            });
            drop(cursor);
            let Some(key) = key else { return Ok(found) };
            let objectid = key.offset;
            let identity = Identity::Inode {
                subvol: root.objectid,
                objectid,
            };
            if !self.home.table.is_live(identity) {
                let item = Key::new(objectid, kind::INODE_ITEM, 0);
                let size = self.ctx.get_with(root, &item, |bytes| {
                    let item = InodeItem::read(bytes)?;
                    (item.nlink.get() > 0).then(|| item.size.get())
                })?;
                let size = size.flatten();
                found.push(Orphan { objectid, size });
            }
            match key.next() {
                Some(next) => from = next,
                None => return Ok(found),
            }
        }
    }

    /// Deletes an orphan of that tree, or completes its truncation. The caller sees to it that nobody
    /// else does.
    pub(in crate::fs) fn clean_orphan(&self, root: &Arc<Root>, orphan: &Orphan) -> Result<()> {
        let objectid = orphan.objectid;
        let Some(size) = orphan.size else {
            return self.evict(root, objectid);
        };
        file::drop_items_from(self, root, objectid, size)?;
        let reservation = self.reserve(1, Steal::Yes)?;
        self.with_trans(reservation, |trans| {
            remove(&self.ctx, trans, root, objectid)
        })
    }

    /// [`Filesystem::clean_orphans`] for every subvolume. One that can't be read is skipped with
    /// a word in the log.
    pub(in crate::fs) fn clean_all_orphans(&self) -> Result<()> {
        let tree = self.ctx.roots.get(&self.ctx, ids::ROOT_TREE_OBJECTID)?;
        let mut from = Key::new(ids::FS_TREE_OBJECTID, kind::ROOT_ITEM, 0);
        loop {
            let cursor = self.ctx.search(&tree, &from)?;
            let Some(key) = cursor.key() else {
                return Ok(());
            };
            let Some(next) = key.next() else {
                return Ok(());
            };
            from = next;
            if key.kind != kind::ROOT_ITEM {
                continue;
            }
            let done = match subvolume::open(&self.ctx, key.objectid) {
                Ok(root) => self.clean_orphans(&root),
                Err(Error::NotFound) => continue,
                Err(error) => Err(error),
            };
            match done {
                Ok(0) => {}
                Ok(count) => log::info!("subvolume {}: {count} orphans cleaned", key.objectid),
                Err(error @ (Error::Aborted(_) | Error::ReadOnly(_))) => return Err(error),
                Err(error) => log::warn!("subvolume {}: orphans stay: {error}", key.objectid),
            }
        }
    }
}
