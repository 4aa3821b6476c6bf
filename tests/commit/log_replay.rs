//! The replay of a log beside power cuts and gates: an image has its log until the commit that makes
//! the replay durable, and loses it in no other way.

use crate::gated::change_superblocks;
use crate::recording::{CrashState, Event, Recorder};
use crate::write_order::{Contents, SUPER_AT, checked, contents_of};
use btrfuse::Error;
use btrfuse::fs::{Filesystem, MountOptions};
use btrfuse::ondisk::superblock::{
    FEATURE_COMPAT_RO_FREE_SPACE_TREE_VALID, SUPER_FLAG_METADUMP, Superblock,
};
use btrfuse::volume::{BlockDevice, Fault, FaultyDevice, FileDevice, MemoryDevice, Volume};
use btrfuse_test_support::{Image, Rng, golden};
use std::fs::File;
use std::sync::Arc;

/// How to look at an image.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    /// Read-write.
    Write,
    /// Read-only, the log replayed in memory.
    Read,
    /// Read-only, the last commit.
    LastCommit,
}

/// A mount without threads: every step in order.
pub fn mount(device: Arc<dyn BlockDevice>, look: Look) -> Result<Arc<Filesystem>, Error> {
    let options = MountOptions {
        read_only: !matches!(look, Look::Write),
        nologreplay: matches!(look, Look::LastCommit),
        subvolid: Some(5),
        background: false,
        ..MountOptions::default()
    };
    Filesystem::mount(vec![device], &options)
}

/// The top level's tree as it is seen by `look`.
#[track_caller]
pub fn seen(device: &MemoryDevice, look: Look, what: &str) -> Contents {
    let fs = mount(Arc::new(device.clone()), look)
        .unwrap_or_else(|error| panic!("{what}, {look:?}: {error}"));
    let found = contents_of(fs.tree_context());
    fs.unmount()
        .unwrap_or_else(|error| panic!("{what}, {look:?}: {error}"));
    found
}

/// An image with a log, in memory.
pub fn crashed(name: &str) -> MemoryDevice {
    let image = golden::named(name).image();
    MemoryDevice::from_reader(File::open(image.path()).unwrap()).unwrap()
}

/// The superblock that a mount would go by.
fn superblock(device: &MemoryDevice) -> Superblock {
    let device: Arc<dyn BlockDevice> = Arc::new(device.clone());
    Volume::open(vec![device], true)
        .expect("a whole superblock")
        .1
}

/// What a state must be: the log and what it was written over, or what the replay made of them.
struct Replayed {
    in_memory: Contents,
    /// Without the orphans, which the mount went on to delete.
    cleaned: Contents,
}

impl Replayed {
    fn judge(&self, state: &CrashState) -> bool {
        let what = &state.what;
        let superblock = superblock(&state.device);
        let has_log = superblock.log_root.get() != 0;
        let found = seen(&state.device, Look::Read, what);
        let done = !has_log && found == self.cleaned;
        assert!(found == self.in_memory || done, "{what}: log {has_log}");
        // A torn first superblock is read around by us and refused by others.
        if superblock.bytenr.get() == SUPER_AT {
            let found = checked(&state.device, &["original"]);
            assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
        }
        has_log
    }
}

/// A cut anywhere in the commit of a replay leaves the log, which is replayed again, or its result.
#[test]
fn a_cut_during_a_replay_leaves_the_log_or_its_result() {
    for name in ["log0-s11-p24", "log1-s11-p04"] {
        let base = crashed(name);
        let in_memory = seen(&base, Look::Read, name);
        assert_ne!(seen(&base, Look::LastCommit, name), in_memory, "{name}");
        let recorder = Arc::new(Recorder::over(&base));
        let fs = mount(recorder.clone(), Look::Write).unwrap();
        let cleaned = contents_of(fs.tree_context());
        fs.unmount().unwrap();
        drop(fs);
        let recorder = Arc::into_inner(recorder).expect("the mount is gone");
        let recording = recorder.finish(base);
        let replayed = Replayed { in_memory, cleaned };
        let (mut with, mut without, mut again) = (0, 0, Vec::new());
        recording.visit(&mut Rng::new(5), 6, 10, |state| {
            if replayed.judge(&state) {
                with += 1;
                if with % 8 == 0 {
                    again.push(state.device);
                }
            } else {
                without += 1;
            }
        });
        assert!(with > 20 && without > 2, "{name}: {with} and {without}");
        for device in again {
            let device = Arc::new(device);
            let fs = mount(device.clone(), Look::Write).unwrap();
            let found = contents_of(fs.tree_context());
            fs.unmount().unwrap();
            fs.tree_context().space.verify().unwrap();
            drop(fs);
            assert_eq!(found, replayed.cleaned, "{name}");
            assert_eq!(superblock(&device).log_root.get(), 0, "{name}");
            let found = checked(&device, &["original", "lowmem"]);
            assert!(found.is_empty(), "{name}:\n{}", found.join("\n"));
        }
    }
}

/// Reads of the superblock's copies. Who can't read the first one can't know of the log:
/// only that one names it.
const SUPER_READS: u64 = 2;

