//! One operation after the other, then the judges.

use crate::{mounted, options};
use btrfuse::fs::{
    Attr, Caller, DirHandle, Filesystem, NodeId, RenameFlags, SetAttr, WriteFlags, XattrMode,
};
use btrfuse_test_support::{Image, LoopMount, btrfs_check};
use std::path::Path;
use std::sync::Arc;

const ROOT: NodeId = NodeId::ROOT;

fn mount(image: &Path) -> Arc<Filesystem> {
    mounted(image, &options(false))
}

fn caller() -> Caller {
    Caller {
        uid: 1000,
        gid: 100,
        umask: 0o022,
        pid: 1,
    }
}

fn names(fs: &Filesystem, dir: NodeId) -> Vec<String> {
    let handle: DirHandle = fs.opendir(dir).unwrap();
    let mut found = Vec::new();
    fs.readdir(dir, &handle, 0, &mut |entry| {
        found.push(String::from_utf8_lossy(entry.name).into_owned());
        true
    })
    .unwrap();
    fs.releasedir(dir);
    found
}

#[test]
fn every_kind_of_inode_is_made_and_seen_by_the_kernel() {
    let image = Image::mkfs_btrfs(256, &[]);
    let fs = mount(image.path());
    let c = caller();
    let dir = fs.mkdir(&c, ROOT, b"dir", 0o777).unwrap();
    assert_eq!(
        (dir.mode & 0o7777, dir.uid, dir.gid, dir.nlink),
        (0o755, 1000, 100, 1)
    );
    let file = fs
        .create(&c, dir.node, b"file", 0o666, libc::O_RDWR)
        .unwrap();
    assert_eq!(file.mode, libc::S_IFREG | 0o644);
    let wrote = fs
        .write(file.node, 0, b"hello world", WriteFlags::default())
        .unwrap();
    assert_eq!(wrote, 11);
    assert_eq!(fs.read(file.node, 6, 100).unwrap(), b"world");
    fs.symlink(&c, dir.node, b"link", b"../target").unwrap();
    fs.mknod(&c, dir.node, b"fifo", libc::S_IFIFO | 0o600, 0)
        .unwrap();
    fs.mknod(
        &c,
        dir.node,
        b"null",
        libc::S_IFCHR | 0o600,
        libc::makedev(1, 3),
    )
    .unwrap();
    fs.link(file.node, ROOT, b"second").unwrap();
    fs.setxattr(file.node, b"user.color", b"blue", XattrMode::Create, false)
        .unwrap();
    assert_eq!(fs.getxattr(file.node, b"user.color").unwrap(), b"blue");
    assert_eq!(
        names(&fs, dir.node),
        [".", "..", "file", "link", "fifo", "null"]
    );
    assert_eq!(fs.getattr(dir.node).unwrap().size, 2 * 16);
    fs.unmount().unwrap();
    drop(fs);
    btrfs_check(image.path());
    let kernel = LoopMount::read_only(image.path());
    let at = |path: &str| kernel.path().join(path);
    assert_eq!(std::fs::read(at("dir/file")).unwrap(), b"hello world");
    assert_eq!(std::fs::read(at("second")).unwrap(), b"hello world");
    assert_eq!(
        std::fs::read_link(at("dir/link")).unwrap(),
        Path::new("../target")
    );
    kernel.unmount();
}

#[test]
fn names_go_and_come_back() {
    let image = Image::mkfs_btrfs(256, &[]);
    let fs = mount(image.path());
    let c = caller();
    let mut nodes: Vec<Attr> = Vec::new();
    for index in 0..200 {
        let name = format!("file-{index}");
        nodes.push(
            fs.create(&c, ROOT, name.as_bytes(), 0o644, libc::O_RDWR)
                .unwrap(),
        );
    }
    for index in (0..200).step_by(2) {
        let name = format!("file-{index}");
        fs.unlink(ROOT, name.as_bytes()).unwrap();
        assert!(fs.lookup(ROOT, name.as_bytes()).is_err());
    }
    // Unlinked and still open.
    assert_eq!(fs.getattr(nodes[0].node).unwrap().nlink, 0);
    fs.write(nodes[0].node, 0, b"still here", WriteFlags::default())
        .unwrap();
    assert_eq!(fs.read(nodes[0].node, 0, 100).unwrap(), b"still here");
    fs.sync().unwrap();
    for node in &nodes {
        fs.release(node.node);
        fs.forget(node.node, 1);
    }
    fs.clean().unwrap();
    fs.mkdir(&c, ROOT, b"dir", 0o755).unwrap();
    let flags = RenameFlags::default();
    let dir = fs.lookup(ROOT, b"dir").unwrap().node;
    fs.rename(&c, ROOT, b"file-1", dir, b"moved", flags)
        .unwrap();
    fs.rename(&c, ROOT, b"file-3", dir, b"moved", flags)
        .unwrap();
    let exchange = RenameFlags {
        exchange: true,
        ..flags
    };
    fs.rename(&c, dir, b"moved", ROOT, b"file-5", exchange)
        .unwrap();
    let whiteout = RenameFlags {
        whiteout: true,
        ..flags
    };
    fs.rename(&c, ROOT, b"file-7", dir, b"white", whiteout)
        .unwrap();
    assert!(fs.rmdir(ROOT, b"dir").is_err());
    assert_eq!(
        fs.rename(&c, ROOT, b"dir", dir, b"itself", flags)
            .unwrap_err()
            .errno(),
        libc::EINVAL
    );
    fs.unlink(dir, b"moved").unwrap();
    fs.unlink(dir, b"white").unwrap();
    fs.rmdir(ROOT, b"dir").unwrap();
    let attr = fs.lookup(ROOT, b"file-9").unwrap();
    let changes = SetAttr {
        size: Some(100_000),
        mode: Some(0o4711),
        ..SetAttr::default()
    };
    fs.setattr(&c, attr.node, &changes).unwrap();
    fs.unmount().unwrap();
    drop(fs);
    btrfs_check(image.path());
    LoopMount::read_only(image.path()).unmount();
}
