//! Two operations on one file at the same time, where each keeps to its order only between its own
//! locks.

use super::*;
use crate::fs::file::fallocate::{PunchRoom, punch_flushed};
use crate::ondisk::{INODE_NODUMP, INODE_PREALLOC};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread;
use std::time::Duration;

/// `FS_NODUMP_FL`.
const NODUMP: u32 = 0x40;

/// chattr wrote back the flags that it had read at its beginning, and space that was preallocated
/// meanwhile wasn't known as such any more.
#[test]
fn flags_that_are_set_together_are_all_kept() {
    let device = mkfs(256, &[]);
    let fs = mount(&device);
    for round in 0..150 {
        let node = create(&fs, &format!("f{round}"));
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut flags = 0;
                // Relaxed: only tells when to stop.
                while !over.load(Ordering::Relaxed) {
                    flags ^= NODUMP;
                    fs.set_flags(&Caller::default(), node, flags).unwrap();
                }
                fs.set_flags(&Caller::default(), node, NODUMP).unwrap();
            });
            thread::yield_now();
            fs.fallocate(node, KEEP, 0, 16_384).unwrap();
            over.store(true, Ordering::Relaxed);
        });
        let flags = fs.getattr(node).unwrap().flags;
        assert_eq!(flags, INODE_PREALLOC | INODE_NODUMP, "round {round}");
    }
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

/// A punch forgets what memory holds of its range. When that was a write that came during its own
/// flush and made the file longer, nobody was left to bring the new size to the disk.
#[test]
fn a_file_that_grows_into_a_hole_being_punched_keeps_its_size() {
    let device = mkfs(512, &[]);
    let fs = mount(&device);
    const LEN: usize = 512 << 10;
    const FAR: u64 = 2 << 20;
    let name = |round: u64| format!("f{round}");
    let mut known = Vec::new();
    for round in 0..60 {
        let node = create(&fs, &name(round));
        write(&fs, node, 0, &pattern(round, LEN)).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_micros(round * 20));
                write(&fs, node, FAR, &[7; 4096]).unwrap();
            });
            fs.fallocate(node, PUNCH, 4096, 16 << 20).unwrap();
        });
        let before = content(&fs, node);
        assert_eq!(before.len() as u64, FAR + 4096);
        assert_eq!(before[..4096], pattern(round, LEN)[..4096]);
        assert!(before[4096..FAR as usize].iter().all(|&byte| byte == 0));
        known.push(before);
    }
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
    let fs = mount(&device);
    for (round, before) in known.iter().enumerate() {
        let after = content(&fs, look_up(&fs, &name(round as u64)));
        assert_eq!(after.len(), before.len(), "round {round}");
        assert!(after == *before, "round {round}");
    }
    fs.unmount().unwrap();
}

/// The same where the punch ends half way, between its transactions: it has forgotten the write
/// already, and no last transaction comes.
#[test]
fn a_punch_that_fails_half_way_leaves_a_file_that_grew_its_size() {
    let pristine = mkfs(128, &["-n", "4096", "-m", "single"]);
    let fs = mount(&pristine);
    let node = create(&fs, "f");
    for index in 0..1200 {
        write(&fs, node, index * 8192, &pattern(index, 4096)).unwrap();
    }
    fs.unmount().unwrap();
    drop(fs);
    const FAR: u64 = 24 << 20;
    let mut half_way = 0;
    for failing in 1.. {
        let device: Device = Arc::new(FaultyDevice::over(Arc::new(MemoryDevice::clone(
            pristine.inner(),
        ))));
        let fs = mount(&device);
        let node = look_up(&fs, "f");
        let inode = fs.inode(node).unwrap();
        let range = 4096..32 << 20;
        let room = PunchRoom::reserve(&fs, &inode, &range).unwrap();
        let done = {
            let _one = inode.data.flush.lock();
            // As one that comes after the punch's own flush.
            write(&fs, node, FAR, &[7; 4096]).unwrap();
            (failing..failing + 200).for_each(|nth| device.plan(Fault::FailRead(nth)));
            punch_flushed(&fs, &inode, &range, room)
        };
        device.heal();
        if fs.read_only_reason().is_some() {
            // It failed inside a transaction, which is nobody's ordinary error.
            continue;
        }
        let before = content(&fs, node);
        assert_eq!(before.len() as u64, FAR + 4096);
        // The write is gone and its size isn't, after some of the punch was done.
        half_way += u32::from(done.is_err() && before[FAR as usize..] == [0; 4096]);
        drop(inode);
        fs.unmount().unwrap();
        drop(fs);
        check(&device);
        let fs = mount(&device);
        let after = content(&fs, look_up(&fs, "f"));
        assert!(after == before, "{} bytes are left", after.len());
        fs.unmount().unwrap();
        if done.is_ok() {
            break;
        }
    }
    assert!(half_way > 0);
}
