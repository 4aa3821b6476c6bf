//! Merging against a model: what is run adds up to what was asked.

use super::*;
use crate::ondisk::key::Key;
use crate::sync::{Arc, thread};
use proptest::prelude::*;
use std::collections::BTreeMap;

const NODE: u64 = 16384;

fn tree(root: u64) -> RefKind {
    RefKind::Tree { root }
}

#[test]
fn a_block_allocated_and_freed_in_one_transaction_is_never_heard_of() {
    let refs = DelayedRefs::default();
    let at = Logical(1 << 20);
    refs.add_new_tree_block(at, NODE, 0, 5, Key::MIN);
    assert_eq!(refs.drop_tree_ref(at, NODE, 0, tree(5)), Dropped::Cancelled);
    assert!(refs.is_empty());
    assert_eq!(refs.peek(at), Pending::None);
}

#[test]
fn a_drop_after_the_add_has_run_is_queued() {
    let refs = DelayedRefs::default();
    let at = Logical(1 << 20);
    refs.add_new_tree_block(at, NODE, 0, 5, Key::MIN);
    let batch = refs.take_batch(10);
    assert!(batch[0].head.must_insert_reserved);
    assert_eq!(refs.peek(at), Pending::Running);
    assert_eq!(refs.drop_tree_ref(at, NODE, 0, tree(5)), Dropped::Queued);
    assert!(refs.take_batch(10).is_empty(), "one runner at a time");
    drop(batch);
    let batch = refs.take_batch(10);
    assert_eq!(batch[0].head.refs, [(tree(5), -1)]);
    drop(batch);
    assert!(refs.is_empty());
}

#[test]
fn a_data_extent_that_lost_its_last_reference_stays_to_be_pinned() {
    let refs = DelayedRefs::default();
    let at = Logical(1 << 20);
    let kind = RefKind::Data {
        root: 5,
        objectid: 257,
        offset: 0,
    };
    refs.add_new_data_extent(at, 8192, kind);
    refs.drop_data_ref(at, 8192, kind);
    let batch = refs.take_batch(1);
    assert!(batch[0].head.must_insert_reserved && batch[0].head.refs.is_empty());
}

#[test]
fn flags_wait_with_the_references() {
    let refs = DelayedRefs::default();
    let at = Logical(1 << 20);
    refs.set_flags(at, NODE, 1, 256);
    refs.add_tree_ref(
        at,
        NODE,
        1,
        RefKind::SharedTree {
            parent: Logical(NODE),
        },
    );
    match refs.peek(at) {
        Pending::Waiting {
            delta: 1,
            flags_to_set: 256,
            must_insert_reserved: false,
            ..
        } => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(
        refs.drop_tree_ref(
            at,
            NODE,
            1,
            RefKind::SharedTree {
                parent: Logical(NODE)
            }
        ),
        Dropped::Queued
    );
    assert_eq!(
        refs.take_batch(1)[0].head.extent_op.unwrap().flags_to_set,
        256
    );
}

#[test]
fn waiting_ends_when_the_runner_is_done() {
    let refs = Arc::new(DelayedRefs::default());
    let at = Logical(1 << 20);
    refs.add_tree_ref(at, NODE, 0, tree(5));
    let batch = refs.take_batch(1);
    let waiter = {
        let refs = refs.clone();
        thread::spawn(move || {
            refs.wait_until_run(at);
            refs.peek(at)
        })
    };
    thread::yield_now();
    drop(batch);
    assert_eq!(waiter.join().unwrap(), Pending::None);
}

#[derive(Clone, Debug)]
enum Step {
    Change { block: u64, root: u64, add: bool },
    Run { heads_max: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u64..6, 5u64..8, any::<bool>())
            .prop_map(|(block, root, add)| Step::Change { block, root, add }),
        1 => (1usize..4).prop_map(|heads_max| Step::Run { heads_max }),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn what_is_run_adds_up_to_what_was_asked(steps in steps()) {
        let refs = DelayedRefs::default();
        let mut asked: BTreeMap<(u64, RefKind), i64> = BTreeMap::new();
        let mut told: BTreeMap<(u64, RefKind), i64> = BTreeMap::new();
        let mut run = |refs: &DelayedRefs, heads_max| {
            let batch = refs.take_batch(heads_max);
            for running in &batch {
                for &(kind, count) in &running.head.refs {
                    assert_ne!(count, 0);
                    *told.entry((running.head.bytenr.get(), kind)).or_default() += count;
                }
            }
            !batch.is_empty()
        };
        for step in steps {
            match step {
                Step::Change { block, root, add } => {
                    // Two shards' worth of addresses.
                    let at = block << 21;
                    *asked.entry((at, tree(root))).or_default() += if add { 1 } else { -1 };
                    if add {
                        refs.add_tree_ref(Logical(at), NODE, 0, tree(root));
                    } else {
                        let _ = refs.drop_tree_ref(Logical(at), NODE, 0, tree(root));
                    }
                    let waiting = match refs.peek(Logical(at)) {
                        Pending::None => 0,
                        Pending::Waiting { delta, ref refs, .. } => {
                            prop_assert_eq!(delta, refs.iter().map(|r| r.1).sum::<i64>());
                            delta
                        }
                        Pending::Running => unreachable!("nobody runs now"),
                    };
                    let _ = waiting;
                }
                Step::Run { heads_max } => {
                    run(&refs, heads_max);
                }
            }
        }
        while run(&refs, 3) {}
        prop_assert!(refs.is_empty());
        asked.retain(|_, count| *count != 0);
        told.retain(|_, count| *count != 0);
        prop_assert_eq!(asked, told);
    }
}
