//! Very many files on a large sparse image, made, renamed and removed by four processes, with the
//! daemon's memory under a bound and every judge content. 20,000 files here; `scripts/million`
//! runs the same with `BTRFUSE_FILES=1000000`.

use btrfuse::fs::{MountOptions, memory_max};
use btrfuse::fuse::default_threads;
use btrfuse_test_support::many::Phase;
use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, btrfs_check, many, run_any, temp_dir};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const PROCESSES: u64 = 4;
/// What a process of this test does: its number, how many files, the phase and the folder.
const WORK: &str = "BTRFUSE_TEST_MANY_FILES";
/// A phase of a million files takes minutes, on a busy machine many.
const PHASE_MAX: Duration = Duration::from_secs(3600);

fn phase(folder: &Path, files: u64, phase: Phase) {
    let program = std::env::current_exe().expect("our own path");
    let started = Instant::now();
    std::thread::scope(|scope| {
        for process in 0..PROCESSES {
            let each = files / PROCESSES;
            let work = format!("{process} {each} {phase:?} {}", folder.display());
            let mut command = Command::new(&program);
            command
                .args(["--exact", "one_of_the_processes", "--nocapture"])
                .env(WORK, &work);
            scope.spawn(move || {
                let finished = run_any(&mut command, PHASE_MAX);
                let done = finished.stdout.contains("1 passed");
                assert!(finished.status.success() && done, "{}", finished.output());
            });
        }
    });
    eprintln!(
        "{phase:?}: {files} files by {PROCESSES} processes in {:.1} s",
        started.elapsed().as_secs_f64()
    );
}

/// What the test below starts in processes of its own; started by itself, the phases do what they
/// say on the filesystem of temporary files.
#[test]
fn one_of_the_processes() {
    let Ok(work) = std::env::var(WORK) else {
        let folder = temp_dir();
        for (step, left) in [
            (Phase::Create, 300),
            (Phase::Rename, 300),
            (Phase::Delete, 0),
        ] {
            many::run_phase(folder.path(), 0, 300, step);
            assert_eq!(many::count(folder.path()), left, "{step:?}");
        }
        return;
    };
    let words: Vec<&str> = work.splitn(4, ' ').collect();
    let [process, files, step, folder] = words[..] else {
        panic!("not a work: {work}");
    };
    let number = |word: &str| word.parse::<u64>().expect("a number");
    let step = Phase::named(step).unwrap_or_else(|| panic!("not a phase: {step}"));
    many::run_phase(Path::new(folder), number(process), number(files), step);
}

#[test]
fn very_many_files_come_and_go() {
    let files: u64 = match std::env::var("BTRFUSE_FILES") {
        Ok(files) => files.parse().expect("BTRFUSE_FILES is a number"),
        Err(_) => 20_000,
    };
    let files = files / PROCESSES * PROCESSES;
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
