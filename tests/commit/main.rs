//! Commits on real images, judged by `btrfs check` in both modes and by the kernel: items are
//! written at the level of the trees, so that nothing above the commit takes part.

mod collisions;
mod extents;
mod faults;
mod gated;
mod gates;
mod hostile;
mod hostile_log;
mod log_replay;
mod made_log;
mod recording;
mod scribe;
mod snapshots;
mod superblocks;
mod write_order;

use btrfuse_test_support::check::{check, complaints};
use btrfuse_test_support::{Image, Judge, LoopMount, Rng, btrfs_check, golden};
use scribe::{Scribe, open_image};

/// Random edits with a commit now and then, and a clean end.
fn scribble(image: &Image, trees: &[u64], seed: u64, steps: u64) {
    let engine = open_image(image.path());
    assert_eq!(engine.read_only(), None);
    let mut rng = Rng::new(seed);
    let mut scribes: Vec<_> = trees
        .iter()
        .map(|&tree| Scribe::new(&engine, tree, &format!("t{tree}s{seed}")))
        .collect();
    for step in 0..steps {
        let which = rng.below(scribes.len() as u64) as usize;
        match scribes[which].step(&mut rng) {
            Ok(()) => {}
            // A full image says so before the first edit, and stays writable.
            Err(btrfuse::Error::NoSpace) => {}
            Err(error) => panic!("step {step}: {error}"),
        }
        if rng.one_in(150) {
            engine.committer.commit().unwrap();
            engine.ctx.space.verify().unwrap();
        }
        if rng.one_in(400) {
            engine.committer.write_early().unwrap();
        }
    }
    engine.shutdown().unwrap();
    engine.ctx.space.verify().unwrap();
}

fn kernel_accepts(image: &Image) {
    let mount = LoopMount::read_write(image.path());
    std::fs::write(mount.path().join("the kernel was here"), vec![7; 100_000]).unwrap();
    mount.unmount();
    btrfs_check(image.path());
}

#[track_caller]
fn fresh(mib: u64, options: &[&str], steps: u64) {
    let image = Image::mkfs_btrfs(mib, options);
    for seed in 1..4 {
        scribble(&image, &[5], seed, steps);
        btrfs_check(image.path());
    }
    kernel_accepts(&image);
    scribble(&image, &[5], 9, steps / 2);
    btrfs_check(image.path());
}

#[test]
fn an_image_of_mkfs_stays_clean() {
    fresh(256, &[], 1500);
}

#[test]
fn small_nodes_grow_deep_trees() {
    fresh(256, &["-n", "4096"], 3000);
}

#[test]
fn large_nodes_work() {
    fresh(256, &["-n", "65536"], 1000);
}

/// Sectors larger than this machine's pages: only `btrfs check` can judge.
#[test]
fn large_sectors_work() {
    for sector in ["16384", "65536"] {
        let image = Image::mkfs_btrfs(256, &["-s", sector, "-n", "65536"]);
        for seed in 1..3 {
            scribble(&image, &[5], seed, 500);
            btrfs_check(image.path());
        }
    }
}

#[test]
fn every_checksum_works() {
    for csum in ["xxhash", "sha256", "blake2"] {
        fresh(256, &["--csum", csum], 300);
    }
}

#[test]
fn without_skinny_items_and_free_space_tree() {
    fresh(256, &["-O", "^skinny-metadata"], 800);
    fresh(256, &["-R", "^free-space-tree"], 800);
}

#[test]
fn single_metadata_works() {
    fresh(256, &["-m", "single"], 500);
}

#[test]
fn nothing_changed_writes_nothing() {
    let image = Image::mkfs_btrfs(128, &[]);
    let before = image.digest();
    let engine = open_image(image.path());
    engine.committer.commit().unwrap();
    engine.shutdown().unwrap();
    assert_eq!(before, image.digest());
}

