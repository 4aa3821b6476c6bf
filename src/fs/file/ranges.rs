//! Ranges of a file's content in memory.
//!
//! Owns: bytes by file offset, without overlap. Knows nothing of sectors or disks; callers
//! keep to whole sectors. Invariant: pieces don't overlap, none is empty, none is longer than
//! [`PIECE_BYTES_MAX`], and `bytes` is their sum.

use std::collections::BTreeMap;
use std::ops::Range;

/// A piece grows up to this; then the next one begins. Bounds what one growth has to move.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// Content by file offset.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges {
    pieces: BTreeMap<u64, Vec<u8>>,
    bytes: u64,
}

impl Ranges {
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// At least as many as there are [`Ranges::runs`].
    pub fn pieces(&self) -> u64 {
        self.pieces.len() as u64
    }

    /// Nothing is held.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Stores `data` at `at`, over what was there. Returns how many bytes are new.
    pub fn write(&mut self, at: u64, data: &[u8]) -> u64 {
        let before = self.bytes;
        let end = at + data.len() as u64;
        let mut here = at;
        while here < end {
            let from = &data[(here - at) as usize..];
            here += match self.piece_around(here) {
                Some((start, piece)) => {
                    let within = (here - start) as usize;
                    let take = from.len().min(piece.len() - within);
                    piece[within..within + take].copy_from_slice(&from[..take]);
                    take as u64
                }
                None => {
                    let gap_end = self
                        .pieces
                        .range(here..)
                        .next()
                        .map_or(end, |(&next, _)| next);
                    let take = gap_end.min(end) - here;
                    self.fill_gap(here, &from[..take as usize]);
                    take
                }
            };
        }
        self.bytes - before
    }

    /// The piece that holds the byte at `at`.
    fn piece_around(&mut self, at: u64) -> Option<(u64, &mut Vec<u8>)> {
        let (&start, piece) = self.pieces.range_mut(..=at).next_back()?;
        (at - start < piece.len() as u64).then_some((start, piece))
    }

    /// Stores bytes where none are, at the end of the piece before if it has room.
    fn fill_gap(&mut self, at: u64, mut data: &[u8]) {
        self.bytes += data.len() as u64;
        let mut at = at;
        if let Some((&start, piece)) = self.pieces.range_mut(..at).next_back()
            && start + piece.len() as u64 == at
        {
            let take = data.len().min(PIECE_BYTES_MAX.saturating_sub(piece.len()));
            piece.extend_from_slice(&data[..take]);
            data = &data[take..];
            at += take as u64;
        }
        for part in data.chunks(PIECE_BYTES_MAX) {
            self.pieces.insert(at, part.to_vec());
            at += part.len() as u64;
        }
    }

    /// Forgets what lies in `range`. Returns how many bytes that were.
    pub fn remove(&mut self, range: Range<u64>) -> u64 {
        let before = self.bytes;
        if range.start >= range.end {
            return 0;
        }
        self.split_at(range.start);
        self.split_at(range.end);
        while let Some((&start, _)) = self.pieces.range(range.clone()).next() {
            let piece = self.pieces.remove(&start).expect("just seen");
            self.bytes -= piece.len() as u64;
        }
        before - self.bytes
    }

    /// Makes a piece begin at `at`, if one spans it.
    fn split_at(&mut self, at: u64) {
        if let Some((start, piece)) = self.piece_around(at)
            && start < at
        {
            let tail = piece.split_off((at - start) as usize);
            self.pieces.insert(at, tail);
        }
    }

    /// Copies what is held of `at..at + buf.len()` into `buf` and returns the rest, as ranges
    /// of file offsets.
    pub fn read(&self, at: u64, buf: &mut [u8]) -> Vec<Range<u64>> {
        let end = at + buf.len() as u64;
        let mut gaps = Vec::new();
        let mut here = at;
        for (start, piece) in self.pieces_in(at..end) {
            if here < start {
                gaps.push(here..start);
                here = start;
            }
            let from = &piece[(here - start) as usize..];
            let take = from.len().min((end - here) as usize);
            buf[(here - at) as usize..][..take].copy_from_slice(&from[..take]);
            here += take as u64;
        }
        if here < end {
            gaps.push(here..end);
        }
        gaps
    }

    /// Whether every byte of `range` is held.
    pub fn covers(&self, range: Range<u64>) -> bool {
        let mut here = range.start;
        for (start, piece) in self.pieces_in(range.clone()) {
            if start > here {
                return false;
            }
            here = start + piece.len() as u64;
        }
        here >= range.end
    }

