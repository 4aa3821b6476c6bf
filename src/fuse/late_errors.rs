//! Errors of writes that were already called a success.
//!
//! The kernel's page cache accepts pages, and the daemon refuses them later: the filesystem is
//! full, or a device broke. fsync(2) and close(2) report that, but a program that only writes
//! would go on forever. So the inode is marked and its attributes are taken from the kernel:
//! before the next write(2) the kernel asks for them through the open file, which it does for
//! nothing else, and is answered with the error.
//!
//! What fails even later, between our memory and the device, is known to us alone. The next
//! fsync(2) tells it, and so does the next one through each other descriptor that was open then,
//! as the kernel does for errors that it has seen itself.

use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, mpsc, thread};
use fuser::{Errno, INodeNo, Notifier};
use std::collections::{HashMap, HashSet};

/// The marked inodes, and the way to make the kernel ask.
#[derive(Debug, Default)]
pub struct LateErrors {
    marked: Mutex<HashMap<u64, i32>>,
    /// How many are marked, so that nobody takes the lock when none is.
    count: AtomicUsize,
    asker: Mutex<Option<mpsc::Sender<u64>>>,
    notifier: Mutex<Option<Notifier>>,
    /// The number of the last open file.
    opened: AtomicU64,
    lost: Mutex<HashMap<u64, Lost>>,
}

/// What an fsync told, and who else is to hear it.
#[derive(Debug)]
struct Lost {
    code: i32,
    /// The newest file handle that was open then.
    newest: u64,
    told: HashSet<u64>,
}

impl LateErrors {
    /// From now on the kernel can be told. In a thread of its own: the call can wait for an
    /// inode that is being evicted, which waits for writes, which wait for our threads.
    pub fn start(&self, notifier: Notifier) {
        *self.notifier.lock() = Some(notifier.clone());
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

    /// An inode that the caller of this request has open changed in a way that the kernel can't
    /// know of. Told at once: what is open isn't being evicted.
    pub fn attributes_changed(&self, node: u64) {
        let notifier = self.notifier.lock().clone();
        if let Some(notifier) = notifier {
            let _ = notifier.inval_inode(INodeNo(node), -1, 0);
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

    /// A number for a newly opened file.
    pub fn handle(&self) -> u64 {
        // Relaxed: only uniqueness and order matter.
        self.opened.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The answer to an fsync through the file `handle`, from the engine's.
    pub fn fsync(&self, node: u64, handle: u64, done: Result<(), Errno>) -> Result<(), Errno> {
        let mut lost = self.lost.lock();
        match done {
            Ok(()) => {
                let Some(lost) = lost.get_mut(&node) else {
                    return Ok(());
                };
                if handle > lost.newest || !lost.told.insert(handle) {
                    return Ok(());
                }
                Err(Errno::from_i32(lost.code))
            }
            Err(errno) => {
                let news = Lost {
                    code: errno.code(),
                    newest: self.opened.load(Ordering::Relaxed),
                    told: HashSet::from([handle]),
                };
                lost.insert(node, news);
                Err(errno)
            }
        }
    }

    /// The kernel has forgotten the inode: nobody has it open.
    pub fn forget_inode(&self, node: u64) {
        self.forget(node);
        self.lost.lock().remove(&node);
    }

    /// The error was told, or doesn't hold any more.
    fn forget(&self, node: u64) {
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
    fn every_open_file_hears_once_of_lost_content() {
        let late = LateErrors::default();
        let (first, second) = (late.handle(), late.handle());
        let fsync = |handle, done| late.fsync(7, handle, done).map_err(|errno| errno.code());
        assert_eq!(fsync(first, Ok(())), Ok(()));
        assert_eq!(fsync(first, Err(Errno::EIO)), Err(libc::EIO));
        assert_eq!(fsync(first, Ok(())), Ok(()));
        let third = late.handle();
        assert_eq!(fsync(third, Ok(())), Ok(()));
        assert!(late.fsync(8, second, Ok(())).is_ok(), "another file");
        assert_eq!(fsync(second, Ok(())), Err(libc::EIO));
        assert_eq!(fsync(second, Ok(())), Ok(()));
        assert_eq!(fsync(second, Err(Errno::ENOSPC)), Err(libc::ENOSPC));
        assert_eq!(fsync(third, Ok(())), Err(libc::ENOSPC));
        late.forget_inode(7);
        assert_eq!(fsync(first, Ok(())), Ok(()));
    }

    #[test]
    fn a_broken_device_is_told_once() {
        let late = LateErrors::default();
        late.mark(7, Errno::EIO);
        assert_eq!(late.check(7, || false), Some(Errno::EIO));
        assert!(late.check(7, || false).is_none());
    }
}
