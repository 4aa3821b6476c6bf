//! What every tree function needs.
//!
//! Owns: nothing but the handles; each layer above shares one [`TreeContext`].

use super::roots::Roots;
use crate::allocator::Space;
use crate::extent_buffer::Cache;
use crate::ondisk::check::CheckContext;
use crate::sync::Arc;
use crate::transaction::TransactionManager;

/// The trees of one filesystem and what they live on.
pub struct TreeContext {
    /// Tree blocks in memory.
    pub cache: Cache,
    /// Where new tree blocks come from.
    pub space: Arc<Space>,
    /// Who may edit.
    pub transactions: TransactionManager,
    /// The trees in use.
    pub roots: Roots,
    /// What a block of this filesystem must look like.
    pub check: CheckContext,
    /// Bytes in a tree block.
    pub nodesize: u32,
    /// Bytes in a data block.
    pub sectorsize: u32,
}

impl TreeContext {
    /// A context with no trees open yet: the caller registers root and chunk tree first.
    pub fn new(
        cache: Cache,
        space: Arc<Space>,
        transactions: TransactionManager,
        check: CheckContext,
    ) -> Arc<Self> {
        let (nodesize, sectorsize) = (check.nodesize, check.sectorsize);
        Arc::new(Self {
            cache,
            space,
            transactions,
            roots: Roots::default(),
            check,
            nodesize,
            sectorsize,
        })
    }
}
