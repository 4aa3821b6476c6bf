//! What ends writing in the middle of a commit, and at once: a lost block, an abort from anywhere.
//! What a commit must wait for, and what it must not claim to have.

use super::mkfs::{self, MkfsOptions};
use super::{CommitHooks, Engine, OpenOptions, open};
use crate::btree::TreeContext;
use crate::error::{Error, Result};
use crate::ondisk::ids::{FS_TREE_OBJECTID, ORPHAN_OBJECTID};
use crate::ondisk::key::{Key, kind};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, Weak, mpsc, thread};
use crate::transaction::TransHandle;
use crate::units::{Logical, MIB};
use crate::volume::{BlockDevice, MemoryDevice, Volume};
use std::io;
use std::time::Duration;

type Deed = Box<dyn FnOnce() + Send>;

/// A device on which something happens at the next flush, or at the next write before it.
struct AtFlush {
    device: MemoryDevice,
    deed: Mutex<Option<Deed>>,
    at_write: Mutex<Option<Deed>>,
    writes: AtomicU64,
}

impl AtFlush {
    /// A new filesystem, opened without a background thread.
    fn fresh() -> (Arc<Self>, Engine) {
        let device = Arc::new(Self {
            device: MemoryDevice::zeroed(256 * MIB),
            deed: Mutex::new(None),
            at_write: Mutex::new(None),
            writes: AtomicU64::new(0),
        });
        mkfs::make(&device.device, &MkfsOptions::default()).unwrap();
        let (volume, superblock) = Volume::open(vec![device.clone()], false).unwrap();
        let options = OpenOptions {
            background: false,
            ..OpenOptions::default()
        };
        let engine = open(Arc::new(volume), superblock, &options).unwrap();
        (device, engine)
    }

    fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    fn generation_on_disk(&self) -> u64 {
        let device: Arc<dyn BlockDevice> = Arc::new(self.device.clone());
        let (_, superblock) = Volume::open(vec![device], true).unwrap();
        superblock.generation.get()
    }
}

/// One edit in a transaction of its own.
fn change(ctx: &TreeContext, id: u64) {
    let root = ctx.roots.get(ctx, FS_TREE_OBJECTID).unwrap();
    let trans = ctx.transactions.join().unwrap();
    let key = Key::new(ORPHAN_OBJECTID, kind::ORPHAN_ITEM, 256 + id);
    ctx.upsert(&trans, &root, &key, &[]).unwrap();
}

impl BlockDevice for AtFlush {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        self.device.read_at(at, buf)
    }

    fn write_at(&self, at: u64, buf: &[u8]) -> io::Result<()> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let deed = self.at_write.lock().take();
        if let Some(deed) = deed {
            deed();
        }
        self.device.write_at(at, buf)
    }

    fn flush(&self) -> io::Result<()> {
        let deed = self.deed.lock().take();
        if let Some(deed) = deed {
            deed();
        }
        self.device.flush()
    }

    fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        self.device.discard(at, len)
    }

    fn size_bytes(&self) -> u64 {
        self.device.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        self.device.is_read_only()
    }
}

/// The next transaction's block is lost while this one is written: which of the two it belongs to
/// is not known any more, so neither becomes durable, and the last superblock stays.
#[test]
fn no_superblock_is_written_after_a_block_was_lost() {
    let (device, engine) = AtFlush::fresh();
    let ctx = engine.ctx.clone();
    let root = ctx.roots.get(&ctx, FS_TREE_OBJECTID).unwrap();
    change(&ctx, 1);
    // The first commit is whole.
    engine.committer.commit().unwrap();
    let durable = ctx.transactions.durable();
    change(&ctx, 2);
    let happened = Arc::new(AtomicBool::new(false));
    let (done, losing, fs_tree) = (happened.clone(), ctx.clone(), root.clone());
    *device.deed.lock() = Some(Box::new(move || {
        let trans = losing.transactions.join().unwrap();
        let key = Key::new(ORPHAN_OBJECTID, kind::ORPHAN_ITEM, 259);
        losing.upsert(&trans, &fs_tree, &key, &[]).unwrap();
        losing.cache.lose(fs_tree.node().bytenr);
        done.store(true, Ordering::Relaxed);
    }));
    assert!(engine.committer.commit().is_err());
    assert!(happened.load(Ordering::Relaxed));
    assert!(engine.check_writable().is_err());
    assert_eq!(ctx.transactions.durable(), durable);
    assert_eq!(device.generation_on_disk(), durable.get());
}

