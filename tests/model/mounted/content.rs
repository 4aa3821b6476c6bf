//! Steps on content, as system calls.

use super::{Mounted, answer, done};
use crate::step::{Step, slot_of};
use crate::subject::{Answer, content};
use btrfuse_test_support::script::bytes;
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use serde_json::json;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

impl Mounted {
    pub(super) fn data_step(&mut self, step: &Step) -> Answer {
        match step {
            Step::Write {
                on,
                offset,
                len,
                seed,
            } => {
                let file = self.opened(on, OFlags::WRONLY)?;
                let done = rustix::io::pwrite(file, &bytes(*seed, *len), offset.cast_unsigned())?;
                Ok(json!(done))
            }
            Step::Append { path, len, seed } => {
                let flags = OFlags::WRONLY | OFlags::APPEND;
                let file = self.opened(path, flags)?;
                // At the end, wherever it says; and not into a pipe, where somebody would have to read it.
                Ok(json!(rustix::io::pwrite(file, &bytes(*seed, *len), 0)?))
            }
            Step::Read { on, offset, len } => {
                let file = self.opened(on, OFlags::RDONLY)?;
                let mut buffer = vec![0; *len];
                let done = rustix::io::pread(file, &mut buffer, offset.cast_unsigned())?;
                Ok(content(&buffer[..done]))
            }
            Step::Mapped {
                on,
                offset,
                len,
                seed,
            } => {
                let file = self.opened(on, OFlags::RDWR)?;
                write_mapped(file.as_fd(), *offset, &bytes(*seed, *len))
            }
            Step::Truncate { on, size } => match slot_of(on) {
                Some(slot) => done(rustix::fs::ftruncate(
                    self.slot(slot)?,
                    size.cast_unsigned(),
                )),
                None => truncate(&self.at(on), *size),
            },
            Step::Fallocate {
                on,
                mode,
                offset,
                len,
            } => {
                let file = self.opened(on, OFlags::WRONLY)?;
                let flags = FallocateFlags::from_bits_retain(mode.cast_unsigned());
                let (offset, len) = (offset.cast_unsigned(), len.cast_unsigned());
                done(rustix::fs::fallocate(file, flags, offset, len))
            }
            Step::SeekData { on, offset } => {
                let file = self.opened(on, OFlags::RDONLY)?;
                let place = SeekFrom::Data(offset.cast_unsigned());
                Ok(json!(rustix::fs::seek(file, place)?))
            }
            Step::SeekHole { on, offset } => {
                let file = self.opened(on, OFlags::RDONLY)?;
                let place = SeekFrom::Hole(offset.cast_unsigned());
                Ok(json!(rustix::fs::seek(file, place)?))
            }
            Step::Copy {
                from,
                from_offset,
                to,
                offset,
                len,
            } => {
                let from = self.opened(from, OFlags::RDONLY)?;
                let to = self.opened(to, OFlags::WRONLY)?;
                let (mut at, mut there) = (from_offset.cast_unsigned(), offset.cast_unsigned());
                // The kernel's btrfs copies whole sectors first, and the rest when it is asked again.
                let mut copied = 0;
                loop {
                    let (from, to) = (from.as_fd(), to.as_fd());
                    let (at, there) = (Some(&mut at), Some(&mut there));
                    match rustix::fs::copy_file_range(from, at, to, there, *len - copied) {
                        Ok(0) => return Ok(json!(copied)),
                        Ok(some) => copied += some,
                        Err(error) if copied == 0 => return Err(error),
                        Err(_) => return Ok(json!(copied)),
                    }
                    if copied == *len {
                        return Ok(json!(copied));
                    }
                }
            }
            Step::Fsync { on, data_only } => {
                let file = self.opened(on, OFlags::RDONLY)?;
                done(if *data_only {
                    rustix::fs::fdatasync(file)
                } else {
                    rustix::fs::fsync(file)
                })
            }
            Step::Tmpfile {
                path,
                flags,
                mode,
                len,
                seed,
            } => {
                let flags = OFlags::from_bits_retain(flags.cast_unsigned()) | OFlags::TMPFILE;
                let mode = Mode::from_raw_mode(*mode);
                let file = rustix::fs::open(self.at(path), flags | OFlags::CLOEXEC, mode)?;
                let written = rustix::io::pwrite(&file, &bytes(*seed, *len), 0)?;
                let stat = rustix::fs::fstat(&file)?;
                Ok(json!({"written": written, "links": stat.st_nlink, "mode": stat.st_mode}))
            }
            _ => unreachable!("not a step on content"),
        }
    }
}

fn truncate(path: &Path, size: i64) -> Answer {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: the path ends with a NUL and outlives the call.
    answer(unsafe { libc::truncate(path.as_ptr(), size) }.into())
}

/// Writes through a shared mapping and waits for msync(2). Pages beyond the end of the file would be a
/// signal, so that is refused here.
fn write_mapped(file: BorrowedFd<'_>, offset: u64, bytes: &[u8]) -> Answer {
    let size = rustix::fs::fstat(file)?.st_size.cast_unsigned();
    let start = offset / 4096 * 4096;
    let len = (offset - start) as usize + bytes.len();
    if bytes.is_empty() {
        return Err(Errno::INVAL);
    }
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
    let place = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            start.cast_signed(),
        )
    };
    if place == libc::MAP_FAILED {
        return answer(-1);
    }
    let inside = offset + bytes.len() as u64 <= size;
    let result = if inside {
        let skip = (offset - start) as usize;
        // SAFETY: the mapping has `len` bytes, all of them inside of the file, whose size only this
        // thread changes; nobody else has a reference into it.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                place.cast::<u8>().add(skip),
                bytes.len(),
            );
            libc::msync(place, len, libc::MS_SYNC)
        }
    } else {
        0
    };
    let said = answer(result.into());
    // SAFETY: this is the mapping that was made above, and nothing refers to it any more.
    unsafe { libc::munmap(place, len) };
    if inside { said } else { Err(Errno::FAULT) }
}
