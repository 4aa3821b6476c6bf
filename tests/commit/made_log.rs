//! Logs made up item by item: what kernels log only in rare moments, used to log, or never would.

use crate::gated::change_superblocks;
use crate::log_replay::{Look, mount};
use crate::scribe::open_image;
use btrfuse::commit::Engine;
use btrfuse::ondisk::csum::name_hash;
use btrfuse::ondisk::{
    DirItem, DirLogItem, FT_DIR, FT_REG_FILE, InodeItem, InodeRef, Key, RootItem, ids, kind,
};
use btrfuse::volume::FileDevice;
use btrfuse_test_support::{Image, LoopMount, Manifest, btrfs_check, walk};
use std::sync::Arc;

type Items = Vec<(Key, Vec<u8>)>;

/// Directories `a` and `b`, and a file `a/x` with the first index of its directory.
const A: u64 = 257;
const B: u64 = 258;
const X: u64 = 259;

fn small() -> Image {
    let image = Image::mkfs_btrfs(128, &[]);
    let mount = LoopMount::read_write(image.path());
    for dir in ["a", "b"] {
        std::fs::create_dir(mount.path().join(dir)).unwrap();
    }
    std::fs::write(mount.path().join("a/x"), vec![7; 5000]).unwrap();
    mount.unmount();
    image
}

/// Writes a log of that subvolume, as an fsync would: nothing else knows of its blocks.
fn log_on(image: &Image, subvolume: u64, items: impl FnOnce(&Engine) -> Items) {
    let engine = open_image(image.path());
    let ctx = &engine.ctx;
    let mut items = items(&engine);
    items.sort_by_key(|item| item.0);
    let trans = ctx.transactions.join().unwrap();
    let tree = |offset| {
        let key = Key::new(ids::TREE_LOG_OBJECTID, kind::ROOT_ITEM, offset);
        ctx.create_tree(&trans, key, RootItem::zeroed()).unwrap()
    };
    let (log, roots) = (tree(subvolume), tree(ids::TREE_LOG_OBJECTID));
    for (key, data) in &items {
        ctx.insert(&trans, &log, key, data).unwrap();
    }
    let item = log.item_for_commit();
    ctx.insert(&trans, &roots, &log.key, item.as_bytes())
        .unwrap();
    let mut blocks = Vec::new();
    for root in [&log, &roots] {
        ctx.verify_each(root, &mut |block| {
            blocks.push(block.bytenr());
            Ok(())
        })
        .unwrap();
    }
    ctx.cache.write_out(&blocks, trans.transid()).unwrap();
    engine.volume.flush().unwrap();
    let node = roots.node();
    drop(trans);
    drop(engine);
    change_superblocks(image, |superblock| {
        superblock.log_root.set(node.bytenr.get());
        superblock.log_root_level = node.level;
    });
}

/// The inode's item as it is in the top level, or the file's under another number.
fn inode(engine: &Engine, of: u64, number: u64) -> (Key, Vec<u8>) {
    let root = engine.ctx.roots.get(&engine.ctx, 5).unwrap();
    let key = |objectid| Key::new(objectid, kind::INODE_ITEM, 0);
    let item = engine.ctx.get(&root, &key(of)).unwrap();
    (key(number), item.expect("an inode"))
}

fn name(inode: u64, parent: u64, index: u64, name: &[u8]) -> (Key, Vec<u8>) {
    let key = Key::new(inode, kind::INODE_REF, parent);
    (key, InodeRef::encode(index, name))
}

/// The log has all of the directory's entries.
fn whole(dir: u64) -> (Key, Vec<u8>) {
    let end = DirLogItem {
        end: u64::MAX.into(),
    };
    let key = Key::new(dir, kind::DIR_LOG_INDEX, 0);
    (key, end.as_bytes().to_vec())
}

fn entry(dir: u64, index: u64, inode: u64, file_type: u8, name: &[u8]) -> (Key, Vec<u8>) {
    let location = Key::new(inode, kind::INODE_ITEM, 0);
    let data = DirItem::encode(&location, 1, file_type, name, &[]);
    (Key::new(dir, kind::DIR_INDEX, index), data)
}

/// Mounts and unmounts; then check and the kernel's walk.
fn replayed(image: &Image) -> Manifest {
    let device = FileDevice::open(image.path(), false).unwrap();
    let fs = mount(Arc::new(device), Look::Write).unwrap();
    fs.unmount().unwrap();
    drop(fs);
    assert!(!image.has_log());
    btrfs_check(image.path());
    let mount = LoopMount::read_only(image.path());
    let walked = walk(mount.path());
    mount.unmount();
    walked
}

