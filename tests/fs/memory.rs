//! What stays in memory: a bounded number of inodes, whatever the kernel remembers, and every
//! inode that can't be found again.

use crate::meaning::{caller, end, on_fresh, refused};
use crate::mounted;
use btrfuse::fs::{Filesystem, MountOptions, NodeId, SetAttr, SetTime, Timestamp, WriteFlags};
use btrfuse_test_support::Image;
use std::sync::Arc;

const ROOT: NodeId = NodeId::ROOT;
const CACHED: usize = 128;

fn small(image: &Image) -> Arc<Filesystem> {
    let options = MountOptions {
        subvolid: Some(5),
        inodes_cached: CACHED,
        background: false,
        ..MountOptions::default()
    };
    mounted(image.path(), &options)
}

fn make(fs: &Filesystem, from: u32, count: u32) -> Vec<NodeId> {
    let make = |number: u32| {
        let name = format!("file-{number}");
        let made = fs.mknod(&caller(), ROOT, name.as_bytes(), libc::S_IFREG | 0o644, 0);
        made.expect("room for a file").node
    };
    (from..from + count).map(make).collect()
}

#[test]
fn inodes_that_the_kernel_remembers_need_not_stay() {
    let image = Image::mkfs_btrfs(256, &[]);
    let fs = small(&image);
    let nodes = make(&fs, 0, 5000);
    fs.sync().unwrap();
    // A cached one leaves when another comes.
    make(&fs, 5000, 1000);
    fs.sync().unwrap();
    assert!(
        fs.inodes_in_memory() <= 2 * CACHED,
        "{} inodes in memory",
        fs.inodes_in_memory()
    );
    // Each is found by its number, with what was changed when it was in memory last.
    let time = Timestamp { sec: 7, nsec: 9 };
    for &node in &nodes {
        let touch = SetAttr {
            mtime: Some(SetTime::At(time)),
            ..SetAttr::default()
        };
        fs.setattr(&caller(), node, &touch).unwrap();
    }
    for &node in nodes.iter().rev() {
        assert_eq!(fs.getattr(node).unwrap().mtime, time);
    }
    end(fs, image.path());
}

/// Nothing but the next commit would write them.
#[test]
fn changed_inodes_do_not_pile_up_until_the_commit() {
    let image = Image::mkfs_btrfs(400, &[]);
    let fs = small(&image);
    let nodes = make(&fs, 0, 20_000);
    fs.sync().unwrap();
    for &node in &nodes {
        let touch = SetAttr {
            atime: Some(SetTime::Now),
            ..SetAttr::default()
        };
        fs.setattr(&caller(), node, &touch).unwrap();
    }
    assert!(
        fs.inodes_in_memory() < 10_000,
        "{} inodes in memory",
        fs.inodes_in_memory()
    );
    end(fs, image.path());
}

#[test]
fn an_unlinked_inode_stays_until_the_kernel_forgets_it() {
    let image = Image::mkfs_btrfs(256, &[]);
    let fs = small(&image);
    let gone = make(&fs, 0, 3);
    // More lookups than a byte counts.
    for _ in 0..700 {
        fs.lookup(ROOT, b"file-1").unwrap();
    }
    fs.open(gone[2], libc::O_RDWR).unwrap();
    fs.write(gone[2], 0, b"content", WriteFlags::default())
        .unwrap();
    for name in [b"file-0", b"file-1", b"file-2"] {
        fs.unlink(ROOT, name).unwrap();
    }
    make(&fs, 10, 2000);
    fs.sync().unwrap();
    fs.clean().unwrap();
    for &node in &gone {
        assert_eq!(fs.getattr(node).unwrap().nlink, 0);
    }
    fs.forget(gone[0], 1);
    refused(fs.getattr(gone[0]), libc::ESTALE);
    fs.forget(gone[1], 700);
    assert_eq!(fs.getattr(gone[1]).unwrap().nlink, 0);
    fs.forget(gone[1], 1);
    refused(fs.getattr(gone[1]), libc::ESTALE);
    // Open files stay without a lookup, lookups without being open.
    fs.forget(gone[2], 1);
    assert_eq!(fs.read(gone[2], 0, 100).unwrap(), b"content");
    fs.release(gone[2]);
    // Though the read has moved its access time.
    refused(fs.getattr(gone[2]), libc::ESTALE);
    fs.clean().unwrap();
    end(fs, image.path());
}

#[test]
fn a_removed_directory_stays_for_who_stands_in_it() {
    on_fresh(&[], |fs| {
        let dir = fs.mkdir(&caller(), ROOT, b"dir", 0o755).unwrap().node;
        fs.rmdir(ROOT, b"dir").unwrap();
        assert_eq!(fs.lookup(dir, b".").unwrap().nlink, 0);
        fs.forget(dir, 1);
        assert_eq!(fs.getattr(dir).unwrap().nlink, 0);
        refused(fs.mkdir(&caller(), dir, b"inner", 0o755), libc::ENOENT);
        fs.forget(dir, 1);
        refused(fs.getattr(dir), libc::ESTALE);
    });
}
