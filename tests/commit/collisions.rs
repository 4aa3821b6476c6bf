//! Data references whose hashes are the same.
//!
//! The key of an EXTENT_DATA_REF has a hash of (tree, inode, offset) in it, so two references of
//! one extent may want the same key. A file's owner can make as many as they like: crc32c is
//! linear.

use crate::scribe::{Scribe, open_image};
use btrfuse::commit::Engine;
use btrfuse::ondisk::csum::extent_data_ref_hash;
use btrfuse::ondisk::{BackRef, FILE_EXTENT_REG, FileExtentItem, InodeItem, Key, ids, kind};
use btrfuse::transaction::RefKind;
use btrfuse::units::Logical;
use btrfuse_test_support::{Image, LoopMount, Rng, check};
use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

const EXTENT: u64 = 256 << 10;
const HALF: u64 = EXTENT / 2;

fn hash(inode: u64, offset: u64) -> u64 {
    extent_data_ref_hash(5, inode, offset)
}

/// Four offsets of one file with the same hash: two pairs found by trying, and what they differ
/// by added up.
fn colliding(inode: u64) -> [u64; 4] {
    let mut seen = HashMap::new();
    let mut differ = Vec::new();
    // Differences within 32 bits never collide, so the offsets are spread over 40.
    let spread = |n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24) << 20;
    for offset in (1..1_000_000).map(spread) {
        if let Some(other) = seen.insert(hash(inode, offset), offset)
            && !differ.contains(&(offset ^ other))
        {
            differ.push(offset ^ other);
        }
        if differ.len() == 2 {
            break;
        }
    }
    let (one, two) = (differ[0], differ[1]);
    let all = [0, one, two, one ^ two].map(|differ| (5 << 20) ^ differ);
    assert!(all.iter().all(|&it| hash(inode, it) == hash(inode, all[0])));
    all
}

/// One file of which parts are mapped to the same extent.
struct Sparse {
    inode: u64,
    at: Logical,
}

impl Sparse {
    /// Maps half of the extent: the lower at `offset`, the upper behind it. Both are the same
    /// reference.
    fn map(&self, engine: &Engine, offset: u64, upper: bool) {
        let skip = if upper { HALF } else { 0 };
        let (ctx, trans) = (&engine.ctx, engine.ctx.transactions.join().unwrap());
        let root = ctx.roots.get(ctx, 5).unwrap();
        let generation = trans.transid().get();
        let mut item = FileExtentItem::whole(generation, FILE_EXTENT_REG, self.at, EXTENT);
        item.offset.set(skip);
        item.num_bytes.set(HALF);
        let key = Key::new(self.inode, kind::EXTENT_DATA, offset + skip);
        ctx.insert(&trans, &root, &key, item.as_bytes()).unwrap();
        let refs = &trans.transaction().delayed_refs;
        refs.add_data_ref(self.at, EXTENT, self.kind(offset));
        let end = offset + skip + HALF;
        let inode = Key::new(self.inode, kind::INODE_ITEM, 0);
        ctx.modify(&trans, &root, &inode, |item| {
            let item = InodeItem::read_mut(item).unwrap();
            item.size.set(item.size.get().max(end));
            item.nbytes.set(item.nbytes.get() + HALF);
        })
        .unwrap();
    }

    fn unmap(&self, engine: &Engine, offset: u64, upper: bool) {
        let skip = if upper { HALF } else { 0 };
        let (ctx, trans) = (&engine.ctx, engine.ctx.transactions.join().unwrap());
        let root = ctx.roots.get(ctx, 5).unwrap();
        let key = Key::new(self.inode, kind::EXTENT_DATA, offset + skip);
        assert!(ctx.delete(&trans, &root, &key).unwrap());
        let refs = &trans.transaction().delayed_refs;
        refs.drop_data_ref(self.at, EXTENT, self.kind(offset));
        let inode = Key::new(self.inode, kind::INODE_ITEM, 0);
        ctx.modify(&trans, &root, &inode, |item| {
            let item = InodeItem::read_mut(item).unwrap();
            item.nbytes.set(item.nbytes.get() - HALF);
        })
        .unwrap();
    }

    fn kind(&self, offset: u64) -> RefKind {
        RefKind::Data {
            root: 5,
            objectid: self.inode,
            offset,
        }
    }

    /// The keyed references behind the hash of `first`: how far, of which offset, how many.
    fn chain(&self, engine: &Engine, first: u64) -> Vec<(u64, u64, u32)> {
        let ctx = &engine.ctx;
        let extents = ctx.roots.get(ctx, ids::EXTENT_TREE_OBJECTID).unwrap();
        let hash = hash(self.inode, first);
        let mut chain = Vec::new();
        for far in 0..8 {
            let key = Key::new(self.at.get(), kind::EXTENT_DATA_REF, hash + far);
            let Some(data) = ctx.get(&extents, &key).unwrap() else {
                continue;
            };
            match BackRef::from_keyed(&key, &data) {
                Some((BackRef::Data { offset, .. }, count)) => chain.push((far, offset, count)),
                other => panic!("{other:?}"),
            }
        }
        chain
    }
}

