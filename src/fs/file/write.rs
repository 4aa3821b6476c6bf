//! Writing a file: into memory, with the space for it promised.
//!
//! Owns: the step from a byte range to whole sectors: sectors that are written in part are
//! completed from what the file holds. ENOSPC is answered here, never later. Space is promised
//! before `content` is locked, because promising may have to commit.

use super::data::State;
use super::extents::{Body, records_in};
use super::nocow;
use super::queue::{flush_all, throttle};
use super::read::read_merged;
use crate::allocator::{DataReservation, MetaReservation, Steal};
use crate::btree::{InPlace, InPlacePass};
use crate::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::inode::Inode;
use crate::sync::Arc;
use crate::units::{round_down, round_up};
use std::ops::Range;

/// Largest file (`MAX_LFS_FILESIZE`).
pub const FILE_SIZE_MAX: u64 = i64::MAX as u64;
/// Item changes set aside for an inode's first delayed range, and for each further one.
const ITEMS_FIRST: u64 = 4;
const ITEMS_NEXT: u64 = 3;
/// Bytes of content whose checksums need another item's worth of room.
const BYTES_PER_ITEM: u64 = 4 << 20;

/// Space for one write.
pub(super) struct Promise {
    data: Option<DataReservation>,
    items: MetaReservation,
    /// Held until the content is in memory, where nothing stands for its space.
    in_place: Option<InPlacePass>,
}

/// Writes all of `data` at `offset`; the file grows if it ends behind the old end.
pub fn write(fs: &Filesystem, inode: &Arc<Inode>, offset: u64, data: &[u8]) -> Result<usize> {
    let end = offset
        .checked_add(data.len() as u64)
        .filter(|&end| end <= FILE_SIZE_MAX)
        .ok_or(Error::FileTooBig)?;
    if data.is_empty() {
        return Ok(0);
    }
    throttle(fs)?;
    let sectorsize = u64::from(fs.ctx.sectorsize);
    let touched =
        round_down(offset, sectorsize)..round_up(end, sectorsize).ok_or(Error::FileTooBig)?;
    let bytes = touched.end - touched.start;
    let promise = promise(fs, inode, bytes, std::slice::from_ref(&touched))?;
    let _alone = inode.content.write();
    let (size, flags) = {
        let meta = inode.meta.lock();
        (meta.size, meta.flags)
    };
    let mut span = Span {
        fs,
        inode,
        size,
        flags,
        parts: Vec::new(),
    };
    span.settle_old_end(offset, end)?;
    span.complete(touched.start, offset, end)?;
    if touched.end - touched.start > sectorsize {
        span.complete(touched.end - sectorsize, offset, end)?;
    }
    let parts = span.parts;
    let parts = parts
        .iter()
        .map(|(at, bytes)| (*at, &bytes[..]))
        .chain([(offset, data)]);
    gather(fs, inode, parts, promise);
    let mut meta = inode.meta.lock();
    meta.size = meta.size.max(end);
    Ok(data.len())
}

/// Content goes into memory, and the inode into the queue. The caller has `content`
/// exclusively.
pub(super) fn gather<'a>(
    fs: &Filesystem,
    inode: &Arc<Inode>,
    parts: impl Iterator<Item = (u64, &'a [u8])>,
    promise: Promise,
) {
    let mut state = inode.data.state.lock();
    for (at, bytes) in parts {
        fs.delayed_data.add_bytes(state.dirty.write(at, bytes));
    }
    if state.dirty.is_empty() {
        return;
    }
    // In the queue first: a snapshot flushes what is queued when the last promise without space has
    // come back, and mustn't miss this one, for which there is no other place afterwards.
    fs.delayed_data.enter(inode, &mut state);
    keep_promise(fs, &mut state, promise);
}

