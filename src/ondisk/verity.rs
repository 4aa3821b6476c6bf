//! fs-verity: the size of a file's descriptor.

use super::{U64, disk_struct};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `struct btrfs_verity_descriptor_item`: VERITY_DESC_ITEM at offset 0.
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
pub struct VerityDescriptorItem {
    /// Bytes of the descriptor, which is kept from offset 1 on.
    pub size: U64,
    /// Zero.
    pub reserved: [U64; 2],
    /// Zero.
    pub encryption: u8,
}

disk_struct!(VerityDescriptorItem, 25);
