//! Our own mount, as a user makes it: the built `btrfuse` binary in the foreground.
//!
//! Invariant: when a `BtrfuseMount` is gone, the mount is gone and the daemon has ended; its end
//! is the durable end. A daemon that doesn't end is reported and then killed, by its own id.

use crate::command::text;
use crate::loop_mount::retry;
use crate::stuck;
use rustix::mount::{UnmountFlags, unmount};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The program under test: `BTRFUSE_BIN`, or the one that cargo built beside this test.
pub fn btrfuse_binary() -> PathBuf {
    built("BTRFUSE_BIN", "btrfuse")
}

/// A program of this build: named by `variable`, or built by cargo at `place`.
pub fn built(variable: &str, place: &str) -> PathBuf {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        // target/debug/deps/test-0123 -> target/debug/PLACE
        None => {
            let test = std::env::current_exe().expect("our own path");
            let target = test
                .parent()
                .and_then(Path::parent)
                .expect("target/PROFILE/deps/TEST");
            target.join(place)
        }
    };
    assert!(
        path.is_file(),
        "{} isn't built (or set {variable})",
        path.display()
    );
    path
}

/// How long a mount may take to answer, and a last commit to become durable.
const LIMIT: Duration = Duration::from_secs(60);

/// A mounted image; see the module.
pub struct BtrfuseMount {
    directory: PathBuf,
    _own_directory: Option<tempfile::TempDir>,
    daemon: Child,
    log: File,
    ended: bool,
}

impl BtrfuseMount {
    /// Mounts read-write, top level.
    #[track_caller]
    pub fn read_write(image: &Path) -> Self {
        Self::new(image, "subvolid=5")
    }

    /// Mounts read-only, top level.
    #[track_caller]
    pub fn read_only(image: &Path) -> Self {
        Self::new(image, "ro,subvolid=5")
    }

    /// Mounts with `-o options`.
    #[track_caller]
    pub fn new(image: &Path, options: &str) -> Self {
        Self::try_new(image, options)
            .unwrap_or_else(|error| panic!("btrfuse mount -o {options} failed: {error}"))
    }

    /// As [`BtrfuseMount::new`]; a refusal comes back as its exit status and words.
    pub fn try_new(image: &Path, options: &str) -> Result<Self, Refused> {
        Self::with_binary(&btrfuse_binary(), image, options)
    }

    /// As [`BtrfuseMount::new`], with more in the log: `level` is what `RUST_LOG` takes.
    #[track_caller]
    pub fn with_log_level(image: &Path, options: &str, level: &str) -> Self {
        let mut command = Command::new(btrfuse_binary());
        command.env("RUST_LOG", level);
        Self::start(command, image, options)
            .unwrap_or_else(|error| panic!("btrfuse mount -o {options} failed: {error}"))
    }

    /// As [`BtrfuseMount::try_new`], with another build of the program.
    pub fn with_binary(binary: &Path, image: &Path, options: &str) -> Result<Self, Refused> {
        Self::start(Command::new(binary), image, options)
    }

    /// Mounts, and unmounts at the first moment at which there is something to unmount.
    #[track_caller]
    pub fn gone_at_once(image: &Path, options: &str) -> Self {
        let mut command = Command::new(btrfuse_binary());
        command.env("RUST_LOG", "info");
        let mut mount = Self::spawn(command, image, options);
        let deadline = Instant::now() + LIMIT;
        // EINVAL while it isn't a mount point.
        while let Err(error) = unmount(&mount.directory, UnmountFlags::empty()) {
            if let Some(status) = mount.daemon.try_wait().expect("our own child") {
                mount.ended = true;
                panic!(
                    "btrfuse mount ended with {status}:\n{}",
                    text(&mut mount.log)
                );
            }
            assert!(Instant::now() < deadline, "nothing to unmount: {error}");
        }
        mount
    }