#[track_caller]
fn golden_image(name: &str, trees: &[u64], steps: u64) {
    let image = golden::named(name).image();
    let check = Judge::before_us(image.path());
    for seed in 1..3 {
        scribble(&image, trees, seed, steps);
        check.assert_content(image.path());
    }
    let mount = LoopMount::read_write(image.path());
    std::fs::write(mount.path().join("the kernel was here"), vec![7; 100_000]).unwrap();
    mount.unmount();
    check.assert_content(image.path());
}

#[test]
fn images_with_shared_blocks_stay_clean() {
    golden_image("snapshots-s11", &[5, 256, 257, 258], 1500);
    golden_image("reflinks-s11", &[5], 800);
}

#[test]
fn old_items_and_small_nodes_stay_clean() {
    golden_image("no-skinny-s11", &[5], 800);
    golden_image("node4k-s11", &[5], 1500);
}

#[test]
fn bitmaps_and_aged_images_stay_clean() {
    golden_image("fst-bitmaps-s11", &[5], 1500);
    golden_image("aged-s11", &[5], 1000);
}

#[test]
fn a_block_group_tree_stays_clean() {
    golden_image("bgt-s11", &[5], 800);
    golden_image("bgt-converted-s11", &[5], 500);
}

/// Each with something special to keep true: mixed groups, data in DUP, the old free space
/// cache, quotas, another id in the headers, a device that was resized, a dropped subvolume.
#[test]
fn special_images_stay_clean() {
    for name in [
        "mixed-s11",
        "dup-dup-s11",
        "sc-v1-s11",
        "metadata-uuid-s11",
        "resized-s11",
        "orphans-s11",
        "no-holes-off-s11",
        "csum-sha256-s11",
        "bigdir-s11",
        "single-s11",
        "rootdir-s11",
        "holes-s11",
    ] {
        golden_image(name, &[5], 400);
    }
}

/// Nobody counts quotas here: the numbers must say so, and the kernel counts again.
#[test]
fn quotas_are_marked_as_inconsistent() {
    use btrfuse::ondisk::{Key, QGROUP_STATUS_FLAG_INCONSISTENT, QgroupStatusItem, ids, kind};
    let image = golden::named("quotas-s11").image();
    let inconsistent = || {
        let engine = open_image(image.path());
        let ctx = &engine.ctx;
        let quotas = ctx.roots.get(ctx, ids::QUOTA_TREE_OBJECTID).unwrap();
        let item = ctx
            .get(&quotas, &Key::new(0, kind::QGROUP_STATUS, 0))
            .unwrap()
            .unwrap();
        let flags = QgroupStatusItem::read(&item).unwrap().flags.get();
        flags & QGROUP_STATUS_FLAG_INCONSISTENT != 0
    };
    assert!(!inconsistent());
    scribble(&image, &[5], 1, 200);
    assert!(inconsistent());
    let complaints = complaints(&check(image.path(), "original"));
    let about_quotas = ["group", "our:", "disk:", "diff:"];
    let others: Vec<_> = complaints
        .iter()
        .filter(|line| !about_quotas.iter().any(|word| line.contains(word)))
        .collect();
    assert!(others.is_empty(), "{others:?}");
    let mount = LoopMount::read_write(image.path());
    btrfuse_test_support::run(
        std::process::Command::new("btrfs")
            .args(["quota", "rescan", "-w"])
            .arg(mount.path()),
    );
    mount.unmount();
    btrfs_check(image.path());
    assert!(!inconsistent());
}

/// What only another program can bring to an end keeps an image from being written.
#[test]
fn a_log_tree_is_refused_in_words() {
    let image = golden::named("log0-s11-p24").image();
    let device = btrfuse::volume::FileDevice::open(image.path(), false).unwrap();
    let Err(error) = scribe::open_device(std::sync::Arc::new(device)) else {
        panic!("a log tree was passed over");
    };
    assert!(matches!(error, btrfuse::Error::Unsupported(_)));
    assert!(error.to_string().contains("nologreplay"), "{error}");
}

