//! A balance under way.

use super::{U32, U64, disk_struct};

disk_struct! {
    /// `struct btrfs_disk_balance_args`: filters for one kind of block groups.
    #[derive(Copy, Debug)]
    pub struct DiskBalanceArgs, 136 bytes {
        /// Profiles to operate on.
        0 => profiles: U64,
        /// Usage, or its least and most in two halves.
        8 => usage: U64,
        /// Device.
        16 => devid: U64,
        /// Start of a device range.
        24 => pstart: U64,
        /// End of a device range.
        32 => pend: U64,
        /// Start of a logical range.
        40 => vstart: U64,
        /// End of a logical range.
        48 => vend: U64,
        /// Profile to convert to.
        56 => target: U64,
        /// Which filters are on.
        64 => flags: U64,
        /// Most chunks, or their least and most in two halves.
        72 => limit: U64,
        /// Least stripes.
        80 => stripes_min: U32,
        /// Most stripes.
        84 => stripes_max: U32,
        /// Zero.
        88 => unused: [U64; 6],
    }
}

disk_struct! {
    /// `struct btrfs_balance_item`: the key is (BALANCE, TEMPORARY_ITEM, 0) in the root tree.
    #[derive(Copy, Debug)]
    pub struct BalanceItem, 448 bytes {
        /// Which kinds are balanced, and how.
        0 => flags: U64,
        /// Filters for data.
        8 => data: DiskBalanceArgs,
        /// Filters for metadata.
        144 => meta: DiskBalanceArgs,
        /// Filters for system.
        280 => sys: DiskBalanceArgs,
        /// Zero.
        416 => unused: [U64; 4],
    }
}
