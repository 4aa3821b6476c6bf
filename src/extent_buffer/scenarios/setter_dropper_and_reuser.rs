//! The reported race with the freer still at it.

use super::{Origin, Role, Scenario, Stage, Where, World};
use crate::extent_buffer::flags::{TREE_REF, UPTODATE};
use crate::extent_buffer::protocol::Kind;

/// Freer and old path holder both may be the one who finds two counts.
pub const SETTER_DROPPER_AND_REUSER: Scenario = Scenario {
    letter: 'D',
    name: "setter-dropper-and-reuser",
    title: "freer, dropper and reuser meet",
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
            name: "old path holder",
            run: World::drop_path,
        },
        Role {
            name: "reuser",
            run: World::reuse_block,
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
