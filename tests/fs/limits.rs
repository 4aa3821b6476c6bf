//! Limits: of links, names, hashes and attributes; and listings of directories that change.

use crate::hashes::colliding;
use crate::meaning::{caller, on_fresh, refused};
use crate::{mounted, options};
use btrfuse::fs::{
    Filesystem, NodeId, RenameFlags, SetAttr, SetTime, Timestamp, WriteFlags, XattrMode,
};
use btrfuse_test_support::{Image, Judge};

const ROOT: NodeId = NodeId::ROOT;

#[test]
fn many_links_go_to_extended_references_and_end() {
    let image = Image::mkfs_btrfs(256, &["-n", "4096"]);
    let fs = mounted(image.path(), &options(false));
    {
        let c = caller();
        let dir = fs.mkdir(&c, ROOT, b"dir", 0o755).unwrap().node;
        let file = fs
            .create(&c, dir, b"file", 0o644, libc::O_RDWR)
            .unwrap()
            .node;
        let name = |index: u32| format!("{index:0>100}").into_bytes();
        for index in 0..200 {
            fs.link(file, dir, &name(index)).unwrap();
        }
        assert_eq!(fs.getattr(file).unwrap().nlink, 201);
        for index in (0..200).rev().step_by(2) {
            fs.unlink(dir, &name(index)).unwrap();
        }
        let flags = RenameFlags::default();
        for index in (0..200).step_by(2) {
            fs.rename(&c, dir, &name(index), ROOT, &name(index), flags)
                .unwrap();
        }
        assert_eq!(fs.getattr(file).unwrap().nlink, 101);
    }
    fs.unmount().unwrap();
    drop(fs);
    Judge::strict()
        .excusing_extended_references()
        .assert_content(image.path());
    on_fresh(&["-n", "4096", "-O", "^extref"], |fs| {
        let c = caller();
        let file = fs
            .create(&c, ROOT, b"file", 0o644, libc::O_RDWR)
            .unwrap()
            .node;
        let name = |index: u32| format!("{index:0>100}").into_bytes();
        let refusal = (0..200).find_map(|index| fs.link(file, ROOT, &name(index)).err());
        assert_eq!(
            refusal.expect("a leaf is only so large").errno(),
            libc::EMLINK
        );
    });
}

/// A program that removes files and syncs finds their space in `df`, not a sync later.
#[test]
fn the_space_of_removed_files_is_free_after_a_sync() {
    on_fresh(&[], |fs| {
        let c = caller();
        let before = fs.statfs().unwrap().free;
        let nodes: Vec<_> = (0..4)
            .map(|index| {
                let name = format!("file-{index}").into_bytes();
                let attr = fs.create(&c, ROOT, &name, 0o644, libc::O_RDWR).unwrap();
                let flags = btrfuse::fs::WriteFlags::default();
                let content = vec![7; 1 << 20];
                for part in 0..4 {
                    fs.write(attr.node, part << 20, &content, flags).unwrap();
                }
                attr.node
            })
            .collect();
        fs.sync().unwrap();
        let block = u64::from(fs.statfs().unwrap().block_size);
        let full = fs.statfs().unwrap().free;
        assert!((before - full) * block >= 16 << 20);
        for (index, node) in nodes.into_iter().enumerate() {
            fs.unlink(ROOT, format!("file-{index}").as_bytes()).unwrap();
            // What changes now must not wait for the commit, and hold the inode until then.
            match index {
                0 => {}
                // As the kernel does with the times that it kept.
                1 => {
                    let time = Some(SetTime::At(Timestamp { sec: 7, nsec: 9 }));
                    let times = SetAttr {
                        mtime: time,
                        ..SetAttr::default()
                    };
                    fs.setattr(&c, node, &times).unwrap();
                }
                2 => {
                    let half = SetAttr {
                        size: Some(2 << 20),
                        ..SetAttr::default()
                    };
                    fs.setattr(&c, node, &half).unwrap();
                }
                _ => {
                    let flags = btrfuse::fs::WriteFlags::default();
                    fs.write(node, 1 << 20, &[8; 1000], flags).unwrap();
                }
            }
            fs.release(node);
            fs.forget(node, 1);
        }
        fs.sync().unwrap();
        let emptied = fs.statfs().unwrap().free;
        assert!(
            (before - emptied) * block < 2 << 20,
            "{before} blocks, full {full}, emptied {emptied}"
        );
    });
}

