//! The order of writes: a recording device keeps every write and flush of a workload, and states
//! that a power cut could leave (see [`recording`](crate::recording)) are judged: by `btrfs check`,
//! and by what the files' tree says, which must be that of one commit, never older than the last
//! one that was acknowledged, never a mix.

use crate::recording::{CrashState, Event, Recorder, Recording};
use crate::scribe::{Scribe, open_device};
use btrfuse::btree::TreeContext;
use btrfuse::commit::{Engine, OpenOptions, open};
use btrfuse::ondisk::{CsumType, Key};
use btrfuse::volume::{BlockDevice, FileDevice, MemoryDevice, Volume};
use btrfuse_test_support::check::{check, complaints};
use btrfuse_test_support::{Image, Rng};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

pub const SUPER_AT: u64 = 65536;

/// The digest of every item of the files' tree.
pub type Contents = [u8; 32];

pub fn contents(engine: &Engine) -> Contents {
    contents_of(&engine.ctx)
}

pub fn contents_of(ctx: &TreeContext) -> Contents {
    let root = ctx.roots.get(ctx, 5).unwrap();
    let mut cursor = ctx.search(&root, &Key::MIN).unwrap();
    let mut bytes = Vec::new();
    while let Some((key, data)) = cursor.item() {
        bytes.extend(format!("{key}").as_bytes());
        bytes.extend(data);
        if !cursor.next().unwrap() {
            break;
        }
    }
    CsumType::Sha256.digest(&bytes)
}

/// What was written, and the contents by generation.
struct Story {
    recording: Recording,
    contents: BTreeMap<u64, Contents>,
}

/// Random edits and commits on a fresh image.
fn record(options: &[&str], seed: u64, steps: u64) -> Story {
    let image = Image::mkfs_btrfs(128, options);
    let base = MemoryDevice::from_reader(File::open(image.path()).unwrap()).unwrap();
    let recorder = Arc::new(Recorder::over(&base));
    let mut known = BTreeMap::new();
    {
        let engine = open_device(recorder.clone()).unwrap();
        let mut note = || {
            let generation = engine.ctx.transactions.durable().get();
            known.insert(generation, contents(&engine));
            recorder.acknowledge(generation);
        };
        note();
        let mut rng = Rng::new(seed);
        let mut scribe = Scribe::new(&engine, 5, "o");
        for _ in 0..steps {
            scribe.step(&mut rng).unwrap();
            if rng.one_in(60) {
                engine.committer.commit().unwrap();
                note();
            }
            if rng.one_in(90) {
                engine.committer.write_early().unwrap();
            }
        }
        engine.shutdown().unwrap();
        note();
    }
    let recorder = Arc::into_inner(recorder).expect("the engine is gone");
    Story {
        recording: recorder.finish(base),
        contents: known,
    }
}

pub fn checked(device: &MemoryDevice, modes: &[&str]) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    device.copy_to(file.as_file()).unwrap();
    check_file(file.path(), modes)
}

fn check_file(path: &Path, modes: &[&str]) -> Vec<String> {
    let all = modes.iter().map(|mode| complaints(&check(path, mode)));
    all.flatten().collect()
}

fn judge(story: &Story, state: CrashState, modes: &[&str]) {
    let what = &state.what;
    let device = Arc::new(state.device);
    let (volume, superblock) =
        Volume::open(vec![device.clone()], true).unwrap_or_else(|error| panic!("{what}: {error}"));
    let generation = superblock.generation().get();
    assert!(
        generation >= state.acknowledged,
        "{what}: generation {generation}, and {} was acknowledged",
        state.acknowledged
    );
    let options = OpenOptions {
        read_only: true,
        background: false,
        ..OpenOptions::default()
    };
    // A torn first superblock is read around by us and refused by others.
    let primary_is_whole = superblock.bytenr.get() == SUPER_AT;
    let engine = open(Arc::new(volume), superblock, &options)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let expected = story.contents.get(&generation);
    assert_eq!(
        Some(&contents(&engine)),
        expected,
        "{what}: a mix of states"
    );
    drop(engine);
    if primary_is_whole {
        let found = checked(&device, modes);
        assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
    }
}

#[test]
fn every_cut_leaves_a_whole_filesystem() {
    for (seed, options) in [(1, &["-n", "4096"][..]), (2, &[][..])] {
        let story = record(options, seed, 400);
        assert!(story.contents.len() > 4, "{} commits", story.contents.len());
        let mut n = 0;
        let visited = story.recording.visit(&mut Rng::new(seed), 2, 3, |state| {
            n += 1;
            let modes = ["original", "lowmem"];
            judge(&story, state, if n % 4 == 0 { &modes } else { &modes[..1] });
        });
        assert!(visited > 60, "{visited} states");
    }
}

/// After a cut writing goes on, and a second cut during that leaves a whole filesystem again.
#[test]
fn a_second_cut_after_going_on_is_survived() {
    let story = record(&["-n", "4096"], 7, 150);
    let mut states = Vec::new();
    story.recording.visit(&mut Rng::new(7), 1, 1, |state| {
        states.push(state);
    });
    let mut rng = Rng::new(8);
    for _ in 0..4 {
        let state = states.swap_remove(rng.below(states.len() as u64) as usize);
        let recorder = Arc::new(Recorder::over(&state.device));
        let mut known = BTreeMap::new();
        {
            let engine = open_device(recorder.clone()).unwrap();
            let mut note = || {
                let generation = engine.ctx.transactions.durable().get();
                known.insert(generation, contents(&engine));
                recorder.acknowledge(generation);
            };
            note();
            let mut scribe = Scribe::new(&engine, 5, "second");
            for _ in 0..3 {
                for _ in 0..20 {
                    scribe.step(&mut rng).unwrap();
                }
                engine.committer.commit().unwrap();
                note();
            }
        }
        let recording = Arc::into_inner(recorder).unwrap().finish(state.device);
        let second = Story {
            recording,
            contents: known,
        };
        second.recording.visit(&mut Rng::new(9), 1, 2, |state| {
            judge(&second, state, &["original"]);
        });
    }
}

/// Between two flushes there is either a superblock (with its copies) or none, and a superblock
/// is always the first write after a flush.
#[test]
fn superblocks_stand_alone_between_flushes() {
    let story = record(&[], 3, 300);
    let supers: [u64; 2] = [SUPER_AT, 64 << 20];
    let mut seen = 0;
    let events = &story.recording.events;
    for epoch in events.split(|event| matches!(event, Event::Flush)) {
        let writes: Vec<u64> = epoch
            .iter()
            .filter_map(|event| match event {
                Event::Write(at, _) => Some(*at),
                _ => None,
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
    let story = record(&[], 4, 100);
    let events = &story.recording.events;
    let is_super = |event: &Event| matches!(event, Event::Write(SUPER_AT, _));
    let cut = events.iter().position(is_super).unwrap();
    let device = story.recording.whole(0);
    let Event::Write(at, bytes) = &events[cut] else {
        unreachable!("a write was looked for");
    };
    device.write_at(*at, bytes).unwrap();
    assert!(!checked(&device, &["original"]).is_empty());
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
    drop(scribe);
    drop(engine);
    let found = check_file(image.path(), &["original", "lowmem"]);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
