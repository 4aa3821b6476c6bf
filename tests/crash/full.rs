//! Power cuts on a full filesystem: operations meet ENOSPC, and then there must be nothing of them; fsync
//! and commits meet it never.

use crate::play::Start;
use crate::player::CALLER;
use crate::step::Hand;
use crate::workloads;
use btrfuse::fs::{Filesystem, NodeId, WriteFlags};
use btrfuse_test_support::{Image, LoopMount};

/// Space is taken in such pieces, and then in smaller ones.
const PIECES: [u64; 4] = [16 << 20, 1 << 20, 64 << 10, PAGE_BYTES];
const PAGE_BYTES: u64 = 4096;
/// Metadata is full only where it shares its groups with data: each state is walked by all judges.
const SMALL_FILES_MAX: u32 = 30;

/// An image on which the workloads can go on, and hardly anything more goes in: so many pages.
pub fn start(image: &Image, pages: u64) -> Start {
    // mkfs leaves the uuid tree to the kernel's first mount, which couldn't fill it any more.
    LoopMount::read_write(image.path()).unmount();
    Start::made_by(image, |fs| {
        let mut hand = Hand::on(fs);
        for step in workloads::preparation() {
            assert!(hand.take(&step).is_some(), "{step:?} is refused");
        }
        fs.sync().expect("commits");
        fill(fs, pages);
    })
}

/// Preallocates until nothing is left, and writes small files until those are refused as well. Then some
/// pages are given back. Of the operations some succeed.
fn fill(fs: &Filesystem, pages: u64) {
    let file = |name: &str| {
        fs.create(&CALLER, NodeId::ROOT, name.as_bytes(), 0o600, libc::O_RDWR)
            .map(|attr| attr.node)
    };
    let keep = libc::FALLOC_FL_KEEP_SIZE;
    let spare = file("spare").expect("room for a name");
    if pages > 0 {
        let done = fs.fallocate(spare, keep, 0, pages * PAGE_BYTES);
        done.expect("room for some pages");
    }
    let large = file("large").expect("room for a name");
    let mut at = 0;
    for piece in PIECES {
        while fs.fallocate(large, keep, at, piece).is_ok() {
            at += piece;
        }
    }
    assert!(at > 0, "there was nothing to take");
    for n in 0..SMALL_FILES_MAX {
        let Ok(node) = file(&format!("small{n}")) else {
            break;
        };
        let written = fs.write(node, 0, &[7; 1_500], WriteFlags::default());
        fs.release(node);
        fs.forget(node, 1);
        if written.is_err() {
            break;
        }
    }
    fs.unlink(NodeId::ROOT, b"spare").expect("removals succeed");
    for node in [large, spare] {
        fs.release(node);
        fs.forget(node, 1);
    }
    fs.sync().expect("commits");
}
