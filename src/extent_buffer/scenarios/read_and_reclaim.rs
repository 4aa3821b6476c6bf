//! A reader that doesn't wait for its read drops its count, and reclaim comes by.

use super::{Origin, Role, Scenario, Stage, Where, World};
use crate::extent_buffer::flags::TREE_REF;
use crate::extent_buffer::protocol::Kind;

/// Readahead: what keeps the buffer until the read ends is the tree's count, which reclaim may be
/// about to take. A read that owns a count of its own needs neither.
pub const READ_AND_RECLAIM: Scenario = Scenario {
    letter: 'J',
    name: "read-and-reclaim",
    title: "reclaim meets a read that nobody waits for",
    origin: Some(Origin {
        year: 2020,
        commit: None,
        subject: "btrfs: fix fatal extent_buffer readahead vs releasepage race",
    }),
    stage: Stage::Buffer,
    setup: |world| world.begin(0, TREE_REF),
    roles: &[
        Role {
            name: "reclaim",
            run: World::reclaim,
        },
        Role {
            name: "readahead",
            run: read_ahead,
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

fn read_ahead(world: &World) {
    if world.get() {
        world.rules.begin_read(&world.life);
        world.drop_path();
        let put = world.rules.end_read(&world.life);
        world.settle(put);
    }
}
