//! A file's content: from programs' bytes to extents and back.
//!
//! Writes gather in memory ([`mod@write`], [`data`]), bounded over the mount ([`queue`]); a flush
//! ([`flush`]) gives them extents. Reads merge both ([`mod@read`]). Items change in
//! [`extent_edit`] only, copies share extents ([`share`]). Never: names, times or permissions; those are the namespace's.
//!
//! Lock order: the inode's `names`, `data.flush`, `content`, `meta`, `data.state`; then tree
//! locks. Nobody comes here with `content` or `meta` locked, or with a transaction handle.

mod checksums;
mod copy;
mod data;
mod extent_edit;
mod extents;
mod fallocate;
mod flush;
mod log;
mod nocow;
mod queue;
mod ranges;
mod read;
mod seek;
mod share;
mod shrink;
mod truncate;
mod write;

#[cfg(test)]
mod tests;

pub use copy::copy_file_range;
pub use data::{FileData, delayed_bytes, take_error};
pub use fallocate::fallocate;
pub use flush::flush_inode;
pub use log::{hold_extents, logged_content};
pub use queue::{DelayedData, INODES_MAX as DELAYED_INODES_MAX, flush_all, flush_into};
pub use read::read;
pub use seek::seek;
pub use shrink::drop_items_from;
pub use truncate::{discard_delayed, truncate};
pub use write::write;

pub(in crate::fs) use extent_edit::ExtentEdit;
pub(in crate::fs) use extents::{Body, ExtentRecord, records_in};
pub(in crate::fs) use nocow::data_ref;
pub(in crate::fs) use shrink::next_tail;
