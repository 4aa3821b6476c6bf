//! Where the first three chunks are, logically and on the device.
//!
//! ```text
//! device: |reserved |system |system |metadata  |metadata  |data  |unallocated ...
//!         0       1 MiB   copy 1  copy 2     copy 1     copy 2
//! ```

use super::MkfsOptions;
use crate::error::{Error, Result};
use crate::ondisk::{
    BLOCK_GROUP_DATA, BLOCK_GROUP_DUP, BLOCK_GROUP_METADATA, BLOCK_GROUP_SYSTEM, Chunk,
    DEVICE_RANGE_RESERVED, STRIPE_LEN, Stripe, Uuid, ids,
};
use crate::units::{GIB, Logical, MIB, round_down};

/// The smallest device, the same as `mkfs.btrfs` wants.
pub const SIZE_MIN: u64 = 109 * MIB;

const SYSTEM_BYTES: u64 = 8 * MIB;
const DATA_BYTES: u64 = 8 * MIB;
const METADATA_BYTES_MIN: u64 = 32 * MIB;

/// One chunk, which is one block group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) start: Logical,
    pub(super) length: u64,
    /// `BLOCK_GROUP_*`.
    pub(super) flags: u64,
    /// Where each copy is on the device.
    pub(super) copies: Vec<u64>,
}

impl Group {
    /// The chunk item's bytes.
    pub(super) fn chunk_item(&self, sectorsize: u32, dev_uuid: &Uuid) -> Vec<u8> {
        let head = Chunk {
            length: self.length.into(),
            owner: ids::EXTENT_TREE_OBJECTID.into(),
            stripe_len: STRIPE_LEN.into(),
            kind: self.flags.into(),
            io_align: (STRIPE_LEN as u32).into(),
            io_width: (STRIPE_LEN as u32).into(),
            sector_size: sectorsize.into(),
            num_stripes: 0.into(), // set by encode
            sub_stripes: 1.into(),
        };
        let stripe = |&offset: &u64| Stripe {
            devid: super::superblock::DEVID.into(),
            offset: offset.into(),
            dev_uuid: *dev_uuid,
        };
        head.encode(&self.copies.iter().map(stripe).collect::<Vec<_>>())
    }
}

/// The plan of a device.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Bytes of the device that the filesystem takes.
    pub(super) total_bytes: u64,
    pub(super) system: Group,
    pub(super) metadata: Group,
    pub(super) data: Group,
}

impl Layout {
    /// Plans a device of `size_bytes`.
    pub(super) fn plan(size_bytes: u64, options: &MkfsOptions) -> Result<Self> {
        if size_bytes < SIZE_MIN {
            return Err(Error::Unsupported(format!(
                "{size_bytes} bytes are too few: a filesystem needs at least {} MiB ({SIZE_MIN} \
                 bytes)",
                SIZE_MIN / MIB
            )));
        }
        let total_bytes = round_down(size_bytes, u64::from(options.sectorsize));
        // A tenth of the device for metadata with its copy, in bounds.
        let metadata_bytes = if size_bytes > 50 * GIB {
            GIB
        } else {
            round_down(size_bytes / 20, STRIPE_LEN).clamp(METADATA_BYTES_MIN, 256 * MIB)
        };
        let mut free = (DEVICE_RANGE_RESERVED, DEVICE_RANGE_RESERVED);
        let mut group = |kind: u64, length: u64, copies: u64| {
            let (logical, physical) = free;
            free = (logical + length, physical + length * copies);
            let profile = if copies == 2 { BLOCK_GROUP_DUP } else { 0 };
            Group {
                start: Logical(logical),
                length,
                flags: kind | profile,
                copies: (0..copies).map(|copy| physical + copy * length).collect(),
            }
        };
        let system = group(BLOCK_GROUP_SYSTEM, SYSTEM_BYTES, 2);
        let metadata = group(BLOCK_GROUP_METADATA, metadata_bytes, 2);
        let data = group(BLOCK_GROUP_DATA, DATA_BYTES, 1);
        debug_assert!(
            free.1 <= total_bytes,
            "the smallest device holds the first chunks"
        );
        Ok(Self {
            total_bytes,
            system,
            metadata,
            data,
        })
    }

    /// All groups by their logical addresses.
    pub(super) fn groups(&self) -> [&Group; 3] {
        [&self.system, &self.metadata, &self.data]
    }

    /// Bytes of the device in chunks.
    pub(super) fn device_bytes_used(&self) -> u64 {
        self.groups()
            .iter()
            .map(|group| group.length * group.copies.len() as u64)
            .sum()
    }

    /// The device offsets of a tree block.
    pub(super) fn copies_of(&self, at: Logical) -> impl Iterator<Item = u64> {
        let group = self
            .groups()
            .into_iter()
            .rev()
            .find(|group| group.start <= at)
            .expect("tree blocks are in the groups");
        group
            .copies
            .iter()
            .map(move |copy| copy + (at.0 - group.start.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(size_bytes: u64) -> Layout {
        Layout::plan(size_bytes, &MkfsOptions::default()).expect("large enough")
    }

    #[test]
    fn groups_fit_the_device_and_do_not_overlap() {
        for size in [
            SIZE_MIN,
            SIZE_MIN + 4095,
            GIB,
            5 * GIB,
            50 * GIB,
            64 * GIB,
            4096 * GIB,
        ] {
            let layout = plan(size);
            let mut ranges: Vec<(u64, u64)> = layout
                .groups()
                .iter()
                .flat_map(|group| group.copies.iter().map(|&at| (at, at + group.length)))
                .collect();
            ranges.sort_unstable();
            assert!(ranges[0].0 >= DEVICE_RANGE_RESERVED);
            assert!(
                ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0),
                "{size}"
            );
            assert!(ranges[ranges.len() - 1].1 <= layout.total_bytes, "{size}");
            let used: u64 = ranges.iter().map(|(start, end)| end - start).sum();
            assert_eq!(used, layout.device_bytes_used());
        }
    }

    #[test]
    fn metadata_grows_with_the_device_as_mkfs_btrfs_lets_it() {
        assert_eq!(plan(256 * MIB).metadata.length, 32 * MIB);
        assert_eq!(plan(GIB).metadata.length, 53_673_984);
        assert_eq!(plan(2 * GIB).metadata.length, 107_347_968);
        assert_eq!(plan(20 * GIB).metadata.length, 256 * MIB);
        assert_eq!(plan(64 * GIB).metadata.length, GIB);
    }

    #[test]
    fn too_small_a_device_is_refused_with_the_least_size() {
        let error = Layout::plan(SIZE_MIN - 1, &MkfsOptions::default()).unwrap_err();
        assert!(error.to_string().contains("at least 109 MiB"), "{error}");
    }
}
