//! What a file must hold, without its bytes: which write each range comes from.
//!
//! Invariant: extents don't overlap and end within the size; what no extent covers reads as zeros.

use super::stamp::Stamp;
use std::collections::BTreeMap;
use std::fmt;

/// A file's contents; see the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    size: u64,
    /// By their start.
    extents: BTreeMap<u64, Extent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    end: u64,
    stamp: Stamp,
    /// Where the write put its first byte; elsewhere only if the range was copied.
    origin: u64,
}

/// A byte that isn't what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Where in the file.
    pub offset: u64,
    /// The write whose byte it must be; `None`: zero.
    pub wanted: Option<Stamp>,
    /// What is there.
    pub found: Found,
}

/// What wrong bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Zeros, or the end of the file.
    Zeros,
    /// The bytes of some write.
    Write(Stamp),
    /// Nobody's bytes.
    Noise,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {} ", self.offset)?;
        match self.wanted {
            Some(stamp) => write!(f, "the write of {stamp} must be, and ")?,
            None => write!(f, "zeros must be, and ")?,
        }
        match self.found {
            Found::Zeros => write!(f, "zeros are"),
            Found::Write(stamp) => write!(f, "the write of {stamp} is"),
            Found::Noise => write!(f, "bytes are that nobody wrote"),
        }
    }
}

impl Content {
    /// Its length.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A write of `len` bytes.
    pub fn write(&mut self, offset: u64, len: u64, stamp: Stamp) {
        self.put(offset, len, stamp, offset);
    }

    fn put(&mut self, offset: u64, len: u64, stamp: Stamp, origin: u64) {
        if len == 0 {
            return;
        }
        let end = offset + len;
        self.clear(offset, end);
        self.extents.insert(offset, Extent { end, stamp, origin });
        self.size = self.size.max(end);
    }

    /// As ftruncate(2).
    pub fn truncate(&mut self, size: u64) {
        self.clear(size, u64::MAX);
        self.size = size;
    }

    /// At least this long.
    pub fn extend(&mut self, size: u64) {
        self.size = self.size.max(size);
    }

    /// Makes a range read as zeros, without a change of size.
    pub fn zero(&mut self, offset: u64, len: u64) {
        self.clear(offset, offset.saturating_add(len));
    }

    /// As copy_file_range(2) from `from`; how many bytes that is.
    pub fn copy(&mut self, from: &Self, from_offset: u64, offset: u64, len: u64) -> u64 {
        let len = len.min(from.size.saturating_sub(from_offset));
        if len == 0 {
            return 0;
        }
        self.clear(offset, offset + len);
        self.size = self.size.max(offset + len);
        for (start, extent) in from.within(from_offset, from_offset + len) {
            let into = offset + (start - from_offset);
            self.put(into, extent.end - start, extent.stamp, extent.origin);
        }
        len
    }

    /// The extents of a range, cut to it.
    fn within(&self, start: u64, end: u64) -> Vec<(u64, Extent)> {
        if start >= end {
            return Vec::new();
        }
        let before = self.extents.range(..start).next_back();
        before
            .into_iter()
            .chain(self.extents.range(start..end))
            .filter(|(_, extent)| extent.end > start)
            .map(|(&at, extent)| {
                let cut = start.saturating_sub(at);
                let extent = Extent {
                    end: extent.end.min(end),
                    origin: extent.origin + cut,
                    ..*extent
                };
                (at + cut, extent)
            })
            .collect()
    }

    fn clear(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let before = self.extents.range(..start).next_back();
        let first = before.map(|(&at, extent)| (at, *extent));
        if let Some((at, extent)) = first.filter(|(_, extent)| extent.end > start) {
            self.extents.insert(
                at,
                Extent {
                    end: start,
                    ..extent
                },
            );
            self.keep_tail(at, extent, end);
        }
        let inside: Vec<u64> = self.extents.range(start..end).map(|(&at, _)| at).collect();
        for at in inside {
            if let Some(extent) = self.extents.remove(&at) {
                self.keep_tail(at, extent, end);
            }
        }
    }

    fn keep_tail(&mut self, at: u64, extent: Extent, end: u64) {
        if extent.end > end {
            let origin = extent.origin + (end - at);
            self.extents.insert(end, Extent { origin, ..extent });
        }
    }

