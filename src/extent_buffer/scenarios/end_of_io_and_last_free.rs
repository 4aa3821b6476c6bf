//! A write ends while the last holder lets go.

use super::{Origin, Practice, Role, Scenario, Stage, World};
use crate::extent_buffer::flags::{TREE_REF, UPTODATE, WRITEBACK};

/// WRITEBACK keeps the buffer only until it is cleared, and who cleared it isn't done with the buffer:
/// waiters are to be woken. The write must own a count of its own, to be dropped last.
pub const END_OF_IO_AND_LAST_FREE: Scenario = Scenario {
    letter: 'N',
    name: "end-of-io-and-last-free",
    title: "the end of a write meets the last drop",
    origin: Some(Origin {
        year: 2021,
        commit: Some("3d078efae6f3"),
        subject: "btrfs: subpage: fix a rare race between metadata endio and eb freeing",
    }),
    stage: Stage::Buffer,
    setup: |world| world.begin(2, UPTODATE | TREE_REF | WRITEBACK),
    roles: &[
        Role {
            name: "end of the write",
            run: end_and_drop,
        },
        Role {
            name: "freer",
            run: World::free_block,
        },
    ],
    holds: |_| Ok(()),
    loses: &[],
    not_applicable: &[],
    was: Some(Practice {
        words: "the write owns no count beside WRITEBACK",
        setup: |world| world.begin(1, UPTODATE | TREE_REF | WRITEBACK),
        roles: &[
            Role {
                name: "end of the write",
                run: end_write,
            },
            Role {
                name: "freer",
                run: World::free_block,
            },
        ],
    }),
};

fn end_write(world: &World) {
    world.rules.end_writeback(&world.life);
    world.touch();
}

fn end_and_drop(world: &World) {
    end_write(world);
    world.drop_path();
}
