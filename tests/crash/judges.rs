//! Who judges a state: `btrfs check`, and a model that shares no code with us, of what the kernel
//! shows, which replays what it finds, and of what we show.

use crate::recording::CrashState;
use btrfuse::fs::{Filesystem, MountOptions, NodeId};
use btrfuse::ondisk::Superblock;
use btrfuse::volume::{BlockDevice, MemoryDevice};
use btrfuse_test_support::check::{check, complaints};
use btrfuse_test_support::command::run_any;
use btrfuse_test_support::walk::walk;
use btrfuse_test_support::{LoopMount, Manifest};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const PRIMARY_AT: u64 = 64 << 10;

/// The model, a process of its own, and the number of states that were judged.
pub struct Judges {
    process: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Of all workloads.
    pub judged: usize,
    /// Those of them whose first superblock was torn, and had to be restored from a copy.
    pub torn: usize,
}

impl Judges {
    pub fn new() -> Self {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/model.py");
        let mut process = Command::new("python3")
            .arg(model)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        Self {
            ask: process.stdin.take().expect("a pipe"),
            answers: BufReader::new(process.stdout.take().expect("a pipe")),
            process,
            judged: 0,
            torn: 0,
        }
    }

    /// What the model says against it.
    fn ask(&mut self, question: &Value) -> Result<(), String> {
        writeln!(self.ask, "{question}").expect("the model listens");
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .expect("the model answers");
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        match answer["ok"].as_bool() {
            Some(true) => Ok(()),
            _ => Err(answer["why"].to_string()),
        }
    }

    /// From here on states are of this workload. `start` is a walk of what it began with, `bytes` what
    /// its files held, by inode.
    pub fn begin(&mut self, workload: &[Value], start: &Manifest, bytes: &Value) {
        let question = json!({ "workload": workload, "start": lines(start), "bytes": bytes });
        self.ask(&question)
            .unwrap_or_else(|why| panic!("the model and the start: {why}"));
    }

    /// What any judge says against a state.
    pub fn judge(&mut self, state: CrashState) -> Result<(), String> {
        let thorough = self.judged.is_multiple_of(4);
        self.judged += 1;
        let image = tempfile::NamedTempFile::new_in("/var/tmp").expect("room for an image");
        state
            .device
            .copy_to(image.as_file())
            .expect("room for an image");
        let question = |found: &Manifest| {
            let (done, begun) = (state.acknowledged, state.acknowledged + 1);
            json!({ "done": done, "begun": begun, "found": lines(found) })
        };
        let found = shown_by_us(&state.device)?;
        self.ask(&question(&found))
            .map_err(|why| format!("our mount: {why}"))?;
        if !first_is_whole(&state.device) {
            // Nobody but us mounts that; a tool of the others' mends it.
            self.torn += 1;
            // It succeeds with status 2, and words.
            let mut mend = Command::new("btrfs");
            mend.args(["rescue", "super-recover", "-y"])
                .arg(image.path());
            let mended = run_any(&mut mend, Duration::from_secs(60)).output();
            assert!(mended.contains("Recovered bad superblocks"), "{mended}");
        }
        let modes = ["original", "lowmem"];
        checked(image.path(), if thorough { &modes } else { &modes[..1] })?;
        let kernel = LoopMount::read_write(image.path());
        let found = walk(kernel.path());
        self.ask(&question(&found))
            .map_err(|why| format!("the kernel's mount: {why}"))?;
        if thorough {
            // Directories have the right size only if what is emptied can be removed.
            for entry in std::fs::read_dir(kernel.path()).expect("a root") {
                let path = entry.expect("an entry").path();
                let removed = match path.symlink_metadata().expect("an inode").is_dir() {
                    true => std::fs::remove_dir_all(&path),
                    false => std::fs::remove_file(&path),
                };
                removed.map_err(|why| format!("{} can't be removed: {why}", path.display()))?;
            }
        }
        kernel.unmount();
        checked(image.path(), &modes[..1]).map_err(|why| format!("after the kernel's mount: {why}"))
    }
}

impl Drop for Judges {
    fn drop(&mut self) {
        // It ends with its input, but a panic may come in the middle of an answer.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// All of it as a read-only mount of ours shows it, which replays in memory.
fn shown_by_us(device: &MemoryDevice) -> Result<Manifest, String> {
    let options = MountOptions {
        read_only: true,
        subvolid: Some(5),
        background: false,
        ..MountOptions::default()
    };
    let fs = Filesystem::mount(vec![Arc::new(device.clone())], &options)
        .map_err(|why| format!("we refuse it: {why}"))?;
    Ok(crate::own_walk::walk(&fs, NodeId::ROOT))
}

/// Whether the first superblock is valid, by itself: where a cut fell between its write and that of a copy
/// with a log, we go on with the copy, and others with the first.
fn first_is_whole(device: &MemoryDevice) -> bool {
    let mut bytes = vec![0; 4096];
    device.read_at(PRIMARY_AT, &mut bytes).expect("memory");
    Superblock::parse_at(&bytes, PRIMARY_AT).is_ok()
}

fn checked(image: &Path, modes: &[&str]) -> Result<(), String> {
    let found = modes.iter().map(|mode| complaints(&check(image, mode)));
    let found: Vec<_> = found.flatten().collect();
    match found.is_empty() {
        true => Ok(()),
        false => Err(found.join("\n")),
    }
}

/// A walk as the model reads it.
pub fn lines(manifest: &Manifest) -> Vec<Value> {
    let lines = manifest.to_lines();
    let parsed = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    parsed.collect()
}