#[track_caller]
fn refused(image: &Image, words: &str) {
    let before = image.digest();
    for look in [Look::Write, Look::Read] {
        let device = FileDevice::open(image.path(), false).unwrap();
        let Err(error) = mount(Arc::new(device), look) else {
            panic!("{words}: replayed");
        };
        assert_eq!(error.errno(), libc::EUCLEAN, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(image.digest(), before);
    }
    let device = FileDevice::open(image.path(), false).unwrap();
    let fs = mount(Arc::new(device), Look::LastCommit).unwrap();
    fs.unmount().unwrap();
}

fn names(walked: &Manifest) -> Vec<&str> {
    let names = walked.0.iter().map(|record| str::from_utf8(&record.path));
    names.map(|name| name.expect("our own names")).collect()
}

#[test]
fn directories_in_a_circle_are_refused() {
    let image = small();
    log_on(&image, 5, |engine| {
        vec![
            inode(engine, 256, 256),
            whole(256),
            inode(engine, A, A),
            name(A, B, 2, b"a"),
            inode(engine, B, B),
            name(B, A, 9, b"b"),
        ]
    });
    refused(&image, "would be inside of itself");
}

#[test]
fn a_directory_with_two_names_is_refused() {
    let image = small();
    log_on(&image, 5, |engine| {
        vec![inode(engine, A, A), name(A, B, 2, b"a")]
    });
    refused(&image, "would have 2 names");
}

#[test]
fn content_of_nobody_is_refused() {
    let image = small();
    log_on(&image, 5, |_| vec![name(999, A, 2, b"nobody")]);
    refused(&image, "there is no inode 999");
}

/// An index is used again after the last name of a directory went and somebody mounted anew. Its old
/// holder may have moved to where no log knows of it: nobody's name is lost.
#[test]
fn a_name_whose_index_is_taken_gets_another() {
    let image = small();
    log_on(&image, 5, |engine| {
        vec![inode(engine, X, 300), name(300, A, 2, b"y")]
    });
    let walked = replayed(&image);
    assert_eq!(names(&walked), ["", "a", "a/x", "a/y", "b"]);
}

/// Kernels before 5.17 logged DIR_ITEMs and their ranges as well: they say the same again.
#[test]
fn logs_of_old_kernels_are_replayed_by_their_indexes() {
    let image = small();
    log_on(&image, 5, |engine| {
        let (_, moved) = entry(A, 3, 300, FT_REG_FILE, b"y");
        let hash = u64::from(name_hash(b"y"));
        let (_, range) = whole(A);
        vec![
            inode(engine, A, A),
            whole(A),
            (Key::new(A, kind::DIR_LOG_ITEM, 0), range),
            entry(A, 3, 300, FT_REG_FILE, b"y"),
            (Key::new(A, kind::DIR_ITEM, hash), moved),
            inode(engine, X, 300),
            name(300, A, 3, b"y"),
        ]
    });
    let walked = replayed(&image);
    assert_eq!(names(&walked), ["", "a", "a/y", "b"]);
}

/// A directory that was removed with what is in it, of which only its parent was told.
#[test]
fn what_is_in_a_removed_directory_goes_with_it() {
    let image = small();
    log_on(&image, 5, |engine| {
        vec![
            inode(engine, 256, 256),
            whole(256),
            entry(256, 3, B, FT_DIR, b"b"),
        ]
    });
    let walked = replayed(&image);
    assert_eq!(names(&walked), ["", "b"]);
}

/// A file whose only directory was never written is nobody's: it goes, and with it its content.
#[test]
fn a_file_in_a_directory_that_is_not_there_is_deleted() {
    let image = small();
    log_on(&image, 5, |engine| {
        vec![inode(engine, X, 300), name(300, 888, 2, b"lost")]
    });
    let walked = replayed(&image);
    assert_eq!(names(&walked), ["", "a", "a/x", "b"]);
}

#[test]
fn the_log_of_a_subvolume_that_is_gone_is_passed_over() {
    let image = small();
    log_on(&image, 999, |engine| {
        vec![inode(engine, X, 300), name(300, A, 3, b"y")]
    });
    let walked = replayed(&image);
    assert_eq!(names(&walked), ["", "a", "a/x", "b"]);
}

/// An inode that was logged only so that it exists has a generation of 0 in the log.
#[test]
fn an_inode_that_only_exists_gets_a_generation() {
    let image = small();
    log_on(&image, 5, |engine| {
        let (key, mut bytes) = inode(engine, X, 300);
        let item = InodeItem::read_mut(&mut bytes).unwrap();
        item.generation.set(0);
        item.size.set(0);
        let mut same = inode(engine, X, X);
        let item = InodeItem::read_mut(&mut same.1).unwrap();
        item.generation.set(0);
        item.size.set(0);
        item.mode.set(0o100600);
        vec![(key, bytes), name(300, A, 3, b"y"), same]
    });
    let walked = replayed(&image);
    assert_eq!(names(&walked), ["", "a", "a/x", "a/y", "b"]);
    let x = walked.get(b"a/x").unwrap();
    assert_eq!(x.fields["size"], 5000);
    assert_eq!(walked.get(b"a/y").unwrap().fields["size"], 0);
}
