//! A sparse device in memory, for tests and dry runs.
//!
//! Owns: blocks of 64 KiB that were written; all others read as zeros. Never fails, unless the
//! range is outside; faults are [`super::FaultyDevice`]'s business.

use super::device::{BlockDevice, checked_end};
use crate::sync::RwLock;
use std::collections::BTreeMap;
use std::io;

const BLOCK_BYTES: u64 = 64 << 10;

/// A sparse device in memory.
#[derive(Debug)]
pub struct MemoryDevice {
    size_bytes: u64,
    blocks: RwLock<BTreeMap<u64, Box<[u8]>>>,
}

impl MemoryDevice {
    /// A device of `size_bytes`, all zeros.
    pub fn zeroed(size_bytes: u64) -> Self {
        Self {
            size_bytes,
            blocks: RwLock::new(BTreeMap::new()),
        }
    }

    /// A device with the content of `image`; blocks of zeros take no memory.
    pub fn from_bytes(image: &[u8]) -> Self {
        let mut blocks = BTreeMap::new();
        for (index, chunk) in image.chunks(BLOCK_BYTES as usize).enumerate() {
            if chunk.iter().any(|&byte| byte != 0) {
                let mut block = vec![0; BLOCK_BYTES as usize].into_boxed_slice();
                block[..chunk.len()].copy_from_slice(chunk);
                blocks.insert(index as u64, block);
            }
        }
        Self {
            size_bytes: image.len() as u64,
            blocks: RwLock::new(blocks),
        }
    }

    /// Reads a whole file, block by block, so that a sparse image stays small in memory.
    pub fn from_reader(mut reader: impl io::Read) -> io::Result<Self> {
        let mut blocks = BTreeMap::new();
        let mut size_bytes = 0;
        loop {
            let mut block = vec![0; BLOCK_BYTES as usize].into_boxed_slice();
            let mut filled = 0;
            while filled < block.len() {
                match reader.read(&mut block[filled..])? {
                    0 => break,
                    count => filled += count,
                }
            }
            if block[..filled].iter().any(|&byte| byte != 0) {
                blocks.insert(size_bytes / BLOCK_BYTES, block);
            }
            size_bytes += filled as u64;
            if filled < BLOCK_BYTES as usize {
                return Ok(Self {
                    size_bytes,
                    blocks: RwLock::new(blocks),
                });
            }
        }
    }

    /// Writes the content into `writer` (a file that is seekable stays sparse).
    pub fn copy_to(&self, file: &std::fs::File) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        file.set_len(0)?;
        file.set_len(self.size_bytes)?;
        for (&index, block) in self.blocks.read().iter() {
            let at = index * BLOCK_BYTES;
            let len = BLOCK_BYTES.min(self.size_bytes - at) as usize;
            file.write_all_at(&block[..len], at)?;
        }
        Ok(())
    }
}

/// A copy of the content, as it is now.
impl Clone for MemoryDevice {
    fn clone(&self) -> Self {
        Self {
            size_bytes: self.size_bytes,
            blocks: RwLock::new(self.blocks.read().clone()),
        }
    }
}

/// Cuts `at..at + len` at block borders: (block, offset in it, range of the caller's buffer).
fn pieces(at: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let here = at + done as u64;
        let within = (here % BLOCK_BYTES) as usize;
        let take = (BLOCK_BYTES as usize - within).min(len - done);
        let piece = (here / BLOCK_BYTES, within, done..done + take);
        done += take;
        Some(piece)
    })
}

impl BlockDevice for MemoryDevice {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        checked_end(at, buf.len() as u64, self.size_bytes)?;
        let blocks = self.blocks.read();
        for (index, within, range) in pieces(at, buf.len()) {
            let out = &mut buf[range];
            match blocks.get(&index) {
                Some(block) => out.copy_from_slice(&block[within..within + out.len()]),
                None => out.fill(0),
            }
        }
        Ok(())
    }

    fn write_at(&self, at: u64, buf: &[u8]) -> io::Result<()> {
        checked_end(at, buf.len() as u64, self.size_bytes)?;
        let mut blocks = self.blocks.write();
        for (index, within, range) in pieces(at, buf.len()) {
            let from = &buf[range];
            let block = blocks
                .entry(index)
                .or_insert_with(|| vec![0; BLOCK_BYTES as usize].into_boxed_slice());
            block[within..within + from.len()].copy_from_slice(from);
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        let end = checked_end(at, len, self.size_bytes)?;
        let mut blocks = self.blocks.write();
        let first = at.div_ceil(BLOCK_BYTES);
        let last = end / BLOCK_BYTES;
        if first < last {
            let inside: Vec<u64> = blocks.range(first..last).map(|(&index, _)| index).collect();
            for index in inside {
                blocks.remove(&index);
            }
        }
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn name(&self) -> String {
        "memory".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_across_blocks_read_back_and_the_rest_is_zero() {
        let device = MemoryDevice::zeroed(1 << 40);
        let data: Vec<u8> = (0..200_000).map(|i| i as u8 | 1).collect();
        device.write_at(BLOCK_BYTES - 7, &data).unwrap();
        let mut back = vec![0xff; data.len() + 14];
        device.read_at(BLOCK_BYTES - 14, &mut back).unwrap();
        assert_eq!(back[..7], [0; 7]);
        assert_eq!(back[7..7 + data.len()], data);
        assert_eq!(back[7 + data.len()..], [0; 7]);
        assert!(device.blocks.read().len() <= 5);
    }

    #[test]
    fn ranges_outside_are_refused_also_when_they_wrap() {
        let device = MemoryDevice::zeroed(100);
        assert!(device.read_at(99, &mut [0; 2]).is_err());
        assert!(device.write_at(u64::MAX, &[0; 2]).is_err());
        assert!(device.discard(1, 100).is_err());
        assert!(device.read_at(100, &mut []).is_ok());
    }

    #[test]
    fn an_image_keeps_its_size_and_content() {
        let mut image = vec![0; BLOCK_BYTES as usize * 3 + 5];
        image[BLOCK_BYTES as usize * 2] = 9;
        let device = MemoryDevice::from_reader(&image[..]).unwrap();
        assert_eq!(device.size_bytes(), image.len() as u64);
        let mut back = vec![1; image.len()];
        device.read_at(0, &mut back).unwrap();
        assert_eq!(back, image);
        assert_eq!(device.blocks.read().len(), 1);
    }
}
