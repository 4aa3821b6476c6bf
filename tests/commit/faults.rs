//! Devices that fail: a commit that can't be finished aborts, says so, and leaves the last one
//! whole. Every write, flush and read of a commit fails once.

use crate::scribe::{Scribe, open_device};
use crate::write_order::{Contents, SUPER_AT, checked, contents};
use btrfuse::Error;
use btrfuse::commit::{CommitHooks, Engine, OpenOptions, open};
use btrfuse::transaction::TransHandle;
use btrfuse::units::Logical;
use btrfuse::volume::{BlockDevice, Fault, FaultyDevice, MemoryDevice, Volume};
use btrfuse_test_support::{Image, Rng};
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Device = Arc<FaultyDevice<MemoryDevice>>;

fn fresh(options: &[&str]) -> MemoryDevice {
    let image = Image::mkfs_btrfs(128, options);
    MemoryDevice::from_reader(File::open(image.path()).unwrap()).unwrap()
}

/// How a commit in the middle of a fault ended.
#[derive(Debug, PartialEq)]
enum End {
    /// Durable, fault or not.
    Committed,
    /// The mount is read-only, and the image holds the commit before.
    AbortedBefore,
    /// The mount is read-only, but the superblock had arrived.
    AbortedAfter,
}

/// A commit's edits with one fault planned right before it. Judges all that must be true whatever
/// the fault, and says how it ended. `clean`: every copy of every block must be good afterwards.
fn commit_with(base: &MemoryDevice, fault: &Fault, clean: bool) -> End {
    let device: Device = Arc::new(FaultyDevice::over(Arc::new(base.clone())));
    let (before, after, result) = {
        let engine = open_device(device.clone()).unwrap();
        let mut rng = Rng::new(8);
        let mut scribe = Scribe::new(&engine, 5, "f");
        for _ in 0..50 {
            scribe.step(&mut rng).unwrap();
        }
        engine.committer.commit().unwrap();
        let before = contents(&engine);
        let durable = engine.ctx.transactions.durable();
        scatter(&engine);
        // Edits without data, so that the next write is the commit's.
        for _ in 0..20 {
            scribe.touch(&mut rng).unwrap();
        }
        let after = contents(&engine);
        device.plan(fault.clone());
        let result = engine.committer.commit();
        match &result {
            Ok(()) => {
                scribe.touch(&mut rng).unwrap();
                device.heal();
                let later = contents(&engine);
                engine.shutdown().unwrap();
                (before, later, result)
            }
            Err(error) => {
                assert!(matches!(error, Error::Device { .. }), "{fault:?}: {error}");
                assert_eq!(engine.ctx.transactions.durable(), durable, "{fault:?}");
                refuses_everything(&engine, &mut scribe, &mut rng, &device, fault);
                (before, after, result)
            }
        }
    };
    device.heal();
    let (found, primary_is_whole) = read(&device);
    // A torn first superblock is read around by us and refused by others.
    if clean && primary_is_whole {
        let complaints = checked(device.inner(), &["original"]);
        assert!(
            complaints.is_empty(),
            "{fault:?}:\n{}",
            complaints.join("\n")
        );
    }
    match result {
        Ok(()) => {
            assert_eq!(found, after, "{fault:?}");
            End::Committed
        }
        Err(_) if found == before => End::AbortedBefore,
        Err(_) => {
            assert_eq!(found, after, "{fault:?}: a mix of states");
            End::AbortedAfter
        }
    }
}

/// Makes holes of one block in free space (in memory only), so that a commit has many writes.
fn scatter(engine: &Engine) {
    let (space, node) = (&engine.ctx.space, engine.ctx.space.nodesize());
    for start in space.group_starts() {
        let group = space.group(Logical(start)).unwrap();
        if !group.kind.takes_metadata() {
            continue;
        }
        for at in (group.start..group.end()).step_by(2 * node as usize) {
            space.alloc_exact(Logical(at), node);
        }
    }
}

