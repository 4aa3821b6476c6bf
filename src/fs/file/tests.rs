//! Content through a whole filesystem: images by mkfs.btrfs, `btrfs check` as the judge.

use crate::error::{Error, Result};
use crate::fs::{Caller, Filesystem, MountOptions, NodeId, SetAttr, Whence, WriteFlags};
use crate::sync::Arc;
use crate::volume::{BlockDevice, Fault, FaultyDevice, MemoryDevice};
use std::fs::File;
use std::process::Command;

const MODE: u32 = 0o644;
const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;

type Device = Arc<FaultyDevice<MemoryDevice>>;

fn mkfs(mib: u64, options: &[&str]) -> Device {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(mib << 20).unwrap();
    let made = Command::new("mkfs.btrfs")
        .arg("-q")
        .args(options)
        .arg(image.path())
        .output();
    let made = made.expect("mkfs.btrfs can be started");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let device = MemoryDevice::from_reader(File::open(image.path()).unwrap()).unwrap();
    Arc::new(FaultyDevice::over(Arc::new(device)))
}

fn mount(device: &Device) -> Arc<Filesystem> {
    let options = MountOptions {
        background: false,
        ..MountOptions::default()
    };
    Filesystem::mount(vec![device.clone() as Arc<dyn BlockDevice>], &options).unwrap()
}

/// `btrfs check` of what is on the device, in both modes.
fn check(device: &Device) {
    let image = tempfile::NamedTempFile::new().unwrap();
    device.inner().copy_to(image.as_file()).unwrap();
    for mode in ["original", "lowmem"] {
        let output = Command::new("btrfs")
            .args(["check", "--check-data-csum", "--mode", mode])
            .arg(image.path())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        if !output.status.success() && std::env::var_os("BTRFUSE_KEEP").is_some() {
            device
                .inner()
                .copy_to(&File::create("/tmp/failed.raw").unwrap())
                .unwrap();
        }
        assert!(
            output.status.success() && !said.contains("rror:"),
            "{mode}: {said}"
        );
    }
}

fn create(fs: &Filesystem, name: &str) -> NodeId {
    let flags = libc::O_RDWR;
    fs.create(
        &Caller::default(),
        NodeId::ROOT,
        name.as_bytes(),
        MODE,
        flags,
    )
    .unwrap()
    .node
}

fn write(fs: &Filesystem, node: NodeId, at: u64, data: &[u8]) -> Result<()> {
    let written = fs.write(node, at, data, WriteFlags::default())?;
    assert_eq!(written as usize, data.len());
    Ok(())
}

fn truncate(fs: &Filesystem, node: NodeId, size: u64) -> Result<()> {
    let changes = SetAttr {
        size: Some(size),
        ..SetAttr::default()
    };
    fs.setattr(&Caller::default(), node, &changes).map(drop)
}

fn content(fs: &Filesystem, node: NodeId) -> Vec<u8> {
    let size = fs.getattr(node).unwrap().size;
    let mut all = Vec::new();
    while (all.len() as u64) < size {
        let step = fs.read(node, all.len() as u64, 1 << 20).unwrap();
        assert!(!step.is_empty());
        all.extend(step);
    }
    all
}

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed | 1);
    (0..len).map(|_| random.next() as u8).collect()
}

/// xorshift64: the same story for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn look_up(fs: &Filesystem, name: &str) -> NodeId {
    fs.lookup(NodeId::ROOT, name.as_bytes()).unwrap().node
}

#[test]
fn what_was_written_is_read_before_and_after_it_reaches_the_disk() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let sizes = [0, 1, 100, 2048, 2049, 4095, 4096, 4097, 100_000, 5_000_000];
    for size in sizes {
        let node = create(&fs, &format!("f{size}"));
        let data = pattern(size as u64 + 1, size);
        write(&fs, node, 0, &data).unwrap();
        assert_eq!(content(&fs, node), data);
        fs.fsync(node, false).unwrap();
        assert_eq!(content(&fs, node), data);
    }
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
    let fs = mount(&device);
    for size in sizes {
        let node = look_up(&fs, &format!("f{size}"));
        assert_eq!(content(&fs, node), pattern(size as u64 + 1, size), "{size}");
    }
    fs.unmount().unwrap();
}

