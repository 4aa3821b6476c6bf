//! From memory to extents: one inode's delayed ranges are written out.
//!
//! Owns: the order that makes a crash harmless. Data reaches the device first, into space that
//! nothing refers to; then, in one transaction, the items of the old range go and the new ones
//! come, with checksums, references, `nbytes` and the size on disk. What was taken from memory
//! stays readable until then. A failure is kept for the next fsync; want of space loses nothing.
//! Nothing loses the zeros behind the end on disk: what is there otherwise was cut off once, and
//! would be content again as soon as the file grows over it.

use super::extent_edit::ExtentEdit;
use super::extents::records_in;
use super::nocow::{Place, places_of};
use super::ranges::Ranges;
use crate::allocator::{DataReservation, MetaReservation, Steal};
use crate::btree::{InPlace, InPlacePass};
use crate::error::{Error, Result};
use crate::fs::DirtyTicket;
use crate::fs::filesystem::Filesystem;
use crate::fs::inode::{Inode, InodeMeta};
use crate::ondisk::superblock::FEATURE_INCOMPAT_NO_HOLES;
use crate::ondisk::{
    FILE_EXTENT_INLINE_DATA_START, FILE_EXTENT_REG, INODE_NODATASUM, INODE_PREALLOC, tree_block,
};
use crate::sync::Arc;
use crate::units::{Logical, MIB, round_down, round_up};
use std::ops::Range;

/// Longest data extent, as the kernel makes them.
const EXTENT_BYTES_MAX: u64 = 128 * MIB;
/// Small files up to this live in the tree (the kernel's default `max_inline`).
const INLINE_BYTES_MAX: u64 = 2048;
/// Neighbouring pieces are gathered up to this for one device write.
const GATHER_BYTES: usize = 1 << 20;
/// Extents whose items change in one transaction.
const EXTENTS_PER_TRANSACTION: usize = 64;
/// Old items that one new extent may replace: bounds a transaction.
const REPLACED_MAX: usize = 512;
/// Item changes set aside for each extent: what is cut and dropped, the item, its checksums.
const ITEMS_PER_EXTENT: u64 = 4;

/// What a flush took out of memory.
struct Batch {
    ranges: Arc<Ranges>,
    /// The file's size when it was taken: every byte below is in the tree afterwards.
    size: u64,
    flags: u64,
    /// The tree holds nothing of the file, see [`is_bare`].
    bare: bool,
    data_space: Option<DataReservation>,
    item_space: MetaReservation,
    /// For the inode's item, at the first piece that reaches the tree.
    ticket: Option<DirtyTicket>,
    hint: Option<Logical>,
    /// Content before this is in the tree.
    published: u64,
}

/// A range whose content is on the device and whose items aren't in the tree yet.
struct Written {
    file: Range<u64>,
    at: Logical,
    place: Place,
    sums: Vec<u8>,
}

/// Writes an inode's delayed ranges out and puts them into its tree.
///
/// # Errors
/// This flush's failure; it is kept too, for the next fsync.
pub fn flush_inode(fs: &Filesystem, inode: &Arc<Inode>) -> Result<()> {
    let _one = inode.data.flush.lock();
    flush_locked(fs, inode)
}

