//! Quota numbers that aren't kept: the first commit says so, and the kernel counts again.

use super::committer::Committer;
use crate::error::{Error, Result};
use crate::ondisk::{
    Key, QGROUP_STATUS_FLAG_INCONSISTENT, QGROUP_STATUS_FLAG_ON, QgroupStatusItem, ids, kind,
};
use crate::sync::atomic::Ordering;
use crate::transaction::TransHandle;

impl Committer {
    /// Marks the numbers of quota groups as inconsistent, once.
    pub(super) fn mark_quotas(&self, trans: &TransHandle) -> Result<()> {
        // Relaxed: commits take turns.
        if !self.quota_unmarked.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let root = match self.ctx.roots.get(&self.ctx, ids::QUOTA_TREE_OBJECTID) {
            Ok(root) => root,
            Err(Error::NotFound) => return Ok(()),
            Err(error) => return Err(error),
        };
        let key = Key::new(0, kind::QGROUP_STATUS, 0);
        let mut marked = false;
        self.ctx.modify(trans, &root, &key, |data| {
            let Some(status) = QgroupStatusItem::read_mut(data) else {
                return;
            };
            let flags = status.flags.get();
            marked = flags & QGROUP_STATUS_FLAG_ON != 0;
            if marked {
                status.flags.set(flags | QGROUP_STATUS_FLAG_INCONSISTENT);
            }
        })?;
        if marked {
            log::warn!(
                "quotas are on: their numbers are marked as inconsistent (btrfs quota rescan)"
            );
        }
        Ok(())
    }
}