/// An edit of the next transaction fails half-way between this one's blocks and its superblock.
/// What it met may be this one's trees, so the last superblock stays; nothing at all is written.
#[test]
fn no_superblock_follows_an_abort() {
    let (device, engine) = AtFlush::fresh();
    let ctx = engine.ctx.clone();
    change(&ctx, 1);
    engine.committer.commit().unwrap();
    let durable = ctx.transactions.durable();
    change(&ctx, 2);
    let at_abort = Arc::new(AtomicU64::new(0));
    let (seen, aborting, counted) = (at_abort.clone(), ctx.clone(), device.clone());
    *device.deed.lock() = Some(Box::new(move || {
        let trans = aborting.transactions.join().unwrap();
        let _ = trans.abort(Error::corrupt("planned"));
        seen.store(counted.writes(), Ordering::Relaxed);
    }));
    let error = engine.committer.commit().expect_err("aborted on the way");
    assert!(error.to_string().contains("planned"), "{error}");
    assert!(
        at_abort.load(Ordering::Relaxed) > 0,
        "the abort came after the blocks"
    );
    assert_eq!(device.writes(), at_abort.load(Ordering::Relaxed));
    assert_eq!(ctx.transactions.durable(), durable);
    assert_eq!(device.generation_on_disk(), durable.get());
}

/// Who aborts need not be the committer, and nobody has to notice first: when `abort` has
/// returned, no write of any kind is accepted.
#[test]
fn an_abort_from_anywhere_ends_writing_at_once() {
    let (device, engine) = AtFlush::fresh();
    let ctx = &engine.ctx;
    change(ctx, 1);
    engine.committer.commit().unwrap();
    change(ctx, 2);
    let writes = device.writes();
    let at = Logical(ctx.space.group_starts()[0]);
    let mut superblock = engine.committer.superblock();
    let trans = ctx.transactions.join().unwrap();
    let _ = trans.abort(Error::corrupt("planned"));
    // What needs no transaction: overwriting data in place, blocks written early.
    assert!(engine.volume.write(at, &[0; 4096]).is_err());
    assert!(engine.volume.write_superblocks(&mut superblock).is_err());
    engine.volume.discard(at, 4096).unwrap();
    let dirty = ctx.transactions.running().dirty_blocks.sorted();
    assert!(!dirty.is_empty());
    let transid = trans.transid();
    assert!(ctx.cache.write_out(&dirty, transid).is_err());
    drop(trans);
    assert!(engine.committer.write_early().is_err());
    assert!(engine.committer.commit().is_err());
    assert!(engine.committer.sync(transid).is_err());
    assert!(engine.shutdown().is_err());
    // Opening for reading and letting go of what was held don't bring it back.
    engine.volume.release_writes();
    assert!(engine.volume.write(at, &[0; 4096]).is_err());
    assert_eq!(device.writes(), writes);
}

/// A block is written early, and the device takes its time. Meanwhile the block is copied and
/// freed. When the commit let go of its range, the old contents could still arrive: over those
/// of whoever had got the range next.
#[test]
fn a_range_is_not_reused_while_its_early_write_is_under_way() {
    let (device, engine) = AtFlush::fresh();
    let ctx = &engine.ctx;
    change(ctx, 1);
    engine.committer.commit().unwrap();
    change(ctx, 2);
    let root = ctx.roots.get(ctx, FS_TREE_OBJECTID).unwrap();
    let early = root.node().bytenr;
    let (reached, is_reached) = mpsc::channel();
    let (let_go, go_on) = mpsc::channel::<()>();
    *device.at_write.lock() = Some(Box::new(move || {
        reached.send(()).unwrap();
        let _ = go_on.recv_timeout(Duration::from_secs(30));
    }));
    thread::scope(|scope| {
        let writer = scope.spawn(|| engine.committer.write_early().unwrap());
        is_reached.recv_timeout(Duration::from_secs(30)).unwrap();
        change(ctx, 3);
        assert_ne!(root.node().bytenr, early, "what was written is copied");
        let commit = scope.spawn(|| engine.committer.commit().unwrap());
        // Long enough for a commit that doesn't wait.
        thread::sleep(Duration::from_millis(300));
        let reused = ctx.space.alloc_exact(early, u64::from(ctx.nodesize));
        let_go.send(()).unwrap();
        writer.join().unwrap();
        commit.join().unwrap();
        assert!(!reused, "a write to {early} was still under way");
    });
    assert!(ctx.space.alloc_exact(early, u64::from(ctx.nodesize)));
}