/// As [`flush_inode`], for who holds the inode's `flush` already.
pub(super) fn flush_locked(fs: &Filesystem, inode: &Arc<Inode>) -> Result<()> {
    {
        let mut state = inode.data.state.lock();
        if state.dirty.is_empty() {
            // A truncation or a punched hole may have left nothing to write.
            state.data_space = None;
            state.item_space = None;
            let place = fs.delayed_data.take_up(&mut state);
            drop(state);
            fs.delayed_data.leave(place);
            return Ok(());
        }
    }
    let ticket = fs.prepare_dirty_freeing(inode)?;
    let bare = is_bare(fs, inode);
    let beyond = u64::from(fs.ctx.sectorsize)..u64::MAX;
    let only_first_sector =
        bare || records_in(&fs.ctx, &inode.root, inode.objectid, &beyond, 1)?.is_empty();
    let alone = inode.content.write();
    let (mut batch, place) = take(fs, inode, bare);
    batch.ticket = Some(ticket);
    let bytes = batch.ranges.bytes();
    let outcome = if only_first_sector && can_inline(fs, &batch) {
        // Before anybody can make the file larger.
        write_inline(fs, inode, &mut batch)
    } else {
        drop(alone);
        write_out(fs, inode, &mut batch)
    };
    let (objectid, tree) = (inode.objectid, inode.root.objectid);
    let kept = match &outcome {
        Ok(()) => None,
        Err(Error::NoSpace) => {
            log::info!(
                "inode {objectid} of tree {tree}: written content waits in memory: no space left"
            );
            Some(0..u64::MAX)
        }
        Err(error) => {
            log::error!("inode {objectid} of tree {tree}: written content is lost: {error}");
            let mut state = inode.data.state.lock();
            state.error.get_or_insert_with(|| error.clone());
            drop(state);
            end_on_disk(fs, inode).filter(|sector| batch.ranges.covers(sector.clone()))
        }
    };
    match kept {
        Some(kept) => put_back(fs, inode, batch, &kept),
        None => {
            drop(batch);
            inode.data.state.lock().flushing = None;
            fs.delayed_data.subtract_bytes(bytes);
        }
    }
    fs.delayed_data.leave(place);
    outcome
}

/// The sector with the end on disk, if the file is to grow over it.
fn end_on_disk(fs: &Filesystem, inode: &Inode) -> Option<Range<u64>> {
    let sectorsize = u64::from(fs.ctx.sectorsize);
    let (size, disk_size) = {
        let meta = inode.meta.lock();
        (meta.size, meta.disk_size)
    };
    let start = round_down(disk_size, sectorsize);
    (start < disk_size && disk_size < size).then(|| start..start + sectorsize)
}

/// Whether the tree can't hold anything of the file's content yet, without a look: it was made
/// in this transaction and counts no bytes.
fn is_bare(fs: &Filesystem, inode: &Inode) -> bool {
    let running = fs.ctx.transactions.running().transid();
    let meta = inode.meta.lock();
    meta.nbytes == 0
        && meta.generation >= running.get()
        && fs.ctx.check.incompat & FEATURE_INCOMPAT_NO_HOLES != 0
}

/// A small file goes into the tree. The caller has `content` exclusively.
fn write_inline(fs: &Filesystem, inode: &Arc<Inode>, batch: &mut Batch) -> Result<()> {
    let size = batch.size;
    let ticket = take_ticket(fs, batch)?;
    let mut data = vec![0; size as usize];
    batch.ranges.read(0, &mut data);
    fs.with_trans(batch.item_space.split(u64::MAX), |trans| {
        let edit = ExtentEdit::of(&fs.ctx, trans, inode);
        let freed = match batch.bare {
            true => 0,
            false => edit.drop_range(&(0..u64::from(fs.ctx.sectorsize)))?,
        };
        edit.insert_inline(&data)?;
        let mut meta = inode.meta.lock();
        count_bytes(&mut meta, size, freed);
        meta.disk_size = size;
        fs.mark_dirty(inode, &mut meta, ticket);
        Ok(())
    })
}

/// Takes everything dirty out, with the inode's place in the queue. The caller has `content`
/// exclusively.
fn take(fs: &Filesystem, inode: &Inode, bare: bool) -> (Batch, Option<u64>) {
    let (size, flags) = {
        let meta = inode.meta.lock();
        (meta.size, meta.flags)
    };
    let mut state = inode.data.state.lock();
    let ranges = Arc::new(std::mem::take(&mut state.dirty));
    state.flushing = Some(ranges.clone());
    let item_space = state.item_space.take();
    let batch = Batch {
        ranges,
        size,
        flags,
        bare,
        data_space: state.data_space.take(),
        item_space: item_space.unwrap_or_else(|| fs.ctx.space.no_metadata()),
        ticket: None,
        hint: state.next_extent,
        published: 0,
    };
    (batch, fs.delayed_data.take_up(&mut state))
}

