//! A transaction frees a block that the one before it is about to write.

use super::world::OLD;
use super::{Origin, Practice, Role, Scenario, Stage, World};
use crate::extent_buffer::flags::{DIRTY, TREE_REF, UPTODATE};
use crate::sync::atomic::Ordering;

/// The committed trees need the block on disk: only the transaction that made a block may say that
/// it needn't be written.
pub const DIRTY_ACROSS_COMMIT: Scenario = Scenario {
    letter: 'L',
    name: "dirty-across-commit",
    title: "a commit meets the freer of the next transaction",
    origin: Some(Origin {
        year: 2022,
        commit: None,
        subject: "btrfs: don't clear EXTENT_BUFFER_DIRTY bit if the tree block is not dirtied in our transaction",
    }),
    stage: Stage::Buffer,
    setup: dirty_block,
    roles: &[
        Role {
            name: "commit",
            run: commit,
        },
        Role {
            name: "freer",
            run: free_of_next,
        },
    ],
    holds: is_on_disk,
    loses: &[],
    not_applicable: &[],
    was: Some(Practice {
        words: "whoever frees a block makes it clean, whosever it is",
        setup: dirty_block,
        roles: &[
            Role {
                name: "commit",
                run: commit,
            },
            Role {
                name: "freer",
                run: clean_and_free,
            },
        ],
    }),
};

fn dirty_block(world: &World) {
    world.begin(2, UPTODATE | TREE_REF | DIRTY);
    world.write_contents(OLD);
}

fn commit(world: &World) {
    let lock = world.block.lock();
    let begun = world.rules.begin_writeback(&world.life);
    let copy = world.read_contents();
    drop(lock);
    if begun {
        // Relaxed: only the write-out writes to the disk.
        world.disk.store(copy, Ordering::Relaxed);
        world.rules.end_writeback(&world.life);
    }
    world.drop_path();
}

fn free_of_next(world: &World) {
    // The block is of an older generation than the running transaction, so it stays dirty.
    drop(world.block.lock());
    world.free_block();
}

fn clean_and_free(world: &World) {
    let lock = world.block.lock();
    world.rules.clear_dirty(&world.life);
    drop(lock);
    world.free_block();
}

fn is_on_disk(world: &World) -> Result<(), String> {
    match world.disk.load(Ordering::Relaxed) {
        OLD => Ok(()),
        _ => Err("the committed trees point to a block that was never written".into()),
    }
}
