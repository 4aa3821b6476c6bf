//! All logs of the running transaction, and the blocks that they have.
//!
//! Owns: what has been logged, what of that the disk has, and which blocks may be written next.
//! Invariant: a block becomes spare only when a superblock that doesn't reach it is durable; all
//! blocks are handed to the commit, which has them pinned until it is durable.

use super::tree::{LogTree, Placed, Stamp};
use crate::allocator::{Space, Steal, TreeSpace};
use crate::commit::CsumRun;
use crate::error::{Error, Result};
use crate::ondisk::{Key, RootItem, ids, kind};
use crate::sync::{Arc, Mutex};
use crate::units::Logical;
use std::collections::BTreeMap;

/// Bytes of blocks that one transaction's logs may take. Larger ones would be slow to replay, fill
/// memory, and a commit is cheap in comparison.
const LOGS_BYTES_MAX: usize = 4 << 20;
/// With more spare places than this no new ones are taken just to have some side by side.
const SPARE_MAX: usize = 64;
/// Checksums in one item at most.
const SUMS_BYTES_MAX: usize = 4096;

/// What a log says of one inode: it replaces what was said before.
pub struct InodeLog {
    /// The inode's number.
    pub objectid: u64,
    /// All items, by key.
    pub items: Vec<(Key, Vec<u8>)>,
    /// Checksums of the extents that the log hasn't had before.
    pub sums: Vec<CsumRun>,
}

/// See the module.
pub(in crate::commit) struct Logs {
    nodesize: u32,
    sectorsize: u64,
    csum_size: usize,
    state: Mutex<State>,
}

struct State {
    trees: BTreeMap<u64, LogTree>,
    roots: LogTree,
    /// Counts what was asked for; and how much of that the disk has.
    requests: u64,
    on_disk: u64,
    /// Every block that this transaction's logs have taken.
    taken: Vec<Logical>,
    /// Those of them that no superblock on disk reaches.
    spare: Vec<Logical>,
    /// Nothing more is logged in this transaction.
    closed: bool,
}

/// Blocks that are to be written, and what the superblock says then.
pub(super) struct Draft {
    pub blocks: Vec<Placed>,
    pub root: (Logical, u8),
    retired: Vec<Logical>,
    requests: u64,
}

impl State {
    fn fresh(nodesize: u32) -> Self {
        Self {
            trees: BTreeMap::new(),
            roots: LogTree::new(nodesize),
            requests: 0,
            on_disk: 0,
            taken: Vec::new(),
            spare: Vec::new(),
            closed: false,
        }
    }
}

impl Logs {
    pub fn new(nodesize: u32, sectorsize: u32, csum_size: usize) -> Self {
        Self {
            nodesize,
            sectorsize: sectorsize.into(),
            csum_size,
            state: Mutex::new(State::fresh(nodesize)),
        }
    }

