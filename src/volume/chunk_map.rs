//! Which chunk a logical address lies in, and where its copies are.
//!
//! Owns: the mapping, in memory. Invariant: chunks don't overlap, and every one inside was
//! judged by [`ChunkMapping::validate`], so address arithmetic on it can't overflow. Whether
//! we can do I/O on a profile is asked when it is used, so that an image can be inspected
//! even where it can't be read.

use crate::ondisk::{Chunk, Stripe};
use crate::sync::{Arc, RwLock};
use crate::units::{DevId, Logical, Physical};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// `BTRFS_BLOCK_GROUP_*` bits that say what a chunk holds and how.
pub mod profile {
    pub use crate::ondisk::{
        BLOCK_GROUP_DATA as DATA, BLOCK_GROUP_DUP as DUP, BLOCK_GROUP_METADATA as METADATA,
        BLOCK_GROUP_PROFILE_MASK as PROFILE_MASK, BLOCK_GROUP_RAID0 as RAID0,
        BLOCK_GROUP_RAID1 as RAID1, BLOCK_GROUP_RAID1C3 as RAID1C3, BLOCK_GROUP_RAID1C4 as RAID1C4,
        BLOCK_GROUP_RAID5 as RAID5, BLOCK_GROUP_RAID6 as RAID6, BLOCK_GROUP_RAID10 as RAID10,
        BLOCK_GROUP_SYSTEM as SYSTEM, BLOCK_GROUP_TYPE_MASK as TYPE_MASK,
    };

    /// What `mkfs.btrfs` calls the profile.
    pub fn name(flags: u64) -> &'static str {
        match flags & PROFILE_MASK {
            0 => "single",
            RAID0 => "raid0",
            RAID1 => "raid1",
            DUP => "dup",
            RAID10 => "raid10",
            RAID5 => "raid5",
            RAID6 => "raid6",
            RAID1C3 => "raid1c3",
            RAID1C4 => "raid1c4",
            _ => "an unknown profile",
        }
    }
}

/// One chunk: a range of logical addresses and the device ranges behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkMapping {
    /// Bytes of logical address space.
    pub len: u64,
    /// What it holds and how: bits of [`profile`].
    pub flags: u64,
    /// Bytes that go to one stripe before the next has its turn.
    pub stripe_len: u64,
    /// For raid10: how many stripes hold the same bytes.
    pub sub_stripes: u16,
    /// Where each stripe begins.
    pub stripes: Vec<(DevId, Physical)>,
}

/// One stretch of bytes that lies in one piece on every copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// How many bytes, counted from the address that was asked for.
    pub len: u64,
    /// Where the copies are, the first one preferred.
    pub copies: Vec<(DevId, Physical)>,
}

impl ChunkMapping {
    /// The mapping that a CHUNK_ITEM holds, not judged yet.
    pub fn from_item(chunk: &Chunk, stripes: &[Stripe]) -> Self {
        Self {
            len: chunk.length.get(),
            flags: chunk.kind.get(),
            stripe_len: chunk.stripe_len.get(),
            sub_stripes: chunk.sub_stripes.get(),
            stripes: stripes.iter().map(Stripe::place).collect(),
        }
    }

