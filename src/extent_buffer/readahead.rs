//! Blocks that will be wanted soon are read in the background.
//!
//! Owns: a few threads and a short queue; what doesn't fit is dropped. Readahead is a guess: its
//! errors are forgotten, and whoever wants the block reads it again and reports. Each read owns
//! a count, so reclaim can't take a buffer from under it.

use super::cache::{Cache, Inner};
use crate::ondisk::check::Expect;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Condvar, Mutex, Weak};

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
        for thread in self.threads.lock().drain(..) {
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
