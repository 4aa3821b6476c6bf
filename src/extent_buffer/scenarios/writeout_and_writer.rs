//! A buffer that the cache has given up is written out while a holder makes it dirty.

use super::{Role, Scenario, Stage, World};
use crate::extent_buffer::flags::{STALE, UPTODATE};
use crate::extent_buffer::protocol::Kind;

/// Only the two holders keep the buffer; DIRTY must bring a count of its own before write-out
/// can take it away again. A flag published before its count loses here.
pub const WRITEOUT_AND_WRITER: Scenario = Scenario {
    letter: 'F',
    name: "writeout-and-writer",
    title: "write-out meets a writer",
    origin: None,
    stage: Stage::Buffer,
    setup: |world| world.begin(2, UPTODATE | STALE),
    roles: &[
        Role {
            name: "writer",
            run: make_dirty,
        },
        Role {
            name: "write-out",
            run: write_out,
        },
    ],
    holds: |_| Ok(()),
    loses: &[],
    not_applicable: &[(
        Kind::CountUnderLock,
        "its users always have the tree ref beside them, so the start can't come about",
    )],
    was: None,
};

fn make_dirty(world: &World) {
    world.rules.set_dirty(&world.life);
    world.drop_path();
}

fn write_out(world: &World) {
    if world.rules.begin_writeback(&world.life) {
        world.rules.end_writeback(&world.life);
    }
    world.drop_path();
}
