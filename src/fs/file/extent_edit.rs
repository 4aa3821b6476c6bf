//! Changing a file's extent items: drop a range, put an extent in, turn preallocated into
//! written.
//!
//! Owns: the items and the data references that go with them. Never: `nbytes` (told to the
//! caller), nor anything outside a transaction. The caller holds the inode's `flush` and has
//! `content` exclusively. Order in each function: items first, references afterwards. Copying a
//! shared leaf adds this tree's references, and a drop must not be run before those.

use super::extents::{Body, ExtentRecord, extent_key, records_in};
use super::nocow::data_ref;
use crate::btree::{Root, TreeContext};
use crate::error::{Error, Result};
use crate::fs::inode::Inode;
use crate::ondisk::superblock::FEATURE_INCOMPAT_NO_HOLES;
use crate::ondisk::{FILE_EXTENT_PREALLOC, FILE_EXTENT_REG, FileExtentHead, FileExtentItem};
use crate::sync::Arc;
use crate::transaction::{RefKind, TransHandle};
use crate::units::Logical;
use std::ops::Range;

/// Extent items of one inode, inside one transaction.
pub(in crate::fs) struct ExtentEdit<'a> {
    pub ctx: &'a TreeContext,
    pub trans: &'a TransHandle,
    pub root: &'a Arc<Root>,
    pub objectid: u64,
}

/// A change of references to an extent.
struct RefChange {
    at: Logical,
    len: u64,
    kind: RefKind,
    add: bool,
}

impl<'a> ExtentEdit<'a> {
    /// The items of a loaded inode.
    pub fn of(ctx: &'a TreeContext, trans: &'a TransHandle, inode: &'a Inode) -> Self {
        Self {
            ctx,
            trans,
            root: &inode.root,
            objectid: inode.objectid,
        }
    }

    /// Removes what the file has in `range` (whole sectors); extents that reach out of it are
    /// trimmed or split. Returns the bytes by which `nbytes` shrinks.
    pub fn drop_range(&self, range: &Range<u64>) -> Result<u64> {
        let ctx = self.ctx;
        let records = records_in(ctx, self.root, self.objectid, range, usize::MAX)?;
        let mut freed = 0;
        let mut whole: Option<(u64, u64)> = None;
        let mut refs = Vec::new();
        for record in &records {
            freed = record.counted_bytes(range).saturating_add(freed);
            let keep_front = record.file.start < range.start;
            let keep_tail = record.file.end > range.end;
            let start = record.file.start;
            match &record.body {
                Body::Inline { .. } if keep_front || keep_tail => {
                    return Err(Error::corrupt(format!(
                        "inode {}: the inline extent at {start} is longer than a sector",
                        self.objectid
                    )));
                }
                Body::Extent(item) if keep_front || keep_tail => {
                    self.trim(record, item, range)?;
                    if keep_front && keep_tail {
                        refs.extend(self.ref_change(start, item, true));
                    }
                }
                body => {
                    let first = whole.map_or(start, |(first, _)| first);
                    whole = Some((first, start));
                    if let Body::Extent(item) = body {
                        refs.extend(self.ref_change(start, item, false));
                    }
                }
            }
        }
        if let Some((first, last)) = whole {
            let keys = extent_key(self.objectid, first)..=extent_key(self.objectid, last);
            ctx.delete_range(self.trans, self.root, keys)?;
        }
        self.apply(refs);
        Ok(freed)
    }

    /// Cuts the part inside `range` out of an item that reaches out of it.
    fn trim(&self, record: &ExtentRecord, item: &FileExtentItem, range: &Range<u64>) -> Result<()> {
        let start = record.file.start;
        if range.start > start {
            self.put(start, &part(item, 0, range.start - start))?;
        } else {
            self.delete(start)?;
        }
        if record.file.end > range.end {
            let skip = range.end - start;
            self.put(range.end, &part(item, skip, record.file.end - range.end))?;
        }
        Ok(())
    }

    /// Puts a new extent of `len` bytes at `file_start`, where the file has nothing.
    pub fn insert_new(&self, file_start: u64, kind: u8, at: Logical, len: u64) -> Result<()> {
        let item = FileExtentItem::whole(self.trans.transid().get(), kind, at, len);
        self.put(file_start, &item)?;
        let kind = data_ref(self.root, self.objectid, file_start, &item);
        self.trans
            .transaction()
            .delayed_refs
            .add_new_data_extent(at, len, kind);
        Ok(())
    }

