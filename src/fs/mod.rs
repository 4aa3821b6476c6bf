//! The filesystem as programs see it: names, inodes, attributes and content, in POSIX's meaning.
//! Nothing of FUSE is in here; `fuse` translates.
//!
//! | what | where |
//! |---|---|
//! | mount, unmount, sync | `mount`, `options` |
//! | the shared steps of operations | [`filesystem`] |
//! | node ids and inode numbers | `node_id` |
//! | an inode in memory, and all of them | [`inode`], `inode_table` |
//! | inode items that wait for a commit | `delayed` |
//! | names: find, list, add, remove, move | `lookup`, `readdir`, `create`, `link`, `rename` |
//! | the items behind names | `dir`, `inode_ref` |
//! | subvolumes and snapshots | [`subvolume`] |
//! | inodes without names | `orphan` |
//! | what fsync had promised before a crash | `log_replay` |
//! | attributes | `attributes`, `xattr`, `acl`, `flags`, `ioctl` |
//! | who may, where the kernel doesn't ask | `access` |
//! | content | `data`, `symlink`, [`mod@file`] |
//! | fsync without a commit | `log` |
//! | how full it is, what it has met, giving back what is free | `statfs`, [`stats`], `trim` |
//!
//! Every operation goes the same way: from the node id to the inode; locks, parent before child;
//! everything that can refuse, reads and reservations included; join; edits and fields; end.
//! What fails after the first edit aborts the transaction, so nothing is ever half done on disk.

mod access;
mod acl;
mod attr;
mod attributes;
mod create;
mod data;
mod delayed;
mod dir;
pub mod file;
pub mod filesystem;
mod flags;
pub mod inode;
mod inode_ref;
mod inode_table;
mod ioctl;
mod link;
mod log;
mod log_replay;
mod lookup;
mod lookup_counts;
mod memory;
mod mount;
mod node_id;
mod options;
mod orphan;
mod readdir;
mod rename;
mod request;
mod room;
mod statfs;
pub mod stats;
pub mod subvolume;
mod symlink;
mod trim;
mod xattr;

pub use access::Who;
pub use attr::{Attr, FileKind, SetAttr, SetTime, Timestamp};
pub use delayed::DirtyTicket;
pub use filesystem::Filesystem;
pub use ioctl::{SubvolInfo, asks_for_rights, changes_attributes};
pub use memory::memory_max;
pub use node_id::NodeId;
pub use options::{AtimeMode, MountOptions};
pub use readdir::{DirEntry, DirHandle};
pub use request::{Caller, RenameFlags, Whence, WriteFlags, XattrMode};
pub use statfs::{FsInfo, StatFs};
pub use stats::Stats;
pub use subvolume::{Changed, IoctlAnswer, NestedPlace, SnapshotSource};

#[cfg(test)]
mod tests;
