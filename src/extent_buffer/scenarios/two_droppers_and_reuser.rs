//! Two holders of old paths let a stale buffer go while its block is allocated again.

use super::{Origin, Role, Scenario, Stage, Where, World};
use crate::extent_buffer::flags::{STALE, TREE_REF, UPTODATE};
use crate::extent_buffer::protocol::Kind;

/// Which dropper decides is open until the end.
pub const TWO_DROPPERS_AND_REUSER: Scenario = Scenario {
    letter: 'E',
    name: "two-droppers-and-reuser",
    title: "two droppers of a stale buffer meet its reuser",
    origin: Some(Origin {
        year: 2015,
        commit: Some("062c19e9dd69"),
        subject: "Btrfs: fix race when reusing stale extent buffers that leads to BUG_ON",
    }),
    stage: Stage::Buffer,
    setup: |world| world.begin(2, UPTODATE | TREE_REF | STALE),
    roles: &[
        Role {
            name: "old path holder",
            run: World::drop_path,
        },
        Role {
            name: "other path holder",
            run: World::drop_path,
        },
        Role {
            name: "reuser",
            run: World::reuse_block,
        },
    ],
    holds: |_| Ok(()),
    loses: &[(Kind::Unfixed, Where::Everywhere)],
    not_applicable: &[],
    was: None,
};