    /// The bytes of a range, as far as the file goes.
    pub fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let end = self.size.min(offset.saturating_add(len));
        let mut out = vec![0; end.saturating_sub(offset) as usize];
        for (start, extent) in self.within(offset, end) {
            let range = (start - offset) as usize..(extent.end - offset) as usize;
            extent.stamp.fill(extent.origin, &mut out[range]);
        }
        out
    }

    /// The first byte of `found`, read at `offset`, that isn't as it must be.
    pub fn compare(&self, offset: u64, found: &[u8]) -> Option<Mismatch> {
        let wanted = self.read(offset, found.len() as u64);
        if wanted == found {
            return None;
        }
        let shorter = wanted.len().min(found.len());
        let at = (0..shorter)
            .find(|&at| wanted[at] != found[at])
            .unwrap_or(shorter);
        let rest = &found[at..found.len().min(at + 64)];
        let place = offset + at as u64;
        let wanted = self
            .within(place, place + 1)
            .first()
            .map(|(_, extent)| extent.stamp);
        let found = match Stamp::recognise(rest) {
            Some(stamp) => Found::Write(stamp),
            None if rest.iter().take(8).all(|&byte| byte == 0) => Found::Zeros,
            None => Found::Noise,
        };
        Some(Mismatch {
            offset: place,
            wanted,
            found,
        })
    }

    /// The ranges that aren't known to be zeros: start and end.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.extents
            .iter()
            .map(|(&start, extent)| (start, extent.end))
    }

    /// Whether a whole range reads as zeros (what is beyond the end does).
    pub fn is_zero(&self, start: u64, end: u64) -> bool {
        self.within(start, end).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::rng::Rng;
    use super::*;

    /// The same operations on plain bytes.
    #[test]
    fn ranges_of_writes_equal_plain_bytes() {
        let mut rng = Rng::new(5, 0);
        let mut contents = [Content::default(), Content::default()];
        let mut plain = [Vec::<u8>::new(), Vec::new()];
        for step in 0..3000 {
            let (at, len) = (rng.below(3000), 1 + rng.below(900));
            let file = rng.below(2) as usize;
            let (start, end) = (at as usize, (at + len) as usize);
            match rng.below(6) {
                0 | 1 => {
                    let stamp = Stamp::new(2, step);
                    contents[file].write(at, len, stamp);
                    let longer = plain[file].len().max(end);
                    plain[file].resize(longer, 0);
                    stamp.fill(at, &mut plain[file][start..end]);
                }
                2 => {
                    contents[file].zero(at, len);
                    let end = end.min(plain[file].len());
                    plain[file][start.min(end)..end].fill(0);
                }
                3 => {
                    contents[file].truncate(at);
                    plain[file].resize(start, 0);
                }
                4 => {
                    let into = rng.below(3000);
                    let source = contents[1 - file].clone();
                    let copied = contents[file].copy(&source, at, into, len) as usize;
                    let bytes = plain[1 - file]
                        .get(start..start + copied)
                        .unwrap_or_default()
                        .to_vec();
                    let into = into as usize;
                    if copied > 0 {
                        let longer = plain[file].len().max(into + copied);
                        plain[file].resize(longer, 0);
                        plain[file][into..into + copied].copy_from_slice(&bytes);
                    }
                }
                _ => {
                    contents[file].extend(at);
                    let longer = plain[file].len().max(start);
                    plain[file].resize(longer, 0);
                }
            }
            for (content, plain) in contents.iter().zip(&plain) {
                assert_eq!(content.size(), plain.len() as u64);
                assert_eq!(content.read(0, 10_000), *plain, "step {step}");
            }
        }
    }

    #[test]
    fn a_wrong_byte_is_told_by_what_it_is() {
        let (old, new) = (Stamp::new(1, 4), Stamp::new(1, 9));
        let mut content = Content::default();
        content.write(0, 8192, old);
        let before = content.read(0, 8192);
        content.write(4096, 4096, new);
        let found = content.compare(0, &before).unwrap();
        assert_eq!(
            (found.offset, found.wanted, found.found),
            (4096, Some(new), Found::Write(old))
        );
        let mut lost = content.read(0, 8192);
        lost[5000..6000].fill(0);
        assert_eq!(content.compare(0, &lost).unwrap().found, Found::Zeros);
        lost[5000..6000].fill(0xa5);
        assert_eq!(content.compare(0, &lost).unwrap().found, Found::Noise);
        assert_eq!(content.compare(0, &content.read(0, 8192)), None);
        assert!(content.compare(0, &[]).is_none());
        // A file that is too short, and one that is too long.
        let short = &content.read(0, 8192)[..100];
        assert!(
            content.compare(0, short).is_none(),
            "its size is judged elsewhere"
        );
        let mut long = content.read(0, 8192);
        long.push(0);
        assert_eq!(content.compare(0, &long).unwrap().offset, 8192);
    }
}
