//! Numbers for what the kernel holds open.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};
use std::collections::HashMap;

const SHARDS: usize = 16;

/// A table from file handle numbers to what they stand for.
#[derive(Debug)]
pub struct Handles<T> {
    next: AtomicU64,
    shards: Vec<Mutex<HashMap<u64, Arc<T>>>>,
}

impl<T> Handles<T> {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            next: AtomicU64::new(1),
            shards: (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect(),
        }
    }

    fn shard(&self, number: u64) -> &Mutex<HashMap<u64, Arc<T>>> {
        &self.shards[(number % SHARDS as u64) as usize]
    }

    /// A number for `handle`, never used before.
    pub fn add(&self, handle: T) -> u64 {
        // Relaxed: only uniqueness matters, the shard's lock publishes the entry.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.shard(number).lock().insert(number, Arc::new(handle));
        number
    }

    /// What the number stands for.
    pub fn get(&self, number: u64) -> Option<Arc<T>> {
        self.shard(number).lock().get(&number).cloned()
    }

    /// Forgets the number.
    pub fn remove(&self, number: u64) -> Option<Arc<T>> {
        self.shard(number).lock().remove(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_handle_is_gone_and_its_number_not_reused() {
        let handles = Handles::new();
        let first = handles.add("a");
        assert_eq!(handles.get(first).as_deref(), Some(&"a"));
        assert!(handles.remove(first).is_some() && handles.get(first).is_none());
        assert_ne!(handles.add("b"), first);
    }
}
