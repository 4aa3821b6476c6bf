//! The thread that commits by itself: after an interval, when dirty blocks fill the cache, when
//! delayed refs pile up; between that it drops deleted subvolumes.
//!
//! Owns: one thread and its wake-ups. Invariant: it ends before [`Committer::shutdown`] returns,
//! and it never keeps the committer alive.

use super::committer::Committer;
use crate::error::Result;
use crate::sync::{Arc, Condvar, Mutex, Weak, thread};
use crate::transaction::TransactionManager;
use std::time::{Duration, Instant};

/// From so many heads on they are run without waiting for a commit.
const HEADS_MAX: usize = 50_000;
/// How often the thread looks at what nobody wakes it for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Wishes {
    stop: bool,
    write_early: bool,
    clean: bool,
}

#[derive(Default)]
struct Bell {
    wishes: Mutex<Wishes>,
    rung: Condvar,
}

impl Bell {
    fn wait_for_stop(&self) {
        let mut wishes = self.wishes.lock();
        while !wishes.stop {
            self.rung.wait(&mut wishes);
        }
    }
}

/// The running thread.
pub(super) struct Background {
    bell: Arc<Bell>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Background {
    /// A committer that nobody shut down: its thread must not outlive it for long.
    fn drop(&mut self) {
        self.bell.wishes.lock().stop = true;
        self.bell.rung.notify_all();
    }
}

/// Lives in the thread. Without it nothing would be committed any more, and nobody would know.
struct Alarm(TransactionManager);

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            let words = "the commit thread panicked".into();
            self.0.abort(crate::Error::Aborted(words));
        }
    }
}

impl Committer {
    /// Starts the thread that commits every `interval`.
    pub(super) fn start_background(self: &Arc<Self>, interval: Duration) -> Result<()> {
        let bell = Arc::new(Bell::default());
        let on_pressure = bell.clone();
        self.ctx.cache.on_dirty_pressure(move || {
            on_pressure.wishes.lock().write_early = true;
            on_pressure.rung.notify_all();
        });
        let weak = Arc::downgrade(self);
        let alarm = Alarm(self.ctx.transactions.clone());
        let for_thread = bell.clone();
        let thread = thread::Builder::new()
            .name("btrfuse-commit".into())
            .spawn(move || {
                let _alarm = alarm;
                run(&weak, &for_thread, interval);
            })
            .map_err(|error| crate::Error::device("start the commit thread", error))?;
        *self.background.lock() = Some(Background {
            bell,
            thread: Some(thread),
        });
        Ok(())
    }

    /// There is a deleted subvolume to drop.
    pub(super) fn ring_for_cleaning(&self) {
        if let Some(background) = &*self.background.lock() {
            background.bell.wishes.lock().clean = true;
            background.bell.rung.notify_all();
        }
    }

    /// Commits a last time and ends the thread. Later calls only commit.
    pub fn shutdown(&self) -> Result<()> {
        if let Some(mut background) = self.background.lock().take()
            && let Some(thread) = background.thread.take()
        {
            drop(background);
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                log::error!("the commit thread panicked");
            }
        }
        if self.read_only.is_some() {
            return Ok(());
        }
        self.commit()
    }

    /// Called by writers before they join: when delayed refs pile up, or dirty blocks leave no
    /// room in the cache, it is their turn to work.
    pub fn throttle(&self) -> Result<()> {
        let running = self.ctx.transactions.running();
        if running.delayed_refs.len() > HEADS_MAX * 2 {
            let trans = self.ctx.transactions.join()?;
            self.run_heads(&trans, 256)?;
        }
        if self.ctx.cache.dirty_bytes() > self.ctx.cache.bound_bytes() {
            self.write_early()?;
        }
        Ok(())
    }

    /// Writes the running transaction's dirty blocks: they become clean and may leave the cache.
    ///
    /// A commit has the turn while it brings the trees to rest. Whoever changes a written block
    /// copies it first, which would have no end there; and a write that is still under way when
    /// the transaction is durable would arrive in a range that was freed in it, and is another's
    /// by now.
    pub fn write_early(&self) -> Result<()> {
        let _turn = self.early.lock();
        self.ctx.transactions.check()?;
        let running = self.ctx.transactions.running();
        let blocks = running.dirty_blocks.sorted();
        log::debug!(
            "{} dirty blocks are written before their commit",
            blocks.len()
        );
        let written = self.ctx.cache.write_out(&blocks, running.transid())?;
        // The list stays as long as what is dirty, however long the transaction is. Nothing new
        // is at these addresses: what was written and freed is pinned until the commit.
        for at in written {
            running.dirty_blocks.remove(at);
        }
        Ok(())
    }
}

fn run(committer: &Weak<Committer>, bell: &Bell, interval: Duration) {
    let mut last = Instant::now();
    let mut cleaning = true;
    loop {
        let mut wishes = bell.wishes.lock();
        cleaning |= std::mem::take(&mut wishes.clean);
        if !wishes.stop && !wishes.write_early && !cleaning {
            let left = interval.saturating_sub(last.elapsed()).min(LOOK_EVERY);
            bell.rung.wait_for(&mut wishes, left);
        }
        if wishes.stop {
            return;
        }
        let write_early = std::mem::take(&mut wishes.write_early);
        cleaning |= std::mem::take(&mut wishes.clean);
        drop(wishes);
        let Some(committer) = committer.upgrade() else {
            return;
        };
        if committer.ctx.transactions.check().is_err() {
            // Nothing will ever be written again: only the end is waited for.
            drop(committer);
            bell.wait_for_stop();
            return;
        }
        let result = if last.elapsed() >= interval {
            last = Instant::now();
            // A drop that found no space may find some now.
            cleaning = true;
            committer.commit()
        } else if write_early {
            committer.write_early()
        } else if committer.ctx.transactions.running().delayed_refs.len() > HEADS_MAX {
            committer.run_waiting()
        } else {
            committer.clean_step().map(|more| cleaning = more)
        };
        // What can't be survived has aborted by itself; the rest is tried again, and reported to
        // whoever asks for a sync.
        if let Err(error) = result {
            log::error!("background commit: {error}");
            cleaning = false;
        }
    }
}

impl Committer {
    fn run_waiting(&self) -> Result<()> {
        let trans = self.ctx.transactions.join()?;
        self.run_heads(&trans, HEADS_MAX / 2)
    }
}
