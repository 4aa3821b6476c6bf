//! Less usual ways of bytes into and out of files: vectors of buffers, pipes, `O_DIRECT`, clones.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Buffers of odd lengths.
const PIECE_BYTES: usize = 777;
/// A system call takes so many at most (`UIO_MAXIOV`).
const PIECES_MAX: usize = 1024;
/// What memory, offsets and lengths are multiples of.
const ALIGN: usize = 4096;

/// Memory that direct I/O takes.
struct Aligned {
    bytes: Vec<u8>,
    from: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Self {
        let bytes = vec![0u8; len + ALIGN];
        let from = bytes.as_ptr().align_offset(ALIGN).min(ALIGN);
        Self { bytes, from, len }
    }

    fn get(&mut self) -> &mut [u8] {
        &mut self.bytes[self.from..self.from + self.len]
    }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Writes whole sectors.
pub fn write_directly(path: &Path, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
    let file = open(path, OFlags::WRONLY)?;
    let mut memory = Aligned::new(bytes.len());
    memory.get().copy_from_slice(bytes);
    let mut done = 0;
    while done < bytes.len() {
        done += rustix::io::pwrite(&file, &memory.get()[done..], offset + done as u64)?;
    }
    Ok(())
}

/// Reads whole sectors, as far as the file goes.
pub fn read_directly(path: &Path, offset: u64, len: u64) -> Result<Vec<u8>, Errno> {
    let file = open(path, OFlags::RDONLY)?;
    let mut memory = Aligned::new(len as usize);
    let mut filled = 0;
    while filled < len as usize {
        let more = rustix::io::pread(&file, &mut memory.get()[filled..], offset + filled as u64)?;
        filled += more;
        // The end of the file is inside a sector, or here.
        if more == 0 || more % ALIGN != 0 {
            break;
        }
    }
    Ok(memory.get()[..filled].to_vec())
}

/// Writes from several buffers; how many bytes.
pub fn write_vectored(file: &OwnedFd, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
    let pieces: Vec<IoSlice<'_>> = bytes
        .chunks(PIECE_BYTES)
        .take(PIECES_MAX)
        .map(IoSlice::new)
        .collect();
    rustix::io::pwritev(file, &pieces, offset)
}

/// Reads into several buffers, as far as the file goes.
pub fn read_vectored(file: &OwnedFd, offset: u64, len: u64) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        let mut pieces: Vec<IoSliceMut<'_>> = bytes[filled..]
            .chunks_mut(PIECE_BYTES)
            .take(PIECES_MAX)
            .map(IoSliceMut::new)
            .collect();
        match rustix::io::preadv(file, &mut pieces, offset + filled as u64)? {
            0 => break,
            more => filled += more,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Writes as much as a pipe holds, out of one; how many bytes.
pub fn splice(file: &OwnedFd, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
    const PIPE_BYTES: usize = 65_536;
    let (output, input) = rustix::pipe::pipe()?;
    let there = rustix::io::write(&input, &bytes[..bytes.len().min(PIPE_BYTES)])?;
    let (mut offset, mut moved) = (offset, 0);
    while moved < there {
        let flags = SpliceFlags::MOVE;
        moved +=
            rustix::pipe::splice(&output, None, file, Some(&mut offset), there - moved, flags)?;
    }
    Ok(moved)
}

/// `FICLONERANGE`.
pub fn clone_range(
    from: &OwnedFd,
    from_offset: u64,
    to: &OwnedFd,
    offset: u64,
    len: u64,
) -> Result<(), Errno> {
    let range = libc::file_clone_range {
        src_fd: i64::from(from.as_raw_fd()),
        src_offset: from_offset,
        src_length: len,
        dest_offset: offset,
    };
    // SAFETY: the ioctl reads one `file_clone_range`, which lives until it returns.
    match unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONERANGE as _, &range) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_written_directly_is_read_directly_up_to_the_end() {
        // Not in memory: such filesystems may have no direct I/O.
        let file = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let bytes = vec![7; 8192];
        super::write_directly(file.path(), 4096, &bytes).unwrap();
        file.as_file().set_len(10_000).unwrap();
        let read = super::read_directly(file.path(), 0, 1 << 20).unwrap();
        assert_eq!(read.len(), 10_000);
        assert!(read[..4096].iter().all(|&byte| byte == 0));
        assert!(read[4096..].iter().all(|&byte| byte == 7));
    }
}
