//! Orphan items that others left on an image: the next writable mount takes what they stand for
//! away, in every subvolume, and dump-tree finds none any more.

use crate::meaning::{caller, on_fresh};
use crate::{mounted, options};
use btrfuse::commit::{OpenOptions, open};
use btrfuse::fs::{NodeId, XattrMode};
use btrfuse::ondisk::{InodeItem, Key, ids, kind};
use btrfuse::volume::{FileDevice, Volume};
use btrfuse_test_support::{Image, LoopMount, btrfs_check, golden, run};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Orphan items in all trees, by the word of somebody else.
fn orphans(image: &Path) -> usize {
    let mut dump = Command::new("btrfs");
    dump.args(["inspect-internal", "dump-tree"]);
    let dump = run(dump.arg(image)).stdout;
    dump.matches(" ORPHAN_ITEM ").count()
}

fn mount_and_unmount(image: &Image) {
    let fs = mounted(image.path(), &options(false));
    fs.unmount().unwrap();
    drop(fs);
    assert_eq!(orphans(image.path()), 0);
    btrfs_check(image.path());
}

/// What an old kernel leaves of a file that it was cutting: the new size, and an orphan item.
fn interrupt_a_cut(image: &Path, objectid: u64, size: u64) {
    let device = FileDevice::open(image, false).unwrap();
    let (volume, superblock) = Volume::open(vec![Arc::new(device)], false).unwrap();
    let options = OpenOptions {
        background: false,
        ..OpenOptions::default()
    };
    let engine = open(Arc::new(volume), superblock, &options).unwrap();
    let ctx = &engine.ctx;
    let root = ctx.roots.get(ctx, ids::FS_TREE_OBJECTID).unwrap();
    let trans = ctx.transactions.join().unwrap();
    let orphan = Key::new(ids::ORPHAN_OBJECTID, kind::ORPHAN_ITEM, objectid);
    ctx.insert(&trans, &root, &orphan, &[]).unwrap();
    let inode = Key::new(objectid, kind::INODE_ITEM, 0);
    let found = ctx.modify(&trans, &root, &inode, |item| {
        let inode = InodeItem::read_mut(item).expect("an inode item");
        inode.size.set(size);
    });
    assert!(found.unwrap());
    drop(trans);
    engine.shutdown().unwrap();
}

/// What is open without a name is on the image as that, and nothing else is.
#[test]
fn only_what_has_no_name_is_written_down() {
    let image = Image::mkfs_btrfs(256, &[]);
    let fs = mounted(image.path(), &options(false));
    let named = fs.tmpfile(&caller(), NodeId::ROOT, 0o644).unwrap();
    fs.link(named.node, NodeId::ROOT, b"named").unwrap();
    let file = fs
        .create(&caller(), NodeId::ROOT, b"file", 0o644, libc::O_RDWR)
        .unwrap();
    fs.unlink(NodeId::ROOT, b"file").unwrap();
    fs.sync().unwrap();
    let cut = image.copy();
    assert_eq!(orphans(cut.path()), 1);
    btrfs_check(cut.path());
    fs.release(file.node);
    fs.unmount().unwrap();
    drop(fs);
    assert_eq!(orphans(image.path()), 0);
    btrfs_check(image.path());
}

/// The kernel crashed with unlinked files and `O_TMPFILE`s open.
#[test]
fn the_kernels_orphans_are_removed() {
    let image = golden::named("orphans-s11").image();
    let before = orphans(image.path());
    assert!(before > 0, "the image is about orphans");
    let fs = mounted(image.path(), &options(true));
    let full = fs.statfs().unwrap().free;
    fs.unmount().unwrap();
    drop(fs);
    assert_eq!(orphans(image.path()), before, "a read-only mount cleaned");
    mount_and_unmount(&image);
    let fs = mounted(image.path(), &options(true));
    assert!(fs.statfs().unwrap().free > full, "their space isn't free");
    fs.unmount().unwrap();
}

