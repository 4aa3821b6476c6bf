//! Nodes: key pointers in order, to addresses that can be.

use super::{CheckContext, Logical, Result};
use crate::error::Error;
use crate::ondisk::tree_block::{self, node, node_ptrs_max};

/// Checks the pointers of a block whose level is over 0.
pub(super) fn check(ctx: &CheckContext, at: Logical, block: &[u8]) -> Result<()> {
    let refuse = |slot, reason: String| Err(Error::corrupt_block(at, slot, reason));
    let (count, most) = (tree_block::nritems(block), node_ptrs_max(ctx.nodesize));
    if count == 0 || count > most {
        return refuse(None, format!("a node of {count} pointers, 1 to {most} fit"));
    }
    let mut previous = None;
    for slot in 0..count {
        let (key, (child, _)) = (node::key(block, slot), node::ptr(block, slot));
        if child.0 == 0 || !ctx.is_aligned(child.0) {
            let reason = format!("points to {child}, no address of a block");
            return refuse(Some(slot), reason);
        }
        if let Some(previous) = previous
            && previous >= key
        {
            return refuse(Some(slot), format!("key {key} after {previous}"));
        }
        previous = Some(key);
    }
    Ok(())
}
