//! Checksums of data extents: insert, look up, delete.
//!
//! Owns: the items of the csum tree. Invariant: items never overlap, and a range that is
//! written with checksums has them before any reader can be told to believe it.

use crate::btree::{Root, TreeContext, Update};
use crate::error::{Error, Result};
use crate::ondisk::{CsumType, Key, ids, kind, tree_block};
use crate::sync::{Arc, RwLock};
use crate::transaction::TransHandle;
use crate::units::Logical;

/// Items grow up to this many bytes: larger ones make every split and copy dearer.
const ITEM_BYTES_MAX: usize = 4096;

/// The csum tree.
pub struct Csums {
    ctx: Arc<TreeContext>,
    root: Arc<Root>,
    csum_type: CsumType,
    /// Inserting and looking up share it; deleting, which splits items in two steps, doesn't.
    layout: RwLock<()>,
}

/// Checksums of consecutive sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsumRun {
    /// The first sector.
    pub at: Logical,
    /// The checksums, [`CsumType::size`] bytes each.
    pub sums: Vec<u8>,
}

impl Csums {
    /// The csum tree of a filesystem.
    pub(super) fn new(ctx: Arc<TreeContext>, root: Arc<Root>, csum_type: CsumType) -> Self {
        Self {
            ctx,
            root,
            csum_type,
            layout: RwLock::new(()),
        }
    }

    /// The kind of checksum.
    pub fn csum_type(&self) -> CsumType {
        self.csum_type
    }

    /// The checksums of whole sectors, one after the other: what [`Csums::insert`] takes.
    pub fn sums_of(&self, data: &[u8]) -> Vec<u8> {
        let size = self.csum_type.size();
        let sectors = data.chunks(self.ctx.sectorsize as usize);
        sectors
            .flat_map(|sector| self.csum_type.digest(sector).into_iter().take(size))
            .collect()
    }

    fn sectors_bytes(&self, sums: usize) -> u64 {
        (sums / self.csum_type.size()) as u64 * u64::from(self.ctx.sectorsize)
    }

    fn sums_bytes(&self, len: u64) -> usize {
        (len / u64::from(self.ctx.sectorsize)) as usize * self.csum_type.size()
    }

    fn item_max(&self) -> usize {
        let leaf = tree_block::leaf_data_size(self.ctx.nodesize) as usize / 2;
        let most = ITEM_BYTES_MAX.min(leaf);
        most - most % self.csum_type.size()
    }

    /// Writes the checksums of an extent (or a part) that has none yet. Leftovers of an extent
    /// that is gone (an interrupted writer's) give way.
    pub fn insert(&self, trans: &TransHandle, at: Logical, sums: &[u8]) -> Result<()> {
        debug_assert!(sums.len().is_multiple_of(self.csum_type.size()));
        let mut shared = self.layout.read();
        let (mut at, mut sums) = (at.get(), sums);
        while !sums.is_empty() {
            let end = at + self.sectors_bytes(sums.len());
            let mut done = 0;
            if let Some((left, size)) = self.item_before(end - 1)? {
                let left_end = left + self.sectors_bytes(size);
                if left_end > at {
                    log::warn!("checksums of {at} to {end} were left behind by an extent");
                    drop(shared);
                    self.delete(trans, Logical(at), end - at)?;
                    shared = self.layout.read();
                    continue;
                }
                if left_end == at && size < self.item_max() {
                    done = self.append(trans, left, at, sums)?;
                }
            }
            if done == 0 {
                done = sums.len().min(self.item_max());
                self.ctx
                    .insert(trans, &self.root, &key(at), &sums[..done])?;
            }
            at += self.sectors_bytes(done);
            sums = &sums[done..];
        }
        Ok(())
    }