    /// Pieces that touch `range`, in order.
    fn pieces_in(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &[u8])> {
        let first = self
            .pieces
            .range(..=range.start)
            .next_back()
            .map_or(range.start, |(&at, _)| at);
        let last = range.end.max(first);
        self.pieces
            .range(first..last)
            .map(|(&start, piece)| (start, &piece[..]))
            .filter(move |(start, piece)| start + piece.len() as u64 > range.start)
    }

    /// Stretches without a gap, in order.
    pub fn runs(&self) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for (&start, piece) in &self.pieces {
            let end = start + piece.len() as u64;
            match runs.last_mut() {
                Some(run) if run.end == start => run.end = end,
                _ => runs.push(start..end),
            }
        }
        runs
    }

    /// The bytes of `range`, all of which are held, as the slices they lie in.
    pub fn slices(&self, range: Range<u64>) -> impl Iterator<Item = &[u8]> {
        self.pieces_in(range.clone()).map(move |(start, piece)| {
            let from = range.start.saturating_sub(start) as usize;
            let to = piece.len().min((range.end - start) as usize);
            &piece[from..to]
        })
    }

    /// The first held byte at or behind `at`.
    pub fn next_held(&self, at: u64) -> Option<u64> {
        self.pieces_in(at..u64::MAX)
            .next()
            .map(|(start, _)| start.max(at))
    }

    /// The first byte at or behind `at` that isn't held.
    pub fn next_gap(&self, at: u64) -> u64 {
        let mut here = at;
        for (start, piece) in self.pieces_in(at..u64::MAX) {
            if start > here {
                break;
            }
            here = start + piece.len() as u64;
        }
        here
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEN: usize = 64;

    fn model_of(ranges: &Ranges) -> Vec<Option<u8>> {
        let mut model = vec![None; LEN];
        for (&start, piece) in &ranges.pieces {
            for (index, &byte) in piece.iter().enumerate() {
                assert!(
                    model[start as usize + index].replace(byte).is_none(),
                    "overlap"
                );
            }
        }
        model
    }

    proptest! {
        #[test]
        fn ranges_behave_like_a_map_of_bytes(
            steps in prop::collection::vec((any::<bool>(), 0..LEN, 0..LEN, any::<u8>()), 1..40)
        ) {
            let mut ranges = Ranges::default();
            let mut model = vec![None; LEN];
            for (is_write, a, b, byte) in steps {
                let (from, to) = (a.min(b), a.max(b));
                let held = model[from..to].iter().flatten().count() as u64;
                if is_write {
                    let fresh = ranges.write(from as u64, &vec![byte; to - from]);
                    prop_assert_eq!(fresh, (to - from) as u64 - held);
                    model[from..to].fill(Some(byte));
                } else {
                    prop_assert_eq!(ranges.remove(from as u64..to as u64), held);
                    model[from..to].fill(None);
                }
                prop_assert_eq!(&model_of(&ranges), &model);
                prop_assert_eq!(ranges.bytes(), model.iter().flatten().count() as u64);
                let mut buf = vec![0xee; to - from];
                let gaps = ranges.read(from as u64, &mut buf);
                for at in from..to {
                    let in_gap = gaps.iter().any(|gap| gap.contains(&(at as u64)));
                    prop_assert_eq!(in_gap, model[at].is_none());
                    prop_assert_eq!(buf[at - from], model[at].unwrap_or(0xee));
                }
                prop_assert_eq!(gaps.is_empty(), ranges.covers(from as u64..to as u64));
                let next = (from..LEN).find(|&at| model[at].is_some()).map(|at| at as u64);
                prop_assert_eq!(ranges.next_held(from as u64), next);
                let gap = (from..LEN).find(|&at| model[at].is_none()).unwrap_or(LEN) as u64;
                prop_assert_eq!(ranges.next_gap(from as u64), gap);
                for run in ranges.runs() {
                    let joined: Vec<u8> = ranges.slices(run.clone()).flatten().copied().collect();
                    let expected: Vec<u8> =
                        (run.start..run.end).map(|at| model[at as usize].unwrap()).collect();
                    prop_assert_eq!(joined, expected);
                }
            }
        }
    }

    #[test]
    fn long_streams_are_kept_in_bounded_pieces() {
        let mut ranges = Ranges::default();
        for index in 0..40u64 {
            ranges.write(index * 100_000, &vec![index as u8; 100_000]);
        }
        assert_eq!(ranges.runs(), vec![0..4_000_000]);
        assert!(
            ranges
                .pieces
                .values()
                .all(|piece| piece.len() <= PIECE_BYTES_MAX)
        );
        assert!(ranges.pieces.len() <= 5);
    }
}
