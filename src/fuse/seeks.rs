//! SEEK_DATA and SEEK_HOLE, while the kernel's page cache knows more than we do.
//!
//! The kernel asks where data is without handing over what was written and waits in its cache. A
//! program that copies a file by its data, as cp(1) and tar(1) do, would be told of a hole, or of
//! the file's end, where another has just written. So for a file that somebody has open for
//! writing the cache is first asked to let go of everything behind the offset, which it can only
//! do when it has written that. What nobody has open for writing holds nothing back: the kernel
//! writes all of it before it releases the file.
//!
//! In a thread of its own: those writes are requests, and our other threads have to be free for
//! them.

use super::convert::node;
use super::guard::Guard;
use crate::error::{Error, Result};
use crate::fs::{Filesystem, Whence};
use crate::sync::{Arc, Mutex, mpsc, thread};
use fuser::{INodeNo, Notifier, ReplyLseek};
use std::collections::HashMap;

/// Who writes, and the thread that asks the kernel.
#[derive(Debug, Default)]
pub struct Seeks {
    /// How often each file is open for writing.
    writers: Mutex<HashMap<u64, u64>>,
    asker: Mutex<Option<Asker>>,
}

#[derive(Debug)]
struct Asker {
    questions: mpsc::Sender<Question>,
    thread: thread::JoinHandle<()>,
}

/// A request and the way to answer it.
#[derive(Debug)]
pub struct Question {
    pub ino: INodeNo,
    pub offset: i64,
    pub whence: i32,
    pub reply: ReplyLseek,
}

impl Seeks {
    /// From now on the kernel can be asked. The thread ends when this is dropped.
    pub fn start(&self, notifier: Notifier, fs: Arc<Filesystem>, guard: Arc<Guard>) {
        let (questions, asked) = mpsc::channel::<Question>();
        let started = thread::Builder::new()
            .name("seek".to_owned())
            .spawn(move || {
                for question in asked {
                    // An inode that is gone, or a mount that is, has nothing to write.
                    let _ = notifier.inval_inode(question.ino, question.offset, 0);
                    question.answer(&fs, &guard);
                }
            });
        match started {
            Ok(thread) => *self.asker.lock() = Some(Asker { questions, thread }),
            Err(why) => log::warn!("can't start a thread ({why}): SEEK_DATA misses new writes"),
        }
    }

    /// A file was opened with these flags, and the kernel wasn't told yet.
    pub fn opened(&self, ino: INodeNo, flags: i32) {
        if writes(flags) {
            *self.writers.lock().entry(ino.0).or_default() += 1;
        }
    }

    /// It was closed: the same flags come again.
    pub fn released(&self, ino: INodeNo, flags: i32) {
        if !writes(flags) {
            return;
        }
        let mut writers = self.writers.lock();
        if let Some(count) = writers.get_mut(&ino.0) {
            *count -= 1;
            if *count == 0 {
                writers.remove(&ino.0);
            }
        }
    }

    /// Answers, now or when the kernel has written.
    pub fn ask(&self, question: Question, fs: &Filesystem, guard: &Guard) {
        let waits = question.offset >= 0 && self.writers.lock().contains_key(&question.ino.0);
        let question = match &*self.asker.lock() {
            Some(asker) if waits => match asker.questions.send(question) {
                Ok(()) => return,
                Err(mpsc::SendError(question)) => question,
            },
            _ => question,
        };
        question.answer(fs, guard);
    }
}

impl Drop for Seeks {
    fn drop(&mut self) {
        if let Some(Asker { questions, thread }) = self.asker.get_mut().take() {
            drop(questions);
            let _ = thread.join();
        }
    }
}

impl Question {
    fn answer(self, fs: &Filesystem, guard: &Guard) {
        let found = guard.run("lseek", || -> Result<u64> {
            let offset = u64::try_from(self.offset).map_err(|_| Error::NoSuchRange)?;
            let whence = match self.whence {
                libc::SEEK_DATA => Whence::Data,
                libc::SEEK_HOLE => Whence::Hole,
                _ => return Err(Error::Invalid("only SEEK_DATA and SEEK_HOLE are asked for")),
            };
            fs.seek(node(self.ino), offset, whence)
        });
        match found {
            Ok(offset) => self.reply.offset(offset as i64),
            Err(errno) => self.reply.error(errno),
        }
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
        let seeks = Seeks::default();
        let known = || seeks.writers.lock().len();
        for flags in [
            libc::O_WRONLY,
            libc::O_RDWR | libc::O_APPEND,
            libc::O_RDONLY,
        ] {
            seeks.opened(INodeNo(7), flags);
        }
        seeks.released(INodeNo(7), libc::O_RDONLY);
        seeks.released(INodeNo(7), libc::O_WRONLY);
        assert_eq!(known(), 1);
        seeks.released(INodeNo(7), libc::O_RDWR | libc::O_APPEND);
        seeks.released(INodeNo(7), libc::O_RDWR);
        assert_eq!(known(), 0);
    }
}
