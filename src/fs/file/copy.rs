//! Copying a range from file to file inside the daemon.
//!
//! Owns: `copy_file_range(2)`, by reading and writing: the bytes don't pass through the kernel
//! twice. Ranges of one file that overlap are refused by the kernel before they get here.

use super::read::read;
use super::write::write;
use crate::error::Result;
use crate::fs::filesystem::Filesystem;
use crate::fs::inode::Inode;
use crate::sync::Arc;

const STEP_BYTES: u64 = 1 << 20;

/// Copies up to `len` bytes; stops at the source's end. Returns how many were copied.
pub fn copy_file_range(
    fs: &Filesystem,
    from: &Arc<Inode>,
    from_offset: u64,
    to: &Arc<Inode>,
    to_offset: u64,
    len: u64,
) -> Result<u64> {
    let mut done = 0;
    let mut buf = vec![0; len.min(STEP_BYTES) as usize];
    while done < len {
        let want = (len - done).min(STEP_BYTES) as usize;
        // What was copied before a failure is told, as a short count; the failure next time.
        let step = read(fs, from, from_offset + done, &mut buf[..want])
            .and_then(|have| write(fs, to, to_offset + done, &buf[..have]));
        match step {
            Ok(0) => break,
            Ok(count) => done += count as u64,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