/// One file's story: random operations against a vector of bytes.
fn random_story(options: &[&str], seed: u64, steps: usize) {
    let device = mkfs(128, options);
    let mut fs = mount(&device);
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut node = create(&fs, "story");
    let mut model: Vec<u8> = Vec::new();
    let mut log = Vec::new();
    let span = [3_000, 20_000, 300_000][(seed % 3) as usize];
    for step in 0..steps {
        let at = random.below(span);
        let len = 1 + random.below(span / 3);
        let (from, to) = (at as usize, (at + len) as usize);
        let story = format!("seed {seed} step {step}");
        let kind = random.below(13);
        log.push(format!("{step}: {kind} {from}..{to} of {}", model.len()));
        match kind {
            0..=3 => {
                let data = pattern(random.next(), len as usize);
                write(&fs, node, at, &data).expect(&story);
                if model.len() < to {
                    model.resize(to, 0);
                }
                model[from..to].copy_from_slice(&data);
            }
            4 => {
                let data = pattern(random.next(), len as usize);
                write(&fs, node, model.len() as u64, &data).expect(&story);
                model.extend(data);
                if model.len() > 2 * span as usize {
                    model.truncate(from);
                    truncate(&fs, node, at).expect(&story);
                }
            }
            5 => {
                truncate(&fs, node, at).expect(&story);
                model.resize(from, 0);
            }
            6 => {
                fs.fallocate(node, PUNCH, at, len).expect(&story);
                let end = to.min(model.len());
                if from < end {
                    model[from..end].fill(0);
                }
            }
            7 => {
                fs.fallocate(node, 0, at, len).expect(&story);
                if model.len() < to {
                    model.resize(to, 0);
                }
            }
            8 => fs.fallocate(node, KEEP, at, len).expect(&story),
            9 => {
                fs.fallocate(node, ZERO, at, len).expect(&story);
                if model.len() < to {
                    model.resize(to, 0);
                }
                model[from..to].fill(0);
            }
            10 => fs.fsync(node, false).expect(&story),
            11 => fs.sync().expect(&story),
            _ if random.below(4) == 0 => {
                fs.unmount().expect(&story);
                drop(fs);
                check(&device);
                fs = mount(&device);
                node = look_up(&fs, "story");
            }
            _ => {
                let expected = model.get(from..to.min(model.len())).unwrap_or(&[]);
                assert_eq!(
                    fs.read(node, at, len as u32).expect(&story),
                    expected,
                    "{story}"
                );
            }
        }
        assert_eq!(
            fs.getattr(node).unwrap().size,
            model.len() as u64,
            "{story}"
        );
        if let Some(at) = content(&fs, node)
            .iter()
            .zip(&model)
            .position(|(a, b)| a != b)
        {
            panic!("{story}: content differs from {at} on: {log:#?}");
        }
        assert_map_holds(&fs, node, &model, &story);
    }
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
    let fs = mount(&device);
    assert!(
        content(&fs, look_up(&fs, "story")) == model,
        "seed {seed}: content after remount"
    );
    fs.unmount().unwrap();
}

/// Whatever SEEK_HOLE calls a hole is zeros, and the map covers the file.
fn assert_map_holds(fs: &Filesystem, node: NodeId, model: &[u8], story: &str) {
    let mut at = 0;
    while at < model.len() as u64 {
        let data = match fs.seek(node, at, Whence::Data) {
            Ok(data) => data,
            Err(Error::NoSuchRange) => model.len() as u64,
            Err(error) => panic!("{story}: {error}"),
        };
        assert!(
            model[at as usize..data as usize]
                .iter()
                .all(|&byte| byte == 0),
            "{story}: {at}"
        );
        if data == model.len() as u64 {
            return;
        }
        let hole = fs.seek(node, data, Whence::Hole).expect(story);
        assert!(hole > data && hole <= model.len() as u64, "{story}");
        at = hole;
    }
}

#[test]
fn random_stories_on_the_default_format() {
    (0..9).for_each(|seed| random_story(&[], seed, 60));
}

#[test]
fn random_stories_with_explicit_holes() {
    (10..16).for_each(|seed| random_story(&["-O", "^no-holes"], seed, 60));
}

#[test]
fn random_stories_with_small_and_large_nodes() {
    (20..23).for_each(|seed| random_story(&["-n", "4096"], seed, 60));
    (23..26).for_each(|seed| random_story(&["-n", "65536"], seed, 60));
}

#[test]
fn random_stories_with_large_sectors() {
    (30..33).for_each(|seed| random_story(&["-s", "16384", "-n", "16384"], seed, 60));
    (33..36).for_each(|seed| random_story(&["-s", "65536", "-n", "65536"], seed, 40));
}

#[test]
fn random_stories_with_other_checksums() {
    for (index, csum) in ["xxhash", "sha256", "blake2"].iter().enumerate() {
        random_story(&["--csum", csum], 40 + index as u64, 40);
    }
}

