//! Copying whole sectors by reference: the same extents under another file's items.
//!
//! Owns: the part of `copy_file_range(2)` that moves no content, as the kernel's clone does. Items are
//! replaced a bounded number at a time; after each transaction the target is a sound file that holds
//! what was copied so far and what it had behind that.
//!
//! Lock order: the `flush` of both files, the smaller number first, so extent items of both stand still.
//! Before them the gates of in-place writers of the source: whoever counts on writing an extent where it
//! lies must be done before it has a second owner.

use super::extent_edit::ExtentEdit;
use super::extents::{Body, ExtentRecord, records_in};
use super::flush::{count_bytes, flush_inode, flush_locked};
use super::truncate::{grow, promise_growth, reach_size};
use super::write::{Promise, has_inline};
use crate::allocator::Steal;
use crate::btree::{InPlace, InPlaceBar};
use crate::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::inode::Inode;
use crate::ondisk::{FILE_EXTENT_PREALLOC, INODE_NODATACOW, INODE_NODATASUM, INODE_PREALLOC};
use crate::sync::{Arc, MutexGuard};
use crate::units::{round_down, round_up};
use std::ops::Range;

/// Items of either file that one transaction touches at most.
const ITEMS_PER_TRANSACTION: usize = 64;
/// Item changes set aside for each: the item, and what its references take.
const CHANGES_PER_ITEM: u64 = 3;

/// A copy that is to be made by reference.
pub(super) struct Share<'a> {
    pub fs: &'a Filesystem,
    pub from: &'a Arc<Inode>,
    /// Whole sectors.
    pub source: Range<u64>,
    pub to: &'a Arc<Inode>,
    /// Where the source's first sector goes.
    pub target: u64,
}

