//! What fails: space, reads, and pointers that lie. A tree function that returns an error has
//! changed nothing; none panics, and none runs in circles.

use super::bench::Bench;
use crate::btree::TreeContext;
use crate::error::{Error, Result};
use crate::extent_buffer::Kind;
use crate::ondisk::ids::EXTENT_TREE_OBJECTID;
use crate::ondisk::key::{Key, kind};
use crate::ondisk::tree_block::{self, header, header_mut, node};
use crate::sync::atomic::Ordering;
use crate::sync::{mpsc, thread};
use crate::units::{Generation, KIB, Logical};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

fn key(id: u64) -> Key {
    Key::new(id, 253, 0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn an_edit_without_space_changes_nothing(
        steps in prop::collection::vec((0u64..400, 0usize..3960, any::<bool>()), 100..400),
        blocks in 12u64..60,
    ) {
        let bench = Bench::with_space(4096, 4000, Kind::BUILD, blocks * 4 * KIB);
        let root = bench.root(5);
        let mut model = BTreeMap::new();
        let trans = bench.join();
        for (id, size, add) in steps {
            let data = vec![id as u8; size];
            let result = match add {
                true => bench.ctx.upsert(&trans, &root, &key(id), &data),
                false => bench.ctx.delete(&trans, &root, &key(id)).map(|_| ()),
            };
            match (result, add) {
                (Ok(()), true) => drop(model.insert(key(id), data)),
                (Ok(()), false) => drop(model.remove(&key(id))),
                (Err(Error::NoSpace), _) => {}
                (Err(error), _) => panic!("{error}"),
            }
        }
        bench.ctx.verify_tree(&root).unwrap();
        let items = bench.items(&root);
        prop_assert!(items.iter().map(|(k, d)| (k, d)).eq(model.iter()));
        bench.ctx.transactions.check().unwrap();
        bench.ctx.space.verify().unwrap();
    }

    #[test]
    fn an_edit_whose_reads_fail_changes_nothing(
        steps in prop::collection::vec((0u64..600, 0usize..600, 0u8..4), 100..300),
        every in 2u64..9,
    ) {
        let bench = Bench::new(4096, 20, Kind::BUILD);
        let root = bench.root(5);
        let mut model = BTreeMap::new();
        for (id, size, verb) in steps {
            let data = vec![id as u8; size];
            if verb == 3 {
                bench.commit();
                continue;
            }
            let trans = bench.join();
            bench.disk.fail_reads.store(every, Ordering::Relaxed);
            let result = match verb {
                0 | 1 => bench.ctx.upsert(&trans, &root, &key(id), &data),
                _ => bench.ctx.delete(&trans, &root, &key(id)).map(|_| ()),
            };
            bench.disk.fail_reads.store(0, Ordering::Relaxed);
            match (result, verb) {
                (Ok(()), 2) => drop(model.remove(&key(id))),
                (Ok(()), _) => drop(model.insert(key(id), data)),
                (Err(Error::NoGoodCopy(_)), _) => {}
                (Err(error), _) => panic!("{error}"),
            }
        }
        bench.commit();
        bench.verify();
        let items = bench.items(&root);
        prop_assert!(items.iter().map(|(k, d)| (k, d)).eq(model.iter()));
    }

    #[test]
    fn lying_pointers_are_found_out(
        victim in any::<prop::sample::Index>(), slot in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(), lie in 0u8..6,
    ) {
        let bench = Bench::new(4096, 4000, Kind::BUILD);
        let root = bench.root(5);
        let trans = bench.join();
        for id in 0..3000 {
            bench.ctx.insert(&trans, &root, &key(id), &[9; 100]).unwrap();
        }
        drop(trans);
        bench.commit();
        let mut blocks = bench.disk.blocks.lock();
        let ours: Vec<Logical> = blocks
            .iter()
            .filter(|(_, block)| header(block).owner.get() == 5)
            .map(|(at, _)| *at)
            .collect();
        let nodes: Vec<Logical> = ours
            .iter()
            .copied()
            .filter(|at| tree_block::level(&blocks[at]) > 0)
            .collect();
        let victim = *victim.get(&nodes);
        let other = *other.get(&ours);
        let block = blocks.get_mut(&victim).unwrap();
        let slot = slot.index(tree_block::nritems(block));
        let (at, generation) = node::ptr(block, slot);
        match lie {
            // To itself, to its own kind, to anything.
            0 => node::set_ptr(block, slot, victim, generation),
            1 => node::set_ptr(block, slot, other, generation),
            2 => node::set_ptr(block, slot, at, Generation(generation.0 + 1)),
            3 => node::set_ptr(block, slot, Logical(12345), generation),
            4 => {
                let mut lied = node::key(block, slot);
                lied.objectid += 1;
                node::set_key(block, slot, &lied);
            }
            _ => header_mut(block).level += 1,
        }
        let harmless = lie == 1 && other == at;
        drop(blocks);
        let ctx = bench.after_a_crash();
        let root = ctx.roots.get(&ctx, 5).unwrap();
        prop_assert_eq!(ctx.verify_tree(&root).is_ok(), harmless);
        let mut found_out = 0;
        for id in (0..3000).step_by(7) {
            found_out += u64::from(one_of_each(&ctx, id).is_err());
        }
        prop_assert!(harmless || found_out > 0);
    }
}

/// An fs tree that leads into the extent tree: a copy of that block looks up its references there,
/// and would wait for the block that it holds itself.
#[test]
fn a_pointer_from_an_fs_tree_into_the_extent_tree_is_found_out() {
    let bench = filled(60);
    let (top, extents) = (
        bench.root(5).node(),
        bench.root(EXTENT_TREE_OBJECTID).node(),
    );
    assert_eq!(
        (top.level, extents.level),
        (1, 0),
        "the shape that is meant"
    );
    let mut blocks = bench.disk.blocks.lock();
    let foreign = tree_block::key(&blocks[&extents.bytenr], 0);
    let block = blocks.get_mut(&top.bytenr).unwrap();
    let last = tree_block::nritems(block) - 1;
    node::set_ptr(block, last, extents.bytenr, extents.generation);
    node::set_key(block, last, &foreign);
    drop(blocks);
    assert_eq!(edit_of_shared(&bench, foreign), Ok(true));
}

/// The same the other way: where the references of an fs tree's block should be, the extent tree
/// leads to that very block.
#[test]
fn a_pointer_from_the_extent_tree_into_an_fs_tree_is_found_out() {
    let bench = filled(3000);
    let (top, extents) = (
        bench.root(5).node(),
        bench.root(EXTENT_TREE_OBJECTID).node(),
    );
    assert_eq!(
        (top.level, extents.level),
        (1, 1),
        "the shape that is meant"
    );
    let mut blocks = bench.disk.blocks.lock();
    let (leaf, generation) = node::ptr(&blocks[&top.bytenr], 0);
    let block = blocks.get_mut(&extents.bytenr).unwrap();
    let item = Key::new(leaf.0, kind::METADATA_ITEM, 0);
    let slot = tree_block::search(block, &item).unwrap_or_else(|slot| slot - 1);
    node::set_ptr(block, slot, leaf, generation);
    drop(blocks);
    assert_eq!(edit_of_shared(&bench, key(0)), Ok(true));
}

fn filled(items: u64) -> Bench {
    let bench = Bench::new(4096, 4000, Kind::BUILD);
    let (root, trans) = (bench.root(5), bench.join());
    for id in 0..items {
        let data = [9; 100];
        bench.ctx.insert(&trans, &root, &key(id), &data).unwrap();
    }
    drop(trans);
    bench.commit();
    bench
}

/// Edits an item of the fs tree, all of which a snapshot might share; whether that was refused for
/// damage. An error: it waits for something.
fn edit_of_shared(bench: &Bench, key: Key) -> std::result::Result<bool, mpsc::RecvTimeoutError> {
    let ctx = bench.after_a_crash();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let root = ctx.roots.get(&ctx, 5).unwrap();
        root.set_last_snapshot(Generation(1 << 20));
        let trans = ctx.transactions.join().unwrap();
        let result = ctx.upsert(&trans, &root, &key, &[1; 24]);
        let _ = tell.send(matches!(result, Err(Error::Corrupt(_))));
    });
    told.recv_timeout(Duration::from_secs(10))
}

/// Errors are fine, but only those of a damaged tree.
fn one_of_each(ctx: &TreeContext, id: u64) -> Result<()> {
    let root = ctx.roots.get(ctx, 5)?;
    let results = [
        ctx.get(&root, &key(id)).map(|_| ()),
        ctx.search(&root, &key(id)).and_then(|mut cursor| {
            while cursor.next()? {}
            Ok(())
        }),
        ctx.find_last_before(&root, &key(id)).map(|_| ()),
        ctx.transactions.join().and_then(|trans| {
            ctx.delete(&trans, &root, &key(id))?;
            ctx.insert(&trans, &root, &key(id), &[9; 100])?;
            ctx.delete_range(&trans, &root, key(id)..=key(id + 3))
                .map(|_| ())
        }),
    ];
    for result in results {
        match result {
            Ok(()) | Err(Error::NotFound) => {}
            Err(error @ (Error::Corrupt(_) | Error::Aborted(_))) => return Err(error),
            Err(error) => panic!("{error}"),
        }
    }
    Ok(())
}
