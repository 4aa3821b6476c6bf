//! Seeded stories with fsyncs anywhere in them, cut at several of these.

use crate::{fsync, judge, kernel_mount, sync};
use btrfuse_test_support::{Image, Rng, Story};
use std::path::{Path, PathBuf};

/// Cuts of one story that are judged.
const CUTS: usize = 3;

/// Files and directories, but for links that lead elsewhere and files that an open would wait for.
fn candidates(dir: &Path, found: &mut Vec<PathBuf>) {
    found.push(dir.to_owned());
    let entries = std::fs::read_dir(dir).expect("our own folder");
    let mut entries: Vec<_> = entries.map(|entry| entry.expect("an entry")).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            candidates(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

fn play(options: &[&str], seed: u64) {
    let image = Image::mkfs_btrfs(256, options);
    let mount = kernel_mount(&image);
    let mut rng = Rng::new(seed);
    let mut story = Story::new(seed, "s");
    story.begin(mount.path());
    story.go_on(mount.path(), 150);
    sync(mount.path());
    let mut cuts = Vec::new();
    for round in 0..60 {
        story.go_on(mount.path(), 1 + rng.below(6) as usize);
        let mut found = Vec::new();
        candidates(&mount.path().join("s"), &mut found);
        fsync(rng.choose(&found));
        // Some fsyncs are whole commits, and leave no log.
        if image.has_log() && (rng.one_in(6) || round > 55) {
            cuts.push((round, image.copy()));
        }
        if cuts.len() == CUTS {
            break;
        }
    }
    mount.unmount();
    assert!(!cuts.is_empty(), "seed {seed}: no fsync left a log");
    for (round, crashed) in &cuts {
        judge(&format!("seed {seed} {options:?} round {round}"), crashed);
    }
}

#[test]
fn random_stories_are_what_the_kernel_replays() {
    for seed in 1..7 {
        play(&[], seed);
    }
}

#[test]
fn random_stories_with_explicit_holes_are_what_the_kernel_replays() {
    for seed in 11..15 {
        play(&["-n", "4096", "-O", "^no-holes"], seed);
    }
}
