//! A small filesystem of trees only: blocks in a map, an extent tree, a commit that runs the
//! delayed refs and writes everything out.
//!
//! Its delayed-ref runner is not the engine's: it keeps one map of all references, so that the
//! sum of all edits can be compared with what the trees really point to.

use crate::allocator::{Space, SpaceConfig};
use crate::btree::{Root, RootNode, TreeContext};
use crate::error::{Error, Result};
use crate::extent_buffer::backing::Backing;
use crate::extent_buffer::{Cache, Kind};
use crate::ondisk::check::{CheckContext, Expect};
use crate::ondisk::ids::{EXTENT_TREE_OBJECTID, ROOT_TREE_OBJECTID};
use crate::ondisk::key::{Key, kind};
use crate::ondisk::tree_block::{self, HEADER_FLAG_WRITTEN, header_mut, leaf, node, nritems};
use crate::ondisk::{CsumType, ExtentItem, FileExtent, FromZeros, RootItem, Uuid};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};
use crate::transaction::{RefKind, RunningHead, TransHandle, TransactionManager};
use crate::units::{Generation, Logical, MIB};
use std::collections::BTreeMap;

const METADATA_GROUP: u64 = 1 << 2;
const FSID: Uuid = [7; 16];

/// Written blocks by address.
#[derive(Default)]
pub struct Disk {
    pub blocks: Mutex<BTreeMap<Logical, Vec<u8>>>,
    pub violations: AtomicU64,
    /// While not 0, every so manieth read fails.
    pub fail_reads: AtomicU64,
    /// Called for each read.
    pub on_read: Mutex<Option<OnRead>>,
    reads: AtomicU64,
}

/// See [`Disk::on_read`].
pub type OnRead = Arc<dyn Fn() + Send + Sync>;

struct OnDisk {
    disk: Arc<Disk>,
    nodesize: u32,
}

impl Backing for OnDisk {
    fn nodesize(&self) -> u32 {
        self.nodesize
    }

    fn fsid(&self) -> Uuid {
        FSID
    }

    fn chunk_tree_uuid(&self) -> Uuid {
        FSID
    }

    fn read(&self, expect: &Expect, block: &mut [u8]) -> Result<()> {
        let nth = self.disk.reads.fetch_add(1, Ordering::Relaxed);
        let fail_reads = self.disk.fail_reads.load(Ordering::Relaxed);
        if fail_reads != 0 && nth.is_multiple_of(fail_reads) {
            return Err(Error::NoGoodCopy(format!("read {nth}")));
        }
        let on_read = self.disk.on_read.lock().clone();
        if let Some(on_read) = on_read {
            on_read();
        }
        let blocks = self.disk.blocks.lock();
        let bytes = blocks
            .get(&expect.at)
            .ok_or_else(|| Error::corrupt_block(expect.at, None, "never written"))?;
        let head = tree_block::header(bytes);
        if expect
            .generation
            .is_some_and(|generation| generation.0 != head.generation.get())
        {
            return Err(Error::corrupt_block(expect.at, None, "another generation"));
        }
        block.copy_from_slice(bytes);
        Ok(())
    }

    fn seal(&self, _at: Logical, block: &mut [u8]) -> Result<()> {
        header_mut(block).set_flag(HEADER_FLAG_WRITTEN, true);
        Ok(())
    }

    fn write(&self, at: Logical, blocks: &[u8]) -> Result<()> {
        let mut have = self.disk.blocks.lock();
        for (i, block) in blocks.chunks(self.nodesize as usize).enumerate() {
            have.insert(
                Logical(at.0 + (i * self.nodesize as usize) as u64),
                block.to_vec(),
            );
        }
        Ok(())
    }
}

pub type Refs = BTreeMap<(Logical, RefKind), i64>;

pub struct Bench {
    pub ctx: Arc<TreeContext>,
    pub disk: Arc<Disk>,
    refs: Mutex<Refs>,
    /// The roots of the last commit: what a crash falls back to.
    durable: Mutex<Vec<(Key, RootNode)>>,
}

