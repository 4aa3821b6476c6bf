//! Very many files on a large sparse image, made, renamed and removed by four threads, with the
//! daemon's memory under a bound and every judge content. 20,000 files here; `scripts/million`
//! runs the same with `BTRFUSE_FILES=1000000`.

use btrfuse::fs::{MountOptions, memory_max};
use btrfuse::fuse::default_threads;
use btrfuse_test_support::many::Phase;
use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, btrfs_check, many};
use std::path::Path;
use std::time::Instant;

const THREADS: u64 = 4;

fn phase(folder: &Path, files: u64, phase: Phase) {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || many::run_phase(folder, thread, files / THREADS, phase));
        }
    });
    eprintln!(
        "{phase:?}: {files} files in {:.1} s",
        started.elapsed().as_secs_f64()
    );
}

#[test]
fn very_many_files_come_and_go() {
    let files: u64 = match std::env::var("BTRFUSE_FILES") {
        Ok(files) => files.parse().expect("BTRFUSE_FILES is a number"),
        Err(_) => 20_000,
    };
    let files = files / THREADS * THREADS;
    let image = Image::mkfs_btrfuse(64 << 10, &[]);
    for step in [Phase::Create, Phase::Rename] {
        let mount = BtrfuseMount::read_write(image.path());
        phase(mount.path(), files, step);
        judge_memory(&mount, step, files);
        mount.unmount();
    }
    let mount = LoopMount::read_only(image.path());
    assert_eq!(
        many::count(mount.path()),
        files,
        "as the kernel counts them"
    );
    mount.unmount();
    let mount = BtrfuseMount::read_write(image.path());
    assert_eq!(many::count(mount.path()), files, "as we count them");
    phase(mount.path(), files, Phase::Delete);
    judge_memory(&mount, Phase::Delete, files);
    mount.unmount();
    btrfs_check(image.path());
    let mount = LoopMount::read_only(image.path());
    assert_eq!(many::count(mount.path()), 0);
    mount.unmount();
}

/// By the sum of docs/memory.md; the kernel remembers the files and their folders.
fn judge_memory(mount: &BtrfuseMount, step: Phase, files: u64) {
    let peak = mount.peak_memory_bytes();
    let max = memory_max(
        &MountOptions::default(),
        default_threads(),
        files + files / 100,
    );
    let words = format!(
        "the daemon's memory peaked at {} MiB of {} MiB",
        peak >> 20,
        max >> 20
    );
    eprintln!("{step:?}: {words}");
    assert!(peak <= max, "{step:?}: {words}");
}
