//! Several threads at once on a device that fails, with the commit thread and the cleaner: nobody waits
//! for ever, whoever was told that a file is durable finds it, and the image is sound.

use crate::device::PlannedDevice;
use crate::stage::{self, judge_image, within_limit};
use btrfuse::fs::{Caller, Filesystem, MountOptions, NodeId, WriteFlags};
use btrfuse::volume::{BlockDevice, MemoryDevice};
use btrfuse_test_support::fault_plan::Call::{self, Flush, Read, Write};
use btrfuse_test_support::fault_plan::Fault::{self, Fails};
use btrfuse_test_support::fault_plan::FaultPlan;
use btrfuse_test_support::fault_plan::Lasting::{ForGood, Once, Place};
use btrfuse_test_support::script::bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const THREADS: u64 = 4;
const ROUNDS: u64 = 12;

fn caller() -> Caller {
    Caller {
        uid: 0,
        gid: 0,
        umask: 0,
        pid: 1,
    }
}

fn size(file: u64) -> usize {
    (file as usize * 7919) % 60_000 + 1
}

/// Makes one file durable.
fn make(fs: &Filesystem, dir: NodeId, file: u64) -> btrfuse::Result<()> {
    let name = format!("file{file}");
    let made = fs.create(&caller(), dir, name.as_bytes(), 0o644, libc::O_RDWR)?;
    let written = fs
        .write(
            made.node,
            0,
            &bytes(file, size(file)),
            WriteFlags::default(),
        )
        .and_then(|_| fs.fsync(made.node, false));
    fs.release(made.node);
    fs.forget(made.node, 1);
    written?;
    if file.is_multiple_of(3) {
        let again = format!("moved{file}");
        let flags = btrfuse::fs::RenameFlags::default();
        fs.rename(
            &caller(),
            dir,
            name.as_bytes(),
            dir,
            again.as_bytes(),
            flags,
        )?;
        // Nobody was told that this is durable: only some of it may be.
        fs.rename(
            &caller(),
            dir,
            again.as_bytes(),
            dir,
            name.as_bytes(),
            flags,
        )?;
        fs.fsync(dir, false)?;
    }
    Ok(())
}

/// Everybody's files that are durable, when all threads have come to their end.
fn work(fs: &Arc<Filesystem>, dirs: &[NodeId]) -> Vec<(usize, u64)> {
    let promised = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (thread, &dir) in dirs.iter().enumerate() {
            let promised = &promised;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let file = thread as u64 * 1000 + round;
                    match make(fs, dir, file) {
                        Ok(()) => promised.lock().unwrap().push((thread, file)),
                        Err(error) => {
                            let errno = error.errno();
                            assert!(errno == libc::EIO || errno == libc::EROFS, "{error}");
                        }
                    }
                    if round % 4 == thread as u64 {
                        let _whatever = fs.sync();
                    }
                }
            });
        }
    });
    promised.into_inner().unwrap()
}

fn tell(base: &MemoryDevice, fault: Fault, nth: u64) -> (u64, bool) {
    let device = Arc::new(PlannedDevice::over(base, FaultPlan::none()));
    let options = MountOptions {
        subvolid: Some(5),
        commit_interval_secs: 1,
        inodes_cached: 0,
        ..MountOptions::default()
    };
    let fs = Filesystem::mount(vec![device.clone() as Arc<dyn BlockDevice>], &options).unwrap();
    let dirs: Vec<NodeId> = (0..THREADS)
        .map(|thread| {
            let name = format!("dir{thread}");
            let made = fs.mkdir(&caller(), NodeId::ROOT, name.as_bytes(), 0o755);
            made.unwrap().node
        })
        .collect();
    fs.sync().unwrap();
    device.plan(FaultPlan::at(fault, nth));
    let promised = work(&fs, &dirs);
    let aborted = fs.read_only_reason().is_some();
    let ended = fs.unmount();
    assert!(ended.is_err() || !aborted, "an aborted mount ended well");
    drop(fs);
    let fired = device.fired();
    device.heal();
    let fs = stage::mount(device.clone()).unwrap();
    for (thread, file) in promised {
        let dir = fs.lookup(NodeId::ROOT, format!("dir{thread}").as_bytes());
        let name = format!("file{file}");
        let attr = fs.lookup(dir.unwrap().node, name.as_bytes());
        let attr = attr.unwrap_or_else(|error| panic!("{name} was promised: {error}"));
        let found = fs.read(attr.node, 0, 100_000).unwrap();
        assert!(found == bytes(file, size(file)), "{name} has other content");
    }
    fs.unmount().unwrap();
    drop(fs);
    judge_image(device.medium());
    (fired, aborted)
}

#[test]
fn nobody_waits_for_ever_for_a_device_that_fails() {
    let (base, _) = stage::scene(&["-m", "single"]);
    let every = if crate::campaign::is_exhaustive() {
        1
    } else {
        25
    };
    let figures = Arc::new([const { AtomicU64::new(0) }; 2]);
    let calls: [(Call, u64); 3] = [(Write, 400), (Flush, 120), (Read, 20)];
    for (call, most) in calls {
        for nth in (1..most).step_by(every) {
            let lasting = [Once, ForGood, Place][(nth / every as u64 % 3) as usize];
            if (call, lasting) == (Flush, Place) {
                continue;
            }
            let (base, figures) = (base.clone(), figures.clone());
            let fault = Fails(call, lasting);
            within_limit(format!("{fault:?} at {nth}, threads"), move || {
                let (fired, aborted) = tell(&base, fault, nth);
                figures[0].fetch_add(u64::from(fired > 0), Ordering::Relaxed);
                figures[1].fetch_add(u64::from(aborted), Ordering::Relaxed);
            });
        }
    }
    let [fired, aborted] = [&figures[0], &figures[1]].map(|it| it.load(Ordering::Relaxed));
    eprintln!("threads: {fired} tellings with a fault, {aborted} aborted");
    assert!(fired > 5 && aborted > 2, "{fired} and {aborted}");
}
