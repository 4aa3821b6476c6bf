//! The golden images through our mount: every line of every manifest, every field.
//!
//! The chosen set in `tests/images/golden` is always tested. `BTRFUSE_CORPORA` brings the whole
//! one, and then each image that its index names must be there. Each image equals its manifest,
//! read-only and read-write, or stands in one of the tables below with what it gets today.

use btrfuse_test_support::check::{MODES, check, complaints, content_modes};
use btrfuse_test_support::compare::{assert_same, excuse_compressed};
use btrfuse_test_support::golden::{self, Golden};
use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, Manifest, Rules, run_any, walk};
use rustix::fs::StatVfsMountFlags;
use std::process::Command;
use std::time::Duration;

/// Not yet mounted: several devices. The refusal holds these words.
const REFUSED: &[(&str, &str)] = &[
    ("raid0-s11", "has 2 devices, and only one can be used"),
    (
        "raid1-degraded-s12",
        "has 2 devices, and only one can be used",
    ),
    ("raid1-rot-s11", "has 2 devices, and only one can be used"),
    ("raid1-s11", "has 2 devices, and only one can be used"),
    ("raid10-s11", "has 4 devices, and only one can be used"),
    ("raid1c3-s11", "has 3 devices, and only one can be used"),
    (
        "raid5-degraded-s12",
        "has 3 devices, and only one can be used",
    ),
    ("raid5-s11", "has 3 devices, and only one can be used"),
    ("raid6-s11", "has 4 devices, and only one can be used"),
    ("seed-s11-sprout", "has 2 devices, and only one can be used"),
];

/// Not yet replayed: a log. Refused with this word; `nologreplay` shows the last commit.
const LOG_REFUSED: &str = "nologreplay";

/// Not yet decompressed (`compare::excuse_compressed` has the exact answer): all files of these may
/// be, by the mount option `compress`; in the others only files that lsattr says it of.
const COMPRESSED_IMAGES: &[&str] = &[
    "comp-lzo-s11",
    "comp-zlib-s11",
    "comp-zstd-s11",
    "powercut-s11-cut0",
    "powercut-s11-cut1",
];

/// Asked for read-write, mounted read-only, and why (words of the daemon's log).
const READ_ONLY: &[(&str, &str)] = &[("seed-s11-seed-only", "seed")];

/// What the kernel itself refuses, for a bad primary superblock: we read the mirror, and say so.
const PRIMARY_BAD: &[&str] = &[
    "super-bad-s11-primary-bitflip",
    "super-bad-s11-primary-torn",
    "super-bad-s11-primary-zero",
];

/// Broken archives of the corpora themselves: `zstd` can't unpack them.
const UNREADABLE_ARCHIVES: &[&str] = &["convert-ext4-s11"];

/// Images with damaged copies: `btrfs check` names what it reads around, and finds no error.
const DAMAGED_COPIES: &[&str] = &["dup-rot-s11"];

/// Images on which lowmem mode of btrfs-progs 6.2 complained before we came: a false alarm.
const LOWMEM_COMPLAINS: &[&str] = &["many-links-s11", "mixed-s11", "node4k-s11"];

/// Cuts the set in pieces that run side by side.
const SHARDS: usize = 6;

fn shard(index: usize) -> impl Iterator<Item = Golden> {
    let all = golden::all().into_iter().enumerate();
    all.filter(move |(at, _)| at % SHARDS == index)
        .map(|(_, golden)| golden)
}

macro_rules! shards {
    ($($name:ident: $index:literal;)*) => {$(
        #[test]
        fn $name() {
            for golden in shard($index) {
                eprintln!("{}", golden.name);
                judge(&golden);
            }
        }
    )*};
}

shards! {
    golden_images_equal_their_manifests_0: 0;
    golden_images_equal_their_manifests_1: 1;
    golden_images_equal_their_manifests_2: 2;
    golden_images_equal_their_manifests_3: 3;
    golden_images_equal_their_manifests_4: 4;
    golden_images_equal_their_manifests_5: 5;
}

