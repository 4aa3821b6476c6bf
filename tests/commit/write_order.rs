//! The order of writes: a recording device keeps every write and flush of a workload, and states
//! that a power cut could leave are rebuilt and judged by `btrfs check`.
//!
//! What a cut may leave: everything flushed, and of the writes since then any subset (the device
//! may reorder inside an epoch), the last of them torn at a sector.

use crate::scribe::{Scribe, open_device};
use btrfuse::volume::{BlockDevice, FileDevice};
use btrfuse_test_support::check::{check, complaints};
use btrfuse_test_support::{Image, Rng};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

const SECTOR: usize = 512;
const SUPER_AT: u64 = 65536;

/// What reached the device, in order.
enum Event {
    Write(u64, Vec<u8>),
    Flush,
}

/// A file that remembers.
struct Recorder {
    inner: FileDevice,
    events: Mutex<Vec<Event>>,
}

impl BlockDevice for Recorder {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(at, buf)
    }

    fn write_at(&self, at: u64, buf: &[u8]) -> io::Result<()> {
        // Recorded before it is done: who flushes afterwards finds it in the list.
        self.events
            .lock()
            .unwrap()
            .push(Event::Write(at, buf.to_vec()));
        self.inner.write_at(at, buf)
    }

    fn flush(&self) -> io::Result<()> {
        self.inner.flush()?;
        self.events.lock().unwrap().push(Event::Flush);
        Ok(())
    }

    fn discard(&self, _at: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        false
    }
}

/// Random edits and commits; returns what was written.
fn record(image: &Image, seed: u64, steps: u64) -> Vec<Event> {
    let inner = FileDevice::open(image.path(), false).unwrap();
    let recorder = Arc::new(Recorder {
        inner,
        events: Mutex::new(Vec::new()),
    });
    {
        let engine = open_device(recorder.clone()).unwrap();
        let mut rng = Rng::new(seed);
        let mut scribe = Scribe::new(&engine, 5, "o");
        for _ in 0..steps {
            scribe.step(&mut rng).unwrap();
            if rng.one_in(60) {
                engine.committer.commit().unwrap();
            }
            if rng.one_in(90) {
                engine.committer.write_early().unwrap();
            }
        }
        engine.shutdown().unwrap();
    }
    let recorder = Arc::into_inner(recorder).expect("the engine is gone");
    recorder.events.into_inner().unwrap()
}

fn apply(image: &Image, events: &[&Event]) {
    let file = std::fs::File::options()
        .write(true)
        .open(image.path())
        .unwrap();
    for event in events {
        if let Event::Write(at, bytes) = event {
            file.write_all_at(bytes, *at).unwrap();
        }
    }
}

#[track_caller]
fn assert_whole(image: &Image, what: &str) {
    for mode in ["original", "lowmem"] {
        let complaints = complaints(&check(image.path(), mode));
        assert!(
            complaints.is_empty(),
            "{what}, mode {mode}:\n{}",
            complaints.join("\n")
        );
    }
}

/// Positions in the recording at which a cut is tried: around every superblock, and some others.
fn cuts(events: &[Event], rng: &mut Rng) -> Vec<usize> {
    let mut cuts = Vec::new();
    for (i, event) in events.iter().enumerate() {
        let near_super = matches!(event, Event::Write(SUPER_AT, _));
        if near_super {
            cuts.extend([i, i + 1]);
        } else if rng.one_in(events.len() as u64 / 12 + 1) {
            cuts.push(i);
        }
    }
    cuts
}

fn crash(base: &Image, events: &[Event], seed: u64) {
    let mut rng = Rng::new(seed);
    for cut in cuts(events, &mut rng) {
        let flushed = events[..cut]
            .iter()
            .rposition(|it| matches!(it, Event::Flush))
            .unwrap_or(0);
        let image = base.copy();
        let mut kept: Vec<&Event> = events[..flushed].iter().collect();
        // Of what no flush has covered, any part may be there, in any order.
        let mut loose: Vec<&Event> = events[flushed..cut]
            .iter()
            .filter(|_| !rng.one_in(3))
            .collect();
        for i in (1..loose.len()).rev() {
            loose.swap(i, rng.below(i as u64 + 1) as usize);
        }
        kept.extend(&loose);
        apply(&image, &kept);
        if let Some(Event::Write(at, bytes)) = events.get(cut)
            && *at != SUPER_AT
        {
            let sectors = bytes.len() / SECTOR;
            let torn = rng.below(sectors as u64 + 1) as usize * SECTOR;
            apply(&image, &[&Event::Write(*at, bytes[..torn].to_vec())]);
        }
        assert_whole(
            &image,
            &format!("seed {seed}, cut before event {cut} of {}", events.len()),
        );
    }
}

