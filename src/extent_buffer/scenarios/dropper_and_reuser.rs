//! The reported race: the last holder of an old path lets a stale buffer go while its block is
//! allocated again.

use super::{Origin, Role, Scenario, Stage, Where, World};
use crate::extent_buffer::flags::{STALE, TREE_REF, UPTODATE};
use crate::extent_buffer::protocol::Kind;

/// The dropper finds two counts, stale, not under IO; the reuser counts itself before the
/// dropper acts on it.
pub const DROPPER_AND_REUSER: Scenario = Scenario {
    letter: 'A',
    name: "dropper-and-reuser",
    title: "a dropper of a stale buffer meets its reuser",
    origin: Some(Origin {
        year: 2015,
        commit: Some("062c19e9dd69"),
        subject: "Btrfs: fix race when reusing stale extent buffers that leads to BUG_ON",
    }),
    stage: Stage::Buffer,
    setup: |world| world.begin(1, UPTODATE | TREE_REF | STALE),
    roles: &[
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
    loses: &[(Kind::Unfixed, Where::Everywhere)],
    not_applicable: &[],
    was: None,
};
