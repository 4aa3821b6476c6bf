//! Preallocation, punched holes, zeroed ranges.
//!
//! Owns: `fallocate(2)` for the modes that btrfs has. Preallocated space is the file's own from
//! then on: a later write into it needs no new space and goes there.

use super::extent_edit::ExtentEdit;
use super::extents::{Segment, Source, records_in, segments_in};
use super::flush::{count_bytes, flush_locked};
use super::read::read_merged;
use super::shrink::{items_at_once, tail_items};
use super::truncate::{grow, promise_growth, reach_size};
use super::write::{FILE_SIZE_MAX, Promise, Span, gather, has_inline, promise_edges};
use crate::allocator::{DataReservation, MetaReservation, Steal};
use crate::error::{Error, Result};
use crate::fs::delayed::DirtyTicket;
use crate::fs::filesystem::Filesystem;
use crate::fs::inode::Inode;
use crate::ondisk::{FILE_EXTENT_PREALLOC, INODE_PREALLOC};
use crate::sync::Arc;
use crate::units::{Logical, MIB, round_down, round_up};
use std::ops::Range;

/// Longest preallocated extent.
const PREALLOC_BYTES_MAX: u64 = 128 * MIB;
/// Extents put into the tree by one transaction.
const EXTENTS_PER_TRANSACTION: usize = 32;
/// Changes that are sure to have room when content is zeroed: some new extents, and the size.
const ZEROED_ITEMS: u64 = 16;
/// Items in memory while holes are looked for.
const LOOKED_AT_MAX: usize = 1024;

/// `fallocate(2)` with the flags of `linux/falloc.h`.
///
/// # Errors
/// [`Error::NotSupported`] for modes that btrfs doesn't have.
pub fn fallocate(
    fs: &Filesystem,
    inode: &Arc<Inode>,
    mode: i32,
    offset: u64,
    len: u64,
) -> Result<()> {
    let end = offset
        .checked_add(len)
        .filter(|&end| end <= FILE_SIZE_MAX)
        .ok_or(Error::FileTooBig)?;
    if len == 0 {
        return Err(Error::Invalid("fallocate of no bytes"));
    }
    let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
    let range = offset..end;
    match mode & !libc::FALLOC_FL_KEEP_SIZE {
        0 => preallocate(fs, inode, &range, keep_size),
        libc::FALLOC_FL_PUNCH_HOLE if keep_size => punch(fs, inode, &range),
        libc::FALLOC_FL_ZERO_RANGE => zero(fs, inode, &range, keep_size),
        _ => Err(Error::NotSupported),
    }
}

/// Makes every hole in `range` preallocated.
fn preallocate(
    fs: &Filesystem,
    inode: &Arc<Inode>,
    range: &Range<u64>,
    keep_size: bool,
) -> Result<()> {
    let sectors = sectors_of(fs, range)?;
    let promises = GrowPromises::ask(fs, inode)?;
    let _one = inode.data.flush.lock();
    flush_locked(fs, inode)?;
    let mut wanted = 0u64;
    for_each_segment(fs, inode, &sectors, |segment| {
        if segment.source == Source::Hole {
            wanted += segment.file.end - segment.file.start;
        }
        Ok(())
    })?;
    let space = fs.ctx.space.reserve_data(wanted)?;
    fill_holes(fs, inode, &sectors, promises, space)?.reach(fs, inode, range.end, keep_size)
}

/// Makes `range` read as zeros, and its holes and what was content preallocated. There is space for that
/// before any content is given up: what is refused has changed nothing. Beside others that take what is
/// left of the metadata, the zeros may be all that was done.
fn zero(fs: &Filesystem, inode: &Arc<Inode>, range: &Range<u64>, keep_size: bool) -> Result<()> {
    let sectors = sectors_of(fs, range)?;
    let promises = GrowPromises::ask(fs, inode)?;
    let room = PunchRoom::reserve(fs, inode, range)?;
    let _one = inode.data.flush.lock();
    flush_locked(fs, inode)?;
    let inner = whole_sectors(fs, range, inode.meta.lock().size)?;
    let mut wanted = 0u64;
    for_each_segment(fs, inode, &sectors, |segment| {
        let file = &segment.file;
        wanted += match segment.source {
            Source::Hole => file.end - file.start,
            Source::Prealloc(_) => 0,
            _ => file
                .end
                .min(inner.end)
                .saturating_sub(file.start.max(inner.start)),
        };
        Ok(())
    })?;
    let space = fs.ctx.space.reserve_data(wanted)?;
    let bytes = fs.ctx.space.item_bytes(ZEROED_ITEMS);
    let kept = (
        fs.ctx.space.reserve_metadata(bytes, Steal::No)?,
        fs.prepare_dirty(inode)?,
    );
    let inner = zero_edges(fs, inode, range, room.edges)?;
    let dropped = for_each_segment(fs, inode, &inner, |segment| match segment.source {
        Source::Hole | Source::Prealloc(_) => Ok(()),
        _ => {
            let end = round_up(segment.file.end, u64::from(fs.ctx.sectorsize));
            drop_extents(fs, inode, &(segment.file.start..end.unwrap_or(inner.end)))
        }
    });
    if fs.ctx.transactions.check().is_ok() {
        bring_size(fs, inode, room.size)?;
    }
    dropped?;
    flush_locked(fs, inode)?;
    // They take their own.
    drop(kept);
    fill_holes(fs, inode, &sectors, promises, space)?.reach(fs, inode, range.end, keep_size)
}

