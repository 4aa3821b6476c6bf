//! Names that change without the kernel: an ioctl makes or deletes a subvolume, and the kernel,
//! which may remember entries for a day, has to forget what the name was.
//!
//! The kernel forgets under the lock of the directory. Whoever has that may be waiting for an
//! answer of ours, so no thread that answers requests may wait for it: the change and the answer
//! to who made it are handed to a thread of this module, which tells the kernel first and answers
//! then. So who asked finds the name as it is now.

use crate::fs::{Changed, IoctlAnswer};
use crate::sync::{Mutex, mpsc, thread};
use fuser::{Errno, INodeNo, Notifier, ReplyIoctl};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

struct Job {
    changed: Changed,
    result: i32,
    bytes: Vec<u8>,
    reply: ReplyIoctl,
}

impl Job {
    fn answer(self) {
        self.reply.ioctl(self.result, &self.bytes);
    }
}

/// The way to that thread.
#[derive(Debug, Default)]
pub struct Changes {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
}

impl Changes {
    /// From now on the kernel can be told.
    pub fn start(&self, notifier: Notifier) {
        let (sender, receiver) = mpsc::channel::<Job>();
        let started = thread::Builder::new()
            .name("changes".to_owned())
            .spawn(move || {
                for job in receiver {
                    forget(&notifier, &job.changed);
                    job.answer();
                }
            });
        match started {
            Ok(_) => *self.jobs.lock() = Some(sender),
            Err(why) => log::warn!(
                "can't start a thread ({why}): subvolumes that are made or deleted are seen late"
            ),
        }
    }

    /// Answers an ioctl; one that has changed a name when the kernel has forgotten that.
    pub fn answer(&self, done: Result<IoctlAnswer, Errno>, out_size: u32, reply: ReplyIoctl) {
        let mut answer = match done {
            Ok(answer) => answer,
            Err(errno) => return reply.error(errno),
        };
        // The kernel asks for flags in 4 bytes though the number says 8.
        answer.bytes.truncate(out_size as usize);
        let Some(changed) = answer.changed else {
            return reply.ioctl(answer.result, &answer.bytes);
        };
        let job = Job {
            changed,
            result: answer.result,
            bytes: answer.bytes,
            reply,
        };
        let unsent = match &*self.jobs.lock() {
            Some(jobs) => jobs.send(job).err().map(|error| error.0),
            None => Some(job),
        };
        if let Some(job) = unsent {
            job.answer();
        }
    }
}

fn forget(notifier: &Notifier, changed: &Changed) {
    let parent = INodeNo(changed.parent.0);
    let told = notifier.inval_entry(parent, OsStr::from_bytes(&changed.name));
    if let Err(why) = told
        && why.raw_os_error() != Some(Errno::ENOENT.code())
    {
        log::debug!("the kernel doesn't forget a name in {parent:?}: {why}");
    }
    // Size and times of the directory, which it also drops where it knew of no such entry.
    let _ = notifier.inval_inode(parent, -1, 0);
}