    /// Judges a chunk as it came from the disk.
    pub fn validate(&self, at: Logical) -> Result<()> {
        let wrong = |why: String| Err(Error::corrupt(format!("chunk at {at}: {why}")));
        if self.len == 0 || at.checked_add(self.len).is_none() {
            return wrong(format!(
                "its {} bytes don't fit the address space",
                self.len
            ));
        }
        if self.stripes.is_empty() {
            return wrong("it has no stripes".into());
        }
        let parity_or_striped = self.flags & profile::PROFILE_MASK;
        if parity_or_striped.count_ones() > 1 {
            return wrong(format!(
                "it has several profiles at once (flags {:#x})",
                self.flags
            ));
        }
        if self.flags & profile::TYPE_MASK == 0 {
            return wrong(format!("it holds nothing known (flags {:#x})", self.flags));
        }
        if self.stripe_len == 0 || !self.stripe_len.is_power_of_two() {
            return wrong(format!("its stripe length is {}", self.stripe_len));
        }
        // No stripe is longer than the whole chunk, whatever the profile.
        if let Some((dev, physical)) = self
            .stripes
            .iter()
            .find(|(_, physical)| physical.checked_add(self.len).is_none())
        {
            return wrong(format!("its stripe at {physical} of device {dev} wraps"));
        }
        match self.flags & profile::PROFILE_MASK {
            0 if self.stripes.len() != 1 => {
                wrong(format!("single, with {} stripes", self.stripes.len()))
            }
            profile::DUP if self.stripes.len() != 2 => {
                wrong(format!("dup, with {} stripes", self.stripes.len()))
            }
            _ => Ok(()),
        }
    }

    /// How many copies of each byte there are, if we can reach them.
    pub fn copies(&self) -> Result<usize> {
        match self.flags & profile::PROFILE_MASK {
            0 | profile::DUP => Ok(self.stripes.len()),
            _ => Err(Error::Unsupported(format!(
                "chunks of profile {} (flags {:#x}) can't be read or written yet: convert the \
                 filesystem to single or dup on one device (btrfs balance -dconvert=single \
                 -mconvert=dup)",
                profile::name(self.flags),
                self.flags
            ))),
        }
    }

    /// Where `len` bytes at `offset` into the chunk are. The answer may be shorter: up to the
    /// end of the chunk (and, for striped profiles, of the stripe).
    fn map(&self, offset: u64, len: u64) -> Result<Extent> {
        self.copies()?;
        let copies = self
            .stripes
            .iter()
            .map(|&(dev, physical)| (dev, Physical(physical.get() + offset)))
            .collect();
        Ok(Extent {
            len: len.min(self.len - offset),
            copies,
        })
    }
}

/// Every chunk of a filesystem.
#[derive(Debug, Default)]
pub struct ChunkMap {
    chunks: RwLock<BTreeMap<u64, Arc<ChunkMapping>>>,
}

impl ChunkMap {
    /// Adds a chunk.
    ///
    /// # Errors
    /// It is malformed, or overlaps another one. Adding the very same one again is fine: system
    /// chunks are met in the superblock first and in the chunk tree later.
    pub fn insert_chunk(&self, at: Logical, mapping: ChunkMapping) -> Result<()> {
        mapping.validate(at)?;
        let end = at.get() + mapping.len;
        let mut chunks = self.chunks.write();
        if let Some((&start, other)) = chunks.range(..end).next_back()
            && start + other.len > at.get()
        {
            if start == at.get() && **other == mapping {
                return Ok(());
            }
            return Err(Error::corrupt(format!(
                "chunk at {at} with {} bytes overlaps the one at {start} with {}",
                mapping.len, other.len
            )));
        }
        chunks.insert(at.get(), Arc::new(mapping));
        Ok(())
    }

    /// Takes a chunk out that begins at `at`.
    pub fn remove_chunk(&self, at: Logical) -> Option<Arc<ChunkMapping>> {
        self.chunks.write().remove(&at.get())
    }

    /// The chunk that holds `at`, with its beginning.
    pub fn chunk_at(&self, at: Logical) -> Option<(Logical, Arc<ChunkMapping>)> {
        let chunks = self.chunks.read();
        let (&start, chunk) = chunks.range(..=at.get()).next_back()?;
        (at.get() - start < chunk.len).then(|| (Logical(start), Arc::clone(chunk)))
    }

    /// Every chunk, in order.
    pub fn all(&self) -> Vec<(Logical, Arc<ChunkMapping>)> {
        let chunks = self.chunks.read();
        chunks
            .iter()
            .map(|(&start, chunk)| (Logical(start), Arc::clone(chunk)))
            .collect()
    }

