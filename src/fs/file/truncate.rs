//! Setting a file's size.
//!
//! Owns: both directions. Growing makes a hole; the sector with the old end must read as zeros
//! behind it, and an inline extent becomes a regular one. Shrinking drops from the end, over
//! several transactions if there is much; the bytes behind the new end in its own sector are
//! cleaned when the file grows over them again, never shown before.

use super::data::FileData;
use super::extent_edit::ExtentEdit;
use super::extents::{Body, extent_key, records_in};
use super::flush::count_bytes;
use super::shrink::{items_at_once, next_tail, tail_items};
use super::write::{FILE_SIZE_MAX, Promise, Span, gather, promise_edges};
use crate::allocator::{MetaReservation, Steal};
use crate::error::{Error, Result};
use crate::fs::DirtyTicket;
use crate::fs::filesystem::Filesystem;
use crate::fs::inode::Inode;
use crate::ondisk::{COMPRESS_NONE, FileExtentHead, INODE_PREALLOC};
use crate::sync::Arc;
use crate::transaction::TransHandle;
use crate::units::{round_down, round_up};

/// Makes a file `size` bytes long.
pub fn truncate(fs: &Filesystem, inode: &Arc<Inode>, size: u64) -> Result<()> {
    if size > FILE_SIZE_MAX {
        return Err(Error::FileTooBig);
    }
    let mut promise = None;
    loop {
        let one = inode.data.flush.lock();
        // Only under `flush`: another truncation can't come between the look and the change.
        if size <= inode.meta.lock().size {
            return shrink(fs, inode, size);
        }
        match promise.take() {
            Some(promise) => return grow(fs, inode, size, promise),
            None => drop(one),
        }
        promise = Some(promise_growth(fs, inode)?);
    }
}

/// Whether a truncation to `size` would find nothing to do.
fn is_done(inode: &Inode, size: u64) -> bool {
    let (is_empty, is_same) = {
        let meta = inode.meta.lock();
        let sizes = (size, meta.size, meta.disk_size, meta.nbytes);
        // Preallocated space behind the end would go.
        let beyond = meta.flags & INODE_PREALLOC != 0;
        (sizes == (0, 0, 0, 0), size == meta.size && !beyond)
    };
    is_same || is_empty && inode.data.state.lock().dirty.is_empty()
}

/// What [`grow`] takes before `flush` is locked: the sector with the old end may have to change.
pub(super) fn promise_growth(fs: &Filesystem, inode: &Arc<Inode>) -> Result<Promise> {
    let size = inode.meta.lock().size;
    promise_edges(fs, inode, &[size])
}

/// The caller holds `flush`.
pub(super) fn grow(fs: &Filesystem, inode: &Arc<Inode>, size: u64, promise: Promise) -> Result<()> {
    let ticket = fs.prepare_dirty(inode)?;
    // Not by `Filesystem::reserve`: that flushes files to find room, and `flush` is locked.
    let bytes = fs.ctx.space.item_bytes(4);
    let reservation = fs.ctx.space.reserve_metadata(bytes, Steal::No)?;
    let _alone = inode.content.write();
    let (old_size, flags) = {
        let meta = inode.meta.lock();
        (meta.size, meta.flags)
    };
    if old_size >= size {
        return Ok(());
    }
    let mut span = Span {
        fs,
        inode,
        size: old_size,
        flags,
        parts: Vec::new(),
    };
    // Everything behind the old end changes, its own sector too.
    span.settle_old_end(u64::MAX, u64::MAX)?;
    let parts = span.parts;
    promise.want_for(fs, inode, &parts)?;
    gather(
        fs,
        inode,
        parts.iter().map(|(at, bytes)| (*at, &bytes[..])),
        promise,
    );
    inode.meta.lock().size = size;
    if !inode.data.state.lock().dirty.is_empty() {
        // The flush of what waits in memory will bring the size to the disk.
        return Ok(());
    }
    fs.with_trans(reservation, |trans| {
        reach_size(fs, inode, trans)?;
        fs.mark_dirty(inode, &mut inode.meta.lock(), ticket);
        Ok(())
    })
}

/// Nothing waits in memory: the size on disk is the file's, with holes told where they must be.
pub(super) fn reach_size(fs: &Filesystem, inode: &Arc<Inode>, trans: &TransHandle) -> Result<()> {
    let sectorsize = u64::from(fs.ctx.sectorsize);
    let (size, disk_size) = {
        let meta = inode.meta.lock();
        (meta.size, meta.disk_size)
    };
    let rounded = |size| round_up(size, sectorsize).ok_or(Error::FileTooBig);
    let edit = ExtentEdit::of(&fs.ctx, trans, inode);
    edit.fill_gaps(&(rounded(disk_size)?..rounded(size)?))?;
    inode.meta.lock().disk_size = size;
    Ok(())
}