/// On a full image refusals come before the first edit, never as an aborted transaction.
#[test]
fn a_full_image_refuses_and_stays_clean() {
    let image = golden::named("full-s11").image();
    scribble(&image, &[5], 1, 2000);
    btrfs_check(image.path());
    let mount = LoopMount::read_write(image.path());
    mount.unmount();
    btrfs_check(image.path());
}

/// Deleted subvolumes are dropped in steps, with reopening in between; what they shared with
/// others stays.
#[test]
fn deleted_subvolumes_are_dropped() {
    let image = Image::mkfs_btrfs(512, &["-n", "4096"]);
    let mount = LoopMount::read_write(image.path());
    let at = |name: &str| mount.path().join(name);
    let btrfs = |arguments: &[&std::ffi::OsStr]| {
        btrfuse_test_support::run(std::process::Command::new("btrfs").args(arguments));
    };
    let snapshot = |from: &str, to: &str| {
        let (from, to) = (at(from), at(to));
        btrfs(&[
            "subvolume".as_ref(),
            "snapshot".as_ref(),
            from.as_ref(),
            to.as_ref(),
        ]);
    };
    btrfs(&["subvolume".as_ref(), "create".as_ref(), at("a").as_ref()]);
    let fill = |folder: &str, name: &str, files: usize| {
        for n in 0..files {
            let path = at(folder).join(format!("{name}-{n:05}"));
            std::fs::write(&path, vec![n as u8; n * 37 % 9000]).unwrap();
        }
    };
    fill("a", "first", 1500);
    snapshot("a", "b");
    fill("b", "second", 800);
    snapshot("b", "c");
    fill("b", "third", 300);
    fill("c", "fourth", 300);
    snapshot("c", "d");
    for n in (0..1500).step_by(3) {
        std::fs::remove_file(at("d").join(format!("first-{n:05}"))).unwrap();
    }
    // Who made a shared node and copies it leaves it to the others, with its references counted by parent.
    for n in (1..1500).step_by(5) {
        std::fs::remove_file(at("a").join(format!("first-{n:05}"))).unwrap();
    }
    mount.unmount();
    btrfs_check(image.path());
    // 256 a, 257 b, 258 c, 259 d. c made blocks that d shares; b made blocks that c and d share.
    for doomed in [258, 257, 259, 256] {
        kill_subvolume(&image, doomed);
        let mut steps = 0;
        loop {
            // Each step starts from what the one before left on the disk.
            let engine = open_image(image.path());
            let more = engine.committer.clean_step().unwrap();
            let several = steps % 3;
            for _ in 0..several {
                engine.committer.clean_step().unwrap();
            }
            engine.shutdown().unwrap();
            steps += 1;
            // (The lowmem mode of btrfs-progs 6.2 walks into what a half-dropped tree has lost.)
            let found = complaints(&check(image.path(), "original"));
            assert!(
                found.is_empty(),
                "{doomed} after {steps} steps:\n{}",
                found.join("\n")
            );
            if !more {
                break;
            }
            if doomed == 257 && steps == 3 {
                // The kernel goes on from the same place.
                let mount = LoopMount::read_write(image.path());
                btrfs(&["subvolume".as_ref(), "sync".as_ref(), mount.path().as_ref()]);
                mount.unmount();
            }
        }
        assert!(steps > 3 || doomed == 256, "{doomed}: {steps} steps");
        btrfs_check(image.path());
    }
    let mount = LoopMount::read_write(image.path());
    assert_eq!(std::fs::read_dir(mount.path()).unwrap().count(), 0);
    mount.unmount();
}

/// The kernel deleted it and had no time to drop it.
#[test]
fn a_subvolume_that_the_kernel_deleted_is_dropped() {
    let image = golden::named("subvol-deleted-s11-pending").image();
    let engine = open_image(image.path());
    let mut steps = 0;
    while engine.committer.clean_step().unwrap() {
        steps += 1;
    }
    assert!(steps > 0);
    engine.shutdown().unwrap();
    btrfs_check(image.path());
    kernel_accepts(&image);
}

