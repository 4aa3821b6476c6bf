//! Logs reach the disk, in the order that makes a cut at any write harmless.
//!
//! ```text
//! file data is written ─ log blocks ─ FLUSH ─ superblocks with log_root ─ FLUSH
//! ```
//!
//! Owns: that order, and sharing: who comes while one is under way waits for it, and the first of
//! them writes what all of them have logged. The lock on the last durable superblock is the turn,
//! so a log is never written while a commit is.

use super::logs::{Draft, InodeLog};
use super::tree::Stamp;
use crate::commit::Committer;
use crate::error::{Error, Result};
use crate::ondisk::{Key, Superblock, check};
use crate::sync::atomic::Ordering;
use crate::transaction::TransHandle;
use crate::units::{Generation, Logical};

/// One write's most bytes.
const RUN_BYTES_MAX: usize = 1 << 20;

impl Committer {
    /// Logs an inode: the answer is for [`Committer::sync_log`], once the handle is gone. `None`: only a
    /// commit makes it durable.
    pub fn log_inode(&self, trans: &TransHandle, subvol: u64, inode: InodeLog) -> Option<u64> {
        if self.ctx.space.has_new_chunks() {
            return None;
        }
        // A commit has to follow, or the log would stay.
        trans.transaction().add_dirty_root(subvol);
        self.logs.add(subvol, inode)
    }

    /// An inode of this transaction is gone that was perhaps logged.
    pub fn forget_logged(&self, _trans: &TransHandle, subvol: u64, objectid: u64) {
        self.logs.forget(subvol, objectid);
    }

    /// Whether the log of the handle's transaction has exactly this item.
    pub fn has_logged(&self, _trans: &TransHandle, subvol: u64, key: &Key, data: &[u8]) -> bool {
        self.logs.holds(subvol, key, data)
    }

    /// What [`Committer::log_inode`] gave the ticket for in transaction `transid` is durable when this
    /// returns true. False: it can't be logged, commit instead. The caller has no transaction handle.
    ///
    /// # Errors
    /// The mount is aborted.
    pub fn sync_log(&self, transid: Generation, ticket: u64) -> Result<bool> {
        let superblock = self.superblock.lock();
        self.ctx.transactions.check()?;
        if self.ctx.transactions.durable() >= transid {
            return Ok(true);
        }
        if self.logs.has(ticket) {
            return Ok(true);
        }
        match self.write_log(transid, &superblock) {
            Ok(true) => Ok(true),
            Ok(false) | Err(Error::NoSpace) => Ok(false),
            Err(error) => {
                self.ctx.transactions.check()?;
                log::error!("the log can't be written, committing instead: {error}");
                self.logs.close();
                Ok(false)
            }
        }
    }

    /// False: it can't be said in a log.
    fn write_log(&self, transid: Generation, last: &Superblock) -> Result<bool> {
        debug_assert_eq!(last.generation().get() + 1, transid.get());
        let stamp = Stamp {
            nodesize: self.ctx.nodesize,
            generation: transid,
            fsid: self.ctx.check.fsid,
            chunk_tree_uuid: self.trees.chunk_tree_uuid,
        };
        let mut draft = self.logs.draft(&self.ctx.space, &stamp)?;
        // The last commit doesn't know where bytes of a new chunk are: neither the log's blocks nor
        // the extents in it may lie in one.
        if self.ctx.space.has_new_chunks() {
            self.logs.close();
            return Ok(false);
        }
        if draft.blocks.is_empty() {
            // Nothing new but content, perhaps, that was written in place.
            self.flush_for_log()?;
            self.logs.written(draft);
            return Ok(true);
        }
        self.write_log_blocks(&mut draft)?;
        self.flush_for_log()?;
        // What is in memory may have been found to be wrong meanwhile.
        self.ctx.transactions.check()?;
        let mut superblock = last.clone();
        superblock.log_root.set(draft.root.0.get());
        superblock.log_root_level = draft.root.1;
        if !self.volume.write_superblocks(&mut superblock)? {
            // A mirror still names the log before: no place of that may be used again.
            self.logs.close();
        }
        self.flush_for_log()?;
        // Relaxed: statistics.
        let counters = &self.counters;
        counters.logs.fetch_add(1, Ordering::Relaxed);
        let blocks = draft.blocks.len() as u64;
        counters.log_blocks.fetch_add(blocks, Ordering::Relaxed);
        log::trace!("a log of transaction {transid} is durable: {blocks} blocks");
        self.logs.written(draft);
        Ok(true)
    }

    /// A failed flush may have lost content that a commit would then refer to, so it ends the mount.
    fn flush_for_log(&self) -> Result<()> {
        self.volume.flush().inspect_err(|error| self.abort(error))
    }

    fn write_log_blocks(&self, draft: &mut Draft) -> Result<()> {
        draft.blocks.sort_unstable_by_key(|(at, _)| *at);
        let mut run: Option<(Logical, Vec<u8>)> = None;
        for (at, block) in &mut draft.blocks {
            let level = Some(crate::ondisk::tree_block::level(block));
            let expect = check::Expect {
                level,
                ..check::Expect::at(*at)
            };
            check::check_contents(&self.ctx.check, &expect, block)?;
            check::seal_block(&self.ctx.check, block);
            match &mut run {
                Some((first, bytes))
                    if first.get() + bytes.len() as u64 == at.get()
                        && bytes.len() < RUN_BYTES_MAX =>
                {
                    bytes.extend_from_slice(block);
                }
                _ => {
                    if let Some((first, bytes)) = run.replace((*at, block.clone())) {
                        self.volume.write(first, &bytes)?;
                    }
                }
            }
        }
        match run {
            Some((first, bytes)) => self.volume.write(first, &bytes),
            None => Ok(()),
        }
    }
}