/// A filesystem without room for chunks, and with names up to the last block: `files` files with
/// an extent each, then as many inline ones as there is space for.
fn fill(fs: &Filesystem, files: u32) {
    let c = caller();
    let put = |name: String, content: &[u8]| -> btrfuse::Result<()> {
        let flags = WriteFlags::default();
        let attr = fs.create(&c, ROOT, name.as_bytes(), 0o644, libc::O_RDWR)?;
        let written = fs.write(attr.node, 0, content, flags);
        fs.release(attr.node);
        fs.forget(attr.node, 1);
        written.map(drop)
    };
    for index in 0..files {
        put(file_name(index), &[7; 3000]).unwrap();
    }
    fs.sync().unwrap();
    let ballast = fs
        .create(&c, ROOT, b"ballast", 0o644, libc::O_RDWR)
        .unwrap();
    let mut end = 0;
    for piece in [64 << 20, 8 << 20, 1 << 20, 64 << 10] {
        while fs.fallocate(ballast.node, 0, end, piece).is_ok() {
            end += piece;
        }
    }
    fs.release(ballast.node);
    fs.forget(ballast.node, 1);
    let refusal = (0..).find_map(|index| put(format!("small-{index}"), &[8; 1500]).err());
    assert_eq!(refusal.unwrap().errno(), libc::ENOSPC);
    fs.sync().unwrap();
}

fn file_name(index: u32) -> String {
    format!("file-{index:05}")
}

/// What is removed leaves the extent tree, the checksums and the free-space tree with the commit,
/// in leaves for which no removal had set space aside: files all over the disk need all of them.
#[test]
fn removing_all_over_a_full_filesystem_aborts_nothing() {
    const FILES: u32 = 12_000;
    on_fresh(&["-n", "4096", "-m", "single"], |fs| {
        fill(fs, FILES);
        for index in 0..FILES {
            let name = file_name(index * 7919 % FILES);
            fs.unlink(ROOT, name.as_bytes()).unwrap();
            match fs.clean() {
                // The next commit makes room, and the cleaner tries again.
                Err(error) if error.errno() == libc::ENOSPC => fs.sync().unwrap(),
                done => done.unwrap(),
            }
        }
        fs.sync().unwrap();
    });
}

#[test]
fn preallocating_more_than_there_is_leaves_the_image_as_it_was() {
    on_fresh(&[], |fs| {
        let c = caller();
        let file = fs.create(&c, ROOT, b"file", 0o644, libc::O_RDWR).unwrap();
        let space = &fs.tree_context().space;
        let before = space.numbers();
        for bytes in [before.available + (1 << 20), 1 << 40, 1 << 62] {
            refused(fs.fallocate(file.node, 0, 0, bytes), libc::ENOSPC);
            let after = space.numbers();
            assert_eq!(after.unallocated, before.unallocated, "{bytes}");
            assert_eq!(after.available, before.available, "{bytes}");
        }
        assert_eq!(fs.getattr(file.node).unwrap().size, 0);
        let most = before.available - (8 << 20);
        fs.fallocate(file.node, 0, 0, most).unwrap();
        assert_eq!(fs.getattr(file.node).unwrap().size, most);
    });
}

#[test]
fn a_listing_survives_changes_and_ends() {
    on_fresh(&[], |fs| {
        let c = caller();
        let dir = fs.mkdir(&c, ROOT, b"dir", 0o755).unwrap().node;
        let name = |index: usize| format!("entry-{index:05}").into_bytes();
        for index in 0..1000 {
            let attr = fs
                .mknod(&c, dir, &name(index), libc::S_IFREG | 0o644, 0)
                .unwrap();
            fs.forget(attr.node, 1);
        }
        let handle = fs.opendir(dir).unwrap();
        let mut offset = 0;
        let mut seen = Vec::new();
        let mut round = 0;
        loop {
            let mut count = 0;
            fs.readdir(dir, &handle, offset, &mut |entry| {
                if count == 50 {
                    return false;
                }
                count += 1;
                offset = entry.offset;
                seen.push(entry.name.to_vec());
                true
            })
            .unwrap();
            if count == 0 {
                break;
            }
            // Every entry that was seen is renamed to the end: a new index, which must not
            // be listed again and again.
            let flags = RenameFlags::default();
            for name in seen
                .iter()
                .rev()
                .take(count)
                .filter(|name| name.len() == 11)
            {
                let renamed = [&name[..], b"-renamed"].concat();
                fs.rename(&c, dir, name, dir, &renamed, flags).unwrap();
            }
            round += 1;
            assert!(round < 40, "the listing doesn't end");
        }
        fs.releasedir(dir);
        let mut entries: Vec<_> = seen.iter().filter(|name| name.len() == 11).collect();
        entries.sort();
        let expected: Vec<_> = (0..1000).map(name).collect();
        assert!(
            entries.into_iter().eq(expected.iter()),
            "an entry was lost or came twice"
        );
        // Rewound, the stream shows the new names.
        let mut count = 0;
        let handle = fs.opendir(dir).unwrap();
        fs.readdir(dir, &handle, 0, &mut |entry| {
            count += usize::from(entry.name.ends_with(b"-renamed"));
            true
        })
        .unwrap();
        fs.releasedir(dir);
        assert_eq!(count, 1000);
    });
}