/// What `btrfs subvolume delete` does before the drop: the name goes, the root item has no
/// references, and an orphan item says so.
fn kill_subvolume(image: &Image, objectid: u64) {
    use btrfuse::btree::Update;
    use btrfuse::ondisk::{InodeItem, Key, RootRef, csum::name_hash, ids, kind};
    let engine = open_image(image.path());
    let ctx = &engine.ctx;
    let tree_root = ctx.roots.get(ctx, ids::ROOT_TREE_OBJECTID).unwrap();
    let parent = ctx.roots.get(ctx, ids::FS_TREE_OBJECTID).unwrap();
    let doomed = ctx.roots.get(ctx, objectid).unwrap();
    let trans = ctx.transactions.join().unwrap();
    let forward = Key::new(ids::FS_TREE_OBJECTID, kind::ROOT_REF, objectid);
    let found = ctx.get(&tree_root, &forward).unwrap().unwrap();
    let (head, name) = RootRef::parse(&found).unwrap();
    let backward = Key::new(objectid, kind::ROOT_BACKREF, ids::FS_TREE_OBJECTID);
    assert!(ctx.delete(&trans, &tree_root, &forward).unwrap());
    assert!(ctx.delete(&trans, &tree_root, &backward).unwrap());
    let by_name = Key::new(256, kind::DIR_ITEM, name_hash(name).into());
    assert!(ctx.delete(&trans, &parent, &by_name).unwrap());
    let by_index = Key::new(256, kind::DIR_INDEX, head.sequence.get());
    assert!(ctx.delete(&trans, &parent, &by_index).unwrap());
    ctx.modify(
        &trans,
        &parent,
        &Key::new(256, kind::INODE_ITEM, 0),
        |item| {
            let inode = InodeItem::read_mut(item).unwrap();
            inode.size.set(inode.size.get() - 2 * name.len() as u64);
        },
    )
    .unwrap();
    let uuids = ctx.roots.get(ctx, ids::UUID_TREE_OBJECTID).unwrap();
    let key = btrfuse::ondisk::uuid_key(&doomed.item().uuid, kind::UUID_KEY_SUBVOL);
    ctx.update(&trans, &uuids, &key, |_| Ok(Update::Delete))
        .unwrap();
    doomed.item().refs.set(0);
    trans.transaction().add_dirty_root(objectid);
    let orphan = Key::new(ids::ORPHAN_OBJECTID, kind::ORPHAN_ITEM, objectid);
    ctx.insert(&trans, &tree_root, &orphan, &[]).unwrap();
    drop(trans);
    engine.shutdown().unwrap();
}

