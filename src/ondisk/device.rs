//! Devices: what the filesystem knows about each, and which of their ranges are allocated.

use super::{U32, U64, Uuid, disk_struct};

/// Nothing below this offset of a device is allocated (`BTRFS_DEVICE_RANGE_RESERVED`).
pub const DEVICE_RANGE_RESERVED: u64 = 1024 * 1024;

disk_struct! {
    /// `struct btrfs_dev_item`: a device. The key is (1, DEV_ITEM, devid); the superblock has a copy
    /// of its own device's.
    #[derive(Copy, Debug)]
    pub struct DevItem, 98 bytes {
        /// The device's number.
        0 => devid: U64,
        /// Its size.
        8 => total_bytes: U64,
        /// Bytes in dev extents.
        16 => bytes_used: U64,
        /// The sector size.
        24 => io_align: U32,
        /// The sector size.
        28 => io_width: U32,
        /// The sector size.
        32 => sector_size: U32,
        /// Zero (`type` in the uapi).
        36 => kind: U64,
        /// Zero.
        44 => generation: U64,
        /// Zero.
        52 => start_offset: U64,
        /// Zero.
        60 => dev_group: U32,
        /// Zero.
        64 => seek_speed: u8,
        /// Zero.
        65 => bandwidth: u8,
        /// The device's uuid.
        66 => uuid: Uuid,
        /// The filesystem's metadata uuid.
        82 => fsid: Uuid,
    }
}

disk_struct! {
    /// `struct btrfs_dev_extent`: an allocated range of a device. The key is (devid, DEV_EXTENT,
    /// start).
    #[derive(Copy, Debug)]
    pub struct DevExtent, 48 bytes {
        /// The chunk tree (3).
        0 => chunk_tree: U64,
        /// Always 256.
        8 => chunk_objectid: U64,
        /// The chunk's logical address.
        16 => chunk_offset: U64,
        /// Bytes of the range.
        24 => length: U64,
        /// The chunk tree's uuid.
        32 => chunk_tree_uuid: Uuid,
    }
}

disk_struct! {
    /// `struct btrfs_dev_stats_item`: error counters of a device.
    #[derive(Copy, Debug)]
    pub struct DevStatsItem, 40 bytes {
        /// Write, read, flush, corruption and generation errors.
        0 => values: [U64; 5],
    }
}

disk_struct! {
    /// `struct btrfs_dev_replace_item`: a device replacement.
    #[derive(Copy, Debug)]
    pub struct DevReplaceItem, 72 bytes {
        /// The device that is replaced.
        0 => src_devid: U64,
        /// How far it has come.
        8 => cursor_left: U64,
        /// Where the range under work ends.
        16 => cursor_right: U64,
        /// Whether the source is avoided for reads.
        24 => cont_reading_from_srcdev_mode: U64,
        /// `DEV_REPLACE_STATE_*`.
        32 => replace_state: U64,
        /// When it started.
        40 => time_started: U64,
        /// When it ended.
        48 => time_stopped: U64,
        /// Write errors.
        56 => num_write_errors: U64,
        /// Read errors.
        64 => num_uncorrectable_read_errors: U64,
    }
}

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