/// Not only the tree that is mounted: in a subvolume and in a snapshot, which share what goes.
#[test]
fn orphans_of_every_subvolume_are_removed() {
    let image = Image::mkfs_btrfs(300, &[]);
    let kernel = LoopMount::read_write(image.path());
    let at = |name: &str| kernel.path().join(name);
    let btrfs = |words: &[&str], paths: &[&Path]| {
        run(Command::new("btrfs").args(words).args(paths));
    };
    btrfs(&["subvolume", "create"], &[&at("sub")]);
    std::fs::write(at("sub/gone"), vec![7; 3 << 20]).unwrap();
    std::fs::write(at("sub/kept"), vec![8; 300_000]).unwrap();
    let gone = std::fs::metadata(at("sub/gone")).unwrap().ino();
    btrfs(&["subvolume", "snapshot"], &[&at("sub"), &at("snap")]);
    // Frozen with the file still in it, and so it stays.
    btrfs(
        &["subvolume", "snapshot", "-r"],
        &[&at("sub"), &at("frozen")],
    );
    kernel.unmount();
    for (name, tree) in [(&b"sub"[..], 256), (b"snap", 257)] {
        let fs = mounted(image.path(), &options(false));
        let dir = fs.lookup(NodeId::ROOT, name).unwrap().node;
        let file = fs.lookup(dir, b"gone").unwrap();
        assert_eq!(file.objectid, gone);
        fs.unlink(dir, b"gone").unwrap();
        // The inode is looked up, so its items stay through this commit; then the power goes.
        fs.sync().unwrap();
        let cut = image.copy();
        fs.unmount().unwrap();
        drop(fs);
        assert_eq!(orphans(cut.path()), 1, "tree {tree}");
        btrfs_check(cut.path());
        std::fs::copy(cut.path(), image.path()).unwrap();
    }
    assert_eq!(
        orphans(image.path()),
        1,
        "the first one went with the second mount"
    );
    mount_and_unmount(&image);
    let kernel = LoopMount::read_only(image.path());
    let at = |name: &str| kernel.path().join(name);
    assert_eq!(std::fs::read(at("frozen/gone")).unwrap(), vec![7; 3 << 20]);
    for name in ["sub", "snap"] {
        assert!(!at(name).join("gone").exists());
        assert_eq!(std::fs::read(at(name).join("kept")).unwrap(), [8; 300_000]);
    }
    kernel.unmount();
}

/// More items than one transaction deletes: none is left behind.
#[test]
fn inodes_with_many_attributes_go_whole() {
    on_fresh(&["-n", "4096"], |fs| {
        let c = caller();
        for attributes in [63, 64, 65, 300] {
            let name = format!("with-{attributes}").into_bytes();
            let made = fs.mknod(&c, NodeId::ROOT, &name, libc::S_IFREG | 0o644, 0);
            let file = made.unwrap().node;
            for number in 0..attributes {
                let attribute = format!("user.attribute-{number}");
                fs.setxattr(file, attribute.as_bytes(), b"x", XattrMode::Create, false)
                    .unwrap();
            }
            fs.unlink(NodeId::ROOT, &name).unwrap();
            fs.forget(file, 1);
        }
        fs.clean().unwrap();
    });
}

/// Kernels before 4.20 wrote an orphan item before they cut a file: the cut is completed.
#[test]
fn an_interrupted_cut_is_completed() {
    let image = Image::mkfs_btrfs(300, &[]);
    let kernel = LoopMount::read_write(image.path());
    let path = kernel.path().join("file");
    std::fs::write(&path, vec![7; 1 << 20]).unwrap();
    let objectid = std::fs::metadata(&path).unwrap().ino();
    kernel.unmount();
    interrupt_a_cut(image.path(), objectid, 10_000);
    assert_eq!(orphans(image.path()), 1);
    mount_and_unmount(&image);
    let kernel = LoopMount::read_only(image.path());
    let path = kernel.path().join("file");
    assert_eq!(std::fs::read(&path).unwrap(), [7; 10_000]);
    assert_eq!(std::fs::metadata(&path).unwrap().blocks() * 512, 12_288);
    kernel.unmount();
}
