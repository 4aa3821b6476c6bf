//! What the harness stands on, against itself: nothing of one test reaches another.

use btrfuse_test_support::{Image, LoopMount};
use std::fs::{read, write};

/// A mount that detached its loop device twice took the second time what another test had
/// attached there meanwhile; that one was refused, or saw a third's files.
#[test]
fn kernel_mounts_side_by_side_show_their_own_images() {
    std::thread::scope(|scope| {
        for name in ["one", "two", "three", "four"] {
            scope.spawn(move || {
                let image = Image::mkfs_btrfs(120, &[]);
                let mount = LoopMount::read_write(image.path());
                write(mount.path().join("whose"), name).unwrap();
                mount.unmount();
                for _ in 0..30 {
                    let mount = LoopMount::read_only(image.path());
                    let whose = read(mount.path().join("whose")).unwrap();
                    assert_eq!(String::from_utf8(whose).unwrap(), name);
                    mount.unmount();
                }
            });
        }
    });
}
