//! Blocks that will be wanted soon are read in the background.
//!
//! Owns: a few threads and a short queue; what doesn't fit is dropped. Readahead is a guess: its
//! errors are forgotten, and whoever wants the block reads it again and reports. Each read owns
//! a count, so reclaim can't take a buffer from under it.

use super::cache::{Cache, Inner};
use crate::ondisk::check::Expect;
#[cfg(feature = "race-lab")]
use crate::sync::atomic::Ordering;
use crate::sync::thread::{self, JoinHandle};
#[cfg(feature = "race-lab")]
use crate::sync::unmodelled::AtomicBool;
use crate::sync::{Arc, Condvar, Mutex, Weak};
use crate::units::Logical;

const QUEUE_MAX: usize = 256;
const THREADS: usize = 2;

/// The queue and its threads, which start with the first request.
#[derive(Default)]
pub struct Readahead {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    wanted: Vec<Expect>,
    closed: bool,
}

impl Cache {
    /// Asks for blocks to be read soon. Best effort; never waits for the disk.
    pub fn readahead(&self, expects: &[Expect]) {
        let missing = |expect: &&Expect| self.find(expect.at).is_none_or(|eb| !eb.is_uptodate());
        let wanted: Vec<Expect> = expects.iter().filter(missing).cloned().collect();
        if !wanted.is_empty() {
            self.inner
                .readahead
                .push(wanted, Arc::downgrade(&self.inner));
        }
    }

    /// Stops reading ahead and waits for reads under way: after this nobody but the callers'
    /// own handles keeps the cache, and so the devices, open.
    pub fn close_readahead(&self) {
        self.inner.readahead.close();
    }
}

/// Set by [`follow_freed`].
#[cfg(feature = "race-lab")]
static FOLLOWS_FREED: AtomicBool = AtomicBool::new(false);

/// From now on readers ahead also follow a pointer to every block that goes when it was freed, as if
/// somebody had found it on a node just before: the readers of 2020, who met reclaim and a new block
/// at that address (scenario C). For the whole process.
#[cfg(feature = "race-lab")]
pub fn follow_freed() {
    // Relaxed: a switch, nothing is published with it.
    FOLLOWS_FREED.store(true, Ordering::Relaxed);
}

impl Inner {
    /// The buffer of a freed block, which was at `at`, has just gone.
    #[cfg(feature = "race-lab")]
    pub(super) fn stale_is_gone(&self, at: Logical) {
        // Relaxed: as above.
        if FOLLOWS_FREED.load(Ordering::Relaxed) {
            self.readahead.push(vec![Expect::at(at)], self.me.clone());
        }
    }

    #[cfg(not(feature = "race-lab"))]
    #[inline(always)]
    pub(super) fn stale_is_gone(&self, _at: Logical) {}
}

impl Readahead {
    fn push(&self, wanted: Vec<Expect>, cache: Weak<Inner>) {
        let mut queue = self.shared.queue.lock();
        if queue.closed {
            return;
        }
        let room = QUEUE_MAX - queue.wanted.len().min(QUEUE_MAX);
        queue.wanted.extend(wanted.into_iter().take(room));
        drop(queue);
        self.shared.wake.notify_all();
        let mut threads = self.threads.lock();
        while threads.len() < THREADS {
            let (shared, cache) = (self.shared.clone(), cache.clone());
            let thread = thread::Builder::new()
                .name(format!("readahead-{}", threads.len()))
                .spawn(move || shared.work(&cache));
            match thread {
                Ok(thread) => threads.push(thread),
                // The system is out of threads: reading ahead is what can be done without.
                Err(_) => break,
            }
        }
    }

    fn close(&self) {
        self.shared.close();
        // A reader that frees a block may come for this lock, so it isn't held while we wait.
        let threads: Vec<_> = self.threads.lock().drain(..).collect();
        for thread in threads {
            // A reader that panicked has said so; and the last handle on a cache may be dropped
            // by a reader itself, which can't wait for its own end.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Shared {
    fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.wanted.clear();
        drop(queue);
        self.wake.notify_all();
    }

    fn work(&self, cache: &Weak<Inner>) {
        loop {
            let mut queue = self.queue.lock();
            while queue.wanted.is_empty() && !queue.closed {
                self.wake.wait(&mut queue);
            }
            if queue.closed {
                return;
            }
            let expect = queue.wanted.swap_remove(0);
            drop(queue);
            let Some(inner) = cache.upgrade() else { return };
            let _ = Cache { inner }.read(&expect);
        }
    }
}

impl Drop for Readahead {
    fn drop(&mut self) {
        self.shared.close();
    }
}
