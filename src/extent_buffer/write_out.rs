//! Dirty blocks go to the disk, in few large writes.
//!
//! Owns: DIRTY → WRITEBACK → clean. A block is copied under its write lock and written from the
//! copy, so its lock is held for the copy only, and WRITTEN in its header tells the running
//! transaction to make a new copy before the next change. Invariant: a thread that has blocks in
//! WRITEBACK never waits, neither for a block's lock nor for another's WRITEBACK: it writes
//! first. Who holds a lock may wait for WRITEBACK ([`Cache::create`]).

use std::panic::resume_unwind;

use super::buffer::EbRef;
use super::cache::{self, Cache, Inner};
use super::protocol::Protocol;
use crate::error::{Error, Result};
use crate::ondisk::tree_block::HEADER_FLAG_WRITTEN;
use crate::sync::atomic::Ordering;
use crate::sync::thread;
use crate::units::{Generation, Logical};

/// One write's most bytes.
const RUN_BYTES_MAX: usize = 1 << 20;
/// A second thread helps from this many blocks on.
const PARALLEL_BLOCKS_MIN: usize = 256;
const THREADS_MAX: usize = 4;

impl Cache {
    /// Writes those of `blocks` that are dirty and not newer than `upto`, and waits for those
    /// that another thread is writing. What was freed or written meanwhile is passed over; a
    /// block of the transaction after `upto` at an address that was freed is not touched.
    ///
    /// Returns the blocks that it has written itself. After an error the blocks that it concerns
    /// are dirty again.
    pub fn write_out(&self, blocks: &[Logical], upto: Generation) -> Result<Vec<Logical>> {
        let mut sorted = blocks.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let threads = match sorted.len() {
            0..PARALLEL_BLOCKS_MIN => 1,
            _ => thread::available_parallelism().map_or(1, |n| n.get().min(THREADS_MAX)),
        };
        if threads == 1 {
            return self.inner.write_out_run(&sorted, upto);
        }
        let share = sorted.len().div_ceil(threads);
        thread::scope(|scope| {
            let parts: Vec<_> = sorted
                .chunks(share)
                .map(|part| scope.spawn(move || self.inner.write_out_run(part, upto)))
                .collect();
            let mut result = Ok(Vec::with_capacity(sorted.len()));
            for part in parts {
                let part = part.join().unwrap_or_else(|panic| resume_unwind(panic));
                result = result.and_then(|mut written| {
                    written.extend(part?);
                    Ok(written)
                });
            }
            result
        })
    }
}

/// Copies of blocks that follow each other, in WRITEBACK.
struct Run<'a> {
    cache: &'a Inner,
    first: Logical,
    bytes: Vec<u8>,
    blocks: Vec<EbRef>,
    written: Vec<Logical>,
}

impl Inner {
    fn write_out_run(&self, sorted: &[Logical], upto: Generation) -> Result<Vec<Logical>> {
        let mut result = Ok(());
        let mut busy = Vec::new();
        let mut run = Run::new(self);
        for &at in sorted {
            let Some(eb) = self.find(at) else {
                self.look_for_loss(at);
                continue;
            };
            if !run.takes(at) {
                result = result.and(run.write());
            }
            // Whether it is clean is asked under its lock: DIRTY may be turning into another
            // thread's WRITEBACK just now, and a look from outside can miss both.
            if eb.is_under_writeback() {
                busy.push(eb);
            } else {
                result = result.and(run.add(eb, upto, &mut busy));
            }
        }
        result = result.and(run.write());
        // Others' writes: nothing of ours is under way now, so waiting can't be mutual. One that
        // failed over there left its block dirty; here is the one who must know.
        for eb in busy {
            self.wait_writeback(eb.life());
            let mut again = Vec::new();
            result = result.and(run.add(eb, upto, &mut again));
            result = result.and(run.write());
            for eb in again {
                self.wait_writeback(eb.life());
                if eb.is_dirty() && eb.generation() <= upto {
                    let words = format!("block {} could not be written", eb.bytenr());
                    result = result.and(Err(Error::NoGoodCopy(words)));
                }
            }
        }
        result.map(|()| std::mem::take(&mut run.written))
    }
}

impl<'a> Run<'a> {
    fn new(cache: &'a Inner) -> Self {
        Self {
            cache,
            first: Logical(0),
            bytes: Vec::new(),
            blocks: Vec::new(),
            written: Vec::new(),
        }
    }

    fn takes(&self, at: Logical) -> bool {
        self.blocks.is_empty()
            || (self.first.0 + self.bytes.len() as u64 == at.0
                && self.bytes.len() + self.cache.nodesize as usize <= RUN_BYTES_MAX)
    }

    /// Copies one block, if it is still to be written.
    fn add(&mut self, eb: EbRef, upto: Generation, busy: &mut Vec<EbRef>) -> Result<()> {
        let mut result = Ok(());
        let mut block = match eb.try_write() {
            Some(block) => block,
            None => {
                // Its holder may wait for a write of ours to end.
                result = self.write();
                eb.into_write()
            }
        };
        let eb = block.eb().clone();
        if eb.is_under_writeback() {
            busy.push(eb);
            return result;
        }
        // Whether it is dirty is final under the lock, and asked before WRITEBACK is tried: who waits
        // for that flag is woken by the end of a write, and there would be none.
        if block.header().generation.get() > upto.0
            || !eb.is_dirty()
            || !self.cache.rules().begin_writeback(eb.life())
        {
            return result;
        }
        cache::account_clean(eb.slot());
        block.header_mut().set_flag(HEADER_FLAG_WRITTEN, true);
        if self.blocks.is_empty() {
            self.first = eb.bytenr();
        }
        self.bytes.extend_from_slice(&block);
        self.blocks.push(eb);
        result
    }

    /// Judges, seals and writes the copies, and ends their WRITEBACK.
    fn write(&mut self) -> Result<()> {
        if self.blocks.is_empty() {
            return Ok(());
        }
        let nodesize = self.cache.nodesize as usize;
        let sealed = self
            .bytes
            .chunks_exact_mut(nodesize)
            .zip(&self.blocks)
            .try_for_each(|(bytes, eb)| self.cache.backing.seal(eb.bytenr(), bytes));
        let result = sealed.and_then(|()| self.cache.backing.write(self.first, &self.bytes));
        // Relaxed: a statistic.
        self.cache
            .counters
            .writes
            .fetch_add(self.blocks.len() as u64, Ordering::Relaxed);
        if result.is_ok() {
            self.written.extend(self.blocks.iter().map(EbRef::bytenr));
        }
        self.end(result.is_ok());
        self.bytes.clear();
        result
    }

    /// Ends the blocks' WRITEBACK; those that didn't reach the disk are dirty again.
    fn end(&mut self, written: bool) {
        for eb in self.blocks.drain(..) {
            if !written && self.cache.rules().set_dirty(eb.life()) {
                cache::account_dirty(eb.slot());
            }
            self.cache.rules().end_writeback(eb.life());
        }
        drop(self.cache.writeback_lock.lock());
        self.cache.writeback_ended.notify_all();
    }
}

impl Drop for Run<'_> {
    /// Nobody waits forever for a write that ended in a panic.
    fn drop(&mut self) {
        if !self.blocks.is_empty() {
            self.end(false);
        }
    }
}