/// A device that fails somewhere in a replay leaves the log, or its result; what is only a bad copy is
/// read around.
#[test]
fn a_fault_during_a_replay_leaves_the_log_or_its_result() {
    let name = "log1-s11-p04";
    let base = crashed(name);
    let in_memory = seen(&base, Look::Read, name);
    let (cleaned, calls) = {
        let device = Arc::new(FaultyDevice::over(Arc::new(base.clone())));
        let fs = mount(device.clone(), Look::Write).unwrap();
        (contents_of(fs.tree_context()), device.calls())
    };
    let some = |count: u64| (1..=count).step_by(1 + count as usize / 24);
    let faults = some(calls.writes)
        .map(Fault::FailWrite)
        .chain(some(calls.writes).map(|nth| Fault::TearWrite(nth, 512)))
        .chain(some(calls.flushes).map(Fault::FailFlush))
        .chain(some(calls.reads).map(|nth| Fault::FailRead(SUPER_READS + nth)));
    let (mut failed, mut mounted) = (0, 0);
    for fault in faults {
        let device = Arc::new(FaultyDevice::over(Arc::new(base.clone())));
        device.plan(fault.clone());
        match mount(device.clone(), Look::Write) {
            Ok(fs) => {
                // The fault may have turned it read-only since.
                let _ = fs.unmount();
                mounted += 1;
            }
            Err(_) => failed += 1,
        }
        device.heal();
        let found = seen(device.inner(), Look::Read, &format!("{fault:?}"));
        assert!(found == in_memory || found == cleaned, "{fault:?}");
    }
    assert!(failed > 5 && mounted > 5, "{failed} and {mounted}");
}

/// The kernel names a log in the first superblock only. Before a commit may tear that one, the
/// copies name the log too.
#[test]
fn copies_of_the_superblock_name_the_log_before_the_first_one_changes() {
    let base = crashed("log0-s11-p24");
    let recorder = Arc::new(Recorder::over(&base));
    drop(mount(recorder.clone(), Look::Write).unwrap());
    let recorder = Arc::into_inner(recorder).expect("the mount is gone");
    let events = recorder.finish(base).events;
    let logs: Vec<(u64, bool)> = events
        .iter()
        .filter_map(|event| match event {
            Event::Write(at, bytes) if [SUPER_AT, 64 << 20].contains(at) => {
                let superblock = Superblock::parse_at(bytes, *at).expect("whole");
                Some((*at, superblock.log_root.get() != 0))
            }
            _ => None,
        })
        .collect();
    let first: [(u64, bool); 2] = [(SUPER_AT, true), (64 << 20, true)];
    assert_eq!(logs[..2], first);
    assert!(logs[2..].iter().all(|(_, log)| !log), "{logs:?}");
}

/// What may not be written is shown with its log all the same, where that can be replayed.
#[test]
fn images_that_are_only_read_have_their_logs_replayed_in_memory() {
    let name = "log1-s11-p04";
    let expected = seen(&crashed(name), Look::Read, name);
    let dump = |sb: &mut Superblock| sb.flags.set(sb.flags.get() | SUPER_FLAG_METADUMP);
    let stale = |sb: &mut Superblock| {
        let flags = sb.compat_ro_flags.get() & !FEATURE_COMPAT_RO_FREE_SPACE_TREE_VALID;
        sb.compat_ro_flags.set(flags);
    };
    let changes: [&dyn Fn(&mut Superblock); 2] = [&dump, &stale];
    for change in changes {
        let image = golden::named(name).image();
        change_superblocks(&image, change);
        let before = image.digest();
        let device = Arc::new(FileDevice::open(image.path(), false).unwrap());
        let fs = mount(device, Look::Write).unwrap();
        assert!(fs.read_only_reason().is_some());
        assert_eq!(contents_of(fs.tree_context()), expected);
        fs.unmount().unwrap();
        drop(fs);
        assert_eq!(image.digest(), before);
    }
}

#[test]
fn a_log_behind_an_unknown_feature_is_left_alone() {
    let name = "log1-s11-p04";
    let image = golden::named(name).image();
    change_superblocks(&image, |sb| {
        sb.compat_ro_flags.set(sb.compat_ro_flags.get() | 1 << 20);
    });
    let before = image.digest();
    for look in [Look::Write, Look::Read] {
        let error = open_file(&image, look).map(drop).unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{error}");
        let words = error.to_string();
        assert!(words.contains("compat_ro bit 20"), "{words}");
        assert!(words.contains("ro,nologreplay"), "{words}");
    }
    let fs = open_file(&image, Look::LastCommit).unwrap();
    let last_commit = seen(&crashed(name), Look::LastCommit, name);
    assert_eq!(contents_of(fs.tree_context()), last_commit);
    fs.unmount().unwrap();
    drop(fs);
    assert_eq!(image.digest(), before);
}

fn open_file(image: &Image, look: Look) -> Result<Arc<Filesystem>, Error> {
    let device = FileDevice::open(image.path(), false).unwrap();
    mount(Arc::new(device), look)
}

/// Whoever opens the trees without a replay can't write past a log.
#[test]
fn writing_without_the_replay_is_refused() {
    let image = golden::named("log0-s11-p24").image();
    let before = image.digest();
    let device = FileDevice::open(image.path(), false).unwrap();
    let options = MountOptions {
        nologreplay: true,
        background: false,
        ..MountOptions::default()
    };
    let error = Filesystem::mount(vec![Arc::new(device)], &options)
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("ro,nologreplay"), "{error}");
    assert_eq!(image.digest(), before);
}
