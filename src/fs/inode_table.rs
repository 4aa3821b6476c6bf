//! The inodes in use.
//!
//! Owns: which [`Inode`] stands for which identity, and how often the kernel refers to it.
//! Invariant: at most one live `Inode` for an identity. The table pins what the kernel looked up
//! or holds open; everything else lives as long as somebody works with it, so memory is bounded
//! by what the kernel remembers. Never: drops an inode while a shard is locked, since the drop
//! comes back to remove the entry.

use super::inode::Inode;
use super::node_id::Identity;
use super::orphan::Evictions;
use crate::sync::{Arc, Mutex, MutexGuard, Weak};
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::hash::{BuildHasher, RandomState};

/// What an inode finds again when it is dropped.
pub(in crate::fs) struct Home {
    pub table: InodeTable,
    pub evictions: Evictions,
}

const SHARDS: usize = 64;

struct Entry {
    inode: Weak<Inode>,
    pinned: Option<Arc<Inode>>,
    pins: u64,
}

/// See the module.
pub(in crate::fs) struct InodeTable {
    shards: Vec<Mutex<HashMap<Identity, Entry>>>,
    loading: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl InodeTable {
    pub fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect(),
            loading: (0..SHARDS).map(|_| Mutex::new(())).collect(),
            hasher: RandomState::new(),
        }
    }

    fn shard(&self, identity: Identity) -> &Mutex<HashMap<Identity, Entry>> {
        &self.shards[self.place(identity)]
    }

    fn place(&self, identity: Identity) -> usize {
        self.hasher.hash_one(identity) as usize % SHARDS
    }

    /// Held from the look at the table over the read of the tree to the insert. Otherwise
    /// another thread could load the inode meanwhile, change or delete it, and be done with it;
    /// what was read before would then stand for it.
    pub fn lock_loading(&self, identity: Identity) -> MutexGuard<'_, ()> {
        self.loading[self.place(identity)].lock()
    }

    /// The inode, if it is in use.
    pub fn get(&self, identity: Identity) -> Option<Arc<Inode>> {
        self.shard(identity).lock().get(&identity)?.inode.upgrade()
    }

    /// Makes `inode` the one that stands for its identity, unless another came first: then
    /// returns that one.
    pub fn insert(&self, inode: Arc<Inode>) -> Arc<Inode> {
        let identity = inode.identity();
        let entry = Entry {
            inode: Arc::downgrade(&inode),
            pinned: None,
            pins: 0,
        };
        match self.shard(identity).lock().entry(identity) {
            Slot::Vacant(slot) => {
                slot.insert(entry);
            }
            Slot::Occupied(mut slot) => {
                if let Some(first) = slot.get().inode.upgrade() {
                    return first;
                }
                slot.insert(entry);
            }
        }
        inode
    }

    /// Counts `n` more references of the kernel.
    pub fn pin(&self, inode: &Arc<Inode>, n: u64) {
        let identity = inode.identity();
        let mut shard = self.shard(identity).lock();
        let entry = shard
            .get_mut(&identity)
            .expect("a live inode has its entry");
        entry.pins += n;
        if entry.pinned.is_none() {
            entry.pinned = Some(inode.clone());
        }
    }

    /// Counts `n` references less. Returns the inode when none is left; the caller's drop may
    /// be the last.
    pub fn unpin(&self, identity: Identity, n: u64) -> Option<Arc<Inode>> {
        let mut shard = self.shard(identity).lock();
        let entry = shard.get_mut(&identity)?;
        entry.pins = entry.pins.saturating_sub(n);
        if entry.pins == 0 {
            entry.pinned.take()
        } else {
            None
        }
    }

    /// Forgets every reference: the mount is over, or the kernel never said goodbye.
    pub fn unpin_all(&self) -> Vec<Arc<Inode>> {
        let mut gone = Vec::new();
        for shard in &self.shards {
            for entry in shard.lock().values_mut() {
                entry.pins = 0;
                gone.extend(entry.pinned.take());
            }
        }
        gone
    }

    /// Takes out the entry of an inode that is being dropped, unless the identity has found a
    /// new one.
    pub fn remove_dead(&self, identity: Identity, inode: *const Inode) {
        let mut shard = self.shard(identity).lock();
        if let Slot::Occupied(slot) = shard.entry(identity)
            && std::ptr::eq(slot.get().inode.as_ptr(), inode)
        {
            slot.remove();
        }
    }
}
