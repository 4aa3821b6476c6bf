//! Writes and fsyncs through io_uring: many at once, each fsync linked to its write.

use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A write and the fsync that follows it.
pub struct Task<'a> {
    /// Where to.
    pub file: BorrowedFd<'a>,
    /// At which offset.
    pub offset: u64,
    /// What.
    pub bytes: &'a [u8],
    /// fdatasync(2) instead of fsync(2).
    pub data_only: bool,
}

/// What a task was told: how much was written, and whether that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The write.
    pub written: Result<u32, Errno>,
    /// The fsync; `ECANCELED` after a write that failed.
    pub durable: Result<(), Errno>,
}

/// A ring of a kernel that has io_uring; without it the test fails.
pub struct Ring {
    ring: IoUring,
    entries: usize,
}

impl Ring {
    /// For so many tasks at once.
    pub fn new(tasks: usize) -> Self {
        let entries = (2 * tasks).next_power_of_two();
        let ring = IoUring::new(entries as u32)
            .unwrap_or_else(|error| panic!("io_uring is missing or forbidden: {error}"));
        Self { ring, entries }
    }

    /// Hands in all tasks and waits until each is answered, in their order.
    pub fn run(&mut self, tasks: &[Task<'_>]) -> Vec<Told> {
        assert!(2 * tasks.len() <= self.entries, "more than the ring holds");
        for (at, task) in tasks.iter().enumerate() {
            let file = types::Fd(task.file.as_raw_fd());
            let len = u32::try_from(task.bytes.len()).expect("a write's length");
            let write = opcode::Write::new(file, task.bytes.as_ptr(), len).offset(task.offset);
            let write = write.build().user_data(2 * at as u64);
            let flags = match task.data_only {
                true => types::FsyncFlags::DATASYNC,
                false => types::FsyncFlags::empty(),
            };
            let fsync = opcode::Fsync::new(file).flags(flags);
            let fsync = fsync.build().user_data(2 * at as u64 + 1);
            let pair = [write.flags(squeue::Flags::IO_LINK), fsync];
            // SAFETY: descriptors and bytes are borrowed by `tasks` until this function returns, which it
            // does only when every entry that was handed in is answered.
            unsafe { self.ring.submission().push_multiple(&pair) }.expect("room for all tasks");
        }
        let mut answers = vec![None; 2 * tasks.len()];
        while answers.iter().any(Option::is_none) {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                // Entries may still be under way with borrowed bytes: nobody may go on from here.
                Err(error) => {
                    eprintln!("io_uring_enter: {error}");
                    std::process::abort();
                }
            }
            for answer in self.ring.completion() {
                answers[answer.user_data() as usize] = Some(answer.result());
            }
        }
        let said = |result: Option<i32>| match result.expect("all are answered") {
            error if error < 0 => Err(Errno::from_raw_os_error(-error)),
            count => Ok(count.cast_unsigned()),
        };
        answers
            .chunks(2)
            .map(|pair| Told {
                written: said(pair[0]),
                durable: said(pair[1]).map(drop),
            })
            .collect()
    }
}
