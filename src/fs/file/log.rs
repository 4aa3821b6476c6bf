//! What a log says of a file's content.
//!
//! Owns: choosing the extent items. Replay puts each logged item over what the last commit has in its
//! range, after dropping all that lies behind the file's size. So these are needed: items of this
//! transaction; a hole for each gap below the size, whether the format keeps holes or not; and all
//! that reaches behind the size (preallocated). An item of an older transaction stands for the
//! same bytes as in the last commit: only sharing puts such an item elsewhere, and a target of that
//! isn't logged. Never: whether the inode may be logged at all.

use super::extents::{ExtentRecord, extent_key};
use crate::commit::CsumRun;
use crate::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::inode::Inode;
use crate::ondisk::{
    COMPRESS_NONE, FILE_EXTENT_REG, FileExtent, FileExtentHead, FileExtentItem, INODE_NODATASUM,
    Key, kind,
};
use crate::sync::MutexGuard;
use crate::transaction::TransHandle;
use crate::units::{Logical, round_up};

/// Items that are looked at, for each fsync again: a file with more is cheaper to commit.
const ITEMS_MAX: usize = 4096;
/// Items that are logged: about a leaf of them. More would be written again by each fsync, and after a
/// commit there are none.
const NEWS_MAX: usize = 160;
/// Bytes of checksums, and of items, that one inode may add to a log.
const BYTES_MAX: usize = 1 << 20;

/// A file's content as a log tells it.
#[derive(Default)]
pub struct LoggedContent {
    /// By key.
    pub items: Vec<(Key, Vec<u8>)>,
    /// Of the extents that the log doesn't have yet.
    pub sums: Vec<CsumRun>,
    bytes: usize,
}

/// Nobody changes the file's extent items while this is held.
pub fn hold_extents(inode: &Inode) -> MutexGuard<'_, ()> {
    inode.data.flush.lock()
}

/// What the log has to say of a file of `size` bytes; `None` when that is too much. The caller
/// holds the extents.
pub fn logged_content(
    fs: &Filesystem,
    trans: &TransHandle,
    inode: &Inode,
    (size, flags): (u64, u64),
) -> Result<Option<LoggedContent>> {
    let transid = trans.transid().get();
    let end = round_up(size, fs.ctx.sectorsize.into()).ok_or(Error::FileTooBig)?;
    let mut content = LoggedContent::default();
    let mut here = 0;
    let mut cursor = fs.ctx.search(&inode.root, &extent_key(inode.objectid, 0))?;
    let mut seen = 0;
    while let Some((key, data)) = cursor.item()
        && (key.objectid, key.kind) == (inode.objectid, kind::EXTENT_DATA)
    {
        seen += 1;
        if seen > ITEMS_MAX || content.items.len() > NEWS_MAX || content.bytes > BYTES_MAX {
            return Ok(None);
        }
        let record = ExtentRecord::parse(&key, data, fs.ctx.sectorsize)?;
        if here < record.file.start.min(end) {
            content.put_hole(inode, transid, here, record.file.start.min(end));
        }
        here = here.max(record.file.end);
        let generation = FileExtentHead::read(data).map_or(0, |head| head.generation.get());
        if generation >= transid || record.file.end > end {
            let is_news = !fs
                .engine
                .committer
                .has_logged(trans, inode.root.objectid, &key, data);
            let summed = flags & INODE_NODATASUM == 0 && is_news;
            if summed && !content.add_sums(fs, data)? {
                return Ok(None);
            }
            content.put(key, data.to_vec());
        }
        cursor.next()?;
    }
    if here < end {
        content.put_hole(inode, transid, here, end);
    }
    Ok(Some(content))
}

impl LoggedContent {
    fn put(&mut self, key: Key, data: Vec<u8>) {
        self.bytes += data.len();
        self.items.push((key, data));
    }

    fn put_hole(&mut self, inode: &Inode, transid: u64, from: u64, to: u64) {
        let item = FileExtentItem::hole(transid, to - from);
        let key = extent_key(inode.objectid, from);
        self.put(key, item.as_bytes().to_vec());
    }

    /// The checksums of what the item stands for; false if some are missing.
    fn add_sums(&mut self, fs: &Filesystem, data: &[u8]) -> Result<bool> {
        let Some(FileExtent::Extent(item)) = FileExtent::parse(data) else {
            return Ok(true);
        };
        if item.is_hole() || item.kind != FILE_EXTENT_REG {
            return Ok(true);
        }
        if item.compression != COMPRESS_NONE {
            return Ok(false);
        }
        let (at, len) = (
            item.disk_bytenr.get().wrapping_add(item.offset.get()),
            item.num_bytes.get(),
        );
        let runs = fs.engine.csums.lookup(Logical(at), len)?;
        let found: usize = runs.iter().map(|run| run.sums.len()).sum();
        self.bytes += found;
        self.sums.extend(runs);
        let sectors = len / u64::from(fs.ctx.sectorsize);
        Ok(found as u64 == sectors * fs.engine.csums.csum_type().size() as u64)
    }
}
