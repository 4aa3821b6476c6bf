//! Names that share a hash share an item: of attributes, and of references to a directory that
//! don't fit into the first one. Each must be found, changed and removed without the others.

use crate::hashes::{colliding, tail_for};
use crate::meaning::{caller, refused};
use crate::{mounted, options};
use btrfuse::fs::{NodeId, RenameFlags, XattrMode};
use btrfuse::ondisk::csum::name_hash;
use btrfuse_test_support::{Image, Judge, LoopMount, btrfs_check, dump};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

const ROOT: NodeId = NodeId::ROOT;

/// Attributes of `user.` with one hash.
fn attributes(count: usize) -> Vec<Vec<u8>> {
    let target = name_hash(b"user.the hash of all");
    (0_u32..)
        .filter_map(|serial| {
            let mut name = format!("user.attribute-{serial:08}-").into_bytes();
            let tail = tail_for(&name, target)?;
            name.extend(tail);
            (name_hash(&name) == target).then_some(name)
        })
        .take(count)
        .collect()
}

#[test]
fn attributes_with_one_hash_share_an_item() {
    let image = Image::mkfs_btrfs(256, &["-n", "4096"]);
    let names = attributes(12);
    let fs = mounted(image.path(), &options(false));
    let file = fs.mknod(&caller(), ROOT, b"file", libc::S_IFREG | 0o644, 0);
    let file = file.unwrap().node;
    let value = |index: usize, len: usize| vec![index as u8 + 1; len];
    for (index, name) in names.iter().enumerate() {
        fs.setxattr(file, name, &value(index, 40), XattrMode::Create, false)
            .unwrap();
        refused(
            fs.setxattr(file, name, b"again", XattrMode::Create, false),
            libc::EEXIST,
        );
    }
    // Longer, shorter, gone, gone and made again.
    fs.setxattr(file, &names[3], &value(3, 300), XattrMode::Replace, false)
        .unwrap();
    fs.setxattr(file, &names[5], b"", XattrMode::Replace, false)
        .unwrap();
    fs.removexattr(file, &names[0]).unwrap();
    refused(fs.getxattr(file, &names[0]), libc::ENODATA);
    refused(fs.removexattr(file, &names[0]), libc::ENODATA);
    fs.removexattr(file, &names[7]).unwrap();
    fs.setxattr(file, &names[7], &value(7, 7), XattrMode::Any, false)
        .unwrap();
    fs.removexattr(file, &names[11]).unwrap();
    // One item holds so much and no more.
    refused(
        fs.setxattr(file, &names[1], &[9; 3500], XattrMode::Any, false),
        libc::ENOSPC,
    );
    let expected = |index: usize| match index {
        0 | 11 => None,
        3 => Some(value(3, 300)),
        5 => Some(Vec::new()),
        7 => Some(value(7, 7)),
        _ => Some(value(index, 40)),
    };
    for (index, name) in names.iter().enumerate() {
        assert_eq!(fs.getxattr(file, name).ok(), expected(index), "{index}");
    }
    fs.unmount().unwrap();
    drop(fs);
    btrfs_check(image.path());
    let kernel = LoopMount::read_only(image.path());
    let path = kernel.path().join("file");
    let mut buffer = vec![0; 4096];
    for (index, name) in names.iter().enumerate() {
        let name = OsStr::from_bytes(name);
        let found = rustix::fs::lgetxattr(&path, name, &mut buffer).ok();
        let found = found.map(|len| buffer[..len].to_vec());
        assert_eq!(found, expected(index), "{index}, the kernel");
    }
    kernel.unmount();
}

#[test]
fn extended_references_with_one_hash_share_an_item() {
    let image = Image::mkfs_btrfs(256, &["-n", "4096"]);
    let fs = mounted(image.path(), &options(false));
    let c = caller();
    let dir = fs.mkdir(&c, ROOT, b"dir", 0o755).unwrap().node;
    let made = fs
        .mknod(&c, dir, b"file", libc::S_IFREG | 0o644, 0)
        .unwrap();
    let file = made.node;
    // The plain item is full before the names with one hash come.
    let plain = |index: usize| format!("{index:0>100}").into_bytes();
    for index in 0..40 {
        fs.link(file, dir, &plain(index)).unwrap();
    }
    let names = colliding(15);
    for name in &names {
        fs.link(file, dir, name).unwrap();
    }
    let flags = RenameFlags::default();
    fs.rename(&c, dir, &names[2], dir, b"renamed", flags)
        .unwrap();
    fs.rename(&c, dir, &names[4], ROOT, &names[4], flags)
        .unwrap();
    fs.unlink(dir, &names[0]).unwrap();
    fs.unlink(dir, &names[14]).unwrap();
    refused(fs.unlink(dir, &names[14]), libc::ENOENT);
    fs.rename(&c, dir, b"renamed", dir, &names[2], flags)
        .unwrap();
    // Room in the plain item doesn't confuse those that are outside of it.
    for index in (0..40).step_by(2) {
        fs.unlink(dir, &plain(index)).unwrap();
    }
    fs.unlink(dir, &names[6]).unwrap();
    let links = fs.getattr(file).unwrap().nlink;
    assert_eq!(links, 1 + 20 + 12);
    fs.unmount().unwrap();
    drop(fs);
    assert_eq!(dump::extended_references(image.path()).len(), 1);
    Judge::strict()
        .excusing_extended_references()
        .assert_content(image.path());
    let kernel = LoopMount::read_only(image.path());
    let at = |dir: &str, name: &[u8]| kernel.path().join(dir).join(OsStr::from_bytes(name));
    for (index, name) in names.iter().enumerate() {
        let found = std::fs::metadata(at("dir", name)).ok().map(|it| it.ino());
        let there = !matches!(index, 0 | 4 | 6 | 14);
        assert_eq!(found, there.then_some(made.ino), "{index}");
    }
    assert_eq!(
        std::fs::metadata(at(".", &names[4])).unwrap().ino(),
        made.ino
    );
    kernel.unmount();
    // And all of them go.
    let fs = mounted(image.path(), &options(false));
    let dir = fs.lookup(ROOT, b"dir").unwrap().node;
    fs.unlink(ROOT, &names[4]).unwrap();
    for (index, name) in names.iter().enumerate() {
        if !matches!(index, 0 | 4 | 6 | 14) {
            fs.unlink(dir, name).unwrap();
        }
    }
    for index in (1..40).step_by(2) {
        fs.unlink(dir, &plain(index)).unwrap();
    }
    let last = fs.lookup(dir, b"file").unwrap();
    assert_eq!(last.nlink, 1);
    fs.unlink(dir, b"file").unwrap();
    fs.rmdir(ROOT, b"dir").unwrap();
    fs.unmount().unwrap();
    drop(fs);
    btrfs_check(image.path());
    let kernel = LoopMount::read_only(image.path());
    assert_eq!(std::fs::read_dir(kernel.path()).unwrap().count(), 0);
    kernel.unmount();
}
