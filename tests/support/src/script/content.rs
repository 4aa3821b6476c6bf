//! The bytes of a model's file: sparse, so that large offsets cost nothing.

use crate::walk::to_hex;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

const BLOCK: u64 = 4096;

/// A file's size and its blocks that were written; the others read as zeros.
#[derive(Clone, Debug, Default)]
pub struct Content {
    size: u64,
    blocks: BTreeMap<u64, Box<[u8; BLOCK as usize]>>,
}

impl Content {
    /// Its length.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// As pwrite(2).
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let inside = (at % BLOCK) as usize;
            let len = (BLOCK as usize - inside).min(bytes.len() - done);
            let block = self
                .blocks
                .entry(at / BLOCK)
                .or_insert_with(|| Box::new([0; 4096]));
            block[inside..inside + len].copy_from_slice(&bytes[done..done + len]);
            done += len;
        }
        self.size = self.size.max(offset + bytes.len() as u64);
    }

    /// As ftruncate(2).
    pub fn truncate(&mut self, size: u64) {
        if size < self.size {
            self.zero(size, self.size - size);
        }
        self.size = size;
    }

    /// At least this long.
    pub fn extend(&mut self, size: u64) {
        self.size = self.size.max(size);
    }

    /// Makes a range read as zeros, without a change of size.
    pub fn zero(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let touched: Vec<u64> = self
            .blocks
            .range(offset / BLOCK..end.div_ceil(BLOCK))
            .map(|(at, _)| *at)
            .collect();
        for index in touched {
            let start = offset.max(index * BLOCK) - index * BLOCK;
            let stop = end.min((index + 1) * BLOCK) - index * BLOCK;
            if start == 0 && stop == BLOCK {
                self.blocks.remove(&index);
            } else if let Some(block) = self.blocks.get_mut(&index) {
                block[start as usize..stop as usize].fill(0);
            }
        }
    }

    /// The manifest's key and value for these bytes.
    pub fn digest(&self) -> (&'static str, String) {
        let mut hash = Sha256::new();
        if self.size <= 256 << 20 {
            let mut at = 0;
            while at < self.size {
                let len = BLOCK.min(self.size - at) as usize;
                match self.blocks.get(&(at / BLOCK)) {
                    Some(block) => hash.update(&block[..len]),
                    None => hash.update(&[0; BLOCK as usize][..len]),
                }
                at += BLOCK;
            }
            return ("sha256", to_hex(&hash.finalize()));
        }
        for (index, block) in &self.blocks {
            if block.iter().any(|&byte| byte != 0) {
                hash.update((index * BLOCK).to_le_bytes());
                hash.update(block.as_slice());
            }
        }
        ("sha256_blocks", to_hex(&hash.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_bytes_equal_plain_ones() {
        let mut rng = crate::Rng::new(7);
        let (mut content, mut plain) = (Content::default(), Vec::new());
        for _ in 0..400 {
            let (offset, len) = (rng.below(30_000) as usize, 1 + rng.below(9_000) as usize);
            match rng.below(3) {
                0 => {
                    let bytes = rng.bytes(len);
                    content.write(offset as u64, &bytes);
                    plain.resize(plain.len().max(offset + len), 0);
                    plain[offset..offset + len].copy_from_slice(&bytes);
                }
                1 => {
                    content.zero(offset as u64, len as u64);
                    let end = (offset + len).min(plain.len());
                    plain[offset.min(end)..end].fill(0);
                }
                _ => {
                    content.truncate(offset as u64);
                    plain.resize(offset, 0);
                }
            }
            assert_eq!(
                content.digest(),
                ("sha256", to_hex(&Sha256::digest(&plain)))
            );
        }
    }
}
