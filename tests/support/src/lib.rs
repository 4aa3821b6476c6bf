//! What the tests stand on: images, mounts by the kernel and by us, the judges (`btrfs check`,
//! the kernel and its log), walks that can be compared, and operation scripts with a model.
//!
//! Nothing in here skips: a missing tool, device or image panics with a sentence that says what
//! is missing. Nothing in here names the library: the tests see btrfuse as a user does.

pub mod bad_disk;
pub mod btrfuse_mount;
pub mod check;
pub mod command;
pub mod compare;
pub mod daemon_log;
pub mod dump;
pub mod fault_plan;
pub mod golden;
pub mod image;
pub mod judge;
pub mod kernel_log;
pub mod loop_mount;
pub mod many;
pub mod ring;
pub mod rng;
pub mod script;
pub mod shell;
pub mod stuck;
pub mod walk;

pub use bad_disk::BadDisk;
pub use btrfuse_mount::{BtrfuseMount, btrfuse_binary};
pub use check::btrfs_check;
pub use command::{Finished, run, run_any};
pub use compare::{Inodes, Rules, differences};
pub use daemon_log::assert_quiet;
pub use fault_plan::FaultPlan;
pub use image::Image;
pub use judge::Judge;
pub use kernel_log::KernelLog;
pub use loop_mount::LoopMount;
pub use rng::Rng;
pub use script::Story;
pub use walk::{Manifest, Record, walk};

/// A fresh folder for one test, removed with it. Under `/var/tmp`: images are large and sparse,
/// and `/tmp` is often memory.
pub fn temp_dir() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("btrfuse-test-")
        .tempdir_in("/var/tmp")
        .expect("a temporary folder under /var/tmp")
}

/// The mount tests change what the machine shows to others, and need the kernel as a judge.
pub fn need_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test mounts images with the kernel and must run as root"
    );
}
