//! Subvolumes that come and go while somebody else looks, and references that use wouldn't make.

use super::entry::{self, ParentEntry};
use crate::error::{Error, Result};
use crate::fs::access::Who;
use crate::fs::dir;
use crate::fs::inode::{Inode, InodeMeta};
use crate::fs::node_id::{Identity, ROOT_DIR_OBJECTID};
use crate::fs::tests::{CALLER, device, mkdir, mount, tamper};
use crate::fs::{
    Filesystem, MountOptions, NodeId, RenameFlags, SetAttr, SetTime, Timestamp, WriteFlags,
};
use crate::ondisk::csum::name_hash;
use crate::ondisk::{DirItem, FT_DIR, InodeItem, Key, ROOT_SUBVOL_RDONLY, RootRef, ids, kind};
use crate::sync::thread;
use std::time::Duration;

const TOP: NodeId = NodeId::ROOT;

fn no_groups() -> Vec<u32> {
    Vec::new()
}

fn who() -> Who<'static> {
    Who {
        caller: CALLER,
        admin: true,
        overrides: CALLER.uid == 0,
        owns_all: CALLER.uid == 0,
        groups: &no_groups,
    }
}

fn make(fs: &Filesystem, dir: NodeId, name: &[u8]) -> NodeId {
    fs.create_subvolume(&who(), dir, name).unwrap();
    fs.lookup(dir, name).unwrap().node
}

fn rename(fs: &Filesystem, dir: NodeId, name: &[u8], new_name: &[u8]) -> Result<()> {
    fs.rename(&CALLER, dir, name, dir, new_name, RenameFlags::default())
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>, errno: i32) {
    assert_eq!(result.map_err(|error| error.errno()).unwrap_err(), errno);
}

/// What is renamed is listed nowhere for a moment, and whoever deleted the subvolume around it found
/// that empty.
#[test]
fn a_subvolume_stays_while_one_in_it_is_renamed() {
    let fs = mount(&device(), false);
    let outer = make(&fs, TOP, b"outer");
    let dir = mkdir(&fs, outer, b"dir").node;
    make(&fs, dir, b"there");
    let renaming = {
        let fs = fs.clone();
        thread::spawn(move || {
            (0..4000).try_for_each(|_| {
                rename(&fs, dir, b"there", b"back")?;
                rename(&fs, dir, b"back", b"there")
            })
        })
    };
    let mut deleted = Err(Error::NotEmpty);
    while matches!(deleted, Err(Error::NotEmpty)) && !renaming.is_finished() {
        deleted = fs.delete_subvolume(&who(), TOP, b"outer");
    }
    let renamed = renaming.join().unwrap();
    assert!(matches!(deleted, Err(Error::NotEmpty)), "{deleted:?}");
    renamed.unwrap();
    fs.unmount().unwrap();
}

/// Nothing says for a moment what contains a subvolume that is renamed; who moves the one around it there
/// would cut both off.
#[test]
fn a_subvolume_never_moves_into_one_in_it() {
    let fs = mount(&device(), false);
    let outer = make(&fs, TOP, b"outer");
    let middle = make(&fs, outer, b"there");
    let dir = mkdir(&fs, middle, b"dir").node;
    let other = make(&fs, TOP, b"other");
    let into = |to| fs.rename(&CALLER, TOP, b"outer", to, b"in", RenameFlags::default());
    refused(into(outer), libc::EINVAL);
    refused(into(middle), libc::EINVAL);
    let renaming = {
        let fs = fs.clone();
        thread::spawn(move || {
            (0..4000).try_for_each(|_| {
                rename(&fs, outer, b"there", b"back")?;
                rename(&fs, outer, b"back", b"there")
            })
        })
    };
    while !renaming.is_finished() {
        refused(into(dir), libc::EINVAL);
    }
    renaming.join().unwrap().unwrap();
    into(other).unwrap();
    assert!(fs.lookup(dir, b"no").is_err());
    fs.unmount().unwrap();
}

/// An inode that was refused for its tree's sake was in memory all the same, for the next who asked.
#[test]
fn nothing_is_loaded_from_a_tree_that_is_being_dropped() {
    let fs = mount(&device(), false);
    let sub = make(&fs, TOP, b"sub");
    fs.sync().unwrap();
    let subvol = fs.subvol_of(sub).unwrap();
    let root = fs.ctx.roots.get(&fs.ctx, subvol).unwrap();
    fs.delete_subvolume(&who(), TOP, b"sub").unwrap();
    assert!(fs.load(&root, ROOT_DIR_OBJECTID).is_ok(), "it is dying");
    fs.settle_dying(Duration::ZERO);
    refused(fs.load(&root, ROOT_DIR_OBJECTID).map(drop), libc::ENOENT);
    refused(fs.getattr(sub), libc::ESTALE);
    let objectid = ROOT_DIR_OBJECTID;
    assert!(!fs.home.table.is_live(Identity::Inode { subvol, objectid }));
    fs.unmount().unwrap();
}

