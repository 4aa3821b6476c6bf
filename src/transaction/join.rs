//! Joining, ending, aborting and waiting.
//!
//! Owns: which transaction runs, how many writers are inside, and whether the mount can still
//! write. Invariant: a commit's critical section starts only when the last writer has ended, and
//! no writer enters before it is over; an aborted mount lets nobody in again.

use super::phase::Phase;
use super::running::Transaction;
use crate::allocator::MetaReservation;
use crate::error::{Error, Result};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Condvar, Mutex, OnceLock, thread};
use crate::units::Generation;

/// What changes under the one lock.
pub(super) struct State {
    pub(super) running: Arc<Transaction>,
    /// The phase of the commit under way, or `Running` when there is none.
    pub(super) phase: Phase,
    /// Handles of the running transaction.
    pub(super) writers: u64,
    /// The last transaction whose superblock is durable.
    pub(super) durable: Generation,
    pub(super) aborted: Option<Error>,
}

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Woken on every change that someone may wait for.
    pub(super) changed: Condvar,
    /// Set with `State::aborted`, so that a check costs one load.
    pub(super) is_aborted: AtomicBool,
    /// Told by the first abort, see [`TransactionManager::on_abort`].
    pub(super) on_abort: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Shared {
    /// Turns everything read-only; the first error is kept.
    pub(super) fn abort(&self, error: Error) {
        let mut state = self.state.lock();
        if state.aborted.is_none() {
            log::error!("transaction {} aborted: {error}", state.running.transid());
            state.aborted = Some(error);
            // Release: pairs with the Acquire in `check`.
            self.is_aborted.store(true, Ordering::Release);
            // Under the lock: whoever hears of the abort finds that this has happened too.
            if let Some(tell) = self.on_abort.get() {
                tell();
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn abort_error(state: &State) -> Option<Error> {
        state.aborted.as_ref().map(|cause| match cause {
            Error::Aborted(_) => cause.clone(),
            other => Error::Aborted(other.to_string()),
        })
    }
}

/// The mount's transactions. Clones share them.
#[derive(Clone)]
pub struct TransactionManager {
    pub(super) shared: Arc<Shared>,
}

impl TransactionManager {
    /// Transactions that follow `durable`, the generation of the superblock.
    pub fn new(durable: Generation) -> Self {
        let running = Arc::new(Transaction::new(Generation(durable.get() + 1)));
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    running,
                    phase: Phase::Running,
                    writers: 0,
                    durable,
                    aborted: None,
                }),
                changed: Condvar::new(),
                is_aborted: AtomicBool::new(false),
                on_abort: OnceLock::new(),
            }),
        }
    }

    /// Says what the first abort does at once, whoever it comes from and whatever locks they
    /// hold: so `tell` must neither wait nor come back here. Only the first call counts.
    pub fn on_abort(&self, tell: impl Fn() + Send + Sync + 'static) {
        let _only_the_first = self.shared.on_abort.set(Box::new(tell));
    }

    /// Enters the running transaction; waits only while a commit is in its critical section.
    ///
    /// A thread that already has a handle must not join again (it would wait for itself):
    /// [`TransHandle::share`] is for that.
    pub fn join(&self) -> Result<TransHandle> {
        let mut state = self.shared.state.lock();
        loop {
            if let Some(error) = Shared::abort_error(&state) {
                return Err(error);
            }
            if state.phase != Phase::Blocking {
                break;
            }
            self.shared.changed.wait(&mut state);
        }
        state.writers += 1;
        state.running.count_join();
        Ok(TransHandle {
            transaction: state.running.clone(),
            shared: self.shared.clone(),
            reserved: None,
        })
    }

    /// As [`TransactionManager::join`]; the reservation is given back when the handle ends.
    /// Reserving comes first, because a full filesystem may commit to make room.
    pub fn join_reserved(&self, reserved: MetaReservation) -> Result<TransHandle> {
        let mut handle = self.join()?;
        handle.reserved = Some(reserved);
        Ok(handle)
    }

    /// The running transaction (or the one in its critical section).
    pub fn running(&self) -> Arc<Transaction> {
        self.shared.state.lock().running.clone()
    }

    /// The last transaction whose superblock is durable.
    pub fn durable(&self) -> Generation {
        self.shared.state.lock().durable
    }

    /// Turns the mount read-only: later joins and waits answer [`Error::Aborted`]. The first
    /// error is the one that everybody hears.
    pub fn abort(&self, error: Error) {
        self.shared.abort(error);
    }

    /// `Err(Aborted)` after an abort: one load otherwise.
    pub fn check(&self) -> Result<()> {
        // Acquire: pairs with the Release in `abort`.
        if !self.shared.is_aborted.load(Ordering::Acquire) {
            return Ok(());
        }
        Shared::abort_error(&self.shared.state.lock()).map_or(Ok(()), Err)
    }

    /// Waits until `transid` is durable: its superblock was written and flushed. Someone has to
    /// commit it; this only waits.
    pub fn wait_durable(&self, transid: Generation) -> Result<()> {
        let mut state = self.shared.state.lock();
        while state.durable < transid {
            if let Some(error) = Shared::abort_error(&state) {
                return Err(error);
            }
            self.shared.changed.wait(&mut state);
        }
        Ok(())
    }
}

/// A place in the running transaction; dropping it ends it. While any exists, the commit of this
/// transaction can't start its critical section.
pub struct TransHandle {
    transaction: Arc<Transaction>,
    shared: Arc<Shared>,
    reserved: Option<MetaReservation>,
}

impl TransHandle {
    pub(super) fn of_commit(transaction: Arc<Transaction>, shared: Arc<Shared>) -> Self {
        Self {
            transaction,
            shared,
            reserved: None,
        }
    }

    /// The generation that edits are made in.
    pub fn transid(&self) -> Generation {
        self.transaction.transid()
    }

    /// The transaction.
    pub fn transaction(&self) -> &Arc<Transaction> {
        &self.transaction
    }

    /// A second handle of the same transaction, for another thread or a callee that ends its own.
    pub fn share(&self) -> Self {
        let mut state = self.shared.state.lock();
        state.writers += 1;
        Self {
            transaction: self.transaction.clone(),
            shared: self.shared.clone(),
            reserved: None,
        }
    }

    /// What was reserved for this operation, for a callee that wants to split some off.
    pub fn reserved(&mut self) -> Option<&mut MetaReservation> {
        self.reserved.as_mut()
    }

    /// Turns the mount read-only: the edit can't be finished nor undone. Returns what the
    /// caller answers.
    pub fn abort(&self, error: Error) -> Error {
        self.shared.abort(error.clone());
        error
    }

    /// `Err(Aborted)` after an abort.
    pub fn check(&self) -> Result<()> {
        TransactionManager {
            shared: self.shared.clone(),
        }
        .check()
    }
}

impl Drop for TransHandle {
    fn drop(&mut self) {
        // The reserve first: once the last writer has ended, the commit counts what is left.
        self.reserved = None;
        if thread::panicking() {
            // Somebody may catch the panic and go on, and half an edit would become durable.
            let words = "an edit ended in a panic".into();
            self.shared.abort(Error::Aborted(words));
        }
        let mut state = self.shared.state.lock();
        state.writers -= 1;
        let wake = state.writers == 0 && state.phase == Phase::Blocking;
        drop(state);
        if wake {
            self.shared.changed.notify_all();
        }
    }
}

#[cfg(test)]
#[path = "join/tests.rs"]
mod tests;
