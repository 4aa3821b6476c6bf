//! The inodes in memory.
//!
//! Owns: which [`Inode`] stands for which identity, which ones stay without a user, and how often
//! the kernel refers to each. Invariants: at most one live `Inode` for an identity; one that was
//! read from the tree enters only if no other lived and died since the read began, whose changes
//! it would lack. Never: drops an inode while a shard is locked, since the drop comes back to
//! remove the entry; locks an inode's `meta`.
//!
//! An inode stays in memory while it is open, while it is unlinked and the kernel refers to it
//! (its node id leads nowhere else), and among a bounded number that were used last. Everything
//! else can be read again. Whoever works with an inode, and the queues of what isn't written yet,
//! hold it by themselves.

use super::inode::Inode;
use super::lookup_counts::{LookupCounts, References, neighbourhood};
use super::node_id::Identity;
use super::orphan::Evictions;
use crate::error::Result;
use crate::sync::{Arc, Mutex, MutexGuard, Weak};
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// What an inode finds again when it is dropped.
pub(in crate::fs) struct Home {
    pub table: InodeTable,
    pub evictions: Evictions,
}

const SHARDS: usize = 64;
/// What a full shard throws out at one go, at most.
const THROWN_OUT_MAX: usize = 4;

/// What an inode's entry takes in the table.
#[cfg(test)]
pub(in crate::fs) const ENTRY_BYTES: usize = size_of::<(Identity, Entry)>() + 1;

struct Entry {
    inode: Weak<Inode>,
    /// `Some` while there is one of the reasons below.
    held: Option<Arc<Inode>>,
    opens: u64,
    /// Without links: never cached, so that its space is free as soon as nobody uses it.
    unlinked: bool,
    /// Unlinked, and the kernel refers to it.
    remembered: bool,
    /// Used lately; its identity is in the shard's queue.
    cached: bool,
    /// Asked for since the queue was last looked at.
    used: bool,
}

impl Entry {
    fn new(inode: &Arc<Inode>) -> Self {
        Self {
            inode: Arc::downgrade(inode),
            held: None,
            opens: 0,
            unlinked: false,
            remembered: false,
            cached: false,
            used: false,
        }
    }

    /// Holds the inode if there is a reason. What it held without one is the caller's to drop.
    fn settle(&mut self, inode: Option<&Arc<Inode>>) -> Option<Arc<Inode>> {
        if self.opens == 0 && !self.remembered && !self.cached {
            return self.held.take();
        }
        if self.held.is_none() {
            self.held = inode.cloned();
        }
        None
    }
}

#[derive(Default)]
struct Shard {
    cached_max: usize,
    entries: HashMap<Identity, Entry>,
    lookups: LookupCounts,
    /// The cached ones, the longest unused first; those that aren't any more are passed over.
    queue: VecDeque<Identity>,
    /// How many inodes have left memory.
    deaths: u64,
}

impl Shard {
    fn live(&self, identity: Identity) -> Option<Arc<Inode>> {
        self.entries.get(&identity)?.inode.upgrade()
    }

    /// The inode was used: it stays, and others may have to go for it.
    fn use_it(&mut self, inode: &Arc<Inode>) -> Vec<Arc<Inode>> {
        let identity = inode.identity();
        let Some(entry) = self.entries.get_mut(&identity) else {
            return Vec::new();
        };
        entry.used = true;
        if entry.cached || entry.unlinked {
            return Vec::new();
        }
        entry.cached = true;
        entry.settle(Some(inode));
        self.queue.push_back(identity);
        self.make_room()
    }

    fn make_room(&mut self) -> Vec<Arc<Inode>> {
        let mut out = Vec::new();
        let mut second_chances = self.queue.len();
        while self.queue.len() > self.cached_max && out.len() < THROWN_OUT_MAX {
            let Some(identity) = self.queue.pop_front() else {
                break;
            };
            let Some(entry) = self.entries.get_mut(&identity) else {
                continue;
            };
            if !entry.cached {
                continue;
            }
            if entry.used && second_chances > 0 {
                second_chances -= 1;
                entry.used = false;
                self.queue.push_back(identity);
                continue;
            }
            entry.cached = false;
            out.extend(entry.settle(None));
        }
        out
    }

