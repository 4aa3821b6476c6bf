//! A balance under way.

use super::{U32, U64, disk_struct};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `struct btrfs_disk_balance_args`: filters for one kind of block groups.
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
pub struct DiskBalanceArgs {
    /// Profiles to operate on.
    pub profiles: U64,
    /// Usage, or its least and most in two halves.
    pub usage: U64,
    /// Device.
    pub devid: U64,
    /// Start of a device range.
    pub pstart: U64,
    /// End of a device range.
    pub pend: U64,
    /// Start of a logical range.
    pub vstart: U64,
    /// End of a logical range.
    pub vend: U64,
    /// Profile to convert to.
    pub target: U64,
    /// Which filters are on.
    pub flags: U64,
    /// Most chunks, or their least and most in two halves.
    pub limit: U64,
    /// Least stripes.
    pub stripes_min: U32,
    /// Most stripes.
    pub stripes_max: U32,
    /// Zero.
    pub unused: [U64; 6],
}

disk_struct!(DiskBalanceArgs, 136);

/// `struct btrfs_balance_item`: the key is (BALANCE, TEMPORARY_ITEM, 0) in the root tree.
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
pub struct BalanceItem {
    /// Which kinds are balanced, and how.
    pub flags: U64,
    /// Filters for data.
    pub data: DiskBalanceArgs,
    /// Filters for metadata.
    pub meta: DiskBalanceArgs,
    /// Filters for system.
    pub sys: DiskBalanceArgs,
    /// Zero.
    pub unused: [U64; 4],
}

disk_struct!(BalanceItem, 448);
