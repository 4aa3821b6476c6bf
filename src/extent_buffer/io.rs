//! Blocks come into the cache: read from the disk, or made because they were just allocated.
//!
//! Owns: who reads (one thread, under the block's write lock, with its own count; the others
//! wait for the lock and look again) and what may be read over (never a dirty block, never a
//! newer one). An error is remembered by nobody: the next one reads again.

use super::buffer::EbRef;
use super::cache::{Cache, Inner};
use super::flags::{STALE, TREE_REF, UNDER_IO, UPTODATE, WRITEBACK};
use super::guards::WriteGuard;
use super::protocol::Protocol;
use crate::error::{Error, Result};
use crate::ondisk::check::Expect;
use crate::ondisk::tree_block;
use crate::sync::atomic::Ordering;
use crate::units::{Generation, Logical};

impl Cache {
    /// The buffer of a block, up to date and as expected; reads the block if need be.
    ///
    /// Generation, level and owner are checked whether or not the cache had the block; the rest is
    /// checked when it is read. The caller makes sure that the block isn't freed meanwhile (it
    /// holds the lock of the block's parent), or ignores an error (readahead).
    #[inline]
    pub fn read(&self, expect: &Expect) -> Result<EbRef> {
        let eb = self.find_or_insert(expect.at);
        if eb.is_uptodate() && is_expected(&eb, expect) {
            return Ok(eb);
        }
        self.inner.fill(eb, expect)
    }

    /// The buffer of a block that was just allocated to tree `owner`: empty, with its header,
    /// dirty, and locked.
    ///
    /// The address may have been another block's a moment ago, and its buffer may still be held
    /// by those who found it on their path, stale or not: it becomes the new block's buffer, once
    /// they don't hold its lock.
    pub fn create(
        &self,
        at: Logical,
        generation: Generation,
        owner: u64,
        level: u8,
    ) -> Result<WriteGuard> {
        let mut block = self.find_or_insert(at).into_write();
        let life = block.eb().life();
        // A copy of what the address held before may be on its way to it; ours must come after.
        self.inner.wait_writeback(life);
        if life.has(STALE) || !life.has(TREE_REF) {
            self.inner.rules().revive(life);
        }
        let (fsid, chunk_tree_uuid) = (
            self.inner.backing.fsid(),
            self.inner.backing.chunk_tree_uuid(),
        );
        tree_block::init(
            &mut block,
            at,
            generation,
            owner,
            level,
            &fsid,
            &chunk_tree_uuid,
        );
        block.set_uptodate();
        block.mark_dirty();
        Ok(block)
    }
}

impl Inner {
    #[cold]
    fn fill(&self, eb: EbRef, expect: &Expect) -> Result<EbRef> {
        // A pointer that lies may name a block that someone holds who waits for the caller.
        let wanted = |eb: &EbRef| !eb.is_uptodate() || is_expected(eb, expect);
        let Some(mut block) = eb.into_write_while(wanted) else {
            return Err(Error::corrupt_block(
                expect.at,
                None,
                "is in use as another block than its parent says",
            ));
        };
        if !block.eb().is_uptodate() {
            let life = block.eb().life();
            self.rules().begin_read(life);
            // Relaxed: a statistic.
            self.counters.reads.fetch_add(1, Ordering::Relaxed);
            let result = self.backing.read(expect, block.bytes_mut());
            // The reader's own count is still there, so this is never the last.
            let _ = self.rules().end_read(life);
            result?;
            block.set_uptodate();
        } else if !is_expected(block.eb(), expect) {
            self.read_over(&mut block, expect)?;
        }
        Ok(block.into_ref())
    }

    /// The cache has another block at the address than the caller expects. If it is older than
    /// the pointer to it and written, the disk has the last word; the good contents stay when
    /// the disk doesn't help.
    fn read_over(&self, block: &mut WriteGuard, expect: &Expect) -> Result<()> {
        let (generation, level) = (block.eb().generation(), block.eb().level());
        let newer = expect
            .generation
            .is_some_and(|expected| generation > expected);
        if newer || block.eb().life().has(UNDER_IO) {
            return Err(Error::corrupt_block(
                expect.at,
                None,
                format!(
                    "the cache has generation {generation} level {level}, its parent expects \
                     generation {:?} level {:?}",
                    expect.generation, expect.level
                ),
            ));
        }
        let mut fresh = vec![0; block.len()].into_boxed_slice();
        self.counters.reads.fetch_add(1, Ordering::Relaxed);
        self.backing.read(expect, &mut fresh)?;
        *block.bytes_mut() = fresh;
        block.set_uptodate();
        Ok(())
    }

    /// Waits until no copy of the buffer is on its way to the disk.
    pub(super) fn wait_writeback(&self, life: &super::lifetime::Lifetime) {
        if life.has_acquire(WRITEBACK) {
            let mut lock = self.writeback_lock.lock();
            while life.has_acquire(WRITEBACK) {
                self.writeback_ended.wait(&mut lock);
            }
        }
    }
}

#[inline]
fn is_expected(eb: &EbRef, expect: &Expect) -> bool {
    debug_assert!(eb.life().has_acquire(UPTODATE));
    expect
        .generation
        .is_none_or(|expected| expected == eb.generation())
        && expect.level.is_none_or(|expected| expected == eb.level())
        && expect.fits_owner(eb.owner())
}
