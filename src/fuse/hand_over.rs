//! Having the kernel hand over what programs wrote and its page cache still holds.
//!
//! Nothing else does that for a whole mount: syncfs(2) on FUSE only begins the write-back, and doesn't
//! wait for its end ("fs/writeback: skip AS_NO_DATA_INTEGRITY mappings in wait_sb_inodes()"; seen with
//! 6.18.44). But the kernel lets go of a range of a file's cache when it is asked to, and writes it
//! first. Only files that somebody has open for writing hold anything back: of
//! the others the kernel writes all before it releases them.
//!
//! Those writes are requests, so who waits for them must not be a thread that answers requests: what
//! is to be done afterwards is handed to threads of this module. Invariant: when a job of
//! [`HandOver::everything`] runs, all that was written before it was asked for is in the engine.
//!
//! That holds from Linux 6.16 on. Before, the kernel wrote a copy of each page, and the page itself was
//! done with when the request was queued: there is nothing to wait for then, neither here nor in
//! syncfs(2), and what is still queued is missed. No request says where that queue ends; only fsync(2)
//! and close(2) wait for their own file's.

use crate::sync::{Arc, Mutex, mpsc, thread};
use fuser::{INodeNo, Notifier};
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// What is done when the kernel has handed over.
type Job = Box<dyn FnOnce() + Send>;

/// Who writes, and the threads that ask the kernel.
#[derive(Debug, Default)]
pub struct HandOver {
    writers: Arc<Writers>,
    threads: Mutex<Option<Threads>>,
}

/// How often each file is open for writing.
#[derive(Debug, Default)]
struct Writers(Mutex<HashMap<u64, u64>>);

#[derive(Debug)]
struct Threads {
    /// A file is quick: it doesn't wait behind the whole mount.
    file: Asker,
    everything: Asker,
}

#[derive(Debug)]
struct Asker {
    jobs: mpsc::Sender<Wanted>,
    thread: thread::JoinHandle<()>,
}

struct Wanted {
    /// A file from an offset on; `None` for all files.
    file: Option<(INodeNo, i64)>,
    then: Job,
}

impl HandOver {
    /// From now on the kernel can be asked.
    pub fn start(&self, notifier: &Notifier) {
        let started = Asker::start("seek", notifier, &self.writers).and_then(|file| {
            let everything = Asker::start("sync", notifier, &self.writers)?;
            Ok(Threads { file, everything })
        });
        match started {
            Ok(threads) => *self.threads.lock() = Some(threads),
            Err(why) => log::warn!(
                "can't start a thread ({why}): a sync, a snapshot and SEEK_DATA miss what the page cache holds"
            ),
        }
    }

    /// Lets the threads do what they were asked for, and end.
    pub fn stop(&self) {
        let threads = self.threads.lock().take();
        if let Some(threads) = threads {
            threads.file.stop();
            threads.everything.stop();
        }
    }

    /// A file was opened with these flags, and the kernel wasn't told yet.
    pub fn opened(&self, ino: INodeNo, flags: i32) {
        if writes(flags) {
            *self.writers.0.lock().entry(ino.0).or_default() += 1;
        }
    }

    /// It was closed: the same flags come again.
    pub fn released(&self, ino: INodeNo, flags: i32) {
        if !writes(flags) {
            return;
        }
        let mut writers = self.writers.0.lock();
        if let Some(count) = writers.get_mut(&ino.0) {
            *count -= 1;
            if *count == 0 {
                writers.remove(&ino.0);
            }
        }
    }

    /// Does something, at once or when the kernel has handed over a file from an offset on.
    pub fn file(&self, ino: INodeNo, offset: i64, then: impl FnOnce() + Send + 'static) {
        let holds_back = offset >= 0 && self.writers.0.lock().contains_key(&ino.0);
        let wanted = Wanted {
            file: Some((ino, offset)),
            then: Box::new(then),
        };
        match &*self.threads.lock() {
            Some(threads) if holds_back => return threads.file.ask(wanted),
            _ => {}
        }
        (wanted.then)();
    }

    /// Does something when the kernel has handed over everything.
    pub fn everything(&self, then: impl FnOnce() + Send + 'static) {
        let wanted = Wanted {
            file: None,
            then: Box::new(then),
        };
        if let Some(threads) = &*self.threads.lock() {
            return threads.everything.ask(wanted);
        }
        (wanted.then)();
    }

    /// Waits until the kernel has handed over everything; false when it hasn't after `patience`. Never in
    /// a thread that answers requests.
    pub fn wait(&self, patience: Duration) -> bool {
        let (sender, done) = mpsc::channel();
        self.everything(move || {
            // Whoever asked may have lost patience.
            let _ = sender.send(());
        });
        done.recv_timeout(patience).is_ok()
    }
}

impl Writers {
    fn hand_over(&self, notifier: &Notifier) {
        let all: Vec<u64> = self.0.lock().keys().copied().collect();
        for ino in all {
            // An inode that is gone, or a mount that is, has nothing to write.
            let _ = notifier.inval_inode(INodeNo(ino), 0, 0);
        }
    }
}

impl Asker {
    fn start(name: &str, notifier: &Notifier, writers: &Arc<Writers>) -> std::io::Result<Self> {
        let (jobs, wanted) = mpsc::channel::<Wanted>();
        let (notifier, writers) = (notifier.clone(), writers.clone());
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while let Ok(first) = wanted.recv() {
                    // Whoever waits by now shares one hand-over.
                    let all: Vec<Wanted> =
                        std::iter::once(first).chain(wanted.try_iter()).collect();
                    if all.iter().any(|wanted| wanted.file.is_none()) {
                        writers.hand_over(&notifier);
                    }
                    for Wanted { file, then } in all {
                        if let Some((ino, offset)) = file {
                            let _ = notifier.inval_inode(ino, offset, 0);
                        }
                        then();
                    }
                }
            })?;
        Ok(Self { jobs, thread })
    }

    fn ask(&self, wanted: Wanted) {
        // The thread ends when nobody can ask any more: it is there.
        if let Err(mpsc::SendError(wanted)) = self.jobs.send(wanted) {
            (wanted.then)();
        }
    }

    fn stop(self) {
        drop(self.jobs);
        let _ = self.thread.join();
    }
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted").field("file", &self.file).finish()
    }
}

fn writes(flags: i32) -> bool {
    flags & libc::O_ACCMODE != libc::O_RDONLY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_are_open_for_writing_are_remembered() {
        let hand_over = HandOver::default();
        let known = || hand_over.writers.0.lock().len();
        for flags in [
            libc::O_WRONLY,
            libc::O_RDWR | libc::O_APPEND,
            libc::O_RDONLY,
        ] {
            hand_over.opened(INodeNo(7), flags);
        }
        hand_over.released(INodeNo(7), libc::O_RDONLY);
        hand_over.released(INodeNo(7), libc::O_WRONLY);
        assert_eq!(known(), 1);
        hand_over.released(INodeNo(7), libc::O_RDWR | libc::O_APPEND);
        hand_over.released(INodeNo(7), libc::O_RDWR);
        assert_eq!(known(), 0);
    }

    #[test]
    fn without_a_kernel_to_ask_jobs_are_done_at_once() {
        let hand_over = HandOver::default();
        hand_over.opened(INodeNo(7), libc::O_RDWR);
        let (sender, done) = mpsc::channel();
        let also = sender.clone();
        hand_over.everything(move || sender.send(1).unwrap());
        hand_over.file(INodeNo(7), 0, move || also.send(2).unwrap());
        assert_eq!(done.iter().collect::<Vec<_>>(), [1, 2]);
    }
}