/// The sectors that `range` touches.
fn sectors_of(fs: &Filesystem, range: &Range<u64>) -> Result<Range<u64>> {
    let sectorsize = u64::from(fs.ctx.sectorsize);
    let end = round_up(range.end, sectorsize).ok_or(Error::FileTooBig)?;
    Ok(round_down(range.start, sectorsize)..end)
}

/// What preallocation takes before `flush` is locked.
struct GrowPromises {
    growth: Promise,
    inline: Promise,
}

impl GrowPromises {
    fn ask(fs: &Filesystem, inode: &Arc<Inode>) -> Result<Self> {
        Ok(Self {
            growth: promise_growth(fs, inode)?,
            inline: promise_growth(fs, inode)?,
        })
    }
}

/// There are no more holes; the size may have to follow.
struct Filled(Promise);

impl Filled {
    fn reach(self, fs: &Filesystem, inode: &Arc<Inode>, end: u64, keep_size: bool) -> Result<()> {
        match !keep_size && end > inode.meta.lock().size {
            true => grow(fs, inode, end, self.0),
            false => Ok(()),
        }
    }
}

/// Makes the holes in `sectors` preallocated, for which there is `space`. The caller holds `flush` and has
/// flushed.
fn fill_holes(
    fs: &Filesystem,
    inode: &Arc<Inode>,
    sectors: &Range<u64>,
    promises: GrowPromises,
    mut space: DataReservation,
) -> Result<Filled> {
    let sectorsize = u64::from(fs.ctx.sectorsize);
    if space.bytes() > 0 {
        leave_inline(fs, inode, promises.inline)?;
    }
    let mut extents = Vec::new();
    for_each_segment(fs, inode, sectors, |segment| {
        if segment.source != Source::Hole {
            return Ok(());
        }
        let hole = segment.file;
        let mut here = hole.start;
        while here < hole.end {
            let want = (hole.end - here).min(PREALLOC_BYTES_MAX);
            let hint = inode.data.state.lock().next_extent;
            let (at, len) = fs
                .ctx
                .space
                .alloc_data(&mut space, want, sectorsize, hint)?;
            inode.data.state.lock().next_extent = at.checked_add(len);
            extents.push((here..here + len, at));
            here += len;
            if extents.len() == EXTENTS_PER_TRANSACTION {
                insert(fs, inode, &mut extents)?;
            }
        }
        Ok(())
    })
    .inspect_err(|_| give_back(fs, &extents))?;
    insert(fs, inode, &mut extents)?;
    Ok(Filled(promises.growth))
}

/// Shows what `range` is made of. Looks at a bounded number of items at a time, since a file may have
/// more than memory should hold.
fn for_each_segment(
    fs: &Filesystem,
    inode: &Inode,
    range: &Range<u64>,
    mut show: impl FnMut(Segment) -> Result<()>,
) -> Result<()> {
    let mut here = range.start;
    while here < range.end {
        let rest = here..range.end;
        let records = records_in(&fs.ctx, &inode.root, inode.objectid, &rest, LOOKED_AT_MAX)?;
        let upto = match records.last() {
            Some(last) if records.len() == LOOKED_AT_MAX => last.file.end.min(range.end),
            _ => range.end,
        };
        for segment in segments_in(&fs.ctx, &inode.root, inode.objectid, &(here..upto))? {
            show(segment)?;
        }
        here = upto;
    }
    Ok(())
}

