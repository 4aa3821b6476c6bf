//! May a range be overwritten where it lies?
//!
//! Owns: the question whether an extent belongs to one inode of one subvolume alone. Preallocated
//! ranges, and all ranges of files without copy-on-write, are written in place then. The answer
//! "no" is always safe: the range is copied.

use super::extents::{Body, ExtentRecord, records_in};
use crate::btree::{InPlacePass, Root};
use crate::error::Result;
use crate::fs::filesystem::Filesystem;
use crate::fs::inode::Inode;
use crate::ondisk::{
    BackRef, COMPRESS_NONE, ExtentEntry, FILE_EXTENT_PREALLOC, FILE_EXTENT_REG, FileExtentItem,
    INODE_NODATACOW, INODE_NODATASUM, INODE_PREALLOC, Key, ids, kind,
};
use crate::transaction::{Pending, RefKind};
use crate::units::Logical;
use std::ops::Range;

/// A part of a range, and where it can be written in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub file: Range<u64>,
    pub place: Place,
}

/// Where a part goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To a new extent.
    Anew,
    /// Over the old content, at this address.
    Over(Logical),
    /// Into preallocated space, at this address; its items change afterwards.
    Prealloc(Logical),
}

/// The reference that a file extent item holds.
pub(in crate::fs) fn data_ref(
    root: &Root,
    objectid: u64,
    file_start: u64,
    item: &FileExtentItem,
) -> RefKind {
    RefKind::Data {
        root: root.objectid,
        objectid,
        offset: file_start.wrapping_sub(item.offset.get()),
    }
}

/// Cuts a dirty range by where its parts can go. The caller holds the inode's `flush`, and
/// `in_place`, if it got that, until what it has written is in the tree.
pub(super) fn places_of(
    fs: &Filesystem,
    inode: &Inode,
    range: &Range<u64>,
    in_place: Option<&InPlacePass>,
) -> Result<Vec<Part>> {
    let flags = inode.meta.lock().flags;
    let mut parts: Vec<Part> = Vec::new();
    let mut push = |file: Range<u64>, place: Place| match parts.last_mut() {
        _ if file.start >= file.end => {}
        Some(last) if last.place == Place::Anew && place == Place::Anew => last.file.end = file.end,
        _ => parts.push(Part { file, place }),
    };
    let mut here = range.start;
    if in_place.is_some() && flags & (INODE_NODATACOW | INODE_PREALLOC) != 0 {
        for record in records_in(&fs.ctx, &inode.root, inode.objectid, range, usize::MAX)? {
            let file = record.file.start.max(here)..record.file.end.min(range.end);
            push(here..file.start, Place::Anew);
            push(
                file.clone(),
                place_of(fs, inode, &record, file.start, flags)?,
            );
            here = file.end.max(here);
        }
    }
    push(here..range.end, Place::Anew);
    Ok(parts)
}

fn place_of(
    fs: &Filesystem,
    inode: &Inode,
    record: &ExtentRecord,
    from: u64,
    flags: u64,
) -> Result<Place> {
    let Body::Extent(item) = &record.body else {
        return Ok(Place::Anew);
    };
    let in_place = match item.kind {
        _ if item.is_hole() || item.compression != COMPRESS_NONE => false,
        FILE_EXTENT_PREALLOC => true,
        FILE_EXTENT_REG => flags & INODE_NODATACOW != 0,
        _ => false,
    };
    if !in_place || !is_exclusive(fs, inode, record.file.start, item)? {
        return Ok(Place::Anew);
    }
    let skip = item.offset.get().wrapping_add(from - record.file.start);
    let at = Logical(item.disk_bytenr.get().wrapping_add(skip));
    if item.kind == FILE_EXTENT_PREALLOC {
        return Ok(Place::Prealloc(at));
    }
    // A file that lost its checksums later may still have some for this range.
    let len = record.file.end - from;
    match flags & INODE_NODATASUM != 0 && fs.engine.csums.lookup(at, len)?.is_empty() {
        true => Ok(Place::Over(at)),
        false => Ok(Place::Anew),
    }
}

/// Whether every reference to the extent comes from this inode, and no snapshot can share it.
fn is_exclusive(
    fs: &Filesystem,
    inode: &Inode,
    file_start: u64,
    item: &FileExtentItem,
) -> Result<bool> {
    if item.generation.get() <= inode.root.last_snapshot().get() {
        return Ok(false);
    }
    let own = data_ref(&inode.root, inode.objectid, file_start, item);
    let at = Logical(item.disk_bytenr.get());
    let mut reserved = false;
    match fs.ctx.transactions.running().delayed_refs.peek(at) {
        Pending::None => {}
        Pending::Running => return Ok(false),
        Pending::Waiting {
            refs,
            must_insert_reserved,
            ..
        } => {
            if refs.iter().any(|(kind, _)| *kind != own) {
                return Ok(false);
            }
            reserved = must_insert_reserved;
        }
    }
    if reserved {
        return Ok(true);
    }
    let extent_root = fs.ctx.roots.get(&fs.ctx, ids::EXTENT_TREE_OBJECTID)?;
    let key = Key::new(at.get(), kind::EXTENT_ITEM, item.disk_num_bytes.get());
    let alone = fs.ctx.get_with(&extent_root, &key, |data| {
        let Some(entry) = ExtentEntry::parse(&key, data) else {
            return false;
        };
        let refs = entry.head.refs.get();
        let mut inline = entry.refs;
        let first = inline.next();
        let only = inline.next().is_none();
        first.is_some_and(|first| {
            let RefKind::Data {
                root,
                objectid,
                offset,
            } = own
            else {
                return false;
            };
            only && first.back_ref
                == (BackRef::Data {
                    root,
                    objectid,
                    offset,
                })
                && u64::from(first.count) == refs
        })
    })?;
    Ok(alone.unwrap_or(false))
}

/// Whether a write of `range` needs no new space: all of it is preallocated, or written in place.
/// Holds as long as `promise`: a snapshot would share those places.
pub(super) fn owns_range(
    fs: &Filesystem,
    inode: &Inode,
    range: &Range<u64>,
    promise: &InPlacePass,
) -> Result<bool> {
    let _still = inode.data.flush.lock();
    owns_range_locked(fs, inode, range, promise)
}

/// As [`owns_range`], for who holds the inode's `flush`.
pub(super) fn owns_range_locked(
    fs: &Filesystem,
    inode: &Inode,
    range: &Range<u64>,
    promise: &InPlacePass,
) -> Result<bool> {
    let parts = places_of(fs, inode, range, Some(promise))?;
    Ok(parts.iter().all(|part| part.place != Place::Anew))
}
