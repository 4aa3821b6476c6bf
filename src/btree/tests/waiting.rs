//! Waits that must end although the lock isn't let go: its block has become another one.
//!
//! Who looks up a shared block's references holds blocks of an fs tree while it locks the extent
//! tree's root. The root moves meanwhile, its block is given to the fs tree, and the new holder
//! waits for what the first one holds: a deadlock, if the first one waits for the block rather
//! than for the root.

use super::bench::Bench;
use crate::btree::block::expect_root;
use crate::extent_buffer::Kind;
use crate::ondisk::check::Expect;
use crate::ondisk::key::Key;
use crate::ondisk::tree_block;
use crate::sync::{Arc, mpsc, thread};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for the other thread to wait for the lock.
const A_WHILE: Duration = Duration::from_millis(100);

#[test]
fn a_block_that_is_no_longer_the_root_is_not_waited_for() {
    for write_level in [None, Some(0)] {
        let bench = Arc::new(Bench::new(4096, 100, Kind::BUILD));
        let root = bench.root(5);
        let mut places = Vec::new();
        for id in 0..2 {
            let trans = bench.join();
            let key = Key::new(id, 253, 0);
            bench.ctx.insert(&trans, &root, &key, &[7; 20]).unwrap();
            drop(trans);
            bench.commit();
            places.push(root.node());
        }
        let [before, after] = places[..] else {
            unreachable!("two commits")
        };
        assert_ne!(before.bytenr, after.bytenr, "an edit moves the root");
        // Back to the moment before the second edit, with its block in somebody's hands.
        root.set_node(before);
        let expect = Expect {
            first_key: None,
            ..expect_root(&root, &before)
        };
        let held = bench.ctx.cache.read(&expect).unwrap().into_write();
        let (tell, told) = mpsc::channel();
        let (theirs, wanted) = (bench.clone(), root.clone());
        let waiter = thread::spawn(move || {
            let guard = theirs.ctx.lock_root(&wanted, write_level).unwrap();
            tell.send(tree_block::header(&guard).bytenr.get()).unwrap();
        });
        assert!(told.recv_timeout(A_WHILE).is_err(), "the lock is held");
        root.set_node(after);
        let locked = told.recv_timeout(PATIENCE);
        drop(held);
        waiter.join().unwrap();
        assert_eq!(locked, Ok(after.bytenr.get()), "{write_level:?}");
    }
}