#[test]
fn every_image_is_there() {
    let found: Vec<String> = golden::all()
        .into_iter()
        .map(|golden| golden.name)
        .collect();
    assert!(
        golden::own().len() >= 40,
        "the project's own images are missing"
    );
    let Some(corpora) = std::env::var_os("BTRFUSE_CORPORA") else {
        return;
    };
    let index = std::path::Path::new(&corpora).join("golden/INDEX.jsonl");
    let index = std::fs::read_to_string(index).expect("the corpora have an index");
    let mut named = 0;
    for line in index.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON lines");
        let name = line["image"].as_str().expect("a name");
        assert!(found.iter().any(|found| found == name), "{name} is missing");
        named += 1;
    }
    assert_eq!(named, found.len(), "more folders than the index names");
    let tables = REFUSED
        .iter()
        .map(|row| row.0)
        .chain(READ_ONLY.iter().map(|row| row.0));
    let tables = tables
        .chain(COMPRESSED_IMAGES.iter().copied())
        .chain(PRIMARY_BAD.iter().copied());
    for name in tables.chain(UNREADABLE_ARCHIVES.iter().copied()) {
        assert!(
            found.iter().any(|found| found == name),
            "the tables name {name}, which isn't"
        );
    }
}

fn judge(golden: &Golden) {
    let name = golden.name.as_str();
    if UNREADABLE_ARCHIVES.contains(&name) {
        return judge_unreadable(golden);
    }
    if let Some((_, words)) = REFUSED.iter().find(|row| row.0 == name) {
        return judge_refused(golden, words);
    }
    if PRIMARY_BAD.contains(&name) {
        return judge_bad_primary(golden);
    }
    if has_log(golden) {
        return judge_log(golden);
    }
    let (image, expected) = (golden.image(), golden.manifest("manifest"));
    judge_read_only(golden, &image, &expected);
    judge_read_write(golden, &image, &expected);
}

fn judge_unreadable(golden: &Golden) {
    let archive = golden.archive("image.raw.zst");
    let tested = run_any(
        Command::new("zstd")
            .args(["-q", "--long=26", "-t"])
            .arg(archive),
        Duration::from_secs(60),
    );
    assert!(
        !tested.status.success(),
        "{} can be unpacked: test it",
        golden.name
    );
}

fn judge_refused(golden: &Golden, words: &str) {
    let listed = golden.meta["devices"].as_array();
    let listed = listed.expect("meta.json lists the devices");
    for (image, device) in golden.devices().iter().zip(listed) {
        // A seed is a whole filesystem by itself, and may be read.
        if device["super"]["num_devices"].as_str() == Some("1") {
            let mount = BtrfuseMount::new(image.path(), "");
            assert!(is_read_only(&mount), "{}'s seed is writable", golden.name);
            mount.unmount();
            continue;
        }
        for options in ["ro", ""] {
            refused(image, options, words);
        }
    }
}

#[track_caller]
fn refused(image: &Image, options: &str, words: &str) {
    let before = image.digest();
    match BtrfuseMount::try_new(image.path(), options) {
        Ok(_) => panic!(
            "{} with -o {options:?} should be refused",
            image.path().display()
        ),
        Err(refused) => {
            assert!(!refused.status.success());
            assert!(
                refused.words.contains(words),
                "not {words:?} but: {refused}"
            );
        }
    }
    assert_eq!(image.digest(), before, "a refused mount changed the image");
}

fn has_log(golden: &Golden) -> bool {
    golden.meta["devices"][0]["super"]["log_root"].as_str() != Some("0")
}

fn judge_log(golden: &Golden) {
    let image = golden.image();
    refused(&image, "ro,subvolid=5", LOG_REFUSED);
    refused(&image, "subvolid=5", LOG_REFUSED);
    let mount = BtrfuseMount::new(image.path(), "ro,nologreplay,subvolid=5");
    let expected = golden.manifest("manifest-nologreplay");
    compare(golden, &expected, walk(mount.path()));
    mount.unmount();
}

