//! Transactions: who may edit, in which generation, and what a commit has to do afterwards.
//!
//! Owns: joining and ending ([`TransHandle`]), the phases of a commit ([`CommitGuard`]), and what
//! a transaction gathers on the way: delayed refs, dirty tree blocks, dirty roots. Never: trees, items or I/O; `btree` fills these lists and `commit` drains them.
//!
//! `docs/transactions.md` tells the whole story with the argument why a crash is harmless.

mod delayed_refs;
mod dirty;
mod head;
mod join;
mod phase;
mod running;
mod unlogged;

pub use delayed_refs::{DelayedRefs, Dropped, Pending, RunningHead};
pub use dirty::DirtyBlocks;
pub use head::{ExtentOp, RefHead, RefKind};
pub use join::{TransHandle, TransactionManager};
pub use phase::{CommitGuard, Phase};
pub use running::Transaction;
pub use unlogged::Unlogged;
