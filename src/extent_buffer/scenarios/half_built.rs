//! A buffer is found before it is complete.

use super::world::NEW;
use super::{Origin, Practice, Role, Scenario, Stage, World};
use crate::extent_buffer::flags::{TREE_REF, UPTODATE};

/// Publish when complete, and 0 counts means dead: then there is nothing to find too early.
pub const HALF_BUILT: Scenario = Scenario {
    letter: 'K',
    name: "half-built",
    title: "a lookup meets a buffer in the making",
    origin: Some(Origin {
        year: 2015,
        commit: Some("6e8f3022bf1c"),
        subject: "(subject not known here: a half-built buffer was found after an allocation had failed)",
    }),
    stage: Stage::Index,
    setup: |_| {},
    roles: &[
        Role {
            name: "inserter",
            run: complete_and_publish,
        },
        Role {
            name: "finder",
            run: find_and_read,
        },
    ],
    holds: |_| Ok(()),
    loses: &[],
    not_applicable: &[],
    was: Some(Practice {
        words: "a buffer can be found before its contents are there",
        setup: |_| {},
        roles: &[
            Role {
                name: "inserter",
                run: publish_and_complete,
            },
            Role {
                name: "finder",
                run: find_and_read,
            },
        ],
    }),
};

fn complete_and_publish(world: &World) {
    world.write_contents(NEW);
    world.begin_slot(0, 1, UPTODATE | TREE_REF);
    let id = world.publish(0);
    world.put(id);
}

fn publish_and_complete(world: &World) {
    world.begin_slot(0, 1, UPTODATE | TREE_REF);
    let id = world.publish(0);
    world.write_contents(NEW);
    world.put(id);
}

fn find_and_read(world: &World) {
    if let Some(id) = world.find() {
        if world.read_contents() != NEW {
            world.half_built.count();
        }
        world.put(id);
    }
}
