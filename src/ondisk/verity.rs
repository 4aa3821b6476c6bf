//! fs-verity: the size of a file's descriptor.

use super::{U64, disk_struct};

disk_struct! {
    /// `struct btrfs_verity_descriptor_item`: VERITY_DESC_ITEM at offset 0.
    #[derive(Copy, Debug)]
    pub struct VerityDescriptorItem, 25 bytes {
        /// Bytes of the descriptor, which is kept from offset 1 on.
        0 => size: U64,
        /// Zero.
        8 => reserved: [U64; 2],
        /// Zero.
        24 => encryption: u8,
    }
}