/// Promises space for the sectors that an operation may have to bring into memory: those that hold
/// one of `edges`, the first bytes that change. Before the inode's `flush` is locked: it may
/// flush.
pub(super) fn promise_edges(fs: &Filesystem, inode: &Arc<Inode>, edges: &[u64]) -> Result<Promise> {
    let sectorsize = u64::from(fs.ctx.sectorsize);
    let sectors: Vec<Range<u64>> = edges
        .iter()
        .filter(|&edge| edge % sectorsize != 0)
        .map(|edge| round_down(*edge, sectorsize))
        .map(|start| start..start.saturating_add(sectorsize))
        .collect();
    promise(fs, inode, sectors.len() as u64 * sectorsize, &sectors)
}

/// Promises space for `bytes` and two more sectors (the old last one and an inline extent). Where
/// there is none, only what lies in space of the file's own, as all of `places`, needs none.
fn promise(
    fs: &Filesystem,
    inode: &Arc<Inode>,
    bytes: u64,
    places: &[Range<u64>],
) -> Result<Promise> {
    let bytes = bytes + 2 * u64::from(fs.ctx.sectorsize);
    match promise_now(fs, inode, bytes) {
        Err(Error::NoSpace) => {}
        other => return other,
    }
    // Delayed ranges hold more than they will need; written out, they give it back, and the
    // space that they replace comes free with the commit.
    if let Err(error) = flush_all(fs) {
        // Another inode's failure is that inode's to tell.
        log::error!("writing back to find space: {error}");
    }
    let refused = match try_promise(fs, inode, bytes) {
        Err(Error::NoSpace) => Error::NoSpace,
        other => return other,
    };
    let Some(in_place) = inode.root.pass_in_place(InPlace::Promise) else {
        return Err(refused);
    };
    for place in places {
        if !nocow::owns_range(fs, inode, place, &in_place)? {
            return Err(refused);
        }
    }
    let items = fs.ctx.space.item_bytes(ITEMS_FIRST);
    Ok(Promise {
        data: None,
        items: fs.ctx.space.reserve_metadata(items, Steal::No)?,
        in_place: Some(in_place),
    })
}

impl Promise {
    /// From here on it counts on no place: for who is to wait until nobody does.
    pub fn give_back_pass(&mut self) {
        self.in_place = None;
    }

    /// `NoSpace` if nothing was promised to `parts` because others were thought to change. The caller
    /// holds the inode's `flush`.
    pub fn want_for(&self, fs: &Filesystem, inode: &Inode, parts: &[(u64, Vec<u8>)]) -> Result<()> {
        if self.data.is_some() || parts.is_empty() {
            return Ok(());
        }
        let in_place = self.in_place.as_ref().ok_or(Error::NoSpace)?;
        for (start, bytes) in parts {
            let range = *start..start.saturating_add(bytes.len() as u64);
            if !nocow::owns_range_locked(fs, inode, &range, in_place)? {
                return Err(Error::NoSpace);
            }
        }
        Ok(())
    }
}

/// From what is free now.
fn promise_now(fs: &Filesystem, inode: &Inode, bytes: u64) -> Result<Promise> {
    let space = &fs.ctx.space;
    Ok(Promise {
        items: space.try_reserve_metadata(promised_items(fs, inode, bytes), Steal::No)?,
        data: Some(space.try_reserve_data(bytes)?),
        in_place: None,
    })
}

/// With a commit, if that is what it takes.
fn try_promise(fs: &Filesystem, inode: &Inode, bytes: u64) -> Result<Promise> {
    let space = &fs.ctx.space;
    Ok(Promise {
        items: space.reserve_metadata(promised_items(fs, inode, bytes), Steal::No)?,
        data: Some(space.reserve_data(bytes)?),
        in_place: None,
    })
}

fn promised_items(fs: &Filesystem, inode: &Inode, bytes: u64) -> u64 {
    let first = inode.data.state.lock().item_space.is_none();
    let items = if first { ITEMS_FIRST } else { ITEMS_NEXT } + bytes / BYTES_PER_ITEM;
    fs.ctx.space.item_bytes(items)
}