/// As above, when it is deleted and handed over between the read of the inode and its entry.
#[test]
fn an_inode_of_a_tree_that_was_handed_over_meanwhile_does_not_enter() {
    let fs = mount(&device(), false);
    let sub = make(&fs, TOP, b"sub");
    fs.sync().unwrap();
    let subvol = fs.subvol_of(sub).unwrap();
    let root = fs.ctx.roots.get(&fs.ctx, subvol).unwrap();
    let objectid = ROOT_DIR_OBJECTID;
    let identity = Identity::Inode { subvol, objectid };
    fs.forget(sub, 1);
    drop(fs.home.table.let_all_go());
    let key = Key::new(objectid, kind::INODE_ITEM, 0);
    let reads = std::cell::Cell::new(0);
    let read = || {
        let item = |bytes: &[u8]| InodeItem::read(bytes).map(InodeMeta::from_item);
        let meta = fs.ctx.get_with(&root, &key, item)?.flatten().unwrap();
        reads.set(reads.get() + 1);
        fs.delete_subvolume(&who(), TOP, b"sub")?;
        fs.settle_dying(Duration::ZERO);
        Inode::new(root.clone(), objectid, meta, &fs.home)
    };
    let loaded = fs
        .home
        .table
        .get_or_read(identity, read, || !root.is_dead());
    assert!(loaded.unwrap().is_none());
    assert_eq!(reads.get(), 1);
    assert!(!fs.home.table.is_live(identity));
    fs.unmount().unwrap();
}

/// Whether it may be written was asked before the wait for whoever makes it read-only.
#[test]
fn what_became_read_only_meanwhile_gets_no_names() {
    type Change = fn(&Filesystem, NodeId) -> Result<()>;
    let changes: [Change; 5] = [
        |fs, dir| fs.create_subvolume(&who(), dir, b"made"),
        |fs, dir| {
            let source = fs.snapshot_source(fs.lookup(TOP, b"source")?.node)?;
            fs.snapshot(&who(), source, dir, b"made", true)
        },
        |fs, dir| fs.delete_subvolume(&who(), dir, b"there"),
        |fs, dir| fs.rmdir(dir, b"there"),
        |fs, dir| rename(fs, dir, b"there", b"other"),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let fs = mount(&device(), false);
        make(&fs, TOP, b"source");
        let dir = make(&fs, TOP, b"dir");
        make(&fs, dir, b"there");
        let inode = fs.inode(dir).unwrap();
        let alone = fs.subvolumes.write();
        let changing = {
            let fs = fs.clone();
            thread::spawn(move || change(&fs, dir))
        };
        // It has the names, and waits.
        while inode.names.try_read().is_some() {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(100));
        inode.root.item().flags.set(ROOT_SUBVOL_RDONLY);
        drop(alone);
        let errno = changing.join().unwrap().map_err(|error| error.errno());
        assert_eq!(errno, Err(libc::EROFS), "{index}");
    }
}

/// The content was taken and its times were refused.
#[test]
fn cached_content_brings_its_times_into_a_read_only_subvolume() {
    let fs = mount(&device(), false);
    let sub = make(&fs, TOP, b"sub");
    let file = fs
        .create(&CALLER, sub, b"file", 0o644, libc::O_RDWR)
        .unwrap();
    fs.set_subvolume_read_only(&who(), sub, true).unwrap();
    let written = Timestamp { sec: 7, nsec: 0 };
    let times = SetAttr {
        mtime: Some(SetTime::At(written)),
        ctime: Some(written),
        ..SetAttr::default()
    };
    let set = |times| fs.setattr(&CALLER, file.node, times);
    refused(set(&times), libc::EROFS);
    let cached = WriteFlags {
        from_cache: true,
        ..WriteFlags::default()
    };
    fs.write(file.node, 0, b"late", cached).unwrap();
    assert_eq!(set(&times).unwrap().mtime, written);
    refused(set(&times), libc::EROFS);
    fs.write(file.node, 0, b"more", cached).unwrap();
    let touched = SetAttr {
        atime: Some(SetTime::At(written)),
        ..times
    };
    refused(set(&touched), libc::EROFS);
    fs.unmount().unwrap();
}

/// Both references of a subvolume in the top level's root directory, to be made false.
fn references(subvol: u64) -> [Key; 2] {
    let key = |objectid, kind, offset| Key {
        objectid,
        kind,
        offset,
    };
    let top = ids::FS_TREE_OBJECTID;
    [
        key(top, kind::ROOT_REF, subvol),
        key(subvol, kind::ROOT_BACKREF, top),
    ]
}