#[test]
fn preallocated_space_is_written_in_place_and_counted() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let node = create(&fs, "p");
    fs.fallocate(node, 0, 0, 1 << 20).unwrap();
    assert_eq!(fs.getattr(node).unwrap().blocks, 2048);
    assert_eq!(fs.seek(node, 0, Whence::Hole).unwrap(), 0);
    assert!(matches!(
        fs.seek(node, 0, Whence::Data),
        Err(Error::NoSuchRange)
    ));
    write(&fs, node, 8192, &[7; 4096]).unwrap();
    assert_eq!(fs.seek(node, 0, Whence::Data).unwrap(), 8192);
    fs.fsync(node, false).unwrap();
    assert_eq!(fs.getattr(node).unwrap().blocks, 2048);
    assert_eq!(fs.seek(node, 0, Whence::Data).unwrap(), 8192);
    assert_eq!(fs.seek(node, 8192, Whence::Hole).unwrap(), 12288);
    fs.unmount().unwrap();
    check(&device);
}

#[test]
fn a_full_filesystem_says_so_at_the_write_and_keeps_what_it_took() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let node = create(&fs, "big");
    let step = pattern(5, 1 << 20);
    let mut at = 0;
    let error = loop {
        match write(&fs, node, at, &step) {
            Ok(()) => at += step.len() as u64,
            Err(error) => break error,
        }
        assert!(at < 128 << 20);
    };
    assert!(matches!(error, Error::NoSpace), "{error}");
    fs.fsync(node, false).unwrap();
    assert_eq!(fs.getattr(node).unwrap().size, at);
    truncate(&fs, node, 4096).unwrap();
    fs.sync().unwrap();
    fs.sync().unwrap();
    write(&fs, node, 4096, &step).unwrap();
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

#[test]
fn a_bad_sector_is_an_error_with_one_copy_and_repaired_with_two() {
    for (profile, readable) in [("single", false), ("dup", true)] {
        let device = mkfs(256, &["-d", profile]);
        let fs = mount(&device);
        let node = create(&fs, "f");
        let data = pattern(77, 40_960);
        write(&fs, node, 0, &data).unwrap();
        fs.unmount().unwrap();
        drop(fs);
        let at = find(&device, &data[8192..8192 + 64]);
        device.flip(at + 5, 1).unwrap();
        let fs = mount(&device);
        let node = look_up(&fs, "f");
        match fs.read(node, 0, 40_960) {
            Ok(read) => assert!(readable && read == data),
            Err(error) => assert!(!readable && error.errno() == libc::EIO, "{error}"),
        }
        assert_eq!(fs.read(node, 0, 8192).unwrap(), data[..8192]);
        fs.unmount().unwrap();
        if readable {
            check(&device);
        }
    }
}

/// Where bytes are stored on the device, the first time.
fn find(device: &Device, needle: &[u8]) -> u64 {
    let mut block = vec![0; 4096];
    for at in (0..device.size_bytes()).step_by(4096) {
        device.inner().read_at(at, &mut block).unwrap();
        if block.starts_with(needle) {
            return at;
        }
    }
    panic!("the content isn't on the device");
}

#[test]
fn a_failed_write_back_is_told_by_fsync_once_and_loses_nothing_else() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let (bad, good) = (create(&fs, "bad"), create(&fs, "good"));
    write(&fs, good, 0, &pattern(1, 10_000)).unwrap();
    fs.sync().unwrap();
    write(&fs, bad, 0, &pattern(2, 100_000)).unwrap();
    device.plan(Fault::FailWrite(1));
    assert!(fs.fsync(bad, false).is_err());
    device.heal();
    fs.fsync(bad, false).unwrap();
    fs.fsync(good, false).unwrap();
    assert_eq!(content(&fs, good), pattern(1, 10_000));
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

/// What is durable after each fsync survives a power cut at any write; nothing is half there.
#[test]
fn a_power_cut_at_any_write_leaves_the_last_fsync_or_something_newer() {
    let pristine = mkfs(128, &[]);
    for cut in (1..120).step_by(7) {
        let device: Device = Arc::new(FaultyDevice::over(Arc::new(MemoryDevice::clone(
            pristine.inner(),
        ))));
        let fs = mount(&device);
        let node = create(&fs, "f");
        fs.fsync(node, false).unwrap();
        device.plan(Fault::PowerCut(cut));
        let mut model: Vec<u8> = Vec::new();
        let mut durable = model.clone();
        let mut random = Random(cut.wrapping_mul(7919) | 1);
        for _ in 0..40 {
            let at = random.below(60_000);
            let data = pattern(random.next(), 1 + random.below(30_000) as usize);
            let done = match random.below(4) {
                0 => truncate(&fs, node, at).map(|()| model.resize(at as usize, 0)),
                1 => fs.fsync(node, false).map(|()| durable = model.clone()),
                _ => write(&fs, node, at, &data).map(|()| {
                    model.resize(model.len().max(at as usize + data.len()), 0);
                    model[at as usize..][..data.len()].copy_from_slice(&data);
                }),
            };
            if done.is_err() {
                break;
            }
        }
        drop(fs);
        device.heal();
        check(&device);
        let fs = mount(&device);
        let after = content(&fs, look_up(&fs, "f"));
        assert!(
            after == durable || after == model,
            "cut {cut}: {} bytes",
            after.len()
        );
        fs.unmount().unwrap();
    }
}