/// The protocols that this build can try and that must hold.
pub fn protocols() -> Vec<Kind> {
    let mut all = vec![Kind::BUILD];
    if cfg!(feature = "protocols") {
        all.extend(
            Kind::ALL
                .iter()
                .filter(|&&kind| kind != Kind::BUILD && kind != Kind::Unfixed),
        );
    }
    all
}

impl Bench {
    /// `cache_blocks` bounds the cache; trees: an extent tree and an fs tree (5).
    pub fn new(nodesize: u32, cache_blocks: u64, protocol: Kind) -> Self {
        Self::with_space(nodesize, cache_blocks, protocol, 512 * MIB)
    }

    /// As `new`, with so many bytes to allocate from.
    pub fn with_space(nodesize: u32, cache_blocks: u64, protocol: Kind, len: u64) -> Self {
        let disk = Arc::new(Disk::default());
        let backing = OnDisk {
            disk: disk.clone(),
            nodesize,
        };
        let cache = Cache::over(
            Box::new(backing),
            cache_blocks * u64::from(nodesize),
            protocol,
        );
        let seen = disk.clone();
        cache.on_violation(move |_| {
            seen.violations.fetch_add(1, Ordering::Relaxed);
        });
        let space = Space::new(SpaceConfig {
            sectorsize: 4096,
            nodesize,
            map_chunk: Box::new(|_| Ok(())),
        });
        let start = MIB;
        space
            .add_group(start, len, METADATA_GROUP, 0, Vec::new())
            .unwrap();
        space.load_free(start, [(start, len)]);
        let check = CheckContext {
            nodesize,
            sectorsize: 4096,
            fsid: FSID,
            seed_fsids: Vec::new(),
            csum: CsumType::Crc32c,
            incompat: 0x341,
        };
        let ctx = TreeContext::new(
            cache,
            Arc::new(space),
            TransactionManager::new(Generation(10)),
            check,
        );
        let bench = Self {
            ctx,
            disk,
            refs: Mutex::default(),
            durable: Mutex::default(),
        };
        let trans = bench.ctx.transactions.join().unwrap();
        for objectid in [ROOT_TREE_OBJECTID, EXTENT_TREE_OBJECTID, 5] {
            bench.create_tree(&trans, objectid);
        }
        drop(trans);
        bench
    }

    pub fn create_tree(&self, trans: &TransHandle, objectid: u64) -> Arc<Root> {
        let key = Key::new(objectid, kind::ROOT_ITEM, 0);
        self.ctx
            .create_tree(trans, key, RootItem::new_zeroed())
            .unwrap()
    }

    pub fn root(&self, objectid: u64) -> Arc<Root> {
        self.ctx.roots.get(&self.ctx, objectid).unwrap()
    }

    pub fn join(&self) -> TransHandle {
        self.ctx.transactions.join().unwrap()
    }

    /// Everything to rest, to the disk, and durable. What was freed becomes reusable.
    pub fn commit(&self) {
        self.commit_with(|_, _| ());
    }

    /// As `commit`, with something to do in the critical section before the refs are run.
    pub fn commit_with(&self, critical: impl FnOnce(&Self, &TransHandle)) {
        let mut commit = self.ctx.transactions.begin_critical().unwrap();
        let trans = commit.handle().unwrap();
        self.run_refs(trans);
        critical(self, trans);
        self.run_refs(trans);
        assert!(trans.transaction().delayed_refs.is_empty());
        let pinned = self.ctx.space.take_pinned();
        let dirty = commit.transaction().dirty_blocks.take_sorted();
        let roots = self.ctx.roots.loaded();
        let roots = roots.iter().map(|root| (root.key, root.node())).collect();
        commit.unblock();
        self.ctx.cache.write_out(&dirty, commit.transid()).unwrap();
        *self.durable.lock() = roots;
        commit.super_written();
        self.ctx.space.unpin(&pinned);
        commit.finish();
    }

