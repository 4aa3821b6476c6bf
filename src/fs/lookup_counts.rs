//! How often the kernel refers to each inode, in a byte or two apiece.
//!
//! A node id leads back to its inode without any table, so an inode that is on disk need not stay
//! in memory because the kernel has seen it. What can't be computed is whether an unlinked inode
//! is still referred to, and that is all that these counts are for. Tens of millions must be
//! cheap: neighbours share an entry, and a count that outgrows its byte goes on in a table that
//! few inodes ever enter.

use super::node_id::Identity;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Inodes that share an entry: objectids are given out one after the other.
const NEIGHBOURS: usize = 16;

/// Where a count is: subvolume, first objectid of the neighbourhood, place in it.
fn place(identity: Identity) -> Option<((u64, u64), usize)> {
    match identity {
        Identity::Inode { subvol, objectid } => {
            let (high, low) = neighbourhood(objectid);
            Some(((subvol, high), low))
        }
        // Stand-ins have nothing on disk and nothing in memory.
        Identity::Stub { .. } => None,
    }
}

/// The number that an objectid shares with its neighbours, and its own among them.
pub(in crate::fs) fn neighbourhood(objectid: u64) -> (u64, usize) {
    let neighbours = NEIGHBOURS as u64;
    (objectid / neighbours, (objectid % neighbours) as usize)
}

/// See the module.
#[derive(Default)]
pub(in crate::fs) struct LookupCounts {
    small: HashMap<(u64, u64), [u8; NEIGHBOURS]>,
    /// What is over [`u8::MAX`].
    excess: HashMap<Identity, u64>,
    given: u64,
    returned: u64,
}

/// What the kernel was given, and has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::fs) struct References {
    /// References given to it: one for each answer that names an inode.
    pub given: u64,
    /// Of these, what it gave back (FORGET).
    pub returned: u64,
    /// What the table has of the rest.
    pub held: u64,
    /// The inodes that these refer to.
    pub inodes: u64,
}

impl LookupCounts {
    /// Looks at all of it.
    pub fn references(&self) -> References {
        let counts = self.small.values().flatten().filter(|count| **count > 0);
        let (inodes, small) = counts.fold((0, 0), |(inodes, sum), count| {
            (inodes + 1, sum + u64::from(*count))
        });
        References {
            given: self.given,
            returned: self.returned,
            held: small + self.excess.values().sum::<u64>(),
            inodes,
        }
    }

    /// One more.
    pub fn add(&mut self, identity: Identity) {
        let Some((key, at)) = place(identity) else {
            return;
        };
        self.given += 1;
        let count = &mut self.small.entry(key).or_default()[at];
        match count.checked_add(1) {
            Some(more) => *count = more,
            None => *self.excess.entry(identity).or_default() += 1,
        }
    }

    /// `n` less. True when none is left; what was never counted can't go below that.
    pub fn subtract(&mut self, identity: Identity, n: u64) -> bool {
        let Some((key, at)) = place(identity) else {
            return true;
        };
        let mut rest = n;
        if let Entry::Occupied(mut excess) = self.excess.entry(identity) {
            let taken = rest.min(*excess.get());
            *excess.get_mut() -= taken;
            rest -= taken;
            self.returned += taken;
            if *excess.get() > 0 {
                return false;
            }
            excess.remove();
        }
        let Entry::Occupied(mut small) = self.small.entry(key) else {
            return true;
        };
        let count = &mut small.get_mut()[at];
        let taken = u8::try_from(rest).unwrap_or(u8::MAX).min(*count);
        *count -= taken;
        self.returned += u64::from(taken);
        if *count > 0 {
            return false;
        }
        if small.get().iter().all(|&count| count == 0) {
            small.remove();
            self.shrink();
        }
        true
    }

    /// Whether the kernel refers to the inode.
    pub fn has(&self, identity: Identity) -> bool {
        place(identity).is_some_and(|(key, at)| {
            let small = self.small.get(&key);
            small.is_some_and(|counts| counts[at] > 0)
        })
    }

    /// What the table takes.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        // Of each 8 buckets one stays empty; each has a byte of its own.
        self.small.capacity() / 7 * 8 * (size_of::<((u64, u64), [u8; NEIGHBOURS])>() + 1)
    }

    /// All to nothing.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Gives memory back after a flood.
    fn shrink(&mut self) {
        if self.small.capacity() > 1024 && self.small.len() < self.small.capacity() / 8 {
            self.small.shrink_to(self.small.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inode(objectid: u64) -> Identity {
        let subvol = 5;
        Identity::Inode { subvol, objectid }
    }

    #[test]
    fn what_was_never_counted_is_not_referred_to() {
        let mut counts = LookupCounts::default();
        assert!(!counts.has(inode(300)) && counts.subtract(inode(300), 3));
        counts.add(inode(301));
        assert!(counts.subtract(inode(300), 1) && counts.has(inode(301)));
    }

    #[test]
    fn a_flood_that_is_over_leaves_nothing_behind() {
        let mut counts = LookupCounts::default();
        (0..100_000).for_each(|objectid| counts.add(inode(objectid)));
        assert!((0..100_000).all(|objectid| counts.subtract(inode(objectid), 1)));
        assert!(counts.small.is_empty() && counts.small.capacity() < 4096);
    }

    proptest! {
        #[test]
        fn counts_are_exact(steps in proptest::collection::vec(
            (0u64..40, prop_oneof![Just(-1i64), Just(-250), Just(-600), Just(1), Just(200), Just(600)]),
            1..60,
        )) {
            let mut counts = LookupCounts::default();
            let mut model: HashMap<u64, i64> = HashMap::new();
            for (objectid, change) in steps {
                let known = model.entry(objectid).or_default();
                *known = (*known + change).max(0);
                if change < 0 {
                    let gone = counts.subtract(inode(objectid), change.unsigned_abs());
                    prop_assert_eq!(gone, *known == 0);
                } else {
                    (0..change).for_each(|_| counts.add(inode(objectid)));
                }
                prop_assert_eq!(counts.has(inode(objectid)), *known > 0);
            }
            for (objectid, known) in model {
                prop_assert_eq!(counts.has(inode(objectid)), known > 0);
            }
        }
    }
}
