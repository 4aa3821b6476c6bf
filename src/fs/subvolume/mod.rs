//! Subvolumes: made, snapshotted, deleted, found.
//!
//! | what | where |
//! |---|---|
//! | the tree, and numbers in it | `tree` |
//! | its name in another subvolume | `entry` |
//! | its uuid's way back to it | `uuid` |
//! | making an empty one | `create` |
//! | making one that begins as another | `snapshot` |
//! | deleting one, and who still uses it then | `delete`, `dying` |
//! | read-only and back | `property` |
//! | listing | `list` |
//! | all of it through ioctls | `ioctl` |

mod create;
mod delete;
mod dying;
mod entry;
pub mod ioctl;
mod list;
mod property;
mod snapshot;
mod tree;
mod uuid;

pub use ioctl::{Changed, IoctlAnswer};
pub use list::NestedPlace;
pub use snapshot::SnapshotSource;

pub(in crate::fs) use dying::Dying;
pub(in crate::fs) use entry::{
    ParentEntry, add_entry, entry_in, parent_entry, removable_entry, remove_entry,
};
pub(in crate::fs) use snapshot::Snapshots;
pub(in crate::fs) use tree::{ObjectIds, open, want_writable};

#[cfg(test)]
mod tests;
