//! What the tree says about a range of a file.
//!
//! Owns: the walk over EXTENT_DATA items, as [`Segment`]s without gaps: where the tree has no
//! item there is a hole, whether the format keeps explicit ones or not. Never: data I/O. Item
//! contents were judged by the tree checker; arithmetic is checked all the same.

use crate::btree::{Cursor, Root, TreeContext};
use crate::error::{Error, Result};
use crate::ondisk::{
    COMPRESS_NONE, FILE_EXTENT_PREALLOC, FileExtent, FileExtentItem, Key, compression_name, kind,
};
use crate::sync::Arc;
use crate::units::{Logical, round_up};
use std::ops::Range;

/// The key of a file's extent item.
pub(super) fn extent_key(objectid: u64, offset: u64) -> Key {
    Key {
        objectid,
        kind: kind::EXTENT_DATA,
        offset,
    }
}

/// One EXTENT_DATA item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::fs) struct ExtentRecord {
    /// The file range it speaks for; of an inline extent, up to the end of its sector.
    pub file: Range<u64>,
    pub body: Body,
}

/// What an item holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::fs) enum Body {
    /// Content in the item.
    Inline {
        compression: u8,
        ram_bytes: u64,
        data: Vec<u8>,
    },
    /// A hole (`disk_bytenr` 0), regular or preallocated extent.
    Extent(FileExtentItem),
}

/// What a range of a file is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Zeros; nothing is reserved.
    Hole,
    /// Zeros; the range is reserved on disk at this address.
    Prealloc(Logical),
    /// The bytes, zero-padded by the reader.
    Inline(Vec<u8>),
    /// Plain bytes at this address.
    Disk(Logical),
    /// A part of something compressed.
    Compressed(u8),
}

/// A range of a file with one [`Source`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub file: Range<u64>,
    pub source: Source,
}

impl ExtentRecord {
    /// Reads an item.
    pub fn parse(key: &Key, data: &[u8], sectorsize: u32) -> Result<Self> {
        let wrong = || {
            Error::corrupt(format!(
                "inode {}: the extent item at {} is malformed",
                key.objectid, key.offset
            ))
        };
        let (len, body) = match FileExtent::parse(data).ok_or_else(wrong)? {
            FileExtent::Inline { head, data } => {
                let ram_bytes = head.ram_bytes.get();
                let len = round_up(ram_bytes.max(1), u64::from(sectorsize)).ok_or_else(wrong)?;
                let compression = head.compression;
                (
                    len,
                    Body::Inline {
                        compression,
                        ram_bytes,
                        data: data.to_vec(),
                    },
                )
            }
            FileExtent::Extent(item) => (item.num_bytes.get(), Body::Extent(item)),
        };
        let end = key
            .offset
            .checked_add(len)
            .filter(|_| len > 0)
            .ok_or_else(wrong)?;
        Ok(Self {
            file: key.offset..end,
            body,
        })
    }

    /// What the part of the item inside `range` is made of.
    pub(super) fn segment(&self, range: &Range<u64>) -> Segment {
        let file = self.file.start.max(range.start)..self.file.end.min(range.end);
        let source = match &self.body {
            Body::Inline {
                compression: COMPRESS_NONE,
                data,
                ..
            } => {
                let skip = (file.start - self.file.start) as usize;
                Source::Inline(data.get(skip..).unwrap_or_default().to_vec())
            }
            Body::Inline { compression, .. } => Source::Compressed(*compression),
            Body::Extent(item) if item.is_hole() => Source::Hole,
            Body::Extent(item) => {
                let skip = item.offset.get().wrapping_add(file.start - self.file.start);
                let at = Logical(item.disk_bytenr.get().wrapping_add(skip));
                match (item.kind, item.compression) {
                    (FILE_EXTENT_PREALLOC, _) => Source::Prealloc(at),
                    (_, COMPRESS_NONE) => Source::Disk(at),
                    (_, compression) => Source::Compressed(compression),
                }
            }
        };
        Segment { file, source }
    }

