//! A holder drops its count and uses the buffer once more.

use super::{Origin, Practice, Role, Scenario, Stage, World};
use crate::extent_buffer::flags::{TREE_REF, UPTODATE};

/// The drop is the end, whoever else seemed to hold the buffer: no rule of counting helps against
/// this one.
pub const USE_AFTER_LAST_PUT: Scenario = Scenario {
    letter: 'P',
    name: "use-after-last-put",
    title: "a use after the last put",
    origin: Some(Origin {
        year: 2024,
        commit: Some("44f52bbe96df"),
        subject: "btrfs: fix use-after-free when COWing tree bock and tracing is enabled",
    }),
    stage: Stage::Buffer,
    setup: |world| world.begin(2, UPTODATE | TREE_REF),
    roles: &[
        Role {
            name: "user",
            run: use_and_drop,
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
        words: "the buffer is used after the drop",
        setup: |world| world.begin(2, UPTODATE | TREE_REF),
        roles: &[
            Role {
                name: "user",
                run: drop_and_use,
            },
            Role {
                name: "freer",
                run: World::free_block,
            },
        ],
    }),
};

fn use_and_drop(world: &World) {
    world.touch();
    world.drop_path();
}

fn drop_and_use(world: &World) {
    world.drop_path();
    world.touch();
}