    /// Appends to the item at `left`, which ended at `at`. Returns the bytes taken.
    fn append(&self, trans: &TransHandle, left: u64, at: u64, sums: &[u8]) -> Result<usize> {
        let mut done = 0;
        self.ctx.update(trans, &self.root, &key(left), |data| {
            done = 0;
            let Some(data) = data else {
                return Ok(Update::Keep);
            };
            // It may have changed since it was looked at.
            if left + self.sectors_bytes(data.len()) != at {
                return Ok(Update::Keep);
            }
            done = sums.len().min(self.item_max().saturating_sub(data.len()));
            if done == 0 {
                return Ok(Update::Keep);
            }
            Ok(Update::Put([data, &sums[..done]].concat()))
        })?;
        Ok(done)
    }

    /// The last item that starts at or before `at`: start and size.
    fn item_before(&self, at: u64) -> Result<Option<(u64, usize)>> {
        let cursor = self.ctx.search_back(&self.root, &key(at))?;
        Ok(cursor
            .item()
            .filter(|(key, _)| key.objectid == ids::EXTENT_CSUM_OBJECTID)
            .map(|(key, data)| (key.offset, data.len())))
    }

    /// The checksums that exist for a range, in runs; sectors without one are in no run.
    pub fn lookup(&self, at: Logical, len: u64) -> Result<Vec<CsumRun>> {
        let from = at.get();
        let end = from
            .checked_add(len)
            .ok_or_else(|| Error::corrupt("an extent wraps"))?;
        let _shared = self.layout.read();
        let mut runs: Vec<CsumRun> = Vec::new();
        let mut cursor = self.ctx.search_back(&self.root, &key(from))?;
        if cursor.item().is_none() {
            cursor = self.ctx.search(&self.root, &key(from))?;
        }
        while let Some((key, data)) = cursor.item() {
            if key.objectid == ids::EXTENT_CSUM_OBJECTID && key.offset >= end
                || key.objectid > ids::EXTENT_CSUM_OBJECTID
            {
                break;
            }
            let item_end = key.offset + self.sectors_bytes(data.len());
            if key.objectid == ids::EXTENT_CSUM_OBJECTID && item_end > from {
                let first = key.offset.max(from);
                let last = item_end.min(end);
                let skip = self.sums_bytes(first - key.offset);
                let sums = &data[skip..skip + self.sums_bytes(last - first)];
                match runs.last_mut() {
                    Some(run) if run.at.get() + self.sectors_bytes(run.sums.len()) == first => {
                        run.sums.extend_from_slice(sums);
                    }
                    _ => runs.push(CsumRun {
                        at: Logical(first),
                        sums: sums.to_vec(),
                    }),
                }
                if item_end >= end {
                    break;
                }
            }
            if !cursor.next()? {
                break;
            }
        }
        Ok(runs)
    }

    /// Removes all checksums of a range; one that has none is left as it is.
    pub fn delete(&self, trans: &TransHandle, at: Logical, len: u64) -> Result<()> {
        let from = at.get();
        let end = from
            .checked_add(len)
            .ok_or_else(|| Error::corrupt("an extent wraps"))?;
        let _alone = self.layout.write();
        loop {
            // From the end backwards: the item before the end is always the next one to go.
            let Some((start, size)) = self.item_before(end - 1)? else {
                return Ok(());
            };
            let item_end = start + self.sectors_bytes(size);
            if item_end <= from {
                return Ok(());
            }
            let data = self.ctx.get(&self.root, &key(start))?.unwrap_or_default();
            let keep = self.sums_bytes(from.saturating_sub(start)).min(data.len());
            if start < from {
                self.ctx
                    .replace(trans, &self.root, &key(start), &data[..keep])?;
            } else {
                self.ctx.delete(trans, &self.root, &key(start))?;
            }
            if item_end > end {
                let tail = &data[self.sums_bytes(end - start).min(data.len())..];
                self.ctx.insert(trans, &self.root, &key(end), tail)?;
            }
            if start <= from {
                return Ok(());
            }
        }
    }
}

fn key(at: u64) -> Key {
    Key::new(ids::EXTENT_CSUM_OBJECTID, kind::EXTENT_CSUM, at)
}
