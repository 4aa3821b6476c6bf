//! One thread against a map: contents, order, shape, references.

use super::bench::{Bench, protocols};
use crate::btree::{Root, Update};
use crate::error::Error;
use crate::extent_buffer::Kind;
use crate::ondisk::key::Key;
use crate::sync::Arc;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Model = BTreeMap<Key, Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    Insert { id: u64, size: usize },
    InsertMany { id: u64, count: u64, size: usize },
    Upsert { id: u64, size: usize },
    Update { id: u64, size: Option<usize> },
    Modify { id: u64 },
    Delete { id: u64 },
    DeleteRange { id: u64, count: u64 },
    Rekey { id: u64 },
    Commit,
    RunRefs,
    WriteEarly,
}

fn key(id: u64) -> Key {
    Key::new(id, 253, 0)
}

fn fill(id: u64, size: usize, salt: usize) -> Vec<u8> {
    (0..size)
        .map(|i| (id as usize * 31 + i + salt) as u8)
        .collect()
}

fn step(ids: u64, size_max: usize) -> impl Strategy<Value = Step> {
    let id = 0..ids;
    let size = prop_oneof![4 => 0..120usize, 2 => 100..size_max, 1 => Just(size_max)];
    prop_oneof![
        8 => (id.clone(), size.clone()).prop_map(|(id, size)| Step::Insert { id, size }),
        4 => (id.clone(), 1..80u64, 0..200usize)
            .prop_map(|(id, count, size)| Step::InsertMany { id, count, size }),
        4 => (id.clone(), size.clone()).prop_map(|(id, size)| Step::Upsert { id, size }),
        3 => (id.clone(), prop::option::of(size)).prop_map(|(id, size)| Step::Update { id, size }),
        2 => id.clone().prop_map(|id| Step::Modify { id }),
        8 => id.clone().prop_map(|id| Step::Delete { id }),
        2 => (id.clone(), 1..300u64).prop_map(|(id, count)| Step::DeleteRange { id, count }),
        2 => id.prop_map(|id| Step::Rekey { id }),
        1 => Just(Step::Commit),
        1 => Just(Step::RunRefs),
        1 => Just(Step::WriteEarly),
    ]
}

