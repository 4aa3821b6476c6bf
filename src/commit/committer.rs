//! The commit: a transaction made durable.
//!
//! Owns: the order. Invariant: a superblock is written only when everything that it reaches is
//! flushed, and nothing that the one before reaches is reused before the new one is flushed.
//!
//! ```text
//!            joins wait                      the next transaction runs
//! before ─┬─ drain writers ─ delayed items ─ settle ─┬─ blocks ─ FLUSH ─ superblocks ─ FLUSH ─ unpin
//! ```

use super::block_groups::ChunkTrees;
use super::csums::Csums;
use super::extent_tree::ExtentTree;
use super::free_space_delta::FreeSpaceDelta;
use super::hooks::CommitHooks;
use super::roots::{NamedRoots, UuidTreeComplete};
use crate::allocator::{EmptyGroup, PinnedSet, Reclaim};
use crate::btree::TreeContext;
use crate::error::{Error, Result};
use crate::ondisk::Superblock;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, RwLock, Weak};
use crate::transaction::{CommitGuard, TransHandle};
use crate::units::{Generation, Logical};
use crate::volume::Volume;
use std::collections::BTreeMap;

/// So many waiting heads are run before the critical section rather than in it.
const HEADS_LEFT_FOR_CRITICAL: usize = 256;
/// Passes over the waiting heads before the critical section; writers add more meanwhile.
const PASSES_BEFORE_CRITICAL: usize = 3;

/// Counters of a mount's commits.
#[derive(Debug, Default)]
pub struct CommitCounters {
    /// Commits that wrote a superblock.
    pub commits: AtomicU64,
    /// Tree blocks written by them.
    pub blocks: AtomicU64,
    /// Microseconds that joins had to wait, summed.
    pub critical_us: AtomicU64,
    /// Microseconds of whole commits, summed.
    pub total_us: AtomicU64,
    /// Delayed-ref heads run.
    pub heads: AtomicU64,
    /// Rounds of the fixpoint, summed.
    pub rounds: AtomicU64,
    /// Superblocks written for a log.
    pub logs: AtomicU64,
    /// Log blocks written.
    pub log_blocks: AtomicU64,
}

/// Makes transactions durable. One for each filesystem that is open for writing.
pub struct Committer {
    pub(super) ctx: Arc<TreeContext>,
    pub(super) volume: Arc<Volume>,
    pub(super) csums: Arc<Csums>,
    pub(super) delta: FreeSpaceDelta,
    pub(super) trees: ChunkTrees,
    pub(super) named: NamedRoots,
    pub(super) uuid_tree: UuidTreeComplete,
    pub(super) skinny: bool,
    pub(super) discard: bool,
    /// Why nothing may be written, if so.
    pub(super) read_only: Option<String>,
    /// Quotas are on and their numbers aren't kept: the first commit says so on disk.
    pub(super) quota_unmarked: AtomicBool,
    /// A log tree isn't replayed yet. A commit would clear it, so there is none.
    pub(super) log_waits: AtomicBool,
    /// The last durable superblock. Its lock makes commits take turns.
    pub(super) superblock: Mutex<Superblock>,
    /// A copy of it, for who must not wait for a commit.
    pub(super) shown: Mutex<Superblock>,
    pub(super) hooks: RwLock<Option<Weak<dyn CommitHooks>>>,
    pub(super) background: Mutex<Option<super::background::Background>>,
    pub(super) cleaner: super::cleaner::Cleaner,
    /// The transaction whose commit has begun to take what waits in memory for it; 0 when there is
    /// none.
    pub(super) gathering: AtomicU64,
    /// One early write-out at a time: a second one would find the same blocks. Held through the
    /// critical section, see [`Committer::write_early`].
    pub(super) early: Mutex<()>,
    /// What fsyncs have logged since the last commit.
    pub(super) logs: super::log_tree::Logs,
    /// Counters since the filesystem was opened.
    pub counters: CommitCounters,
}

/// What is left to do when the trees are at rest.
struct Settled {
    superblock: Superblock,
    blocks: Vec<Logical>,
    pinned: PinnedSet,
    removed: Vec<EmptyGroup>,
}

impl Committer {
    /// Installs the filesystem's part.
    pub fn set_hooks(&self, hooks: Weak<dyn CommitHooks>) {
        *self.hooks.write() = Some(hooks);
    }

    fn hooks(&self) -> Option<Arc<dyn CommitHooks>> {
        self.hooks.read().as_ref().and_then(Weak::upgrade)
    }