    /// Puts the part `file` of another file's extent at `start`, where this one has nothing.
    pub fn insert_shared(
        &self,
        record: &ExtentRecord,
        file: &Range<u64>,
        start: u64,
    ) -> Result<()> {
        let Body::Extent(item) = &record.body else {
            return Err(Error::corrupt("inline content can't be shared"));
        };
        if item.is_hole() {
            // Told by `fill_gaps`, where the format wants it.
            return Ok(());
        }
        let item = part(item, file.start - record.file.start, file.end - file.start);
        self.put(start, &item)?;
        self.apply(self.ref_change(start, &item, true).into_iter().collect());
        Ok(())
    }

    /// Puts the whole content of a small file into the tree, where the file has nothing.
    pub fn insert_inline(&self, data: &[u8]) -> Result<()> {
        let bytes = FileExtentHead::encode_inline(self.trans.transid().get(), data);
        let key = extent_key(self.objectid, 0);
        self.ctx.insert(self.trans, self.root, &key, &bytes)
    }

    /// Says that `range`, all of it preallocated, has content now.
    pub fn mark_written(&self, range: &Range<u64>) -> Result<()> {
        let ctx = self.ctx;
        let generation = self.trans.transid().get();
        let mut refs = Vec::new();
        for record in records_in(ctx, self.root, self.objectid, range, usize::MAX)? {
            let start = record.file.start;
            let Body::Extent(item) = &record.body else {
                return Err(Error::corrupt("an inline extent among preallocated ones"));
            };
            let written = start.max(range.start)..record.file.end.min(range.end);
            if item.kind != FILE_EXTENT_PREALLOC {
                continue;
            }
            let mut middle = part(item, written.start - start, written.end - written.start);
            middle.kind = FILE_EXTENT_REG;
            middle.generation = generation.into();
            if start < written.start {
                self.put(start, &part(item, 0, written.start - start))?;
                refs.extend(self.ref_change(start, item, true));
            }
            self.put(written.start, &middle)?;
            if written.end < record.file.end {
                let tail = part(item, written.end - start, record.file.end - written.end);
                self.put(written.end, &tail)?;
                refs.extend(self.ref_change(start, item, true));
            }
        }
        self.apply(refs);
        Ok(())
    }

    /// Where the format wants a hole to be told, tells it of every gap in `range`.
    pub fn fill_gaps(&self, range: &Range<u64>) -> Result<()> {
        if self.ctx.check.incompat & FEATURE_INCOMPAT_NO_HOLES != 0 || range.start >= range.end {
            return Ok(());
        }
        let mut here = range.start;
        for record in records_in(self.ctx, self.root, self.objectid, range, usize::MAX)? {
            if here < record.file.start {
                self.put_hole(here..record.file.start)?;
            }
            here = here.max(record.file.end);
        }
        if here < range.end {
            self.put_hole(here..range.end)?;
        }
        Ok(())
    }

    fn put_hole(&self, range: Range<u64>) -> Result<()> {
        let generation = self.trans.transid().get();
        self.put(
            range.start,
            &FileExtentItem::hole(generation, range.end - range.start),
        )
    }

    fn put(&self, file_start: u64, item: &FileExtentItem) -> Result<()> {
        let key = extent_key(self.objectid, file_start);
        self.ctx
            .upsert(self.trans, self.root, &key, item.as_bytes())
    }

    fn delete(&self, file_start: u64) -> Result<()> {
        let key = extent_key(self.objectid, file_start);
        self.ctx.delete(self.trans, self.root, &key).map(drop)
    }

    fn ref_change(&self, file_start: u64, item: &FileExtentItem, add: bool) -> Option<RefChange> {
        (!item.is_hole()).then(|| RefChange {
            at: Logical(item.disk_bytenr.get()),
            len: item.disk_num_bytes.get(),
            kind: data_ref(self.root, self.objectid, file_start, item),
            add,
        })
    }

    fn apply(&self, refs: Vec<RefChange>) {
        let delayed = &self.trans.transaction().delayed_refs;
        for RefChange { at, len, kind, add } in refs {
            match add {
                true => delayed.add_data_ref(at, len, kind),
                false => delayed.drop_data_ref(at, len, kind),
            }
        }
    }
}

/// The item for `len` bytes of `item`'s range, from `skip` on. Explicit holes count an offset too,
/// within `ram_bytes`.
fn part(item: &FileExtentItem, skip: u64, len: u64) -> FileExtentItem {
    let mut part = *item;
    part.offset = item.offset.get().wrapping_add(skip).into();
    part.num_bytes = len.into();
    part
}
