//! Opening a filesystem, and making its transactions durable.
//!
//! Owns: what is *about* the trees rather than in them: extent references, free space, block
//! groups, chunks, checksums, root items and the superblock. Never: files and directories.
//!
//! [`mod@open`] reads an image into an [`Engine`]. [`Committer`] drives a commit: delayed refs to a
//! fixpoint, then blocks, flush, superblocks, flush. Between commits it writes the log trees of fsyncs
//! (`log_tree`). docs/transactions.md has the argument why a crash at any moment is harmless.

mod background;
mod block_groups;
mod cleaner;
mod committer;
mod csums;
mod engine;
mod extent_record;
mod extent_tree;
mod free_space_delta;
mod free_space_items;
mod free_space_tree;
mod hooks;
mod keyed_refs;
mod log_tree;
pub mod mkfs;
mod open;
mod open_space;
mod quota;
mod roots;
mod states;
#[cfg(test)]
mod tests;
mod unreplayed;

pub use committer::{CommitCounters, Committer};
pub use csums::{CsumRun, Csums};
pub use engine::{Engine, OpenOptions};
pub use hooks::{CommitHooks, LoneEdit};
pub use log_tree::InodeLog;
pub use open::open;
pub use unreplayed::{SubvolumeLog, UnreplayedLog};