/// Whether the file is small enough to live in the tree.
fn can_inline(fs: &Filesystem, batch: &Batch) -> bool {
    let sectorsize = u64::from(fs.ctx.sectorsize);
    let leaf_room = tree_block::leaf_data_size(fs.ctx.nodesize) as u64;
    let heads = tree_block::Item::SIZE as u64 + FILE_EXTENT_INLINE_DATA_START as u64;
    batch.size <= INLINE_BYTES_MAX.min(leaf_room - heads)
        && batch.size < sectorsize
        && batch.flags & INODE_PREALLOC == 0
        && batch.ranges.covers(0..batch.size)
}

pub(super) fn count_bytes(meta: &mut InodeMeta, added: u64, freed: u64) {
    meta.nbytes = meta.nbytes.saturating_add(added).saturating_sub(freed);
}

fn write_out(fs: &Filesystem, inode: &Arc<Inode>, batch: &mut Batch) -> Result<()> {
    let mut written = Vec::new();
    // Until the tree says what was written: a snapshot would see old places change.
    let in_place = inode.root.pass_in_place(InPlace::Write);
    let outcome = write_runs(fs, inode, batch, &mut written, in_place.as_ref());
    let outcome = match outcome {
        Ok(()) => {
            let size = batch.size;
            publish(fs, inode, batch, &mut written, size)
        }
        Err(error) => Err(error),
    };
    // What didn't reach the tree is referred to by nobody.
    for extent in written.iter().filter(|extent| extent.place == Place::Anew) {
        fs.ctx
            .space
            .free_unwritten(extent.at, extent.file.end - extent.file.start);
    }
    outcome
}

fn write_runs(
    fs: &Filesystem,
    inode: &Arc<Inode>,
    batch: &mut Batch,
    written: &mut Vec<Written>,
    in_place: Option<&InPlacePass>,
) -> Result<()> {
    let ranges = batch.ranges.clone();
    let mut gather = Gather::default();
    for run in ranges.runs() {
        for part in places_of(fs, inode, &run, in_place)? {
            let mut here = part.file.start;
            while here < part.file.end {
                // Before the next one, not behind the last one: what is left for the end is
                // never nothing, and brings the size of the file.
                if written.len() >= EXTENTS_PER_TRANSACTION {
                    gather.flush(fs)?;
                    let reached = written.last().map_or(here, |extent| extent.file.end);
                    let size = batch.size.min(reached);
                    publish(fs, inode, batch, written, size)?;
                }
                let (at, len) = match part.place {
                    Place::Anew => allocate(fs, inode, batch, here..part.file.end)?,
                    Place::Over(at) | Place::Prealloc(at) => (at, part.file.end - part.file.start),
                };
                let file = here..here + len;
                written.push(Written {
                    file: file.clone(),
                    at,
                    place: part.place,
                    sums: vec![],
                });
                let last = written.last_mut().expect("just pushed");
                if batch.flags & INODE_NODATASUM == 0 {
                    last.sums = sums_of(fs, &ranges, &file);
                }
                gather.write(fs, at, ranges.slices(file))?;
                here += len;
            }
        }
    }
    gather.flush(fs)?;
    inode.data.state.lock().next_extent = batch.hint;
    Ok(())
}

/// Space for a new extent that begins at `file.start`.
fn allocate(
    fs: &Filesystem,
    inode: &Inode,
    batch: &mut Batch,
    file: Range<u64>,
) -> Result<(Logical, u64)> {
    let sectorsize = u64::from(fs.ctx.sectorsize);
    let mut want = (file.end - file.start).min(EXTENT_BYTES_MAX);
    if !batch.bare {
        let old = records_in(&fs.ctx, &inode.root, inode.objectid, &file, REPLACED_MAX)?;
        if old.len() == REPLACED_MAX {
            let last = old.last().expect("not empty");
            want = want.min(last.file.end - file.start);
        }
    }
    let have = batch.data_space.as_ref().map_or(0, DataReservation::bytes);
    if have < want {
        let more = fs.ctx.space.reserve_data(want - have)?;
        match &mut batch.data_space {
            Some(space) => space.merge(more),
            None => batch.data_space = Some(more),
        }
    }
    let space = batch.data_space.as_mut().expect("reserved above");
    let (at, len) = fs
        .ctx
        .space
        .alloc_data(space, want, sectorsize, batch.hint)?;
    batch.hint = at.checked_add(len);
    Ok((at, len))
}