/// Filled to the last byte, everything can be deleted again: that must not need what isn't there.
#[test]
fn a_filled_image_can_be_emptied() {
    let image = Image::mkfs_btrfs(128, &["-n", "4096"]);
    let engine = open_image(image.path());
    let mut rng = Rng::new(5);
    let mut scribe = Scribe::new(&engine, 5, "f");
    let before = engine.ctx.space.numbers();
    let mut refused = 0;
    while refused < 60 {
        match scribe.grow(&mut rng) {
            Ok(()) => {}
            Err(btrfuse::Error::NoSpace) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    engine.committer.commit().unwrap();
    assert!(engine.ctx.space.numbers().available < 8 << 20);
    scribe.delete_everything(&mut rng).unwrap();
    engine.committer.commit().unwrap();
    engine.ctx.space.verify().unwrap();
    let after = engine.ctx.space.numbers();
    assert!(
        after.available + (8 << 20) > before.available,
        "{before:?}\n{after:?}"
    );
    engine.shutdown().unwrap();
    btrfs_check(image.path());
    kernel_accepts(&image);
}

/// Writers on several threads while commits go on.
#[test]
fn writers_go_on_during_commits() {
    let image = Image::mkfs_btrfs(512, &["-n", "4096"]);
    let engine = open_image(image.path());
    // All made before the first thread starts: each lists the inodes that everybody may touch.
    let scribes: Vec<_> = (0..4)
        .map(|number| Scribe::new(&engine, 5, &format!("w{number}")))
        .collect();
    std::thread::scope(|scope| {
        let writers: Vec<_> = scribes
            .into_iter()
            .zip(100..)
            .map(|(mut scribe, seed)| {
                scope.spawn(move || {
                    let mut rng = Rng::new(seed);
                    for _ in 0..1500 {
                        scribe.step(&mut rng).unwrap();
                    }
                })
            })
            .collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            engine.committer.commit().unwrap();
        }
    });
    engine.shutdown().unwrap();
    engine.ctx.space.verify().unwrap();
    btrfs_check(image.path());
    kernel_accepts(&image);
}

/// New chunks of every kind appear, and empty ones go.
#[test]
fn chunks_come_and_go() {
    let image = Image::mkfs_btrfs(2048, &[]);
    let engine = open_image(image.path());
    let mut scribe = Scribe::new(&engine, 5, "c");
    let mut rng = Rng::new(3);
    let before = engine.ctx.space.numbers();
    let reservation = engine.ctx.space.reserve_data(700 << 20).unwrap();
    assert!(engine.ctx.space.numbers().data.total > before.data.total);
    scribe.step(&mut rng).unwrap();
    engine.committer.commit().unwrap();
    // The promise keeps its chunks; without it they are given back.
    assert!(engine.ctx.space.numbers().data.total >= 700 << 20);
    drop(reservation);
    for kind in [
        btrfuse::allocator::Kind::Metadata,
        btrfuse::allocator::Kind::System,
    ] {
        engine.ctx.space.allocate_chunk(kind).unwrap();
    }
    for _ in 0..50 {
        scribe.step(&mut rng).unwrap();
    }
    engine.committer.commit().unwrap();
    scribe.step(&mut rng).unwrap();
    engine.shutdown().unwrap();
    assert!(engine.ctx.space.numbers().data.total < 600 << 20);
    drop(engine);
    btrfs_check(image.path());
    kernel_accepts(&image);
    scribble(&image, &[5], 4, 100);
    btrfs_check(image.path());
}

/// How long joins wait, and what a commit costs: `BTRFUSE_STEPS=100000 cargo test --test commit
/// measure -- --nocapture`.
#[test]
fn measure_commits() {
    use std::sync::atomic::Ordering;
    let steps = std::env::var("BTRFUSE_STEPS").map_or(2000, |steps| steps.parse().unwrap());
    let image = Image::mkfs_btrfs(8192, &[]);
    let engine = open_image(image.path());
    let scribes: Vec<_> = (0..2)
        .map(|number| Scribe::new(&engine, 5, &format!("w{number}")))
        .collect();
    let start = std::time::Instant::now();
    std::thread::scope(|scope| {
        let writers: Vec<_> = scribes
            .into_iter()
            .zip(100..)
            .map(|(mut scribe, seed)| {
                scope.spawn(move || {
                    let mut rng = Rng::new(seed);
                    for _ in 0..steps {
                        scribe.step(&mut rng).unwrap();
                    }
                })
            })
            .collect();
        let mut last = std::time::Instant::now();
        while writers.iter().any(|writer| !writer.is_finished()) {
            std::thread::sleep(std::time::Duration::from_millis(20));
            if last.elapsed().as_millis() > 500 {
                last = std::time::Instant::now();
                engine.committer.commit().unwrap();
            }
        }
    });
    let edited = start.elapsed();
    engine.shutdown().unwrap();
    let counters = &engine.committer.counters;
    eprintln!(
        "{steps} steps by each of 2 in {edited:?}, {:?} with the last commit; {} commits, {} blocks, {} heads, \
         joins waited {} us, commits took {} us",
        start.elapsed(),
        counters.commits.load(Ordering::Relaxed),
        counters.blocks.load(Ordering::Relaxed),
        counters.heads.load(Ordering::Relaxed),
        counters.critical_us.load(Ordering::Relaxed),
        counters.total_us.load(Ordering::Relaxed),
    );
    btrfs_check(image.path());
}
