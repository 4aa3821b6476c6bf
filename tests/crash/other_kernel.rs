//! A second kernel as a judge, which can't hurt this one: user-mode Linux, an ordinary process with a btrfs
//! of its own version. One boot (two seconds) looks at hundreds of images (10 ms each).
//!
//! `other_kernel.py` is its only program. It finds the images in a folder, and leaves there what it saw.

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PROGRAM: &str = "linux.uml";
const MINUTES_MAX: u64 = 5;

/// Images that it is to look at.
pub struct Batch {
    folder: TempDir,
    tasks: Vec<Value>,
}

/// It runs.
pub struct Booted {
    batch: Batch,
    process: Child,
}

/// What it saw of one image: records of a walk, or why there are none; and what it logged.
pub struct Seen {
    pub image: PathBuf,
    pub found: Result<Vec<Value>, String>,
    pub complaints: Vec<String>,
}

/// For images of a few MiB that live for seconds: in memory, where there is enough of it.
pub fn folder() -> TempDir {
    let room = rustix::fs::statvfs("/dev/shm").map_or(0, |it| it.f_bavail * it.f_frsize);
    let place = if room >= 4 << 30 {
        "/dev/shm"
    } else {
        "/var/tmp"
    };
    let folder = tempfile::Builder::new()
        .prefix("btrfuse-crash-")
        .tempdir_in(place);
    folder.unwrap_or_else(|why| panic!("a folder under {place}: {why}"))
}

impl Batch {
    pub fn new() -> Self {
        Self {
            folder: folder(),
            tasks: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Where the next image goes.
    pub fn place(&self) -> PathBuf {
        self.folder.path().join(format!("{}.img", self.len()))
    }

    /// The image is at its place. Everything is removed after the look if `is_emptied`; it is mounted
    /// read-only before that if `first_read_only`.
    pub fn add(&mut self, is_emptied: bool, first_read_only: bool) {
        let image = format!("{}.img", self.len());
        self.tasks.push(
            json!({ "image": image, "empty": is_emptied, "first_read_only": first_read_only }),
        );
    }

    pub fn boot(self) -> Booted {
        let folder = self.folder.path();
        let tasks = Value::from(self.tasks.clone()).to_string();
        std::fs::write(folder.join("batch.json"), tasks).expect("room for a list");
        let console = File::create(folder.join("console")).expect("room for words");
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/other_kernel.py");
        // The host's files are its root, read-only.
        let process = Command::new(PROGRAM)
            .args(["mem=192M", "root=/dev/root", "rootfstype=hostfs"])
            .args(["rootflags=/", "ro", "quiet", "con=null", "con0=null,fd:1"])
            .args(["init=/usr/bin/python3", "--"])
            .arg(program)
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("a second descriptor"))
            .stderr(console)
            // Its helpers outlive it when it is killed alone.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|why| {
                panic!("{PROGRAM}: {why}; scripts/install-needs test installs it")
            });
        Booted {
            batch: self,
            process,
        }
    }
}

impl Booted {
    /// Waits for its end. The images are there until what is returned first is dropped.
    pub fn wait(mut self) -> (Self, Vec<Seen>) {
        let deadline = Instant::now() + Duration::from_secs(60 * MINUTES_MAX);
        while self.process.try_wait().expect("our own child").is_none() {
            if Instant::now() > deadline {
                panic!("{PROGRAM} doesn't end:\n{}", self.console());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let seen = self.batch.tasks.iter().map(|task| {
            let name = task["image"].as_str().expect("a name");
            self.seen(self.batch.folder.path().join(name))
        });
        let seen = seen.collect();
        (self, seen)
    }

    fn seen(&self, image: PathBuf) -> Seen {
        // Where it came to its end, there is none of the image that it looked at, nor of those behind.
        let Ok(answer) = std::fs::read_to_string(image.with_added_extension("json")) else {
            let found = Err(format!("no answer; it said:\n{}", self.console()));
            return Seen {
                image,
                found,
                complaints: Vec::new(),
            };
        };
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let complaints = answer["log"].as_array().expect("a list").iter();
        Seen {
            image,
            found: match answer["found"].as_array() {
                Some(found) => Ok(found.clone()),
                None => Err(answer["why"].to_string()),
            },
            complaints: complaints.map(Value::to_string).collect(),
        }
    }

    fn console(&self) -> String {
        let console = self.batch.folder.path().join("console");
        let words = std::fs::read(console).unwrap_or_default();
        String::from_utf8_lossy(&words).into_owned()
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        if !matches!(self.process.try_wait(), Ok(Some(_))) {
            let group = Pid::from_child(&self.process);
            let _ = kill_process_group(group, Signal::KILL);
            let _ = self.process.wait();
        }
    }
}