/// Changes that wait in memory for a commit, and what happens when it has taken them.
struct Waiting {
    ctx: Arc<TreeContext>,
    items: Mutex<Vec<u64>>,
    taken: Mutex<Option<Deed>>,
}

impl CommitHooks for Waiting {
    fn flush_delayed_items(&self, trans: &TransHandle) -> Result<()> {
        let root = self.ctx.roots.get(&self.ctx, FS_TREE_OBJECTID)?;
        for id in std::mem::take(&mut *self.items.lock()) {
            let key = Key::new(ORPHAN_OBJECTID, kind::ORPHAN_ITEM, 256 + id);
            self.ctx.upsert(trans, &root, &key, &[])?;
        }
        let deed = self.taken.lock().take();
        if let Some(deed) = deed {
            deed();
        }
        Ok(())
    }
}

/// Somebody changed an inode when a commit had already taken what waited in memory, and asked for a
/// commit: the one under way was believed to have the change.
#[test]
fn a_commit_does_not_answer_for_what_came_too_late_for_it() {
    let (_device, engine) = AtFlush::fresh();
    let engine = Arc::new(engine);
    let waiting = Arc::new(Waiting {
        ctx: engine.ctx.clone(),
        items: Mutex::new(vec![1]),
        taken: Mutex::new(None),
    });
    let hooks: Arc<dyn CommitHooks> = waiting.clone();
    engine
        .committer
        .set_hooks(Arc::downgrade(&hooks) as Weak<_>);
    let (answer, answered) = mpsc::channel();
    let (late, committing) = (waiting.clone(), engine.clone());
    *waiting.taken.lock() = Some(Box::new(move || {
        late.items.lock().push(2);
        let (asks, is_asking) = mpsc::channel();
        thread::spawn(move || {
            asks.send(()).unwrap();
            let done = committing.committer.commit();
            answer.send((done, late.items.lock().len())).unwrap();
        });
        is_asking.recv().unwrap();
        thread::sleep(Duration::from_millis(200));
    }));
    engine.committer.commit().unwrap();
    let (done, left) = answered.recv_timeout(Duration::from_secs(30)).unwrap();
    done.unwrap();
    assert_eq!(left, 0, "durable, and still waiting in memory");
}

/// A commit changes blocks again and again until its trees are at rest. Written early in between, each
/// would be copied each time, and that write could arrive when the place is another block's.
#[test]
fn nothing_is_written_early_while_a_commit_brings_the_trees_to_rest() {
    let (device, engine) = AtFlush::fresh();
    let engine = Arc::new(engine);
    change(&engine.ctx, 1);
    let waiting = Arc::new(Waiting {
        ctx: engine.ctx.clone(),
        items: Mutex::new(vec![2]),
        taken: Mutex::new(None),
    });
    let hooks: Arc<dyn CommitHooks> = waiting.clone();
    engine
        .committer
        .set_hooks(Arc::downgrade(&hooks) as Weak<_>);
    let (told, tells) = mpsc::channel();
    let (early, counted) = (engine.clone(), device.clone());
    *waiting.taken.lock() = Some(Box::new(move || {
        let before = counted.writes();
        let writer = thread::spawn(move || early.committer.write_early());
        // Long enough for one who doesn't wait.
        thread::sleep(Duration::from_millis(300));
        told.send((counted.writes() - before, writer)).unwrap();
    }));
    engine.committer.commit().unwrap();
    let (writes, writer) = tells.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(writes, 0);
    writer.join().unwrap().unwrap();
}

/// The last superblock reaches what a transaction frees until the next one is flushed: whoever got
/// the place before would overwrite a tree that a power cut brings back.
#[test]
fn what_a_commit_frees_is_free_when_its_superblock_is_durable() {
    let (device, engine) = AtFlush::fresh();
    let ctx = engine.ctx.clone();
    change(&ctx, 1);
    engine.committer.commit().unwrap();
    let root = ctx.roots.get(&ctx, FS_TREE_OBJECTID).unwrap();
    let old = root.node().bytenr;
    change(&ctx, 2);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (flushes, space, len) = (seen.clone(), ctx.clone(), u64::from(ctx.nodesize));
    let again = device.clone();
    *device.deed.lock() = Some(Box::new(move || {
        let got = space.space.alloc_exact(old, len);
        flushes.lock().push(got);
        *again.deed.lock() = Some(Box::new(move || {
            let got = space.space.alloc_exact(old, len);
            flushes.lock().push(got);
        }));
    }));
    engine.committer.commit().unwrap();
    assert_eq!(*seen.lock(), [false, false], "of blocks, of superblocks");
    assert!(ctx.space.alloc_exact(old, len));
}