/// After an abort nothing reaches the device, whoever asks, also when it works again.
fn refuses_everything(
    engine: &Engine,
    scribe: &mut Scribe,
    rng: &mut Rng,
    device: &Device,
    fault: &Fault,
) {
    device.heal();
    let writes = device.calls().writes;
    let aborted = |result: btrfuse::Result<()>| {
        assert!(
            matches!(result, Err(Error::Aborted(_))),
            "{fault:?}: {result:?}"
        );
    };
    aborted(scribe.touch(rng));
    aborted(engine.committer.commit());
    aborted(engine.committer.write_early());
    aborted(engine.committer.throttle().and(engine.check_writable()));
    let at = engine.ctx.space.group_starts()[0];
    let written = engine.volume.write(Logical(at), &[0; 4096]);
    assert!(written.is_err(), "{fault:?}");
    assert!(engine.shutdown().is_err());
    assert_eq!(device.calls().writes, writes, "{fault:?}");
}

/// What the files' tree says, and whether the first superblock says so.
fn read(device: &Device) -> (Contents, bool) {
    let (volume, superblock) = Volume::open(vec![device.clone()], true).unwrap();
    let primary_is_whole = superblock.bytenr.get() == SUPER_AT;
    let options = OpenOptions {
        read_only: true,
        background: false,
        ..OpenOptions::default()
    };
    let engine = open(Arc::new(volume), superblock, &options).unwrap();
    (contents(&engine), primary_is_whole)
}

/// With one copy of everything each write counts, up to the first superblock; from there on the new
/// state is on the device.
#[test]
fn every_write_that_fails_aborts_and_leaves_a_whole_state() {
    let base = fresh(&["-m", "single", "-n", "4096"]);
    for make in [
        Fault::FailWrite as fn(u64) -> Fault,
        |nth| Fault::TearWrite(nth, 512),
        |nth| Fault::TearWrite(nth, 4096),
    ] {
        let mut ends = Vec::new();
        for nth in 1..100 {
            ends.push(commit_with(&base, &make(nth), true));
            // The last write of a commit is the second superblock, which isn't needed.
            if *ends.last().unwrap() == End::Committed {
                break;
            }
        }
        assert!(ends.len() > 6, "{ends:?}");
        assert_eq!(ends.pop(), Some(End::Committed));
        let super_end = ends.pop().unwrap();
        assert_ne!(super_end, End::Committed);
        assert!(
            ends.iter().all(|end| *end == End::AbortedBefore),
            "{ends:?}"
        );
    }
}

/// Metadata is DUP: one copy is enough, and the other is repaired when it is read.
#[test]
fn one_copy_that_fails_is_survived() {
    let base = fresh(&[]);
    let fail = |nth| commit_with(&base, &Fault::FailWrite(nth), false);
    let mut ends: Vec<End> = (1..60).map(fail).collect();
    // The first superblock alone has no second copy that could stand for it.
    ends.retain(|end| *end != End::Committed);
    assert_eq!(ends, [End::AbortedBefore]);
}

#[test]
fn a_failed_flush_aborts() {
    let base = fresh(&[]);
    let first = commit_with(&base, &Fault::FailFlush(1), true);
    assert_eq!(first, End::AbortedBefore);
    // The superblock may have arrived or not: nobody can say, so it isn't called durable.
    let second = commit_with(&base, &Fault::FailFlush(2), true);
    assert_eq!(second, End::AbortedAfter);
    assert_eq!(
        commit_with(&base, &Fault::FailFlush(3), true),
        End::Committed
    );
}

#[test]
fn a_power_cut_at_any_write_leaves_a_whole_state() {
    let base = fresh(&[]);
    let mut ends = Vec::new();
    for nth in 1..100 {
        ends.push(commit_with(&base, &Fault::PowerCut(nth), true));
        if *ends.last().unwrap() == End::Committed {
            break;
        }
    }
    assert!(ends.len() > 8, "{ends:?}");
    assert_eq!(ends[0], End::AbortedBefore);
    assert_eq!(ends.last(), Some(&End::Committed));
}

