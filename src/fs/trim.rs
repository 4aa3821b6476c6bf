//! FITRIM: everything free is discarded, so that an image file gives its bytes back to the host.

use super::filesystem::Filesystem;
use crate::error::{Error, Result};
use crate::units::{Logical, Physical};

/// `struct fstrim_range` of `<linux/fs.h>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrimRange {
    /// The first logical byte.
    pub start: u64,
    /// How many.
    pub len: u64,
    /// Shorter free ranges are left alone.
    pub least: u64,
}

/// Its size.
pub const TRIM_BYTES: usize = 24;

impl TrimRange {
    /// As the ioctl carries it.
    pub fn decode(raw: &[u8; TRIM_BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&raw[at..at + 8]);
            u64::from_ne_bytes(word)
        };
        Self {
            start: word(0),
            len: word(8),
            least: word(16),
        }
    }

    /// The same with `len` bytes: the answer.
    pub fn encode(self, len: u64) -> Vec<u8> {
        let words = [self.start, len, self.least];
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }
}

impl Filesystem {
    /// Discards what is free, after a commit that frees what was deleted: free ranges of block groups
    /// inside the range, and, as the kernel does, whatever of the devices no chunk uses. Returns how
    /// many bytes.
    ///
    /// Errors: `EROFS`; `EINVAL` for less than a sector; what a device answered, `EOPNOTSUPP` where
    /// the host can't punch holes.
    pub fn trim(&self, range: TrimRange) -> Result<u64> {
        self.want_writable_mount()?;
        if range.len < self.ctx.space.sectorsize() {
            return Err(Error::Invalid("a range shorter than a sector"));
        }
        self.engine.committer.commit()?;
        let space = &self.ctx.space;
        let mut bytes = 0;
        let mut within = range.start..range.start.saturating_add(range.len);
        while let Some(piece) = space.discard_free(within.clone(), range.least, |piece| {
            let len = piece.end - piece.start;
            self.volume.discard_or_fail(Logical(piece.start), len)
        }) {
            let piece = piece?;
            within.start = piece.end;
            bytes += piece.end - piece.start;
        }
        for devid in space.device_numbers() {
            let mut within = 0..u64::MAX;
            while let Some(piece) =
                space.discard_hole(devid, within.clone(), range.least, |piece| {
                    let len = piece.end - piece.start;
                    self.volume
                        .discard_unmapped(devid, Physical(piece.start), len)
                })
            {
                let piece = piece?;
                within.start = piece.end;
                bytes += piece.end - piece.start;
            }
        }
        Ok(bytes)
    }
}
