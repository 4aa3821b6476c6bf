//! The golden images through our mount: every line of every manifest, every field.
//!
//! The chosen set in `tests/images/golden` is always tested. `BTRFUSE_CORPORA` brings the whole
//! one, and then each image that its index names must be there. Each image equals its manifest,
//! read-only and read-write, or stands in the table below with what it gets today.

use btrfuse_test_support::check::{MODES, btrfs_check, check, complaints};
use btrfuse_test_support::compare::{assert_same, excuse_compressed};
use btrfuse_test_support::golden::{self, Golden};
use btrfuse_test_support::{
    BtrfuseMount, Image, Judge, LoopMount, Manifest, Record, Rules, assert_quiet, run_any, walk,
};
use rustix::fs::StatVfsMountFlags;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What an image gets that isn't, or isn't all, its manifest.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Today {
    /// Several devices aren't mounted yet; so many are named by the refusal.
    SeveralDevices(u32),
    /// Asked for read-write, mounted read-only; the daemon's log holds the word.
    ReadOnly(&'static str),
    /// The kernel refuses it for its bad primary superblock: we read the mirror, and say so.
    PrimaryBad,
    /// The archive in the set can't be unpacked: `images_converted_from_ext4_are_read` instead.
    BrokenArchive,
    /// A mirror of the superblock is bad: a writer mends it, and says so.
    MirrorBad,
    /// One copy of its metadata is damaged all over: check names what it reads around, and
    /// finds no error.
    DamagedCopies,
    /// A file has extended references, at which lowmem mode raises a false alarm.
    LowmemAlarm,
    /// Quotas are on, and their numbers are marked as inconsistent by our first commit.
    Quotas,
}

/// All images that don't simply equal their manifests and stay what they are, exactly.
const TODAY: &[(&str, Today)] = &[
    ("convert-ext4-s11", Today::BrokenArchive),
    ("dup-rot-s11", Today::DamagedCopies),
    ("many-links-s11", Today::LowmemAlarm),
    ("mixed-s11", Today::LowmemAlarm),
    ("node4k-s11", Today::LowmemAlarm),
    ("quotas-s11", Today::Quotas),
    ("raid0-s11", Today::SeveralDevices(2)),
    ("raid1-degraded-s12", Today::SeveralDevices(2)),
    ("raid1-rot-s11", Today::SeveralDevices(2)),
    ("raid1-s11", Today::SeveralDevices(2)),
    ("raid10-s11", Today::SeveralDevices(4)),
    ("raid1c3-s11", Today::SeveralDevices(3)),
    ("raid5-degraded-s12", Today::SeveralDevices(3)),
    ("raid5-s11", Today::SeveralDevices(3)),
    ("raid6-s11", Today::SeveralDevices(4)),
    ("seed-s11-seed-only", Today::ReadOnly("seed")),
    ("seed-s11-sprout", Today::SeveralDevices(2)),
    ("super-bad-s11-mirror-bad", Today::MirrorBad),
    ("super-bad-s11-primary-bitflip", Today::PrimaryBad),
    ("super-bad-s11-primary-torn", Today::PrimaryBad),
    ("super-bad-s11-primary-zero", Today::PrimaryBad),
];

/// What the log says of a block of which one copy is damaged.
const BAD_COPY: &str = "is good, an earlier one is not";

/// Not yet decompressed: reading a compressed file answers `EOPNOTSUPP`, and
/// `compare::excuse_compressed` demands that of exactly the files which dump-tree shows compressed
/// extents of. Nearly all files of these images; of the others a handful, made with chattr +c.
const COMPRESSED: &[&str] = &[
    "comp-lzo-s11",
    "comp-zlib-s11",
    "comp-zstd-s11",
    "powercut-s11-cut0",
    "powercut-s11-cut1",
];

fn today(golden: &Golden) -> Option<Today> {
    let row = TODAY.iter().find(|row| row.0 == golden.name);
    row.map(|row| row.1)
}

/// Cuts the set in pieces that run side by side.
const SHARDS: usize = 12;

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
    golden_images_equal_their_manifests_6: 6;
    golden_images_equal_their_manifests_7: 7;
    golden_images_equal_their_manifests_8: 8;
    golden_images_equal_their_manifests_9: 9;
    golden_images_equal_their_manifests_10: 10;
    golden_images_equal_their_manifests_11: 11;
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
    let tables = TODAY.iter().map(|row| &row.0).chain(COMPRESSED);
    for name in tables {
        assert!(
            found.iter().any(|found| found == name),
            "the tables name {name}, which isn't"
        );
    }
}