    fn remove(&mut self, identity: Identity) {
        self.entries.remove(&identity);
        self.deaths += 1;
        let room = self.entries.capacity();
        if room > 4096 && self.entries.len() < room / 8 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }
}

/// See the module.
pub(in crate::fs) struct InodeTable {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

impl InodeTable {
    /// A table that keeps about `cached_max` inodes for having been used lately.
    pub fn new(cached_max: usize) -> Self {
        let shard = || Shard {
            cached_max: (cached_max / SHARDS).max(1),
            ..Shard::default()
        };
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            hasher: RandomState::new(),
        }
    }

    /// The shard of an inode and its neighbours, whose lookups are counted together.
    fn shard(&self, identity: Identity) -> MutexGuard<'_, Shard> {
        let neighbours = match identity {
            Identity::Inode { subvol, objectid } => (subvol, neighbourhood(objectid).0),
            Identity::Stub { subvol, nested } => (subvol, nested),
        };
        self.shards[self.hasher.hash_one(neighbours) as usize % SHARDS].lock()
    }

    /// The inode, if it is in memory.
    pub fn get(&self, identity: Identity) -> Option<Arc<Inode>> {
        let mut shard = self.shard(identity);
        let inode = shard.live(identity)?;
        let out = shard.use_it(&inode);
        drop(shard);
        drop(out);
        Some(inode)
    }

    /// How many are in memory.
    pub fn len(&self) -> usize {
        let entries = |shard: &Mutex<Shard>| shard.lock().entries.len();
        self.shards.iter().map(entries).sum()
    }

    /// What the kernel refers to, shard by shard while it goes on.
    pub fn references(&self) -> References {
        let mut all = References::default();
        for shard in &self.shards {
            let one = shard.lock().lookups.references();
            all.given += one.given;
            all.returned += one.returned;
            all.held += one.held;
            all.inodes += one.inodes;
        }
        all
    }

    /// Whether the inode is in memory.
    pub fn is_live(&self, identity: Identity) -> bool {
        // Not by `live`: the last user may be gone before we let go of it.
        let shard = self.shard(identity);
        let entry = shard.entries.get(&identity);
        entry.is_some_and(|entry| entry.inode.strong_count() > 0)
    }

    /// The inode in memory, or else what `read` finds in the tree; `None` instead of that unless
    /// `may_enter`, which is asked with the shard locked: an answer that turns to no, and a look at
    /// the table behind that, miss nobody.
    pub fn get_or_read(
        &self,
        identity: Identity,
        read: impl Fn() -> Result<Inode>,
        may_enter: impl Fn() -> bool,
    ) -> Result<Option<Arc<Inode>>> {
        loop {
            if let Some(inode) = self.get(identity) {
                return Ok(Some(inode));
            }
            if !may_enter() {
                return Ok(None);
            }
            let deaths = {
                let mut shard = self.shard(identity);
                let entry = shard.entries.get(&identity);
                if entry.is_some_and(|entry| entry.inode.strong_count() == 0) {
                    // Its drop hasn't come to the entry yet; the tree has all that it knew.
                    shard.remove(identity);
                }
                shard.deaths
            };
            let inode = match read() {
                Err(_) if !may_enter() => return Ok(None),
                read => Arc::new(read?),
            };
            let is_fresh = |shard: &Shard| shard.deaths == deaths && may_enter();
            if let Some(entered) = self.enter(inode, is_fresh) {
                return Ok(Some(entered));
            }
        }
    }

    /// Makes a new `inode` the one that stands for its identity, unless another came first: then
    /// returns that one.
    pub fn insert(&self, inode: Arc<Inode>) -> Arc<Inode> {
        self.enter(inode.clone(), |_| true).unwrap_or(inode)
    }

    /// `None` where there is no inode in memory and this one isn't `welcome`. What was read isn't
    /// when some inode of the shard has left memory since: it may have been this one, changed and
    /// written meanwhile.
    fn enter(&self, inode: Arc<Inode>, welcome: impl FnOnce(&Shard) -> bool) -> Option<Arc<Inode>> {
        let identity = inode.identity();
        let mut shard = self.shard(identity);
        if let Some(first) = shard.live(identity) {
            let out = shard.use_it(&first);
            drop(shard);
            drop((out, inode));
            return Some(first);
        }
        if shard.entries.contains_key(&identity) {
            shard.remove(identity);
        }
        if !welcome(&shard) {
            drop(shard);
            drop(inode);
            return None;
        }
        shard.entries.insert(identity, Entry::new(&inode));
        let out = shard.use_it(&inode);
        drop(shard);
        drop(out);
        Some(inode)
    }

    /// Counts one more reference of the kernel.
    pub fn count_lookup(&self, inode: &Inode) {
        let identity = inode.identity();
        self.shard(identity).lookups.add(identity);
    }

    /// Counts `n` references less. Returns the inode when that leaves an unlinked one without a
    /// user; the caller's drop may be the last.
    pub fn forget(&self, identity: Identity, n: u64) -> Option<Arc<Inode>> {
        let mut shard = self.shard(identity);
        if !shard.lookups.subtract(identity, n) {
            return None;
        }
        let entry = shard.entries.get_mut(&identity)?;
        entry.remembered = false;
        if entry.unlinked {
            entry.settle(None)
        } else {
            None
        }
    }

    /// The inode was opened.
    pub fn open(&self, inode: &Arc<Inode>) {
        let mut shard = self.shard(inode.identity());
        if let Some(entry) = shard.entries.get_mut(&inode.identity()) {
            entry.opens += 1;
            entry.settle(Some(inode));
        }
    }

    /// One open less. Returns the inode when nothing holds it any more.
    pub fn close(&self, identity: Identity) -> Option<Arc<Inode>> {
        let mut shard = self.shard(identity);
        let entry = shard.entries.get_mut(&identity)?;
        entry.opens = entry.opens.saturating_sub(1);
        entry.settle(None)
    }

    /// The inode has lost its last link: it stays as long as somebody refers to it, and no
    /// longer. Says whether somebody does. To be told again when a lookup was counted after.
    pub fn unlinked(&self, inode: &Arc<Inode>) -> bool {
        let identity = inode.identity();
        let mut shard = self.shard(identity);
        let remembered = shard.lookups.has(identity);
        let Some(entry) = shard.entries.get_mut(&identity) else {
            return false;
        };
        (entry.unlinked, entry.remembered, entry.cached) = (true, remembered, false);
        // The caller has one more, so this isn't the last.
        drop(entry.settle(Some(inode)));
        remembered || entry.opens > 0
    }

    /// The inode has a link again.
    pub fn linked(&self, inode: &Arc<Inode>) {
        let mut shard = self.shard(inode.identity());
        if let Some(entry) = shard.entries.get_mut(&inode.identity()) {
            (entry.unlinked, entry.remembered) = (false, false);
        }
        let out = shard.use_it(inode);
        drop(shard);
        drop(out);
    }

    /// Holds no inode of these trees any more for having been used lately. The caller drops what
    /// isn't held for another reason.
    pub fn uncache(&self, subvols: &HashSet<u64>) -> Vec<Arc<Inode>> {
        let mut gone = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            for (identity, entry) in &mut shard.entries {
                if matches!(identity, Identity::Inode { subvol, .. } if subvols.contains(subvol)) {
                    entry.cached = false;
                    gone.extend(entry.settle(None));
                }
            }
        }
        gone
    }

    /// The trees of which anybody has an inode.
    pub fn subvolumes(&self) -> HashSet<u64> {
        let mut found = HashSet::new();
        for shard in &self.shards {
            for (identity, entry) in &shard.lock().entries {
                if let Identity::Inode { subvol, .. } = identity
                    && entry.inode.strong_count() > 0
                {
                    found.insert(*subvol);
                }
            }
        }
        found
    }

    /// Lets everything go: the mount is over, or the kernel never said goodbye.
    pub fn let_all_go(&self) -> Vec<Arc<Inode>> {
        let mut gone = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.lookups.clear();
            shard.queue.clear();
            for entry in shard.entries.values_mut() {
                (entry.opens, entry.remembered, entry.cached) = (0, false, false);
                gone.extend(entry.settle(None));
            }
        }
        gone
    }

    /// Takes out the entry of an inode that is being dropped, unless the identity has found a
    /// new one.
    pub fn remove_dead(&self, identity: Identity, inode: *const Inode) {
        let mut shard = self.shard(identity);
        let entry = shard.entries.get(&identity);
        if entry.is_some_and(|entry| std::ptr::eq(entry.inode.as_ptr(), inode)) {
            shard.remove(identity);
        }
    }
}
