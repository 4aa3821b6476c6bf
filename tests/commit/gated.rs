//! Images that may be read but not written, on devices that could be written: nothing reaches
//! them. And what must reach a device before anything else: superblock copies that are the same.

use crate::scribe::{Scribe, open_device};
use btrfuse::ondisk::superblock::{FEATURE_COMPAT_RO_FREE_SPACE_TREE_VALID, Superblock};
use btrfuse::ondisk::{Key, ids};
use btrfuse::volume::{BlockDevice, FaultyDevice, FileDevice, MemoryDevice, Volume};
use btrfuse_test_support::{Image, Rng, btrfs_check};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

const SUPER_AT: [u64; 2] = [64 << 10, 64 << 20];

/// Flips a bit in the first copy of every tree root that the superblock or the root tree names.
fn damage_first_copies(image: &Image) {
    let device = Arc::new(FileDevice::open(image.path(), false).unwrap());
    let engine = open_device(device.clone()).unwrap();
    let ctx = &engine.ctx;
    let mut damaged = Vec::new();
    for tree in [
        ids::ROOT_TREE_OBJECTID,
        ids::CHUNK_TREE_OBJECTID,
        ids::EXTENT_TREE_OBJECTID,
        ids::DEV_TREE_OBJECTID,
        ids::FS_TREE_OBJECTID,
    ] {
        let at = ctx.roots.get(ctx, tree).unwrap().node().bytenr;
        let copies = engine.volume.chunks().map(at, 1).unwrap().copies;
        assert_eq!(copies.len(), 2, "metadata is DUP");
        damaged.push(copies[0].1.get());
    }
    drop(engine);
    for at in damaged {
        let mut byte = [0];
        device.read_at(at + 200, &mut byte).unwrap();
        device.write_at(at + 200, &[byte[0] ^ 1]).unwrap();
    }
}

pub fn change_superblocks(image: &Image, change: impl Fn(&mut Superblock)) {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(image.path())
        .unwrap();
    for at in SUPER_AT {
        let mut bytes = vec![0; 4096];
        file.read_exact_at(&mut bytes, at).unwrap();
        let mut superblock = Superblock::parse_at(&bytes, at).unwrap();
        change(&mut superblock);
        superblock.seal().unwrap();
        file.write_all_at(superblock.as_bytes(), at).unwrap();
    }
}

/// The gate that keeps an image from being written also keeps its bad copies from being repaired,
/// from the first block that is read on.
#[test]
fn an_image_that_is_only_read_is_not_repaired() {
    let image = Image::mkfs_btrfs(128, &[]);
    damage_first_copies(&image);
    change_superblocks(&image, |superblock| {
        let flags = superblock.compat_ro_flags.get();
        let flags = flags & !FEATURE_COMPAT_RO_FREE_SPACE_TREE_VALID;
        superblock.compat_ro_flags.set(flags);
    });
    let before = image.digest();
    {
        let device = Arc::new(FileDevice::open(image.path(), false).unwrap());
        let engine = open_device(device).unwrap();
        assert!(engine.read_only().is_some());
        let root = engine
            .ctx
            .roots
            .get(&engine.ctx, ids::FS_TREE_OBJECTID)
            .unwrap();
        assert!(engine.ctx.search(&root, &Key::MIN).unwrap().key().is_some());
        let (_, _, errors) = engine.volume.device_errors()[0].clone();
        assert!(errors.corruption_errors > 3, "{errors:?}");
        assert_eq!(errors.repaired, 0);
        engine.shutdown().unwrap();
    }
    assert_eq!(image.digest(), before);
}

/// The same blocks in an image that may be written: they are read around and repaired.
#[test]
fn an_image_that_is_written_is_repaired() {
    let image = Image::mkfs_btrfs(128, &[]);
    damage_first_copies(&image);
    let device = Arc::new(FileDevice::open(image.path(), false).unwrap());
    let engine = open_device(device).unwrap();
    let mut scribe = Scribe::new(&engine, 5, "r");
    let mut rng = Rng::new(2);
    for _ in 0..50 {
        scribe.step(&mut rng).unwrap();
    }
    engine.shutdown().unwrap();
    drop(scribe);
    drop(engine);
    btrfs_check(image.path());
}

/// A power cut between the superblock copies leaves them of two generations. The older one's trees
/// are overwritten from the next transaction on, so it must not be there any more by then.
#[test]
fn copies_of_the_superblock_become_the_same_before_anything_is_written() {
    let image = Image::mkfs_btrfs(128, &[]);
    let memory = || {
        let file = std::fs::File::open(image.path()).unwrap();
        MemoryDevice::from_reader(file).unwrap()
    };
    let old: Vec<Vec<u8>> = {
        let device = memory();
        let copy = |at| {
            let mut bytes = vec![0; 4096];
            device.read_at(at, &mut bytes).unwrap();
            bytes
        };
        SUPER_AT.map(copy).to_vec()
    };
    {
        let device = Arc::new(FileDevice::open(image.path(), false).unwrap());
        let engine = open_device(device).unwrap();
        let mut scribe = Scribe::new(&engine, 5, "s");
        scribe.touch(&mut Rng::new(1)).unwrap();
        engine.shutdown().unwrap();
    }
    for lost in 0..2 {
        let device = Arc::new(FaultyDevice::over(Arc::new(memory())));
        device.write_at(SUPER_AT[lost], &old[lost]).unwrap();
        let (volume, superblock) = Volume::open(vec![device.clone()], false).unwrap();
        let generation = superblock.generation();
        drop(volume);
        let writes = device.calls().writes;
        let flushes = device.calls().flushes;
        let engine = open_device(device.clone()).unwrap();
        assert_eq!(device.calls().writes, writes + 2);
        assert_eq!(device.calls().flushes, flushes + 1);
        for at in SUPER_AT {
            let mut bytes = vec![0; 4096];
            device.read_at(at, &mut bytes).unwrap();
            let copy = Superblock::parse_at(&bytes, at).unwrap();
            assert_eq!(
                copy.generation(),
                generation,
                "copy {lost} was the older one"
            );
        }
        drop(engine);
        // From now on there is nothing to heal.
        let writes = device.calls().writes;
        drop(open_device(device.clone()).unwrap());
        assert_eq!(device.calls().writes, writes);
    }
}

/// A generation that can't be counted on is refused rather than overflowed.
#[test]
fn an_absurd_generation_is_refused() {
    let image = Image::mkfs_btrfs(128, &[]);
    change_superblocks(&image, |superblock| superblock.generation.set(u64::MAX));
    let device = Arc::new(FileDevice::open(image.path(), false).unwrap());
    let Err(error) = open_device(device) else {
        panic!("generation {} was believed", u64::MAX);
    };
    assert!(error.to_string().contains("generation"), "{error}");
}
