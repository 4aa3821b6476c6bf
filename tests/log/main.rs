//! What an fsync that wrote a log promises: a cut at any write, then the kernel's replay, then the
//! judges. Also what is logged at all, and what isn't.

mod book;
mod cuts;
mod faults;
#[path = "../fs/hashes.rs"]
mod hashes;
mod mounted;
#[path = "../commit/recording.rs"]
mod recording;
mod room;
mod stories;

use btrfuse::fs::{Caller, Filesystem, MountOptions};
use btrfuse::volume::{BlockDevice, MemoryDevice};
use btrfuse_test_support::Image;
use std::fs::File;
use std::sync::Arc;

/// The top level, without threads: every step in order.
fn mount(device: Arc<dyn BlockDevice>) -> Arc<Filesystem> {
    let options = MountOptions {
        subvolid: Some(5),
        background: false,
        // What nobody uses is read from its tree again.
        inodes_cached: 0,
        ..MountOptions::default()
    };
    Filesystem::mount(vec![device], &options).expect("mounts")
}

fn caller() -> Caller {
    Caller {
        umask: 0o022,
        pid: 1,
        ..Caller::default()
    }
}

/// A fresh image in memory, large enough for a second superblock.
fn blank(options: &[&str]) -> MemoryDevice {
    let image = Image::mkfs_btrfs(128, options);
    MemoryDevice::from_reader(File::open(image.path()).unwrap()).unwrap()
}
