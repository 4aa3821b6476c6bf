//! The free ranges of one block group, by offset and by size.
//!
//! Owns: two indexes of the same ranges. Invariant: ranges never touch or overlap, both
//! indexes hold the same set, and `bytes` is their sum.

use std::collections::{BTreeMap, BTreeSet};

/// Disjoint, merged ranges with their sum.
#[derive(Clone, Debug, Default)]
pub struct FreeRanges {
    by_start: BTreeMap<u64, u64>,
    by_len: BTreeSet<(u64, u64)>,
    bytes: u64,
}

impl FreeRanges {
    /// No free byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sum of all ranges.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many ranges there are.
    pub fn count(&self) -> usize {
        self.by_start.len()
    }

    /// The length of the longest range.
    pub fn longest(&self) -> u64 {
        self.by_len.last().map_or(0, |&(len, _)| len)
    }

    /// All ranges as (start, len), ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.by_start.iter().map(|(&start, &len)| (start, len))
    }

    /// Those that end behind `at`, ascending, without a look at the others.
    pub fn iter_from(&self, at: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let first = self.containing(at).map_or(at, |(start, _)| start);
        let ranges = self.by_start.range(first..);
        ranges.map(|(&start, &len)| (start, len))
    }

    fn put(&mut self, start: u64, len: u64) {
        self.by_start.insert(start, len);
        self.by_len.insert((len, start));
        self.bytes += len;
    }

    fn take(&mut self, start: u64, len: u64) {
        self.by_start.remove(&start);
        self.by_len.remove(&(len, start));
        self.bytes -= len;
    }

    /// The range that contains `at`, as (start, len).
    pub fn containing(&self, at: u64) -> Option<(u64, u64)> {
        let (&start, &len) = self.by_start.range(..=at).next_back()?;
        (at < start + len).then_some((start, len))
    }

    /// Every byte of the range is free.
    pub fn covers(&self, at: u64, len: u64) -> bool {
        self.containing(at)
            .is_some_and(|(start, have)| at + len <= start + have)
    }

    /// Adds a range; what was already free stays so. Returns the bytes that were not free.
    pub fn insert(&mut self, at: u64, len: u64) -> u64 {
        if len == 0 {
            return 0;
        }
        let before = self.bytes;
        let mut start = at;
        let mut end = at + len;
        // Every range that overlaps or touches becomes part of the new one.
        if let Some((&left, &left_len)) = self.by_start.range(..=at).next_back()
            && left + left_len >= at
        {
            start = left;
            end = end.max(left + left_len);
            self.take(left, left_len);
        }
        while let Some((&right, &right_len)) = self.by_start.range(start..=end).next() {
            end = end.max(right + right_len);
            self.take(right, right_len);
        }
        self.put(start, end - start);
        self.bytes - before
    }

    /// Takes a range away; parts that were not free are passed over. Returns the bytes taken.
    pub fn remove(&mut self, at: u64, len: u64) -> u64 {
        let end = at + len;
        let before = self.bytes;
        let mut hit: Vec<(u64, u64)> = self
            .by_start
            .range(at..end)
            .map(|(&start, &len)| (start, len))
            .collect();
        if let Some((&left, &left_len)) = self.by_start.range(..at).next_back()
            && left + left_len > at
        {
            hit.push((left, left_len));
        }
        for (start, len) in hit {
            self.take(start, len);
            if start < at {
                self.put(start, at - start);
            }
            if start + len > end {
                self.put(end, start + len - end);
            }
        }
        before - self.bytes
    }

    /// The parts of `[at, at + len)` that are free.
    pub fn intersection(&self, at: u64, len: u64) -> Vec<(u64, u64)> {
        let end = at + len;
        let from = self.containing(at).map_or(at, |(start, _)| start);
        let hit = self.by_start.range(from..end);
        hit.map(|(&start, &len)| {
            let cut = start.max(at);
            (cut, (start + len).min(end) - cut)
        })
        .collect()
    }

    /// The smallest range that holds `want` bytes, lowest first among equals.
    pub fn best_fit(&self, want: u64) -> Option<(u64, u64)> {
        self.by_len
            .range((want, 0)..)
            .next()
            .map(|&(len, start)| (start, len))
    }

    /// The longest range.
    pub fn longest_range(&self) -> Option<(u64, u64)> {
        self.by_len.last().map(|&(len, start)| (start, len))
    }

    /// The first place at or after `from` where `len` bytes are free at a multiple of `align`.
    /// Looks at most at `tries` ranges from there.
    pub fn next_fit(&self, from: u64, len: u64, align: u64, tries: usize) -> Option<u64> {
        let fits = |start: u64, have: u64| {
            let at = start.checked_next_multiple_of(align)?;
            (at.checked_add(len)? <= start + have).then_some(at)
        };
        if let Some((start, have)) = self.containing(from)
            && let Some(at) = fits(from, start + have - from)
        {
            return Some(at);
        }
        self.by_start
            .range(from..)
            .take(tries)
            .find_map(|(&start, &have)| fits(start, have))
    }

    /// Any place for `len` bytes at a multiple of `align`: the longest ranges are tried first.
    pub fn any_fit(&self, len: u64, align: u64) -> Option<u64> {
        self.by_len
            .iter()
            .rev()
            .take_while(|&&(have, _)| have >= len)
            .find_map(|&(have, start)| {
                let at = start.checked_next_multiple_of(align)?;
                (at + len <= start + have).then_some(at)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64, u64),
        Remove(u64, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        prop::collection::vec(
            (any::<bool>(), 0..250_u64, 1..40_u64).prop_map(|(insert, at, len)| {
                if insert {
                    Step::Insert(at, len)
                } else {
                    Step::Remove(at, len)
                }
            }),
            1..80,
        )
    }

    proptest! {
        #[test]
        fn ranges_match_a_map_of_single_bytes(steps in steps()) {
            let mut ranges = FreeRanges::new();
            let mut model = [false; 300];
            for step in steps {
                let (at, len, value) = match step {
                    Step::Insert(at, len) => (at, len, true),
                    Step::Remove(at, len) => (at, len, false),
                };
                let changed = if value { ranges.insert(at, len) } else { ranges.remove(at, len) };
                let cells = &mut model[at as usize..(at + len) as usize];
                prop_assert_eq!(changed, cells.iter().filter(|&&cell| cell != value).count() as u64);
                cells.fill(value);

                let mut expected = Vec::new();
                let mut at = 0;
                for run in model.chunk_by(|a, b| a == b) {
                    if run[0] {
                        expected.push((at, run.len() as u64));
                    }
                    at += run.len() as u64;
                }
                prop_assert_eq!(ranges.iter().collect::<Vec<_>>(), expected.clone());
                prop_assert_eq!(ranges.bytes(), expected.iter().map(|range| range.1).sum::<u64>());
                prop_assert_eq!(
                    ranges.longest(),
                    expected.iter().map(|range| range.1).max().unwrap_or(0)
                );
                let inside: u64 = ranges.intersection(50, 100).iter().map(|range| range.1).sum();
                prop_assert_eq!(inside, model[50..150].iter().filter(|&&free| free).count() as u64);
                for want in [1, 7, 30] {
                    prop_assert_eq!(
                        ranges.best_fit(want).map(|range| range.1),
                        expected.iter().map(|range| range.1).filter(|&len| len >= want).min()
                    );
                    let fit = |align: u64, from: u64| {
                        (from..300).find(|&at| at % align == 0
                            && at + want <= 300
                            && (at..at + want).all(|byte| model[byte as usize]))
                    };
                    prop_assert_eq!(ranges.next_fit(33, want, 4, usize::MAX), fit(4, 33));
                    prop_assert_eq!(ranges.any_fit(want, 4).is_some(), fit(4, 0).is_some());
                }
            }
        }
    }
}
