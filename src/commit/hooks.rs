//! What the layer above does for a commit.

use crate::error::Result;
use crate::transaction::TransHandle;

/// An edit that wants the trees to itself.
pub type LoneEdit<'a> = Box<dyn FnOnce(&TransHandle) -> Result<()> + 'a>;

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

    /// In the critical section, when everything that gathers in memory has reached the trees: the
    /// next edit that must see all of it and nobody beside it, as a snapshot does. Asked until
    /// there is none. The same rules; and whoever queued it waits for the end of a commit.
    fn next_lone_edit(&self) -> Option<LoneEdit<'_>> {
        None
    }
}