fn judge(golden: &Golden) {
    let today = today(golden);
    match today {
        Some(Today::BrokenArchive) => return judge_unreadable(golden),
        Some(Today::SeveralDevices(count)) => return judge_refused(golden, count),
        Some(Today::PrimaryBad) => return judge_bad_primary(golden),
        _ => {}
    }
    let (image, expected) = (golden.image(), golden.manifest("manifest"));
    assert_eq!(has_log(golden), image.has_log(), "{}: a log?", golden.name);
    // Says of each file whether it is compressed: the kernel has replayed the log in it.
    let mut witness = image.path();
    let replayed = has_log(golden).then(|| image.copy());
    if let Some(replayed) = &replayed {
        judge_last_commit(golden, &image);
        LoopMount::read_write(replayed.path()).unmount();
        witness = replayed.path();
    }
    judge_read_only(golden, &image, witness, &expected);
    judge_read_write(golden, &image, witness, &expected);
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

fn judge_refused(golden: &Golden, count: u32) {
    let words = format!(
        "has {count} devices, and only one can be used: remove the others first (btrfs device \
         remove)"
    );
    let listed = golden.meta["devices"].as_array();
    let listed = listed.expect("meta.json lists the devices");
    for (image, device) in golden.devices().iter().zip(listed) {
        if device["super"]["num_devices"].as_str() == Some("1") {
            judge_seed(golden, image, device["sha256_raw"].as_str());
            continue;
        }
        for options in ["ro", ""] {
            refused(image, options, &words);
        }
    }
}

/// A seed is a whole filesystem by itself: the set that has it alone, to the byte, says what
/// is in it.
fn judge_seed(golden: &Golden, image: &Image, sha256: Option<&str>) {
    let alone = golden::all().into_iter().find(|other| {
        let devices = other.meta["devices"].as_array();
        devices.is_some_and(|it| it.len() == 1 && it[0]["sha256_raw"].as_str() == sha256)
    });
    let alone = alone.unwrap_or_else(|| panic!("no set has {}'s seed alone", golden.name));
    assert_eq!(Some(image.digest().as_str()), sha256, "{}", golden.name);
    let expected = alone.manifest("manifest");
    // Who asked for nothing else is told why it is read-only.
    let why: &[&str] = &["super flag SEEDING"];
    for (options, said) in [("ro,subvolid=5", &[] as &[&str]), ("subvolid=5", why)] {
        let mount = BtrfuseMount::new(image.path(), options);
        assert!(is_read_only(&mount), "{}'s seed is writable", golden.name);
        compare(&alone, image.path(), &expected, walk(mount.path()));
        mount.unmount_excusing(said);
    }
    assert_eq!(Some(image.digest().as_str()), sha256, "a seed was written");
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

/// Without a replay there is the last commit, and the log stays.
fn judge_last_commit(golden: &Golden, image: &Image) {
    let before = image.digest();
    let mount = BtrfuseMount::new(image.path(), "ro,nologreplay,subvolid=5");
    let expected = golden.manifest("manifest-nologreplay");
    compare(golden, image.path(), &expected, walk(mount.path()));
    mount.unmount();
    assert_eq!(image.digest(), before, "a read-only mount wrote");
}

fn has_log(golden: &Golden) -> bool {
    let log = golden.meta["devices"][0]["super"]["log_root"].as_str();
    log.is_some_and(|root| root != "0")
}

/// The kernel, shown the mirror in the primary's place, is the judge of what we recover.
fn judge_bad_primary(golden: &Golden) {
    let image = golden.image();
    assert!(
        LoopMount::try_new(&[image.path()], "ro").is_err(),
        "the kernel mounts {}",
        golden.name
    );
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
    let mount = BtrfuseMount::read_only(image.path());
    let mut found = walk(mount.path());
    let excused = excuse_compressed(healed.path(), &mut expected, &mut found);
    assert!(excused <= HANDFUL, "{}: {excused} excused", golden.name);
    assert_same(&golden.name, &expected, &found, &Rules::fuse());
    mount.unmount_excusing(&["the first superblock is bad"]);
}

fn judge_read_only(golden: &Golden, image: &Image, witness: &Path, expected: &Manifest) {
    let before = image.digest();
    let listed = golden.meta["devices"][0]["sha256_raw"].as_str();
    assert_eq!(Some(before.as_str()), listed, "{}", golden.name);
    let mount = BtrfuseMount::read_only(image.path());
    compare(golden, witness, expected, walk(mount.path()));
    assert!(is_read_only(&mount));
    let damaged = today(golden) == Some(Today::DamagedCopies);
    mount.unmount_excusing(if damaged { &[BAD_COPY] } else { &[] });
    assert_eq!(
        image.digest(),
        before,
        "{}: a read-only mount wrote",
        golden.name
    );
}

/// A walk on a writable mount, the last commit, and the judges: also orphans, half-dropped
/// subvolumes, quotas and damaged copies are left as they should be.
fn judge_read_write(golden: &Golden, image: &Image, witness: &Path, expected: &Manifest) {
    let today = today(golden);
    let damaged = today == Some(Today::DamagedCopies);
    let before = damaged.then(|| damage(image));
    let check = (!damaged).then(|| Judge::before_us(image.path()));
    let alarm = check.is_some_and(|check| check.knows_false_alarm());
    assert_eq!(alarm, today == Some(Today::LowmemAlarm), "{}", golden.name);
    let generation = image.generation();
    let mount = BtrfuseMount::read_write(image.path());
    compare(golden, witness, expected, walk(mount.path()));
    let read_only = is_read_only(&mount);
    if let Some(Today::ReadOnly(word)) = today {
        assert!(read_only, "{} is writable", golden.name);
        return mount.unmount_excusing(&[word]);
    }
    assert!(!read_only, "{} is read-only", golden.name);
    let log = mount.unmount_to_log();
    assert!(!image.has_log(), "{}: the log is still there", golden.name);
    // Nobody changed anything, but what a mount itself has to do marks quotas.
    let marked = today == Some(Today::Quotas) && image.generation() > generation;
    let excuses: &[&str] = match today {
        Some(Today::DamagedCopies) => &[BAD_COPY, "was repaired"],
        Some(Today::MirrorBad) => &["the copies of the superblock differ"],
        Some(Today::Quotas) if marked => &["quotas are on"],
        _ => &[],
    };
    assert_quiet(&golden.name, &log, excuses);
    match check {
        Some(check) if marked => check
            .without_quota_accounting()
            .assert_content(image.path()),
        Some(check) => check.assert_content(image.path()),
        None => judge_repair(golden, image, before.expect("damaged")),
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

/// The lines in which check says what it reads around.
fn damage(image: &Image) -> usize {
    let checked = check(image.path(), "original");
    assert!(checked.status.success(), "{}", checked.output());
    let damage = complaints(&checked).len();
    assert!(damage > 0, "nothing is damaged");
    damage
}

/// What a writable mount has read it has also mended; the rest is still only a bad copy.
fn judge_repair(golden: &Golden, image: &Image, before: usize) {
    for mode in MODES {
        let checked = check(image.path(), mode);
        let words = checked.output();
        assert!(checked.status.success(), "{}: {words}", golden.name);
        assert!(words.contains("no error found"), "{words}");
    }
    let after = complaints(&check(image.path(), "original")).len();
    assert!(
        after * 2 < before,
        "{}: check named {before} bad copies, and still {after}",
        golden.name
    );
}

fn is_read_only(mount: &BtrfuseMount) -> bool {
    let info = rustix::fs::statvfs(mount.path()).expect("a mount answers statfs");
    info.f_flag.contains(StatVfsMountFlags::RDONLY)
}

/// The most files that are compressed in an image that isn't about compression.
const HANDFUL: usize = 10;

fn compare(golden: &Golden, witness: &Path, expected: &Manifest, mut walked: Manifest) {
    let mut expected = expected.clone();
    let excused = excuse_compressed(witness, &mut expected, &mut walked);
    let listed = COMPRESSED.contains(&golden.name.as_str());
    assert_eq!(
        listed,
        excused > HANDFUL,
        "{}: {excused} files are compressed",
        golden.name
    );
    assert_same(&golden.name, &expected, &walked, &Rules::fuse());
    one_number_one_inode(&golden.name, &expected, &walked);
}

/// Our mount has one `st_dev`, so a number stands for one inode of one subvolume and the other way
/// round: programs that look for hard links find those that are there. (The empty directories in
/// place of subvolumes all have number 2, as the kernel's.)
fn one_number_one_inode(name: &str, expected: &Manifest, walked: &Manifest) {
    let number = |record: &Record, field: &str| record.fields.get(field).and_then(Value::as_u64);
    let (mut numbers, mut inodes) = (BTreeMap::new(), BTreeMap::new());
    for record in &walked.0 {
        let twin = expected.get(&record.path).expect("compared before");
        if twin.fields.contains_key("stub") {
            continue;
        }
        let inode = number(twin, "subvol").zip(number(twin, "ino"));
        let (Some(inode), Some(shown)) = (inode, number(record, "ino")) else {
            panic!("{name}: {} has no number", record.path.escape_ascii());
        };
        let path = record.path.escape_ascii();
        let first = *numbers.entry(shown).or_insert(inode);
        assert_eq!(first, inode, "{name}: {path}: both have number {shown}");
        let first = *inodes.entry(inode).or_insert(shown);
        assert_eq!(first, shown, "{name}: {path}: two numbers of {inode:?}");
    }
}

/// Made here by btrfs-convert, from a tree with what ext4 has: the kernel's mount is the judge.
/// Data and metadata lie where ext4 had them, in chunks of odd sizes, and the old filesystem is a
/// file in a subvolume of its own.
#[test]
fn images_converted_from_ext4_are_read_and_written() {
    let image = Image::blank(300);
    make_ext4(image.path());
    run_any(
        Command::new("btrfs-convert").arg("-p").arg(image.path()),
        Duration::from_secs(120),
    );
    let mount = LoopMount::read_only(image.path());
    let expected = walk(mount.path());
    mount.unmount();
    assert!(expected.get(b"ext2_saved/image").is_some(), "not converted");
    let before = image.digest();
    let mount = BtrfuseMount::read_only(image.path());
    let found = walk(mount.path());
    mount.unmount();
    assert_same("converted", &expected, &found, &Rules::fuse());
    assert_eq!(image.digest(), before, "a read-only mount wrote");
    btrfs_check(image.path());
    let mount = BtrfuseMount::read_write(image.path());
    std::fs::write(mount.path().join("new"), vec![5; 3 << 20]).expect("a writable mount");
    std::fs::remove_file(mount.path().join("folder/file-7")).expect("a writable mount");
    let found = walk(mount.path());
    mount.unmount();
    btrfs_check(image.path());
    let mount = LoopMount::read_only(image.path());
    let mut rules = Rules::fuse();
    rules.without.push("blocks");
    assert_same("the kernel after us", &walk(mount.path()), &found, &rules);
    mount.unmount();
}

fn make_ext4(image: &Path) {
    let folder = btrfuse_test_support::temp_dir();
    let tree = folder.path().join("folder");
    std::fs::create_dir_all(tree.join("deep/er")).expect("our own folder");
    for number in 0..60_usize {
        let bytes = vec![number as u8; number * number * 97];
        std::fs::write(tree.join(format!("file-{number}")), bytes).expect("our own folder");
    }
    std::os::unix::fs::symlink("../file-9", tree.join("deep/link")).expect("our own folder");
    std::fs::hard_link(tree.join("file-9"), tree.join("deep/er/hard")).expect("our own folder");
    btrfuse_test_support::run(
        Command::new("mkfs.ext4")
            .args(["-q", "-b", "4096", "-d"])
            .arg(folder.path())
            .arg(image),
    );
}
