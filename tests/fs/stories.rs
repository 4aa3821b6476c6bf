//! Random stories against the model that the kernel agrees with.

use crate::player::{CALLER, answer};
use crate::walk::walk;
use crate::{mounted, options};
use btrfuse::fs::{FileKind, Filesystem, NodeId};
use btrfuse_test_support::{Image, LoopMount, Story, btrfs_check};
use std::ops::RangeInclusive;

/// A folder's node, with its lookup counted once.
fn folder(fs: &Filesystem) -> NodeId {
    fs.lookup(NodeId::ROOT, b"story")
        .expect("the story's folder")
        .node
}

pub fn assert_told(what: &str, story: &Story, fs: &Filesystem, top: NodeId) {
    let found = story.differences(&walk(fs, top));
    assert!(
        found.is_empty(),
        "{what}:\n{}",
        found[..found.len().min(30)].join("\n")
    );
}

/// The seeds of a test: its own, or those of `BTRFUSE_SEEDS=FIRST..LAST`, to look for more.
fn seeds(own: RangeInclusive<u64>) -> RangeInclusive<u64> {
    let Ok(asked) = std::env::var("BTRFUSE_SEEDS") else {
        return own;
    };
    let (first, last) = asked.split_once("..").expect("BTRFUSE_SEEDS=FIRST..LAST");
    first.parse().expect("a number")..=last.parse().expect("a number")
}

fn tell(image: &Image, seed: u64, steps: usize) {
    let story = tell_judged_by_check(image, seed, steps);
    let kernel = LoopMount::read_only(image.path());
    story.assert_told("the kernel", kernel.path());
    kernel.unmount();
}

/// Returns the story as it is in the end.
fn tell_judged_by_check(image: &Image, seed: u64, steps: usize) -> Story {
    let mut story = Story::new(seed, "story");
    let fs = mounted(image.path(), &options(false));
    let top = fs
        .mkdir(&CALLER, NodeId::ROOT, b"story", 0o755)
        .unwrap()
        .node;
    assert_eq!(fs.getattr(top).unwrap().kind, FileKind::Directory);
    story.go_on_with(steps / 2, |operation| answer(&fs, top, operation));
    assert_told("live", &story, &fs, top);
    fs.unmount().unwrap();
    drop(fs);
    btrfs_check(image.path());
    let fs = mounted(image.path(), &options(false));
    let top = folder(&fs);
    assert_told("mounted again", &story, &fs, top);
    story.go_on_with(steps / 2, |operation| answer(&fs, top, operation));
    fs.sync().unwrap();
    assert_told("live again", &story, &fs, top);
    fs.unmount().unwrap();
    drop(fs);
    btrfs_check(image.path());
    let fs = mounted(image.path(), &options(true));
    assert_told("read only", &story, &fs, folder(&fs));
    story
}

#[test]
fn stories_on_small_nodes_agree_with_the_model() {
    for seed in seeds(1..=4) {
        tell(&Image::mkfs_btrfs(300, &["-n", "4096"]), seed, 1200);
    }
}

#[test]
fn stories_on_ordinary_nodes_agree_with_the_model() {
    for seed in seeds(11..=14) {
        tell(&Image::mkfs_btrfs(300, &[]), seed, 1200);
    }
}

#[test]
fn stories_without_newer_features_agree_with_the_model() {
    for seed in seeds(21..=22) {
        let options = ["-O", "^no-holes,^extref,^skinny-metadata", "-n", "65536"];
        tell(&Image::mkfs_btrfs(300, &options), seed, 800);
    }
}

/// Sectors larger than this machine's pages, which its kernel may not mount: contents are compared by
/// us, checksums and trees by `btrfs check`.
#[test]
fn stories_on_large_sectors_agree_with_the_model() {
    for (seed, sector) in seeds(31..=33).zip(["8192", "16384", "65536"].into_iter().cycle()) {
        let image = Image::mkfs_btrfs(400, &["-s", sector, "-n", "65536"]);
        tell_judged_by_check(&image, seed, 1000);
    }
}
