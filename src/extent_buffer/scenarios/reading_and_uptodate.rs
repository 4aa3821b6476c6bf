//! Two threads find a buffer that isn't up to date; one reads it and changes it.

use super::world::{NEW, OLD};
use super::{Origin, Practice, Role, Scenario, Stage, World};
use crate::extent_buffer::flags::{DIRTY, READING, TREE_REF, UPTODATE};
use crate::sync::atomic::Ordering;

/// UPTODATE was tested before READING was won, and says nothing any more: it must be tested again by
/// whoever is the only reader now.
pub const READING_AND_UPTODATE: Scenario = Scenario {
    letter: 'M',
    name: "reading-and-uptodate",
    title: "a reader comes too late to be the first",
    origin: Some(Origin {
        year: 2024,
        commit: Some("ef1e68236b91"),
        subject: "btrfs: fix race in read_extent_buffer_pages()",
    }),
    stage: Stage::Buffer,
    setup: unread_block,
    roles: &[
        Role {
            name: "reader",
            run: read_only,
        },
        Role {
            name: "writer",
            run: read_and_change,
        },
    ],
    holds: change_is_there,
    loses: &[],
    not_applicable: &[],
    was: Some(Practice {
        words: "who wins READING reads, and doesn't look at UPTODATE again",
        setup: unread_block,
        roles: &[
            Role {
                name: "reader",
                run: read_only_once,
            },
            Role {
                name: "writer",
                run: read_once_and_change,
            },
        ],
    }),
};

fn unread_block(world: &World) {
    world.begin(2, TREE_REF);
    world.disk.store(OLD, Ordering::Relaxed);
}

fn read_only(world: &World) {
    read(world);
    world.drop_path();
}

fn read_and_change(world: &World) {
    read(world);
    change(world);
}

/// As the cache does: one reader, under the block's lock, with a second look.
fn read(world: &World) {
    if !world.life.has_acquire(UPTODATE) {
        let _block = world.block.lock();
        if !world.life.has_acquire(UPTODATE) {
            take_from_disk(world);
        }
    }
}

fn read_only_once(world: &World) {
    read_once(world);
    world.drop_path();
}

fn read_once_and_change(world: &World) {
    match read_once(world) {
        true => change(world),
        // Somebody else reads; to wait for them is no part of the race.
        false => world.drop_path(),
    }
}

/// As it was: false when somebody else reads.
fn read_once(world: &World) -> bool {
    if world.life.has_acquire(UPTODATE) {
        return true;
    }
    if world.life.test_and_set(READING) {
        return false;
    }
    take_from_disk(world);
    world.life.test_and_clear(READING);
    true
}

fn take_from_disk(world: &World) {
    world.write_contents(world.disk.load(Ordering::Relaxed));
    world.life.test_and_set(UPTODATE);
}

fn change(world: &World) {
    let lock = world.block.lock();
    world.rules.set_dirty(&world.life);
    world.write_contents(NEW);
    drop(lock);
    world.drop_path();
}

/// A change must not be undone by a read.
fn change_is_there(world: &World) -> Result<(), String> {
    match world.life.has(DIRTY) && world.read_contents() != NEW {
        true => Err("a read has put the disk's contents over newer ones".into()),
        false => Ok(()),
    }
}