#[test]
fn every_cut_leaves_a_whole_filesystem() {
    for (seed, options) in [(1, &["-n", "4096"][..]), (2, &[][..])] {
        let image = Image::mkfs_btrfs(128, options);
        let base = image.copy();
        let events = record(&image, seed, 400);
        crash(&base, &events, seed);
    }
}

/// Between two flushes there is either a superblock (with its copies) or none, and a superblock
/// is always the first write after a flush.
#[test]
fn superblocks_stand_alone_between_flushes() {
    let image = Image::mkfs_btrfs(128, &[]);
    let events = record(&image, 3, 300);
    let supers: [u64; 2] = [SUPER_AT, 64 << 20];
    let mut seen = 0;
    for epoch in events.split(|event| matches!(event, Event::Flush)) {
        let writes: Vec<u64> = epoch
            .iter()
            .filter_map(|event| match event {
                Event::Write(at, _) => Some(*at),
                Event::Flush => None,
            })
            .collect();
        if writes.iter().any(|at| supers.contains(at)) {
            assert_eq!(
                writes, supers,
                "superblocks share an epoch with other writes"
            );
            seen += 1;
        }
    }
    assert!(seen > 1, "{seen} commits");
}

/// The judge of this file sees what it must see: a superblock whose blocks were not flushed.
#[test]
fn a_superblock_before_its_blocks_is_noticed() {
    let image = Image::mkfs_btrfs(128, &[]);
    let base = image.copy();
    let events = record(&image, 4, 100);
    let cut = events
        .iter()
        .position(|it| matches!(it, Event::Write(SUPER_AT, _)))
        .unwrap();
    let flushed = events[..cut]
        .iter()
        .rposition(|it| matches!(it, Event::Flush))
        .unwrap();
    let before = events[..flushed]
        .iter()
        .rposition(|it| matches!(it, Event::Flush))
        .unwrap_or(0);
    let mut kept: Vec<&Event> = events[..before].iter().collect();
    kept.push(&events[cut]);
    apply(&base, &kept);
    assert!(!complaints(&check(base.path(), "original")).is_empty());
}

/// A device whose discarded bytes are gone at once.
struct Forgetful {
    inner: FileDevice,
    discarded: Mutex<u64>,
}

impl BlockDevice for Forgetful {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(at, buf)
    }

    fn write_at(&self, at: u64, buf: &[u8]) -> io::Result<()> {
        self.inner.write_at(at, buf)
    }

    fn flush(&self) -> io::Result<()> {
        self.inner.flush()
    }

    fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        *self.discarded.lock().unwrap() += len;
        self.inner.write_at(at, &vec![0xdd; len as usize])
    }

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        false
    }
}

/// What is discarded is reached by nobody: neither by the superblock nor by later edits.
#[test]
fn only_forgotten_bytes_are_discarded() {
    let image = Image::mkfs_btrfs(256, &[]);
    let inner = FileDevice::open(image.path(), false).unwrap();
    let device = Arc::new(Forgetful {
        inner,
        discarded: Mutex::new(0),
    });
    let (volume, superblock) = btrfuse::volume::Volume::open(vec![device.clone()], false).unwrap();
    let options = btrfuse::commit::OpenOptions {
        background: false,
        discard: true,
        // Small, so that blocks are read again.
        metadata_cache_bytes: 1 << 20,
        ..Default::default()
    };
    let engine = btrfuse::commit::open(Arc::new(volume), superblock, &options).unwrap();
    let mut rng = Rng::new(6);
    let mut scribe = Scribe::new(&engine, 5, "d");
    for _ in 0..1500 {
        scribe.step(&mut rng).unwrap();
        if rng.one_in(60) {
            engine.committer.commit().unwrap();
        }
    }
    engine.shutdown().unwrap();
    assert!(*device.discarded.lock().unwrap() > 1 << 20);
    assert_whole(&image, "after discards");
}