/// The kernel, shown the mirror in the primary's place, is the judge of what we recover.
fn judge_bad_primary(golden: &Golden) {
    let image = golden.image();
    let healed = image.copy();
    let recovered = run_any(
        Command::new("btrfs")
            .args(["rescue", "super-recover", "-y"])
            .arg(healed.path()),
        Duration::from_secs(60),
    );
    // btrfs-rescue(8): 2 says that something was bad and is recovered.
    assert_eq!(recovered.status.code(), Some(2), "{}", recovered.stderr);
    let mount = LoopMount::read_only(healed.path());
    let mut expected = walk(mount.path());
    mount.unmount();
    assert!(
        expected.0.len() > 300,
        "the recovered image is nearly empty"
    );
    let mut mount = BtrfuseMount::read_only(image.path());
    let mut found = walk(mount.path());
    excuse_compressed(&mut expected, &mut found, false);
    assert_same(&golden.name, &expected, &found, &Rules::fuse());
    let log = mount.log();
    assert!(
        log.contains("superblock"),
        "the log doesn't say that the primary is bad: {log}"
    );
    let (status, _) = mount.end();
    assert!(status.success());
}

fn judge_read_only(golden: &Golden, image: &Image, expected: &Manifest) {
    let before = image.digest();
    let mount = BtrfuseMount::read_only(image.path());
    compare(golden, expected, walk(mount.path()));
    assert!(is_read_only(&mount));
    let (status, log) = mount.end();
    assert!(status.success(), "{}: {log}", golden.name);
    assert_eq!(
        image.digest(),
        before,
        "{}: a read-only mount wrote",
        golden.name
    );
}

/// A walk on a writable mount, the last commit, and the judges: also orphans, half-dropped
/// subvolumes, quotas and damaged copies are left as they should be.
fn judge_read_write(golden: &Golden, image: &Image, expected: &Manifest) {
    let damaged = DAMAGED_COPIES.contains(&golden.name.as_str());
    let modes = if damaged {
        Vec::new()
    } else {
        content_modes(image.path())
    };
    let alarm = LOWMEM_COMPLAINS.contains(&golden.name.as_str());
    let known = damaged || (modes.len() < MODES.len()) == alarm;
    assert!(
        known,
        "{}: only {modes:?} content before we came",
        golden.name
    );
    let mount = BtrfuseMount::read_write(image.path());
    compare(golden, expected, walk(mount.path()));
    let row = READ_ONLY.iter().find(|row| row.0 == golden.name);
    assert_eq!(
        is_read_only(&mount),
        row.is_some(),
        "{}: read-only?",
        golden.name
    );
    let (status, log) = mount.end();
    assert!(status.success(), "{}: {log}", golden.name);
    if let Some((_, words)) = row {
        assert!(
            log.contains(words),
            "{}: the log doesn't say {words:?}: {log}",
            golden.name
        );
        return;
    }
    for mode in &modes {
        let complaints = complaints(&check(image.path(), mode));
        assert!(
            complaints.is_empty(),
            "{}, check after us: {complaints:?}",
            golden.name
        );
    }
    for mode in MODES.iter().filter(|_| damaged) {
        let checked = check(image.path(), mode);
        assert!(
            checked.status.success(),
            "{}: {}",
            golden.name,
            checked.output()
        );
        assert!(
            checked.output().contains("no error found"),
            "{}",
            checked.output()
        );
    }
    let mount = LoopMount::read_only(image.path());
    let what = format!("{}, the kernel after us", golden.name);
    assert_same(&what, expected, &walk(mount.path()), &Rules::all());
    if damaged {
        mount.unmount_damaged();
    } else {
        mount.unmount();
    }
}

fn is_read_only(mount: &BtrfuseMount) -> bool {
    let info = rustix::fs::statvfs(mount.path()).expect("a mount answers statfs");
    info.f_flag.contains(StatVfsMountFlags::RDONLY)
}

fn compare(golden: &Golden, expected: &Manifest, mut walked: Manifest) {
    let mut expected = expected.clone();
    let compressed_image = COMPRESSED_IMAGES.contains(&golden.name.as_str());
    let excused = excuse_compressed(&mut expected, &mut walked, compressed_image);
    assert!(
        !compressed_image || excused > 10,
        "{}: nothing was compressed",
        golden.name
    );
    assert_same(&golden.name, &expected, &walked, &Rules::fuse());
}
