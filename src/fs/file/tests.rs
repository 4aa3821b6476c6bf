//! Content through a whole filesystem: images by mkfs.btrfs, `btrfs check` as the judge.

use crate::error::{Error, Result};
use crate::fs::file::flush_inode;
use crate::fs::{Caller, Filesystem, MountOptions, NodeId, SetAttr, Whence, WriteFlags};
use crate::sync::Arc;
use crate::volume::{BlockDevice, Fault, FaultyDevice, MemoryDevice};
use std::fs::File;
use std::process::Command;

const MODE: u32 = 0o644;
const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;

mod faults;
mod limits;
mod races;
mod sharing;
mod stories;

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

/// An extent that is written and dropped in one transaction never has an item, and yet it had
/// checksums.
#[test]
fn content_that_is_replaced_before_it_was_ever_committed_leaves_no_checksums() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let node = create(&fs, "f");
    for round in 1..4 {
        write(&fs, node, 0, &pattern(round, 100_000)).unwrap();
        flush_inode(&fs, &fs.inode(node).unwrap()).unwrap();
    }
    // btrfs check compares checksums with extents only where they have a gap behind them.
    for name in ["gap", "end"] {
        let node = create(&fs, name);
        write(&fs, node, 0, &pattern(9, 100_000)).unwrap();
        flush_inode(&fs, &fs.inode(node).unwrap()).unwrap();
    }
    fs.sync().unwrap();
    truncate(&fs, look_up(&fs, "gap"), 0).unwrap();
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

/// The same for what was durable. The gap is where content was that was replaced before a commit.
#[test]
fn content_that_is_removed_leaves_no_checksums() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    write(&fs, create(&fs, "gone"), 0, &pattern(8, 100_000)).unwrap();
    fs.sync().unwrap();
    let node = create(&fs, "f");
    for round in 1..3 {
        write(&fs, node, 0, &pattern(round, 100_000)).unwrap();
        flush_inode(&fs, &fs.inode(node).unwrap()).unwrap();
    }
    fs.sync().unwrap();
    truncate(&fs, look_up(&fs, "gone"), 0).unwrap();
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

/// The kernel would show programs that map the file what was cut off.
#[test]
fn a_small_file_keeps_nothing_of_what_was_cut_off() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let node = create(&fs, "small");
    write(&fs, node, 0, &pattern(1, 2000)).unwrap();
    fs.sync().unwrap();
    truncate(&fs, node, 700).unwrap();
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
    let image = tempfile::NamedTempFile::new().unwrap();
    device.inner().copy_to(image.as_file()).unwrap();
    let dump = Command::new("btrfs")
        .args(["inspect-internal", "dump-tree", "-t", "fs"])
        .arg(image.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&dump.stdout);
    assert!(said.contains("inline extent data size 700 "), "{said}");
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
