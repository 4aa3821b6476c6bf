//! Reclaim takes an idle buffer while its block is looked up and written to.

use super::{Origin, Role, Scenario, Stage, Where, World};
use crate::extent_buffer::flags::{TREE_REF, UPTODATE};
use crate::extent_buffer::protocol::Kind;

/// "One count and not under IO" is as old an answer as the dropper's, and no STALE tells the
/// finder to wait: the fix of 2015 doesn't reach here.
pub const RECLAIM_AND_REUSER: Scenario = Scenario {
    letter: 'C',
    name: "reclaim-and-reuser",
    title: "reclaim of an idle buffer meets its reuser",
    origin: Some(Origin {
        year: 2012,
        commit: Some("594831c4b232"),
        subject: "Btrfs: fix potential race in extent buffer freeing",
    }),
    stage: Stage::Buffer,
    setup: |world| world.begin(0, UPTODATE | TREE_REF),
    roles: &[
        Role {
            name: "reclaim",
            run: World::reclaim,
        },
        Role {
            name: "reuser",
            run: World::reuse_block,
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
