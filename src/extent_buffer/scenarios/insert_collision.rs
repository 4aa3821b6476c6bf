//! The reuser looked the address up before the buffer was there, and meets it when it inserts its
//! own.

use super::{Origin, Role, Scenario, Stage, Where, World};
use crate::extent_buffer::flags::{STALE, TREE_REF, UPTODATE};
use crate::extent_buffer::protocol::Kind;

/// The second way to a buffer. The fix of 2015 is in the first one only; the rewrite of the index in
/// 2025 has such a second way.
pub const INSERT_COLLISION: Scenario = Scenario {
    letter: 'H',
    name: "insert-collision",
    title: "a dropper meets a reuser who comes by an insert",
    origin: Some(Origin {
        year: 2025,
        commit: Some("19d7f65f032f"),
        subject: "btrfs: convert the buffer_radix to an xarray",
    }),
    stage: Stage::Index,
    setup: |world| world.begin(1, UPTODATE | TREE_REF | STALE),
    roles: &[
        Role {
            name: "old path holder",
            run: World::drop_path,
        },
        Role {
            name: "reuser",
            run: insert_and_write,
        },
    ],
    holds: |_| Ok(()),
    loses: &[
        (Kind::Unfixed, Where::Everywhere),
        (Kind::Handshake, Where::Everywhere),
    ],
    not_applicable: &[],
    was: None,
};

fn insert_and_write(world: &World) {
    // A second buffer that replaced the first one needs no more than its insert did.
    if world.insert(1) == 1 {
        world.put(1);
        return;
    }
    world.rules.revive(&world.life);
    world.rules.set_dirty(&world.life);
    world.drop_path();
}