    /// A copy of the last durable superblock. Doesn't wait for a commit that is under way.
    pub fn superblock(&self) -> Superblock {
        self.shown.lock().clone()
    }

    /// Everything that joined before is durable when this returns. Requests that come together
    /// share one commit. The caller has no transaction handle.
    ///
    /// File data that can't be written is an error, but doesn't keep the trees from being
    /// committed: they never reach data that wasn't written.
    pub fn commit(&self) -> Result<()> {
        let data = self.write_content();
        self.commit_trees().and(data)
    }

    /// As [`Committer::commit`], for who waits for the trees alone: file data that can't be written is no
    /// error of theirs.
    pub fn commit_whatever_is_lost(&self) -> Result<()> {
        if let Err(error) = self.write_content() {
            log::debug!("committing without some content: {error}");
        }
        self.commit_trees()
    }

    fn write_content(&self) -> Result<()> {
        match self.hooks() {
            Some(hooks) if self.read_only.is_none() => hooks.before_commit(),
            _ => Ok(()),
        }
    }

    /// As [`Committer::commit`], without asking the filesystem to write file data first.
    pub fn commit_trees(&self) -> Result<()> {
        if let Some(reason) = &self.read_only {
            return Err(Error::ReadOnly(reason.clone()));
        }
        // Relaxed: the thread that opens the filesystem is the only one that can commit so early.
        if self.log_waits.load(Ordering::Relaxed) {
            return Err(Error::ReadOnly("the log tree is not replayed yet".into()));
        }
        let running = self.ctx.transactions.running().transid();
        // A commit that brings the trees to rest has every edit. But inodes change without a handle:
        // what was not there when it took them is the next one's.
        // Acquire: pairs with the Release in `critical`.
        let too_late = self.gathering.load(Ordering::Acquire) == running.get();
        let target = Generation(running.get() + u64::from(too_late));
        let mut superblock = self.superblock.lock();
        self.ctx.transactions.check()?;
        if self.ctx.transactions.durable() >= target {
            return Ok(());
        }
        self.commit_alone(&mut superblock)
    }

    /// What changed in the trees up to `transid` is durable when this returns.
    pub fn sync(&self, transid: Generation) -> Result<()> {
        if self.ctx.transactions.durable() >= transid {
            return Ok(());
        }
        self.commit_trees()
    }

    fn commit_alone(&self, superblock: &mut Superblock) -> Result<()> {
        let start = std::time::Instant::now();
        self.run_heads_early()
            .inspect_err(|error| self.abort(error))?;
        // Before joins wait for it.
        let early = self.early.lock();
        let mut guard = self.ctx.transactions.begin_critical()?;
        let critical = std::time::Instant::now();
        let transid = guard.transid();
        let settled = match self.critical(&guard, superblock) {
            Ok(Some(settled)) => settled,
            Ok(None) => {
                guard.give_back();
                return Ok(());
            }
            Err(error) => {
                self.abort(&error);
                return Err(error);
            }
        };
        guard.unblock();
        drop(early);
        let waited = critical.elapsed();
        let blocks = settled.blocks.len() as u64;
        if let Err(error) = self.write(transid, settled, superblock, &mut guard) {
            self.abort(&error);
            return Err(error);
        }
        guard.finish();
        let counters = &self.counters;
        // Relaxed: statistics.
        counters.commits.fetch_add(1, Ordering::Relaxed);
        counters.blocks.fetch_add(blocks, Ordering::Relaxed);
        counters
            .critical_us
            .fetch_add(waited.as_micros() as u64, Ordering::Relaxed);
        counters
            .total_us
            .fetch_add(start.elapsed().as_micros() as u64, Ordering::Relaxed);
        log::debug!(
            "transaction {transid} is durable: {blocks} blocks, {:?}, joins waited {waited:?}",
            start.elapsed()
        );
        Ok(())
    }

    /// Turns the mount read-only with the real cause, before a dropped guard does it without.
    pub(super) fn abort(&self, error: &Error) {
        self.ctx.transactions.abort(error.clone());
        // The abort has ended writing; this waits until what was under way has arrived.
        self.volume.hold_writes();
    }

    /// Runs most heads while writers may still join.
    fn run_heads_early(&self) -> Result<()> {
        for _ in 0..PASSES_BEFORE_CRITICAL {
            let running = self.ctx.transactions.running();
            let waiting = running.delayed_refs.len();
            if waiting <= HEADS_LEFT_FOR_CRITICAL {
                return Ok(());
            }
            let trans = self.ctx.transactions.join()?;
            self.run_heads(&trans, waiting)?;
        }
        Ok(())
    }

