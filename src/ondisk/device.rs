//! Devices: what the filesystem knows about each, and which of their ranges are allocated.

use super::{U32, U64, Uuid, disk_struct};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Nothing below this offset of a device is allocated (`BTRFS_DEVICE_RANGE_RESERVED`).
pub const DEVICE_RANGE_RESERVED: u64 = 1024 * 1024;

/// `struct btrfs_dev_item`: a device. The key is (1, DEV_ITEM, devid); the superblock has a copy
/// of its own device's.
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
pub struct DevItem {
    /// The device's number.
    pub devid: U64,
    /// Its size.
    pub total_bytes: U64,
    /// Bytes in dev extents.
    pub bytes_used: U64,
    /// The sector size.
    pub io_align: U32,
    /// The sector size.
    pub io_width: U32,
    /// The sector size.
    pub sector_size: U32,
    /// Zero (`type` in the uapi).
    pub kind: U64,
    /// Zero.
    pub generation: U64,
    /// Zero.
    pub start_offset: U64,
    /// Zero.
    pub dev_group: U32,
    /// Zero.
    pub seek_speed: u8,
    /// Zero.
    pub bandwidth: u8,
    /// The device's uuid.
    pub uuid: Uuid,
    /// The filesystem's metadata uuid.
    pub fsid: Uuid,
}

disk_struct!(DevItem, 98);

/// `struct btrfs_dev_extent`: an allocated range of a device. The key is (devid, DEV_EXTENT,
/// start).
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
pub struct DevExtent {
    /// The chunk tree (3).
    pub chunk_tree: U64,
    /// Always 256.
    pub chunk_objectid: U64,
    /// The chunk's logical address.
    pub chunk_offset: U64,
    /// Bytes of the range.
    pub length: U64,
    /// The chunk tree's uuid.
    pub chunk_tree_uuid: Uuid,
}

disk_struct!(DevExtent, 48);

/// `struct btrfs_dev_stats_item`: error counters of a device.
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
pub struct DevStatsItem {
    /// Write, read, flush, corruption and generation errors.
    pub values: [U64; 5],
}

disk_struct!(DevStatsItem, 40);

/// `struct btrfs_dev_replace_item`: a device replacement.
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
pub struct DevReplaceItem {
    /// The device that is replaced.
    pub src_devid: U64,
    /// How far it has come.
    pub cursor_left: U64,
    /// Where the range under work ends.
    pub cursor_right: U64,
    /// Whether the source is avoided for reads.
    pub cont_reading_from_srcdev_mode: U64,
    /// `DEV_REPLACE_STATE_*`.
    pub replace_state: U64,
    /// When it started.
    pub time_started: U64,
    /// When it ended.
    pub time_stopped: U64,
    /// Write errors.
    pub num_write_errors: U64,
    /// Read errors.
    pub num_uncorrectable_read_errors: U64,
}

disk_struct!(DevReplaceItem, 72);

/// No replacement was ever started.
pub const DEV_REPLACE_STATE_NEVER_STARTED: u64 = 0;
/// One is under way.
pub const DEV_REPLACE_STATE_STARTED: u64 = 1;
/// The last one ended well.
pub const DEV_REPLACE_STATE_FINISHED: u64 = 2;
/// The last one was cancelled.
pub const DEV_REPLACE_STATE_CANCELED: u64 = 3;
/// One was interrupted and will go on.
pub const DEV_REPLACE_STATE_SUSPENDED: u64 = 4;
