//! The last holder, reclaim, and a thread that brings the same block into the cache again.

use super::{Practice, Role, Scenario, Stage, World};
use crate::extent_buffer::flags::{TREE_REF, UPTODATE};

/// Whoever frees the buffer takes it out of the index later, and by then the address may be another
/// buffer's: only the entry that names the freed one may go.
pub const LAST_PUT_AND_RECACHE: Scenario = Scenario {
    letter: 'G',
    name: "last-put-and-recache",
    title: "last put, reclaim and re-cache meet",
    origin: None,
    stage: Stage::Index,
    setup: |world| world.begin(1, UPTODATE | TREE_REF),
    roles: &[
        Role {
            name: "last holder",
            run: World::drop_path,
        },
        Role {
            name: "reclaim",
            run: World::reclaim,
        },
        Role {
            name: "re-cacher",
            run: recache,
        },
    ],
    holds: |_| Ok(()),
    loses: &[],
    not_applicable: &[],
    was: Some(Practice {
        words: "whoever frees a buffer takes out of the index whatever stands for the address",
        setup: |world| world.begin(1, UPTODATE | TREE_REF),
        roles: &[
            Role {
                name: "last holder",
                run: drop_by_address,
            },
            Role {
                name: "reclaim",
                run: reclaim_by_address,
            },
            Role {
                name: "re-cacher",
                run: recache,
            },
        ],
    }),
};

fn recache(world: &World) {
    let id = world.find().unwrap_or_else(|| world.insert(1));
    world.put(id);
}

fn drop_by_address(world: &World) {
    let put = world.rules.put(&world.life);
    world.settle_by_address(put);
}

fn reclaim_by_address(world: &World) {
    if let Some(put) = world.rules.reclaim(&world.life, &|| true) {
        world.settle_by_address(put);
    }
}