/// A program that has listed all but the newest name would miss the one that took its place.
#[test]
fn a_listing_survives_a_name_that_replaces_the_newest() {
    on_fresh(&[], |fs| {
        let place = |name: &[u8]| {
            fs.mknod(&caller(), ROOT, name, libc::S_IFREG | 0o644, 0)
                .unwrap();
            let handle = fs.opendir(ROOT).unwrap();
            let mut last = 0;
            fs.readdir(ROOT, &handle, 0, &mut |entry| {
                last = entry.offset;
                true
            })
            .unwrap();
            fs.releasedir(ROOT);
            last
        };
        let first = place(b"first");
        fs.unlink(ROOT, b"first").unwrap();
        assert!(place(b"second") > first);
    });
}

#[test]
fn names_with_one_hash_share_an_item_until_it_is_full() {
    on_fresh(&["-n", "4096"], |fs| {
        let c = caller();
        let names = colliding(40);
        let mut made = Vec::new();
        let mut refusal = None;
        for name in &names {
            match fs.mknod(&c, ROOT, name, libc::S_IFREG | 0o600, 0) {
                Ok(attr) => made.push((name.clone(), attr.ino)),
                Err(error) => {
                    refusal = Some(error.errno());
                    break;
                }
            }
        }
        assert_eq!(refusal, Some(libc::EOVERFLOW));
        assert!(made.len() > 10);
        for (name, ino) in &made {
            assert_eq!(fs.lookup(ROOT, name).unwrap().ino, *ino);
        }
        for gone in [made.remove(0).0, made.pop().expect("many").0] {
            fs.unlink(ROOT, &gone).unwrap();
            refused(fs.lookup(ROOT, &gone), libc::ENOENT);
        }
        for (name, ino) in &made {
            assert_eq!(fs.lookup(ROOT, name).unwrap().ino, *ino);
        }
    });
}

#[test]
fn attributes_have_the_kernels_limits() {
    on_fresh(&["-n", "4096"], |fs| {
        let file = fs
            .create(&caller(), ROOT, b"file", 0o644, libc::O_RDWR)
            .unwrap()
            .node;
        let any = XattrMode::Any;
        // 4096 - header 101 - item 25 - entry 30 - name 6.
        fs.setxattr(file, b"user.a", &vec![1; 4096 - 162], any, false)
            .unwrap();
        refused(
            fs.setxattr(file, b"user.a", &vec![1; 4096 - 161], any, false),
            libc::ENOSPC,
        );
        assert_eq!(fs.getxattr(file, b"user.a").unwrap().len(), 4096 - 162);
        refused(
            fs.setxattr(file, b"user.a", b"", XattrMode::Create, false),
            libc::EEXIST,
        );
        refused(
            fs.setxattr(file, b"user.b", b"", XattrMode::Replace, false),
            libc::ENODATA,
        );
        refused(
            fs.setxattr(file, b"nothing.b", b"", any, false),
            libc::EOPNOTSUPP,
        );
        refused(
            fs.setxattr(file, b"btrfs.compression", b"zip", any, false),
            libc::EINVAL,
        );
        fs.setxattr(file, b"btrfs.compression", b"zstd", any, false)
            .unwrap();
        assert_eq!(fs.get_flags(file).unwrap(), 0x4);
        assert_eq!(
            fs.listxattr(file).unwrap().split(|byte| *byte == 0).count(),
            3
        );
        fs.removexattr(file, b"btrfs.compression").unwrap();
        refused(fs.removexattr(file, b"user.b"), libc::ENODATA);
    });
}

#[test]
fn symbolic_links_and_names_have_limits() {
    on_fresh(&["-n", "4096"], |fs| {
        let c = caller();
        let long = vec![b't'; 4096 - 101 - 25 - 21];
        let link = fs.symlink(&c, ROOT, b"link", &long).unwrap();
        assert_eq!(fs.readlink(link.node).unwrap(), long);
        assert_eq!(link.size, long.len() as u64);
        refused(
            fs.symlink(&c, ROOT, b"more", &[long, vec![b't']].concat()),
            libc::ENAMETOOLONG,
        );
        refused(fs.mkdir(&c, ROOT, &[b'n'; 256], 0o755), libc::ENAMETOOLONG);
        fs.mkdir(&c, ROOT, &[b'n'; 255], 0o755).unwrap();
        refused(fs.lookup(ROOT, &[b'n'; 256]), libc::ENAMETOOLONG);
    });
}
