//! Reading a file.
//!
//! Owns: the merge of what waits in memory with what the tree and the disk hold. Invariant: the
//! caller holds `content` shared (or exclusive) from the lookup of an extent to the end of its
//! I/O, so the extent isn't dropped, and its space not reused, in between.

use super::checksums::{read_checked, read_unchecked};
use super::extents::{Segment, Source, compressed_unsupported, segments_in};
use crate::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::inode::Inode;
use crate::ondisk::INODE_NODATASUM;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use crate::units::{Logical, round_down, round_up};
use std::ops::Range;

/// Fills `buf` from `offset`. Returns how many bytes there were before the end of the file.
pub fn read(fs: &Filesystem, inode: &Arc<Inode>, offset: u64, buf: &mut [u8]) -> Result<usize> {
    let _steady = inode.content.read();
    let (size, flags) = {
        let meta = inode.meta.lock();
        (meta.size, meta.flags)
    };
    if offset >= size {
        return Ok(0);
    }
    let len = buf
        .len()
        .min(usize::try_from(size - offset).unwrap_or(usize::MAX));
    read_merged(fs, inode, offset, &mut buf[..len], flags)?;
    Ok(len)
}

/// Reads without regard to the file's size. The caller holds `content`.
pub(super) fn read_merged(
    fs: &Filesystem,
    inode: &Inode,
    offset: u64,
    buf: &mut [u8],
    flags: u64,
) -> Result<()> {
    // Memory before disk: what a flush moves from here to there is seen in one of the two.
    let gaps = inode.data.read_delayed(offset, buf);
    for gap in gaps {
        let part = (gap.start - offset) as usize..(gap.end - offset) as usize;
        read_stored(fs, inode, gap, &mut buf[part], flags)?;
    }
    Ok(())
}

/// Reads a range from tree and disk alone.
fn read_stored(
    fs: &Filesystem,
    inode: &Inode,
    range: Range<u64>,
    buf: &mut [u8],
    flags: u64,
) -> Result<()> {
    for Segment { file, source } in segments_in(&fs.ctx, &inode.root, inode.objectid, &range)? {
        let out = &mut buf[(file.start - range.start) as usize..(file.end - range.start) as usize];
        match source {
            Source::Hole | Source::Prealloc(_) => out.fill(0),
            Source::Inline(data) => {
                let have = data.len().min(out.len());
                out[..have].copy_from_slice(&data[..have]);
                out[have..].fill(0);
            }
            Source::Disk(at) => read_disk(fs, at, out, flags)?,
            Source::Compressed(compression) => return Err(refuse(fs, inode, compression)),
        }
    }
    Ok(())
}

/// Programs see a bare `EOPNOTSUPP`, so the log says once a mount what it means and what to do.
fn refuse(fs: &Filesystem, inode: &Inode, compression: u8) -> Error {
    let error = compressed_unsupported(compression);
    // Relaxed: at worst two threads say it.
    if !fs.told_of_compression.swap(true, Ordering::Relaxed) {
        log::info!(
            "inode {} of subvolume {}: {error}; other compressed files of this mount aren't logged",
            inode.objectid,
            inode.root.objectid
        );
    }
    error
}

/// Reads bytes at any address; only whole sectors can be verified.
fn read_disk(fs: &Filesystem, at: Logical, out: &mut [u8], flags: u64) -> Result<()> {
    let sectorsize = u64::from(fs.ctx.sectorsize);
    let first = round_down(at.get(), sectorsize);
    let end = at.get().saturating_add(out.len() as u64);
    let last = round_up(end, sectorsize).unwrap_or(end);
    let sectors = |buf: &mut [u8]| match flags & INODE_NODATASUM != 0 {
        true => read_unchecked(&fs.volume, Logical(first), buf),
        false => read_checked(&fs.volume, &fs.engine.csums, Logical(first), buf),
    };
    if (first, last) == (at.get(), end) {
        return sectors(out);
    }
    let mut whole = vec![0; (last - first) as usize];
    sectors(&mut whole)?;
    let skip = (at.get() - first) as usize;
    out.copy_from_slice(&whole[skip..skip + out.len()]);
    Ok(())
}
