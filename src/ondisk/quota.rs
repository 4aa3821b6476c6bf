//! Quota groups. Their accounting is not kept: a writer marks it inconsistent.

use super::{U64, disk_struct};

/// Quotas are on.
pub const QGROUP_STATUS_FLAG_ON: u64 = 1 << 0;
/// A rescan is under way.
pub const QGROUP_STATUS_FLAG_RESCAN: u64 = 1 << 1;
/// Numbers are out of date, a rescan is needed.
pub const QGROUP_STATUS_FLAG_INCONSISTENT: u64 = 1 << 2;
/// Simple quotas.
pub const QGROUP_STATUS_FLAG_SIMPLE_MODE: u64 = 1 << 3;

disk_struct! {
    /// `struct btrfs_qgroup_status_item`.
    #[derive(Copy, Debug)]
    pub struct QgroupStatusItem, 32 bytes {
        /// Always 1.
        0 => version: U64,
        /// The last transaction that accounting took part in.
        8 => generation: U64,
        /// `QGROUP_STATUS_FLAG_*`.
        16 => flags: U64,
        /// How far a rescan has come, a logical address.
        24 => rescan: U64,
    }
}

disk_struct! {
    /// What follows a [`QgroupStatusItem`] where simple quotas are on: the fifth field of
    /// `struct btrfs_qgroup_status_item`.
    #[derive(Copy, Debug)]
    pub struct QgroupStatusSimple, 8 bytes {
        /// The transaction that turned simple quotas on; older extents count for nobody.
        0 => enable_gen: U64,
    }
}

disk_struct! {
    /// `struct btrfs_qgroup_info_item`.
    #[derive(Copy, Debug)]
    pub struct QgroupInfoItem, 40 bytes {
        /// The transaction of the last change.
        0 => generation: U64,
        /// Bytes referenced.
        8 => rfer: U64,
        /// The same, compressed.
        16 => rfer_cmpr: U64,
        /// Bytes that nobody else references.
        24 => excl: U64,
        /// The same, compressed.
        32 => excl_cmpr: U64,
    }
}

disk_struct! {
    /// `struct btrfs_qgroup_limit_item`.
    #[derive(Copy, Debug)]
    pub struct QgroupLimitItem, 40 bytes {
        /// Which limits are on.
        0 => flags: U64,
        /// Most bytes referenced.
        8 => max_rfer: U64,
        /// Most bytes exclusive.
        16 => max_excl: U64,
        /// Reserved of the first.
        24 => rsv_rfer: U64,
        /// Reserved of the second.
        32 => rsv_excl: U64,
    }
}
