//! Quota groups. Their accounting is not kept: a writer marks it inconsistent.

use super::{U64, disk_struct};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Quotas are on.
pub const QGROUP_STATUS_FLAG_ON: u64 = 1 << 0;
/// A rescan is under way.
pub const QGROUP_STATUS_FLAG_RESCAN: u64 = 1 << 1;
/// Numbers are out of date, a rescan is needed.
pub const QGROUP_STATUS_FLAG_INCONSISTENT: u64 = 1 << 2;
/// Simple quotas.
pub const QGROUP_STATUS_FLAG_SIMPLE_MODE: u64 = 1 << 3;

/// `struct btrfs_qgroup_status_item`.
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
pub struct QgroupStatusItem {
    /// Always 1.
    pub version: U64,
    /// The last transaction that accounting took part in.
    pub generation: U64,
    /// `QGROUP_STATUS_FLAG_*`.
    pub flags: U64,
    /// How far a rescan has come, a logical address.
    pub rescan: U64,
}

// A fifth field, enable_gen, follows where simple quotas are on.
disk_struct!(QgroupStatusItem, 32);

/// `struct btrfs_qgroup_info_item`.
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
pub struct QgroupInfoItem {
    /// The transaction of the last change.
    pub generation: U64,
    /// Bytes referenced.
    pub rfer: U64,
    /// The same, compressed.
    pub rfer_cmpr: U64,
    /// Bytes that nobody else references.
    pub excl: U64,
    /// The same, compressed.
    pub excl_cmpr: U64,
}

disk_struct!(QgroupInfoItem, 40);

/// `struct btrfs_qgroup_limit_item`.
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
pub struct QgroupLimitItem {
    /// Which limits are on.
    pub flags: U64,
    /// Most bytes referenced.
    pub max_rfer: U64,
    /// Most bytes exclusive.
    pub max_excl: U64,
    /// Reserved of the first.
    pub rsv_rfer: U64,
    /// Reserved of the second.
    pub rsv_excl: U64,
}

disk_struct!(QgroupLimitItem, 40);
