//! The phases of a commit, in the order in which they are passed.
//!
//! Owns: the transitions. Never: what is done in a phase; `commit` drives them:
//!
//! ```text
//! begin_critical ─ joins wait, writers drain ─▶ Blocking ─ trees brought to rest ─▶ unblock
//!   ─ the next transaction runs, this one is written ─▶ super_written ─ unpin ─▶ finish
//! ```
//!
//! Invariant: one commit at a time; a commit that is given up in the middle aborts the mount,
//! because its trees are no longer those of the last superblock.

use super::join::{Shared, TransHandle, TransactionManager};
use super::running::Transaction;
use crate::error::{Error, Result};
use crate::sync::Arc;
use crate::units::Generation;

/// How far the commit under way has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No commit is under way: writers join.
    Running,
    /// Joins wait, writers drain, and then the committer is alone with the trees.
    Blocking,
    /// The next transaction runs; this one's blocks are being written.
    Unblocked,
    /// The superblock is durable; ranges are being unpinned.
    SuperWritten,
}

impl TransactionManager {
    /// Starts a commit of the running transaction: waits for the one before, makes joins wait,
    /// and returns when the last writer has ended. The caller is alone with the trees until
    /// [`CommitGuard::unblock`]. The calling thread must not have a handle.
    pub fn begin_critical(&self) -> Result<CommitGuard> {
        let mut state = self.shared.state.lock();
        while state.phase != Phase::Running && state.aborted.is_none() {
            self.shared.changed.wait(&mut state);
        }
        if let Some(error) = Shared::abort_error(&state) {
            return Err(error);
        }
        state.phase = Phase::Blocking;
        while state.writers > 0 {
            self.shared.changed.wait(&mut state);
        }
        if let Some(error) = Shared::abort_error(&state) {
            state.phase = Phase::Running;
            drop(state);
            self.shared.changed.notify_all();
            return Err(error);
        }
        // The committer's own handle, so that tree edits look the same as everybody's.
        state.writers += 1;
        let transaction = state.running.clone();
        drop(state);
        let handle = TransHandle::of_commit(transaction.clone(), self.shared.clone());
        Ok(CommitGuard {
            shared: self.shared.clone(),
            transaction,
            handle: Some(handle),
            done: false,
        })
    }

    /// The phase of the commit under way.
    pub fn phase(&self) -> Phase {
        self.shared.state.lock().phase
    }
}

/// A commit under way. Dropping it before [`CommitGuard::finish`] aborts the mount.
pub struct CommitGuard {
    shared: Arc<Shared>,
    transaction: Arc<Transaction>,
    handle: Option<TransHandle>,
    /// Ended as it should.
    done: bool,
}

impl CommitGuard {
    /// The transaction being committed.
    pub fn transaction(&self) -> &Arc<Transaction> {
        &self.transaction
    }

    /// Its generation.
    pub fn transid(&self) -> Generation {
        self.transaction.transid()
    }

    /// The committer's handle, for its edits in the critical section; `None` once unblocked.
    pub fn handle(&self) -> Option<&TransHandle> {
        self.handle.as_ref()
    }

    /// Ends the critical section: the trees of this transaction are final, the next one starts.
    pub fn unblock(&mut self) {
        self.handle = None;
        let next = Generation(self.transid().get() + 1);
        let mut state = self.shared.state.lock();
        assert_eq!(
            state.phase,
            Phase::Blocking,
            "unblock() comes once, after begin_critical()"
        );
        assert_eq!(
            state.writers, 0,
            "the committer was alone in its critical section"
        );
        state.running = Arc::new(Transaction::new(next));
        state.phase = Phase::Unblocked;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// The superblock is on the device and flushed: whoever waits for this transaction goes on.
    pub fn super_written(&mut self) {
        let mut state = self.shared.state.lock();
        assert_eq!(
            state.phase,
            Phase::Unblocked,
            "super_written() comes once, after unblock()"
        );
        state.phase = Phase::SuperWritten;
        state.durable = self.transaction.transid();
        drop(state);
        self.shared.changed.notify_all();
    }

    /// All is done; the next commit may start.
    pub fn finish(mut self) {
        let mut state = self.shared.state.lock();
        assert_eq!(
            state.phase,
            Phase::SuperWritten,
            "finish() comes after super_written()"
        );
        state.phase = Phase::Running;
        self.done = true;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Ends a critical section in which nothing was found to write: the same transaction runs on,
    /// under the same generation, and nothing became durable.
    pub fn give_back(mut self) {
        self.handle = None;
        let mut state = self.shared.state.lock();
        assert_eq!(
            state.phase,
            Phase::Blocking,
            "give_back() instead of unblock()"
        );
        state.phase = Phase::Running;
        self.done = true;
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Drop for CommitGuard {
    fn drop(&mut self) {
        self.handle = None;
        if self.done {
            return;
        }
        // First the abort (which keeps an earlier, more telling error): whoever got in between
        // would find trees that are only half brought to rest, and could commit them.
        self.shared.abort(Error::Aborted(format!(
            "the commit of transaction {} failed",
            self.transaction.transid()
        )));
        self.shared.state.lock().phase = Phase::Running;
        self.shared.changed.notify_all();
    }
}
