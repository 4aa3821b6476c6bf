//! Joining and committing side by side.

use super::*;
use crate::sync::atomic::AtomicU64;
use crate::sync::thread;
use std::time::Duration;

#[test]
fn a_commit_waits_for_writers_and_starts_the_next_generation() {
    let manager = TransactionManager::new(Generation(7));
    let first = manager.join().unwrap();
    assert_eq!(first.transid(), Generation(8));
    let committer = {
        let manager = manager.clone();
        thread::spawn(move || {
            let mut commit = manager.begin_critical().unwrap();
            assert_eq!(commit.handle().unwrap().transid(), Generation(8));
            commit.unblock();
            assert!(commit.handle().is_none());
            commit.super_written();
            commit.finish();
        })
    };
    while manager.phase() != Phase::Blocking {
        thread::sleep(Duration::from_millis(1));
    }
    // A second handle of the same transaction is fine while joins wait.
    let second = first.share();
    drop(first);
    assert_eq!(manager.phase(), Phase::Blocking);
    drop(second);
    manager.wait_durable(Generation(8)).unwrap();
    committer.join().unwrap();
    assert_eq!(manager.join().unwrap().transid(), Generation(9));
}

#[test]
fn a_join_waits_while_a_commit_is_alone_with_the_trees() {
    let manager = TransactionManager::new(Generation(1));
    let mut commit = manager.begin_critical().unwrap();
    let joined = Arc::new(AtomicU64::new(0));
    let writer = {
        let (manager, joined) = (manager.clone(), joined.clone());
        thread::spawn(move || {
            let handle = manager.join().unwrap();
            joined.store(handle.transid().get(), Ordering::SeqCst);
        })
    };
    thread::sleep(Duration::from_millis(200));
    assert_eq!(joined.load(Ordering::SeqCst), 0);
    commit.unblock();
    writer.join().unwrap();
    assert_eq!(joined.load(Ordering::SeqCst), 3);
    commit.super_written();
    commit.finish();
}

#[test]
fn an_abort_is_heard_by_everybody_and_keeps_its_first_reason() {
    let manager = TransactionManager::new(Generation(1));
    let handle = manager.join().unwrap();
    handle.abort(Error::corrupt("first"));
    manager.abort(Error::corrupt("second"));
    for error in [
        manager.join().err().unwrap(),
        manager.check().unwrap_err(),
        manager.wait_durable(Generation(2)).unwrap_err(),
        manager.begin_critical().err().unwrap(),
    ] {
        assert_eq!(error.errno(), libc::EROFS);
        assert!(error.to_string().contains("first"), "{error}");
    }
}

/// A request that panics is answered with EIO and the mount goes on: what it has left half done
/// was committed with the edits of the others.
#[test]
fn a_panic_in_the_middle_of_an_edit_aborts() {
    let manager = TransactionManager::new(Generation(1));
    let inside = manager.clone();
    let edit = thread::spawn(move || {
        let _handle = inside.join().unwrap();
        panic!("planned");
    });
    assert!(edit.join().is_err());
    assert_eq!(manager.check().unwrap_err().errno(), libc::EROFS);
    assert!(manager.begin_critical().is_err());
}

#[test]
fn a_commit_given_up_aborts_and_one_given_back_does_not() {
    let manager = TransactionManager::new(Generation(1));
    manager.begin_critical().unwrap().give_back();
    assert_eq!(manager.join().unwrap().transid(), Generation(2));
    let mut commit = manager.begin_critical().unwrap();
    commit.unblock();
    drop(commit);
    assert!(manager.join().is_err());
    assert!(manager.wait_durable(Generation(2)).is_err());
}

#[test]
fn no_edit_is_ever_made_in_a_transaction_that_is_being_finished() {
    let manager = TransactionManager::new(Generation(1));
    let edits: Arc<[AtomicU64; 64]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let (manager, edits) = (manager.clone(), edits.clone());
            thread::spawn(move || {
                for _ in 0..2000 {
                    let handle = manager.join().unwrap();
                    edits[handle.transid().get() as usize % 64].fetch_add(1, Ordering::Relaxed);
                    thread::yield_now();
                }
            })
        })
        .collect();
    for _ in 0..20 {
        let mut commit = manager.begin_critical().unwrap();
        let slot = commit.transid().get() as usize % 64;
        let before = edits[slot].load(Ordering::Relaxed);
        thread::yield_now();
        commit.unblock();
        thread::yield_now();
        assert_eq!(edits[slot].load(Ordering::Relaxed), before);
        commit.super_written();
        commit.finish();
    }
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(
        edits.iter().map(|n| n.load(Ordering::Relaxed)).sum::<u64>(),
        8000
    );
}

/// A commit that is given up leaves trees that are only half brought to rest. Nobody may get in
/// between the end of its phase and the abort: it could commit them.
#[test]
fn when_the_phase_of_a_dropped_commit_is_over_the_abort_is_there() {
    for round in 0..400 {
        let manager = TransactionManager::new(Generation(1));
        let mut commit = manager.begin_critical().unwrap();
        if round % 2 == 0 {
            commit.unblock();
        }
        let looking = Arc::new(AtomicBool::new(false));
        let watcher = {
            let (manager, looking) = (manager.clone(), looking.clone());
            thread::spawn(move || {
                looking.store(true, Ordering::Release);
                while manager.phase() != Phase::Running {
                    std::hint::spin_loop();
                }
                (manager.check(), manager.begin_critical().map(drop))
            })
        };
        while !looking.load(Ordering::Acquire) {
            thread::yield_now();
        }
        drop(commit);
        let (checked, begun) = watcher.join().unwrap();
        assert!(checked.is_err(), "round {round}");
        assert!(begun.is_err(), "round {round}");
    }
}