    /// Bytes that the inode's `nbytes` counts for the part of this item inside `range`.
    pub fn counted_bytes(&self, range: &Range<u64>) -> u64 {
        match &self.body {
            Body::Inline { ram_bytes, .. } => *ram_bytes,
            Body::Extent(item) if item.is_hole() => 0,
            Body::Extent(_) => self
                .file
                .end
                .min(range.end)
                .saturating_sub(self.file.start.max(range.start)),
        }
    }
}

/// Goes over a file's extent items in order.
pub(super) struct ExtentWalk<'a> {
    cursor: Cursor<'a>,
    objectid: u64,
    sectorsize: u32,
}

impl<'a> ExtentWalk<'a> {
    /// Begins with the item that holds `from`, or the first one behind it.
    pub fn starting_at(
        ctx: &'a TreeContext,
        root: &'a Arc<Root>,
        objectid: u64,
        from: u64,
    ) -> Result<Self> {
        let key = extent_key(objectid, from);
        let before = ctx.search_back(root, &key)?;
        let holds_from = match before.item() {
            Some((found, data)) if found.objectid == objectid && found.kind == key.kind => {
                ExtentRecord::parse(&found, data, ctx.sectorsize)?.file.end > from
            }
            _ => false,
        };
        let cursor = if holds_from {
            before
        } else {
            ctx.search(root, &key)?
        };
        Ok(Self {
            cursor,
            objectid,
            sectorsize: ctx.sectorsize,
        })
    }

    /// The item it stands on, if that is one of the file's, and steps on.
    pub fn next(&mut self) -> Result<Option<ExtentRecord>> {
        let Some((key, data)) = self.cursor.item() else {
            return Ok(None);
        };
        if key.objectid != self.objectid || key.kind != kind::EXTENT_DATA {
            return Ok(None);
        }
        let record = ExtentRecord::parse(&key, data, self.sectorsize)?;
        self.cursor.next()?;
        Ok(Some(record))
    }
}

/// The extent items that touch `range`, in order, at most `max`.
pub(in crate::fs) fn records_in(
    ctx: &TreeContext,
    root: &Arc<Root>,
    objectid: u64,
    range: &Range<u64>,
    max: usize,
) -> Result<Vec<ExtentRecord>> {
    let mut records = Vec::new();
    if range.start >= range.end {
        return Ok(records);
    }
    let mut walk = ExtentWalk::starting_at(ctx, root, objectid, range.start)?;
    while records.len() < max
        && let Some(record) = walk.next()?
        && record.file.start < range.end
    {
        records.push(record);
    }
    Ok(records)
}

/// What `range` is made of, without gaps.
pub(super) fn segments_in(
    ctx: &TreeContext,
    root: &Arc<Root>,
    objectid: u64,
    range: &Range<u64>,
) -> Result<Vec<Segment>> {
    let mut segments = Vec::new();
    let mut here = range.start;
    for record in records_in(ctx, root, objectid, range, usize::MAX)? {
        let segment = record.segment(&(here..range.end));
        if segment.file.start >= segment.file.end {
            continue;
        }
        if here < segment.file.start {
            segments.push(Segment {
                file: here..segment.file.start,
                source: Source::Hole,
            });
        }
        here = segment.file.end;
        segments.push(segment);
    }
    if here < range.end {
        segments.push(Segment {
            file: here..range.end,
            source: Source::Hole,
        });
    }
    Ok(segments)
}

/// What is said of content that can't be read yet.
pub(super) fn compressed_unsupported(compression: u8) -> Error {
    let name = compression_name(compression).unwrap_or("an unknown method");
    Error::Unsupported(format!(
        "the content is compressed with {name}, which can't be read yet: copy it off with the \
         kernel's btrfs, or rewrite it there without compression (btrfs filesystem defragment)"
    ))
}