fn apply(bench: &Bench, root: &Arc<Root>, model: &mut Model, step: &Step, salt: usize) {
    let ctx = &bench.ctx;
    if let Step::Commit = step {
        bench.commit();
        return;
    }
    let trans = bench.join();
    match *step {
        Step::Insert { id, size } => {
            let data = fill(id, size, salt);
            match ctx.insert(&trans, root, &key(id), &data) {
                Ok(()) => assert!(model.insert(key(id), data).is_none()),
                Err(Error::Exists) => assert!(model.contains_key(&key(id))),
                Err(error) => panic!("{error}"),
            }
        }
        Step::InsertMany { id, count, size } => {
            let items: Vec<_> = (id..id + count)
                .filter(|&id| !model.contains_key(&key(id)))
                .map(|id| (key(id), fill(id, size, salt)))
                .collect();
            let borrowed: Vec<_> = items.iter().map(|(key, data)| (*key, &data[..])).collect();
            ctx.insert_many(&trans, root, &borrowed).unwrap();
            model.extend(items);
        }
        Step::Upsert { id, size } => {
            let data = fill(id, size, salt);
            ctx.upsert(&trans, root, &key(id), &data).unwrap();
            model.insert(key(id), data);
        }
        Step::Update { id, size } => {
            let had = model.get(&key(id)).cloned();
            ctx.update(&trans, root, &key(id), |old| {
                assert_eq!(old, had.as_deref());
                Ok(match (size, old) {
                    (Some(size), _) => Update::Put(fill(id, size, salt)),
                    (None, Some(_)) => Update::Delete,
                    (None, None) => Update::Keep,
                })
            })
            .unwrap();
            match size {
                Some(size) => model.insert(key(id), fill(id, size, salt)),
                None => model.remove(&key(id)),
            };
        }
        Step::Modify { id } => {
            let change = |data: &mut [u8]| data.iter_mut().for_each(|byte| *byte ^= 0x55);
            let found = ctx.modify(&trans, root, &key(id), change).unwrap();
            assert_eq!(found, model.contains_key(&key(id)));
            if let Some(data) = model.get_mut(&key(id)) {
                change(data);
            }
        }
        Step::Delete { id } => {
            let found = ctx.delete(&trans, root, &key(id)).unwrap();
            assert_eq!(found, model.remove(&key(id)).is_some());
        }
        Step::DeleteRange { id, count } => {
            let range = key(id)..=key(id + count - 1);
            let doomed: Vec<_> = model.range(range.clone()).map(|(key, _)| *key).collect();
            let count = ctx.delete_range(&trans, root, range).unwrap();
            assert_eq!(count, doomed.len() as u64);
            for key in doomed {
                model.remove(&key);
            }
        }
        Step::Rekey { id } => {
            let new = Key {
                offset: 1 + salt as u64 % 5,
                ..key(id)
            };
            // Back to offset 0 at once, so that other steps find it.
            let found = ctx.rekey(&trans, root, &key(id), &new).unwrap();
            assert_eq!(found, model.contains_key(&key(id)));
            if found {
                let back = ctx.rekey(&trans, root, &new, &key(id));
                match back {
                    Ok(found) => assert!(found),
                    // Downwards from a leaf's first slot is refused.
                    Err(Error::Exists) => {
                        let data = ctx.get(root, &new).unwrap().unwrap();
                        assert!(ctx.delete(&trans, root, &new).unwrap());
                        ctx.insert(&trans, root, &key(id), &data).unwrap();
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        Step::RunRefs => bench.run_refs(&trans),
        Step::WriteEarly => bench.write_early(),
        Step::Commit => unreachable!("handled above"),
    }
}

fn compare(bench: &Bench, root: &Root, model: &Model) {
    bench.ctx.verify_tree(root).unwrap();
    let items = bench.items(root);
    assert_eq!(items.len(), model.len());
    assert!(items.iter().map(|(k, d)| (k, d)).eq(model.iter()));
    // Backwards, and points in between.
    let mut cursor = bench.ctx.search_back(root, &Key::MAX).unwrap();
    for (key, data) in model.iter().rev() {
        assert_eq!(cursor.item(), Some((*key, &data[..])));
        cursor.prev().unwrap();
    }
    assert_eq!(cursor.item(), None);
    for id in (0..700).step_by(37) {
        let probe = Key {
            offset: 7,
            ..key(id)
        };
        let after = bench.ctx.search(root, &probe).unwrap();
        assert_eq!(
            after.key(),
            model.range(probe..).next().map(|(key, _)| *key)
        );
        let before = bench.ctx.find_last_before(root, &probe).unwrap();
        let want = model
            .range(..=probe)
            .next_back()
            .map(|(key, data)| (*key, data.clone()));
        assert_eq!(before, want);
        assert_eq!(
            bench.ctx.get(root, &key(id)).unwrap().as_ref(),
            model.get(&key(id))
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn a_tree_is_a_sorted_map(
        steps in prop::collection::vec(step(600, 3960), 1..250),
        tight in any::<bool>(),
    ) {
        for protocol in protocols() {
            let bench = Bench::new(4096, if tight { 40 } else { 4000 }, protocol);
            let root = bench.root(5);
            let mut model = Model::new();
            let mut durable = Model::new();
            for (salt, step) in steps.iter().enumerate() {
                if let Step::Commit = step {
                    // Whatever was done and written since, a crash falls back to the last one.
                    let left = bench.items_after_a_crash(5);
                    prop_assert!(left.iter().map(|(k, d)| (k, d)).eq(durable.iter()));
                    durable.clone_from(&model);
                }
                apply(&bench, &root, &mut model, step, salt);
            }
            compare(&bench, &root, &model);
            bench.commit();
            bench.verify();
            compare(&bench, &root, &model);
            let left = bench.items_after_a_crash(5);
            prop_assert!(left.iter().map(|(k, d)| (k, d)).eq(model.iter()));
            // And down to nothing.
            let trans = bench.join();
            bench.ctx.delete_range(&trans, &root, Key::MIN..=Key::MAX).unwrap();
            drop(trans);
            bench.commit();
            compare(&bench, &root, &Model::new());
            bench.verify();
            prop_assert_eq!(bench.ctx.verify_tree(&root).unwrap().leaves, 1);
        }
    }
}

#[test]
fn all_nodesizes_work() {
    for nodesize in [4096u32, 8192, 16384, 32768, 65536] {
        let bench = Bench::new(nodesize, 2000, Kind::BUILD);
        let root = bench.root(5);
        let mut model = Model::new();
        let most = nodesize as usize - 101 - 25;
        for round in 0..3u64 {
            let trans = bench.join();
            for i in 0..400u64 {
                let id = (i * 7919 + round * 13) % 5000;
                let size = [10, most / 3, most, 200][i as usize % 4];
                bench
                    .ctx
                    .upsert(&trans, &root, &key(id), &fill(id, size, 0))
                    .unwrap();
                model.insert(key(id), fill(id, size, 0));
            }
            drop(trans);
            bench.commit();
        }
        assert!(matches!(
            bench
                .ctx
                .insert(&bench.join(), &root, &key(9999), &vec![0; most + 1]),
            Err(Error::Overflow)
        ));
        compare(&bench, &root, &model);
        bench.verify();
    }
}

#[test]
fn items_in_order_fill_their_leaves() {
    let bench = Bench::new(16384, 4000, Kind::BUILD);
    let root = bench.root(5);
    let trans = bench.join();
    for id in 0..20_000 {
        bench
            .ctx
            .insert(&trans, &root, &key(id), &[1; 100])
            .unwrap();
    }
    let summary = bench.ctx.verify_tree(&root).unwrap();
    let bytes = summary.leaves * (16384 - 101);
    assert!(summary.leaf_bytes_free * 20 < bytes, "{summary:?}");
    assert_eq!(summary.levels, 2);
}

#[test]
fn items_at_random_keep_leaves_two_thirds_full() {
    let bench = Bench::new(16384, 4000, Kind::BUILD);
    let root = bench.root(5);
    let trans = bench.join();
    for i in 0..20_000u64 {
        let id = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        bench
            .ctx
            .insert(&trans, &root, &key(id), &[1; 100])
            .unwrap();
    }
    let summary = bench.ctx.verify_tree(&root).unwrap();
    let bytes = summary.leaves * (16384 - 101);
    assert!(summary.leaf_bytes_free * 3 < bytes, "{summary:?}");
}

#[test]
fn a_delete_leaves_no_sparse_tree_behind() {
    let bench = Bench::new(4096, 4000, Kind::BUILD);
    let root = bench.root(5);
    let trans = bench.join();
    for id in 0..20_000 {
        bench.ctx.insert(&trans, &root, &key(id), &[1; 60]).unwrap();
    }
    let before = bench.ctx.verify_tree(&root).unwrap();
    for id in (0..20_000).filter(|id| id % 10 != 0) {
        assert!(bench.ctx.delete(&trans, &root, &key(id)).unwrap());
    }
    let after = bench.ctx.verify_tree(&root).unwrap();
    assert_eq!(after.items, 2000);
    assert!(after.leaves * 4 < before.leaves, "{before:?} {after:?}");
}

#[test]
fn an_emptied_leaf_of_this_transaction_is_reusable_at_once() {
    let bench = Bench::new(4096, 4000, Kind::BUILD);
    let root = bench.root(5);
    let trans = bench.join();
    let used = |bench: &Bench| trans.transaction().dirty_blocks.len() + bench.disk_blocks();
    for round in 0..50 {
        for id in 0..200 {
            bench
                .ctx
                .insert(&trans, &root, &key(id), &[round; 100])
                .unwrap();
        }
        for id in 0..200 {
            assert!(bench.ctx.delete(&trans, &root, &key(id)).unwrap());
        }
        assert!(used(&bench) < 10, "round {round}: {}", used(&bench));
    }
    let highest = trans
        .transaction()
        .dirty_blocks
        .sorted()
        .last()
        .copied()
        .unwrap();
    assert!(
        highest.0 < (1 << 20) + 64 * 4096,
        "{highest}: old addresses are used again"
    );
    drop(trans);
    bench.commit();
    bench.verify();
}

/// A tree of three levels whose leaves have one item each, taken apart so that nodes lose their first
/// pointers, and are left with one beside a full sibling. Each level repeats its children's first keys.
#[test]
fn a_tall_tree_is_taken_apart_from_every_side() {
    // Behind each other they leave an eighth of a node free; what comes in between fills most of it.
    let in_order = (0..1500).map(|i| 10 * i);
    let between = (0..1500).step_by(8).map(|i| 10 * i + 5);
    let mut ids: Vec<u64> = in_order.clone().chain(between.clone()).collect();
    ids.sort_unstable();
    let count = ids.len();
    let front: Vec<u64> = ids.clone();
    let back: Vec<u64> = ids.iter().rev().copied().collect();
    let inside = [&ids[300..count - 300], &ids[..300]].concat();
    let outwards: Vec<u64> = (0..count / 2)
        .flat_map(|i| [ids[count / 2 - 1 - i], ids[count / 2 + i]])
        .collect();
    for order in [front, back, inside, outwards] {
        let bench = Bench::new(4096, 8000, Kind::BUILD);
        let root = bench.root(5);
        let trans = bench.join();
        for id in in_order.clone().chain(between.clone()) {
            let done = bench.ctx.insert(&trans, &root, &key(id), &[7; 3000]);
            done.unwrap();
        }
        assert_eq!(bench.ctx.verify_tree(&root).unwrap().levels, 3);
        for (n, id) in order.iter().enumerate() {
            assert!(bench.ctx.delete(&trans, &root, &key(*id)).unwrap());
            if n % 20 == 0 {
                bench.ctx.verify_tree(&root).unwrap();
            }
        }
        drop(trans);
        bench.commit();
        bench.verify();
    }
}
