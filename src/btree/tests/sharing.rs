//! Trees that share blocks: references stay right whoever changes what first.

use super::bench::Bench;
use crate::btree::Root;
use crate::extent_buffer::Kind;
use crate::ondisk::key::{Key, kind};
use crate::ondisk::{FILE_EXTENT_REG, FileExtentItem};
use crate::sync::Arc;
use crate::transaction::{RefKind, TransHandle};
use crate::units::Logical;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Model = BTreeMap<Key, Vec<u8>>;

fn extent_key(id: u64) -> Key {
    Key::new(256 + id, kind::EXTENT_DATA, 0)
}

fn data_at(id: u64) -> Logical {
    Logical((1 << 40) + id * 8192)
}

impl Bench {
    /// A snapshot as a commit takes it, and what the commit still changes in the source then, as
    /// where the snapshot's name is: none of it is in the snapshot.
    fn snapshot(&self, source: u64, target: u64, behind: &[u64], model: &mut Model) {
        self.commit_with(|bench, trans| {
            let ctx = &bench.ctx;
            let source = bench.root(source);
            let key = Key::new(target, kind::ROOT_ITEM, trans.transid().get());
            ctx.copy_tree(trans, &source, key, |_| ()).unwrap();
            for id in behind {
                let key = Key::new(256 + id, 252, 0);
                let data = vec![*id as u8; 100];
                ctx.upsert(trans, &source, &key, &data).unwrap();
                model.insert(key, data);
            }
            ctx.end_snapshots();
        });
    }

    fn put_extent(&self, root: &Arc<Root>, id: u64, model: &mut Model) {
        let trans = self.join();
        let key = extent_key(id);
        let item = FileExtentItem::whole(1, FILE_EXTENT_REG, data_at(id), 8192);
        let kind = RefKind::Data {
            root: root.objectid,
            objectid: key.objectid,
            offset: 0,
        };
        if model.contains_key(&key) {
            return;
        }
        self.ctx
            .insert(&trans, root, &key, item.as_bytes())
            .unwrap();
        model.insert(key, item.as_bytes().to_vec());
        let refs = &trans.transaction().delayed_refs;
        match self.knows_data(&trans, data_at(id)) {
            true => refs.add_data_ref(data_at(id), 8192, kind),
            false => refs.add_new_data_extent(data_at(id), 8192, kind),
        }
        // One at a time, so that "is it known" has an answer.
        self.run_refs(&trans);
    }

    fn drop_extent(&self, root: &Arc<Root>, id: u64, model: &mut Model) {
        let trans = self.join();
        let key = extent_key(id);
        let found = self.ctx.delete(&trans, root, &key).unwrap();
        assert_eq!(found, model.remove(&key).is_some());
        if found {
            let kind = RefKind::Data {
                root: root.objectid,
                objectid: key.objectid,
                offset: 0,
            };
            trans
                .transaction()
                .delayed_refs
                .drop_data_ref(data_at(id), 8192, kind);
            self.run_refs(&trans);
        }
    }

    fn knows_data(&self, trans: &TransHandle, at: Logical) -> bool {
        self.ctx
            .data_extent_info(trans, at, 8192)
            .unwrap()
            .is_some()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put { tree: usize, id: u64 },
    Drop { tree: usize, id: u64 },
    Pad { tree: usize, id: u64 },
    Snapshot { tree: usize, behind: u64 },
    Commit,
}

fn step() -> impl Strategy<Value = Step> {
    let (tree, id) = (0..8usize, 0..150u64);
    prop_oneof![
        8 => (tree.clone(), id.clone()).prop_map(|(tree, id)| Step::Put { tree, id }),
        4 => (tree.clone(), id.clone()).prop_map(|(tree, id)| Step::Drop { tree, id }),
        4 => (tree.clone(), id).prop_map(|(tree, id)| Step::Pad { tree, id }),
        1 => (tree, 0..150u64).prop_map(|(tree, behind)| Step::Snapshot { tree, behind }),
        1 => Just(Step::Commit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn references_stay_right_whoever_changes_a_shared_block_first(
        steps in prop::collection::vec(step(), 20..200)
    ) {
        let bench = Bench::new(4096, 2000, Kind::BUILD);
        let mut trees: Vec<(u64, Model)> = vec![(5, Model::new())];
        for id in (0..150).step_by(2) {
            let model = &mut trees[0].1;
            bench.put_extent(&bench.root(5), id, model);
        }
        for step in &steps {
            match *step {
                Step::Put { tree, id } => {
                    let tree = tree % trees.len();
                    let (objectid, model) = &mut trees[tree];
                    bench.put_extent(&bench.root(*objectid), id, model);
                }
                Step::Drop { tree, id } => {
                    let tree = tree % trees.len();
                    let (objectid, model) = &mut trees[tree];
                    bench.drop_extent(&bench.root(*objectid), id, model);
                }
                Step::Pad { tree, id } => {
                    let tree = tree % trees.len();
                    let (objectid, model) = &mut trees[tree];
                    let key = Key::new(256 + id, 253, 0);
                    let data = vec![id as u8; 200];
                    let trans = bench.join();
                    bench.ctx.upsert(&trans, &bench.root(*objectid), &key, &data).unwrap();
                    model.insert(key, data);
                }
                Step::Snapshot { tree, behind } if trees.len() < 6 => {
                    let target = 256 + trees.len() as u64;
                    let tree = tree % trees.len();
                    let (source, model) = &mut trees[tree];
                    let frozen = model.clone();
                    bench.snapshot(*source, target, &[behind, behind / 2, behind], model);
                    trees.push((target, frozen));
                }
                Step::Snapshot { .. } | Step::Commit => bench.commit(),
            }
        }
        bench.commit();
        bench.verify();
        for (objectid, model) in &trees {
            let items = bench.items(&bench.root(*objectid));
            prop_assert!(items.iter().map(|(k, d)| (k, d)).eq(model.iter()));
        }
    }
}
