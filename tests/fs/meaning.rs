//! What POSIX and the kernel's btrfs mean by an operation, case by case.

use crate::subvolumes::user;
use crate::{mounted, options};
use btrfuse::fs::{
    Caller, Filesystem, MountOptions, NodeId, RenameFlags, SetAttr, SetTime, Timestamp, WriteFlags,
    XattrMode,
};
use btrfuse_test_support::{Image, LoopMount, btrfs_check, run};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const ROOT: NodeId = NodeId::ROOT;

pub fn caller() -> Caller {
    Caller {
        uid: 1000,
        gid: 100,
        umask: 0o022,
        pid: 1,
    }
}

/// A fresh filesystem, and the judges at the end.
pub fn on_fresh(mkfs: &[&str], test: impl FnOnce(&Filesystem)) -> Image {
    let image = Image::mkfs_btrfs(256, mkfs);
    let fs = mounted(image.path(), &options(false));
    test(&fs);
    end(fs, image.path());
    image
}

pub fn end(fs: Arc<Filesystem>, image: &Path) {
    fs.unmount().unwrap();
    drop(fs);
    btrfs_check(image);
}

#[track_caller]
pub fn refused<T: std::fmt::Debug>(answer: btrfuse::Result<T>, errno: i32) {
    assert_eq!(answer.unwrap_err().errno(), errno);
}

fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(perm.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

const NOBODY: u32 = u32::MAX;
const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

#[test]
fn a_default_acl_is_inherited_and_the_mode_agrees() {
    on_fresh(&[], |fs| {
        let c = caller();
        let dir = fs.mkdir(&c, ROOT, b"dir", 0o777).unwrap().node;
        let list = acl(&[
            (1, 7, NOBODY),
            (2, 6, 2000),
            (4, 5, NOBODY),
            (0x10, 7, NOBODY),
            (0x20, 4, NOBODY),
        ]);
        fs.setxattr(dir, DEFAULT, &list, XattrMode::Any, false)
            .unwrap();
        let file = fs.create(&c, dir, b"file", 0o666, libc::O_RDWR).unwrap();
        // The umask has no say: 0666 cut down by what the list grants.
        assert_eq!(file.mode & 0o7777, 0o664);
        let got = fs.getxattr(file.node, ACCESS).unwrap();
        let expected = acl(&[
            (1, 6, NOBODY),
            (2, 6, 2000),
            (4, 5, NOBODY),
            (0x10, 6, NOBODY),
            (0x20, 4, NOBODY),
        ]);
        assert_eq!(got, expected);
        refused(fs.getxattr(file.node, DEFAULT), libc::ENODATA);
        let sub = fs.mkdir(&c, dir, b"sub", 0o777).unwrap();
        assert_eq!(fs.getxattr(sub.node, DEFAULT).unwrap(), list);
        // chmod changes the mask, not the group's entry.
        let chmod = SetAttr {
            mode: Some(0o640),
            ..SetAttr::default()
        };
        fs.setattr(&c, file.node, &chmod).unwrap();
        let got = fs.getxattr(file.node, ACCESS).unwrap();
        assert_eq!(&got[4 + 3 * 8..][..4], &[0x10, 0, 4, 0]);
        // A list of three entries says no more than the mode, and isn't kept.
        let three = acl(&[(1, 7, NOBODY), (4, 0, NOBODY), (0x20, 1, NOBODY)]);
        fs.setxattr(file.node, ACCESS, &three, XattrMode::Any, false)
            .unwrap();
        refused(fs.getxattr(file.node, ACCESS), libc::ENODATA);
        assert_eq!(fs.getattr(file.node).unwrap().mode & 0o777, 0o701);
        // A removed default list hands nothing on any more.
        fs.removexattr(dir, DEFAULT).unwrap();
        let plain = fs.create(&c, dir, b"plain", 0o666, libc::O_RDWR).unwrap();
        assert_eq!(plain.mode & 0o777, 0o644);
        refused(
            fs.setxattr(file.node, DEFAULT, &list, XattrMode::Any, false),
            libc::EACCES,
        );
    });
}

#[test]
fn a_setgid_directory_hands_its_group_on() {
    on_fresh(&[], |fs| {
        let c = caller();
        let dir = fs.mkdir(&c, ROOT, b"dir", 0o755).unwrap().node;
        let change = SetAttr {
            mode: Some(0o2775),
            gid: Some(7),
            ..SetAttr::default()
        };
        fs.setattr(&c, dir, &change).unwrap();
        let file = fs.create(&c, dir, b"file", 0o644, libc::O_RDWR).unwrap();
        assert_eq!((file.gid, file.mode & 0o7777), (7, 0o644));
        let sub = fs.mkdir(&c, dir, b"sub", 0o755).unwrap();
        assert_eq!((sub.gid, sub.mode & 0o7777), (7, 0o2755));
    });
}

#[test]
fn set_id_bits_and_capabilities_do_not_survive_others() {
    on_fresh(&[], |fs| {
        let c = caller();
        let file = fs
            .create(&c, ROOT, b"tool", 0o755, libc::O_RDWR)
            .unwrap()
            .node;
        let suid = SetAttr {
            mode: Some(0o6755),
            ..SetAttr::default()
        };
        fs.setattr(&c, file, &suid).unwrap();
        let caps = [1u8; 20];
        fs.setxattr(file, b"security.capability", &caps, XattrMode::Any, false)
            .unwrap();
        let flags = WriteFlags {
            kill_suidgid: true,
            ..WriteFlags::default()
        };
        fs.write(file, 0, b"x", flags).unwrap();
        assert_eq!(fs.getattr(file).unwrap().mode & 0o7777, 0o755);
        refused(fs.getxattr(file, b"security.capability"), libc::ENODATA);
        fs.setattr(&c, file, &suid).unwrap();
        let chown = SetAttr {
            uid: Some(5),
            ..SetAttr::default()
        };
        assert_eq!(fs.setattr(&c, file, &chown).unwrap().mode & 0o7777, 0o755);
        // Capabilities alone, too.
        fs.setxattr(file, b"security.capability", &caps, XattrMode::Any, false)
            .unwrap();
        fs.write(file, 0, b"x", flags).unwrap();
        refused(fs.getxattr(file, b"security.capability"), libc::ENODATA);
    });
}

/// The kernel asks whether somebody may change flags for the numbers that it knows itself. It hands
/// on the 32-bit ones when a 64-bit program uses them, unasked: whoever could read a file could
/// make it immutable, and take that away again.
#[test]
fn flags_are_not_set_past_the_kernels_questions() {
    const FS_IOC32_SETFLAGS: u32 = 0x4004_6602;
    on_fresh(&[], |fs| {
        let c = caller();
        let file = fs
            .create(&c, ROOT, b"file", 0o644, libc::O_RDWR)
            .unwrap()
            .node;
        let immutable = 0x10u32.to_ne_bytes();
        refused(
            fs.ioctl(&user(), file, FS_IOC32_SETFLAGS, &immutable),
            libc::ENOTTY,
        );
        assert_eq!(fs.get_flags(file).unwrap(), 0);
    });
}

#[test]
fn immutable_and_append_only_inodes_refuse() {
    const IMMUTABLE: u32 = 0x10;
    const APPEND: u32 = 0x20;
    let image = on_fresh(&[], |fs| {
        let c = caller();
        let file = fs
            .create(&c, ROOT, b"file", 0o644, libc::O_RDWR)
            .unwrap()
            .node;
        fs.write(file, 0, b"content", WriteFlags::default())
            .unwrap();
        fs.set_flags(&c, file, IMMUTABLE).unwrap();
        assert_eq!(fs.get_flags(file).unwrap(), IMMUTABLE);
        let eperm = libc::EPERM;
        refused(fs.open(file, libc::O_RDWR), eperm);
        // A write comes through a descriptor, and this one was opened before: as on the kernel's.
        fs.write(file, 0, b"C", WriteFlags::default()).unwrap();
        let cut = SetAttr {
            size: Some(3),
            ..SetAttr::default()
        };
        refused(fs.setattr(&c, file, &cut), eperm);
        let by_descriptor = SetAttr {
            by_descriptor: true,
            ..cut
        };
        fs.setattr(&c, file, &by_descriptor).unwrap();
        refused(fs.unlink(ROOT, b"file"), eperm);
        refused(fs.link(file, ROOT, b"second"), eperm);
        let flags = RenameFlags::default();
        refused(fs.rename(&c, ROOT, b"file", ROOT, b"other", flags), eperm);
        refused(
            fs.setxattr(file, b"user.a", b"", XattrMode::Any, false),
            eperm,
        );
        let touch = SetAttr {
            mtime: Some(SetTime::Now),
            ..SetAttr::default()
        };
        refused(fs.setattr(&c, file, &touch), eperm);
        refused(fs.fallocate(file, 0, 0, 4096), eperm);
        fs.set_flags(&c, file, APPEND).unwrap();
        refused(fs.open(file, libc::O_RDWR), eperm);
        fs.open(file, libc::O_WRONLY | libc::O_APPEND).unwrap();
        fs.release(file);
        let truncate = SetAttr {
            size: Some(0),
            ..SetAttr::default()
        };
        refused(fs.setattr(&c, file, &truncate), eperm);
        fs.set_flags(&c, file, 0).unwrap();
        let dir = fs.mkdir(&c, ROOT, b"dir", 0o755).unwrap().node;
        fs.mkdir(&c, dir, b"inner", 0o755).unwrap();
        fs.set_flags(&c, dir, IMMUTABLE).unwrap();
        refused(fs.mkdir(&c, dir, b"more", 0o755), eperm);
        refused(fs.rmdir(dir, b"inner"), eperm);
        fs.set_flags(&c, dir, APPEND).unwrap();
        fs.mkdir(&c, dir, b"more", 0o755).unwrap();
        refused(fs.rmdir(dir, b"more"), eperm);
    });
    let kernel = LoopMount::read_only(image.path());
    let listed = run(Command::new("lsattr")
        .arg("-d")
        .arg(kernel.path().join("dir")));
    assert!(listed.stdout.contains('a'), "{}", listed.stdout);
    kernel.unmount();
}

#[test]
fn a_file_without_a_name_gets_one_or_goes() {
    let image = on_fresh(&[], |fs| {
        let c = caller();
        let named = fs.tmpfile(&c, ROOT, 0o644).unwrap();
        assert_eq!(named.nlink, 0);
        fs.write(named.node, 0, b"kept", WriteFlags::default())
            .unwrap();
        fs.link(named.node, ROOT, b"named").unwrap();
        let gone = fs.tmpfile(&c, ROOT, 0o644).unwrap();
        fs.write(gone.node, 0, &[7; 100_000], WriteFlags::default())
            .unwrap();
        fs.sync().unwrap();
        fs.release(gone.node);
        fs.forget(gone.node, 1);
        fs.clean().unwrap();
        refused(fs.getattr(gone.node), libc::ESTALE);
        // Once unlinked, a file stays so.
        let file = fs
            .create(&c, ROOT, b"file", 0o644, libc::O_RDWR)
            .unwrap()
            .node;
        fs.unlink(ROOT, b"file").unwrap();
        refused(fs.link(file, ROOT, b"again"), libc::ENOENT);
    });
    let kernel = LoopMount::read_only(image.path());
    assert_eq!(std::fs::read(kernel.path().join("named")).unwrap(), b"kept");
    assert_eq!(std::fs::read_dir(kernel.path()).unwrap().count(), 1);
    kernel.unmount();
}

#[test]
fn subvolumes_are_entered_renamed_and_kept_apart() {
    let image = Image::mkfs_btrfs(256, &[]);
    let kernel = LoopMount::read_write(image.path());
    let at = |path: &str| kernel.path().join(path);
    let btrfs = |words: &[&str], paths: &[&Path]| {
        run(Command::new("btrfs").args(words).args(paths));
    };
    btrfs(&["subvolume", "create"], &[&at("sub")]);
    btrfs(&["subvolume", "create"], &[&at("sub/nested")]);
    std::fs::write(at("sub/file"), "in the subvolume").unwrap();
    btrfs(&["subvolume", "snapshot"], &[&at("sub"), &at("snap")]);
    btrfs(
        &["subvolume", "snapshot", "-r"],
        &[&at("sub"), &at("frozen")],
    );
    kernel.unmount();

    let c = caller();
    let fs = mounted(image.path(), &options(false));
    let flags = RenameFlags::default();
    let node = |dir: NodeId, name: &[u8]| fs.lookup(dir, name).unwrap().node;
    let (sub, snap, frozen) = (
        node(ROOT, b"sub"),
        node(ROOT, b"snap"),
        node(ROOT, b"frozen"),
    );
    assert_eq!(
        fs.read(node(snap, b"file"), 0, 100).unwrap(),
        b"in the subvolume"
    );
    // Inode 2 stands where the nested subvolume isn't.
    let stub = fs.lookup(snap, b"nested").unwrap();
    assert_eq!(stub.ino, 2);
    refused(fs.mkdir(&c, stub.node, b"x", 0o755), libc::EPERM);
    refused(fs.lookup(stub.node, b"x"), libc::ENOENT);
    assert_ne!(fs.lookup(sub, b"nested").unwrap().ino, 2);
    fs.rmdir(snap, b"nested").unwrap();
    refused(fs.lookup(snap, b"nested"), libc::ENOENT);
    // Frozen means frozen.
    let erofs = libc::EROFS;
    refused(fs.mkdir(&c, frozen, b"x", 0o755), erofs);
    refused(fs.unlink(frozen, b"file"), erofs);
    refused(fs.open(node(frozen, b"file"), libc::O_RDWR), erofs);
    // One tree is not the other.
    refused(
        fs.rename(&c, sub, b"file", ROOT, b"file", flags),
        libc::EXDEV,
    );
    refused(fs.link(node(sub, b"file"), ROOT, b"file"), libc::EXDEV);
    // A subvolume moves like a directory, within its parent.
    let dir = fs.mkdir(&c, ROOT, b"dir", 0o755).unwrap().node;
    fs.rename(&c, ROOT, b"sub", dir, b"moved", flags).unwrap();
    assert_eq!(fs.lookup(dir, b"moved").unwrap().node, sub);
    assert_eq!(fs.lookup(sub, b"..").unwrap().node, dir);
    let exchange = RenameFlags {
        exchange: true,
        ..flags
    };
    fs.rename(&c, ROOT, b"snap", dir, b"moved", exchange)
        .unwrap();
    assert_eq!(fs.lookup(dir, b"moved").unwrap().node, snap);
    refused(fs.rmdir(ROOT, b"snap"), libc::ENOTEMPTY);
    assert_eq!(
        fs.ino_lookup(snap, 0, 256).unwrap().0,
        fs.getattr(snap).unwrap().subvol
    );
    end(fs, image.path());

    // The other way in: by path and by number.
    let by_path = MountOptions {
        subvol: Some(b"dir/moved".to_vec()),
        ..options(true)
    };
    let by_path = MountOptions {
        subvolid: None,
        ..by_path
    };
    let fs = mounted(image.path(), &by_path);
    assert_eq!(fs.getattr(ROOT).unwrap().ino, 256);
    assert_eq!(fs.lookup(ROOT, b"..").unwrap().node, ROOT);
    assert!(fs.lookup(ROOT, b"file").unwrap().ino < 1 << 40);
    fs.unmount().unwrap();
    drop(fs);
    let kernel = LoopMount::read_only(image.path());
    let read = |path: &str| std::fs::read_to_string(kernel.path().join(path)).unwrap();
    assert_eq!(read("dir/moved/file"), "in the subvolume");
    assert_eq!(read("snap/file"), "in the subvolume");
    kernel.unmount();
}

#[test]
fn times_go_where_they_belong() {
    on_fresh(&[], |fs| {
        let c = caller();
        let old = Timestamp {
            sec: -12_345,
            nsec: 999_999_999,
        };
        let dir = fs.mkdir(&c, ROOT, b"dir", 0o755).unwrap().node;
        let file = fs
            .create(&c, dir, b"file", 0o644, libc::O_RDWR)
            .unwrap()
            .node;
        let changes = SetAttr {
            atime: Some(SetTime::At(old)),
            mtime: Some(SetTime::At(old)),
            ..SetAttr::default()
        };
        for node in [dir, file] {
            let attr = fs.setattr(&c, node, &changes).unwrap();
            assert_eq!((attr.atime, attr.mtime), (old, old));
            assert!(attr.ctime > old && attr.btime > old);
        }
        fs.link(file, dir, b"second").unwrap();
        assert!(
            fs.getattr(dir).unwrap().mtime > old,
            "a new name changes the directory"
        );
        assert_eq!(
            fs.getattr(file).unwrap().mtime,
            old,
            "but not the file's content"
        );
        fs.setattr(&c, dir, &changes).unwrap();
        let named = fs.getattr(file).unwrap().ctime;
        // The clock of times goes in steps.
        let tick = || std::thread::sleep(std::time::Duration::from_millis(20));
        tick();
        fs.rename(&c, dir, b"second", ROOT, b"second", RenameFlags::default())
            .unwrap();
        assert!(fs.getattr(dir).unwrap().mtime > old);
        let renamed = fs.getattr(file).unwrap();
        assert!(renamed.ctime > named && renamed.mtime == old);
        tick();
        fs.unlink(ROOT, b"second").unwrap();
        assert!(fs.getattr(file).unwrap().ctime > renamed.ctime);
        fs.write(file, 0, b"x", WriteFlags::default()).unwrap();
        assert!(fs.getattr(file).unwrap().mtime > old);
    });
}

#[test]
fn a_full_filesystem_still_deletes() {
    let image = Image::mkfs_btrfs(128, &[]);
    let fs = mounted(image.path(), &options(false));
    let c = caller();
    let data = vec![0x5a; 1 << 20];
    let mut files = 0;
    'full: loop {
        let name = format!("file-{files}").into_bytes();
        let node = match fs.create(&c, ROOT, &name, 0o644, libc::O_RDWR) {
            Ok(attr) => attr.node,
            Err(error) => {
                assert_eq!(error.errno(), libc::ENOSPC);
                break;
            }
        };
        files += 1;
        for piece in 0..4 {
            if let Err(error) = fs.write(node, piece << 20, &data, WriteFlags::default()) {
                assert_eq!(error.errno(), libc::ENOSPC);
                break 'full;
            }
        }
        fs.release(node);
        fs.forget(node, 1);
        assert!(files < 100, "128 MiB hold more than 400");
    }
    fs.sync().unwrap();
    for index in 0..files {
        fs.unlink(ROOT, format!("file-{index}").as_bytes()).unwrap();
    }
    fs.clean().unwrap();
    fs.sync().unwrap();
    let file = fs
        .create(&c, ROOT, b"again", 0o644, libc::O_RDWR)
        .unwrap()
        .node;
    for piece in 0..4 {
        fs.write(file, piece << 20, &data, WriteFlags::default())
            .unwrap();
    }
    end(fs, image.path());
}
