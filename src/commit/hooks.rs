//! What the layer above does for a commit.

use crate::error::Result;
use crate::transaction::TransHandle;

/// The filesystem's part of a commit.
pub trait CommitHooks: Send + Sync {
    /// Before the commit starts, with no lock held: file data may be written and allocated
    /// here, in transactions of its own.
    fn before_commit(&self) -> Result<()> {
        Ok(())
    }

    /// In the critical section, and before it to find space: items that gather in memory (inodes,
    /// directory indexes) reach their trees. It must not reserve space, join, nor take a lock under
    /// which someone does.
    fn flush_delayed_items(&self, trans: &TransHandle) -> Result<()>;
}
