//! What a mount can be told.

use crate::extent_buffer::Kind;
use crate::units::MIB;

/// When a read moves the access time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtimeMode {
    /// When it is not newer than the other times, or older than a day.
    #[default]
    Relatime,
    /// At each read.
    Strict,
    /// Never.
    Off,
}

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Change nothing, not even for recovery.
    pub read_only: bool,
    /// The subvolume to mount, as a path from the top level.
    pub subvol: Option<Vec<u8>>,
    /// The subvolume to mount, by tree id.
    pub subvolid: Option<u64>,
    /// Seconds between commits.
    pub commit_interval_secs: u64,
    /// The bound of the tree block cache.
    pub metadata_cache_bytes: u64,
    /// Inodes that stay in memory for having been used lately.
    pub inodes_cached: usize,
    /// Show the last commit instead of replaying the log of later fsyncs; read-only mounts.
    pub nologreplay: bool,
    /// Make an fsync durable with a log of the inode, where that is enough; else with a commit.
    pub treelog: bool,
    /// When reads move access times.
    pub atime: AtimeMode,
    /// Listings don't move a directory's.
    pub nodiratime: bool,
    /// Tell the device about freed space.
    pub discard: bool,
    /// Users delete subvolumes that they could remove as directories.
    pub user_subvol_rm_allowed: bool,
    /// The lifetime protocol of tree blocks; another than the build's own only in the lab.
    pub protocol: Kind,
    /// The kernel's writeback cache keeps the content times of files and tells them by setattr:
    /// fallocate and copies then leave them alone, or a later clock of ours would stay on disk.
    pub kernel_keeps_times: bool,
    /// Run the commit timer and the cleaner. Without them the caller commits and cleans by
    /// itself: tests want every step in order.
    pub background: bool,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            subvol: None,
            subvolid: None,
            commit_interval_secs: 30,
            metadata_cache_bytes: 64 * MIB,
            inodes_cached: 16384,
            nologreplay: false,
            treelog: true,
            atime: AtimeMode::Relatime,
            nodiratime: false,
            discard: false,
            user_subvol_rm_allowed: false,
            protocol: Kind::BUILD,
            kernel_keeps_times: false,
            background: true,
        }
    }
}