/// The checksums of a range in memory, whose slices needn't end at sector borders.
fn sums_of(fs: &Filesystem, ranges: &Ranges, file: &Range<u64>) -> Vec<u8> {
    let sectorsize = fs.ctx.sectorsize as usize;
    let mut sums = Vec::new();
    let mut rest: Vec<u8> = Vec::new();
    for mut slice in ranges.slices(file.clone()) {
        if !rest.is_empty() {
            let take = slice.len().min(sectorsize - rest.len());
            rest.extend_from_slice(&slice[..take]);
            slice = &slice[take..];
            if rest.len() < sectorsize {
                continue;
            }
            sums.extend(fs.engine.csums.sums_of(&rest));
            rest.clear();
        }
        let whole = slice.len() - slice.len() % sectorsize;
        sums.extend(fs.engine.csums.sums_of(&slice[..whole]));
        rest.extend_from_slice(&slice[whole..]);
    }
    sums
}

/// Gathers pieces that lie side by side on disk into large writes.
#[derive(Default)]
struct Gather {
    at: Option<Logical>,
    bytes: Vec<u8>,
}

impl Gather {
    fn write<'a>(
        &mut self,
        fs: &Filesystem,
        at: Logical,
        slices: impl Iterator<Item = &'a [u8]>,
    ) -> Result<()> {
        let mut here = at;
        for slice in slices {
            let end = self
                .at
                .and_then(|start| start.checked_add(self.bytes.len() as u64));
            if end != Some(here) || self.bytes.len() + slice.len() > GATHER_BYTES {
                self.flush(fs)?;
            }
            if self.bytes.is_empty() && slice.len() >= GATHER_BYTES / 2 {
                fs.volume.write(here, slice)?;
            } else {
                if self.bytes.is_empty() {
                    self.at = Some(here);
                }
                self.bytes.extend_from_slice(slice);
            }
            here = Logical(here.get() + slice.len() as u64);
        }
        Ok(())
    }

    fn flush(&mut self, fs: &Filesystem) -> Result<()> {
        if let Some(at) = self.at.take() {
            fs.volume.write(at, &self.bytes)?;
            self.bytes.clear();
        }
        Ok(())
    }
}

/// Puts written extents into the tree, in one transaction if there is room to reserve for all of them,
/// else a few at a time; `written` is empty afterwards. All content below `size` is there then.
fn publish(
    fs: &Filesystem,
    inode: &Arc<Inode>,
    batch: &mut Batch,
    written: &mut Vec<Written>,
    size: u64,
) -> Result<()> {
    while !written.is_empty() {
        let (count, reservation) = item_reservation(fs, batch, written)?;
        let end = written[count - 1].file.end;
        let reached = if count < written.len() {
            size.min(end)
        } else {
            size
        };
        publish_at_once(fs, inode, batch, &written[..count], reached, reservation)?;
        written.drain(..count);
        batch.published = end;
    }
    Ok(())
}

fn publish_at_once(
    fs: &Filesystem,
    inode: &Arc<Inode>,
    batch: &mut Batch,
    written: &[Written],
    size: u64,
    reservation: MetaReservation,
) -> Result<()> {
    let ticket = take_ticket(fs, batch)?;
    let sectorsize = u64::from(fs.ctx.sectorsize);
    let _alone = inode.content.write();
    fs.with_trans(reservation, |trans| {
        let edit = ExtentEdit::of(&fs.ctx, trans, inode);
        let (mut added, mut freed) = (0, 0);
        for Written {
            file,
            at,
            place,
            sums,
        } in written.iter()
        {
            let len = file.end - file.start;
            match place {
                Place::Anew => {
                    if !batch.bare {
                        freed += edit.drop_range(file)?;
                    }
                    edit.insert_new(file.start, FILE_EXTENT_REG, *at, len)?;
                    added += len;
                }
                Place::Prealloc(_) => edit.mark_written(file)?,
                Place::Over(_) => {}
            }
            fs.engine.csums.insert(trans, *at, sums)?;
        }
        let mut meta = inode.meta.lock();
        let old_size = meta.disk_size;
        drop(meta);
        let rounded = |size| round_up(size, sectorsize).ok_or(Error::FileTooBig);
        edit.fill_gaps(&(rounded(old_size)?..rounded(size)?))?;
        meta = inode.meta.lock();
        count_bytes(&mut meta, added, freed);
        meta.disk_size = old_size.max(size);
        fs.mark_dirty(inode, &mut meta, ticket);
        Ok(())
    })
}