    /// Writes what is dirty now, as memory pressure does: beside writers and commits.
    pub fn write_early(&self) {
        let running = self.ctx.transactions.running();
        let dirty = running.dirty_blocks.sorted();
        for at in self.ctx.cache.write_out(&dirty, running.transid()).unwrap() {
            running.dirty_blocks.remove(at);
        }
    }

    /// The items of a tree as a mount after a crash would find them: from the disk alone, by the
    /// roots of the last commit.
    pub fn items_after_a_crash(&self, objectid: u64) -> Vec<(Key, Vec<u8>)> {
        let ctx = self.after_a_crash();
        for root in ctx.roots.loaded() {
            ctx.verify_tree(&root).unwrap();
        }
        let root = ctx.roots.find(objectid);
        root.map_or(Vec::new(), |root| items_of(&ctx, &root))
    }

    /// The trees of the last commit, with nothing in memory.
    pub fn after_a_crash(&self) -> Arc<TreeContext> {
        let nodesize = self.ctx.nodesize;
        let backing = OnDisk {
            disk: self.disk.clone(),
            nodesize,
        };
        let ctx = TreeContext::new(
            Cache::over(Box::new(backing), 1 << 20, Kind::BUILD),
            self.ctx.space.clone(),
            TransactionManager::new(self.ctx.transactions.durable()),
            self.ctx.check.clone(),
        );
        for &(key, node) in self.durable.lock().iter() {
            ctx.roots
                .insert(Root::new(key, node, RootItem::new_zeroed()));
        }
        ctx
    }

    pub fn run_refs(&self, trans: &TransHandle) {
        loop {
            let batch = trans.transaction().delayed_refs.take_batch(32);
            if batch.is_empty() {
                return;
            }
            for running in batch {
                self.run_head(trans, &running);
            }
        }
    }

    fn run_head(&self, trans: &TransHandle, running: &RunningHead<'_>) {
        let head = &running.head;
        let mut refs = self.refs.lock();
        for &(kind, count) in &head.refs {
            let have = refs.entry((head.bytenr, kind)).or_default();
            *have += count;
            assert!(
                *have >= 0,
                "{:?} of {} dropped below zero",
                kind,
                head.bytenr
            );
            if *have == 0 {
                refs.remove(&(head.bytenr, kind));
            }
        }
        drop(refs);
        let key = match head.is_data {
            true => Key::new(head.bytenr.0, kind::EXTENT_ITEM, head.num_bytes),
            false => Key::new(head.bytenr.0, kind::METADATA_ITEM, u64::from(head.level)),
        };
        let extents = self.root(EXTENT_TREE_OBJECTID);
        let old = self.ctx.get(&extents, &key).unwrap();
        assert_eq!(old.is_none(), head.must_insert_reserved, "{key}");
        let mut item = match &old {
            Some(bytes) => *ExtentItem::read(bytes).unwrap(),
            None => ExtentItem::new_zeroed(),
        };
        let count = item
            .refs
            .get()
            .checked_add_signed(head.delta())
            .expect("no count below zero");
        item.refs.set(count);
        item.generation.set(trans.transid().0);
        item.flags
            .set(item.flags.get() | head.extent_op.map_or(0, |op| op.flags_to_set));
        if head.must_insert_reserved && !head.is_data {
            self.ctx.space.settle_alloc(head.bytenr, head.num_bytes);
        }
        if count > 0 {
            self.ctx
                .upsert(trans, &extents, &key, item.as_bytes())
                .unwrap();
        } else {
            assert!(self.ctx.delete(trans, &extents, &key).unwrap());
            if !head.is_data {
                self.ctx
                    .space
                    .settle_free(head.bytenr, head.num_bytes)
                    .unwrap();
            }
        }
    }