type Extents = Vec<(Range<u64>, Logical)>;

fn give_back(fs: &Filesystem, extents: &Extents) {
    for (file, at) in extents {
        fs.ctx.space.free_unwritten(*at, file.end - file.start);
    }
}

/// Puts preallocated extents into the tree; `extents` is empty afterwards.
fn insert(fs: &Filesystem, inode: &Arc<Inode>, extents: &mut Extents) -> Result<()> {
    if extents.is_empty() {
        return Ok(());
    }
    let taken = std::mem::take(extents);
    // Not by `Filesystem::reserve`: that flushes files to find room, and `flush` is locked.
    let bytes = fs.ctx.space.item_bytes(3 * taken.len() as u64 + 4);
    let prepared = fs
        .ctx
        .space
        .reserve_metadata(bytes, Steal::No)
        .and_then(|reservation| Ok((reservation, fs.prepare_dirty(inode)?)));
    let (reservation, ticket) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            give_back(fs, &taken);
            return Err(error);
        }
    };
    let sectorsize = u64::from(fs.ctx.sectorsize);
    let _alone = inode.content.write();
    fs.with_trans(reservation, |trans| {
        let edit = ExtentEdit::of(&fs.ctx, trans, inode);
        let mut added = 0;
        for (file, at) in &taken {
            // An explicit hole may speak for the range; it counts no bytes.
            edit.drop_range(file)?;
            edit.insert_new(file.start, FILE_EXTENT_PREALLOC, *at, file.end - file.start)?;
            added += file.end - file.start;
        }
        let disk_end = {
            let mut meta = inode.meta.lock();
            count_bytes(&mut meta, added, 0);
            meta.flags |= INODE_PREALLOC;
            round_up(meta.disk_size, sectorsize).ok_or(Error::FileTooBig)?
        };
        edit.fill_gaps(&(disk_end..taken[0].0.start))?;
        fs.mark_dirty(inode, &mut inode.meta.lock(), ticket);
        Ok(())
    })
}

/// An inline extent becomes a regular one (with the next flush) when others come to stand
/// beside it.
fn leave_inline(fs: &Filesystem, inode: &Arc<Inode>, promise: Promise) -> Result<()> {
    if !has_inline(fs, inode)? {
        return Ok(());
    }
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
    span.load(0)?;
    promise.want_for(fs, inode, &span.parts)?;
    gather(
        fs,
        inode,
        span.parts.iter().map(|(at, bytes)| (*at, &bytes[..])),
        promise,
    );
    Ok(())
}

/// Makes `range` read as zeros and gives its whole sectors back.
fn punch(fs: &Filesystem, inode: &Arc<Inode>, range: &Range<u64>) -> Result<()> {
    let room = PunchRoom::reserve(fs, inode, range)?;
    let _one = inode.data.flush.lock();
    flush_locked(fs, inode)?;
    punch_flushed(fs, inode, range, room)
}

/// What a punch takes before it changes anything.
pub(super) struct PunchRoom {
    /// For the edges, which become zeros in memory.
    edges: Promise,
    /// For the size, should the punch end half way.
    size: (DirtyTicket, MetaReservation),
}

impl PunchRoom {
    /// As for `Space::reserve_metadata`: the caller holds no lock that a commit needs.
    pub(super) fn reserve(fs: &Filesystem, inode: &Arc<Inode>, range: &Range<u64>) -> Result<Self> {
        let edges = promise_edges(fs, inode, &[range.start, range.end])?;
        let ticket = fs.prepare_dirty_freeing(inode)?;
        let bytes = fs.ctx.space.item_bytes(tail_items());
        let size = (ticket, fs.ctx.space.reserve_metadata(bytes, Steal::Yes)?);
        Ok(Self { edges, size })
    }
}

/// The caller holds `flush` and has flushed; writes may have come since.
pub(super) fn punch_flushed(
    fs: &Filesystem,
    inode: &Arc<Inode>,
    range: &Range<u64>,
    room: PunchRoom,
) -> Result<()> {
    let inner = zero_edges(fs, inode, range, room.edges)?;
    let done = drop_extents(fs, inode, &inner);
    if done.is_err() && fs.ctx.transactions.check().is_ok() {
        bring_size(fs, inode, room.size)?;
    }
    done
}

