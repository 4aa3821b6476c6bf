//! A reader finds another block than its parent promised and reads again, over what is newer than
//! the disk.

use super::world::{NEW, OLD};
use super::{Origin, Practice, Role, Scenario, Stage, World};
use crate::extent_buffer::flags::{DIRTY, TREE_REF, UNDER_IO, UPTODATE};
use crate::sync::atomic::Ordering;

/// Contents that aren't as expected may be newer, not worse: a block that is dirty is never read
/// over, and who looks holds its lock.
pub const REREAD_OVER_NEW: Scenario = Scenario {
    letter: 'O',
    name: "reread-over-new",
    title: "a re-read meets a writer",
    origin: Some(Origin {
        year: 2014,
        commit: Some("a26e8c9f75b0"),
        subject: "Btrfs: don't clear uptodate if the eb is under IO",
    }),
    stage: Stage::Buffer,
    setup: read_block,
    roles: &[
        Role {
            name: "re-reader",
            run: look_and_read_again,
        },
        Role {
            name: "writer",
            run: change,
        },
    ],
    holds: change_is_there,
    loses: &[],
    not_applicable: &[],
    was: Some(Practice {
        words: "contents that were not expected are read again, whatever state they are in",
        setup: read_block,
        roles: &[
            Role {
                name: "re-reader",
                run: read_again,
            },
            Role {
                name: "writer",
                run: change,
            },
        ],
    }),
};

fn read_block(world: &World) {
    world.begin(2, UPTODATE | TREE_REF);
    world.write_contents(OLD);
    world.disk.store(OLD, Ordering::Relaxed);
}

fn look_and_read_again(world: &World) {
    let lock = world.block.lock();
    if !world.life.has(UNDER_IO) {
        world.write_contents(world.disk.load(Ordering::Relaxed));
    }
    drop(lock);
    world.drop_path();
}

fn read_again(world: &World) {
    let lock = world.block.lock();
    world.write_contents(world.disk.load(Ordering::Relaxed));
    drop(lock);
    world.drop_path();
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