#[test]
fn files_written_at_once_by_many_threads_keep_their_content() {
    let device = mkfs(256, &["-n", "4096"]);
    let fs = mount(&device);
    crate::sync::thread::scope(|scope| {
        for thread in 0..4u64 {
            let fs = &fs;
            scope.spawn(move || {
                let mut random = Random(thread + 100);
                for index in 0..60 {
                    let node = create(fs, &format!("t{thread}-{index}"));
                    let len = random.below(60_000) as usize;
                    write(fs, node, 0, &pattern(thread * 1000 + index, len)).unwrap();
                    match random.below(8) {
                        0 => fs.fsync(node, false).unwrap(),
                        1 => fs.sync().unwrap(),
                        2 => fs
                            .unlink(NodeId::ROOT, format!("t{thread}-{index}").as_bytes())
                            .unwrap(),
                        _ => {}
                    }
                    fs.forget(node, 1);
                    fs.release(node);
                }
            });
        }
    });
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
    let fs = mount(&device);
    for thread in 0..4u64 {
        let mut random = Random(thread + 100);
        for index in 0..60 {
            let len = random.below(60_000) as usize;
            let expected = pattern(thread * 1000 + index, len);
            let name = format!("t{thread}-{index}");
            match random.below(8) {
                2 => assert!(fs.lookup(NodeId::ROOT, name.as_bytes()).is_err()),
                _ => assert!(content(&fs, look_up(&fs, &name)) == expected, "{name}"),
            }
        }
    }
    fs.unmount().unwrap();
}

#[test]
fn preallocated_space_can_be_written_when_nothing_else_can() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let (kept, filler) = (create(&fs, "kept"), create(&fs, "filler"));
    fs.fallocate(kept, 0, 0, 4 << 20).unwrap();
    let step = pattern(9, 1 << 20);
    let mut at = 0;
    for len in [1 << 20, 1 << 16, 4096] {
        while write(&fs, filler, at, &step[..len]).is_ok() {
            at += len as u64;
        }
    }
    fs.sync().unwrap();
    assert!(matches!(write(&fs, filler, at, &step), Err(Error::NoSpace)));
    for index in 0..4 {
        write(&fs, kept, index << 20, &step).unwrap();
    }
    fs.sync().unwrap();
    assert!(
        content(&fs, kept)
            .chunks(1 << 20)
            .all(|chunk| chunk == step)
    );
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

#[test]
fn a_file_reaches_to_the_largest_offset_and_no_further() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let node = create(&fs, "sparse");
    let last = i64::MAX as u64 - 1;
    write(&fs, node, last, &[7]).unwrap();
    write(&fs, node, 1 << 40, &[8; 10]).unwrap();
    assert!(matches!(
        write(&fs, node, last, &[7, 7]),
        Err(Error::FileTooBig)
    ));
    fs.sync().unwrap();
    assert_eq!(fs.read(node, last - 3, 100).unwrap(), [0, 0, 0, 7]);
    assert_eq!(fs.seek(node, 0, Whence::Data).unwrap(), 1 << 40);
    assert_eq!(fs.getattr(node).unwrap().blocks, 16);
    assert!(truncate(&fs, node, last + 2).is_err());
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
    let fs = mount(&device);
    let node = look_up(&fs, "sparse");
    truncate(&fs, node, 1 << 41).unwrap();
    assert_eq!(fs.getattr(node).unwrap().blocks, 8);
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

/// Flags of a file without copy-on-write: what `chattr +C` sets.
const NOCOW: u32 = 0x0080_0000;

#[test]
fn files_without_copy_on_write_are_overwritten_in_place() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let node = create(&fs, "nocow");
    fs.set_flags(&Caller::default(), node, NOCOW).unwrap();
    let data = pattern(3, 65_536);
    write(&fs, node, 0, &data).unwrap();
    fs.sync().unwrap();
    let at = find(&device, &data[..64]);
    let over = pattern(4, 8192);
    write(&fs, node, 0, &over).unwrap();
    fs.sync().unwrap();
    assert_eq!(find(&device, &over[..64]), at);
    assert_eq!(content(&fs, node), [&over[..], &data[8192..]].concat());
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}