    /// Where the bytes at `at` are; at least one, at most `len`.
    pub fn map(&self, at: Logical, len: u64) -> Result<Extent> {
        let Some((start, chunk)) = self.chunk_at(at) else {
            return Err(Error::corrupt(format!("address {at} lies in no chunk")));
        };
        chunk.map(at.get() - start.get(), len)
    }

    /// How many copies of the bytes at `at` there are.
    pub fn copies_at(&self, at: Logical) -> Result<usize> {
        match self.chunk_at(at) {
            Some((_, chunk)) => chunk.copies(),
            None => Err(Error::corrupt(format!("address {at} lies in no chunk"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dup(len: u64, first: u64, second: u64) -> ChunkMapping {
        ChunkMapping {
            len,
            flags: profile::METADATA | profile::DUP,
            stripe_len: 65536,
            sub_stripes: 0,
            stripes: vec![(DevId(1), Physical(first)), (DevId(1), Physical(second))],
        }
    }

    #[test]
    fn an_address_maps_to_every_copy_up_to_the_end_of_its_chunk() {
        let map = ChunkMap::default();
        map.insert_chunk(Logical(1000), dup(100, 5000, 9000))
            .unwrap();
        let extent = map.map(Logical(1030), 500).unwrap();
        assert_eq!(extent.len, 70);
        assert_eq!(
            extent.copies,
            [(DevId(1), Physical(5030)), (DevId(1), Physical(9030))]
        );
        assert!(map.map(Logical(1100), 1).is_err());
        assert!(map.map(Logical(999), 1).is_err());
        assert_eq!(map.remove_chunk(Logical(1000)).unwrap().len, 100);
        assert!(map.map(Logical(1030), 1).is_err());
    }

    #[test]
    fn overlaps_are_refused_and_repetition_is_not() {
        let map = ChunkMap::default();
        map.insert_chunk(Logical(1000), dup(100, 5000, 9000))
            .unwrap();
        map.insert_chunk(Logical(1000), dup(100, 5000, 9000))
            .unwrap();
        map.insert_chunk(Logical(1100), dup(100, 6000, 7000))
            .unwrap();
        for (at, len) in [(1000, 100), (950, 51), (1099, 1), (900, 1000)] {
            assert!(
                map.insert_chunk(Logical(at), dup(len, 1, 2)).is_err(),
                "{at} {len}"
            );
        }
    }

    #[test]
    fn hostile_chunks_are_refused() {
        let good = dup(100, 5000, 9000);
        let at = Logical(1000);
        assert!(good.validate(at).is_ok());
        assert!(good.validate(Logical(u64::MAX - 50)).is_err());
        assert!(
            ChunkMapping {
                len: 0,
                ..good.clone()
            }
            .validate(at)
            .is_err()
        );
        assert!(
            ChunkMapping {
                stripes: vec![],
                ..good.clone()
            }
            .validate(at)
            .is_err()
        );
        assert!(
            ChunkMapping {
                stripe_len: 3,
                ..good.clone()
            }
            .validate(at)
            .is_err()
        );
        assert!(
            ChunkMapping {
                flags: profile::METADATA,
                ..good.clone()
            }
            .validate(at)
            .is_err()
        );
        assert!(
            ChunkMapping {
                flags: profile::DUP,
                ..good.clone()
            }
            .validate(at)
            .is_err()
        );
        assert!(dup(100, 1, u64::MAX - 5).validate(at).is_err());
        let two = profile::RAID0 | profile::RAID1 | profile::DATA;
        assert!(
            ChunkMapping {
                flags: two,
                ..good.clone()
            }
            .validate(at)
            .is_err()
        );
    }

    #[test]
    fn a_profile_that_is_not_done_is_named() {
        let map = ChunkMap::default();
        let raid = ChunkMapping {
            flags: profile::DATA | profile::RAID6,
            ..dup(100, 1, 2)
        };
        map.insert_chunk(Logical(0), raid).unwrap();
        let error = map.map(Logical(0), 1).unwrap_err();
        assert!(
            matches!(&error, Error::Unsupported(why) if why.contains("raid6")),
            "{error}"
        );
    }
}
