//! What the extent tree and the csum tree must hold beyond the ordinary: extents with more
//! references than fit into their item, checksums cut and joined in every way.

use crate::scribe::{Scribe, open_image};
use btrfuse::ondisk::{CsumType, Key, ids, kind};
use btrfuse::units::Logical;
use btrfuse_test_support::{Image, LoopMount, Rng, btrfs_check};
use std::collections::BTreeMap;

/// References that don't fit inline get items of their own, and those go again, in any order.
#[test]
fn many_references_become_keyed() {
    for options in [
        &["-n", "4096"][..],
        &[][..],
        &["-O", "^skinny-metadata"][..],
    ] {
        let image = Image::mkfs_btrfs(256, options);
        let engine = open_image(image.path());
        let mut scribe = Scribe::new(&engine, 5, "r");
        let mut rng = Rng::new(11);
        while scribe.files().is_empty() {
            scribe.grow(&mut rng).unwrap();
        }
        let model = scribe.files()[0];
        for n in 0..400 {
            let trans = engine.ctx.transactions.join().unwrap();
            scribe.clone_of(&trans, &mut rng, model).unwrap();
            drop(trans);
            if n % 97 == 0 {
                engine.committer.commit().unwrap();
            }
        }
        engine.committer.commit().unwrap();
        let keyed = || {
            let extents = engine
                .ctx
                .roots
                .get(&engine.ctx, ids::EXTENT_TREE_OBJECTID)
                .unwrap();
            let mut cursor = engine.ctx.search(&extents, &Key::MIN).unwrap();
            let mut keyed = 0;
            while let Some(key) = cursor.key() {
                keyed += usize::from(key.kind == kind::EXTENT_DATA_REF);
                if !cursor.next().unwrap() {
                    break;
                }
            }
            keyed
        };
        assert!(keyed() > 350, "{} keyed references", keyed());
        for _ in 0..250 {
            scribe.delete_any_file(&mut rng).unwrap();
        }
        engine.committer.commit().unwrap();
        let left = keyed();
        assert!((50..350).contains(&left), "{left} keyed references");
        drop(scribe);
        engine.shutdown().unwrap();
        drop(engine);
        btrfs_check(image.path());
        let mount = LoopMount::read_write(image.path());
        for entry in std::fs::read_dir(mount.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        mount.unmount();
        btrfs_check(image.path());
    }
}

/// Last references go with their extent, checksums and space, also when all were keyed.
#[test]
fn an_extent_goes_with_its_last_reference() {
    let image = Image::mkfs_btrfs(256, &["-n", "4096"]);
    let engine = open_image(image.path());
    let mut scribe = Scribe::new(&engine, 5, "l");
    let mut rng = Rng::new(12);
    while scribe.files().is_empty() {
        scribe.grow(&mut rng).unwrap();
    }
    let used = |engine: &btrfuse::commit::Engine| engine.ctx.space.numbers().data.usage.used;
    let model = scribe.files()[0];
    for _ in 0..120 {
        let trans = engine.ctx.transactions.join().unwrap();
        scribe.clone_of(&trans, &mut rng, model).unwrap();
    }
    engine.committer.commit().unwrap();
    assert!(used(&engine) >= 256 << 10);
    while !scribe.files().is_empty() {
        scribe.delete_any_file(&mut rng).unwrap();
        if rng.one_in(40) {
            engine.committer.commit().unwrap();
        }
    }
    engine.committer.commit().unwrap();
    assert_eq!(used(&engine), 0);
    engine.shutdown().unwrap();
    drop(scribe);
    drop(engine);
    btrfs_check(image.path());
}

/// Random inserts, deletes and lookups of checksums against a map of single sectors.
#[test]
fn checksums_match_a_map_of_sectors() {
    const SECTOR: u64 = 4096;
    for (csum, options) in [
        (CsumType::Crc32c, ["-n", "4096"]),
        (CsumType::Sha256, ["--csum", "sha256"]),
    ] {
        let image = Image::mkfs_btrfs(128, &options);
        let engine = open_image(image.path());
        let csums = &engine.csums;
        let size = csum.size();
        assert_eq!(csums.csum_type(), csum);
        let mut model: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut rng = Rng::new(21);
        let base = 1 << 40;
        for step in 0..3000 {
            let at = rng.below(6000);
            let len = 1 + if rng.one_in(8) {
                rng.below(3000)
            } else {
                rng.below(40)
            };
            let trans = engine.ctx.transactions.join().unwrap();
            let from = Logical(base + at * SECTOR);
            if rng.one_in(3) {
                csums.delete(&trans, from, len * SECTOR).unwrap();
                model.retain(|&sector, _| sector < at || sector >= at + len);
            } else {
                // Mostly what has none yet; now and then over what somebody left behind.
                let end = model
                    .range(at..)
                    .next()
                    .map_or(u64::MAX, |(&sector, _)| sector);
                let len = if rng.one_in(6) {
                    len
                } else {
                    len.min(end - at)
                };
                let sums = rng.bytes(len as usize * size);
                csums.insert(&trans, from, &sums).unwrap();
                for (sector, sum) in (at..at + len).zip(sums.chunks(size)) {
                    model.insert(sector, sum.to_vec());
                }
            }
            drop(trans);
            let (at, len) = (rng.below(6000), 1 + rng.below(500));
            let mut found = BTreeMap::new();
            for run in csums
                .lookup(Logical(base + at * SECTOR), len * SECTOR)
                .unwrap()
            {
                let first = (run.at.get() - base) / SECTOR;
                for (sector, sum) in (first..).zip(run.sums.chunks(size)) {
                    found.insert(sector, sum.to_vec());
                }
            }
            let expected: BTreeMap<_, _> = model
                .range(at..at + len)
                .map(|(&sector, sum)| (sector, sum.clone()))
                .collect();
            assert!(found == expected, "step {step}: {at}+{len}");
        }
        // These checksums belong to no extent: the image isn't kept.
        let trans = engine.ctx.transactions.join().unwrap();
        csums
            .delete(&trans, Logical(base), 10_000 * SECTOR)
            .unwrap();
        drop(trans);
        engine.shutdown().unwrap();
        drop(engine);
        btrfs_check(image.path());
    }
}
