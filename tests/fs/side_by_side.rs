//! Several threads on one filesystem, with the commit timer and the cleaner running.

use crate::mounted;
use crate::player::{CALLER, answer};
use crate::stories::assert_told;
use btrfuse::fs::{Filesystem, MountOptions, NodeId, RenameFlags, WriteFlags};
use btrfuse_test_support::{Image, LoopMount, Rng, Story, btrfs_check};
use std::path::Path;
use std::sync::Arc;
use std::thread;

const MANY: usize = 16384;

fn busy(image: &Path, inodes_cached: usize) -> Arc<Filesystem> {
    let options = MountOptions {
        subvolid: Some(5),
        commit_interval_secs: 1,
        inodes_cached,
        ..MountOptions::default()
    };
    mounted(image, &options)
}

/// Random operations on few names in a few directories: answers don't matter, the trees do.
fn brawl(fs: &Filesystem, seed: u64, steps: usize) {
    let mut rng = Rng::new(seed);
    let dirs: Vec<NodeId> = (0..3)
        .map(|index| {
            fs.lookup(NodeId::ROOT, format!("shared-{index}").as_bytes())
                .unwrap()
                .node
        })
        .collect();
    let mut held: Vec<NodeId> = Vec::new();
    for step in 0..steps {
        let name = |rng: &mut Rng| format!("name-{}", rng.below(20)).into_bytes();
        let (from, to) = (*rng.choose(&dirs), *rng.choose(&dirs));
        let (old, new) = (name(&mut rng), name(&mut rng));
        let keep = |made: btrfuse::Result<btrfuse::fs::Attr>, held: &mut Vec<NodeId>| {
            if let Ok(attr) = made {
                held.push(attr.node);
            }
        };
        match rng.below(12) {
            0..=2 => keep(
                fs.mknod(&CALLER, from, &old, libc::S_IFREG | 0o644, 0),
                &mut held,
            ),
            3 => keep(fs.mkdir(&CALLER, from, &old, 0o755), &mut held),
            4 => keep(fs.symlink(&CALLER, from, &old, b"somewhere"), &mut held),
            5 => drop(fs.unlink(from, &old)),
            6 => drop(fs.rmdir(from, &old)),
            7 => {
                if let Ok(attr) = fs.lookup(from, &old) {
                    held.push(attr.node);
                    keep(fs.link(attr.node, to, &new), &mut held);
                }
            }
            8 => {
                if let Ok(attr) = fs.lookup(from, &old) {
                    held.push(attr.node);
                    let data = rng.bytes(5000);
                    drop(fs.write(attr.node, rng.below(100_000), &data, WriteFlags::default()));
                }
            }
            _ => {
                let flags = RenameFlags {
                    exchange: rng.one_in(4),
                    no_replace: false,
                    whiteout: false,
                };
                drop(fs.rename(&CALLER, from, &old, to, &new, flags));
            }
        }
        if held.len() > 40 {
            for node in held.drain(..) {
                fs.forget(node, 1);
            }
        }
        if step % 500 == 499 {
            fs.sync().unwrap();
        }
    }
    for node in held {
        fs.forget(node, 1);
    }
}

fn brawl_and_stories(image: &Image, inodes_cached: usize, seed: u64, steps: usize) {
    let fs = busy(image.path(), inodes_cached);
    for index in 0..3 {
        let name = format!("shared-{index}");
        fs.mkdir(&CALLER, NodeId::ROOT, name.as_bytes(), 0o755)
            .unwrap();
    }
    let mut stories: Vec<Story> = (0..3)
        .map(|index| Story::new(seed + index, &format!("story-{index}")))
        .collect();
    let tops: Vec<NodeId> = (0..3)
        .map(|index| {
            let name = format!("story-{index}");
            fs.mkdir(&CALLER, NodeId::ROOT, name.as_bytes(), 0o755)
                .unwrap()
                .node
        })
        .collect();
    thread::scope(|scope| {
        for (story, &top) in stories.iter_mut().zip(&tops) {
            let fs = &fs;
            scope.spawn(move || story.go_on_with(steps, |it| answer(fs, top, it)));
        }
        for index in 0..3 {
            let fs = &fs;
            scope.spawn(move || brawl(fs, seed * 100 + index, steps * 2));
        }
    });
    for (story, &top) in stories.iter().zip(&tops) {
        assert_told("live", story, &fs, top);
    }
    fs.unmount().unwrap();
    drop(fs);
    btrfs_check(image.path());
    let kernel = LoopMount::read_only(image.path());
    for story in &stories {
        story.assert_told("the kernel", kernel.path());
    }
    kernel.unmount();
}

#[test]
fn threads_do_not_get_in_each_others_way() {
    brawl_and_stories(&Image::mkfs_btrfs(400, &[]), MANY, 1, 1200);
}

#[test]
fn threads_on_small_nodes_do_not_get_in_each_others_way() {
    brawl_and_stories(&Image::mkfs_btrfs(400, &["-n", "4096"]), MANY, 2, 1200);
}

/// Inodes leave memory and are read again all the time, also while others change them.
#[test]
fn threads_with_hardly_an_inode_in_memory_do_not_get_in_each_others_way() {
    brawl_and_stories(&Image::mkfs_btrfs(400, &[]), 1, 3, 1200);
}