/// Keeps as much of a promise as the dirty bytes need; the rest goes back.
fn keep_promise(fs: &Filesystem, state: &mut State, promise: Promise) {
    if let Some(mut data) = promise.data {
        let have = state.data_space.as_ref().map_or(0, DataReservation::bytes);
        let kept = data.split(state.dirty.bytes().saturating_sub(have));
        match &mut state.data_space {
            Some(space) => space.merge(kept),
            None => state.data_space = Some(kept),
        }
    }
    // More runs than this are flushed in several transactions, each with space of its own.
    let runs = state.dirty.pieces();
    let enough = fs
        .ctx
        .space
        .item_bytes(ITEMS_FIRST + runs * ITEMS_NEXT + state.dirty.bytes() / BYTES_PER_ITEM);
    let have = state.item_space.as_ref().map_or(0, MetaReservation::bytes);
    let mut items = promise.items;
    let kept = items.split(enough.saturating_sub(have));
    match &mut state.item_space {
        Some(space) => space.merge(kept),
        None => state.item_space = Some(kept),
    }
}

/// Sectors that a write has to bring into memory besides its own bytes.
pub(super) struct Span<'a> {
    pub fs: &'a Filesystem,
    pub inode: &'a Arc<Inode>,
    pub size: u64,
    pub flags: u64,
    pub parts: Vec<(u64, Vec<u8>)>,
}

impl Span<'_> {
    /// Reads the sector at `start`, unless `offset..end` covers all of it that counts.
    fn complete(&mut self, start: u64, offset: u64, end: u64) -> Result<()> {
        let sector_end = start + u64::from(self.fs.ctx.sectorsize);
        let starts_inside = offset > start;
        let ends_inside = end < sector_end;
        if starts_inside || ends_inside {
            self.load(start)
        } else {
            Ok(())
        }
    }

    /// Brings the sector at `start` into memory; what lies behind the file's end is zeros,
    /// whatever the disk holds there.
    pub fn load(&mut self, start: u64) -> Result<()> {
        let sectorsize = u64::from(self.fs.ctx.sectorsize);
        if self.parts.iter().any(|(at, _)| *at == start)
            || self
                .inode
                .data
                .state
                .lock()
                .dirty
                .covers(start..start + sectorsize)
        {
            return Ok(());
        }
        let mut sector = vec![0; sectorsize as usize];
        if start < self.size {
            read_merged(self.fs, self.inode, start, &mut sector, self.flags)?;
            let valid = usize::try_from(self.size - start).unwrap_or(usize::MAX);
            if valid < sector.len() {
                sector[valid..].fill(0);
            }
        }
        self.parts.push((start, sector));
        Ok(())
    }

    /// When the change of `offset..end` begins behind the sector that holds the file's old end,
    /// that sector must end in zeros on disk too, and an inline extent must become a regular one.
    pub fn settle_old_end(&mut self, offset: u64, end: u64) -> Result<()> {
        let sectorsize = u64::from(self.fs.ctx.sectorsize);
        let last = round_down(self.size, sectorsize);
        if last != self.size && offset >= last.saturating_add(sectorsize) {
            let mut sector = vec![0; sectorsize as usize];
            read_merged(self.fs, self.inode, last, &mut sector, self.flags)?;
            if sector[(self.size - last) as usize..]
                .iter()
                .any(|&byte| byte != 0)
            {
                self.load(last)?;
            }
        }
        self.settle_inline(end)
    }

    /// An inline extent can't stay beside other extents, nor behind content in memory.
    fn settle_inline(&mut self, end: u64) -> Result<()> {
        let sectorsize = u64::from(self.fs.ctx.sectorsize);
        // Only small files have one, and a write into the first sector completes it anyway.
        if self.size == 0 || self.size > sectorsize || end <= sectorsize {
            return Ok(());
        }
        if has_inline(self.fs, self.inode)? {
            self.load(0)?;
        }
        Ok(())
    }
}

/// Whether the tree holds the file's first bytes in an inline extent.
pub(super) fn has_inline(fs: &Filesystem, inode: &Inode) -> Result<bool> {
    let first = records_in(&fs.ctx, &inode.root, inode.objectid, &(0..1), 1)?;
    Ok(first
        .first()
        .is_some_and(|record| matches!(record.body, Body::Inline { .. })))
}
