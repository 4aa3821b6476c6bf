//! Two operations on one file at the same time, where each keeps to its order only between its own
//! locks.

use super::*;
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