    /// Puts an inode into its subvolume's log; `None` when nothing more is logged. The caller has a
    /// handle. The answer is a ticket for [`Logs::has`].
    pub fn add(&self, subvol: u64, inode: InodeLog) -> Option<u64> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        let nodesize = self.nodesize;
        let tree = state
            .trees
            .entry(subvol)
            .or_insert_with(|| LogTree::new(nodesize));
        for key in tree.keys(keys_of(inode.objectid)) {
            // The items come by key.
            let stays = inode.items.binary_search_by_key(&key, |item| item.0);
            if stays.is_err() {
                tree.remove(&key);
            }
        }
        for (key, data) in inode.items {
            tree.put(key, data);
        }
        for run in inode.sums {
            self.put_sums(tree, run.at.get(), &run.sums);
        }
        // Several fsyncs may come before one writes: not only what is written is bounded.
        if state.trees.values().map(LogTree::bytes).sum::<usize>() > LOGS_BYTES_MAX {
            state.closed = true;
            return None;
        }
        state.requests += 1;
        Some(state.requests)
    }

    /// Takes an inode out again that is gone, and that the last commit doesn't have. The caller has a
    /// handle.
    pub fn forget(&self, subvol: u64, objectid: u64) {
        let mut state = self.state.lock();
        let Some(tree) = state.trees.get_mut(&subvol) else {
            return;
        };
        for key in tree.keys(keys_of(objectid)) {
            tree.remove(&key);
        }
    }

    /// Whether a log says exactly this already.
    pub fn holds(&self, subvol: u64, key: &Key, data: &[u8]) -> bool {
        let state = self.state.lock();
        let tree = state.trees.get(&subvol);
        tree.is_some_and(|tree| tree.get(key) == Some(data))
    }

    /// Puts checksums into a tree; those that it had of the same sectors give way.
    fn put_sums(&self, tree: &mut LogTree, at: u64, sums: &[u8]) {
        let size = self.csum_size;
        let sectors = |bytes: usize| (bytes / size) as u64 * self.sectorsize;
        let bytes = |len: u64| (len / self.sectorsize) as usize * size;
        if tree.get(&sums_key(at)) == Some(sums) {
            return;
        }
        let end = at + sectors(sums.len());
        for key in tree.keys(sums_key(0)..=sums_key(end - 1)).into_iter().rev() {
            let old = tree.get(&key).map(<[u8]>::to_vec).unwrap_or_default();
            let (start, old_end) = (key.offset, key.offset + sectors(old.len()));
            if old_end <= at {
                break;
            }
            tree.remove(&key);
            if start < at {
                tree.put(key, old[..bytes(at - start)].to_vec());
            }
            if old_end > end {
                tree.put(sums_key(end), old[bytes(end - start)..].to_vec());
            }
        }
        let most = SUMS_BYTES_MAX.min(self.nodesize as usize / 2) / size * size;
        let mut here = at;
        for part in sums.chunks(most) {
            tree.put(sums_key(here), part.to_vec());
            here += sectors(part.len());
        }
    }

    /// Whether the disk has what the ticket was given for.
    pub fn has(&self, ticket: u64) -> bool {
        self.state.lock().on_disk >= ticket
    }

    /// Builds the blocks that bring the disk up to now.
    ///
    /// # Errors
    /// There is no space, or nothing more is logged: a commit is due.
    pub(super) fn draft(&self, space: &Arc<Space>, stamp: &Stamp) -> Result<Draft> {
        let state = &mut *self.state.lock();
        let mut due = 0;
        for (&subvol, tree) in &state.trees {
            if tree.root().is_none() {
                due += tree.blocks_due();
                // Only so that it is counted: it gets its content when the place is known.
                state.roots.put(root_key(subvol), vec![0; RootItem::SIZE]);
            }
        }
        due += state.roots.blocks_due();
        state.closed |= (state.taken.len() + due) * self.nodesize as usize > LOGS_BYTES_MAX;
        if state.closed {
            return Err(Error::NoSpace);
        }
        let mut places = state.take_places(space, due)?.into_iter();
        let (mut blocks, mut retired) = (Vec::new(), Vec::new());
        for (&subvol, tree) in &mut state.trees {
            let (at, level) = tree.build(stamp, &mut places, &mut blocks);
            let item = root_item(stamp, at, level);
            state.roots.put(root_key(subvol), item.as_bytes().to_vec());
            retired.extend(tree.take_retired());
        }
        let root = state.roots.build(stamp, &mut places, &mut blocks);
        retired.extend(state.roots.take_retired());
        debug_assert!(places.next().is_none(), "counted exactly");
        Ok(Draft {
            blocks,
            root,
            retired,
            requests: state.requests,
        })
    }

    /// The superblock that names this draft is durable.
    pub(super) fn written(&self, draft: Draft) {
        let mut state = self.state.lock();
        state.on_disk = draft.requests;
        state.spare.extend(draft.retired);
    }

    /// Nothing more is logged in this transaction: what memory says of the disk may be wrong.
    pub fn close(&self) {
        self.state.lock().closed = true;
    }

    /// The transaction commits, and the caller is alone with it: the next one starts without logs,
    /// and what the old ones had is pinned with what the transaction freed.
    pub fn end(&self, space: &Space) {
        let old = std::mem::replace(&mut *self.state.lock(), State::fresh(self.nodesize));
        for at in old.taken {
            space.pin(at, space.nodesize());
        }
    }
}

impl State {
    /// Places for blocks that are written together: side by side if that is possible.
    fn take_places(&mut self, space: &Arc<Space>, want: usize) -> Result<Vec<Logical>> {
        self.spare.sort_unstable();
        let nodesize = space.nodesize();
        let beside = |run: &[Logical]| {
            let bytes = run[run.len() - 1].get() - run[0].get();
            bytes == (run.len() as u64 - 1) * nodesize
        };
        if want == 0 {
            return Ok(Vec::new());
        }
        if let Some(first) = self.spare.windows(want).position(beside) {
            return Ok(self.spare.drain(first..first + want).collect());
        }
        let missing = want.saturating_sub(self.spare.len());
        // New ones are mostly side by side, and so are they when they become spare again.
        let fresh = match self.spare.len() < SPARE_MAX {
            true => want,
            false => missing,
        };
        match self.take_fresh(space, fresh) {
            Err(_) if missing == 0 => {}
            taken => taken?,
        }
        let from = self.spare.len() - want;
        Ok(self.spare.drain(from..).collect())
    }

    /// Adds places to the spare ones, behind them.
    fn take_fresh(&mut self, space: &Arc<Space>, count: usize) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        // Given back when the blocks are taken: from then on they are counted where they are.
        let bytes = count as u64 * space.nodesize();
        let _reserved = space.try_reserve_metadata(bytes, Steal::No)?;
        for _ in 0..count {
            let at = space.alloc_tree_block(TreeSpace::Metadata)?;
            self.taken.push(at);
            self.spare.push(at);
        }
        Ok(())
    }
}

/// The keys that an inode's items can have.
fn keys_of(objectid: u64) -> std::ops::RangeInclusive<Key> {
    Key::new(objectid, 0, 0)..=Key::new(objectid, u8::MAX, u64::MAX)
}

fn root_key(subvol: u64) -> Key {
    Key::new(ids::TREE_LOG_OBJECTID, kind::ROOT_ITEM, subvol)
}

fn sums_key(at: u64) -> Key {
    Key::new(ids::EXTENT_CSUM_OBJECTID, kind::EXTENT_CSUM, at)
}

/// What names a log: it has an inode as each root item does, that nobody looks at.
fn root_item(stamp: &Stamp, at: Logical, level: u8) -> RootItem {
    let mut item = RootItem::zeroed();
    item.inode.generation.set(1);
    item.inode.size.set(3);
    item.inode.nlink.set(1);
    item.inode.nbytes.set(stamp.nodesize.into());
    item.inode.mode.set(libc::S_IFDIR | 0o755);
    item.generation.set(stamp.generation.get());
    item.generation_v2.set(stamp.generation.get());
    item.bytenr.set(at.get());
    item.level = level;
    item.bytes_used.set(stamp.nodesize.into());
    item.refs.set(1);
    item
}
