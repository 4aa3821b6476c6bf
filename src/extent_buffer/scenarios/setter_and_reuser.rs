//! The block's range is free before its buffer is stale, so the reuser may come while STALE is
//! being set.

use super::{Origin, Role, Scenario, Stage, Where, World};
use crate::extent_buffer::flags::{TREE_REF, UPTODATE};
use crate::extent_buffer::protocol::Kind;

/// Setter: set STALE, read the count. Finder: count, test STALE. Where nothing orders the two
/// steps of each, both can miss the other, and the handshake doesn't happen.
pub const SETTER_AND_REUSER: Scenario = Scenario {
    letter: 'B',
    name: "setter-and-reuser",
    title: "the freer of a block meets its reuser",
    origin: Some(Origin {
        year: 2015,
        commit: Some("062c19e9dd69"),
        subject: "Btrfs: fix race when reusing stale extent buffers that leads to BUG_ON",
    }),
    stage: Stage::Buffer,
    setup: |world| world.begin(1, UPTODATE | TREE_REF),
    roles: &[
        Role {
            name: "freer",
            run: World::free_block,
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