    /// Alone with the trees: everything reaches them. `None`: nothing changed.
    fn critical(&self, guard: &CommitGuard, superblock: &Superblock) -> Result<Option<Settled>> {
        let trans = guard.handle().expect("the critical section has a handle");
        let transaction = guard.transaction();
        // Release: before the first look at what waits. Whoever adds to it later does so under a
        // lock that this look has held, and finds this.
        self.gathering
            .store(guard.transid().get(), Ordering::Release);
        if let Some(hooks) = self.hooks() {
            hooks.flush_delayed_items(trans)?;
            self.lone_edits(trans, &*hooks)?;
        }
        let space = &self.ctx.space;
        if transaction.is_unchanged() && !space.has_new_chunks() {
            // The same transaction goes on, and its commit will look again.
            self.gathering.store(0, Ordering::Release);
            return Ok(None);
        }
        let mut superblock = superblock.clone();
        self.mark_quotas(trans)?;
        let removed = self.settle(trans, &mut superblock)?;
        self.named.fill(
            &mut superblock,
            guard.transid(),
            space.bytes_used(),
            self.uuid_tree,
        );
        superblock.log_root.set(0);
        superblock.log_root_level = 0;
        // After the last look for empty groups: what is reserved keeps its group.
        self.logs.end(space);
        Ok(Some(Settled {
            superblock,
            blocks: transaction.dirty_blocks.take_sorted(),
            pinned: space.take_pinned(),
            removed,
        }))
    }

    /// Snapshots. Each finds the references of all blocks in the extent tree, also of those that
    /// this transaction made.
    fn lone_edits(&self, trans: &TransHandle, hooks: &dyn CommitHooks) -> Result<()> {
        let mut any = false;
        while let Some(edit) = hooks.next_lone_edit() {
            any = true;
            self.run_heads(trans, usize::MAX)?;
            edit(trans)?;
        }
        if any {
            self.ctx.end_snapshots();
        }
        Ok(())
    }

    /// The fixpoint: writing down what changed changes trees, until nothing is left to write.
    /// It ends because each block is copied once in a transaction: nothing is written early
    /// meanwhile, which would have blocks copied again.
    fn settle(&self, trans: &TransHandle, superblock: &mut Superblock) -> Result<Vec<EmptyGroup>> {
        let (ctx, space) = (&*self.ctx, &self.ctx.space);
        let transaction = trans.transaction();
        self.run_heads(trans, usize::MAX)?;
        let removed = space.take_empty_groups();
        for group in &removed {
            self.trees
                .remove(ctx, trans, superblock, &self.delta, group)?;
        }
        // A removed group gives device bytes back only when this commit is durable, but its
        // items must say so now.
        let given_back: u64 = removed
            .iter()
            .map(|group| group.len * group.stripes.len() as u64)
            .sum();
        let mut written = BTreeMap::new();
        loop {
            self.run_heads(trans, usize::MAX)?;
            for chunk in space.take_new_chunks() {
                self.trees.insert(ctx, trans, superblock, &chunk)?;
            }
            self.trees
                .update_device(ctx, trans, space, superblock, given_back)?;
            let deltas = self.delta.drain();
            if let Some(tree) = &self.trees.free_space {
                for (start, delta) in &deltas {
                    tree.apply(ctx, trans, *start, delta)?;
                }
            }
            self.trees.update_used(ctx, trans, space)?;
            for objectid in transaction.take_dirty_roots() {
                self.write_root_item(trans, objectid, &mut written)?;
            }
            // Relaxed: a statistic.
            self.counters.rounds.fetch_add(1, Ordering::Relaxed);
            let at_rest = transaction.delayed_refs.is_empty()
                && self.delta.is_empty()
                && !space.has_new_chunks()
                && !space.has_dirty_groups();
            if at_rest {
                let mut stale = transaction.take_dirty_roots();
                // The root tree's own moves are the superblock's business.
                stale.retain(|&objectid| !self.named.is_in_superblock(objectid));
                stale.extend(self.grown_since(&written));
                if stale.is_empty() {
                    return Ok(removed);
                }
                for objectid in stale {
                    self.write_root_item(trans, objectid, &mut written)?;
                }
            }
        }
    }

    /// Trees that got or lost blocks below a root that stayed where it was.
    fn grown_since(&self, written: &BTreeMap<u64, u64>) -> Vec<u64> {
        let grown = |(&objectid, &bytes): (&u64, &u64)| {
            let root = self.ctx.roots.find(objectid)?;
            (root.item().bytes_used.get() != bytes).then_some(objectid)
        };
        written.iter().filter_map(grown).collect()
    }