/// The mount was aborted in the middle of the change.
#[test]
fn stale_references_are_refused_before_the_first_edit() {
    let fs = mount(&device(), false);
    let sub = make(&fs, TOP, b"sub");
    let subvol = fs.subvol_of(sub).unwrap();
    tamper(&fs, |trans, _| {
        let tree = fs.ctx.roots.get(&fs.ctx, ids::ROOT_TREE_OBJECTID)?;
        let bytes = RootRef::encode(ROOT_DIR_OBJECTID, 9, b"stale");
        for number in [1, 3] {
            let [down, _] = references(subvol + number);
            fs.ctx.insert(trans, &tree, &down, &bytes)?;
        }
        Ok(())
    });
    refused(fs.create_subvolume(&who(), TOP, b"a"), libc::EUCLEAN);
    make(&fs, TOP, b"a");
    let source = fs.snapshot_source(sub).unwrap();
    refused(fs.snapshot(&who(), source, TOP, b"b", true), libc::EUCLEAN);
    fs.snapshot(&who(), source, TOP, b"b", true).unwrap();
    assert_eq!(fs.read_only_reason(), None);
}

/// As above, for what goes or moves.
#[test]
fn references_that_disagree_are_refused_before_the_first_edit() {
    let fs = mount(&device(), false);
    for (index, what) in [
        "no way up",
        "another way up",
        "no such index",
        "another's index",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("sub{index}").into_bytes();
        let subvol = fs.subvol_of(make(&fs, TOP, &name)).unwrap();
        let [down, up] = references(subvol);
        tamper(&fs, |trans, _| {
            let tree = fs.ctx.roots.get(&fs.ctx, ids::ROOT_TREE_OBJECTID)?;
            let fixed = |bytes: &mut [u8], sequence: u64| {
                bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
            };
            match index {
                0 => assert!(fs.ctx.delete(trans, &tree, &up)?),
                1 => assert!(fs.ctx.modify(trans, &tree, &up, |bytes| fixed(bytes, 99))?),
                _ => {
                    let sequence = if index == 2 { 99 } else { 2 };
                    for key in [up, down] {
                        let known = fs.ctx.modify(trans, &tree, &key, |bytes| {
                            fixed(bytes, sequence);
                        })?;
                        assert!(known);
                    }
                }
            }
            Ok(())
        });
        refused(fs.delete_subvolume(&who(), TOP, &name), libc::EUCLEAN);
        refused(fs.rmdir(TOP, &name), libc::EUCLEAN);
        refused(rename(&fs, TOP, &name, b"moved"), libc::EUCLEAN);
        assert_eq!(fs.read_only_reason(), None, "{what}");
    }
}

/// An entry for the top level in another subvolume, which is what is mounted: the top level could be
/// deleted.
#[test]
fn the_top_level_is_never_deleted() {
    let device = device();
    let fs = mount(&device, false);
    let sub = make(&fs, TOP, b"sub");
    let subvol = fs.subvol_of(sub).unwrap();
    let top = ids::FS_TREE_OBJECTID;
    fs.sync().unwrap();
    tamper(&fs, |trans, _| {
        let tree = fs.ctx.roots.get(&fs.ctx, ids::ROOT_TREE_OBJECTID)?;
        for key in references(subvol) {
            assert!(fs.ctx.delete(trans, &tree, &key)?);
        }
        let entry = ParentEntry {
            tree: subvol,
            dirid: ROOT_DIR_OBJECTID,
            sequence: 2,
            name: b"top".to_vec(),
        };
        entry::add_entry(&fs.ctx, trans, top, &entry)?;
        let root = fs.ctx.roots.get(&fs.ctx, subvol)?;
        let location = Key::new(top, kind::ROOT_ITEM, u64::MAX);
        let bytes = DirItem::encode(&location, 1, FT_DIR, b"top", &[]);
        let hash = u64::from(name_hash(b"top"));
        for (kind, offset) in [(kind::DIR_ITEM, hash), (kind::DIR_INDEX, 2)] {
            let key = Key::new(ROOT_DIR_OBJECTID, kind, offset);
            fs.ctx.insert(trans, &root, &key, &bytes)?;
        }
        let hash = u64::from(name_hash(b"default"));
        let default = Key::new(ids::ROOT_TREE_DIR_OBJECTID, kind::DIR_ITEM, hash);
        let known = fs.ctx.modify(trans, &tree, &default, |bytes| {
            bytes[..8].copy_from_slice(&subvol.to_le_bytes());
        })?;
        assert!(known);
        Ok(())
    });
    let inode = fs.inode(sub).unwrap();
    let ticket = fs.prepare_dirty(&inode).unwrap();
    let mut meta = inode.meta.lock();
    meta.size += dir::size_of(b"top");
    fs.mark_dirty(&inode, &mut meta, ticket);
    drop(meta);
    drop(inode);
    fs.unmount().unwrap();
    drop(fs);
    let options = MountOptions {
        background: false,
        ..MountOptions::default()
    };
    let fs = Filesystem::mount(vec![device], &options).unwrap();
    assert_eq!(fs.lookup(TOP, b"top").unwrap().subvol, top);
    refused(fs.delete_subvolume(&who(), TOP, b"top"), libc::EUCLEAN);
    refused(rename(&fs, TOP, b"top", b"moved"), libc::EUCLEAN);
    assert_eq!(fs.read_only_reason(), None);
}