/// What memory forgot may be a write that made the file longer, and nobody else would bring its size to
/// the disk.
fn bring_size(
    fs: &Filesystem,
    inode: &Arc<Inode>,
    (ticket, reservation): (DirtyTicket, MetaReservation),
) -> Result<()> {
    let _alone = inode.content.write();
    fs.with_trans(reservation, |trans| {
        if inode.data.state.lock().dirty.is_empty() {
            reach_size(fs, inode, trans)?;
            fs.mark_dirty(inode, &mut inode.meta.lock(), ticket);
        }
        Ok(())
    })
}

/// The sectors that `range` fills; behind the end of the file there is nothing to keep.
fn whole_sectors(fs: &Filesystem, range: &Range<u64>, size: u64) -> Result<Range<u64>> {
    let sectorsize = u64::from(fs.ctx.sectorsize);
    let first = round_up(range.start, sectorsize).ok_or(Error::FileTooBig)?;
    let mut last = round_down(range.end, sectorsize);
    if range.end >= size {
        last = last.max(round_up(size, sectorsize).ok_or(Error::FileTooBig)?);
    }
    Ok(first..last.max(first))
}

/// Makes `inner`, which are whole sectors, a hole on disk. The caller holds `flush`.
fn drop_extents(fs: &Filesystem, inode: &Arc<Inode>, inner: &Range<u64>) -> Result<()> {
    let sectorsize = u64::from(fs.ctx.sectorsize);
    let mut here = inner.start;
    while here < inner.end {
        let bytes = fs.ctx.space.item_bytes(tail_items());
        let (reservation, roomy) = fs.ctx.space.reserve_freeing(bytes, Steal::Yes)?;
        let most = items_at_once(roomy);
        let range = here..inner.end;
        let records = records_in(&fs.ctx, &inode.root, inode.objectid, &range, most)?;
        let upto = match records.last() {
            Some(last) if records.len() == most => last.file.end.min(inner.end),
            _ => inner.end,
        };
        let ticket = fs.prepare_dirty_freeing(inode)?;
        let _alone = inode.content.write();
        fs.with_trans(reservation, |trans| {
            let edit = ExtentEdit::of(&fs.ctx, trans, inode);
            let freed = edit.drop_range(&(here..upto))?;
            let size = inode.meta.lock().disk_size;
            let told = upto.min(round_up(size, sectorsize).ok_or(Error::FileTooBig)?);
            edit.fill_gaps(&(here..told))?;
            count_bytes(&mut inode.meta.lock(), 0, freed);
            if upto == inner.end && inode.data.state.lock().dirty.is_empty() {
                // A write that came between the flush and here may have made the file longer,
                // and lost its content to the hole.
                reach_size(fs, inode, trans)?;
            }
            fs.mark_dirty(inode, &mut inode.meta.lock(), ticket);
            Ok(())
        })?;
        here = upto;
    }
    Ok(())
}

/// Zeros the parts of `range` that don't fill their sectors, in memory, and forgets what memory
/// holds of the sectors that do. Returns those.
fn zero_edges(
    fs: &Filesystem,
    inode: &Arc<Inode>,
    range: &Range<u64>,
    promise: Promise,
) -> Result<Range<u64>> {
    let sectorsize = u64::from(fs.ctx.sectorsize);
    let _alone = inode.content.write();
    let (size, flags) = {
        let meta = inode.meta.lock();
        (meta.size, meta.flags)
    };
    let inner = whole_sectors(fs, range, size)?;
    let head = range.start..inner.start.min(range.end).min(size);
    let tail = inner.end.max(range.start)..range.end.min(size);
    let mut span = Span {
        fs,
        inode,
        size,
        flags,
        parts: Vec::new(),
    };
    let mut zeros = Vec::new();
    for edge in [head, tail] {
        if edge.start >= edge.end {
            continue;
        }
        let mut bytes = vec![0; (edge.end - edge.start) as usize];
        read_merged(fs, inode, edge.start, &mut bytes, flags)?;
        if bytes.iter().any(|&byte| byte != 0) {
            span.load(round_down(edge.start, sectorsize))?;
            bytes.fill(0);
            zeros.push((edge.start, bytes));
        }
    }
    let parts = std::mem::take(&mut span.parts);
    promise.want_for(fs, inode, &parts)?;
    let parts = parts
        .iter()
        .chain(&zeros)
        .map(|(at, bytes)| (*at, &bytes[..]));
    gather(fs, inode, parts, promise);
    let mut state = inode.data.state.lock();
    fs.delayed_data
        .subtract_bytes(state.dirty.remove(inner.clone()));
    Ok(inner)
}