    /// Writes a tree's root item, and notes the bytes that it says the tree has.
    fn write_root_item(
        &self,
        trans: &TransHandle,
        objectid: u64,
        written: &mut BTreeMap<u64, u64>,
    ) -> Result<()> {
        if self.named.is_in_superblock(objectid) {
            return Ok(());
        }
        let Some(root) = self.ctx.roots.find(objectid) else {
            return Ok(());
        };
        let item = root.item_for_commit();
        written.insert(objectid, item.bytes_used.get());
        self.ctx
            .upsert(trans, &self.named.root, &root.key, item.as_bytes())
    }

    /// Runs waiting heads, about `most` of them.
    pub(super) fn run_heads(&self, trans: &TransHandle, most: usize) -> Result<()> {
        const BATCH: usize = 64;
        let extents = ExtentTree {
            ctx: &self.ctx,
            root: &self.named.extent,
            space: &self.ctx.space,
            csums: &self.csums,
            delta: &self.delta,
            skinny: self.skinny,
        };
        let mut done = 0;
        while done < most {
            let batch = trans.transaction().delayed_refs.take_batch(BATCH);
            if batch.is_empty() {
                break;
            }
            done += batch.len();
            for running in batch {
                extents
                    .run(trans, &running.head)
                    .map_err(|error| trans.abort(error))?;
            }
            // The next commit's copies are of the trees as they are now.
            self.update_global_reserve();
        }
        // Relaxed: a statistic.
        self.counters
            .heads
            .fetch_add(done as u64, Ordering::Relaxed);
        Ok(())
    }

    /// The next transaction runs; this one's blocks reach the disk.
    fn write(
        &self,
        transid: Generation,
        settled: Settled,
        durable: &mut Superblock,
        guard: &mut CommitGuard,
    ) -> Result<()> {
        let Settled {
            mut superblock,
            blocks,
            pinned,
            removed,
        } = settled;
        self.ctx.cache.write_out(&blocks, transid)?;
        self.volume.flush()?;
        // A buffer that a broken rule freed was not found, so not written either.
        self.ctx.cache.check_whole()?;
        // The next transaction runs already, and whatever aborted it may have met this one's trees.
        self.ctx.transactions.check()?;
        self.volume.write_superblocks(&mut superblock)?;
        self.volume.flush()?;
        *durable = superblock;
        self.shown.lock().clone_from(durable);
        guard.super_written();
        if self.discard {
            self.discard_ranges(&pinned);
        }
        self.ctx.space.unpin(&pinned);
        for group in &removed {
            self.volume.chunks().remove_chunk(Logical(group.start));
        }
        self.ctx.space.release_chunks(&removed);
        self.update_global_reserve();
        Ok(())
    }

    /// Tells the device what nothing reaches any more. Failing is no harm.
    fn discard_ranges(&self, pinned: &PinnedSet) {
        for (at, len) in pinned.iter() {
            if let Err(error) = self.volume.discard(Logical(at), len) {
                log::warn!("discard of {len} bytes at {at}: {error}");
                return;
            }
        }
    }

    /// Fits the global reserve to the trees that a commit changes.
    pub(super) fn update_global_reserve(&self) {
        const LEAST: u64 = 3 << 20;
        const MOST: u64 = 512 << 20;
        let mut bytes = self.named.csum.item().bytes_used.get();
        bytes += self.named.extent.item().bytes_used.get();
        if self.trees.groups.objectid != self.named.extent.objectid {
            bytes += self.trees.groups.item().bytes_used.get();
        }
        if let Some(tree) = &self.trees.free_space {
            bytes += tree.root.item().bytes_used.get();
        }
        let reserve = bytes.clamp(LEAST, MOST);
        self.ctx.space.set_global_reserve(reserve, bytes);
    }
}

impl Reclaim for Committer {
    fn settle(&self) -> bool {
        let Some(hooks) = self.hooks() else {
            return false;
        };
        let written = self.ctx.transactions.join().and_then(|trans| {
            let flushed = hooks.flush_delayed_items(&trans);
            flushed.map_err(|error| trans.abort(error))?;
            // What these add is counted again, and run when that is too much.
            let waiting = trans.transaction().delayed_refs.len();
            self.run_heads(&trans, waiting)
        });
        if let Err(error) = &written {
            log::warn!("what waits for the commit can't be written: {error}");
        }
        written.is_ok()
    }

    fn reclaim(&self) -> bool {
        match self.commit_trees() {
            Ok(()) => true,
            Err(error) => {
                log::warn!("no space could be freed by a commit: {error}");
                false
            }
        }
    }
}
