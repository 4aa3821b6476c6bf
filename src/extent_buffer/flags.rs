//! The flags of an extent buffer: one bit each, in one atomic word.

use std::fmt;

/// Bytes are the block's, read and believed, or made here.
pub const UPTODATE: u32 = 1 << 0;
/// Newer than the disk; must reach it before the transaction is durable.
pub const DIRTY: u32 = 1 << 1;
/// A copy is on its way to the disk.
pub const WRITEBACK: u32 = 1 << 2;
/// The block was freed; its buffer should go as soon as nobody uses it, unless the block is
/// allocated again.
pub const STALE: u32 = 1 << 3;
/// The cache holds a count on the buffer.
pub const TREE_REF: u32 = 1 << 4;
/// The buffer can be found in the index.
pub const IN_TREE: u32 = 1 << 5;
/// Someone reads the block from the disk.
pub const READING: u32 = 1 << 6;
/// Looked up since reclaim last came by.
pub const ACCESSED: u32 = 1 << 7;

/// `extent_buffer_under_io`: the buffer must not be freed now. A read counts, as its end will
/// write to the buffer.
pub const UNDER_IO: u32 = DIRTY | WRITEBACK | READING;

const NAMES: &[(u32, &str)] = &[
    (UPTODATE, "UPTODATE"),
    (DIRTY, "DIRTY"),
    (WRITEBACK, "WRITEBACK"),
    (STALE, "STALE"),
    (TREE_REF, "TREE_REF"),
    (IN_TREE, "IN_TREE"),
    (READING, "READING"),
    (ACCESSED, "ACCESSED"),
];

/// Flags for people: `UPTODATE|DIRTY`, or `-` when none is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    /// The letters of the lab's tables: T tree ref, D dirty, S stale, W writeback, R being read.
    pub fn letters(self) -> String {
        let letters: Vec<_> = [
            (TREE_REF, "T"),
            (DIRTY, "D"),
            (STALE, "S"),
            (WRITEBACK, "W"),
            (READING, "R"),
        ]
        .iter()
        .filter(|(flag, _)| self.0 & flag != 0)
        .map(|(_, letter)| *letter)
        .collect();
        if letters.is_empty() {
            "-".into()
        } else {
            letters.join(" ")
        }
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = NAMES.iter().filter(|(flag, _)| self.0 & flag != 0);
        match rest.next() {
            None => f.write_str("-"),
            Some((_, first)) => {
                f.write_str(first)?;
                rest.try_for_each(|(_, name)| write!(f, "|{name}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_named() {
        assert_eq!(Flags(0).to_string(), "-");
        assert_eq!(Flags(UPTODATE | DIRTY).to_string(), "UPTODATE|DIRTY");
        assert_eq!(Flags(TREE_REF | STALE | UPTODATE).letters(), "T S");
    }
}