fn take_ticket(fs: &Filesystem, batch: &mut Batch) -> Result<DirtyTicket> {
    match batch.ticket.take() {
        Some(ticket) => Ok(ticket),
        None => fs.delayed.prepare(Steal::Last),
    }
}

/// Space for the items of the first so many of `written`, which isn't empty.
///
/// A write is promised the items of few extents; where free space is scattered there are more. What is
/// short is in the reserve that freeing operations may use, and at the brim there may not be much of it.
fn item_reservation(
    fs: &Filesystem,
    batch: &mut Batch,
    written: &[Written],
) -> Result<(usize, MetaReservation)> {
    let mut count = written.len();
    loop {
        let sums: usize = written[..count]
            .iter()
            .map(|extent| extent.sums.len())
            .sum();
        let items = ITEMS_PER_EXTENT * count as u64 + sums as u64 / 2048;
        let bytes = fs.ctx.space.item_bytes(items);
        let short = bytes.saturating_sub(batch.item_space.bytes());
        let steal = if count > 1 { Steal::Yes } else { Steal::Last };
        let more = match short {
            0 => Ok(fs.ctx.space.no_metadata()),
            _ => fs.ctx.space.reserve_metadata(short, steal),
        };
        match more {
            Ok(more) => {
                let mut reservation = batch.item_space.split(bytes);
                reservation.merge(more);
                return Ok((count, reservation));
            }
            Err(Error::NoSpace) if count > 1 => count /= 2,
            Err(error) => return Err(error),
        }
    }
}

/// Content of `kept` that didn't reach the tree waits on, with the space that is promised to it. What has
/// arrived meanwhile is newer. For all that found no space: programs were told that it is written.
fn put_back(fs: &Filesystem, inode: &Arc<Inode>, batch: Batch, kept: &Range<u64>) {
    let Batch {
        ranges,
        data_space,
        item_space,
        published,
        ..
    } = batch;
    let mut state = inode.data.state.lock();
    state.flushing = None;
    let taken = ranges.bytes();
    let mut all = Arc::unwrap_or_clone(ranges);
    all.remove(0..published.max(kept.start));
    all.remove(kept.end..u64::MAX);
    let newer = std::mem::take(&mut state.dirty);
    let before = taken + newer.bytes();
    for run in newer.runs() {
        let mut at = run.start;
        for slice in newer.slices(run) {
            all.write(at, slice);
            at += slice.len() as u64;
        }
    }
    fs.delayed_data.subtract_bytes(before - all.bytes());
    state.dirty = all;
    let wanted = state.dirty.bytes();
    let mut data = data_space;
    match (&mut state.data_space, data.take()) {
        (Some(space), Some(more)) => space.merge(more),
        (space @ None, more) => *space = more,
        (Some(_), None) => {}
    }
    // Extents that didn't reach the tree are free again, and weren't promised any more.
    let have = state.data_space.as_ref().map_or(0, DataReservation::bytes);
    if let Ok(more) = fs.ctx.space.try_reserve_data(wanted.saturating_sub(have)) {
        match &mut state.data_space {
            Some(space) => space.merge(more),
            None => state.data_space = Some(more),
        }
    }
    if let Some(space) = &mut state.data_space {
        drop(space.split(have.saturating_sub(wanted)));
    }
    match &mut state.item_space {
        Some(space) => space.merge(item_space),
        None => state.item_space = Some(item_space),
    }
    fs.delayed_data.enter(inode, &mut state);
}