/// Commits, ends, has the image judged, and goes on. Lowmem mode looks for a reference only under its
/// hash, so it calls each that had to move on lost: nothing else may be wrong for it.
fn judged(engine: Engine, path: &Path) -> Engine {
    engine.shutdown().unwrap();
    drop(engine);
    let complaints_of = |mode| check::complaints(&check::check(path, mode));
    assert_eq!(complaints_of("original"), [""; 0]);
    let unknown: Vec<String> = complaints_of("lowmem")
        .into_iter()
        .filter(|line| !(line.contains(" root 5 ") && line.ends_with("backref lost")))
        .filter(|line| !line.starts_with("ERROR: errors found in extent allocation tree"))
        .filter(|line| !line.contains("error(s) found") && !line.starts_with("it ended with"))
        .collect();
    assert_eq!(unknown, [""; 0]);
    LoopMount::read_only(path).unmount();
    open_image(path)
}

/// An image with an extent whose inline references have no room left, and a file to map it in.
fn crowded() -> (Image, Engine, Sparse) {
    let image = Image::mkfs_btrfs(256, &["-n", "4096"]);
    let engine = open_image(image.path());
    let inode = {
        let mut scribe = Scribe::new(&engine, 5, "c");
        let mut rng = Rng::new(3);
        while scribe.files().is_empty() {
            scribe.grow(&mut rng).unwrap();
        }
        scribe.files()[0]
    };
    let root = engine.ctx.roots.get(&engine.ctx, 5).unwrap();
    let key = Key::new(inode, kind::EXTENT_DATA, 0);
    let item = engine.ctx.get(&root, &key).unwrap().unwrap();
    let item = FileExtentItem::read(&item).unwrap();
    assert_eq!(item.disk_num_bytes.get(), EXTENT);
    let at = Logical(item.disk_bytenr.get());
    let sparse = Sparse { inode, at };
    for n in 0..12 {
        sparse.map(&engine, (1 << 44) + (n << 20), false);
    }
    engine.committer.commit().unwrap();
    (image, engine, sparse)
}

#[test]
fn references_with_the_same_hash_follow_each_other() {
    let (image, mut engine, sparse) = crowded();
    let path = image.path();
    let all = colliding(sparse.inode);
    let [a, b, c, d] = all;
    for offset in all {
        sparse.map(&engine, offset, false);
    }
    engine = judged(engine, path);
    let whole = [(0, a, 1), (1, b, 1), (2, c, 1), (3, d, 1)];
    assert_eq!(sparse.chain(&engine, a), whole);

    // Behind the gap of a deleted one the others are still found, and counted where they are.
    sparse.unmap(&engine, a, false);
    engine = judged(engine, path);
    sparse.map(&engine, c, true);
    engine = judged(engine, path);
    assert_eq!(sparse.chain(&engine, a), [(1, b, 1), (2, c, 2), (3, d, 1)]);
    sparse.unmap(&engine, b, false);
    sparse.unmap(&engine, c, false);
    engine = judged(engine, path);
    assert_eq!(sparse.chain(&engine, a), [(2, c, 1), (3, d, 1)]);

    // A gap is filled again.
    sparse.map(&engine, a, false);
    engine = judged(engine, path);
    assert_eq!(sparse.chain(&engine, a), [(0, a, 1), (2, c, 1), (3, d, 1)]);
    for (offset, upper) in [(d, false), (a, false), (c, true)] {
        sparse.unmap(&engine, offset, upper);
    }
    engine = judged(engine, path);
    assert_eq!(sparse.chain(&engine, a), []);
}

/// Linux counts a reference a second time in a gap before the item that it has. All of them go
/// at once when the reference does.
#[test]
fn a_reference_that_linux_counted_twice_goes_from_both_items() {
    let (image, mut engine, sparse) = crowded();
    let path = image.path();
    let [a, b, ..] = colliding(sparse.inode);
    sparse.map(&engine, a, false);
    sparse.map(&engine, b, false);
    engine.committer.commit().unwrap();
    sparse.unmap(&engine, a, false);
    engine.shutdown().unwrap();
    drop(engine);

    let mount = LoopMount::read_write(path);
    let is_ours = |file: &std::fs::DirEntry| {
        use std::os::unix::fs::DirEntryExt;
        file.ino() == sparse.inode
    };
    let mut files = std::fs::read_dir(mount.path()).unwrap().map(Result::unwrap);
    let name = files.find(is_ours).expect("the file").path();
    let mut from = std::fs::File::open(&name).unwrap();
    let mut to = std::fs::File::options().write(true).open(&name).unwrap();
    from.seek(SeekFrom::Start(HALF)).unwrap();
    to.seek(SeekFrom::Start(b + HALF)).unwrap();
    // copy_file_range, which shares the extent.
    let copied = std::io::copy(&mut from.take(HALF), &mut to).unwrap();
    assert_eq!(copied, HALF);
    drop((files, to));
    mount.unmount();

    engine = open_image(path);
    assert_eq!(sparse.chain(&engine, a), [(0, b, 1), (1, b, 1)]);
    sparse.unmap(&engine, b, false);
    sparse.unmap(&engine, b, true);
    engine = judged(engine, path);
    assert_eq!(sparse.chain(&engine, a), []);
}
