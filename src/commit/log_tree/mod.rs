//! Log trees: what fsync made durable since the last commit, without a commit.
//!
//! Owns: the running transaction's logs in memory, where their blocks are, and how they reach the
//! disk. Never: which items an inode needs in a log, which is the layer above's business.
//!
//! One tree for each subvolume ([`tree`]) and one that names them; all of them together are
//! [`logs`]. [`sync`] writes what changed, and then a superblock that is the last commit's but for
//! `log_root`. Invariant: no block that a superblock on disk reaches is written over, and none of
//! the transaction's log blocks is anybody else's before its commit is durable.

mod logs;
mod sync;
mod tree;

pub use logs::InodeLog;
pub(super) use logs::Logs;
