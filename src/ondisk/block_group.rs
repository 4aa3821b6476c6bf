//! Block groups: how much of a chunk is used; kinds and profiles.

use super::{U64, disk_struct};

/// Holds file data.
pub const BLOCK_GROUP_DATA: u64 = 1 << 0;
/// Holds the chunk tree.
pub const BLOCK_GROUP_SYSTEM: u64 = 1 << 1;
/// Holds all other trees.
pub const BLOCK_GROUP_METADATA: u64 = 1 << 2;
/// Striped over devices.
pub const BLOCK_GROUP_RAID0: u64 = 1 << 3;
/// Two copies on two devices.
pub const BLOCK_GROUP_RAID1: u64 = 1 << 4;
/// Two copies on one device.
pub const BLOCK_GROUP_DUP: u64 = 1 << 5;
/// Striped mirrors.
pub const BLOCK_GROUP_RAID10: u64 = 1 << 6;
/// One parity.
pub const BLOCK_GROUP_RAID5: u64 = 1 << 7;
/// Two parities.
pub const BLOCK_GROUP_RAID6: u64 = 1 << 8;
/// Three copies on three devices.
pub const BLOCK_GROUP_RAID1C3: u64 = 1 << 9;
/// Four copies on four devices.
pub const BLOCK_GROUP_RAID1C4: u64 = 1 << 10;
/// What a block group holds.
pub const BLOCK_GROUP_TYPE_MASK: u64 = BLOCK_GROUP_DATA | BLOCK_GROUP_SYSTEM | BLOCK_GROUP_METADATA;
/// How its bytes are laid on devices; no bit is SINGLE.
pub const BLOCK_GROUP_PROFILE_MASK: u64 = BLOCK_GROUP_RAID0
    | BLOCK_GROUP_RAID1
    | BLOCK_GROUP_DUP
    | BLOCK_GROUP_RAID10
    | BLOCK_GROUP_RAID5
    | BLOCK_GROUP_RAID6
    | BLOCK_GROUP_RAID1C3
    | BLOCK_GROUP_RAID1C4;
/// Stands for SINGLE where a profile bit is needed (balance filters only).
pub const AVAIL_ALLOC_BIT_SINGLE: u64 = 1 << 48;

disk_struct! {
    /// `struct btrfs_block_group_item`: use of a block group. The key is (start, BLOCK_GROUP_ITEM,
    /// length).
    #[derive(Copy, Debug)]
    pub struct BlockGroupItem, 24 bytes {
        /// Bytes allocated.
        0 => used: U64,
        /// Always 256.
        8 => chunk_objectid: U64,
        /// `BLOCK_GROUP_*`, the same as the chunk's type.
        16 => flags: U64,
    }
}

/// The usual name of a profile (`SINGLE` where no bit is set).
pub const fn profile_name(flags: u64) -> &'static str {
    match flags & BLOCK_GROUP_PROFILE_MASK {
        0 => "SINGLE",
        BLOCK_GROUP_RAID0 => "RAID0",
        BLOCK_GROUP_RAID1 => "RAID1",
        BLOCK_GROUP_DUP => "DUP",
        BLOCK_GROUP_RAID10 => "RAID10",
        BLOCK_GROUP_RAID5 => "RAID5",
        BLOCK_GROUP_RAID6 => "RAID6",
        BLOCK_GROUP_RAID1C3 => "RAID1C3",
        BLOCK_GROUP_RAID1C4 => "RAID1C4",
        _ => "several profiles at once",
    }
}

/// What a block group holds and how: `METADATA|DUP`.
pub fn block_group_flags_words(flags: u64) -> String {
    let mut words = Vec::new();
    for (bit, name) in [
        (BLOCK_GROUP_DATA, "DATA"),
        (BLOCK_GROUP_SYSTEM, "SYSTEM"),
        (BLOCK_GROUP_METADATA, "METADATA"),
    ] {
        if flags & bit != 0 {
            words.push(name.to_owned());
        }
    }
    words.push(profile_name(flags).to_owned());
    let unknown = flags & !(BLOCK_GROUP_TYPE_MASK | BLOCK_GROUP_PROFILE_MASK);
    if unknown != 0 {
        words.push(format!("{unknown:#x}"));
    }
    words.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_put_in_words() {
        assert_eq!(
            block_group_flags_words(BLOCK_GROUP_METADATA | BLOCK_GROUP_DUP),
            "METADATA|DUP"
        );
        assert_eq!(block_group_flags_words(BLOCK_GROUP_DATA), "DATA|SINGLE");
        assert_eq!(
            block_group_flags_words(1 << 60),
            "SINGLE|0x1000000000000000"
        );
    }
}
