//! Bytes that say who wrote them: the contents of every write of a run.
//!
//! Owns: the pattern. Of each 16 aligned bytes the first 8 are the stamp (process and step), the
//! others where in the file it was written, hidden so that chance hardly makes them. So a wrong
//! byte tells whether it is an older write's, another process's, or nobody's.

use serde::{Deserialize, Serialize};
use std::fmt;

const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// Keeps repeated bytes, and units that are read at a wrong alignment, from passing.
const MARK: u64 = u64::from_le_bytes(*b"btrfuse!");
/// `SPREAD` times this is 1, in 64 bits.
const GATHER: u64 = inverse(SPREAD);
/// Offsets beyond this aren't written.
const OFFSET_MAX: u64 = 1 << 44;
const STEP_BITS: u32 = 40;
/// A run has fewer.
pub const PROCESSES_MAX: u64 = 1024;

const fn inverse(odd: u64) -> u64 {
    let (mut x, mut round) = (odd, 0);
    // Newton: the number of right bits doubles each time, from 3.
    while round < 5 {
        x = x.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(x)));
        round += 1;
    }
    x
}

/// One write of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp(u64);

impl Stamp {
    /// What `process` writes in its step number `step`.
    pub fn new(process: u64, step: u64) -> Self {
        // Never 0, which is what holes read as.
        Self((process << STEP_BITS) | (step + 1))
    }

    /// Who.
    pub fn process(self) -> u64 {
        self.0 >> STEP_BITS
    }

    /// When, as a number of steps of that process.
    pub fn step(self) -> u64 {
        (self.0 & ((1 << STEP_BITS) - 1)) - 1
    }

    /// The bytes of this write that belong at `offset` of the file.
    pub fn fill(self, offset: u64, out: &mut [u8]) {
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let word = self.word(at / 8).to_le_bytes();
            let inside = (at % 8) as usize;
            let len = (8 - inside).min(out.len() - done);
            out[done..done + len].copy_from_slice(&word[inside..inside + len]);
            done += len;
        }
    }

    fn word(self, index: u64) -> u64 {
        if index.is_multiple_of(2) {
            self.0
        } else {
            self.0.rotate_left(32) ^ MARK ^ (index / 2).wrapping_mul(SPREAD)
        }
    }

    /// Whose bytes these are, if they are anybody's: looks for one whole unit at any alignment
    /// (a copied range may have moved).
    pub fn recognise(bytes: &[u8]) -> Option<Self> {
        bytes.windows(16).take(16).find_map(|unit| {
            let (first, second) = unit.split_at(8);
            let read = |half: &[u8]| Some(u64::from_le_bytes(half.try_into().ok()?));
            let (stamp, place) = (read(first)?, read(second)?);
            let index = (place ^ MARK ^ stamp.rotate_left(32)).wrapping_mul(GATHER);
            let known = stamp & ((1 << STEP_BITS) - 1) != 0 && stamp >> STEP_BITS < PROCESSES_MAX;
            let sane = known && index < OFFSET_MAX / 16;
            sane.then_some(Self(stamp))
        })
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} step {}", self.process(), self.step())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_tell_who_wrote_them_at_any_alignment() {
        let stamp = Stamp::new(3, 12_345);
        for offset in [0, 5, 16, 4095, (1 << 40) + 7] {
            let mut bytes = [0; 64];
            stamp.fill(offset, &mut bytes);
            assert_eq!(Stamp::recognise(&bytes), Some(stamp), "{offset}");
        }
        assert_eq!((stamp.process(), stamp.step()), (3, 12_345));
    }

    #[test]
    fn zeros_and_noise_are_nobodys() {
        assert_eq!(Stamp::recognise(&[0; 64]), None);
        let mut rng = super::super::rng::Rng::new(1, 1);
        for _ in 0..1000 {
            assert_eq!(Stamp::recognise(&rng.bytes(64)), None);
        }
    }

    #[test]
    fn pieces_are_the_whole() {
        let stamp = Stamp::new(1, 7);
        let (mut whole, mut pieces) = ([0; 100], [0; 100]);
        stamp.fill(33, &mut whole);
        stamp.fill(33, &mut pieces[..41]);
        stamp.fill(74, &mut pieces[41..]);
        assert_eq!(whole, pieces);
    }
}
