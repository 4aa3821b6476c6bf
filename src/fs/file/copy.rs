//! Copying a range from file to file inside the daemon.
//!
//! Owns: `copy_file_range(2)`. Whole sectors that lie alike in both files are shared, see [`Share`];
//! the rest is read and written, so that the bytes don't pass through the kernel twice.

use super::read::read;
use super::share::Share;
use super::write::{FILE_SIZE_MAX, write};
use crate::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::inode::Inode;
use crate::sync::Arc;
use crate::units::{round_down, round_up};
use std::ops::Range;

const STEP_BYTES: u64 = 1 << 20;

/// A copy on its way.
struct Copy<'a> {
    fs: &'a Filesystem,
    from: &'a Arc<Inode>,
    from_offset: u64,
    to: &'a Arc<Inode>,
    to_offset: u64,
    done: u64,
}

/// Copies up to `len` bytes; stops at the source's end. Returns how many were copied.
///
/// # Errors
/// Only if nothing was copied: what was copied before a failure is told, as a short count.
/// [`Error::Invalid`] for ranges of one file that overlap: the kernel refuses them itself, and
/// sharing counts on it.
pub fn copy_file_range(
    fs: &Filesystem,
    from: &Arc<Inode>,
    from_offset: u64,
    to: &Arc<Inode>,
    to_offset: u64,
    len: u64,
) -> Result<u64> {
    let have = from.meta.lock().size.saturating_sub(from_offset);
    let len = len.min(have);
    let ends = |offset: u64| offset.checked_add(len).filter(|end| *end <= FILE_SIZE_MAX);
    let (Some(from_end), Some(_)) = (ends(from_offset), ends(to_offset)) else {
        return Err(Error::FileTooBig);
    };
    if Arc::ptr_eq(from, to) && from_offset.abs_diff(to_offset) < len {
        return Err(Error::Invalid("the ranges of a copy inside a file overlap"));
    }
    let mut copy = Copy {
        fs,
        from,
        from_offset,
        to,
        to_offset,
        done: 0,
    };
    match copy.run(from_end - from_offset) {
        Err(error) if copy.done == 0 => Err(error),
        _ => Ok(copy.done),
    }
}

impl Copy<'_> {
    fn run(&mut self, len: u64) -> Result<()> {
        let sectorsize = u64::from(self.fs.ctx.sectorsize);
        if self.from_offset % sectorsize == self.to_offset % sectorsize {
            let first = round_up(self.from_offset, sectorsize).ok_or(Error::FileTooBig)?;
            let head = (first - self.from_offset).min(len);
            self.by_bytes(head)?;
            if self.done == head {
                let last = round_down(self.from_offset + len, sectorsize);
                self.by_reference(first..last)?;
            }
        }
        self.by_bytes(len)
    }

    /// Shares what can be shared of the sectors `source`, from their beginning.
    fn by_reference(&mut self, source: Range<u64>) -> Result<()> {
        let share = Share {
            fs: self.fs,
            from: self.from,
            target: self.to_offset + self.done,
            source,
            to: self.to,
        };
        if share.is_possible() {
            self.done += share.run()?;
        }
        Ok(())
    }

    /// Reads and writes, until `len` bytes are copied in all.
    fn by_bytes(&mut self, len: u64) -> Result<()> {
        let mut buf = vec![0; len.saturating_sub(self.done).min(STEP_BYTES) as usize];
        while self.done < len {
            let want = (len - self.done).min(STEP_BYTES) as usize;
            let have = read(
                self.fs,
                self.from,
                self.from_offset + self.done,
                &mut buf[..want],
            )?;
            let count = write(self.fs, self.to, self.to_offset + self.done, &buf[..have])?;
            if count == 0 {
                break;
            }
            self.done += count as u64;
        }
        Ok(())
    }
}
