//! SEEK_DATA and SEEK_HOLE, while the kernel's page cache knows more than we do.
//!
//! The kernel asks where data is without handing over what was written and waits in its cache. A
//! program that copies a file by its data, as cp(1) and tar(1) do, would be told of a hole, or of
//! the file's end, where another has just written. So for a file that somebody has open for
//! writing the kernel first hands over everything behind the offset.

use super::convert::node;
use super::guard::Guard;
use crate::error::{Error, Result};
use crate::fs::{Filesystem, Whence};
use fuser::{INodeNo, ReplyLseek};

/// A request and the way to answer it.
#[derive(Debug)]
pub struct Question {
    pub ino: INodeNo,
    pub offset: i64,
    pub whence: i32,
    pub reply: ReplyLseek,
}

impl Question {
    /// Answers from what the engine has now.
    pub fn answer(self, fs: &Filesystem, guard: &Guard) {
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
