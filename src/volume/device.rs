//! The one door to storage: everything above reads and writes through [`BlockDevice`].
//!
//! Owns: the trait. Invariant: a call either does all that was asked or fails; a short read or
//! write never shows. Tests stand in here ([`super::MemoryDevice`], [`super::FaultyDevice`]).

use std::io;

/// Storage of a fixed size, addressed in bytes.
///
/// Calls may come from any thread at once. Whoever overlaps two writes, or a read with a
/// write, gets either content; the layers above never do so on purpose.
pub trait BlockDevice: Send + Sync {
    /// Fills `buf` from offset `at`. Past the end is an error (`UnexpectedEof`).
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Writes all of `buf` at offset `at`. It is durable only after [`BlockDevice::flush`].
    fn write_at(&self, at: u64, buf: &[u8]) -> io::Result<()>;

    /// Makes every write that returned before this call durable.
    fn flush(&self) -> io::Result<()>;

    /// Says that the content of the range isn't needed any more. It reads back as anything.
    /// A device that can't do it answers `Ok`: it is advice.
    fn discard(&self, at: u64, len: u64) -> io::Result<()>;

    /// Whether discards do anything, as far as is known: a device finds out by the first one.
    fn can_discard(&self) -> bool {
        true
    }

    /// Size in bytes, as it was when the device was opened.
    fn size_bytes(&self) -> u64;

    /// Writes are refused.
    fn is_read_only(&self) -> bool;

    /// What people call it: a path, or what stands in for one.
    fn name(&self) -> String {
        "device".into()
    }
}

/// The end of a range, if it lies inside a device of `size` bytes.
pub(crate) fn checked_end(at: u64, len: u64, size: u64) -> io::Result<u64> {
    match at.checked_add(len) {
        Some(end) if end <= size => Ok(end),
        _ => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("{len} bytes at {at} end past the device's {size} bytes"),
        )),
    }
}
