//! STALE lands on a block that is allocated again, and in use.

use super::{Origin, Role, Scenario, Stage, Where, World};
use crate::extent_buffer::flags::{TREE_REF, UPTODATE};
use crate::extent_buffer::protocol::Kind;

/// The range is free before STALE is set. The new owner has cleared STALE by then, so nobody clears
/// the late one, and every later drop of the living block may let it go: as when its owner drops it
/// once it is written, while another thread looks it up to change it.
pub const LATE_STALE: Scenario = Scenario {
    letter: 'I',
    name: "late-stale",
    title: "a late STALE on a block that lives again",
    origin: Some(Origin {
        year: 2015,
        commit: Some("062c19e9dd69"),
        subject: "Btrfs: fix race when reusing stale extent buffers that leads to BUG_ON",
    }),
    stage: Stage::Buffer,
    setup: |world| world.begin(2, UPTODATE | TREE_REF),
    roles: &[
        Role {
            name: "freer",
            run: World::free_block,
        },
        Role {
            name: "new owner",
            run: own_and_write_out,
        },
        Role {
            name: "next writer",
            run: write_again,
        },
    ],
    holds: |_| Ok(()),
    loses: &[
        (Kind::Unfixed, Where::Everywhere),
        (Kind::Handshake, Where::Unfenced),
    ],
    not_applicable: &[],
    was: None,
};

fn own_and_write_out(world: &World) {
    world.rules.revive(&world.life);
    world.rules.set_dirty(&world.life);
    if world.rules.begin_writeback(&world.life) {
        world.rules.end_writeback(&world.life);
    }
    world.drop_path();
}

fn write_again(world: &World) {
    if world.get() {
        world.rules.set_dirty(&world.life);
        world.drop_path();
    }
}