/// The caller holds `flush`, so nothing is on its way to the disk.
fn shrink(fs: &Filesystem, inode: &Arc<Inode>, size: u64) -> Result<()> {
    let sectorsize = u64::from(fs.ctx.sectorsize);
    let floor = round_up(size, sectorsize).ok_or(Error::FileTooBig)?;
    if is_done(inode, size) {
        return Ok(());
    }
    let ticket = fs.prepare_dirty_freeing(inode)?;
    let bytes = fs.ctx.space.item_bytes(tail_items());
    let reservation = fs.ctx.space.reserve_freeing(bytes, Steal::Yes)?;
    {
        let _alone = inode.content.write();
        inode.meta.lock().size = size;
        forget_behind(fs, &inode.data, size, sectorsize);
    }
    let done = drop_tails(fs, inode, size, floor, (ticket, reservation));
    if done.is_err() {
        // What is still on disk would come back as content when the file grows over it.
        let _alone = inode.content.write();
        let mut meta = inode.meta.lock();
        meta.size = meta.size.max(meta.disk_size);
    }
    done
}

/// Shrinks what is on disk, from the end; `room` is for the first transaction.
fn drop_tails(
    fs: &Filesystem,
    inode: &Arc<Inode>,
    size: u64,
    floor: u64,
    room: (DirtyTicket, (MetaReservation, bool)),
) -> Result<()> {
    let bytes = fs.ctx.space.item_bytes(tail_items());
    let (mut ticket, (mut reservation, mut roomy)) = room;
    loop {
        let most = items_at_once(roomy);
        let tail = next_tail(&fs.ctx, &inode.root, inode.objectid, floor, most)?;
        let done = tail.as_ref().is_none_or(|tail| tail.last);
        let _alone = inode.content.write();
        fs.with_trans(reservation, |trans| {
            let edit = ExtentEdit::of(&fs.ctx, trans, inode);
            let mut freed = 0;
            let mut reached = size;
            if let Some(tail) = &tail {
                freed += edit.drop_range(&tail.range)?;
                reached = reached.max(tail.range.start);
            }
            if done {
                freed += cut_inline(fs, inode, trans, size)?;
            }
            let mut meta = inode.meta.lock();
            count_bytes(&mut meta, 0, freed);
            meta.disk_size = meta.disk_size.min(if done { size } else { reached });
            let behind = meta.disk_size < meta.size;
            drop(meta);
            if done && behind && inode.data.state.lock().dirty.is_empty() {
                reach_size(fs, inode, trans)?;
            }
            fs.mark_dirty(inode, &mut inode.meta.lock(), ticket);
            Ok(())
        })?;
        if done {
            return Ok(());
        }
        drop(_alone);
        ticket = fs.prepare_dirty_freeing(inode)?;
        (reservation, roomy) = fs.ctx.space.reserve_freeing(bytes, Steal::Yes)?;
    }
}

/// Memory forgets what lies behind `size`; in the sector that holds the new end, zeros follow.
fn forget_behind(fs: &Filesystem, data: &FileData, size: u64, sectorsize: u64) {
    let mut state = data.state.lock();
    let floor = round_up(size, sectorsize).unwrap_or(u64::MAX);
    fs.delayed_data
        .subtract_bytes(state.dirty.remove(floor..u64::MAX));
    let last = round_down(size, sectorsize);
    if size < floor && state.dirty.covers(last..floor) {
        state.dirty.write(size, &vec![0; (floor - size) as usize]);
    }
    let spare = state
        .data_space
        .as_ref()
        .map_or(0, |space| space.bytes().saturating_sub(state.dirty.bytes()));
    if let Some(space) = &mut state.data_space {
        drop(space.split(spare));
    }
}

/// An inline extent isn't longer than its file. Returns the bytes cut off.
fn cut_inline(fs: &Filesystem, inode: &Arc<Inode>, trans: &TransHandle, size: u64) -> Result<u64> {
    if size == 0 || size >= u64::from(fs.ctx.sectorsize) {
        return Ok(0);
    }
    let first = records_in(&fs.ctx, &inode.root, inode.objectid, &(0..1), 1)?;
    match first.first().map(|record| &record.body) {
        Some(Body::Inline {
            compression: COMPRESS_NONE,
            ram_bytes,
            data,
        }) if *ram_bytes > size && data.len() as u64 >= size => {
            let bytes =
                FileExtentHead::encode_inline(trans.transid().get(), &data[..size as usize]);
            fs.ctx
                .upsert(trans, &inode.root, &extent_key(inode.objectid, 0), &bytes)?;
            Ok(ram_bytes - size)
        }
        _ => Ok(0),
    }
}

/// The inode is being deleted: what waits in memory will never be written.
pub fn discard_delayed(fs: &Filesystem, inode: &Arc<Inode>) {
    let _one = inode.data.flush.lock();
    let _alone = inode.content.write();
    let mut state = inode.data.state.lock();
    fs.delayed_data
        .subtract_bytes(state.dirty.remove(0..u64::MAX));
    state.data_space = None;
    state.item_space = None;
    let place = fs.delayed_data.take_up(&mut state);
    drop(state);
    fs.delayed_data.leave(place);
}
