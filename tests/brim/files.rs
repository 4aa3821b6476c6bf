//! What both the cycles and the comparison do with files: content that can be told by its number, and
//! every answer of the system heard, close(2)'s too.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::path::Path;

/// The content of file `number`: no two of them are alike, no sector is zeros.
pub fn pattern(number: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 32);
    let mut at = 0_u64;
    while out.len() < len {
        let word =
            (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        out.extend((word | 1).to_le_bytes());
        at += 1;
    }
    out.truncate(len);
    out
}

/// A new file, for reading and writing.
pub fn create(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))
}

/// Closes, and hears what the filesystem says to it: with a page cache in front that is where a program
/// without fsync learns that there was no space.
pub fn close(file: OwnedFd) -> rustix::io::Result<()> {
    let file = file.into_raw_fd();
    // SAFETY: the descriptor was owned until the line above, and nobody else knows it.
    match unsafe { libc::close(file) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).expect("an errno")),
    }
}

/// Whether there was no space; any other failure ends the test.
#[track_caller]
pub fn refused<T>(what: &str, answer: rustix::io::Result<T>) -> bool {
    match answer {
        Ok(_) => false,
        Err(Errno::NOSPC) => true,
        Err(error) => panic!("{what}: {error}"),
    }
}