/// Blocks that a commit has to read again, and can't: it aborts before it has written anything, or
/// reads the other copy.
#[test]
fn a_block_that_cannot_be_read_aborts_and_leaves_a_whole_state() {
    for (options, survives) in [(&["-m", "single"][..], false), (&[][..], true)] {
        let base = fresh(options);
        let mut failed = 0;
        for nth in 1..12 {
            let device: Device = Arc::new(FaultyDevice::over(Arc::new(base.clone())));
            let mut rng = Rng::new(8);
            {
                let engine = open_device(device.clone()).unwrap();
                let mut scribe = Scribe::new(&engine, 5, "f");
                for _ in 0..60 {
                    scribe.step(&mut rng).unwrap();
                }
                engine.shutdown().unwrap();
            }
            let before = read(&device);
            let engine = open_device(device.clone()).unwrap();
            // Only what the edit itself reads is in memory; the commit reads the rest.
            device.plan(Fault::FailRead(nth));
            let mut scribe = Scribe::try_new(&engine, 5, "g");
            let edited = scribe.as_mut().map(|scribe| scribe.touch(&mut rng));
            let ended = engine.shutdown();
            let fine = matches!(edited, Some(Ok(()))) && ended.is_ok();
            failed += u64::from(!fine);
            drop(scribe);
            drop(engine);
            device.heal();
            let complaints = checked(device.inner(), &["original"]);
            assert!(complaints.is_empty(), "{nth}:\n{}", complaints.join("\n"));
            assert_eq!(read(&device) == before, !fine, "read {nth}");
        }
        assert_eq!(failed == 0, survives, "{failed} of 11 failed");
    }
}

/// The superblock's copies are no longer the same when the second one failed: the next mount heals
/// it.
#[test]
fn a_mirror_that_failed_is_healed_by_the_next_mount() {
    let base = fresh(&[]);
    let differ = |device: &Device| {
        let devices: Vec<Arc<dyn BlockDevice>> = vec![device.clone()];
        Volume::open(devices, true).unwrap().0.superblocks_differ()
    };
    let mut healed = 0;
    for nth in 1..20 {
        let device: Device = Arc::new(FaultyDevice::over(Arc::new(base.clone())));
        let engine = open_device(device.clone()).unwrap();
        let mut scribe = Scribe::new(&engine, 5, "m");
        scribe.touch(&mut Rng::new(1)).unwrap();
        device.plan(Fault::FailWrite(nth));
        let ended = engine.shutdown();
        drop(scribe);
        drop(engine);
        device.heal();
        if ended.is_ok() && differ(&device) {
            drop(open_device(device.clone()).unwrap());
            assert!(!differ(&device), "write {nth}");
            healed += 1;
        }
    }
    assert_eq!(healed, 1);
}

/// A commit thread that dies takes the mount's writability with it, rather than leave a mount
/// that never commits.
#[test]
fn a_commit_thread_that_panics_ends_writing() {
    struct Panics;
    impl CommitHooks for Panics {
        fn before_commit(&self) -> btrfuse::Result<()> {
            panic!("planned");
        }
        fn flush_delayed_items(&self, _trans: &TransHandle) -> btrfuse::Result<()> {
            Ok(())
        }
    }
    let device: Arc<dyn BlockDevice> = Arc::new(fresh(&[]));
    let (volume, superblock) = Volume::open(vec![device], false).unwrap();
    let options = OpenOptions {
        commit_interval: Duration::from_millis(20),
        ..OpenOptions::default()
    };
    let engine = open(Arc::new(volume), superblock, &options).unwrap();
    let hooks: Arc<dyn CommitHooks> = Arc::new(Panics);
    engine.committer.set_hooks(Arc::downgrade(&hooks));
    let deadline = Instant::now() + Duration::from_secs(20);
    while engine.check_writable().is_ok() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let error = engine
        .check_writable()
        .expect_err("nobody commits any more");
    assert!(error.to_string().contains("commit thread"), "{error}");
    drop(hooks);
    assert!(engine.shutdown().is_err());
}
