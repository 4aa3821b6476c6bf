//! Chunks: which device bytes a logical range has.

use super::{DiskKey, Key, U16, U32, U64, Uuid, disk_struct};
use crate::units::{DevId, Physical};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The only stripe length there is (`BTRFS_STRIPE_LEN`).
pub const STRIPE_LEN: u64 = 64 * 1024;

/// `struct btrfs_stripe`: one device range of a chunk.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct Stripe {
    /// The device.
    pub devid: U64,
    /// Where the range starts on it.
    pub offset: U64,
    /// The device's uuid.
    pub dev_uuid: Uuid,
}

disk_struct!(Stripe, 32);

impl Stripe {
    /// Device and offset.
    pub fn place(&self) -> (DevId, Physical) {
        (DevId(self.devid.get()), Physical(self.offset.get()))
    }
}

/// `struct btrfs_chunk` without its stripes, which follow. The key is (256, CHUNK_ITEM, logical
/// address).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct Chunk {
    /// Logical bytes.
    pub length: U64,
    /// The extent tree (2).
    pub owner: U64,
    /// Always 64 KiB.
    pub stripe_len: U64,
    /// `BLOCK_GROUP_*` (`type` in the uapi).
    pub kind: U64,
    /// Always 64 KiB, once the stripe length.
    pub io_align: U32,
    /// Always 64 KiB, once the stripe length.
    pub io_width: U32,
    /// The sector size.
    pub sector_size: U32,
    /// Stripes that follow.
    pub num_stripes: U16,
    /// 2 in RAID10, else 1 (or 0 in old images).
    pub sub_stripes: U16,
}

disk_struct!(Chunk, 48);

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
