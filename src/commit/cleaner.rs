//! Deleted subvolumes give back what they reference, a step at a time.
//!
//! Owns: which trees are dead, and how far each has been dropped. A dead tree has an ORPHAN_ITEM
//! in the root tree and a root item with no references; the place that the walk has reached is
//! in that item, so a crash costs at most one step.

use super::committer::Committer;
use crate::allocator::Steal;
use crate::btree::TreeDrop;
use crate::error::{Error, Result};
use crate::ondisk::{Key, ids, kind};
use crate::sync::Mutex;
use std::collections::VecDeque;

/// Blocks dropped in one transaction handle: some milliseconds.
const STEP_BLOCKS: usize = 64;

/// Trees waiting to be dropped.
#[derive(Default)]
pub(super) struct Cleaner {
    queue: Mutex<VecDeque<u64>>,
    /// The walk under way. Its lock makes steps take turns.
    current: Mutex<Option<TreeDrop>>,
}

impl Committer {
    /// Finds the trees that were deleted but not dropped yet.
    pub(super) fn find_dead_roots(&self) -> Result<()> {
        let first = Key::new(ids::ORPHAN_OBJECTID, kind::ORPHAN_ITEM, 0);
        let mut cursor = self.ctx.search(&self.named.root, &first)?;
        while let Some(key) = cursor.key() {
            if (key.objectid, key.kind) != (ids::ORPHAN_OBJECTID, kind::ORPHAN_ITEM) {
                break;
            }
            // Other orphans of the root tree are files of the old free space cache.
            if ids::is_subvolume(key.offset) {
                self.add_dead_root(key.offset);
            }
            if !cursor.next()? {
                break;
            }
        }
        Ok(())
    }

    /// A tree was deleted, which its ORPHAN_ITEM and its root item say, and nobody uses it any
    /// more: nothing reads it, and nothing edits it.
    pub fn add_dead_root(&self, objectid: u64) {
        self.cleaner.queue.lock().push_back(objectid);
        self.ring_for_cleaning();
    }

    /// One step of dropping; true if there is more to do.
    pub fn clean_step(&self) -> Result<bool> {
        if self.read_only.is_some() {
            return Ok(false);
        }
        let mut current = self.cleaner.current.lock();
        if current.is_none() {
            let Some(objectid) = self.cleaner.queue.lock().pop_front() else {
                return Ok(false);
            };
            *current = self.begin_drop(objectid)?;
        }
        let Some(drop) = &mut *current else {
            return Ok(true);
        };
        let space = &self.ctx.space;
        let (reservation, roomy) = space.reserve_freeing(space.item_bytes(4), Steal::Last)?;
        // A leaf may name hundreds of extents.
        let blocks_max = if roomy { STEP_BLOCKS } else { 1 };
        let trans = self.ctx.transactions.join_reserved(reservation)?;
        let root = drop.root().clone();
        if drop.step(&self.ctx, &trans, blocks_max)? {
            let done = (|| {
                self.ctx.delete(&trans, &self.named.root, &root.key)?;
                self.ctx
                    .delete(&trans, &self.named.root, &orphan_key(root.objectid))
            })();
            done.map_err(|error| trans.abort(error))?;
            self.ctx.roots.remove(root.objectid);
            *current = None;
            log::info!("subvolume {} is gone", root.objectid);
        } else if let Some((key, level)) = drop.progress() {
            let mut item = root.item();
            item.drop_progress = key.into();
            item.drop_level = level;
            trans.transaction().add_dirty_root(root.objectid);
        }
        Ok(true)
    }

    fn begin_drop(&self, objectid: u64) -> Result<Option<TreeDrop>> {
        match self.ctx.roots.get(&self.ctx, objectid) {
            Ok(root) if root.item().refs.get() == 0 => Ok(Some(TreeDrop::new(root))),
            // An orphan item of a living tree means nothing.
            Ok(_) => Ok(None),
            Err(Error::NotFound) => {
                let space = &self.ctx.space;
                let reservation = space.reserve_metadata(space.item_bytes(1), Steal::Last)?;
                let trans = self.ctx.transactions.join_reserved(reservation)?;
                self.ctx
                    .delete(&trans, &self.named.root, &orphan_key(objectid))?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn orphan_key(objectid: u64) -> Key {
    Key::new(ids::ORPHAN_OBJECTID, kind::ORPHAN_ITEM, objectid)
}
