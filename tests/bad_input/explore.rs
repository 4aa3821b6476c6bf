//! Everything that a reader can do to an image, under limits.

use btrfuse_test_support::{BtrfuseMount, btrfuse_binary, run_any};
use rustix::fs::{SeekFrom, seek};
use std::fs::{File, Metadata};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const TIME_MAX: Duration = Duration::from_secs(10);
const MEMORY_MAX: u64 = 512 << 20;
/// Deeper than any sound image here; a directory inside of itself would never end.
const DEPTH_MAX: usize = 60;
const ENTRIES_MAX: usize = 20_000;

/// How `btrfuse` treats an image.
#[derive(Default)]
pub struct Outcome {
    /// What is wrong with it; empty is good.
    pub complaints: Vec<String>,
    /// The image was mounted at least once.
    pub mounted: bool,
}

/// Every way to read an image.
pub fn explore(image: &Path) -> Outcome {
    let mut outcome = Outcome::default();
    let inspections: [&[&str]; 12] = [
        &[],
        &["--json"],
        &["super"],
        &["super", "--json"],
        &["tree", "root"],
        &["tree", "chunk", "--json"],
        &["tree", "extent"],
        &["tree", "dev", "--json"],
        &["tree", "fs"],
        &["tree", "csum", "--json"],
        &["tree", "free-space"],
        &["block", "30408704"],
    ];
    for arguments in inspections {
        outcome.complaints.extend(inspect(image, arguments));
    }
    for options in ["ro,subvolid=5", "ro,nologreplay,subvolid=5"] {
        mount(image, options, touch_everything, &mut outcome);
    }
    outcome
}

/// One run of the inspector. Its memory is limited as address space: it has one thread.
fn inspect(image: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -v 524288; exec \"$@\"", "sh"])
        .arg(btrfuse_binary())
        .arg("inspect")
        .arg(image)
        .args(arguments);
    let finished = run_any(&mut command, TIME_MAX);
    judge_end(
        &format!("inspect {}", arguments.join(" ")),
        finished.status,
        &finished.output(),
    )
}

/// How a process ended: with success, or with one of the refusals and words.
pub fn judge_end(what: &str, status: ExitStatus, words: &str) -> Option<String> {
    if words.contains("panicked") {
        return Some(format!("{what} panicked:\n{words}"));
    }
    match status.code() {
        Some(0) => None,
        // 5: the last commit of a writer failed, and it said so.
        Some(1..=3 | 5) if !words.trim().is_empty() => None,
        _ => Some(format!("{what} ended with {status}:\n{words}")),
    }
}

/// A writer on a damaged image: it may be refused or end read-only, but in words.
pub fn write_to(image: &Path) -> Outcome {
    let mut outcome = Outcome::default();
    let act = |root: &Path| {
        touch_everything(root);
        change_everything(root);
    };
    mount(image, "subvolid=5", act, &mut outcome);
    outcome
}

/// Mounts, acts within the time, unmounts; judges time, memory, the end and the log.
fn mount(image: &Path, options: &str, act: fn(&Path), outcome: &mut Outcome) {
    let started = Instant::now();
    let what = format!("mount -o {options}");
    let complaints = &mut outcome.complaints;
    let mut mounted = match BtrfuseMount::try_new(image, options) {
        Ok(mounted) => mounted,
        Err(refused) => {
            complaints.extend(judge_end(&what, refused.status, &refused.words));
            return;
        }
    };
    outcome.mounted = true;
    let root = mounted.path().to_owned();
    let (ended, acted) = mpsc::channel();
    std::thread::spawn(move || {
        act(&root);
        let _ = ended.send(());
    });
    let left = TIME_MAX.saturating_sub(started.elapsed());
    if acted.recv_timeout(left).is_err() {
        complaints.push(format!(
            "{what}: not done within {TIME_MAX:?}:\n{}",
            mounted.log()
        ));
        return;
    }
    let status = format!("/proc/{}/status", mounted.daemon_id());
    if !std::fs::read_to_string(status).is_ok_and(|status| status.contains("VmHWM")) {
        complaints.push(format!("{what}: the daemon died:\n{}", mounted.log()));
        return;
    }
    let memory = mounted.peak_memory_bytes();
    let (status, log) = mounted.end();
    if memory > MEMORY_MAX {
        complaints.push(format!("{what}: {} MiB of memory", memory >> 20));
    }
    complaints.extend(judge_end(&what, status, &log));
}

/// Lists, looks up, reads and asks for attributes; errors are what damaged images are about.
fn touch_everything(root: &Path) {
    let mut waiting: Vec<(PathBuf, usize)> = vec![(root.to_owned(), 0)];
    let mut entries = 0;
    while let Some((directory, depth)) = waiting.pop() {
        touch_attributes(&directory);
        let Ok(listing) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in listing.take(ENTRIES_MAX).flatten() {
            entries += 1;
            if entries > ENTRIES_MAX {
                return;
            }
            let path = entry.path();
            match path.symlink_metadata() {
                Ok(metadata) if metadata.is_dir() && depth < DEPTH_MAX => {
                    waiting.push((path, depth + 1));
                }
                Ok(metadata) => touch_file(&path, &metadata),
                Err(_) => {}
            }
        }
    }
    let _ = rustix::fs::statvfs(root);
}

/// Makes, changes and removes files beside and among those that are there.
fn change_everything(root: &Path) {
    let own = root.join("written by the test");
    let _ = std::fs::create_dir(&own);
    for number in 0..100 {
        let path = own.join(format!("file {number}"));
        let _ = std::fs::write(&path, vec![number as u8; 1 << (number % 18)]);
        if number % 3 == 0 {
            let _ = std::fs::rename(&path, root.join(format!("moved {number}")));
        }
    }
    let Ok(directory) = File::open(root) else {
        return;
    };
    let _ = rustix::fs::syncfs(&directory);
    let Ok(listing) = std::fs::read_dir(root) else {
        return;
    };
    for entry in listing.take(ENTRIES_MAX).flatten() {
        let path = entry.path();
        if let Ok(file) = File::options().write(true).open(&path) {
            let _ = file.write_at(b"changed", 5000);
            let _ = file.set_len(100_000);
            let _ = file.sync_all();
        }
        // Not below: a hostile directory may be its own descendant.
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_dir(&path);
    }
}

fn touch_attributes(path: &Path) {
    let mut list = vec![0u8; 65536];
    let Ok(length) = rustix::fs::llistxattr(path, &mut list) else {
        return;
    };
    let mut value = vec![0u8; 65536];
    for name in list[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        let _ = rustix::fs::lgetxattr(path, name, &mut value);
    }
}

fn touch_file(path: &Path, metadata: &Metadata) {
    touch_attributes(path);
    if metadata.is_symlink() {
        let _ = std::fs::read_link(path);
        return;
    }
    if !metadata.is_file() {
        return;
    }
    let Ok(file) = File::open(path) else { return };
    // A hostile size may be anything: the data that is said to be there, up to a bound.
    let (mut at, mut bound) = (0u64, 64);
    let mut bytes = vec![0; 1 << 20];
    while bound > 0
        && let Ok(data) = seek(&file, SeekFrom::Data(at))
    {
        let end = seek(&file, SeekFrom::Hole(data)).unwrap_or(data + 1);
        at = data;
        while at < end && bound > 0 {
            bound -= 1;
            let _ = file.read_at(&mut bytes, at);
            at = at.saturating_add(bytes.len() as u64);
        }
    }
    let _ = file.read_at(&mut bytes, metadata.len().saturating_sub(4096));
}
