//! Reading and writing through a shared mapping of a file.
//!
//! The door to mmap(2): the mapping lives inside one function, no reference to its memory is made,
//! and bytes are only copied in or out.

use rustix::fs::OFlags;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

/// A mapping of some whole pages.
struct Mapping {
    at: *mut libc::c_void,
    len: usize,
}

impl Mapping {
    fn new(file: impl AsFd, offset: u64, len: usize, writable: bool) -> Result<Self, Errno> {
        let write = if writable { libc::PROT_WRITE } else { 0 };
        let offset = libc::off_t::try_from(offset).map_err(|_| Errno::INVAL)?;
        // SAFETY: the kernel chooses an unused place, so nothing of ours is mapped over; the
        // result is checked before it is used.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | write,
                libc::MAP_SHARED,
                file.as_fd().as_raw_fd(),
                offset,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(last());
        }
        Ok(Self { at, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap gave, and nothing points into it any more.
        unsafe { libc::munmap(self.at, self.len) };
    }
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// The pages around a range: where they begin, and where in them the range does.
fn pages(offset: u64, len: usize) -> (u64, usize) {
    let page = rustix::param::page_size() as u64;
    let inside = offset % page;
    (offset - inside, inside as usize + len)
}

/// Writes `bytes` at `offset`; makes the file longer first where needed.
pub fn write(path: &Path, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    let end = offset + bytes.len() as u64;
    if u64::try_from(rustix::fs::fstat(&file)?.st_size).is_ok_and(|size| size < end) {
        rustix::fs::ftruncate(&file, end)?;
    }
    let (start, len) = pages(offset, bytes.len());
    let mapping = Mapping::new(&file, start, len, true)?;
    // SAFETY: the range is inside the mapping, which is writable, and inside the file, which only
    // this process changes; a device error would end the process with SIGBUS, which its
    // conductor reports. `bytes` is ours and apart from it.
    unsafe {
        let into = mapping.at.cast::<u8>().add(len - bytes.len());
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), into, bytes.len());
    }
    // SAFETY: exactly what mmap gave.
    match unsafe { libc::msync(mapping.at, mapping.len, libc::MS_ASYNC) } {
        0 => Ok(()),
        _ => Err(last()),
    }
}

/// Reads what is there of `len` bytes at `offset`.
pub fn read(path: &Path, offset: u64, len: u64) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    let size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
    let there = size.saturating_sub(offset).min(len) as usize;
    if there == 0 {
        return Ok(Vec::new());
    }
    let (start, len) = pages(offset, there);
    let mapping = Mapping::new(&file, start, len, false)?;
    let mut bytes = vec![0; there];
    // SAFETY: as in `write`, the other way round.
    unsafe {
        let from = mapping.at.cast::<u8>().add(len - there);
        std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), there);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_written_through_a_mapping_is_in_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes = vec![7; 10_000];
        super::write(file.path(), 5_000, &bytes).unwrap();
        let all = std::fs::read(file.path()).unwrap();
        assert_eq!(all.len(), 15_000);
        assert!(all[..5_000].iter().all(|&byte| byte == 0));
        assert_eq!(all[5_000..], bytes);
        assert_eq!(
            super::read(file.path(), 4_999, 100_000).unwrap()[..2],
            [0, 7]
        );
        assert!(super::read(file.path(), 15_000, 1).unwrap().is_empty());
    }
}