    fn start(command: Command, image: &Path, options: &str) -> Result<Self, Refused> {
        let mut mount = Self::spawn(command, image, options);
        let deadline = Instant::now() + LIMIT;
        while !is_mounted(&mount.directory) {
            if let Some(status) = mount.daemon.try_wait().expect("our own child") {
                mount.ended = true;
                return Err(Refused {
                    status,
                    words: text(&mut mount.log),
                });
            }
            if Instant::now() > deadline {
                mount.daemon.kill().expect("our own child");
                let status = mount.daemon.wait().expect("our own child");
                mount.ended = true;
                let _ = unmount(&mount.directory, UnmountFlags::DETACH);
                panic!(
                    "btrfuse mount wasn't there after {LIMIT:?} ({status}):\n{}",
                    text(&mut mount.log)
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(mount)
    }

    fn spawn(mut command: Command, image: &Path, options: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("btrfuse-mount-")
            .tempdir_in("/var/tmp")
            .expect("a mount point under /var/tmp");
        let log = tempfile::tempfile().expect("a temporary file");
        command.args(["mount", "-f"]);
        if !options.is_empty() {
            command.args(["-o", options]);
        }
        let daemon = command
            .arg(image)
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second descriptor"))
            .stderr(log.try_clone().expect("a second descriptor"))
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} can't be started: {error}"));
        Self {
            directory: folder.path().to_owned(),
            _own_directory: Some(folder),
            daemon,
            log,
            ended: false,
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The daemon's process id.
    pub fn daemon_id(&self) -> u32 {
        self.daemon.id()
    }

    /// The daemon's largest resident memory so far, in bytes.
    pub fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.id()))
            .expect("a running daemon");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .expect("VmHWM");
        let kib: u64 = line
            .split_whitespace()
            .nth(1)
            .and_then(|n| n.parse().ok())
            .expect("kB");
        kib << 10
    }

    /// What the daemon wrote so far.
    pub fn log(&mut self) -> String {
        let mut log = self.log.try_clone().expect("a second descriptor");
        let written = text(&mut log);
        // The descriptor's offset is the daemon's too.
        rustix::fs::seek(&self.log, rustix::fs::SeekFrom::End(0)).expect("a regular file");
        written
    }

    /// `btrfuse sync`: everything before it is durable.
    #[track_caller]
    pub fn sync(&self) {
        crate::run(Command::new(btrfuse_binary()).arg("sync").arg(self.path()));
    }

    /// Unmounts, waits for the durable end and demands that it succeeded without an error or a
    /// warning in the log.
    #[track_caller]
    pub fn unmount(self) {
        self.unmount_excusing(&[]);
    }

    /// As [`BtrfuseMount::unmount`] on a mount that must complain: of all that `excuses` names
    /// (parts of lines), and of nothing else.
    #[track_caller]
    pub fn unmount_excusing(self, excuses: &[&str]) {
        let log = self.unmount_to_log();
        crate::assert_quiet("the end of a mount", &log, excuses);
    }

    /// Unmounts, waits for the durable end, demands that it succeeded, and leaves the log to be
    /// judged.
    #[track_caller]
    pub fn unmount_to_log(self) -> String {
        let (status, log) = self.end();
        assert!(status.success(), "the daemon ended with {status}:\n{log}");
        log
    }

    /// Unmounts and returns the daemon's status and log, whatever they are.
    #[track_caller]
    pub fn end(mut self) -> (ExitStatus, String) {
        let status = self.take_down().unwrap_or_else(|error| panic!("{error}"));
        (status, text(&mut self.log))
    }

    /// Waits for a daemon that was told to end by itself; its mount must be gone with it.
    pub fn wait_for_end(mut self) -> (ExitStatus, String) {
        self.ended = true;
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.daemon.try_wait().expect("our own child") {
                break status;
            }
            if Instant::now() > deadline {
                let _ = unmount(&self.directory, UnmountFlags::DETACH);
                let threads = stuck::threads(self.daemon.id());
                panic!(
                    "the daemon hadn't ended after {LIMIT:?}; {threads}{}",
                    self.stop()
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        if is_mounted(&self.directory) {
            let _ = unmount(&self.directory, UnmountFlags::DETACH);
            panic!("the daemon ended with {status} and left its mount behind");
        }
        (status, text(&mut self.log))
    }

    fn take_down(&mut self) -> Result<ExitStatus, String> {
        self.ended = true;
        if let Err(error) = retry(|| unmount(&self.directory, UnmountFlags::empty())) {
            let _ = unmount(&self.directory, UnmountFlags::DETACH);
            let log = self.stop();
            return Err(format!(
                "umount {}: {error}\n{log}",
                self.directory.display()
            ));
        }
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.daemon.try_wait().expect("our own child") {
                return Ok(status);
            }
            if Instant::now() > deadline {
                let threads = stuck::threads(self.daemon.id());
                let log = self.stop();
                return Err(format!(
                    "the daemon hadn't ended {LIMIT:?} after umount; {threads}{log}"
                ));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn stop(&mut self) -> String {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        text(&mut self.log)
    }
}

impl Drop for BtrfuseMount {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        match self.take_down() {
            Ok(status) if status.success() => {}
            Ok(status) => eprintln!("the daemon ended with {status}"),
            Err(error) => eprintln!("{error}"),
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", text(&mut self.log));
        }
    }
}

/// A mount that wasn't made, and why.
#[derive(Debug)]
pub struct Refused {
    /// The exit status.
    pub status: ExitStatus,
    /// What it said.
    pub words: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.status, self.words.trim_end())
    }
}

fn is_mounted(path: &Path) -> bool {
    // From the mount table, not stat(2): a stat would wait for a daemon that doesn't answer.
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("procfs");
    let path = path.to_string_lossy();
    table
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(&path))
}
