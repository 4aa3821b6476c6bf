//! SEEK_DATA and SEEK_HOLE.
//!
//! Owns: the kernel's answers. Holes, preallocated ranges and everything behind the last item
//! are holes; content that waits in memory is data.

use super::extents::{ExtentWalk, Source};
use crate::error::{Error, Result};
use crate::fs::Whence;
use crate::fs::filesystem::Filesystem;
use crate::fs::inode::Inode;
use crate::ondisk::INODE_PREALLOC;
use crate::sync::Arc;
use std::ops::Range;

/// The first offset at or behind `offset` with content (or without).
///
/// # Errors
/// [`Error::NoSuchRange`] at or behind the end of the file, or when no content follows.
pub fn seek(fs: &Filesystem, inode: &Arc<Inode>, offset: u64, whence: Whence) -> Result<u64> {
    let _steady = inode.content.read();
    let (size, is_dense) = {
        let meta = inode.meta.lock();
        (
            meta.size,
            meta.nbytes == meta.size && meta.flags & INODE_PREALLOC == 0,
        )
    };
    if offset >= size {
        return Err(Error::NoSuchRange);
    }
    // The kernel takes such a file for one without holes, also where preallocated extents were
    // cloned into it; programs have seen that answer.
    if is_dense && whence == Whence::Hole {
        return Ok(size);
    }
    let mut here = offset;
    let mut walk = ExtentWalk::starting_at(&fs.ctx, &inode.root, inode.objectid, offset)?;
    while here < size {
        let record = walk.next()?;
        let start = record
            .as_ref()
            .map_or(size, |record| record.file.start.clamp(here, size));
        if let Some(found) = look(inode, here..start, false, whence) {
            return Ok(found);
        }
        here = start;
        let Some(record) = record else { break };
        let end = record.file.end.clamp(here, size);
        if here < end {
            let source = record.segment(&(here..end)).source;
            let stored = !matches!(source, Source::Hole | Source::Prealloc(_));
            if let Some(found) = look(inode, here..end, stored, whence) {
                return Ok(found);
            }
        }
        here = end;
    }
    match whence {
        Whence::Data => Err(Error::NoSuchRange),
        Whence::Hole => Ok(size),
    }
}

/// Looks for data or a hole in a range that the tree holds content for, or doesn't.
fn look(inode: &Inode, range: Range<u64>, stored: bool, whence: Whence) -> Option<u64> {
    if range.start >= range.end {
        return None;
    }
    match (whence, stored) {
        (Whence::Data, true) => Some(range.start),
        (Whence::Hole, true) => None,
        (Whence::Data, false) => {
            let held = inode.data.state.lock().next_held(range.start);
            held.filter(|&at| at < range.end)
        }
        (Whence::Hole, false) => {
            let gap = inode.data.state.lock().next_gap(range.start);
            (gap < range.end).then_some(gap)
        }
    }
}
