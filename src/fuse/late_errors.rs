//! Errors of writes that were already called a success.
//!
//! The kernel's page cache accepts pages, and the daemon refuses them later: the filesystem is
//! full, or a device broke. fsync(2) and close(2) report that, but a program that only writes
//! would go on forever. So the inode is marked and its attributes are taken from the kernel:
//! before the next write(2) the kernel asks for them through the open file, which it does for
//! nothing else, and is answered with the error.

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, mpsc, thread};
use fuser::{Errno, INodeNo, Notifier};
use std::collections::HashMap;

/// The marked inodes, and the way to make the kernel ask.
#[derive(Debug, Default)]
pub struct LateErrors {
    marked: Mutex<HashMap<u64, i32>>,
    /// How many are marked, so that nobody takes the lock when none is.
    count: AtomicUsize,
    asker: Mutex<Option<mpsc::Sender<u64>>>,
}

impl LateErrors {
    /// From now on the kernel can be told. In a thread of its own: the call can wait for an
    /// inode that is being evicted, which waits for writes, which wait for our threads.
    pub fn start(&self, notifier: Notifier) {
        let (sender, receiver) = mpsc::channel::<u64>();
        let started = thread::Builder::new()
            .name("notify".to_owned())
            .spawn(move || {
                for node in receiver {
                    // A negative offset: attributes only. A gone inode needs nothing.
                    let _ = notifier.inval_inode(INodeNo(node), -1, 0);
                }
            });
        match started {
            Ok(_) => *self.asker.lock() = Some(sender),
            Err(why) => log::warn!("can't start a thread ({why}): errors of writes come late"),
        }
    }

    /// A write from the page cache failed.
    pub fn mark(&self, node: u64, errno: Errno) {
        let mut marked = self.marked.lock();
        marked.insert(node, errno.code());
        // Release: pairs with the Acquire in `check` and `forget`.
        self.count.store(marked.len(), Ordering::Release);
        drop(marked);
        if let Some(asker) = &*self.asker.lock() {
            let _ = asker.send(node);
        }
    }

    /// What to answer before a write through an open file: the error, as long as it lasts. Only
    /// a full filesystem lasts, until there `is_room`; others are told once and then tried again.
    pub fn check(&self, node: u64, is_room: impl FnOnce() -> bool) -> Option<Errno> {
        // Acquire: pairs with the Release in `mark`.
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let code = *self.marked.lock().get(&node)?;
        if code != libc::ENOSPC {
            self.forget(node);
        } else if is_room() {
            self.forget(node);
            return None;
        }
        Some(Errno::from_i32(code))
    }

    /// The inode is gone, or the error was told.
    pub fn forget(&self, node: u64) {
        // Acquire: pairs with the Release in `mark`.
        if self.count.load(Ordering::Acquire) != 0 {
            let mut marked = self.marked.lock();
            marked.remove(&node);
            self.count.store(marked.len(), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_filesystem_is_told_until_there_is_room() {
        let late = LateErrors::default();
        assert!(late.check(7, || false).is_none());
        late.mark(7, Errno::ENOSPC);
        assert_eq!(late.check(7, || false), Some(Errno::ENOSPC));
        assert_eq!(late.check(7, || false), Some(Errno::ENOSPC));
        assert!(late.check(8, || false).is_none());
        assert!(late.check(7, || true).is_none());
        assert!(late.check(7, || false).is_none());
    }

    #[test]
    fn a_broken_device_is_told_once() {
        let late = LateErrors::default();
        late.mark(7, Errno::EIO);
        assert_eq!(late.check(7, || false), Some(Errno::EIO));
        assert!(late.check(7, || false).is_none());
    }
}
