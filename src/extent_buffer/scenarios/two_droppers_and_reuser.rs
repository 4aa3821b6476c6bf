//! Two holders of old paths let a stale buffer go while its block is allocated again.

use super::{Origin, Role, Scenario, Where, World};
use crate::extent_buffer::flags::{STALE, TREE_REF, UPTODATE};
use crate::extent_buffer::protocol::Kind;

/// Which dropper decides is open until the end.
pub const TWO_DROPPERS_AND_REUSER: Scenario = Scenario {
    letter: 'E',
    title: "two droppers of a stale buffer meet its reuser",
    origin: Some(Origin {
        year: 2015,
        commit: "062c19e9dd69",
        subject: "Btrfs: fix race when reusing stale extent buffers that leads to BUG_ON",
    }),
    setup: |world| world.begin(2, UPTODATE | TREE_REF | STALE),
    roles: &[
        Role {
            name: "old path holder",
            run: World::drop_path,
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
    loses: &[(Kind::Unfixed, Where::Everywhere)],
    not_applicable: &[],
};
