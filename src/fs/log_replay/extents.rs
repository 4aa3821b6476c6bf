//! Content: extent items, their references and their checksums.
//!
//! Owns: putting a logged EXTENT_DATA in the place of what the file has there. The extent's bytes
//! were written before the log was, so only items change: a new extent is allocated by its first
//! reference, and its checksums go from the log to the csum tree.

use super::tree::{TreeReplay, type_of};
use crate::commit::UnreplayedLog;
use crate::error::{Error, Result};
use crate::fs::file::{Body, ExtentEdit, ExtentRecord, data_ref, records_in};
use crate::ondisk::superblock::{
    FEATURE_INCOMPAT_COMPRESS_LZO, FEATURE_INCOMPAT_COMPRESS_ZSTD, FEATURE_INCOMPAT_NO_HOLES,
};
use crate::ondisk::{COMPRESS_LZO, COMPRESS_NONE, COMPRESS_ZSTD, FileExtentItem, Key};
use crate::units::Logical;
use std::ops::Range;

/// Extent items dropped at once.
const ITEMS_AT_ONCE: usize = 256;

impl TreeReplay<'_> {
    /// An EXTENT_DATA.
    pub fn replay_extent(
        &mut self,
        key: &Key,
        data: &[u8],
        logs: &mut UnreplayedLog,
    ) -> Result<()> {
        let objectid = key.objectid;
        let inode = self.want_inode(objectid)?;
        if !matches!(type_of(&inode), libc::S_IFREG | libc::S_IFLNK) {
            return Err(Error::corrupt("content of an inode that has none"));
        }
        let record = ExtentRecord::parse(key, data, self.ctx.sectorsize)?;
        if let Body::Inline { ram_bytes, .. } = record.body
            && ram_bytes > u64::from(self.ctx.sectorsize)
        {
            return Err(Error::corrupt(format!(
                "{ram_bytes} bytes of inline content"
            )));
        }
        let is_same = |bytes: &[u8]| bytes == data;
        if let Body::Extent(_) = record.body
            && self.ctx.get_with(&self.root, key, is_same)? == Some(true)
        {
            return Ok(());
        }
        logs.add_incompat(feature_of(&record.body));
        let freed = self.drop_extents(objectid, &record.file)?;
        let put = || self.ctx.upsert(self.trans, &self.root, key, data);
        let added = match &record.body {
            Body::Inline { ram_bytes, .. } => {
                put()?;
                *ram_bytes
            }
            Body::Extent(item) if item.is_hole() => {
                if self.ctx.check.incompat & FEATURE_INCOMPAT_NO_HOLES == 0 {
                    put()?;
                }
                0
            }
            Body::Extent(item) => {
                put()?;
                let kind = data_ref(&self.root, objectid, key.offset, item);
                let at = Logical(item.disk_bytenr.get());
                logs.add_data_ref(self.trans, at, item.disk_num_bytes.get(), kind);
                self.replay_csums(item)?;
                item.num_bytes.get()
            }
        };
        if freed == added {
            return Ok(());
        }
        self.change_inode(objectid, |item| {
            let bytes = item.nbytes.get().saturating_sub(freed);
            item.nbytes.set(bytes.saturating_add(added));
        })
    }

    /// Drops what the file has in `range`; returns the bytes by which `nbytes` shrinks.
    fn drop_extents(&self, objectid: u64, range: &Range<u64>) -> Result<u64> {
        let edit = ExtentEdit {
            ctx: self.ctx,
            trans: self.trans,
            root: &self.root,
            objectid,
        };
        let mut freed = 0u64;
        let mut from = range.start;
        while from < range.end {
            let rest = from..range.end;
            let records = records_in(self.ctx, &self.root, objectid, &rest, ITEMS_AT_ONCE)?;
            let until = match records.last() {
                Some(last) if records.len() == ITEMS_AT_ONCE => last.file.end.min(range.end),
                _ => range.end,
            };
            freed = freed.saturating_add(edit.drop_range(&(from..until))?);
            from = until;
        }
        Ok(freed)
    }

    /// What the log knows of the checksums of an item's part of its extent (of all of it, where
    /// that is compressed). There may be some already: another item had a part of that part.
    fn replay_csums(&self, item: &FileExtentItem) -> Result<()> {
        let (skip, len) = match item.compression {
            COMPRESS_NONE => (item.offset.get(), item.num_bytes.get()),
            _ => (0, item.disk_num_bytes.get()),
        };
        let from = Logical(item.disk_bytenr.get())
            .checked_add(skip)
            .ok_or_else(|| Error::corrupt("an extent behind the last address"))?;
        let size = self.csums.csum_type().size();
        for run in self.log.csums.lookup(from, len)? {
            let sectors = (run.sums.len() / size) as u64;
            let bytes = sectors * u64::from(self.ctx.sectorsize);
            self.csums.delete(self.trans, run.at, bytes)?;
            self.csums.insert(self.trans, run.at, &run.sums)?;
        }
        Ok(())
    }
}

/// The feature bit of an image that has such content.
fn feature_of(body: &Body) -> u64 {
    let compression = match body {
        Body::Inline { compression, .. } => *compression,
        Body::Extent(item) => item.compression,
    };
    match compression {
        COMPRESS_LZO => FEATURE_INCOMPAT_COMPRESS_LZO,
        COMPRESS_ZSTD => FEATURE_INCOMPAT_COMPRESS_ZSTD,
        _ => 0,
    }
}
