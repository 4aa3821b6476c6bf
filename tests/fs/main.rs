//! The filesystem layer without a kernel in between: operations by function call, judged by
//! `btrfs check` and a kernel mount.

mod collisions;
mod during_commit;
mod golden;
mod hashes;
mod limits;
mod meaning;
mod memory;
mod operations;
mod orphans;
mod player;
mod side_by_side;
mod stories;
mod subvolumes;
mod walk;

use btrfuse::fs::{Filesystem, MountOptions};
use btrfuse::volume::{BlockDevice, FileDevice};
use std::path::Path;
use std::sync::Arc;

/// The top level, without threads: every step in order.
fn options(read_only: bool) -> MountOptions {
    MountOptions {
        read_only,
        subvolid: Some(5),
        background: false,
        ..MountOptions::default()
    }
}

fn mounted(image: &Path, options: &MountOptions) -> Arc<Filesystem> {
    let device = FileDevice::open(image, options.read_only).expect("opens");
    let device: Arc<dyn BlockDevice> = Arc::new(device);
    Filesystem::mount(vec![device], options).expect("mounts")
}
