//! Finding room on a full filesystem: what is promised and not needed is given back, what was deleted is
//! deleted in earnest, and whoever frees space gets it before anybody is refused.
//!
//! Never: by somebody who has a transaction handle, or a lock that a flush needs.

use super::file;
use super::filesystem::Filesystem;
use crate::allocator::Steal;
use crate::error::{Error, Result};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::thread;
use std::time::Duration;

/// How long those who were refused wait for others to be done, in milliseconds.
const PAUSES_MS: [u64; 6] = [1, 2, 4, 8, 16, 32];

/// One of those who wait for their turn.
struct Refused<'a>(&'a AtomicUsize);

impl<'a> Refused<'a> {
    fn count(all: &'a AtomicUsize) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self(all)
    }
}

impl Drop for Refused<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Filesystem {
    /// Asks for space, and once more when delayed content has been written: each file that holds
    /// some is promised far more metadata than it needs in the end.
    pub(in crate::fs) fn without_commit<T>(&self, ask: impl Fn() -> Result<T>) -> Result<T> {
        let first = ask();
        if first.is_ok() || self.delayed_data.bytes() == 0 {
            return first;
        }
        if let Err(error) = file::flush_all(self) {
            log::warn!("writing back data to find space: {error}");
        }
        ask()
    }

    /// Asks for space, and once more when files in memory or unlinked inodes held some of it.
    pub(in crate::fs) fn with_room<T>(&self, ask: impl Fn() -> Result<T>) -> Result<T> {
        match ask() {
            Err(Error::NoSpace) if self.make_room() => ask(),
            answer => answer,
        }
    }

    /// As [`Filesystem::with_room`]; who frees space waits for deleted subvolumes to be dropped, too,
    /// before there is none.
    pub(in crate::fs) fn with_room_for<T>(
        &self,
        steal: Steal,
        ask: impl Fn() -> Result<T>,
    ) -> Result<T> {
        let mut answer = self.with_room(&ask);
        while matches!(answer, Err(Error::NoSpace)) && steal != Steal::No && self.drop_for_space() {
            answer = ask();
        }
        answer
    }

    /// Gives back what is promised to delayed content, and what unlinked inodes hold. False when
    /// there was nothing. The caller holds no handle and no lock but `names`.
    fn make_room(&self) -> bool {
        let delayed = self.delayed_data.bytes() > 0;
        if delayed && let Err(error) = file::flush_all(self) {
            log::warn!("writing back data to find space: {error}");
        }
        let cleaned = self.clean_for_space();
        // What was freed in this transaction can be used after its commit, and counts as freed
        // nowhere before the delayed references have run.
        let unsettled = !self.ctx.transactions.running().delayed_refs.is_empty();
        if unsettled && let Err(error) = self.engine.committer.commit_trees() {
            log::warn!("no space could be freed by a commit: {error}");
            return false;
        }
        delayed | cleaned | unsettled
    }

    /// An operation that frees space, and has changed nothing when it finds none. Several at once may keep
    /// from each other what each has and all need more of: who was refused lets go of all, and asks again
    /// alone; who comes then waits for its turn before it asks for anything. The caller holds no lock.
    pub(in crate::fs) fn freeing<T>(&self, operation: impl Fn() -> Result<T>) -> Result<T> {
        // Relaxed: only a hint; what is right doesn't depend on it.
        if self.refused.load(Ordering::Relaxed) == 0 {
            match operation() {
                Err(Error::NoSpace) => {}
                other => return other,
            }
        }
        let _refused = Refused::count(&self.refused);
        let _turn = self.turn.lock();
        for pause in PAUSES_MS {
            match operation() {
                // Somebody who wasn't refused has the rest, and is at work with it.
                Err(Error::NoSpace) if self.ctx.space.is_promised() => {
                    thread::sleep(Duration::from_millis(pause));
                }
                other => return other,
            }
        }
        operation()
    }
}