    /// Compares every reference with what the trees point to. At rest, after a commit.
    pub fn verify(&self) {
        let mut want: Refs = BTreeMap::new();
        let mut seen = BTreeMap::new();
        for root in self.ctx.roots.loaded() {
            let summary = self.ctx.verify_tree(&root).unwrap();
            let blocks = summary.leaves + summary.nodes;
            let bytes_used = root.item().bytes_used.get();
            assert_eq!(
                bytes_used,
                blocks * u64::from(self.ctx.nodesize),
                "{}",
                root.objectid
            );
            let node = root.node();
            *want
                .entry((
                    node.bytenr,
                    RefKind::Tree {
                        root: root.objectid,
                    },
                ))
                .or_default() += 1;
            self.expect_refs(&root, node, &mut want, &mut seen);
        }
        let have = self.refs.lock();
        for (key, count) in want.iter() {
            assert_eq!(have.get(key), Some(count), "{key:?}");
        }
        for (key, count) in have.iter() {
            assert_eq!(want.get(key), Some(count), "left over: {key:?}");
        }
        self.ctx.space.verify().unwrap();
        assert_eq!(self.disk.violations.load(Ordering::Relaxed), 0);
    }

    /// What a block's children must be referenced by: the block, if its item says so, else the
    /// tree that owns it. Each block once, however many trees share it.
    fn expect_refs(
        &self,
        root: &Root,
        node: RootNode,
        want: &mut Refs,
        seen: &mut BTreeMap<Logical, ()>,
    ) {
        if seen.insert(node.bytenr, ()).is_some() {
            return;
        }
        let expect = Expect {
            at: node.bytenr,
            level: Some(node.level),
            generation: Some(node.generation),
            owner: None,
            first_key: None,
        };
        let block = self.ctx.cache.read(&expect).unwrap().into_read().to_vec();
        let key = Key::new(node.bytenr.0, kind::METADATA_ITEM, u64::from(node.level));
        let item = self
            .ctx
            .get(&self.root(EXTENT_TREE_OBJECTID), &key)
            .unwrap()
            .unwrap();
        let full = ExtentItem::read(&item).unwrap().flags.get() & (1 << 8) != 0;
        let owner = tree_block::header(&block).owner.get();
        for slot in 0..nritems(&block) {
            if node.level > 0 {
                let (at, generation) = node::ptr(&block, slot);
                let kind = match full {
                    true => RefKind::SharedTree {
                        parent: node.bytenr,
                    },
                    false => RefKind::Tree { root: owner },
                };
                *want.entry((at, kind)).or_default() += 1;
                let child = RootNode {
                    bytenr: at,
                    generation,
                    level: node.level - 1,
                };
                self.expect_refs(root, child, want, seen);
            } else if let Some((at, kind)) = data_ref(&block, slot, full, owner, node.bytenr)
                && root.is_shareable()
            {
                *want.entry((at, kind)).or_default() += 1;
            }
        }
    }

    pub fn items(&self, root: &Root) -> Vec<(Key, Vec<u8>)> {
        items_of(&self.ctx, root)
    }
}

fn items_of(ctx: &TreeContext, root: &Root) -> Vec<(Key, Vec<u8>)> {
    let mut all = Vec::new();
    let mut cursor = ctx.search(root, &Key::MIN).unwrap();
    while let Some((key, data)) = cursor.item() {
        all.push((key, data.to_vec()));
        cursor.next().unwrap();
    }
    all
}

fn data_ref(
    block: &[u8],
    slot: usize,
    full: bool,
    owner: u64,
    parent: Logical,
) -> Option<(Logical, RefKind)> {
    let key = leaf::item_key(block, slot);
    if key.kind != kind::EXTENT_DATA {
        return None;
    }
    match FileExtent::parse(leaf::item_data(block, slot)) {
        Some(FileExtent::Extent(extent)) if !extent.is_hole() => {
            let kind = match full {
                true => RefKind::SharedData { parent },
                false => RefKind::Data {
                    root: owner,
                    objectid: key.objectid,
                    offset: key.offset.wrapping_sub(extent.offset.get()),
                },
            };
            Some((Logical(extent.disk_bytenr.get()), kind))
        }
        _ => None,
    }
}

impl Bench {
    pub fn disk_blocks(&self) -> usize {
        self.disk.blocks.lock().len()
    }
}
