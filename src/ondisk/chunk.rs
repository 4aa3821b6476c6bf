//! Chunks: which device bytes a logical range has.

use super::{DiskKey, Key, U16, U32, U64, Uuid, disk_struct};
use crate::units::{DevId, Physical};
use zerocopy::{FromBytes, IntoBytes};

/// The only stripe length there is (`BTRFS_STRIPE_LEN`).
pub const STRIPE_LEN: u64 = 64 * 1024;

disk_struct! {
    /// `struct btrfs_stripe`: one device range of a chunk.
    #[derive(Copy, Debug)]
    pub struct Stripe, 32 bytes {
        /// The device.
        0 => devid: U64,
        /// Where the range starts on it.
        8 => offset: U64,
        /// The device's uuid.
        16 => dev_uuid: Uuid,
    }
}

impl Stripe {
    /// Device and offset.
    pub fn place(&self) -> (DevId, Physical) {
        (DevId(self.devid.get()), Physical(self.offset.get()))
    }
}

disk_struct! {
    /// `struct btrfs_raid_stride`: a piece of a data extent on one device, in the items of the RAID
    /// stripe tree (`struct btrfs_stripe_extent` is a row of them). The key is (logical address,
    /// RAID_STRIPE, bytes).
    #[derive(Copy, Debug)]
    pub struct RaidStride, 16 bytes {
        /// The device.
        0 => devid: U64,
        /// Where the piece starts on it.
        8 => physical: U64,
    }
}

impl RaidStride {
    /// The strides of an item; `None` when something is left over.
    pub fn all(data: &[u8]) -> Option<&[Self]> {
        <[Self]>::ref_from_bytes(data).ok()
    }
}

disk_struct! {
    /// `struct btrfs_chunk` without its stripes, which follow. The key is (256, CHUNK_ITEM, logical
    /// address).
    #[derive(Copy, Debug)]
    pub struct Chunk, 48 bytes {
        /// Logical bytes.
        0 => length: U64,
        /// The extent tree (2).
        8 => owner: U64,
        /// Always 64 KiB.
        16 => stripe_len: U64,
        /// `BLOCK_GROUP_*` (`type` in the uapi).
        24 => kind: U64,
        /// Always 64 KiB, once the stripe length.
        32 => io_align: U32,
        /// Always 64 KiB, once the stripe length.
        36 => io_width: U32,
        /// The sector size.
        40 => sector_size: U32,
        /// Stripes that follow.
        44 => num_stripes: U16,
        /// 2 in RAID10, else 1 (or 0 in old images).
        46 => sub_stripes: U16,
    }
}

impl Chunk {
    /// Bytes of a chunk item with `num_stripes` stripes.
    pub const fn item_size(num_stripes: usize) -> usize {
        Self::SIZE + num_stripes * Stripe::SIZE
    }

    /// A chunk item's head and stripes, or `None` where the bytes are too short or there is no
    /// stripe. Bytes behind the last stripe are left alone.
    pub fn parse(data: &[u8]) -> Option<(&Self, &[Stripe])> {
        let head = Self::read(data)?;
        let count = usize::from(head.num_stripes.get());
        let stripes = data.get(Self::SIZE..Self::item_size(count))?;
        let stripes = <[Stripe]>::ref_from_bytes(stripes).ok()?;
        (!stripes.is_empty()).then_some((head, stripes))
    }

    /// The bytes of a chunk item.
    pub fn encode(&self, stripes: &[Stripe]) -> Vec<u8> {
        let mut head = *self;
        head.num_stripes.set(stripes.len() as u16);
        [head.as_bytes(), stripes.as_bytes()].concat()
    }
}

/// One chunk of a superblock's `sys_chunk_array`.
#[derive(Clone, Copy, Debug)]
pub struct SysChunk<'s> {
    /// Its key; the offset is the logical address.
    pub key: Key,
    /// The head.
    pub chunk: &'s Chunk,
    /// The stripes.
    pub stripes: &'s [Stripe],
}

/// The chunks of a `sys_chunk_array`. Stops at bytes that hold no chunk;
/// [`SysChunks::rest`] is empty when everything was read.
#[derive(Clone, Debug)]
pub struct SysChunks<'s> {
    bytes: &'s [u8],
}

impl<'s> SysChunks<'s> {
    /// Chunks of the used part of the array.
    pub fn new(bytes: &'s [u8]) -> Self {
        Self { bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'s [u8] {
        self.bytes
    }
}

impl<'s> Iterator for SysChunks<'s> {
    type Item = SysChunk<'s>;

    fn next(&mut self) -> Option<SysChunk<'s>> {
        let key = DiskKey::read(self.bytes)?.get();
        let (chunk, stripes) = Chunk::parse(&self.bytes[DiskKey::SIZE..])?;
        self.bytes = &self.bytes[DiskKey::SIZE + Chunk::item_size(stripes.len())..];
        Some(SysChunk {
            key,
            chunk,
            stripes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_round_trip_and_short_ones_are_refused() {
        let stripe = Stripe {
            devid: 1.into(),
            offset: 4096.into(),
            dev_uuid: [1; 16],
        };
        let head = Chunk {
            length: 8192.into(),
            ..Chunk::default()
        };
        let bytes = head.encode(&[stripe, stripe]);
        let (chunk, stripes) = Chunk::parse(&bytes).expect("well formed");
        assert_eq!((chunk.num_stripes.get(), stripes.len()), (2, 2));
        assert!(Chunk::parse(&bytes[..bytes.len() - 1]).is_none());
        assert!(Chunk::parse(&head.encode(&[])).is_none());
    }
}