impl Share<'_> {
    /// Whether the two files' extents may be each other's: content with checksums and without is
    /// told apart by the inode.
    pub fn is_possible(&self) -> bool {
        let without = |inode: &Inode| inode.meta.lock().flags & INODE_NODATASUM != 0;
        self.source.start < self.source.end && without(self.from) == without(self.to)
    }

    /// Shares from the beginning; returns the bytes that it came to. What can't be shared (the rest of
    /// the file behind an inline extent, say) is for the caller to copy.
    ///
    /// # Errors
    /// Only if nothing was shared.
    pub fn run(&self) -> Result<u64> {
        let mut promise = promise_growth(self.fs, self.to)?;
        let bars = self.settle_source(&mut promise)?;
        let _locked = self.lock_both();
        // In case it got preallocated extents, or lost its checksums, since the look.
        if counts_on_places(self.from) && bars.is_none() || !self.is_possible() {
            return Ok(0);
        }
        flush_locked(self.fs, self.from)?;
        if !Arc::ptr_eq(self.from, self.to) {
            flush_locked(self.fs, self.to)?;
        }
        let size = self.from.meta.lock().size;
        let end = round_down(size, self.sectorsize()).min(self.source.end);
        self.make_room(promise)?;
        if self.target > 0 && has_inline(self.fs, self.to)? {
            return Ok(0);
        }
        let mut here = self.source.start;
        while here < end {
            match self.step(here..end) {
                Ok(0) => break,
                Ok(bytes) => here += bytes,
                // What was copied before a failure is told, as a short count.
                Err(_) if here > self.source.start => break,
                Err(error) => return Err(error),
            }
        }
        Ok(here - self.source.start)
    }

    fn sectorsize(&self) -> u64 {
        u64::from(self.fs.ctx.sectorsize)
    }

    /// Nobody counts on the source's places any more, nor will while the bars are held: not on the
    /// target's either, as a bar would wait for the caller's own pass, or two copies for each other.
    fn settle_source(&self, promise: &mut Promise) -> Result<Option<[InPlaceBar; 2]>> {
        if !counts_on_places(self.from) {
            return Ok(None);
        }
        promise.give_back_pass();
        let promises = self.from.root.bar_in_place(InPlace::Promise);
        flush_inode(self.fs, self.from)?;
        let writes = self.from.root.bar_in_place(InPlace::Write);
        Ok(Some([promises, writes]))
    }

    fn lock_both(&self) -> (MutexGuard<'_, ()>, Option<MutexGuard<'_, ()>>) {
        let number = |inode: &Inode| (inode.root.objectid, inode.objectid);
        match number(self.from).cmp(&number(self.to)) {
            std::cmp::Ordering::Less => {
                let first = self.from.data.flush.lock();
                (first, Some(self.to.data.flush.lock()))
            }
            std::cmp::Ordering::Greater => {
                let first = self.to.data.flush.lock();
                (first, Some(self.from.data.flush.lock()))
            }
            std::cmp::Ordering::Equal => (self.from.data.flush.lock(), None),
        }
    }

    /// The target reaches to where the copy begins, and zeros are behind its old end.
    fn make_room(&self, promise: Promise) -> Result<()> {
        if self.to.meta.lock().size < self.target {
            grow(self.fs, self.to, self.target, promise)?;
            flush_locked(self.fs, self.to)?;
        }
        Ok(())
    }

    /// Shares the first extents of `source`; how many bytes.
    pub(super) fn step(&self, source: Range<u64>) -> Result<u64> {
        let fs = self.fs;
        let (source, records) = self.first_of(self.from, source)?;
        if records
            .iter()
            .any(|record| matches!(record.body, Body::Inline { .. }))
        {
            return Ok(0);
        }
        let place = |at: u64| at - self.source.start + self.target;
        let (target, replaced) = self.first_of(self.to, place(source.start)..place(source.end))?;
        let source = source.start..source.start + (target.end - target.start);
        let items = (records.len() + replaced.len()) as u64;
        let bytes = fs.ctx.space.item_bytes(CHANGES_PER_ITEM * items + 4);
        // Not by `Filesystem::reserve`: that flushes files to find room, and `flush` is locked.
        let reservation = fs.ctx.space.reserve_metadata(bytes, Steal::No)?;
        let ticket = fs.prepare_dirty(self.to)?;
        let _alone = self.to.content.write();
        fs.with_trans(reservation, |trans| {
            let edit = ExtentEdit::of(&fs.ctx, trans, self.to);
            // Its items may be older than the sharing.
            let unlogged = &trans.transaction().unlogged;
            unlogged.add_inode(self.to.root.objectid, self.to.objectid);
            let freed = edit.drop_range(&target)?;
            let (mut added, mut prealloc) = (0, false);
            for record in &records {
                let file = record.file.start.max(source.start)..record.file.end.min(source.end);
                if file.start >= file.end {
                    continue;
                }
                edit.insert_shared(record, &file, place(file.start))?;
                added += record.counted_bytes(&file);
                prealloc |= is_prealloc(record);
            }
            let disk_end = {
                let mut meta = self.to.meta.lock();
                count_bytes(&mut meta, added, freed);
                meta.size = meta.size.max(target.end);
                if prealloc {
                    meta.flags |= INODE_PREALLOC;
                }
                round_up(meta.disk_size, self.sectorsize()).ok_or(Error::FileTooBig)?
            };
            edit.fill_gaps(&(disk_end.min(target.start)..target.end))?;
            // What was written there since the flush came before this.
            let mut state = self.to.data.state.lock();
            fs.delayed_data
                .subtract_bytes(state.dirty.remove(target.clone()));
            let nothing_waits = state.dirty.is_empty();
            drop(state);
            if nothing_waits {
                reach_size(fs, self.to, trans)?;
            }
            // Whatever else waits: content behind the end would be there when the file grows.
            let mut meta = self.to.meta.lock();
            meta.disk_size = meta.disk_size.max(target.end);
            fs.mark_dirty(self.to, &mut meta, ticket);
            Ok(())
        })?;
        Ok(source.end - source.start)
    }

    /// As much of `range` as has no more items than a transaction takes, and those.
    fn first_of(
        &self,
        inode: &Inode,
        range: Range<u64>,
    ) -> Result<(Range<u64>, Vec<ExtentRecord>)> {
        let (ctx, most) = (&self.fs.ctx, ITEMS_PER_TRANSACTION);
        let records = records_in(ctx, &inode.root, inode.objectid, &range, most)?;
        let end = match records.last() {
            Some(last) if records.len() == most => last.file.end.min(range.end),
            _ => range.end,
        };
        Ok((range.start..end, records))
    }
}

/// Whether content of the file may be written over where it lies.
fn counts_on_places(inode: &Inode) -> bool {
    inode.meta.lock().flags & (INODE_NODATACOW | INODE_PREALLOC) != 0
}

fn is_prealloc(record: &ExtentRecord) -> bool {
    matches!(&record.body, Body::Extent(item) if item.kind == FILE_EXTENT_PREALLOC)
}
